//! The normalizer, the pre-tokenizer and the model of a file at work on text between added tokens.
//!
//! Who conducts splits a text at the added tokens that are searched for in raw text, and what is left, the
//! *chunks*, is normalized one by one. Normalized chunks are split at the other added tokens; what is left
//! then, the *parts*, is what pre-tokenizer and model get to see.
//!
//! There are two ways. With ranges ([`Encoder::normalize`], [`Encoder::encode_aligned`]) it is known of each
//! token which bytes of the original it stands for. Without ([`Encoder::encode_chunk`],
//! [`Encoder::normalize_plain`], [`Encoder::encode_part`]) only ids come out, many times faster: the
//! normalizers of Llama's files and `Metaspace` are not run at all, since the merger takes a space for `▁`
//! and puts one in front by itself.

use std::borrow::Cow;
use std::sync::Arc;

use super::{
    AlignedText, BpeModel, Metaspace, Normalizer, Pattern, PreTokenizer, PrependScheme, TokenizerJson,
};
use crate::bpe::ranked::{RankedEngine, RankedWorker, Span, WordRule};
use crate::stop;
use crate::vocabulary::SPACE_SYMBOL;
use crate::{CacheInfo, Result, TokenId};

/// `▁`.
const SPACE: char = '▁';

/// The parts of a file that turn chunks into ids.
#[derive(Debug)]
pub(crate) struct Encoder {
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<PreTokenizer>,
    model: Arc<BpeModel>,
    engine: RankedEngine,
    plan: Plan,
}

/// What is known of the components before any text comes.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// What the normalizer does, if that is little enough to do without it.
    plain_normalizer: Option<PlainNormalizer>,
    /// If there is no pre-tokenizer but a `Metaspace` with `▁`, that one.
    metaspace: Option<Metaspace>,
    /// Whether parts can be encoded without ranges.
    is_plain: bool,
}

/// What the normalizers of Llama's files do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlainNormalizer {
    Nothing,
    /// Spaces become `▁`.
    Spaces,
    /// And one is put in front.
    SpacesAndPrefix,
}

/// A token, the bytes of the original text that it stands for (see [`AlignedText::original_range`]), and
/// the number of its word among those of the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AlignedToken {
    pub(crate) id: TokenId,
    pub(crate) range: (usize, usize),
    pub(crate) word: usize,
}

impl Encoder {
    /// Builds the tables. `cache_bytes` is as for [`Tokenizer::new`](crate::Tokenizer::new).
    pub(crate) fn new(file: &TokenizerJson, cache_bytes: Option<usize>) -> Self {
        let TokenizerJson { normalizer, pre_tokenizer, .. } = file;
        let plan = Plan::new(normalizer.as_ref(), pre_tokenizer.as_ref());
        let rule = WordRule {
            spaces_are_replaced: plan.metaspace.is_some() || leaves_no_space(normalizer.as_ref()),
            splits: plan.metaspace.is_some_and(|metaspace| metaspace.split),
        };
        let model = Arc::new(file.model.clone());
        let engine = RankedEngine::new(&model, rule, cache_bytes);
        Self { normalizer: normalizer.clone(), pre_tokenizer: pre_tokenizer.clone(), model, engine, plan }
    }

    /// The model.
    pub(crate) fn model(&self) -> &Arc<BpeModel> {
        &self.model
    }

