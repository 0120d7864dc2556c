//! `Pipeline`: the rules of Hugging Face's Llama tokenizers, with Python's types.

use std::sync::Arc;

use llamatok::components::{Truncation, TruncationStrategy};
use llamatok::pipeline::{DecodeOptions, PipelineOptions, Sequences, SlowSettings};
use llamatok::post_process::TemplateItem;
use llamatok::TokenId;
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use pyo3::IntoPyObjectExt;

use crate::arguments::{
    added_token, side, side_name, size, strategy, template_tuple, templates, text, AddedTokenTuple,
    TemplateTuple,
};
use crate::encoding_batch::EncodingBatch;
use crate::error::{call_error, load_error};
use crate::ids::{extract_ids, extract_ragged, IdSource};
use crate::interrupt::{detached, Signals};
use crate::ints::Ints;
use crate::texts::{str_texts, StrTexts};
use crate::tokenizer::{byte_count, thread_count, Core, Tokenizer, DETACH_IDS, DETACH_TEXT_BYTES};
use crate::utf8::Utf8;

/// Text to ids and back by the rules of Hugging Face's Llama tokenizers. Immutable; any number of
/// threads may use it at once.
#[pyclass(frozen, module = "llamatok._core")]
pub struct Pipeline {
    pipeline: llamatok::Pipeline,
    cache_bytes: Option<usize>,
    ints: Arc<Ints>,
}

impl Pipeline {
    fn new(pipeline: llamatok::Pipeline, cache_bytes: Option<usize>) -> Self {
        let ints = Arc::new(Ints::new(pipeline.id_limit()));
        Self { pipeline, cache_bytes, ints }
    }

    fn with(&self, pipeline: llamatok::Pipeline) -> Self {
        if pipeline.id_limit() > self.ints.len() {
            return Self::new(pipeline, self.cache_bytes);
        }
        Self { pipeline, cache_bytes: self.cache_bytes, ints: self.ints.clone() }
    }
}

#[pymethods]
impl Pipeline {
    /// The rules of the SentencePiece-backed class over a tokenizer's model; of a tokenizer made from a
    /// `tokenizer.json` the file's pipeline, whatever the settings.
    #[staticmethod]
    #[pyo3(signature = (tokenizer, *, legacy=true, add_prefix_space=true))]
    fn from_tokenizer(
        tokenizer: &Bound<'_, Tokenizer>,
        legacy: bool,
        add_prefix_space: bool,
    ) -> PyResult<Self> {
        let (core, cache_bytes) = tokenizer.get().parts();
        let settings = SlowSettings { legacy, add_prefix_space };
        let pipeline = match core {
            Core::Model(core) => llamatok::Pipeline::from_tokenizer(core.clone(), settings),
            Core::Json(core) => Ok(core.pipeline().clone()),
        };
        Ok(Self::new(pipeline.map_err(|error| call_error(&error))?, cache_bytes))
    }

    /// Reads a `tokenizer.json` from memory; added tokens and templates are those of the file.
    #[staticmethod]
    #[pyo3(signature = (data, *, cache_bytes=None))]
    fn from_tokenizer_json(data: &Bound<'_, PyAny>, cache_bytes: Option<i64>) -> PyResult<Self> {
        let py = data.py();
        let Ok(data) = data.cast::<PyBytes>() else {
            return Err(PyTypeError::new_err(format!("data must be bytes, not {}", data.get_type().name()?)));
        };
        let (bytes, cache_bytes) = (data.as_bytes(), byte_count(cache_bytes)?);
        let pipeline = py.detach(|| llamatok::Pipeline::from_tokenizer_json(bytes, cache_bytes));
        Ok(Self::new(pipeline.map_err(|error| load_error(py, &error, None))?, cache_bytes))
    }

