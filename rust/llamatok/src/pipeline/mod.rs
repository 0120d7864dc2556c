//! Text to ids and back by the rules of Hugging Face's Llama tokenizers.
//!
//! A pipeline made from a SentencePiece model follows transformers' SentencePiece-backed class
//! (`sentencepiece`), one made from a `tokenizer.json` the HF tokenizers library
//! (`tokenizer_json`). Around the ids of texts stand templates, pairs are joined, rows are cut to a
//! length: all that is the same for every pipeline (`batch`).

mod batch;
mod columns;
mod convert;
mod decode;
mod json_decode;
mod plain;
mod sentencepiece;
mod spans;
mod stream;
#[cfg(test)]
mod tests;
mod tokenizer_json;
mod truncate;

use std::sync::{Arc, OnceLock};

pub use crate::batch::fill;
pub use batch::{Column, EncodingBatch, PipelineOptions, Sequences};
pub use decode::DecodeOptions;
pub use plain::JsonTokenizer;
pub use sentencepiece::SlowSettings;
pub use stream::JsonStreamDecoder;

use crate::added_tokens::{automata, python, AddedToken, AddedTokens};
use crate::bpe::engine;
use crate::bpe::ranked::RankedWorker;
use crate::bpe::Set;
use crate::components::{Padding, TokenizerJson, Truncation};
use crate::load::tokenizer_json as format;
use crate::post_process::Templates;
use crate::random::Random;
use crate::{Error, Result, TokenId, Tokenizer};
use columns::Columns;
use spans::Units;

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

/// The most bytes of a text with offsets, which are numbers of 31 bits. Much less for the tests of this crate, which
/// then come to it.
const MAX_COUNTED: usize = if cfg!(test) { 1 << 18 } else { i32::MAX as usize };

/// Refuses a text, or what it is normalized to, in which 31 bits do not count the characters and words.
fn check_counted(text: &str) -> Result<()> {
    if text.len() > MAX_COUNTED {
        let message = "offsets of 2 GiB of text or more\nhint: encode it without offsets, or in parts";
        return Err(Error::unsupported("text", message));
    }
    Ok(())
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
        units: Arc<OnceLock<Units>>,
    },
    /// Those of the HF tokenizers library.
    TokenizerJson {
        rules: Arc<tokenizer_json::JsonRules>,
        splitter: Arc<automata::Splitter>,
        /// Made when ids are decoded.
        decoder: Arc<OnceLock<json_decode::JsonDecoder>>,
    },
}

