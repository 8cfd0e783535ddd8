#!/bin/sh
# Cargo as cargo-auditable calls it, in static.sh. cargo hashes the path of cargo-auditable into symbols; by its bare
# name, looked up in PATH, it is the same on every machine.
RUSTC_WORKSPACE_WRAPPER=cargo-auditable exec cargo "$@"
