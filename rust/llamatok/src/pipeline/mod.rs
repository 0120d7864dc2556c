//! Text to ids and back by the rules of Hugging Face's Llama tokenizers.
//!
//! A pipeline made from a SentencePiece model follows transformers' SentencePiece-backed class
//! ([`sentencepiece`]). Around the ids of texts stand templates, pairs are joined, rows are cut to a
//! length: all that is the same for every pipeline ([`batch`]).

mod batch;
mod columns;
mod decode;
mod sentencepiece;
mod truncate;

use std::sync::{Arc, OnceLock};

pub use crate::batch::fill;
pub use batch::{Column, EncodingBatch, PipelineOptions, Sequences};
pub use decode::DecodeOptions;
pub use sentencepiece::SlowSettings;

use crate::added_tokens::{python, AddedToken, AddedTokens};
use crate::bpe::engine::Worker;
use crate::bpe::Set;
use crate::components::{Padding, Truncation};
use crate::post_process::Templates;
use crate::random::Random;
use crate::{Result, TokenId, Tokenizer};
use columns::Columns;

/// A tokenizer with its added tokens and templates. Immutable and shareable among threads; clones, and
/// the pipelines that the `with_...` methods give, share the tables.
#[derive(Debug, Clone)]
pub struct Pipeline {
    rules: Rules,
    added: Arc<AddedTokens>,
    templates: Arc<Templates>,
    special_ids: Arc<Set<TokenId>>,
    additional_special_ids: Arc<Set<TokenId>>,
    /// Made when ids are decoded.
    flags: Arc<OnceLock<decode::Flags>>,
}

/// Whose rules are followed.
#[derive(Debug, Clone)]
enum Rules {
    /// Those of transformers' SentencePiece-backed class.
    SentencePiece {
        tokenizer: Tokenizer,
        settings: SlowSettings,
        splitter: Arc<python::Splitter>,
        /// Made when offsets are asked for.
        units: Arc<OnceLock<sentencepiece::Units>>,
    },
}

impl Pipeline {
    /// The rules of transformers' SentencePiece-backed class over a model, without added tokens and with
    /// templates that add nothing.
    ///
    /// # Errors
    /// None that a sound tokenizer can give.
    pub fn from_tokenizer(tokenizer: Tokenizer, settings: SlowSettings) -> Result<Self> {
        let added = Arc::new(AddedTokens::default());
        Ok(Self {
            rules: Rules::SentencePiece {
                tokenizer,
                settings,
                splitter: Arc::new(python::Splitter::new(added.clone())?),
                units: Arc::default(),
            },
            added,
            templates: Arc::default(),
            special_ids: Arc::default(),
            additional_special_ids: Arc::default(),
            flags: Arc::default(),
        })
    }

    /// The same with other added tokens. Empty ones are left out, and so are those whose content or id an
    /// earlier one has.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where they are too many.
    pub fn with_added_tokens(&self, tokens: Vec<AddedToken>) -> Result<Self> {
        let mut pipeline = self.clone();
        pipeline.added = Arc::new(AddedTokens::new(tokens));
        pipeline.flags = Arc::default();
        match &mut pipeline.rules {
            Rules::SentencePiece { splitter, .. } => {
                *splitter = Arc::new(python::Splitter::new(pipeline.added.clone())?);
            }
        }
        Ok(pipeline)
    }

    /// The same with other templates.
    #[must_use]
    pub fn with_templates(&self, templates: Templates) -> Self {
        Self { templates: Arc::new(templates), ..self.clone() }
    }

    /// The same with these for the ids of `all_special_tokens` and of `additional_special_tokens`.
    #[must_use]
    pub fn with_special_ids(&self, special: Vec<TokenId>, additional: Vec<TokenId>) -> Self {
        Self {
            special_ids: Arc::new(special.into_iter().collect()),
            additional_special_ids: Arc::new(additional.into_iter().collect()),
            flags: Arc::default(),
            ..self.clone()
        }
    }

    /// The same with other settings of the SentencePiece-backed class; `None` where its rules are not
    /// followed.
    #[must_use]
    pub fn with_settings(&self, settings: SlowSettings) -> Option<Self> {
        let mut pipeline = self.clone();
        match &mut pipeline.rules {
            Rules::SentencePiece { settings: old, .. } => *old = settings,
        }
        Some(pipeline)
    }

