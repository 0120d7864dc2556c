//! What is fuzzed: functions of bytes, each of which panics only where something is wrong with the library.

mod decoding;
mod encoding;
mod loaders;
pub mod packed;
mod vocabularies;

/// A function that panics where its input shows that something is wrong.
pub type Target = fn(&[u8]);

/// The targets, by name.
pub const TARGETS: [(&str, Target); 7] = [
    ("sentencepiece", loaders::sentencepiece),
    ("gguf", loaders::gguf),
    ("tokenizer_json", loaders::tokenizer_json),
    ("encode", encoding::encode),
    ("added_tokens", encoding::added_tokens),
    ("decode", decoding::decode),
    ("stream", decoding::stream),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|&(_, target)| target)
}
