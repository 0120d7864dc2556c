//! Text to ids: normalizes, and merges by the quickest way that the vocabulary allows.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use super::cache::{self, Cache};
use super::fast::{Around, FastMerger, FastScratch, MAX_KEPT_BYTES};
use super::general::{Emitter, GeneralMerger, GeneralScratch};
use super::scan::Level;
use super::words::Reason;
use crate::model::Model;
use crate::normalize::{to_valid_utf8, Normalizer, UserDefinedMatcher};
use crate::random::Random;
use crate::tokenizer::{CacheInfo, Text};
use crate::vocabulary::{TokenId, SPACE_SYMBOL};
use crate::Result;

/// A model's merger with all that it needs.
#[derive(Debug)]
pub(crate) struct Engine {
    model: Arc<Model>,
    normalizer: Normalizer,
    user_defined: Option<UserDefinedMatcher>,
    path: Path,
    /// For merging at random, where the path is the fast one.
    dropout: OnceLock<Box<GeneralMerger>>,
    cache: Arc<Cache>,
    /// Workers for the next calls. The lock is tried only: a fork may have left it locked for ever.
    idle: Mutex<Vec<Worker>>,
}

/// How normalized text is merged.
#[derive(Debug)]
enum Path {
    Fast(Box<FastMerger>),
    /// The general way, and why.
    General(Box<GeneralMerger>, Reason),
}

/// What one thread needs to encode; kept for the next call.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    normalized: Vec<u8>,
    general: GeneralScratch,
    fast: FastScratch,
    /// For callers that want the number of ids only.
    pub(crate) ids: Vec<TokenId>,
}

/// How many idle workers are kept.
const MAX_IDLE: usize = 64;

impl Worker {
    /// Lets so many threads share a long text, for the time of a call.
    pub(crate) fn share_long_texts(&mut self, threads: usize) {
        self.fast.share_long_texts(threads);
    }

    /// Gives up what only a call needs.
    fn release(&mut self) {
        self.fast.release();
        if self.normalized.capacity() > MAX_KEPT_BYTES {
            self.normalized = Vec::new();
        }
        if self.ids.capacity() * size_of::<TokenId>() > MAX_KEPT_BYTES {
            self.ids = Vec::new();
        }
        if self.general.bytes() > MAX_KEPT_BYTES {
            self.general = GeneralScratch::default();
        }
    }
}

