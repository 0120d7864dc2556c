//! The tokens of texts, and what is known of each.

use crate::vocabulary::TokenId;

/// Where encoding appends tokens.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) ids: Vec<TokenId>,
    /// Only where they are asked for.
    pub(crate) details: Option<Details>,
    /// Tokens that are shown as another text than that of their id, by their place in `ids`.
    pub(crate) surfaces: Vec<(usize, String)>,
}

/// More of each token.
#[derive(Debug, Default)]
pub(crate) struct Details {
    /// Ranges of code points in the original text.
    pub(crate) spans: Vec<[i32; 2]>,
    /// The number of the word, or [`NO_WORD`].
    pub(crate) words: Vec<i32>,
}

/// The word of a token that is of no text.
pub(crate) const NO_WORD: i32 = -1;

impl Columns {
    pub(crate) fn new(with_details: bool) -> Self {
        Self { details: with_details.then(Details::default), ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn clear(&mut self) {
        self.truncate(0);
    }

    /// Appends a token of a template.
    pub(crate) fn push_template_token(&mut self, id: TokenId) {
        self.ids.push(id);
        if let Some(details) = &mut self.details {
            details.spans.push([0, 0]);
            details.words.push(NO_WORD);
        }
    }

    /// Appends tokens of `other`.
    pub(crate) fn extend_from(&mut self, other: &Self, range: std::ops::Range<usize>) {
        let start = self.len();
        self.ids.extend_from_slice(&other.ids[range.clone()]);
        if let (Some(details), Some(others)) = (&mut self.details, &other.details) {
            details.spans.extend_from_slice(&others.spans[range.clone()]);
            details.words.extend_from_slice(&others.words[range.clone()]);
        }
        let surfaces = other.surfaces.iter().filter(|(index, _)| range.contains(index));
        self.surfaces.extend(surfaces.map(|(index, text)| (index - range.start + start, text.clone())));
    }

    /// Keeps the first `len` tokens.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.ids.truncate(len);
        if let Some(details) = &mut self.details {
            details.spans.truncate(len);
            details.words.truncate(len);
        }
        while self.surfaces.last().is_some_and(|&(index, _)| index >= len) {
            self.surfaces.pop();
        }
    }

    /// Takes one token away.
    pub(crate) fn remove(&mut self, index: usize) {
        self.ids.remove(index);
        if let Some(details) = &mut self.details {
            details.spans.remove(index);
            details.words.remove(index);
        }
        self.surfaces.retain(|&(place, _)| place != index);
        for (place, _) in self.surfaces.iter_mut().rev().take_while(|(place, _)| *place > index) {
            *place -= 1;
        }
    }
}
