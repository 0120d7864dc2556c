//! How text is changed before it is split.

/// A normalizer: the section `normalizer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Normalizer {
    /// `Prepend`: puts a text in front, unless there is nothing to put it in front of.
    Prepend(String),
    /// `Replace`: each match of the pattern becomes the content.
    Replace {
        /// What is searched for.
        pattern: Pattern,
        /// What takes its place.
        content: String,
    },
    /// `NFC`.
    Nfc,
    /// `NFD`.
    Nfd,
    /// `NFKC`.
    Nfkc,
    /// `NFKD`.
    Nfkd,
    /// `Lowercase`, character by character.
    Lowercase,
    /// `Strip`: removes whitespace.
    Strip {
        /// At the beginning.
        left: bool,
        /// At the end.
        right: bool,
    },
    /// `Sequence`: one after the other.
    Sequence(Vec<Normalizer>),
}

/// What `Replace` searches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// A text, not empty.
    String(String),
}
