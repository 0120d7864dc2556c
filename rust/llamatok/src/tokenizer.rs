//! The tokenizer: conducts the pipeline from text to ids and back.

use std::path::Path;

use crate::batch::{TextBatch, TokenBatch};
use crate::decode::StreamDecoder;
use crate::{Model, Result, TokenId};

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

/// A tokenizer. Immutable and shareable among threads; clones share everything.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    model: std::sync::Arc<Model>,
}

impl Tokenizer {
    /// Makes a model run. `cache_bytes` bounds the word caches (`None`: 64 MB for the whole process;
    /// 0: no cache).
    ///
    /// # Errors
    /// [`ErrorKind::ModelFormat`](crate::ErrorKind::ModelFormat) where the normalizer's rules are damaged.
    pub fn new(model: Model, cache_bytes: Option<usize>) -> Result<Self> {
        let _ = cache_bytes;
        Ok(Self { model: std::sync::Arc::new(model) })
    }

    /// Reads a `tokenizer.model` or a GGUF file.
    ///
    /// # Errors
    /// As [`crate::load::from_file`] and [`Tokenizer::new`].
    pub fn from_file(path: impl AsRef<Path>, cache_bytes: Option<usize>) -> Result<Self> {
        Self::new(crate::load::from_file(path)?, cache_bytes)
    }

    /// Reads a model from memory.
    ///
    /// # Errors
    /// As [`crate::load::from_bytes`] and [`Tokenizer::new`].
    pub fn from_bytes(data: &[u8], cache_bytes: Option<usize>) -> Result<Self> {
        Self::new(crate::load::from_bytes(data)?, cache_bytes)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The state of the caches.
    pub fn cache_info(&self) -> CacheInfo {
        CacheInfo::default()
    }

    /// The ids of a text (UTF-8; each byte that begins no valid sequence counts as U+FFFD), appended
    /// to `ids`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where `options` asks for a token that
    /// the model has not.
    pub fn encode_into(&self, text: &[u8], options: &EncodeOptions, ids: &mut Vec<TokenId>) -> Result<()> {
        let _ = (text, options, ids);
        todo!()
    }

    /// The number of ids that [`Tokenizer::encode_into`] would append.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_into`].
    pub fn count(&self, text: &[u8], options: &EncodeOptions) -> Result<usize> {
        let _ = (text, options);
        todo!()
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
        let _ = (texts, options, num_threads);
        todo!()
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
        let _ = (texts, options, num_threads);
        todo!()
    }

    /// The text of ids, as SentencePiece's `DecodeIds`. With `skip_special_tokens`, control and
    /// unknown ids are left out first.
    ///
    /// # Errors
    /// [`ErrorKind::IdOutOfRange`](crate::ErrorKind::IdOutOfRange).
    pub fn decode(&self, ids: &[TokenId], skip_special_tokens: bool) -> Result<String> {
        let _ = (ids, skip_special_tokens);
        todo!()
    }

    /// The bytes of ids: as [`Tokenizer::decode`], but byte pieces give their bytes as they are.
    ///
    /// # Errors
    /// [`ErrorKind::IdOutOfRange`](crate::ErrorKind::IdOutOfRange).
    pub fn decode_bytes(&self, ids: &[TokenId], skip_special_tokens: bool) -> Result<Vec<u8>> {
        let _ = (ids, skip_special_tokens);
        todo!()
    }

    /// The texts of several lists of ids: `ids[offsets[i]..offsets[i + 1]]` is list `i`.
    ///
    /// # Errors
    /// [`ErrorKind::IdOutOfRange`](crate::ErrorKind::IdOutOfRange).
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
        let _ = (ids, offsets, skip_special_tokens, num_threads);
        todo!()
    }

    /// A decoder for ids that arrive one after the other.
    pub fn stream_decoder(&self, skip_special_tokens: bool) -> StreamDecoder {
        let _ = skip_special_tokens;
        StreamDecoder
    }
}
