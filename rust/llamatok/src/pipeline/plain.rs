//! A `tokenizer.json` with the methods of [`Tokenizer`](crate::Tokenizer).

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::json_decode::JsonDecoder;
use super::stream::JsonStreamDecoder;
use super::{DecodeOptions, Pipeline, PipelineOptions, Rules, Sequences};
use crate::batch::{TextBatch, TokenBatch};
use crate::normalize::to_valid_utf8;
use crate::post_process::{TemplateItem, Templates};
use crate::tokenizer::{CacheInfo, EncodeOptions, Text};
use crate::vocabulary::{parse_byte_piece, PieceKind, TokenId};
use crate::{Error, Result};

/// The tokenizer of a `tokenizer.json`, with the methods and the defaults of
/// [`Tokenizer`](crate::Tokenizer): ids and texts are those of the HF tokenizers library for the file, and
/// nothing is added to them or parsed that is not asked for. Immutable and shareable among threads; clones
/// share everything.
///
/// A `tokenizer.json` does not name its tokens. The beginning-of-sequence token is the one that the file's
/// template puts before a text, or else the special added token `<s>`; the end-of-sequence token the one
/// that it puts behind, or else `</s>`; the padding token that of the section `padding`, or else `<pad>`.
#[derive(Debug, Clone)]
pub struct JsonTokenizer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// One for each choice of `add_bos` (1) and `add_eos` (2).
    pipelines: [Pipeline; 4],
    file: Pipeline,
    serialized: Vec<u8>,
    bos_id: Option<TokenId>,
    eos_id: Option<TokenId>,
    pad_id: Option<TokenId>,
    size: usize,
}

