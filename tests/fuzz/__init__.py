"""Fuzzing without a special toolchain: seeds, mutations from a fixed seed, and a replay in the tests."""
