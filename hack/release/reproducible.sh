#!/usr/bin/env bash
# Builds the operator's image twice, here and from a copy in another directory with another home of cargo, and fails
# where the digests differ.
set -euo pipefail
cd "$(dirname "$0")/../.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- | tar --extract --directory "$copy"
mkdir "$copy/home"
find "${CARGO_HOME:-$HOME/.cargo}" -mindepth 1 -maxdepth 1 -exec ln -s -t "$copy/home" {} +

CARGO_TARGET_DIR=target hack/release/static.sh
# Other modes of files, another language and another time of day are no reason for another image.
(
    umask 077
    export LC_ALL=C TZ=Pacific/Auckland CARGO_HOME=$copy/home CARGO_TARGET_DIR=$copy/target
    "$copy/hack/release/static.sh"
)
here=$(hack/release/image.sh target target/image.tar)
there=$(hack/release/image.sh "$copy/target" "$copy/image.tar")
echo "here:     $here"
echo "the copy: $there"
test "$here" = "$there"
