//! Text split at added tokens as the HF tokenizers library does it (`AddedVocabulary`, tokenizers 0.23):
//! first at those that are sought in raw text, then at those that are sought in normalized text.

use std::ops::Range;
use std::sync::Arc;

use super::matcher::Matcher;
use super::{AddedToken, AddedTokens};
use crate::vocabulary::TokenId;
use crate::{Error, Result};

/// Splits text at added tokens.
#[derive(Debug)]
pub(crate) struct Splitter {
    tokens: Arc<AddedTokens>,
    raw: Automaton,
    normalized: Automaton,
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
        let automaton = |normalized: bool| {
            let all = (0..).zip(tokens.tokens()).filter(|(_, token)| token.normalized == normalized);
            // Of tokens that become equal the first one counts, special ones before others.
            let (special, ordinary): (Vec<_>, Vec<_>) = all.partition(|(_, token)| token.special);
            let sought = |(number, token): (u32, &AddedToken)| {
                (number, if normalized { normalize(&token.content) } else { token.content.clone() })
            };
            let all = special.into_iter().chain(ordinary).map(sought);
            let (numbers, contents): (Vec<u32>, Vec<String>) =
                all.filter(|(_, content)| !content.is_empty()).unzip();
            let matcher = Matcher::new(contents.iter().map(String::as_str)).ok_or_else(|| {
                Error::unsupported("added_tokens", "the added tokens are too many or too long")
            })?;
            Ok(Automaton { matcher, numbers })
        };
        Ok(Self { raw: automaton(false)?, normalized: automaton(true)?, tokens })
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
        while let Some((Range { mut start, mut end }, found)) = automaton.matcher.find(text.as_bytes(), from) {
            // What lies within a match is not searched again, even where the match does not count.
            from = end;
            let token = &self.tokens.tokens()[automaton.numbers[found as usize] as usize];
            if split_special && token.special {
                continue;
            }
            if token.single_word {
                let within = text[..start].chars().next_back().is_some_and(is_word)
                    || text[end..].chars().next().is_some_and(is_word);
                if within {
                    continue;
                }
            }
            if token.lstrip {
                start = text[..start].trim_end().len().max(done);
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if done < start {
                visit((done..start, None))?;
            }
            visit((start..end, Some(token.id)))?;
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
