//! Words to ids by listed merges, by the quickest way that the vocabulary allows.

use std::sync::{Arc, Mutex};

use super::merger::{Merger, MergerScratch, Part};
use super::Reduction;
use crate::bpe::cache::{self, Cache};
use crate::bpe::fast::{FastMerger, FastScratch, MAX_KEPT_BYTES};
use crate::bpe::scan::Level;
use crate::bpe::words::Reason;
use crate::components::BpeModel;
use crate::stop;
use crate::vocabulary::SPACE_SYMBOL;
use crate::{CacheInfo, Result, TokenId};

/// What text is to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WordRule {
    /// Whether a space stands for `▁`. Otherwise it is a character like others.
    pub(crate) spaces_are_replaced: bool,
    /// Whether each `▁` begins a word.
    pub(crate) splits: bool,
}

/// A model's merger with all that it needs.
#[derive(Debug)]
pub(crate) struct RankedEngine {
    model: Arc<BpeModel>,
    rule: WordRule,
    merger: Merger,
    path: Path,
    /// The most bytes of a token, where a word that is a token is not merged.
    longest_whole: Option<usize>,
    cache: Arc<Cache>,
    /// Workers for the next calls. The lock is tried only: a fork may have left it locked for ever.
    idle: Mutex<Vec<RankedWorker>>,
}

#[derive(Debug)]
enum Path {
    Fast {
        merger: Box<FastMerger>,
        /// For each id how many bytes of text it stands for; 0 for the unknown token.
        lens: Vec<u32>,
    },
    /// Merging by the letter, and why.
    General(Reason),
}

/// What one thread needs to encode; kept for the next call.
#[derive(Debug, Default)]
pub(crate) struct RankedWorker {
    fast: FastScratch,
    general: MergerScratch,
    text: String,
    ids: Vec<TokenId>,
}

/// A token, and the range of bytes of its word that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) id: TokenId,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// How many idle workers are kept.
const MAX_IDLE: usize = 64;

impl RankedWorker {
    /// Lets so many threads share a long text, for the time of a call.
    pub(crate) fn share_long_texts(&mut self, threads: usize) {
        self.fast.share_long_texts(threads);
    }

    /// Gives up what only a call needs.
    fn release(&mut self) {
        self.fast.release();
        if self.text.capacity() > MAX_KEPT_BYTES {
            self.text = String::new();
        }
        if self.ids.capacity() * size_of::<TokenId>() > MAX_KEPT_BYTES {
            self.ids = Vec::new();
        }
        if self.general.bytes() > MAX_KEPT_BYTES {
            self.general = MergerScratch::default();
        }
    }
}