/// `text` as valid UTF-8.
fn to_valid(text: Text<'_>) -> Cow<'_, str> {
    match text {
        Text::Str(text) => Cow::Borrowed(text),
        Text::Bytes(text) => to_valid_utf8(text),
    }
}

impl Engine {
    /// Builds the tables. The environment variable `LLAMATOK_ENGINE=general` switches the fast path
    /// off, for tests and for the curious.
    pub(crate) fn new(model: &Arc<Model>, cache_bytes: Option<usize>) -> Result<Self> {
        let user_defined = UserDefinedMatcher::new(model)?;
        let normalizer = Normalizer::new(model, user_defined.clone())?;
        let fast = if std::env::var("LLAMATOK_ENGINE").is_ok_and(|engine| engine == "general") {
            Err("LLAMATOK_ENGINE asks for the general path")
        } else if !model.normalizer.escape_whitespaces {
            Err("spaces are not escaped")
        } else {
            FastMerger::new(model, Level::detect())
        };
        let path = match fast {
            Ok(fast) => Path::Fast(Box::new(fast)),
            Err(reason) => {
                let general = GeneralMerger::new(&model.vocabulary, user_defined.clone());
                Path::General(Box::new(general), reason)
            }
        };
        Ok(Self {
            model: model.clone(),
            normalizer,
            user_defined,
            path,
            dropout: OnceLock::new(),
            cache: Cache::new(cache_bytes),
            idle: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn cache_info(&self) -> CacheInfo {
        let (limit_bytes, used_bytes) = self.cache.info();
        CacheInfo { limit_bytes, used_bytes }
    }

    /// Why the fast path is not taken, if it is not.
    pub(crate) fn general_because(&self) -> Option<Reason> {
        match self.path {
            Path::Fast(_) => None,
            Path::General(_, reason) => Some(reason),
        }
    }

    /// Lends a worker to `work`.
    pub(crate) fn with_worker<T>(&self, work: impl FnOnce(&mut Worker) -> T) -> T {
        let idle = || cache::taken(self.idle.try_lock());
        let mut worker = idle().and_then(|mut idle| idle.pop()).unwrap_or_default();
        let result = work(&mut worker);
        worker.release();
        if let Some(mut idle) = idle().filter(|idle| idle.len() < MAX_IDLE) {
            idle.push(worker);
        }
        result
    }

    /// A place in `range` where `text` may be cut in two, the second of which is then encoded by
    /// [`encode_rest`](Self::encode_rest); `None` where there is none, or the model does not allow it.
    pub(crate) fn find_cut(&self, text: &[u8], range: Range<usize>) -> Option<usize> {
        match &self.path {
            Path::Fast(fast) if self.is_plain() => fast.find_cut(text, range),
            _ => None,
        }
    }

    /// Whether text needs neither a normalizer nor a search for user-defined symbols.
    fn is_plain(&self) -> bool {
        self.normalizer.is_identity() && self.user_defined.is_none()
    }

    /// Appends the ids of what follows a cut that [`find_cut`](Self::find_cut) gave.
    pub(crate) fn encode_rest<'a>(
        &self,
        worker: &mut Worker,
        text: impl Into<Text<'a>>,
        ids: &mut Vec<TokenId>,
    ) -> Result<()> {
        let text = text.into();
        match &self.path {
            Path::Fast(fast) if self.is_plain() => {
                fast.encode(&self.cache, &mut worker.fast, &to_valid(text), false, ids)
            }
            _ => self.encode(worker, text, ids),
        }
    }

    /// Appends the ids of `text`.
    pub(crate) fn encode<'a>(
        &self,
        worker: &mut Worker,
        text: impl Into<Text<'a>>,
        ids: &mut Vec<TokenId>,
    ) -> Result<()> {
        self.encode_with_prefix(worker, text, true, ids)
    }

    /// As [`encode`](Self::encode), with the dummy prefix only where `dummy_prefix` says so and the model
    /// asks for it.
    pub(crate) fn encode_with_prefix<'a>(
        &self,
        worker: &mut Worker,
        text: impl Into<Text<'a>>,
        dummy_prefix: bool,
        ids: &mut Vec<TokenId>,
    ) -> Result<()> {
        let text = text.into();
        let Worker { normalized, general, fast: scratch, .. } = worker;
        let vocabulary = &self.model.vocabulary;
        let fast = match &self.path {
            Path::Fast(fast) => fast,
            Path::General(merger, _) => {
                normalized.clear();
                self.normalizer.normalize(text.as_bytes(), dummy_prefix, SPACE_SYMBOL, normalized);
                let text = String::from_utf8_lossy(normalized);
                return merger.encode(&text, general, &mut Emitter::new(vocabulary, ids));
            }
        };
        let cache = &self.cache;
        if self.is_plain() {
            let prefix =
                dummy_prefix && self.normalizer.settings().add_dummy_prefix && !text.as_bytes().is_empty();
            return fast.encode(cache, scratch, &to_valid(text), prefix, ids);
        }
        normalized.clear();
        self.normalizer.normalize(text.as_bytes(), dummy_prefix, " ", normalized);
        let text = String::from_utf8_lossy(normalized);
        let mut done = 0;
        if let Some(matcher) = &self.user_defined {
            let mut search = matcher.search(text.as_bytes());
            while let Some(found) = search.find(done) {
                fast.encode(cache, scratch, &text[done..found.start], false, ids)?;
                ids.extend(vocabulary.mergeable_id(&text[found.clone()]));
                done = found.end;
            }
        }
        fast.encode(cache, scratch, &text[done..], false, ids)
    }

    /// Whether [`encode_plain`](Self::encode_plain) serves.
    pub(crate) fn serves_plain(&self) -> bool {
        matches!(self.path, Path::Fast(_)) && self.is_plain()
    }

    /// Appends the ids of `text`, with one space in front if `space_before` says so and no dummy prefix,
    /// where [`serves_plain`](Self::serves_plain) says so.
    pub(crate) fn encode_plain(
        &self,
        worker: &mut Worker,
        text: &str,
        space_before: bool,
        ids: &mut Vec<TokenId>,
    ) -> Result<()> {
        match &self.path {
            Path::Fast(fast) => fast.encode(&self.cache, &mut worker.fast, text, space_before, ids),
            Path::General(..) => Ok(()),
        }
    }

    /// Whether [`encode_texts`](Self::encode_texts) serves.
    pub(crate) fn serves_texts(&self) -> bool {
        self.is_plain() && matches!(&self.path, Path::Fast(fast) if fast.serves_texts())
    }

    /// Appends the ids of each of several short texts between `bos` and `eos`, and to `ends` where they end in
    /// `ids`, in less time than one by one, where [`serves_texts`](Self::serves_texts) says so.
    pub(crate) fn encode_texts<'a>(
        &self,
        worker: &mut Worker,
        texts: impl Iterator<Item = Text<'a>>,
        [bos, eos]: [Option<TokenId>; 2],
        ids: &mut Vec<TokenId>,
        ends: &mut Vec<usize>,
    ) {
        if let Path::Fast(fast) = &self.path {
            let around = Around { prefix: self.normalizer.settings().add_dummy_prefix, bos, eos };
            fast.encode_texts(&self.cache, &mut worker.fast, texts.map(to_valid), around, ids, ends);
        }
    }

    /// As [`encode_with_prefix`](Self::encode_with_prefix), where each merge is left out with the
    /// given probability (BPE-dropout: Provilkov, Emelianenko, Voita 2020, arXiv:1910.13267; sentencepiece's
    /// `bpe::Model::SampleEncode`).
    pub(crate) fn sample(
        &self,
        worker: &mut Worker,
        text: &[u8],
        dummy_prefix: bool,
        dropout: (f64, &mut Random),
        ids: &mut Vec<TokenId>,
    ) -> Result<()> {
        let merger = match &self.path {
            Path::General(merger, _) => merger,
            Path::Fast(_) => self.dropout.get_or_init(|| {
                Box::new(GeneralMerger::new(&self.model.vocabulary, self.user_defined.clone()))
            }),
        };
        let Worker { normalized, general, .. } = worker;
        normalized.clear();
        self.normalizer.normalize(text, dummy_prefix, SPACE_SYMBOL, normalized);
        let text = String::from_utf8_lossy(normalized);
        merger.sample(&text, general, dropout, &mut Emitter::new(&self.model.vocabulary, ids))
    }

    /// The normalizer.
    pub(crate) fn normalizer(&self) -> &Normalizer {
        &self.normalizer
    }
}
