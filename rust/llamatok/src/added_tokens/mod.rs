//! Added tokens: strings that text is searched for before it is normalized and merged, by the rules of
//! transformers' SentencePiece-backed class (`python`) or of the tokenizers library (`automata`).

pub(crate) mod automata;
mod backward;
mod letter;
pub(crate) mod matcher;
pub(crate) mod python;

use crate::bpe::Map;
use crate::TokenId;

/// A token of the section `added_tokens` of a `tokenizer.json`, or one that was added later; the
/// meaning of the flags is that of `AddedToken` of the HF tokenizers library (0.23).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedToken {
    /// The id.
    pub id: TokenId,
    /// The text that is searched for; never empty.
    pub content: String,
    /// Found only where neither neighbour is a word character.
    pub single_word: bool,
    /// A match takes the whitespace in front of it.
    pub lstrip: bool,
    /// A match takes the whitespace behind it.
    pub rstrip: bool,
    /// Searched for in normalized text, with its own text normalized too, instead of in raw text.
    pub normalized: bool,
    /// Left out by decoding with `skip_special_tokens`, and not searched for by encoding with
    /// `split_special_tokens`.
    pub special: bool,
}

/// Added tokens, by id and by content.
#[derive(Debug, Default)]
pub(crate) struct AddedTokens {
    tokens: Vec<AddedToken>,
    by_id: Map<TokenId, u32>,
    by_content: Map<String, u32>,
    /// Those that no text holds, since they are empty or another one has their content.
    unsought: Map<TokenId, AddedToken>,
}

impl AddedTokens {
    /// Takes tokens in any order. Empty ones are left out, and so are those whose content or id an
    /// earlier one has.
    pub(crate) fn new(tokens: Vec<AddedToken>) -> Self {
        let mut added = Self::default();
        for token in tokens {
            let known = added.by_id.contains_key(&token.id) || added.by_content.contains_key(&token.content);
            if known || token.content.is_empty() {
                continue;
            }
            let index = added.tokens.len() as u32;
            added.by_id.insert(token.id, index);
            added.by_content.insert(token.content.clone(), index);
            added.tokens.push(token);
        }
        added
    }

    /// As [`new`](Self::new), but all ids stand for their tokens, and of several with the same content the
    /// last is the one that is sought: transformers' `_added_tokens_decoder` and what it makes of it.
    pub(crate) fn with_all_ids(tokens: Vec<AddedToken>) -> Self {
        let mut last: Map<String, usize> = Map::default();
        for (index, token) in tokens.iter().enumerate() {
            last.insert(token.content.clone(), index);
        }
        let is_sought = |index: usize, token: &AddedToken| {
            !token.content.is_empty() && last.get(&token.content) == Some(&index)
        };
        let (sought, unsought): (Vec<_>, Vec<_>) =
            tokens.into_iter().enumerate().partition(|(index, token)| is_sought(*index, token));
        let mut added = Self::new(sought.into_iter().map(|(_, token)| token).collect());
        added.unsought = unsought.into_iter().map(|(_, token)| (token.id, token)).collect();
        added
    }

    /// All ids that stand for a token.
    pub(crate) fn ids(&self) -> impl Iterator<Item = TokenId> + '_ {
        self.by_id.keys().chain(self.unsought.keys()).copied()
    }

    /// All that are sought, in the order they were given in.
    pub(crate) fn tokens(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// The token with the id.
    pub(crate) fn by_id(&self, id: TokenId) -> Option<&AddedToken> {
        let sought = self.by_id.get(&id).map(|&index| &self.tokens[index as usize]);
        sought.or_else(|| self.unsought.get(&id))
    }

    /// The token with the content.
    pub(crate) fn by_content(&self, content: &str) -> Option<&AddedToken> {
        self.by_content.get(content).map(|&index| &self.tokens[index as usize])
    }
}