/// What one thread needs to encode.
enum Worker<'a> {
    SentencePiece(&'a mut engine::Worker),
    TokenizerJson(&'a mut RankedWorker),
}

impl Worker<'_> {
    /// Lets so many threads share a long text, for the time of a call.
    fn share_long_texts(&mut self, threads: usize) {
        match self {
            Self::SentencePiece(worker) => worker.share_long_texts(threads),
            Self::TokenizerJson(worker) => worker.share_long_texts(threads),
        }
    }
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

    /// Reads a `tokenizer.json`; added tokens and templates are those of the file. `cache_bytes` bounds
    /// the word caches (`None`: 64 MB for the whole process; 0: no cache).
    ///
    /// # Errors
    /// As [`load::tokenizer_json::read`](crate::load::tokenizer_json::read), and
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for several templates, or ones that do not
    /// hold each text once.
    pub fn from_tokenizer_json(data: &[u8], cache_bytes: Option<usize>) -> Result<Self> {
        let mut json = format::read(data)?;
        let templates = convert::templates(json.post_processor.as_ref())?;
        let added = Arc::new(AddedTokens::new(std::mem::take(&mut json.added_tokens)));
        let rules = tokenizer_json::JsonRules::new(json, cache_bytes)?;
        let splitter = Arc::new(rules.splitter(&added)?);
        Ok(Self {
            rules: Rules::TokenizerJson { rules: Arc::new(rules), splitter, decoder: Arc::default() },
            added,
            templates: Arc::new(templates),
            special_ids: Arc::default(),
            additional_special_ids: Arc::default(),
            flags: Arc::default(),
        })
    }

    /// The pipeline as a `tokenizer.json`. A SentencePiece model becomes what transformers 4.57 converts
    /// it to.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a SentencePiece model with a normalizer
    /// of its own.
    pub fn to_tokenizer_json(&self) -> Result<Vec<u8>> {
        let json = match &self.rules {
            Rules::SentencePiece { tokenizer, settings, .. } => convert::to_tokenizer_json(
                tokenizer.model(),
                *settings,
                self.added.tokens(),
                &self.templates,
            )?,
            Rules::TokenizerJson { rules, .. } => {
                let mut added_tokens = self.added.tokens().to_vec();
                added_tokens.sort_by_key(|token| token.id);
                let stated = convert::templates(rules.file().post_processor.as_ref())?;
                let post_processor = if stated == *self.templates {
                    rules.file().post_processor.clone()
                } else {
                    convert::post_processor(&self.templates)
                };
                let model = rules.model().clone();
                TokenizerJson { added_tokens, post_processor, model, ..rules.file().clone() }
            }
        };
        Ok(format::write(&json))
    }

    /// The same with other added tokens. Empty ones are left out, and so are those whose content or id an
    /// earlier one has; by the rules of the SentencePiece-backed class all ids can be decoded, and of equal
    /// contents the last counts.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where they are too many.
    pub fn with_added_tokens(&self, tokens: Vec<AddedToken>) -> Result<Self> {
        let mut pipeline = self.clone();
        pipeline.added = Arc::new(match &pipeline.rules {
            Rules::SentencePiece { .. } => AddedTokens::with_all_ids(tokens),
            Rules::TokenizerJson { .. } => AddedTokens::new(tokens),
        });
        pipeline.flags = Arc::default();
        match &mut pipeline.rules {
            Rules::SentencePiece { splitter, .. } => {
                *splitter = Arc::new(python::Splitter::new(pipeline.added.clone())?);
            }
            Rules::TokenizerJson { rules, splitter, decoder } => {
                *splitter = Arc::new(rules.splitter(&pipeline.added)?);
                *decoder = Arc::default();
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
            Rules::TokenizerJson { .. } => return None,
        }
        Some(pipeline)
    }

    /// The settings of the SentencePiece-backed class, where its rules are followed.
    pub fn settings(&self) -> Option<SlowSettings> {
        match &self.rules {
            Rules::SentencePiece { settings, .. } => Some(*settings),
            Rules::TokenizerJson { .. } => None,
        }
    }

    /// The tokenizer of a pipeline that was made from one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => Some(tokenizer),
            Rules::TokenizerJson { .. } => None,
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
        self.json()?.truncation.as_ref()
    }

    fn json(&self) -> Option<&TokenizerJson> {
        match &self.rules {
            Rules::SentencePiece { .. } => None,
            Rules::TokenizerJson { rules, .. } => Some(rules.file()),
        }
    }

    /// The decoder of a `tokenizer.json`.
    fn json_decoder(&self) -> Option<&json_decode::JsonDecoder> {
        match &self.rules {
            Rules::SentencePiece { .. } => None,
            Rules::TokenizerJson { decoder, .. } => {
                Some(decoder.get_or_init(|| json_decode::JsonDecoder::new(self)))
            }
        }
    }

    /// The section `padding` of the `tokenizer.json`.
    pub fn padding(&self) -> Option<&Padding> {
        self.json()?.padding.as_ref()
    }

    /// The model's unknown token.
    pub fn unk_token(&self) -> Option<&str> {
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => {
                let vocabulary = &tokenizer.model().vocabulary;
                vocabulary.get(vocabulary.unk_id()).map(|piece| piece.text.as_str())
            }
            Rules::TokenizerJson { rules, .. } => rules.model().unk_token.as_deref(),
        }
    }

    /// The number of the model's own tokens.
    pub fn base_vocab_size(&self) -> usize {
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => tokenizer.model().vocabulary.len(),
            Rules::TokenizerJson { rules, .. } => rules.model().vocab_size(),
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
            Rules::TokenizerJson { rules, .. } => Box::new(rules.model().iter()),
        }
    }

    fn base_token(&self, id: TokenId) -> Option<&str> {
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => {
                tokenizer.model().vocabulary.get(id).map(|piece| piece.text.as_str())
            }
            Rules::TokenizerJson { rules, .. } => rules.model().id_to_token(id),
        }
    }

    /// The id of a token.
    pub fn token_to_id(&self, token: &str) -> Option<TokenId> {
        if let Some(token) = self.added.by_content(token) {
            return Some(token.id);
        }
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => tokenizer.model().vocabulary.piece_to_id(token),
            Rules::TokenizerJson { rules, .. } => rules.model().token_to_id(token),
        }
    }

    /// The token of an id.
    pub fn id_to_token(&self, id: TokenId) -> Option<&str> {
        match self.added.by_id(id) {
            Some(token) => Some(&token.content),
            None => self.base_token(id),
        }
    }

    /// One more than the highest id.
    pub fn id_limit(&self) -> usize {
        let base = match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => tokenizer.model().vocabulary.len(),
            Rules::TokenizerJson { rules, .. } => rules.model().id_limit(),
        };
        self.added.tokens().iter().map(|token| (token.id as usize).saturating_add(1)).fold(base, usize::max)
    }

    /// Whether the id is one of `all_special_tokens`.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.special_ids.contains(&id)
    }

    /// Why texts go the general way, which is many times slower, if they do.
    pub fn general_because(&self) -> Option<&'static str> {
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => tokenizer.general_because(),
            Rules::TokenizerJson { rules, .. } => rules.components.general_because(),
        }
    }

    /// The probability to leave a merge out that a `tokenizer.json` states.
    fn stated_dropout(&self) -> Option<f64> {
        match &self.rules {
            Rules::SentencePiece { .. } => None,
            Rules::TokenizerJson { rules, .. } => rules.model().dropout.map(f64::from),
        }
    }

    /// Lends a worker to `work`.
    fn with_worker<T>(&self, work: impl FnOnce(&mut Worker<'_>) -> T) -> T {
        match &self.rules {
            Rules::SentencePiece { tokenizer, .. } => {
                tokenizer.engine().with_worker(|worker| work(&mut Worker::SentencePiece(worker)))
            }
            Rules::TokenizerJson { rules, .. } => {
                rules.components.with_worker(|worker| work(&mut Worker::TokenizerJson(worker)))
            }
        }
    }

    /// Appends the tokens of one text, without those of a template; `word` is its number where texts
    /// are split into words.
    fn encode_text(
        &self,
        worker: &mut Worker<'_>,
        text: &str,
        word: Option<i32>,
        options: &PipelineOptions,
        random: &mut Random,
        out: &mut Columns,
    ) -> Result<()> {
        if options.details {
            check_counted(text)?;
        }
        match (&self.rules, worker) {
            (
                Rules::SentencePiece { tokenizer, settings, splitter, units },
                Worker::SentencePiece(worker),
            ) => {
                let seeks = !options.split_special_tokens && !self.added.tokens().is_empty();
                let units = options.details.then(|| units.get_or_init(|| Units::of_tokenizer(tokenizer)));
                let encoder = sentencepiece::Encoder {
                    tokenizer,
                    settings: *settings,
                    splitter: seeks.then_some(&**splitter),
                    special_ids: &self.special_ids,
                    units,
                };
                let dropout = options.dropout.filter(|&probability| probability > 0.0);
                encoder.encode(worker, text, word, dropout.map(|probability| (probability, random)), out)
            }
            (Rules::TokenizerJson { rules, splitter, .. }, Worker::TokenizerJson(worker)) => {
                let encoder = tokenizer_json::Encoder {
                    rules,
                    added: &self.added,
                    splitter,
                    split_special: options.split_special_tokens,
                };
                let dropout = options.dropout.or(self.stated_dropout());
                let dropout = dropout.filter(|&probability| probability > 0.0);
                encoder.encode(worker, text, word, dropout.map(|probability| (probability, random)), out)
            }
            // A worker is lent by the rules that it works for.
            _ => Ok(()),
        }
    }
}
