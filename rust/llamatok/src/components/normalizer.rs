//! How text is changed before it is split.

use unicode_normalization_alignments::char::is_combining_mark;
use unicode_normalization_alignments::UnicodeNormalization;

use super::aligned::AlignedText;
use super::{Pattern, Precompiled};

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
    /// `Precompiled`: SentencePiece's compiled rules.
    Precompiled(Precompiled),
    /// `NFC`.
    Nfc,
    /// `NFD`.
    Nfd,
    /// `NFKC`.
    Nfkc,
    /// `NFKD`.
    Nfkd,
    /// `Nmt`: removes controls, and makes spaces of other whitespace.
    Nmt,
    /// `Lowercase`, character by character.
    Lowercase,
    /// `Strip`: removes whitespace.
    Strip {
        /// At the beginning.
        left: bool,
        /// At the end.
        right: bool,
    },
    /// `StripAccents`: removes combining marks.
    StripAccents,
    /// `Sequence`: one after the other.
    Sequence(Vec<Normalizer>),
}

impl Normalizer {
    /// Normalizes a text.
    pub fn normalize(&self, text: &mut AlignedText) {
        match self {
            Self::Prepend(prefix) => text.prepend(prefix),
            Self::Replace { pattern, content } => {
                let matches: Vec<_> = pattern.matches(text.text()).collect();
                text.replace(matches.into_iter(), content);
            }
            Self::Precompiled(precompiled) => precompiled.normalize(text),
            // ASCII is normal in all forms.
            Self::Nfc | Self::Nfd | Self::Nfkc | Self::Nfkd if text.text().is_ascii() => {}
            Self::Nfc => text.transform(text.text().nfc().collect(), 0),
            Self::Nfd => text.transform(text.text().nfd().collect(), 0),
            Self::Nfkc => text.transform(text.text().nfkc().collect(), 0),
            Self::Nfkd => text.transform(text.text().nfkd().collect(), 0),
            Self::Nmt => {
                filter(text, |c| !is_nmt_control(c));
                let spaced = |c| if is_nmt_space(c) { ' ' } else { c };
                text.transform(text.text().chars().map(|c| (spaced(c), 0)).collect(), 0);
            }
            Self::Lowercase => {
                let lower = |c: char| c.to_lowercase().zip(0..).map(|(c, index)| (c, isize::from(index > 0)));
                text.transform(text.text().chars().flat_map(lower).collect(), 0);
            }
            Self::Strip { left, right } => strip(text, *left, *right),
            Self::StripAccents => filter(text, |c| !is_combining_mark(c)),
            Self::Sequence(steps) => steps.iter().for_each(|step| step.normalize(text)),
        }
    }

    /// The normalized text alone.
    pub fn normalize_str(&self, text: &str) -> String {
        let mut text = AlignedText::without_ranges(text.into());
        self.normalize(&mut text);
        text.into_text()
    }

    /// Its steps, from the first to the last; none of them is a sequence.
    pub(crate) fn steps(&self) -> Vec<&Normalizer> {
        match self {
            Self::Sequence(steps) => steps.iter().flat_map(Self::steps).collect(),
            step => vec![step],
        }
    }

    /// Whether the first byte of what the beginning of a text is normalized to stands for that beginning:
    /// true unless something may be taken away there.
    pub(crate) fn keeps_start(&self) -> bool {
        self.steps().iter().all(|step| match step {
            Self::Prepend(_) | Self::Lowercase => true,
            // A match stands for its last byte's character.
            Self::Replace { pattern: Pattern::String(pattern), content } => {
                pattern.chars().nth(1).is_none() && !content.is_empty()
            }
            _ => false,
        })
    }
}

/// `NormalizedString::filter`: leaves out the characters that are not kept.
fn filter(text: &mut AlignedText, keep: impl Fn(char) -> bool) {
    let mut changes: Vec<(char, isize)> = Vec::with_capacity(text.text().len());
    let mut removed = 0;
    for c in text.text().chars() {
        if keep(c) {
            changes.push((c, 0));
        } else {
            match changes.last_mut() {
                Some((_, change)) => *change -= 1,
                None => removed += 1,
            }
        }
    }
    text.transform(changes, removed);
}

/// `NormalizedString::strip` and its like.
fn strip(text: &mut AlignedText, left: bool, right: bool) {
    let old = text.text();
    let start = if left { old.len() - old.trim_start().len() } else { 0 };
    let end = if right { old.trim_end().len() } else { old.len() };
    if start == 0 && end == old.len() {
        return;
    }
    let removed = old[..start].chars().count();
    text.transform(old.get(start..end).unwrap_or_default().chars().map(|c| (c, 0)).collect(), removed);
}

/// The characters that `Nmt` removes.
fn is_nmt_control(c: char) -> bool {
    matches!(c, '\u{1}'..='\u{8}' | '\u{B}' | '\u{E}'..='\u{1F}' | '\u{7F}' | '\u{8F}' | '\u{9F}')
}

/// The characters that `Nmt` makes a space.
fn is_nmt_space(c: char) -> bool {
    matches!(
        c,
        '\t' | '\n' | '\u{C}' | '\r' | '\u{1680}' | '\u{200B}'
            ..='\u{200F}' | '\u{2028}' | '\u{2029}' | '\u{2581}' | '\u{FEFF}' | '\u{FFFD}'
    )
}
