//! The tokenizer: conducts the pipeline from text to ids and back.

mod slices;

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use self::slices::Slice;
use crate::batch::{self, Arenas, TextBatch, TokenBatch};
use crate::bpe::engine::{Engine, Worker};
use crate::decode::{self, DecodeTable, StreamDecoder};
use crate::special::{Part as SpecialPart, SpecialMatcher};
use crate::stop;
use crate::{Error, Model, Result, TokenId};

/// What is added to the ids of a text, and what is found in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put the beginning-of-sequence token in front.
    pub add_bos: bool,
    /// Put the end-of-sequence token behind.
    pub add_eos: bool,
    /// Turn the text of control and unknown pieces (`<s>`) into their ids, instead of treating it as
    /// any other text. What lies between them is encoded as texts of their own.
    pub parse_special: bool,
}

/// How much memory the word caches of a tokenizer hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheInfo {
    /// The most bytes that the caches may take.
    pub limit_bytes: usize,
    /// The bytes that the caches take now.
    pub used_bytes: usize,
}

/// A text to encode: valid UTF-8, or bytes of which those that begin no valid sequence count as U+FFFD.
#[derive(Debug, Clone, Copy)]
pub enum Text<'a> {
    /// What need not be checked.
    Str(&'a str),
    /// What has to be.
    Bytes(&'a [u8]),
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Text<'a> {
    fn from(text: &'a T) -> Self {
        Self::Bytes(text.as_ref())
    }
}

impl<'a> Text<'a> {
    /// The text as it stands in memory.
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Str(text) => text.as_bytes(),
            Self::Bytes(text) => text,
        }
    }

    /// A part of the text; of a `str`, it must begin and end between two characters.
    fn part(self, range: Range<usize>) -> Self {
        match self {
            Self::Str(text) => Self::Str(&text[range]),
            Self::Bytes(text) => Self::Bytes(&text[range]),
        }
    }
}

/// A tokenizer. Immutable and shareable among threads; clones share everything.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    model: Arc<Model>,
    engine: Engine,
    decode_table: Arc<DecodeTable>,
    special: OnceLock<SpecialMatcher>,
}

impl Tokenizer {
    /// Makes a model run. `cache_bytes` bounds the word caches (`None`: 64 MB for the whole process;
    /// 0: no cache).
    ///
    /// # Errors
    /// [`ErrorKind::ModelFormat`](crate::ErrorKind::ModelFormat) where the normalizer's rules are damaged.
    pub fn new(model: Model, cache_bytes: Option<usize>) -> Result<Self> {
        let model = Arc::new(model);
        let engine = Engine::new(&model, cache_bytes)?;
        let decode_table = Arc::new(DecodeTable::new(&model));
        Ok(Self { inner: Arc::new(Inner { model, engine, decode_table, special: OnceLock::new() }) })
    }

    /// Reads a `tokenizer.model` or a GGUF file.
    ///
    /// # Errors
    /// As [`crate::load::from_file`] and [`Tokenizer::new`].
    pub fn from_file(path: impl AsRef<Path>, cache_bytes: Option<usize>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(crate::load::from_file(path)?, cache_bytes)
            .map_err(|error| error.in_source(path.display().to_string()))
    }

    /// Reads a model from memory.
    ///
    /// # Errors
    /// As [`crate::load::from_bytes`] and [`Tokenizer::new`].
    pub fn from_bytes(data: &[u8], cache_bytes: Option<usize>) -> Result<Self> {
        Self::new(crate::load::from_bytes(data)?, cache_bytes)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn decode_table(&self) -> &DecodeTable {
        &self.inner.decode_table
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.inner.model
    }

    /// Why texts go the general way, which is many times slower, if they do: what the vocabulary has that
    /// the fast path cannot prove its cuts with.
    pub fn general_because(&self) -> Option<&'static str> {
        self.inner.engine.general_because()
    }

    /// The state of the caches.
    pub fn cache_info(&self) -> CacheInfo {
        self.inner.engine.cache_info()
    }

    /// The ids of a text (UTF-8; each byte that begins no valid sequence counts as U+FFFD), appended
    /// to `ids`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where `options` asks for a token that
    /// the model has not.
    pub fn encode_into(&self, text: &[u8], options: &EncodeOptions, ids: &mut Vec<TokenId>) -> Result<()> {
        self.inner.engine.with_worker(|worker| self.encode_with(worker, Text::Bytes(text), options, ids))
    }

