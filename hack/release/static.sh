#!/usr/bin/env bash
# Builds the static binaries of the image. The same source gives the same bytes, in whatever directory it lies:
# no path of the machine gets into them.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=$(rustc -vV | sed -n 's/^host: //p')
cargo install --quiet --locked cargo-auditable@0.7.7
# Makes the directories whose names are to be left out.
cargo fetch --quiet --locked --target "$target"

flags="-C target-feature=+crt-static --remap-path-prefix=$PWD=/src"
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
    flags+=" --remap-path-prefix=${registry%/}=/registry"
done
# The list of all crates goes into each binary, where scanners of images find it.
RUSTFLAGS=$flags CARGO=hack/release/cargo.sh cargo-auditable auditable build --release --locked --target "$target"
