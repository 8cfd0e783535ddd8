#!/usr/bin/env bash
# sbom.sh OUTPUT: writes what the image is made of, as CycloneDX, into the file OUTPUT. The same commit gives the same file.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo install --quiet --locked cargo-cyclonedx@0.5.9
# In a copy: the tool writes a file beside each Cargo.toml. Of the machine's paths nothing is left.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- | tar --extract --directory "$work"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) cargo cyclonedx --quiet --manifest-path "$work/Cargo.toml" \
    --format json --spec-version 1.5 --override-filename sbom
sed "s|path+file://$work|path+file://|g" "$work/sbom.json" > "$1"
