//! The section `model`: a vocabulary and its merges.

use crate::bpe::Map;
use crate::{Error, Result, TokenId};

/// `BPE`: tokens with ids, and merges in the order of their ranks.
#[derive(Debug, Clone, PartialEq)]
pub struct BpeModel {
    tokens: Vec<Option<Box<str>>>,
    ids: Map<Box<str>, TokenId>,
    /// The merges: left, right, and the product; the first one ranks first. Each pair stands here once.
    pub merges: Vec<(TokenId, TokenId, TokenId)>,
    /// The probability that a merge is passed over; `None` and 0 mean the same.
    pub dropout: Option<f32>,
    /// What unknown characters become, where they do not become bytes.
    pub unk_token: Option<String>,
    /// `None` or empty: others are not supported.
    pub continuing_subword_prefix: Option<String>,
    /// `None` or empty: others are not supported.
    pub end_of_word_suffix: Option<String>,
    /// Whether a run of unknown characters becomes one unknown token.
    pub fuse_unk: bool,
    /// Whether an unknown character becomes the tokens of its bytes, if there are such.
    pub byte_fallback: bool,
    /// Whether a word that is a token is not merged, but becomes that token.
    pub ignore_merges: bool,
}

/// Ids may leave this many gaps, and one for each token.
const MAX_GAPS: usize = 65_536;

impl BpeModel {
    /// A model without merges, of tokens and their ids. Ids may leave gaps.
    ///
    /// # Errors
    /// [`ErrorKind::ModelFormat`](crate::ErrorKind::ModelFormat) where a token or an id comes twice, or
    /// where the ids leave more gaps than there are tokens.
    pub fn new<S: Into<Box<str>>>(vocab: Vec<(S, TokenId)>) -> Result<Self> {
        let fault = |message: String| Err(Error::model_format("model.vocab", message));
        let len = vocab.len();
        let room = vocab.iter().map(|&(_, id)| (id as usize).saturating_add(1)).max().unwrap_or(0);
        if room > 2 * len + MAX_GAPS {
            return fault(format!("the ids go up to {}, but there are only {len} tokens", room - 1));
        }
        let mut tokens: Vec<Option<Box<str>>> = vec![None; room];
        let mut ids = Map::with_capacity_and_hasher(len, Default::default());
        for (token, id) in vocab {
            let token = token.into();
            let Some(slot) = tokens.get_mut(id as usize) else { continue };
            if let Some(first) = slot {
                return fault(format!("the tokens {first:?} and {token:?} have the same id, {id}"));
            }
            *slot = Some(token.clone());
            if let Some(first) = ids.insert(token, id) {
                let token = slot.as_deref().unwrap_or_default();
                return fault(format!("the token {token:?} comes twice, with the ids {first} and {id}"));
            }
        }
        Ok(Self {
            tokens,
            ids,
            merges: Vec::new(),
            dropout: None,
            unk_token: None,
            continuing_subword_prefix: None,
            end_of_word_suffix: None,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: false,
        })
    }

    /// The number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.ids.len()
    }

    /// The id after the highest one.
    pub fn id_limit(&self) -> usize {
        self.tokens.len()
    }

    /// The id of a token.
    pub fn token_to_id(&self, token: &str) -> Option<TokenId> {
        self.ids.get(token).copied()
    }

    /// The token with an id.
    pub fn id_to_token(&self, id: TokenId) -> Option<&str> {
        self.tokens.get(id as usize)?.as_deref()
    }

    /// All tokens and their ids, in the order of the ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, TokenId)> {
        self.tokens.iter().zip(0..).filter_map(|(token, id)| Some((token.as_deref()?, id)))
    }

    /// The ids of the 256 byte tokens, where unknown characters become bytes and none is missing.
    pub fn byte_ids(&self) -> Option<Box<[TokenId; 256]>> {
        let mut ids = Box::new([0; 256]);
        for (byte, id) in ids.iter_mut().enumerate() {
            *id = self.byte_id(byte as u8)?;
        }
        Some(ids)
    }

    /// The id of the token of a byte, where unknown characters become bytes.
    pub fn byte_id(&self, byte: u8) -> Option<TokenId> {
        self.token_to_id(&format!("<0x{byte:02X}>")).filter(|_| self.byte_fallback)
    }

    /// The id of the unknown token.
    pub fn unk_id(&self) -> Option<TokenId> {
        self.token_to_id(self.unk_token.as_deref()?)
    }
}
