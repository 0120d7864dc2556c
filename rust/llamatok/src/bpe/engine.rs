//! Text to ids: normalizes, cuts, and merges, by the quickest way that the vocabulary allows.

use std::sync::{Mutex, PoisonError};

use super::general::{Emitter, GeneralMerger, GeneralScratch};
use crate::model::Model;
use crate::normalize::{Normalizer, UserDefinedMatcher};
use crate::tokenizer::CacheInfo;
use crate::vocabulary::{TokenId, Vocabulary, SPACE_SYMBOL};
use crate::Result;

/// How much memory the caches may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheBudget {
    limit_bytes: usize,
}

impl CacheBudget {
    pub(crate) fn new(cache_bytes: Option<usize>) -> Self {
        Self { limit_bytes: cache_bytes.unwrap_or(64_000_000) }
    }
}

/// A model's merger with all that it needs.
#[derive(Debug)]
pub(crate) struct Engine {
    vocabulary: Vocabulary,
    normalizer: Normalizer,
    general: GeneralMerger,
    budget: CacheBudget,
    idle: Mutex<Vec<Box<Worker>>>,
}

/// What one thread needs to encode; kept for the next call.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    normalized: Vec<u8>,
    general: GeneralScratch,
    /// For callers that want the number of ids only.
    pub(crate) ids: Vec<TokenId>,
}

impl Engine {
    pub(crate) fn new(model: &Model, budget: CacheBudget) -> Result<Self> {
        let user_defined = UserDefinedMatcher::new(model)?;
        Ok(Self {
            vocabulary: model.vocabulary.clone(),
            normalizer: Normalizer::new(model, user_defined.clone())?,
            general: GeneralMerger::new(&model.vocabulary, user_defined),
            budget,
            idle: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn cache_info(&self) -> CacheInfo {
        CacheInfo { limit_bytes: self.budget.limit_bytes, used_bytes: 0 }
    }

    /// Lends a worker to `work`.
    pub(crate) fn with_worker<T>(&self, work: impl FnOnce(&mut Worker) -> T) -> T {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut worker = idle().pop().unwrap_or_default();
        let result = work(&mut worker);
        idle().push(worker);
        result
    }

    /// Appends the ids of `text`.
    pub(crate) fn encode(&self, worker: &mut Worker, text: &str, ids: &mut Vec<TokenId>) -> Result<()> {
        let Worker { normalized, general, .. } = worker;
        normalized.clear();
        self.normalizer.normalize(text, true, SPACE_SYMBOL, normalized);
        let normalized = String::from_utf8_lossy(normalized);
        self.general.encode(&normalized, general, &mut Emitter::new(&self.vocabulary, ids))
    }
}
