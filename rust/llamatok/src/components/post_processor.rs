//! What is put around the ids of texts.

use crate::TokenId;

/// A post-processor: the section `post_processor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostProcessor {
    /// `TemplateProcessing`.
    Template(Template),
    /// `Sequence`: one after the other.
    Sequence(Vec<PostProcessor>),
}

/// `TemplateProcessing`: sequences and special tokens in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// For one sequence.
    pub single: Vec<TemplatePiece>,
    /// For a pair of sequences.
    pub pair: Vec<TemplatePiece>,
    /// The special tokens that the two name, in the order of their names.
    pub special_tokens: Vec<SpecialToken>,
}

/// One place of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePiece {
    /// A sequence.
    Sequence {
        /// Which one.
        id: TemplateSequence,
        /// The token type id of its tokens.
        type_id: u32,
    },
    /// A special token.
    SpecialToken {
        /// The name of an entry of [`Template::special_tokens`].
        id: String,
        /// The token type id of its tokens.
        type_id: u32,
    },
}

/// The sequences of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateSequence {
    /// The first one.
    A,
    /// The second one.
    B,
}

/// A special token of a [`Template`]: one or more tokens under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialToken {
    /// The name.
    pub id: String,
    /// The ids of its tokens.
    pub ids: Vec<TokenId>,
    /// The texts of its tokens, as many as ids.
    pub tokens: Vec<String>,
}
