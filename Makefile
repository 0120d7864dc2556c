# The verbs of daily work; `.ci/run` is everything at once, in an environment of its own.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TESTS ?= tests
TARGET ?= encode
SECONDS ?= 60

TRIPLE ?= x86_64-unknown-linux-gnu

.PHONY: setup build test fuzz lint docs bench dist audit

setup:  ## a virtual environment with the package and all that tests and linters need
	$(PYTHON) -m venv $(VENV)
	$(MAKE) build

build:  ## the extension again, after a change to Rust or Python
	$(BIN)/pip install --quiet '.[test,dev,docs]'

test:  ## TESTS=tests/cli for one folder
	cargo test --locked --package llamatok --package llamatok-linear
	cargo test --locked --manifest-path rust/fuzz/Cargo.toml --target-dir target
	$(BIN)/python -m pytest -n auto $(TESTS)

fuzz:  ## TARGET=encode SECONDS=60; rust/fuzz/README.md lists the targets
	rust/fuzz/run $(TARGET) $(SECONDS)

lint:
	cargo fmt --all --check
	PYO3_PYTHON=$(abspath $(BIN)/python) cargo clippy --locked --workspace --all-targets -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy python/llamatok
	$(BIN)/python -m mypy.stubtest llamatok._core

docs:  ## site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench:  ## the parts in Rust; benches/README.md has the comparison with other libraries
	cargo bench --locked --package llamatok

dist:  ## wheel and sdist, built twice and compared; docs/releasing.md has what else is checked
	$(BIN)/pip install --quiet maturin ziglang
	PATH="$(abspath $(BIN)):$$PATH" tools/reproducible.sh dist $(TRIPLE)

audit:  ## licences, sources and known faults of the crates; needs `cargo install cargo-deny`
	cargo deny check