    /// The pipeline as a `tokenizer.json`.
    fn to_json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let json = py.detach(|| self.pipeline.to_tokenizer_json());
        Ok(PyBytes::new(py, &json.map_err(|error| call_error(&error))?))
    }

    /// Whose rules are followed: "sentencepiece" or "tokenizer_json".
    #[getter]
    fn mode(&self) -> &'static str {
        if self.pipeline.settings().is_some() {
            "sentencepiece"
        } else {
            "tokenizer_json"
        }
    }

    /// Whether every chunk of text gets a prefix space.
    #[getter]
    fn legacy(&self) -> bool {
        self.pipeline.settings().is_some_and(|settings| settings.legacy)
    }

    /// Whether the text gets a prefix space.
    #[getter]
    fn add_prefix_space(&self) -> bool {
        self.pipeline.settings().is_some_and(|settings| settings.add_prefix_space)
    }

    /// The same with these added tokens, instead of those before.
    fn with_added_tokens(&self, tokens: &Bound<'_, PyAny>) -> PyResult<Self> {
        let tokens = tokens.try_iter()?.map(|token| Ok(added_token(token?.extract()?)));
        let tokens = tokens.collect::<PyResult<Vec<_>>>()?;
        let pipeline = self.pipeline.with_added_tokens(tokens).map_err(|error| call_error(&error))?;
        Ok(self.with(pipeline))
    }

    /// The same with these for the ids of `all_special_tokens` and of `additional_special_tokens`.
    #[pyo3(signature = (special_ids, additional_special_ids=None))]
    fn with_special_ids(
        &self,
        special_ids: &Bound<'_, PyAny>,
        additional_special_ids: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let source = IdSource { row: None, vocab_size: None };
        let special = extract_ids(special_ids, &source)?;
        let additional = additional_special_ids.map(|ids| extract_ids(ids, &source)).transpose()?;
        Ok(self.with(self.pipeline.with_special_ids(special, additional.unwrap_or_default())))
    }

    /// The same with these templates for one sequence and for two.
    fn with_template(&self, single: &Bound<'_, PyAny>, pair: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(self.with(self.pipeline.with_templates(templates(single, pair)?)))
    }

    /// The same with these settings changed; "sentencepiece" only.
    #[pyo3(signature = (*, legacy=None, add_prefix_space=None))]
    fn with_settings(&self, legacy: Option<bool>, add_prefix_space: Option<bool>) -> PyResult<Self> {
        let changed = self.pipeline.settings().and_then(|settings| {
            self.pipeline.with_settings(SlowSettings {
                legacy: legacy.unwrap_or(settings.legacy),
                add_prefix_space: add_prefix_space.unwrap_or(settings.add_prefix_space),
            })
        });
        changed.map(|pipeline| self.with(pipeline)).ok_or_else(|| {
            PyValueError::new_err("a pipeline of a tokenizer.json has the settings of its file")
        })
    }

    /// The added tokens, by id.
    #[getter]
    fn added_tokens(&self) -> Vec<AddedTokenTuple> {
        let mut tokens: Vec<AddedTokenTuple> = self
            .pipeline
            .added_tokens()
            .iter()
            .map(|t| (t.id, t.content.clone(), t.single_word, t.lstrip, t.rstrip, t.normalized, t.special))
            .collect();
        tokens.sort_unstable_by_key(|token| token.0);
        tokens
    }

    /// The templates for one sequence and for two.
    #[getter]
    fn template(&self) -> (Vec<TemplateTuple>, Vec<TemplateTuple>) {
        let templates = self.pipeline.templates();
        let tuples = |items: &[TemplateItem]| items.iter().map(template_tuple).collect();
        (tuples(templates.single()), tuples(templates.pair()))
    }

    /// The section `truncation` of the `tokenizer.json`.
    #[getter]
    fn truncation<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(truncation) = self.pipeline.truncation() else { return Ok(None) };
        let dict = PyDict::new(py);
        let strategy = match truncation.strategy {
            TruncationStrategy::LongestFirst => "longest_first",
            TruncationStrategy::OnlyFirst => "only_first",
            TruncationStrategy::OnlySecond => "only_second",
        };
        dict.set_item("direction", side_name(truncation.direction))?;
        dict.set_item("max_length", truncation.max_length)?;
        dict.set_item("strategy", strategy)?;
        dict.set_item("stride", truncation.stride)?;
        Ok(Some(dict))
    }

    /// The section `padding` of the `tokenizer.json`; `length` is None for that of the longest row.
    #[getter]
    fn padding<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(padding) = self.pipeline.padding() else { return Ok(None) };
        let dict = PyDict::new(py);
        let length = match padding.strategy {
            llamatok::components::PaddingStrategy::BatchLongest => None,
            llamatok::components::PaddingStrategy::Fixed(length) => Some(length),
        };
        dict.set_item("length", length)?;
        dict.set_item("direction", side_name(padding.direction))?;
        dict.set_item("pad_to_multiple_of", padding.pad_to_multiple_of)?;
        dict.set_item("pad_id", padding.pad_id)?;
        dict.set_item("pad_type_id", padding.pad_type_id)?;
        dict.set_item("pad_token", &padding.pad_token)?;
        Ok(Some(dict))
    }

    /// The model's unknown token.
    #[getter]
    fn unk_token(&self) -> Option<&str> {
        self.pipeline.unk_token()
    }

    /// How many tokens the template adds.
    #[pyo3(signature = (pair=false))]
    fn num_special_tokens(&self, pair: bool) -> usize {
        self.pipeline.templates().num_special_tokens(pair)
    }

    /// The number of tokens.
    #[pyo3(signature = (with_added=true))]
    fn vocab_size(&self, with_added: bool) -> usize {
        if with_added {
            self.pipeline.vocab_size()
        } else {
            self.pipeline.base_vocab_size()
        }
    }

    /// The ids of all tokens.
    #[pyo3(signature = (with_added=true))]
    fn vocab<'py>(&self, py: Python<'py>, with_added: bool) -> PyResult<Bound<'py, PyDict>> {
        let vocab = PyDict::new(py);
        for (token, id) in self.pipeline.base_tokens() {
            vocab.set_item(token, self.ints.get(py, id))?;
        }
        if with_added {
            for token in self.pipeline.added_tokens() {
                vocab.set_item(&token.content, self.ints.get(py, token.id))?;
            }
        }
        Ok(vocab)
    }

    /// The id of a token.
    fn token_to_id(&self, token: &str) -> Option<TokenId> {
        self.pipeline.token_to_id(token)
    }

    /// The token of an id.
    fn id_to_token(&self, id: &Bound<'_, PyAny>) -> PyResult<Option<&str>> {
        match id.extract::<TokenId>() {
            Ok(id) => Ok(self.pipeline.id_to_token(id)),
            Err(error) if error.is_instance_of::<PyTypeError>(id.py()) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The ids of tokens, `default` for those that there are not.
    #[pyo3(signature = (tokens, default=None))]
    fn tokens_to_ids(&self, tokens: &Bound<'_, PyAny>, default: Option<i64>) -> PyResult<Vec<Option<i64>>> {
        let utf8 = Utf8::default();
        let tokens = tokens.try_iter()?.map(|token| {
            let token = token?;
            Ok(self.pipeline.token_to_id(text("token", &token, &utf8)?).map(i64::from).or(default))
        });
        tokens.collect()
    }

    /// The tokens of ids. Ids that there are not: IndexError ("sentencepiece"), or left out
    /// ("tokenizer_json").
    #[pyo3(signature = (ids, *, skip_special_tokens=false))]
    fn ids_to_tokens(&self, ids: &Bound<'_, PyAny>, skip_special_tokens: bool) -> PyResult<Vec<&str>> {
        let ids = extract_ids(ids, &IdSource { row: None, vocab_size: None })?;
        let mut tokens = Vec::with_capacity(ids.len());
        for (index, id) in ids.into_iter().enumerate() {
            if skip_special_tokens && self.pipeline.is_special(id) {
                continue;
            }
            match self.pipeline.id_to_token(id) {
                Some(token) => tokens.push(token),
                None if self.pipeline.settings().is_some() => {
                    return Err(PyIndexError::new_err(format!("id {id} at index {index} is out of range")));
                }
                None => {}
            }
        }
        Ok(tokens)
    }

    /// Encodes several texts, or pairs of texts.
    #[pyo3(signature = (
        texts, pairs=None, *, add_special_tokens=true, split_special_tokens=false, is_split_into_words=false,
        truncation=None, max_length=None, stride=0, truncation_side="right", overflow=false, offsets=false,
        dropout=None, seed=None, num_threads=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn encode_batch(
        &self,
        py: Python<'_>,
        texts: &Bound<'_, PyAny>,
        pairs: Option<&Bound<'_, PyAny>>,
        add_special_tokens: bool,
        split_special_tokens: bool,
        is_split_into_words: bool,
        truncation: Option<&str>,
        max_length: Option<i64>,
        stride: i64,
        truncation_side: &str,
        overflow: bool,
        offsets: bool,
        dropout: Option<f64>,
        seed: Option<u64>,
        num_threads: Option<i64>,
    ) -> PyResult<EncodingBatch> {
        let truncation = match (truncation, max_length) {
            (Some(name), Some(max_length)) => Some(Truncation {
                direction: side("truncation_side", truncation_side)?,
                max_length: size("max_length", max_length)?,
                strategy: strategy(name)?,
                stride: size("stride", stride)?,
            }),
            (Some(_), None) => return Err(PyValueError::new_err("truncation needs max_length")),
            (None, _) => None,
        };
        let options = PipelineOptions {
            add_special_tokens,
            split_special_tokens,
            details: offsets,
            truncation,
            overflow,
            dropout,
            seed,
        };
        let num_threads = thread_count(num_threads)?;
        let texts = StrTexts::extract("texts", texts, is_split_into_words)?;
        let pairs = pairs.map(|pairs| StrTexts::extract("pairs", pairs, is_split_into_words)).transpose()?;
        let utf8 = Utf8::default();
        let text_parts = texts.slices("texts", &utf8)?;
        let pair_parts = pairs.as_ref().map(|pairs| pairs.slices("pairs", &utf8)).transpose()?;
        let first = Sequences { parts: &text_parts, ends: texts.ends() };
        let second = match (&pairs, &pair_parts) {
            (Some(pairs), Some(parts)) => Some(Sequences { parts, ends: pairs.ends() }),
            _ => None,
        };
        let bytes: usize = text_parts.iter().map(|text| text.len()).sum();
        let encode = || self.pipeline.encode_batch(first, second, &options, num_threads);
        let batch =
            if bytes < DETACH_TEXT_BYTES && pairs.is_none() { encode() } else { detached(py, encode)? };
        let batch = batch.map_err(|error| call_error(&error))?;
        Ok(EncodingBatch::new(batch, self.pipeline.clone(), self.ints.clone()))
    }

    /// The ids of one text or one pair, whole: the shortest way.
    #[pyo3(signature = (text, pair=None, *, add_special_tokens=true, split_special_tokens=false))]
    fn encode<'py>(
        &self,
        text: &Bound<'py, PyAny>,
        pair: Option<&Bound<'py, PyAny>>,
        add_special_tokens: bool,
        split_special_tokens: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let py = text.py();
        let utf8 = Utf8::default();
        let text = self::text("text", text, &utf8)?;
        let pair = pair.map(|pair| self::text("pair", pair, &utf8)).transpose()?;
        let options =
            PipelineOptions { add_special_tokens, split_special_tokens, ..PipelineOptions::default() };
        let encode = || {
            let mut ids = Vec::with_capacity(text.len() / 3 + 8);
            self.pipeline.encode_into(text, pair, &options, &mut ids).map(|()| ids)
        };
        let bytes = text.len() + pair.map_or(0, str::len);
        let ids = if bytes < DETACH_TEXT_BYTES { encode() } else { detached(py, encode)? };
        self.ints.list(py, &ids.map_err(|error| call_error(&error))?)
    }

    /// The tokens of one text or one pair.
    #[pyo3(signature = (
        text, pair=None, *, add_special_tokens=false, split_special_tokens=false, dropout=None, seed=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn tokenize<'py>(
        &self,
        text: &Bound<'py, PyAny>,
        pair: Option<&Bound<'py, PyAny>>,
        add_special_tokens: bool,
        split_special_tokens: bool,
        dropout: Option<f64>,
        seed: Option<u64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let py = text.py();
        let utf8 = Utf8::default();
        let text = [self::text("text", text, &utf8)?];
        let pair = pair.map(|pair| self::text("pair", pair, &utf8)).transpose()?.map(|pair| [pair]);
        let options = PipelineOptions {
            add_special_tokens,
            split_special_tokens,
            dropout,
            seed,
            ..PipelineOptions::default()
        };
        let pair = pair.as_ref().map(|pair| Sequences { parts: &pair[..], ends: None });
        let text = Sequences { parts: &text[..], ends: None };
        let batch = detached(py, || self.pipeline.encode_batch(text, pair, &options, Some(1)))?;
        let batch = batch.map_err(|error| call_error(&error))?;
        EncodingBatch::new(batch, self.pipeline.clone(), self.ints.clone()).row_tokens(py, 0)
    }

    /// The text of ids.
    #[pyo3(signature = (
        ids, *, skip_special_tokens=false, spaces_between_special_tokens=true, clean_up_tokenization_spaces=false
    ))]
    fn decode(
        &self,
        ids: &Bound<'_, PyAny>,
        skip_special_tokens: bool,
        spaces_between_special_tokens: bool,
        clean_up_tokenization_spaces: bool,
    ) -> PyResult<String> {
        let options = DecodeOptions {
            skip_special_tokens,
            spaces_between_special_tokens,
            clean_up_tokenization_spaces,
        };
        let py = ids.py();
        let ids = extract_ids(ids, &IdSource { row: None, vocab_size: None })?;
        let decode = || {
            let mut text = String::new();
            self.pipeline.decode(&ids, &options, &mut text).map(|()| text)
        };
        let text = if ids.len() < DETACH_IDS { decode() } else { detached(py, decode)? };
        text.map_err(|error| call_error(&error))
    }

    /// The texts of several lists of ids.
    #[pyo3(signature = (
        ids, *, skip_special_tokens=false, spaces_between_special_tokens=true,
        clean_up_tokenization_spaces=false, num_threads=None
    ))]
    fn decode_batch<'py>(
        &self,
        ids: &Bound<'py, PyAny>,
        skip_special_tokens: bool,
        spaces_between_special_tokens: bool,
        clean_up_tokenization_spaces: bool,
        num_threads: Option<i64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let options = DecodeOptions {
            skip_special_tokens,
            spaces_between_special_tokens,
            clean_up_tokenization_spaces,
        };
        let (py, num_threads) = (ids.py(), thread_count(num_threads)?);
        let lists = extract_ragged(ids, self.pipeline.vocab_size())?;
        let texts = detached(py, || {
            self.pipeline.decode_batch(&lists.values, &lists.offsets, &options, num_threads)
        })?;
        let texts = texts.map_err(|error| call_error(&error))?;
        let mut signals = Signals::default();
        let rows = texts.offsets.windows(2).map(|ends| {
            let row = &texts.bytes[ends[0] as usize..ends[1] as usize];
            signals.after(py, row.len() / 8 + 1)?;
            Ok(PyString::new(py, &String::from_utf8_lossy(row)))
        });
        PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)
    }

    /// The text of tokens; "" for none.
    fn tokens_to_string(&self, tokens: &Bound<'_, PyAny>) -> PyResult<String> {
        let owners = str_texts("tokens", tokens)?;
        let tokens = owners.iter().map(|token| token.to_str()).collect::<PyResult<Vec<_>>>()?;
        self.pipeline.tokens_to_string(&tokens).map_err(|error| call_error(&error))
    }

    fn __repr__(&self) -> String {
        format!("Pipeline(mode={:?}, vocab_size={})", self.mode(), self.pipeline.vocab_size())
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    /// Pickles carry the bytes of the model and what was set after; the tables are built anew.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let data = match this.pipeline.tokenizer() {
            Some(tokenizer) => PyBytes::new(py, &tokenizer.model().serialized),
            None => this.to_json(py)?,
        };
        let [special, additional] = this.pipeline.special_ids();
        let state = (
            data,
            this.cache_bytes,
            this.pipeline.settings().map(|settings| (settings.legacy, settings.add_prefix_space)),
            this.added_tokens(),
            this.template(),
            (special, additional),
        );
        let rebuild = py.get_type::<Self>().getattr("_rebuild")?;
        (rebuild, state).into_bound_py_any(py)
    }

    /// Makes what `__reduce__` took apart.
    #[staticmethod]
    #[pyo3(signature = (data, cache_bytes, settings, added_tokens, template, special_ids))]
    fn _rebuild(
        data: &Bound<'_, PyBytes>,
        cache_bytes: Option<i64>,
        settings: Option<(bool, bool)>,
        added_tokens: Vec<AddedTokenTuple>,
        template: &Bound<'_, PyTuple>,
        special_ids: (Vec<TokenId>, Vec<TokenId>),
    ) -> PyResult<Self> {
        let (py, cache_bytes) = (data.py(), byte_count(cache_bytes)?);
        let bytes = data.as_bytes();
        let templates = templates(&template.get_item(0)?, &template.get_item(1)?)?;
        let added = added_tokens.into_iter().map(added_token).collect();
        let pipeline = py.detach(|| {
            let pipeline = match settings {
                Some((legacy, add_prefix_space)) => {
                    let tokenizer = llamatok::Tokenizer::from_bytes(bytes, cache_bytes)?;
                    llamatok::Pipeline::from_tokenizer(tokenizer, SlowSettings { legacy, add_prefix_space })?
                }
                None => llamatok::Pipeline::from_tokenizer_json(bytes, cache_bytes)?,
            };
            pipeline.with_added_tokens(added)
        });
        let pipeline = pipeline.map_err(|error| load_error(py, &error, None))?;
        let pipeline = pipeline.with_templates(templates).with_special_ids(special_ids.0, special_ids.1);
        Ok(Self::new(pipeline, cache_bytes))
    }
}