impl RankedEngine {
    /// Builds the tables. The environment variable `LLAMATOK_ENGINE=general` switches the fast path off.
    pub(crate) fn new(model: &Arc<BpeModel>, rule: WordRule, cache_bytes: Option<usize>) -> Self {
        let merger = Merger::new(model);
        let fast = if std::env::var("LLAMATOK_ENGINE").is_ok_and(|engine| engine == "general") {
            Err("LLAMATOK_ENGINE asks for the general path")
        } else {
            Reduction::new(model, &merger, rule).and_then(|reduction| {
                let Reduction { model, ranks, splits, fused_id } = &reduction;
                FastMerger::with_splits(model, Level::detect(), ranks, splits, *fused_id)
            })
        };
        let path = match fast {
            Ok(merger) => Path::Fast { merger: Box::new(merger), lens: lens(model) },
            Err(reason) => Path::General(reason),
        };
        let longest = model.iter().map(|(token, _)| token.len()).max();
        Self {
            model: model.clone(),
            rule,
            merger,
            path,
            longest_whole: longest.filter(|_| model.ignore_merges),
            cache: Cache::new(cache_bytes),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Why the fast path is not taken, if it is not.
    pub(crate) fn general_because(&self) -> Option<Reason> {
        match self.path {
            Path::Fast { .. } => None,
            Path::General(reason) => Some(reason),
        }
    }

    pub(crate) fn cache_info(&self) -> CacheInfo {
        let (limit_bytes, used_bytes) = self.cache.info();
        CacheInfo { limit_bytes, used_bytes }
    }

    /// Lends a worker to `work`.
    pub(crate) fn with_worker<T>(&self, work: impl FnOnce(&mut RankedWorker) -> T) -> T {
        let idle = || cache::taken(self.idle.try_lock());
        let mut worker = idle().and_then(|mut idle| idle.pop()).unwrap_or_default();
        let result = work(&mut worker);
        worker.release();
        if let Some(mut idle) = idle().filter(|idle| idle.len() < MAX_IDLE) {
            idle.push(worker);
        }
        result
    }

    /// Appends the ids of `text`, with `▁` in front of it if `prefix` says so. Text that begins words is
    /// split here.
    pub(crate) fn encode(
        &self,
        worker: &mut RankedWorker,
        text: &str,
        prefix: bool,
        ids: &mut Vec<TokenId>,
    ) -> Result<()> {
        if let Some(longest) = self.longest_whole.filter(|_| !self.rule.splits) {
            if text.len() <= longest {
                self.fill(&mut worker.text, text, prefix);
                if let Some(id) = self.model.token_to_id(&worker.text) {
                    ids.push(id);
                    return Ok(());
                }
            }
        }
        if let Path::Fast { merger, .. } = &self.path {
            return merger.encode(&self.cache, &mut worker.fast, text, prefix, ids);
        }
        let RankedWorker { general, text: buffer, .. } = worker;
        self.fill(buffer, text, prefix);
        let words = Words { rest: buffer, splits: self.rule.splits };
        words.enumerate().take_while(|&(index, _)| !stop::is_due(index, stop::ROUNDS)).try_for_each(
            |(_, word)| {
                self.merge(word, general, None)?;
                ids.extend(general.parts.iter().map(|part| part.id));
                Ok(())
            },
        )
    }

    /// Appends the tokens of one word, in which spaces have been replaced already, and their places.
    pub(crate) fn encode_word(
        &self,
        worker: &mut RankedWorker,
        word: &str,
        spans: &mut Vec<Span>,
    ) -> Result<()> {
        let is_whole = self.longest_whole.is_some_and(|longest| word.len() <= longest);
        match &self.path {
            Path::Fast { merger, lens } if !is_whole => {
                worker.ids.clear();
                merger.encode(&self.cache, &mut worker.fast, word, false, &mut worker.ids)?;
                self.place(word, &worker.ids, lens, spans);
            }
            _ => {
                self.merge(word, &mut worker.general, None)?;
                push_spans(&worker.general.parts, spans);
            }
        }
        Ok(())
    }

    /// The same with BPE-dropout: `drop` says for each candidate whether it is passed over.
    pub(crate) fn encode_word_with_dropout(
        &self,
        worker: &mut RankedWorker,
        word: &str,
        drop: &mut dyn FnMut() -> bool,
        spans: &mut Vec<Span>,
    ) -> Result<()> {
        self.merger.merge(word, &mut worker.general, Some(drop))?;
        push_spans(&worker.general.parts, spans);
        Ok(())
    }

    /// Leaves the tokens of a word in `scratch`.
    fn merge(
        &self,
        word: &str,
        scratch: &mut MergerScratch,
        drop: Option<&mut dyn FnMut() -> bool>,
    ) -> Result<()> {
        if self.longest_whole.is_some_and(|longest| word.len() <= longest) {
            if let Some(id) = self.model.token_to_id(word) {
                scratch.parts.clear();
                scratch.parts.push(Part { id, len: word.len() as u32 });
                return Ok(());
            }
        }
        self.merger.merge(word, scratch, drop)
    }

    /// Puts the text that is merged into `buffer`.
    fn fill(&self, buffer: &mut String, text: &str, prefix: bool) {
        buffer.clear();
        if prefix {
            buffer.push_str(SPACE_SYMBOL);
        }
        if !self.rule.spaces_are_replaced {
            return buffer.push_str(text);
        }
        for (index, part) in text.split(' ').enumerate() {
            if index > 0 {
                buffer.push_str(SPACE_SYMBOL);
            }
            buffer.push_str(part);
        }
    }

    /// Finds the places of ids that the fast path has given for `word`.
    fn place(&self, word: &str, ids: &[TokenId], lens: &[u32], spans: &mut Vec<Span>) {
        let mut start = 0;
        for &id in ids {
            let len = match lens[id as usize] {
                0 => {
                    let unknown = |c: &char| self.merger.character(*c).is_none();
                    let max = if self.model.fuse_unk { usize::MAX } else { 1 };
                    word[start..].chars().take(max).take_while(unknown).map(char::len_utf8).sum()
                }
                len => len as usize,
            };
            spans.push(Span { id, start: start as u32, end: (start + len) as u32 });
            start += len;
        }
    }
}

fn push_spans(parts: &[Part], spans: &mut Vec<Span>) {
    let mut start = 0;
    spans.extend(parts.iter().map(|&Part { id, len }| {
        start += len;
        Span { id, start: start - len, end: start }
    }));
}

/// For each id how many bytes of text it stands for.
fn lens(model: &BpeModel) -> Vec<u32> {
    let mut lens = vec![0; model.id_limit()];
    for (token, id) in model.iter() {
        lens[id as usize] = token.len() as u32;
    }
    match model.byte_ids() {
        Some(bytes) => bytes.iter().for_each(|&id| lens[id as usize] = 1),
        None => model.unk_id().into_iter().for_each(|id| lens[id as usize] = 0),
    }
    lens
}

/// The words of a text.
struct Words<'a> {
    rest: &'a str,
    splits: bool,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let first = self.rest.chars().next()?;
        let next = self.rest[first.len_utf8()..].find(SPACE_SYMBOL).filter(|_| self.splits);
        let end = next.map_or(self.rest.len(), |index| index + first.len_utf8());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(word)
    }
}
