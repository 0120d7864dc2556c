#!/usr/bin/env bash
# Builds the wheel and the sdist of the commit that is checked out twice, in two folders of different names, and
# compares them byte by byte. Needs maturin in the path; the arguments go to `maturin build`:
#
#   tools/reproducible.sh OUT --zig --target x86_64-unknown-linux-gnu --compatibility manylinux2014
#
# Leaves the artifacts in the folder OUT.
set -euo pipefail

out=$(realpath -m "$1")
shift
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
    shift 2
    mkdir -p "$room"
    git archive HEAD | tar -x -C "$room"
    (
        cd "$room"
        export RUSTFLAGS="--remap-path-prefix=$room=/llamatok --remap-path-prefix=$cargo_home=/cargo"
        maturin build --release --locked --out "$artifacts" "$@"
        maturin sdist --out "$artifacts"
    )
}

build "$rooms/one" "$rooms/first" "$@"
# Another minute at least, as the clock of a file's date in a ZIP file has it.
sleep 2
build "$rooms/other/and-longer" "$rooms/second" "$@"
mkdir -p "$out"
cp "$rooms/first"/* "$out"
(cd "$rooms/first" && sha256sum -- *) | tee "$rooms/sums"
(cd "$rooms/second" && sha256sum --check "$rooms/sums")