    /// Why text goes the general way, if it does.
    pub(crate) fn general_because(&self) -> Option<&'static str> {
        self.engine.general_because()
    }

    /// The state of the word caches.
    pub(crate) fn cache_info(&self) -> CacheInfo {
        self.engine.cache_info()
    }

    /// Lends a worker to `work`.
    pub(crate) fn with_worker<T>(&self, work: impl FnOnce(&mut RankedWorker) -> T) -> T {
        self.engine.with_worker(work)
    }

    /// If there is no pre-tokenizer, and the normalizer does nothing but make spaces `▁`: whether it puts one in
    /// front.
    pub(crate) fn normalizer_prefix(&self) -> Option<bool> {
        match self.plan.plain_normalizer.filter(|_| self.pre_tokenizer.is_none() && self.plan.is_plain)? {
            PlainNormalizer::Nothing => None,
            PlainNormalizer::Spaces => Some(false),
            PlainNormalizer::SpacesAndPrefix => Some(true),
        }
    }

    /// Appends the ids of a part of a chunk, with `▁` in front of it if `prefix` says so, where
    /// [`normalizer_prefix`](Self::normalizer_prefix) gives something.
    pub(crate) fn encode_spaced(
        &self,
        worker: &mut RankedWorker,
        part: &str,
        prefix: bool,
        ids: &mut Vec<TokenId>,
    ) -> Result<()> {
        self.engine.encode(worker, part, prefix, ids)
    }

    /// If [`encode_chunk`](Self::encode_chunk) takes a chunk for one word, in which nothing is replaced but
    /// spaces: whether it puts `▁` in front.
    pub(crate) fn plain_prefix(&self, chunk: &str, start: usize) -> Option<bool> {
        let in_front =
            |metaspace: Metaspace| !chunk.starts_with([' ', SPACE]) && metaspace.prepends_at(start);
        let splits = self.plan.metaspace.is_some_and(|metaspace| metaspace.split);
        match self.plan.plain_normalizer.filter(|_| self.plan.is_plain && !splits)? {
            PlainNormalizer::SpacesAndPrefix => Some(!chunk.is_empty()),
            _ => Some(!chunk.is_empty() && self.plan.metaspace.is_some_and(in_front)),
        }
    }

    /// Appends the ids of a chunk that begins at byte `start` of its text, and holds none of the added tokens
    /// that are searched for in normalized text.
    pub(crate) fn encode_chunk(
        &self,
        worker: &mut RankedWorker,
        chunk: &str,
        start: usize,
        ids: &mut Vec<TokenId>,
    ) -> Result<()> {
        if !self.plan.is_plain {
            let mut tokens = Vec::new();
            self.encode_aligned(worker, self.normalize(chunk, start)?, None, &mut tokens)?;
            ids.extend(tokens.iter().map(|token| token.id));
            return Ok(());
        }
        match self.plan.plain_normalizer {
            Some(PlainNormalizer::SpacesAndPrefix) => {
                self.engine.encode(worker, chunk, !chunk.is_empty(), ids)
            }
            Some(_) => self.encode_part(worker, chunk, start, ids),
            None => self.encode_part(worker, &self.normalize_plain(chunk), start, ids),
        }
    }

    /// Whether parts can be encoded without ranges. They cannot where it counts whether a part stands for the
    /// beginning of the text, and the normalizer hides that.
    pub(crate) fn is_plain(&self) -> bool {
        let is_told =
            self.plan.metaspace.is_none_or(|metaspace| metaspace.prepend_scheme != PrependScheme::First);
        self.plan.is_plain && (is_told || self.normalizer.is_none())
    }

    /// A chunk, normalized.
    pub(crate) fn normalize_plain<'a>(&self, chunk: &'a str) -> Cow<'a, str> {
        match (&self.normalizer, self.plan.plain_normalizer) {
            (None, _) | (_, Some(PlainNormalizer::Nothing)) => Cow::Borrowed(chunk),
            (_, Some(plain)) if !chunk.is_empty() => {
                let mut text = String::with_capacity(chunk.len() + chunk.len() / 2 + SPACE_SYMBOL.len());
                if plain == PlainNormalizer::SpacesAndPrefix {
                    text.push(SPACE);
                }
                let mut done = 0;
                for space in memchr::memchr_iter(b' ', chunk.as_bytes()) {
                    text.push_str(&chunk[done..space]);
                    text.push(SPACE);
                    done = space + 1;
                }
                text.push_str(&chunk[done..]);
                Cow::Owned(text)
            }
            (Some(normalizer), _) => Cow::Owned(normalizer.normalize_str(chunk)),
        }
    }

    /// Appends the ids of a part of normalized text; only where [`is_plain`](Self::is_plain). `start` is 0 if
    /// the part stands for the beginning of the text, and otherwise anything else.
    pub(crate) fn encode_part(
        &self,
        worker: &mut RankedWorker,
        part: &str,
        start: usize,
        ids: &mut Vec<TokenId>,
    ) -> Result<()> {
        let prefix = self.plan.metaspace.is_some_and(|metaspace| {
            !part.is_empty() && !part.starts_with([' ', SPACE]) && metaspace.prepends_at(start)
        });
        self.engine.encode(worker, part, prefix, ids)
    }

    /// A chunk that begins at byte `start` of its text, normalized, with ranges.
    pub(crate) fn normalize(&self, chunk: &str, start: usize) -> Result<AlignedText> {
        let mut text = AlignedText::new(chunk, start)?;
        if let Some(normalizer) = &self.normalizer {
            normalizer.normalize(&mut text);
        }
        // The library takes a slice of what it has normalized, also where it finds no added token in it, and
        // a slice begins where its first byte does.
        let len = text.text().len();
        Ok(if len == 0 { text } else { text.slice(0..len) })
    }

    /// Appends the tokens of a part, a slice of what [`normalize`](Self::normalize) gave, and returns how many
    /// words it has. `drop` says for each candidate for a merge whether it is passed over (BPE-dropout).
    pub(crate) fn encode_aligned(
        &self,
        worker: &mut RankedWorker,
        part: AlignedText,
        mut drop: Option<&mut dyn FnMut() -> bool>,
        tokens: &mut Vec<AlignedToken>,
    ) -> Result<usize> {
        let mut words = Vec::new();
        match &self.pre_tokenizer {
            Some(pre_tokenizer) => pre_tokenizer.split(part, &mut words),
            None if part.text().is_empty() => {}
            None => words.push(part),
        }
        let mut spans = Vec::new();
        for (index, word) in words.iter().enumerate() {
            if stop::is_due(index, stop::ROUNDS) {
                break;
            }
            spans.clear();
            match &mut drop {
                Some(drop) => {
                    self.engine.encode_word_with_dropout(worker, word.text(), &mut **drop, &mut spans)?;
                }
                None => self.engine.encode_word(worker, word.text(), &mut spans)?,
            }
            tokens.extend(spans.iter().map(|&Span { id, start, end }| {
                let range = start as usize..end as usize;
                // The library leaves ranges outside of the word as they are, and they may be: where characters
                // are left out, or unknown ones change places with bytes.
                let range = word.original_range(range.clone()).unwrap_or((range.start, range.end));
                AlignedToken { id, range, word: index }
            }));
        }
        Ok(words.len())
    }
}

