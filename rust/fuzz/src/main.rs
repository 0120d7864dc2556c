//! libFuzzer's `main` with one of the targets, which the environment variable `FUZZ_TARGET` names.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<llamatok_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    llamatok_fuzz::target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET is no target: `{name}`"))
});

fuzz_target!(|data: &[u8]| TARGET(data));
