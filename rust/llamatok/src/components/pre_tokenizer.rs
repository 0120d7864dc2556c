//! How normalized text is split into words.

use super::aligned::AlignedText;

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

impl PreTokenizer {
    /// Appends the words of a part of a text, between added tokens, to `words`; none is empty.
    pub fn split(&self, part: AlignedText, words: &mut Vec<AlignedText>) {
        let mut parts = vec![part];
        for step in self.steps() {
            let mut next = Vec::new();
            for part in parts.into_iter().filter(|part| !part.text().is_empty()) {
                step.split(part, &mut next);
            }
            parts = next;
        }
        words.extend(parts.into_iter().filter(|part| !part.text().is_empty()));
    }

    /// Its steps, from the first to the last.
    pub(crate) fn steps(&self) -> Vec<&Metaspace> {
        match self {
            Self::Metaspace(metaspace) => vec![metaspace],
            Self::Sequence(steps) => steps.iter().flat_map(Self::steps).collect(),
        }
    }
}

impl Metaspace {
    fn split(&self, mut part: AlignedText, words: &mut Vec<AlignedText>) {
        let mut buffer = [0; 4];
        let symbol: &str = self.replacement.encode_utf8(&mut buffer);
        if self.replacement != ' ' {
            let spaces: Vec<_> = memchr::memchr_iter(b' ', part.text().as_bytes()).collect();
            part.replace(spaces.into_iter().map(|index| index..index + 1), symbol);
        }
        if !part.text().starts_with(self.replacement) && self.prepends_at(part.original_start()) {
            part.prepend(symbol);
        }
        if !self.split {
            words.push(part);
            return;
        }
        let mut start = 0;
        for (index, _) in part.text().match_indices(self.replacement) {
            if index > start {
                words.push(part.slice(start..index));
                start = index;
            }
        }
        words.push(part.slice(start..part.text().len()));
    }

    /// Whether a part that begins at `start` of the original gets one in front.
    pub(crate) fn prepends_at(&self, start: usize) -> bool {
        match self.prepend_scheme {
            PrependScheme::Always => true,
            PrependScheme::First => start == 0,
            PrependScheme::Never => false,
        }
    }

    /// What a token becomes in decoding; `is_first` says that no other token comes before it.
    pub(super) fn decode(&self, token: &str, is_first: bool) -> String {
        let drops = is_first && self.prepend_scheme != PrependScheme::Never;
        let chars = token.chars().filter(|&c| c != self.replacement || !drops);
        chars.map(|c| if c == self.replacement { ' ' } else { c }).collect()
    }
}