impl Plan {
    fn new(normalizer: Option<&Normalizer>, pre_tokenizer: Option<&PreTokenizer>) -> Self {
        let steps = normalizer.map(Normalizer::steps).unwrap_or_default();
        let is_prefix =
            |step: &Normalizer| matches!(step, Normalizer::Prepend(prefix) if prefix == SPACE_SYMBOL);
        let metaspaces = pre_tokenizer.map(PreTokenizer::steps).unwrap_or_default();
        let metaspace = match metaspaces.as_slice() {
            [metaspace] if metaspace.replacement == SPACE => Some(**metaspace),
            _ => None,
        };
        let plain_normalizer = match steps.as_slice() {
            // Then spaces are replaced by the pre-tokenizer, or not at all.
            [] => Some(PlainNormalizer::Nothing),
            [step] if is_replace(step) => Some(PlainNormalizer::Spaces),
            [prefix, step] | [step, prefix] if is_prefix(prefix) && is_replace(step) => {
                Some(PlainNormalizer::SpacesAndPrefix)
            }
            _ => None,
        };
        let is_told = metaspace.is_none_or(|metaspace| {
            metaspace.prepend_scheme != PrependScheme::First || normalizer.is_none_or(Normalizer::keeps_start)
        });
        Self {
            plain_normalizer,
            metaspace,
            is_plain: is_told && (metaspace.is_some() || metaspaces.is_empty()),
        }
    }
}

/// Whether a normalizer does nothing but make spaces `▁`.
fn is_replace(step: &Normalizer) -> bool {
    matches!(step, Normalizer::Replace { pattern: Pattern::String(pattern), content }
        if pattern == " " && content == SPACE_SYMBOL)
}

/// Whether no space is left in what a normalizer gives, so that all `▁` that stand for one are there.
fn leaves_no_space(normalizer: Option<&Normalizer>) -> bool {
    let steps = normalizer.map(Normalizer::steps).unwrap_or_default();
    let adds_no_space = |step: &&Normalizer| match step {
        Normalizer::Prepend(text) | Normalizer::Replace { content: text, .. } => !text.contains(' '),
        _ => false,
    };
    steps
        .iter()
        .rposition(|step| is_replace(step))
        .is_some_and(|index| steps[index + 1..].iter().all(adds_no_space))
}
