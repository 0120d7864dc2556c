#!/usr/bin/env bash
# Builds the wheel and the sdist of the commit that is checked out twice, in two folders of different names, compares
# them byte by byte, and leaves them in the folder OUT. Needs maturin and zig (`pip install maturin ziglang`):
#
#   tools/reproducible.sh OUT x86_64-unknown-linux-gnu
set -euo pipefail

out=$(realpath -m "$1")
target=$2
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rooms=$(mktemp -d)
trap 'rm -rf "$rooms"' EXIT

# What is in the files is the same if the sources are: dates are the commit's, and the compiler writes no path.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
unset CARGO_TARGET_DIR
cargo_home=${CARGO_HOME:-$HOME/.cargo}

build() {
    local room=$1 artifacts=$2
    mkdir -p "$room"
    git archive HEAD | tar -x -C "$room"
    (
        cd "$room"
        export RUSTFLAGS="--remap-path-prefix=$room=/llamatok --remap-path-prefix=$cargo_home=/cargo"
        python3 tools/sbom.py "$target" > "$rooms/llamatok.cyclonedx.json"
        maturin build --release --locked --zig --target "$target" --compatibility manylinux2014 \
            --sbom-include "$rooms/llamatok.cyclonedx.json" --out "$artifacts"
        maturin sdist --out "$artifacts"
    )
}

build "$rooms/one" "$rooms/first"
# Dates in ZIP files count by two seconds.
sleep 2
build "$rooms/other/and-longer" "$rooms/second"
mkdir -p "$out"
cp "$rooms/first"/* "$out"
(cd "$rooms/first" && sha256sum -- *) | tee "$rooms/sums"
(cd "$rooms/second" && sha256sum --check "$rooms/sums")
