#!/usr/bin/env bash
# image.sh TARGET OUTPUT: packs the static binaries below the build directory TARGET for this machine's architecture,
# as an OCI layout in the file OUTPUT, and prints the image's digest.
set -euo pipefail
cd "$(dirname "$0")/../.."

host=$(rustc -vV | sed -n 's/^host: //p')
case $host in
    x86_64-*) architecture=amd64 ;;
    aarch64-*) architecture=arm64 ;;
    *) echo "no image is made for $host" >&2 && exit 1 ;;
esac
cargo run --quiet --package cluster -- image operator "$architecture=$1/$host/release" --output "$2"