impl JsonTokenizer {
    /// Reads a `tokenizer.json` from memory. `cache_bytes` bounds the word caches (`None`: 64 MB for the
    /// whole process; 0: no cache).
    ///
    /// # Errors
    /// As [`Pipeline::from_tokenizer_json`].
    pub fn from_bytes(data: Vec<u8>, cache_bytes: Option<usize>) -> Result<Self> {
        let file = Pipeline::from_tokenizer_json(&data, cache_bytes)?;
        let special = |content: &str| {
            file.added.by_content(content).filter(|token| token.special).map(|token| token.id)
        };
        let of_template = |item: Option<&TemplateItem>| match item {
            Some(TemplateItem::Token { id, .. }) => Some(*id),
            _ => None,
        };
        let template = file.templates.single();
        let bos_id = of_template(template.first()).or_else(|| special("<s>"));
        let eos_id = of_template(template.last()).or_else(|| special("</s>"));
        let pad_id = file.padding().map(|padding| padding.pad_id).or_else(|| special("<pad>"));
        let around = |choice: usize| {
            let token = |id: Option<TokenId>, bit: usize| {
                let id = id.filter(|_| choice & bit != 0)?;
                let token = file.id_to_token(id).unwrap_or_default().to_owned();
                Some(TemplateItem::Token { token, id, type_id: 0 })
            };
            let text = TemplateItem::Sequence { sequence: 0, type_id: 0 };
            let single = token(bos_id, 1).into_iter().chain([text]).chain(token(eos_id, 2)).collect();
            let pair = Templates::default().pair().to_vec();
            Ok(file.with_templates(Templates::new(single, pair)?))
        };
        let pipelines = [around(0)?, around(1)?, around(2)?, around(3)?];
        let size = file.id_limit();
        let inner = Inner { pipelines, file, serialized: data, bos_id, eos_id, pad_id, size };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes), and [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub fn from_file(path: impl AsRef<Path>, cache_bytes: Option<usize>) -> Result<Self> {
        let name = path.as_ref().display().to_string();
        let data = std::fs::read(path).map_err(|error| Error::io(&name, error))?;
        Self::from_bytes(data, cache_bytes).map_err(|error| error.in_source(name))
    }

    /// The file's pipeline, with its own templates.
    pub fn pipeline(&self) -> &Pipeline {
        &self.inner.file
    }

    /// The bytes of the file.
    pub fn serialized(&self) -> &[u8] {
        &self.inner.serialized
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.inner.size
    }

    /// The id of the beginning-of-sequence token, if there is one.
    pub fn bos_id(&self) -> Option<TokenId> {
        self.inner.bos_id
    }

    /// The id of the end-of-sequence token, if there is one.
    pub fn eos_id(&self) -> Option<TokenId> {
        self.inner.eos_id
    }

    /// The id of the padding token, if there is one.
    pub fn pad_id(&self) -> Option<TokenId> {
        self.inner.pad_id
    }

    /// The id of the model's unknown token, if there is one.
    pub fn unk_id(&self) -> Option<TokenId> {
        self.pipeline().unk_token().and_then(|token| self.pipeline().token_to_id(token))
    }

    /// The kind of an id, named as in a SentencePiece model: `UNKNOWN` for the model's unknown token,
    /// `CONTROL` for special added tokens, `USER_DEFINED` for other added ones, `BYTE` for the bytes that
    /// the model falls back to, `UNUSED` for an id that no token has.
    pub fn kind(&self, id: TokenId) -> PieceKind {
        let pipeline = self.pipeline();
        let Some(token) = pipeline.id_to_token(id) else { return PieceKind::Unused };
        if pipeline.unk_token() == Some(token) {
            return PieceKind::Unknown;
        }
        match pipeline.added.by_id(id) {
            Some(added) if added.special => PieceKind::Control,
            Some(_) => PieceKind::UserDefined,
            None if self.has_byte_fallback() && parse_byte_piece(token).is_some() => PieceKind::Byte,
            None => PieceKind::Normal,
        }
    }

    /// Whether the model falls back to bytes.
    pub fn has_byte_fallback(&self) -> bool {
        match &self.pipeline().rules {
            Rules::TokenizerJson { rules, .. } => rules.model().byte_fallback,
            Rules::SentencePiece { .. } => false,
        }
    }

    /// The state of the word caches.
    pub fn cache_info(&self) -> CacheInfo {
        match &self.pipeline().rules {
            Rules::TokenizerJson { rules, .. } => rules.components.cache_info(),
            Rules::SentencePiece { tokenizer, .. } => tokenizer.cache_info(),
        }
    }

    fn with(&self, options: &EncodeOptions) -> Result<(&Pipeline, PipelineOptions)> {
        for (asked, id, option, token) in [
            (options.add_bos, self.inner.bos_id, "add_bos", "beginning-of-sequence"),
            (options.add_eos, self.inner.eos_id, "add_eos", "end-of-sequence"),
        ] {
            if asked && id.is_none() {
                return Err(Error::unsupported(option, format!("the tokenizer.json has no {token} token")));
            }
        }
        let choice = usize::from(options.add_bos) | usize::from(options.add_eos) << 1;
        let options =
            PipelineOptions { split_special_tokens: !options.parse_special, ..PipelineOptions::default() };
        Ok((&self.inner.pipelines[choice], options))
    }

    /// The ids of a text (UTF-8; each byte that begins no valid sequence counts as U+FFFD), appended to
    /// `ids`. Added tokens that are not special are found in it whatever `parse_special` says, as in the
    /// library.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where `options` asks for a token that there
    /// is not.
    pub fn encode_into(&self, text: &[u8], options: &EncodeOptions, ids: &mut Vec<TokenId>) -> Result<()> {
        let (pipeline, options) = self.with(options)?;
        pipeline.encode_into(&to_valid_utf8(text), None, &options, ids)
    }

    /// The number of ids that [`encode_into`](Self::encode_into) would append.
    ///
    /// # Errors
    /// As [`encode_into`](Self::encode_into).
    pub fn count(&self, text: &[u8], options: &EncodeOptions) -> Result<usize> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 8);
        self.encode_into(text, options, &mut ids)?;
        Ok(ids.len())
    }

    /// The ids of several texts, on `num_threads` threads (`None`: as many as there are cores).
    ///
    /// # Errors
    /// As [`encode_into`](Self::encode_into).
    pub fn encode_batch<T: AsRef<[u8]>>(
        &self,
        texts: &[T],
        options: &EncodeOptions,
        num_threads: Option<usize>,
    ) -> Result<TokenBatch> {
        let texts: Vec<_> = texts.iter().map(|text| to_valid_utf8(text.as_ref())).collect();
        self.encode_strs(&texts, options, num_threads)
    }

    /// As [`encode_batch`](Self::encode_batch), of texts that this thread gets hold of one after the other.
    /// `finish` is given the rest of the work when all texts are there, and must call it.
    ///
    /// # Errors
    /// The error of the first text that is one, and within the result, as
    /// [`encode_into`](Self::encode_into).
    pub fn encode_batch_from<'a, E>(
        &self,
        texts: impl IntoIterator<Item = std::result::Result<Text<'a>, E>>,
        options: &EncodeOptions,
        num_threads: Option<usize>,
        finish: impl FnOnce(&mut (dyn FnMut() + Send)),
    ) -> std::result::Result<Result<TokenBatch>, E> {
        let valid = |text| match text {
            Text::Str(text) => Cow::Borrowed(text),
            Text::Bytes(text) => to_valid_utf8(text),
        };
        let texts =
            texts.into_iter().map(|text| text.map(valid)).collect::<std::result::Result<Vec<_>, E>>()?;
        let mut batch = Ok(TokenBatch::default());
        finish(&mut || batch = self.encode_strs(&texts, options, num_threads));
        Ok(batch)
    }

    fn encode_strs(
        &self,
        texts: &[Cow<'_, str>],
        options: &EncodeOptions,
        num_threads: Option<usize>,
    ) -> Result<TokenBatch> {
        let (pipeline, options) = self.with(options)?;
        let parts: Vec<&str> = texts.iter().map(|text| &**text).collect();
        let sequences = Sequences { parts: &parts, ends: None };
        let batch = pipeline.encode_batch(sequences, None, &options, num_threads)?;
        Ok(TokenBatch { ids: batch.ids, offsets: batch.row_offsets })
    }

    /// The number of ids of each of several texts.
    ///
    /// # Errors
    /// As [`encode_into`](Self::encode_into).
    pub fn count_batch<T: AsRef<[u8]>>(
        &self,
        texts: &[T],
        options: &EncodeOptions,
        num_threads: Option<usize>,
    ) -> Result<Vec<i64>> {
        let batch = self.encode_batch(texts, options, num_threads)?;
        Ok(batch.offsets.windows(2).map(|ends| ends[1] - ends[0]).collect())
    }

    fn check_ids(&self, ids: &[TokenId]) -> Result<()> {
        match ids.iter().position(|&id| id as usize >= self.inner.size) {
            Some(index) => Err(Error::id_out_of_range(ids[index].into(), index, self.inner.size)),
            None => Ok(()),
        }
    }

    /// The text of ids, as the library decodes them by the decoder of the file. With `skip_special_tokens`,
    /// special added tokens are left out first. An id below [`vocab_size`](Self::vocab_size) that no token
    /// has gives nothing.
    ///
    /// # Errors
    /// [`ErrorKind::IdOutOfRange`](crate::ErrorKind::IdOutOfRange).
    pub fn decode(&self, ids: &[TokenId], skip_special_tokens: bool) -> Result<String> {
        self.check_ids(ids)?;
        let mut text = String::new();
        let options = DecodeOptions { skip_special_tokens, ..DecodeOptions::default() };
        self.pipeline().decode(ids, &options, &mut text)?;
        Ok(text)
    }

    /// The bytes of ids: as [`decode`](Self::decode), but byte tokens give their bytes as they are.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a file
    /// whose decoder is not that of Llama's files.
    pub fn decode_bytes(&self, ids: &[TokenId], skip_special_tokens: bool) -> Result<Vec<u8>> {
        self.check_ids(ids)?;
        let mut bytes = Vec::new();
        self.table("decode_bytes")?.decode_bytes(ids, skip_special_tokens, &mut bytes);
        Ok(bytes)
    }

    /// The texts (valid UTF-8) of several lists of ids: `ids[offsets[i]..offsets[i + 1]]` is list `i`.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), with the index within `ids`.
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
        self.check_ids(ids)?;
        let options = DecodeOptions { skip_special_tokens, ..DecodeOptions::default() };
        self.pipeline().decode_batch(ids, offsets, &options, num_threads)
    }

    /// A decoder for ids that arrive one after the other.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a file whose decoder is not that of
    /// Llama's files.
    pub fn stream_decoder(&self, skip_special_tokens: bool) -> Result<JsonStreamDecoder> {
        self.table("stream_decoder")?;
        Ok(JsonStreamDecoder::new(self.pipeline().clone(), self.inner.size, skip_special_tokens))
    }

    /// The decoder, if it is one that goes by a table.
    fn table(&self, method: &str) -> Result<&JsonDecoder> {
        let decoder = self.pipeline().json_decoder().filter(|decoder| decoder.is_table());
        decoder.ok_or_else(|| {
            Error::unsupported(
                method,
                "the section `decoder` of this tokenizer.json is not that of Llama's files \
                 (Replace, ByteFallback, Fuse, Strip)\nhint: `decode` takes all ids at once",
            )
        })
    }
}
