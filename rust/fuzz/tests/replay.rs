//! The corpora and all former findings, with no need of libFuzzer.

use std::fs;
use std::path::Path;

use llamatok_fuzz::{packed, TARGETS};

#[test]
fn corpora_find_nothing() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let data = fs::read(corpora.join(name)).unwrap();
        let inputs = packed::unpack(&data);
        assert!(inputs.len() > 10, "{name}");
        for (number, input) in inputs.into_iter().enumerate() {
            let result = std::panic::catch_unwind(|| target(input));
            assert!(result.is_ok(), "{name}: input {number}");
        }
    }
}
