//! The components that a `tokenizer.json` is made of, with the meaning that the HF tokenizers library
//! (0.23) gives them.
//!
//! Each is a plain description, as it stands in the file, together with the functions that run it.

mod aligned;
mod bpe_model;
mod decoder;
mod encoder;
pub(crate) mod growth;
mod normalizer;
mod pattern;
mod post_processor;
mod pre_tokenizer;
mod precompiled;
mod settings;
#[cfg(test)]
mod tests;

pub use aligned::AlignedText;
pub use bpe_model::BpeModel;
pub(crate) use decoder::byte_of;
pub use decoder::Decoder;
pub(crate) use encoder::{AlignedToken, Encoder};
pub use normalizer::Normalizer;
pub use pattern::Pattern;
pub use post_processor::{PostProcessor, SpecialToken, Template, TemplatePiece, TemplateSequence};
pub use pre_tokenizer::{Metaspace, PreTokenizer, PrependScheme};
pub use precompiled::Precompiled;
pub use settings::{Padding, PaddingStrategy, Side, Truncation, TruncationStrategy};

use crate::added_tokens::AddedToken;

/// A `tokenizer.json`: data only.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizerJson {
    /// How long sequences are cut, if the file says so.
    pub truncation: Option<Truncation>,
    /// How short sequences are filled, if the file says so.
    pub padding: Option<Padding>,
    /// The added tokens, in the order of their ids, each id and each content once. The ids are those
    /// that the HF tokenizers library assigns when it loads the file: the model's id of the content, or
    /// else the next free one.
    pub added_tokens: Vec<AddedToken>,
    /// How text is changed before it is split.
    pub normalizer: Option<Normalizer>,
    /// How normalized text is split into words.
    pub pre_tokenizer: Option<PreTokenizer>,
    /// What is put around the ids of texts.
    pub post_processor: Option<PostProcessor>,
    /// How tokens become text.
    pub decoder: Option<Decoder>,
    /// The vocabulary and its merges.
    pub model: BpeModel,
}
