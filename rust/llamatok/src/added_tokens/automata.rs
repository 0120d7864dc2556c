//! Text split at added tokens as the HF tokenizers library does it (`AddedVocabulary`, tokenizers 0.23):
//! first at those that are sought in raw text, then at those that are sought in normalized text.

use std::ops::Range;
use std::sync::Arc;

use super::matcher::Matcher;
use super::{AddedToken, AddedTokens};
use crate::vocabulary::{TokenId, SPACE_SYMBOL};
use crate::{Error, Result};

/// Splits text at added tokens.
#[derive(Debug)]
pub(crate) struct Splitter {
    tokens: Arc<AddedTokens>,
    raw: Automaton,
    normalized: Automaton,
    /// The latter with spaces for `▁`, unless a token takes whitespace (which `▁` is not).
    spaced: Option<Automaton>,
}

/// Some of the tokens, as they are sought.
#[derive(Debug)]
struct Automaton {
    matcher: Matcher,
    /// The number of each string's token.
    numbers: Vec<u32>,
}

/// A part of a text: text in between, or a token.
pub(crate) type Part = (Range<usize>, Option<TokenId>);

impl Splitter {
    /// `normalize` is applied to the content of tokens that are sought in normalized text.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where the tokens are too many.
    pub(crate) fn new(tokens: Arc<AddedTokens>, normalize: impl Fn(&str) -> String) -> Result<Self> {
        let automaton = |normalized: bool, normalize: &dyn Fn(&str) -> String| {
            let all = (0..).zip(tokens.tokens()).filter(|(_, token)| token.normalized == normalized);
            // Of tokens that become equal the first one counts, special ones before others.
            let (special, ordinary): (Vec<_>, Vec<_>) = all.partition(|(_, token)| token.special);
            let sought = |(number, token): (u32, &AddedToken)| (number, normalize(&token.content));
            let all = special.into_iter().chain(ordinary).map(sought);
            let (numbers, contents): (Vec<u32>, Vec<String>) =
                all.filter(|(_, content)| !content.is_empty()).unzip();
            let matcher = Matcher::new(contents.iter().map(String::as_str)).ok_or_else(|| {
                Error::unsupported("added_tokens", "the added tokens are too many or too long")
            })?;
            Ok(Automaton { matcher, numbers })
        };
        let takes_space = |token: &AddedToken| token.normalized && (token.lstrip || token.rstrip);
        let spaced = if tokens.tokens().iter().any(takes_space) {
            None
        } else {
            Some(automaton(true, &|content| normalize(content).replace(SPACE_SYMBOL, " "))?)
        };
        Ok(Self {
            raw: automaton(false, &str::to_owned)?,
            normalized: automaton(true, &normalize)?,
            spaced,
            tokens,
        })
    }

    /// Whether any token is sought in normalized text.
    pub(crate) fn seeks_normalized(&self) -> bool {
        !self.normalized.numbers.is_empty()
    }

    /// Hands the parts of raw `text` to `visit`. With `split_special`, special tokens are text.
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn split_raw(
        &self,
        text: &str,
        split_special: bool,
        visit: impl FnMut(Part) -> Result<()>,
    ) -> Result<()> {
        self.split(&self.raw, text, split_special, visit)
    }

    /// Hands the parts of normalized `text` to `visit`.
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn split_normalized(
        &self,
        text: &str,
        split_special: bool,
        visit: impl FnMut(Part) -> Result<()>,
    ) -> Result<()> {
        self.split(&self.normalized, text, split_special, visit)
    }

    /// As [`split_normalized`](Self::split_normalized) of `text` with `▁` for each space and, if `prefix` says
    /// so, one in front, without making that: hands each part to `visit`, and whether the one in front is
    /// part of it. Returns `false`, and does nothing, where this does not serve: where `text` holds `▁`, or a
    /// token takes whitespace.
    ///
    /// *Proof.* Without `▁` in `text` a place that holds a space there holds `▁` in what would be made, and
    /// the other way round; so it comes to the same to make both spaces, in the text and in the sought. What
    /// `single_word` asks of neighbours is no for both. ∎
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn split_spaced(
        &self,
        text: &str,
        prefix: bool,
        split_special: bool,
        mut visit: impl FnMut(Part, bool) -> Result<()>,
    ) -> Result<bool> {
        let Some(automaton) = &self.spaced else { return Ok(false) };
        if memchr::memmem::find(text.as_bytes(), SPACE_SYMBOL.as_bytes()).is_some() {
            return Ok(false);
        }
        let mut with_prefix = prefix;
        let (mut done, mut from) = (0, 0);
        if prefix {
            let head = text.as_bytes().iter().take(automaton.matcher.longest());
            let head: Vec<u8> = std::iter::once(b' ').chain(head.copied()).collect();
            if let Some((len, found)) = automaton.matcher.longest_prefix(&head) {
                from = len - 1;
                if let Some(token) = self.counts(automaton, found, "", &text[from..], split_special) {
                    visit((0..from, Some(token.id)), true)?;
                    (done, with_prefix) = (from, false);
                }
            }
        }
        while let Some((range, found)) = automaton.matcher.find(text.as_bytes(), from) {
            from = range.end;
            let (before, after) = (&text[..range.start], &text[range.end..]);
            let Some(token) = self.counts(automaton, found, before, after, split_special) else { continue };
            if done < range.start || with_prefix {
                visit((done..range.start, None), with_prefix)?;
            }
            visit((range.clone(), Some(token.id)), false)?;
            (done, with_prefix) = (range.end, false);
        }
        if done < text.len() || with_prefix {
            visit((done..text.len(), None), with_prefix)?;
        }
        Ok(true)
    }

