#!/usr/bin/env bash
# Builds the operator's image twice, here and from a copy in another directory with another home of cargo, and fails
# where the digests differ.
set -euo pipefail
cd "$(dirname "$0")/../.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- | tar --extract --directory "$copy"

# image DIRECTORY: builds the source in DIRECTORY and prints the digest of its image.
image() {
    CARGO_TARGET_DIR=$1/target "$1/hack/release/static.sh" >&2
    hack/release/image.sh "$1/target" "$1/target/image.tar"
}

here=$(image "$PWD")
echo "$PWD: $here"
mkdir "$copy/home"
ln -s "${CARGO_HOME:-$HOME/.cargo}"/* "$copy/home"
# Other modes of files, another language and another time of day are no reason for another image.
there=$(umask 077 && LC_ALL=C TZ=Pacific/Auckland CARGO_HOME=$copy/home image "$copy")
echo "$copy: $there"
test "$here" = "$there"