    /// The number of ids that [`Tokenizer::encode_into`] would append.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_into`].
    pub fn count(&self, text: &[u8], options: &EncodeOptions) -> Result<usize> {
        self.inner.engine.with_worker(|worker| self.count_with(worker, text, options))
    }

    /// The ids of several texts, on `num_threads` threads (`None`: as many as there are cores).
    ///
    /// # Errors
    /// As [`Tokenizer::encode_into`].
    pub fn encode_batch<T: AsRef<[u8]> + Sync>(
        &self,
        texts: &[T],
        options: &EncodeOptions,
        num_threads: Option<usize>,
    ) -> Result<TokenBatch> {
        self.check(options)?;
        let slices = self.slices(texts, options, num_threads);
        let tasks =
            batch::share_out_by(slices.len(), num_threads, |index| slices[index].text.as_bytes().len());
        let arenas = Arenas::new(num_threads);
        let work = |task: &Range<usize>| self.encode_slices(&slices[task.clone()], options, &arenas);
        let parts = batch::run(&tasks, num_threads, work)?;
        Ok(TokenBatch::concat(&arenas, parts, num_threads))
    }

    /// As [`Tokenizer::encode_batch`], of texts that this thread gets hold of one after the other, while
    /// others encode the ones before. `finish` is given the work that is left for this thread when all
    /// texts are there, and must call it.
    ///
    /// # Errors
    /// The error of the first text that is one, and within the result, as [`Tokenizer::encode_into`].
    pub fn encode_batch_from<'a, E>(
        &self,
        texts: impl IntoIterator<Item = std::result::Result<Text<'a>, E>>,
        options: &EncodeOptions,
        num_threads: Option<usize>,
        finish: impl FnOnce(&mut (dyn FnMut() + Send)),
    ) -> std::result::Result<Result<TokenBatch>, E> {
        if let Err(error) = self.check(options) {
            return Ok(Err(error));
        }
        let mut texts = texts.into_iter();
        let mut bytes_before = 0;
        // Those of a long text that are not given away yet.
        let mut waiting = std::collections::VecDeque::new();
        let mut cut = Vec::new();
        let make = || {
            let target = batch::next_task_bytes(bytes_before, num_threads);
            let (mut slices, mut bytes) = (Vec::new(), 0);
            while bytes < target {
                if let Some(slice) = waiting.pop_front() {
                    let slice: Slice<'a> = slice;
                    // Each text costs something, however short it is.
                    bytes += slice.text.as_bytes().len() + 32;
                    slices.push(slice);
                    continue;
                }
                match texts.next() {
                    Some(Ok(text)) => self.cut(text, options, num_threads, &mut cut),
                    Some(Err(error)) => return Some(Err(error)),
                    None => break,
                }
                waiting.extend(cut.drain(..));
            }
            bytes_before += bytes;
            (!slices.is_empty()).then_some(Ok(slices))
        };
        let arenas = Arenas::new(num_threads);
        let work = |slices: Vec<Slice<'_>>| self.encode_slices(&slices, options, &arenas);
        let parts = batch::run_while_made(make, num_threads, work, finish)?;
        Ok(parts.map(|parts| TokenBatch::concat(&arenas, parts, num_threads)))
    }

    /// The number of ids of each of several texts.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_into`].
    pub fn count_batch<T: AsRef<[u8]> + Sync>(
        &self,
        texts: &[T],
        options: &EncodeOptions,
        num_threads: Option<usize>,
    ) -> Result<Vec<i64>> {
        self.check(options)?;
        let slices = self.slices(texts, options, num_threads);
        let tasks =
            batch::share_out_by(slices.len(), num_threads, |index| slices[index].text.as_bytes().len());
        let work = |task: &Range<usize>| self.count_slices(&slices[task.clone()], options);
        let parts = batch::run(&tasks, num_threads, work)?;
        let mut counts = Vec::with_capacity(texts.len());
        let mut begun = 0;
        for (part, rest) in parts {
            let first = counts.len();
            counts.extend(part);
            match counts.get_mut(first) {
                Some(count) => *count += std::mem::replace(&mut begun, rest),
                None => begun += rest,
            }
        }
        Ok(counts)
    }

    /// The text of ids, as SentencePiece's `DecodeIds`. With `skip_special_tokens`, control and
    /// unknown ids are left out first.
    ///
    /// # Errors
    /// [`ErrorKind::IdOutOfRange`](crate::ErrorKind::IdOutOfRange).
    pub fn decode(&self, ids: &[TokenId], skip_special_tokens: bool) -> Result<String> {
        let mut out = Vec::with_capacity(decode::room(ids.len()));
        self.inner.decode_table.decode(ids, skip_special_tokens, &mut out)?;
        // The decoder gives valid UTF-8 (whole pieces and whole characters), so nothing is replaced.
        Ok(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// The bytes of ids: as [`Tokenizer::decode`], but byte pieces give their bytes as they are.
    ///
    /// # Errors
    /// [`ErrorKind::IdOutOfRange`](crate::ErrorKind::IdOutOfRange).
    pub fn decode_bytes(&self, ids: &[TokenId], skip_special_tokens: bool) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(decode::room(ids.len()));
        self.inner.decode_table.decode_bytes(ids, skip_special_tokens, &mut out)?;
        Ok(out)
    }

    /// The texts (valid UTF-8) of several lists of ids: `ids[offsets[i]..offsets[i + 1]]` is list `i`.
    ///
    /// # Errors
    /// [`ErrorKind::IdOutOfRange`](crate::ErrorKind::IdOutOfRange), with the index within `ids`.
    ///
    /// # Panics
    /// Where `offsets` is empty, falls, or leaves `ids`.
    pub fn decode_batch(
        &self,
        ids: &[TokenId],
        offsets: &[i64],
        skip_special_tokens: bool,
        num_threads: Option<usize>,
    ) -> Result<TextBatch> {
        let lists: Vec<&[TokenId]> =
            offsets.windows(2).map(|pair| &ids[pair[0] as usize..pair[1] as usize]).collect();
        let tasks = batch::share_out_by(lists.len(), num_threads, |index| lists[index].len() * 4);
        let parts = batch::run(&tasks, num_threads, |task| {
            let ids: usize = lists[task.clone()].iter().map(|list| list.len()).sum();
            let bytes = batch::with_capacity(decode::room(ids));
            let mut part = TextBatch { bytes, offsets: Vec::with_capacity(task.len() + 1) };
            for index in task.clone() {
                if stop::is_due(index, stop::ROUNDS) {
                    break;
                }
                self.inner
                    .decode_table
                    .decode(lists[index], skip_special_tokens, &mut part.bytes)
                    .map_err(|error| error.shift_index(offsets[index] as usize))?;
                part.offsets.push(part.bytes.len() as i64);
            }
            Ok(part)
        })?;
        Ok(TextBatch::concat(parts, num_threads))
    }

    /// A decoder for ids that arrive one after the other.
    pub fn stream_decoder(&self, skip_special_tokens: bool) -> StreamDecoder {
        StreamDecoder::new(self.inner.decode_table.clone(), skip_special_tokens)
    }

    /// Refuses options that the model cannot serve.
    fn check(&self, options: &EncodeOptions) -> Result<()> {
        let model = self.model();
        for (asked, id, option, token) in [
            (options.add_bos, model.bos_id, "add_bos", "beginning-of-sequence"),
            (options.add_eos, model.eos_id, "add_eos", "end-of-sequence"),
        ] {
            if asked && id.is_none() {
                return Err(Error::unsupported(option, format!("the model has no {token} token")));
            }
        }
        Ok(())
    }

    fn encode_with(
        &self,
        worker: &mut Worker,
        text: Text<'_>,
        options: &EncodeOptions,
        ids: &mut Vec<TokenId>,
    ) -> Result<()> {
        self.check(options)?;
        let engine = &self.inner.engine;
        let model = self.model();
        if options.add_bos {
            ids.extend(model.bos_id);
        }
        if options.parse_special {
            let special = match self.inner.special.get() {
                Some(special) => special,
                None => {
                    let special = SpecialMatcher::new(model)?;
                    self.inner.special.get_or_init(|| special)
                }
            };
            for part in special.split(text.as_bytes()) {
                match part {
                    SpecialPart::Text(text) => engine.encode(worker, text, ids)?,
                    SpecialPart::Special(id) => ids.push(id),
                }
            }
        } else {
            engine.encode(worker, text, ids)?;
        }
        if options.add_eos {
            ids.extend(model.eos_id);
        }
        Ok(())
    }

    fn count_with(&self, worker: &mut Worker, text: &[u8], options: &EncodeOptions) -> Result<usize> {
        let mut ids = std::mem::take(&mut worker.ids);
        ids.clear();
        let result = self.encode_with(worker, Text::Bytes(text), options, &mut ids);
        let count = ids.len();
        worker.ids = ids;
        result.map(|()| count)
    }
}

#[cfg(test)]
mod tests;