    /// The token that was found, if it counts there.
    fn counts(
        &self,
        automaton: &Automaton,
        found: u32,
        before: &str,
        after: &str,
        split_special: bool,
    ) -> Option<&AddedToken> {
        let token = &self.tokens.tokens()[automaton.numbers[found as usize] as usize];
        let is_within =
            || before.chars().next_back().is_some_and(is_word) || after.chars().next().is_some_and(is_word);
        let is_text = (split_special && token.special) || (token.single_word && is_within());
        (!is_text).then_some(token)
    }

    /// `AddedVocabulary::find_matches`.
    fn split(
        &self,
        automaton: &Automaton,
        text: &str,
        split_special: bool,
        mut visit: impl FnMut(Part) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        let mut from = 0;
        while let Some((Range { mut start, mut end }, found)) = automaton.matcher.find(text.as_bytes(), from)
        {
            // What lies within a match is not searched again, even where the match does not count.
            from = end;
            let (before, after) = (&text[..start], &text[end..]);
            let Some(token) = self.counts(automaton, found, before, after, split_special) else { continue };
            if token.lstrip {
                start = text[..start].trim_end().len().max(done);
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if start > end || (start == end && start <= done) {
                // The token before has taken all of its text. (The library panics where it has taken more.)
                continue;
            }
            if done < start {
                visit((done..start, None))?;
            }
            // A token of which the normalizer leaves nothing parts the text and is not there itself.
            if start < end {
                visit((start..end, Some(token.id)))?;
            }
            done = end;
        }
        if done < text.len() || text.is_empty() {
            visit((done..text.len(), None))?;
        }
        Ok(())
    }
}

/// Whether a character matches `\w` of the regex library.
fn is_word(c: char) -> bool {
    regex_syntax::is_word_character(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: TokenId, content: &str, normalized: bool) -> AddedToken {
        AddedToken {
            id,
            content: content.into(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized,
            special: false,
        }
    }

    fn splitter(tokens: Vec<AddedToken>) -> Splitter {
        let normalize = |content: &str| format!("▁{}", content.replace(' ', "▁"));
        Splitter::new(Arc::new(AddedTokens::new(tokens)), normalize).unwrap()
    }

    fn raw(tokens: Vec<AddedToken>, text: &str) -> Vec<(&str, Option<TokenId>)> {
        let mut parts = Vec::new();
        let visit = |(range, id): Part| {
            parts.push((&text[range], id));
            Ok(())
        };
        splitter(tokens).split_raw(text, false, visit).unwrap();
        parts
    }

    #[test]
    fn conditions_hold() {
        let word = AddedToken { single_word: true, ..token(1, "a", false) };
        assert_eq!(raw(vec![word], "ba a.é"), [("ba ", None), ("a", Some(1)), (".é", None)]);
        let strips = AddedToken { lstrip: true, rstrip: true, ..token(1, "x", false) };
        assert_eq!(raw(vec![strips], "a x \nb"), [("a", None), (" x \n", Some(1)), ("b", None)]);
    }

    #[test]
    fn text_that_a_token_has_taken_is_not_given_again() {
        let tokens = || {
            let left = AddedToken { lstrip: true, ..token(1, "  ", false) };
            vec![left, AddedToken { rstrip: true, ..token(2, "o", false) }]
        };
        assert_eq!(raw(tokens(), "o  b"), [("o  ", Some(2)), ("b", None)]);
        assert_eq!(raw(tokens(), "o    _"), [("o    ", Some(2)), ("_", None)]);
        assert_eq!(raw(tokens(), "o     \u{3000}b"), [("o     \u{3000}", Some(2)), ("b", None)]);
    }

    #[test]
    fn spaces_are_sought_as_the_symbols_that_they_become() {
        let tokens = vec![token(1, "foo", true), AddedToken { single_word: true, ..token(2, "b b", true) }];
        let splitter = splitter(tokens);
        for text in ["foo", "a foo", "afoo foo", "b b", "b bx b b.", " foo", "", "x", "foofoo"] {
            let normalized = format!("▁{}", text.replace(' ', "▁"));
            let (mut expected, mut spaced) = (Vec::new(), Vec::new());
            let visit = |(range, id): Part| {
                expected.push((normalized[range].to_owned(), id));
                Ok(())
            };
            splitter.split_normalized(&normalized, false, visit).unwrap();
            let visit = |(range, id): Part, with_prefix: bool| {
                let front = if with_prefix { "▁" } else { "" };
                spaced.push((format!("{front}{}", text[range].replace(' ', "▁")), id));
                Ok(())
            };
            assert!(splitter.split_spaced(text, true, false, visit).unwrap());
            assert_eq!(spaced, expected, "{text:?}");
        }
        assert!(!splitter.split_spaced("a▁foo", true, false, |_, _| Ok(())).unwrap());
    }
}