    /// The settings of the SentencePiece-backed class, where its rules are followed.
    pub fn settings(&self) -> Option<SlowSettings> {
        match &self.rules {
            Rules::SentencePiece { settings, .. } => Some(*settings),
        }
    }

    /// The tokenizer of a pipeline that was made from one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => Some(tokenizer),
        }
    }

    /// The added tokens, in the order they were given in.
    pub fn added_tokens(&self) -> &[AddedToken] {
        self.added.tokens()
    }

    /// The templates.
    pub fn templates(&self) -> &Templates {
        &self.templates
    }

    /// The ids of `all_special_tokens` and of `additional_special_tokens`, sorted.
    pub fn special_ids(&self) -> [Vec<TokenId>; 2] {
        [&self.special_ids, &self.additional_special_ids].map(|set| {
            let mut ids: Vec<TokenId> = set.iter().copied().collect();
            ids.sort_unstable();
            ids
        })
    }

    /// The section `truncation` of the `tokenizer.json`.
    pub fn truncation(&self) -> Option<&Truncation> {
        None
    }

    /// The section `padding` of the `tokenizer.json`.
    pub fn padding(&self) -> Option<&Padding> {
        None
    }

    /// The model's unknown token.
    pub fn unk_token(&self) -> Option<&str> {
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => {
                let vocabulary = &tokenizer.model().vocabulary;
                vocabulary.get(vocabulary.unk_id()).map(|piece| piece.text.as_str())
            }
        }
    }

    /// The number of the model's own tokens.
    pub fn base_vocab_size(&self) -> usize {
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => tokenizer.model().vocabulary.len(),
        }
    }

    /// The number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        let new = self.added.tokens().iter().filter(|token| self.base_token(token.id).is_none());
        self.base_vocab_size() + new.count()
    }

    /// The model's own tokens, in the order of their ids.
    pub fn base_tokens(&self) -> Box<dyn Iterator<Item = (&str, TokenId)> + '_> {
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => {
                let pieces = tokenizer.model().vocabulary.pieces();
                Box::new(pieces.iter().map(|piece| piece.text.as_str()).zip(0..))
            }
        }
    }

    fn base_token(&self, id: TokenId) -> Option<&str> {
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => {
                tokenizer.model().vocabulary.get(id).map(|piece| piece.text.as_str())
            }
        }
    }

    /// The id of a token.
    pub fn token_to_id(&self, token: &str) -> Option<TokenId> {
        if let Some(token) = self.added.by_content(token) {
            return Some(token.id);
        }
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => tokenizer.model().vocabulary.piece_to_id(token),
        }
    }

    /// The token of an id.
    pub fn id_to_token(&self, id: TokenId) -> Option<&str> {
        match self.added.by_id(id) {
            Some(token) => Some(&token.content),
            None => self.base_token(id),
        }
    }

    /// Whether decoding leaves an id out that is to leave special tokens out.
    pub fn is_special(&self, id: TokenId) -> bool {
        match &self.rules {
            Rules::SentencePiece { .. } => self.special_ids.contains(&id),
        }
    }

    /// Lends a worker to `work`.
    fn with_worker<T>(&self, work: impl FnOnce(&mut Worker) -> T) -> T {
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => tokenizer.engine().with_worker(work),
        }
    }

    /// Appends the tokens of one text, without those of a template; `word` is its number where texts
    /// are split into words.
    fn encode_text(
        &self,
        worker: &mut Worker,
        text: &str,
        word: Option<i32>,
        options: &PipelineOptions,
        random: &mut Random,
        out: &mut Columns,
    ) -> Result<()> {
        let dropout = options.dropout.filter(|&probability| probability > 0.0);
        match &self.rules {
            Rules::SentencePiece { tokenizer, settings, splitter, units } => {
                let splitter = (!options.split_special_tokens && !self.added.tokens().is_empty()).then_some(&**splitter);
                let units = options.details.then(|| units.get_or_init(|| sentencepiece::Units::new(tokenizer)));
                let encoder = sentencepiece::Encoder {
                    tokenizer,
                    settings: *settings,
                    splitter,
                    special_ids: &self.special_ids,
                    units,
                };
                encoder.encode(worker, text, word, dropout.map(|probability| (probability, random)), out)
            }
        }
    }
}
