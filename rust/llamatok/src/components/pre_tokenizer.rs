//! How normalized text is split into words.

/// A pre-tokenizer: the section `pre_tokenizer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreTokenizer {
    /// `Metaspace`.
    Metaspace(Metaspace),
    /// `Sequence`: one after the other.
    Sequence(Vec<PreTokenizer>),
}

/// `Metaspace`, as a pre-tokenizer or a decoder: spaces as a visible character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metaspace {
    /// The character that stands for a space, `▁` as a rule.
    pub replacement: char,
    /// Where one is put in front.
    pub prepend_scheme: PrependScheme,
    /// Whether text is split before each one.
    pub split: bool,
}

/// Where [`Metaspace`] puts its character in front; never where the text begins with it already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrependScheme {
    /// To each part between added tokens.
    Always,
    /// To the part that the whole text begins with.
    First,
    /// Nowhere.
    Never,
}
