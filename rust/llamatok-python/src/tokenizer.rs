//! `Tokenizer`: the methods of the core, with Python's types.

use std::path::PathBuf;

use llamatok::load::{self, Found};
use llamatok::{EncodeOptions, ErrorKind, PieceKind, TokenId};
use numpy::PyArray1;
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyType};
use pyo3::IntoPyObjectExt;

use crate::error::{call_error, load_error, TokenizerError};
use crate::ids::{extract_id, extract_ids, extract_ragged, out_of_range, IdSource};
use crate::interrupt::{detached, interruptible};
use crate::stream_decoder::{Decoder, StreamDecoder};
use crate::text_batch::TextBatch;
use crate::texts::{single_text, text_bytes, texts_of, Texts};
use crate::token_batch::{id_list, TokenBatch};
use crate::utf8::Utf8;

/// The model of `Tokenizer.default`.
const DEFAULT_MODEL: &[u8] = include_bytes!("../../../python/llamatok/data/default.model");

/// Shorter texts are encoded sooner than other threads could make use of the interpreter.
pub const DETACH_TEXT_BYTES: usize = 4096;

/// The same for ids to decode.
pub const DETACH_IDS: usize = 1024;

/// An exact, fast tokenizer for models of the Llama family. Immutable; any number of threads may
/// use it at once.
#[pyclass(frozen, module = "llamatok")]
pub struct Tokenizer {
    tokenizer: Core,
    cache_bytes: Option<usize>,
}

/// The core's tokenizers, which have the same methods.
pub enum Core {
    Model(llamatok::Tokenizer),
    Json(llamatok::JsonTokenizer),
}

/// Calls a method of either tokenizer.
macro_rules! either {
    ($core:expr, $tokenizer:ident => $call:expr) => {
        match &$core {
            Core::Model($tokenizer) => $call,
            Core::Json($tokenizer) => $call,
        }
    };
}

impl Core {
    fn new(found: Found, cache_bytes: Option<usize>) -> llamatok::Result<Self> {
        match found {
            Found::Model(model) => llamatok::Tokenizer::new(*model, cache_bytes).map(Self::Model),
            Found::TokenizerJson(data) => {
                llamatok::JsonTokenizer::from_bytes(data, cache_bytes).map(Self::Json)
            }
        }
    }

    fn vocab_size(&self) -> usize {
        match self {
            Self::Model(tokenizer) => tokenizer.model().vocabulary.len(),
            Self::Json(tokenizer) => tokenizer.vocab_size(),
        }
    }

    fn piece(&self, id: TokenId) -> Option<&str> {
        match self {
            Self::Model(tokenizer) => tokenizer.model().vocabulary.get(id).map(|piece| piece.text.as_str()),
            Self::Json(tokenizer) => tokenizer.pipeline().id_to_token(id),
        }
    }

    fn kind(&self, id: TokenId) -> Option<PieceKind> {
        match self {
            Self::Model(tokenizer) => tokenizer.model().vocabulary.get(id).map(|piece| piece.kind),
            Self::Json(tokenizer) => Some(tokenizer.kind(id)),
        }
    }

    fn bos_id(&self) -> Option<TokenId> {
        match self {
            Self::Model(tokenizer) => tokenizer.model().bos_id,
            Self::Json(tokenizer) => tokenizer.bos_id(),
        }
    }

    fn eos_id(&self) -> Option<TokenId> {
        match self {
            Self::Model(tokenizer) => tokenizer.model().eos_id,
            Self::Json(tokenizer) => tokenizer.eos_id(),
        }
    }

    fn unk_id(&self) -> Option<TokenId> {
        match self {
            Self::Model(tokenizer) => Some(tokenizer.model().vocabulary.unk_id()),
            Self::Json(tokenizer) => tokenizer.unk_id(),
        }
    }

    fn pad_id(&self) -> Option<TokenId> {
        match self {
            Self::Model(tokenizer) => tokenizer.model().pad_id,
            Self::Json(tokenizer) => tokenizer.pad_id(),
        }
    }

    fn format(&self) -> &'static str {
        match self {
            Self::Model(tokenizer) => tokenizer.model().format.name(),
            Self::Json(_) => "tokenizer.json",
        }
    }
}

impl Tokenizer {
    /// What a pipeline is made from.
    pub fn parts(&self) -> (&Core, Option<usize>) {
        (&self.tokenizer, self.cache_bytes)
    }

    fn vocab_size(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    fn load(py: Python<'_>, data: &[u8], cache_bytes: Option<usize>) -> PyResult<Self> {
        let tokenizer = py
            .detach(|| Core::new(load::find(data.to_vec())?, cache_bytes))
            .map_err(|error| load_error(py, &error, None))?;
        Ok(Self { tokenizer, cache_bytes })
    }
}

fn no_piece(id: TokenId) -> PyErr {
    PyIndexError::new_err(format!("no piece has the id {id}"))
}

pub fn thread_count(num_threads: Option<i64>) -> PyResult<Option<usize>> {
    match num_threads.map(usize::try_from) {
        None => Ok(None),
        Some(Ok(count)) if count > 0 => Ok(Some(count)),
        Some(_) => Err(PyValueError::new_err("num_threads must be at least 1")),
    }
}

pub fn byte_count(cache_bytes: Option<i64>) -> PyResult<Option<usize>> {
    let count = cache_bytes.map(usize::try_from).transpose();
    count.map_err(|_| PyValueError::new_err("cache_bytes must not be negative"))
}

/// What `set_model_settings` sets, but for the metadata.
const MODEL_SETTINGS: [&str; 9] = [
    "normalizer",
    "has_charsmap",
    "add_dummy_prefix",
    "remove_extra_whitespaces",
    "escape_whitespaces",
    "treat_whitespace_as_suffix",
    "unk_surface",
    "add_bos",
    "add_eos",
];

/// What a `tokenizer.model` or a GGUF file alone says.
fn set_model_settings(settings: &Bound<'_, PyDict>, model: &llamatok::Model) -> PyResult<()> {
    let normalizer = &model.normalizer;
    settings.set_item("normalizer", &normalizer.name)?;
    settings.set_item("has_charsmap", !normalizer.precompiled_charsmap.is_empty())?;
    settings.set_item("add_dummy_prefix", normalizer.add_dummy_prefix)?;
    settings.set_item("remove_extra_whitespaces", normalizer.remove_extra_whitespaces)?;
    settings.set_item("escape_whitespaces", normalizer.escape_whitespaces)?;
    settings.set_item("treat_whitespace_as_suffix", normalizer.treat_whitespace_as_suffix)?;
    settings.set_item("unk_surface", &model.unk_surface)?;
    settings.set_item("add_bos", model.add_bos)?;
    settings.set_item("add_eos", model.add_eos)?;
    let metadata = model.metadata.clone().into_bound_py_any(settings.py())?;
    settings.set_item("metadata", PyDict::from_sequence(metadata.as_any())?)
}

#[pymethods]
impl Tokenizer {
    /// Reads a `tokenizer.model`, a GGUF file or a `tokenizer.json`; the content tells which it is.
    #[classmethod]
    #[pyo3(signature = (path, *, cache_bytes=None))]
    fn from_file(cls: &Bound<'_, PyType>, path: PathBuf, cache_bytes: Option<i64>) -> PyResult<Self> {
        let (py, cache_bytes) = (cls.py(), byte_count(cache_bytes)?);
        let tokenizer = py
            .detach(|| {
                let core = Core::new(load::find_in_file(&path)?, cache_bytes);
                core.map_err(|error| error.in_source(path.display().to_string()))
            })
            .map_err(|error| load_error(py, &error, Some(&path)))?;
        Ok(Self { tokenizer, cache_bytes })
    }

    /// Reads a model from memory.
    #[classmethod]
    #[pyo3(signature = (data, *, cache_bytes=None))]
    fn from_bytes(
        cls: &Bound<'_, PyType>,
        data: &Bound<'_, PyAny>,
        cache_bytes: Option<i64>,
    ) -> PyResult<Self> {
        let Ok(data) = data.cast::<PyBytes>() else {
            let found = data.get_type().name()?;
            return Err(PyTypeError::new_err(format!("data must be bytes, not {found}")));
        };
        Self::load(cls.py(), data.as_bytes(), byte_count(cache_bytes)?)
    }

    /// The tokenizer that comes with llamatok.
    #[classmethod]
    #[pyo3(signature = (*, cache_bytes=None))]
    fn default(cls: &Bound<'_, PyType>, cache_bytes: Option<i64>) -> PyResult<Self> {
        Self::load(cls.py(), DEFAULT_MODEL, byte_count(cache_bytes)?)
    }

    /// The ids of one text.
    #[pyo3(signature = (text, *, add_bos=false, add_eos=false, parse_special=false))]
    fn encode<'py>(
        &self,
        text: &Bound<'py, PyAny>,
        add_bos: bool,
        add_eos: bool,
        parse_special: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let utf8 = Utf8::default();
        let (py, text) = (text.py(), single_text(text, &utf8)?);
        let options = EncodeOptions { add_bos, add_eos, parse_special };
        let encode = || {
            let mut ids = Vec::with_capacity(text.len() / 3 + 8);
            either!(self.tokenizer, core => core.encode_into(text, &options, &mut ids)).map(|()| ids)
        };
        let ids = if text.len() < DETACH_TEXT_BYTES { encode() } else { detached(py, encode)? };
        id_list(py, &ids.map_err(|error| call_error(&error))?)
    }

    /// The ids of several texts.
    #[pyo3(signature = (texts, *, add_bos=false, add_eos=false, parse_special=false, num_threads=None))]
    fn encode_batch(
        &self,
        texts: &Bound<'_, PyAny>,
        add_bos: bool,
        add_eos: bool,
        parse_special: bool,
        num_threads: Option<i64>,
    ) -> PyResult<TokenBatch> {
        let options = EncodeOptions { add_bos, add_eos, parse_special };
        let num_threads = thread_count(num_threads)?;
        let (py, utf8) = (texts.py(), Utf8::default());
        let batch = match Texts::extract(texts)? {
            // Other threads need not wait until Python has made the UTF-8 of all texts.
            Texts::Objects(objects) => {
                let finish = |work: &mut (dyn FnMut() + Send)| py.detach(work);
                interruptible(py, || {
                    either!(self.tokenizer, core => {
                        core.encode_batch_from(texts_of(&objects, &utf8), &options, num_threads, finish)
                    })
                })??
            }
            owners => {
                let slices = owners.slices(&utf8)?;
                detached(
                    py,
                    || either!(self.tokenizer, core => core.encode_batch(&slices, &options, num_threads)),
                )?
            }
        };
        let pad_id = self.tokenizer.pad_id();
        Ok(TokenBatch::from_core(batch.map_err(|error| call_error(&error))?, pad_id))
    }

    /// The number of ids of each of several texts, or of a single one.
    #[pyo3(signature = (texts, *, add_bos=false, add_eos=false, parse_special=false, num_threads=None))]
    fn count<'py>(
        &self,
        texts: &Bound<'py, PyAny>,
        add_bos: bool,
        add_eos: bool,
        parse_special: bool,
        num_threads: Option<i64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, utf8) = (texts.py(), Utf8::default());
        let options = EncodeOptions { add_bos, add_eos, parse_special };
        let num_threads = thread_count(num_threads)?;
        if let Some(text) = text_bytes(texts, &utf8)? {
            let count = || either!(self.tokenizer, core => core.count(text, &options));
            let count = if text.len() < DETACH_TEXT_BYTES { count() } else { detached(py, count)? };
            return count.map_err(|error| call_error(&error))?.into_bound_py_any(py);
        }
        let owners = Texts::extract(texts)?;
        let slices = owners.slices(&utf8)?;
        let counts = detached(
            py,
            || either!(self.tokenizer, core => core.count_batch(&slices, &options, num_threads)),
        )?;
        Ok(PyArray1::from_vec(py, counts.map_err(|error| call_error(&error))?).into_any())
    }

    /// The text of ids, as SentencePiece decodes them.
    #[pyo3(signature = (ids, *, skip_special_tokens=false))]
    fn decode(&self, ids: &Bound<'_, PyAny>, skip_special_tokens: bool) -> PyResult<String> {
        let (py, ids) = (ids.py(), extract_ids(ids, &IdSource::single(self.vocab_size()))?);
        let decode = || either!(self.tokenizer, core => core.decode(&ids, skip_special_tokens));
        let text = if ids.len() < DETACH_IDS { decode() } else { detached(py, decode)? };
        text.map_err(|error| call_error(&error))
    }

    /// The bytes of ids: as `decode`, but byte pieces give their bytes as they are.
    #[pyo3(signature = (ids, *, skip_special_tokens=false))]
    fn decode_bytes<'py>(
        &self,
        ids: &Bound<'py, PyAny>,
        skip_special_tokens: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (py, ids) = (ids.py(), extract_ids(ids, &IdSource::single(self.vocab_size()))?);
        let decode = || either!(self.tokenizer, core => core.decode_bytes(&ids, skip_special_tokens));
        let bytes = if ids.len() < DETACH_IDS { decode() } else { detached(py, decode)? };
        Ok(PyBytes::new(py, &bytes.map_err(|error| call_error(&error))?))
    }

    /// The texts of several lists of ids.
    #[pyo3(signature = (ids, *, skip_special_tokens=false, num_threads=None))]
    fn decode_batch<'py>(
        &self,
        ids: &Bound<'py, PyAny>,
        skip_special_tokens: bool,
        num_threads: Option<i64>,
    ) -> PyResult<Bound<'py, PyList>> {
        self.decode_text_batch(ids, skip_special_tokens, num_threads)?.to_list(ids.py())
    }

    /// As `decode_batch`, with all texts in one piece of memory instead of a str for each.
    #[pyo3(signature = (ids, *, skip_special_tokens=false, num_threads=None))]
    fn decode_text_batch(
        &self,
        ids: &Bound<'_, PyAny>,
        skip_special_tokens: bool,
        num_threads: Option<i64>,
    ) -> PyResult<TextBatch> {
        let (py, num_threads) = (ids.py(), thread_count(num_threads)?);
        let lists = extract_ragged(ids, self.vocab_size())?;
        let decode = || {
            either!(self.tokenizer, core => {
                core.decode_batch(&lists.values, &lists.offsets, skip_special_tokens, num_threads)
            })
        };
        let texts = detached(py, decode)?.map_err(|error| match error.kind() {
            ErrorKind::IdOutOfRange => out_of_range(&lists, self.vocab_size()),
            _ => call_error(&error),
        })?;
        Ok(TextBatch::from_core(texts))
    }

    /// A decoder for ids that arrive one after the other. `prefill` holds ids that were shown
    /// before: they are the context of those to come, and none of their text comes out again.
    #[pyo3(signature = (skip_special_tokens=true, prefill=None))]
    fn stream_decoder(
        &self,
        skip_special_tokens: bool,
        prefill: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<StreamDecoder> {
        let mut decoder = match &self.tokenizer {
            Core::Model(core) => Decoder::Model(core.stream_decoder(skip_special_tokens)),
            Core::Json(core) => {
                let decoder = core.stream_decoder(skip_special_tokens);
                Decoder::Json(Box::new(decoder.map_err(|error| call_error(&error))?))
            }
        };
        if let Some(ids) = prefill {
            let ids = extract_ids(ids, &IdSource::single(self.vocab_size()))?;
            decoder.push(&ids, &mut String::new()).map_err(|error| call_error(&error))?;
        }
        Ok(StreamDecoder::new(decoder, self.vocab_size()))
    }

    /// The piece of an id, as it stands in the model ("▁" for a space, "<0x0A>" for a byte).
    fn id_to_piece(&self, id: &Bound<'_, PyAny>) -> PyResult<&str> {
        let id = extract_id(id, self.vocab_size())?;
        self.tokenizer.piece(id).ok_or_else(|| no_piece(id))
    }

    /// The id of a piece, or None.
    fn piece_to_id(&self, piece: &str) -> Option<TokenId> {
        match &self.tokenizer {
            Core::Model(core) => core.model().vocabulary.piece_to_id(piece),
            Core::Json(core) => core.pipeline().token_to_id(piece),
        }
    }

    /// The score of a piece: the higher, the earlier it is merged.
    fn score(&self, id: &Bound<'_, PyAny>) -> PyResult<f32> {
        let Core::Model(core) = &self.tokenizer else {
            return Err(TokenizerError::new_err(
                "score: a tokenizer.json lists merges; its pieces have no scores",
            ));
        };
        let id = extract_id(id, self.vocab_size())?;
        core.model().vocabulary.get(id).map(|piece| piece.score).ok_or_else(|| no_piece(id))
    }

    /// The kind of a piece: "NORMAL", "UNKNOWN", "CONTROL", "USER_DEFINED", "UNUSED" or "BYTE".
    fn kind(&self, id: &Bound<'_, PyAny>) -> PyResult<&'static str> {
        let id = extract_id(id, self.vocab_size())?;
        self.tokenizer.kind(id).map(PieceKind::name).ok_or_else(|| no_piece(id))
    }

    /// All pieces, in the order of their ids; "" where no piece has an id.
    fn pieces<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let ids = 0..self.vocab_size() as TokenId;
        PyList::new(py, ids.map(|id| self.tokenizer.piece(id).unwrap_or_default()))
    }

    /// The number of pieces.
    #[getter(vocab_size)]
    fn py_vocab_size(&self) -> usize {
        self.vocab_size()
    }

    /// The id of the beginning-of-sequence token, or None.
    #[getter]
    fn bos_id(&self) -> Option<TokenId> {
        self.tokenizer.bos_id()
    }

    /// The id of the end-of-sequence token, or None.
    #[getter]
    fn eos_id(&self) -> Option<TokenId> {
        self.tokenizer.eos_id()
    }

    /// The id of the unknown piece; None where a `tokenizer.json` has none.
    #[getter]
    fn unk_id(&self) -> Option<TokenId> {
        self.tokenizer.unk_id()
    }

    /// The id of the padding token, or None.
    #[getter]
    fn pad_id(&self) -> Option<TokenId> {
        self.tokenizer.pad_id()
    }

    /// What the model file says, and which engine serves it, for people to look at.
    #[getter]
    fn settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let kinds = PyDict::new(py);
        for kind in (1..=6).filter_map(PieceKind::from_number) {
            let ids = 0..self.vocab_size() as TokenId;
            kinds.set_item(kind.name(), ids.filter(|&id| self.tokenizer.kind(id) == Some(kind)).count())?;
        }
        let settings = PyDict::new(py);
        settings.set_item("format", self.tokenizer.format())?;
        settings.set_item("vocab_size", self.vocab_size())?;
        settings.set_item("kinds", kinds)?;
        let reason = match &self.tokenizer {
            Core::Model(core) => {
                settings.set_item("byte_fallback", core.model().vocabulary.byte_ids().is_some())?;
                set_model_settings(&settings, core.model())?;
                core.general_because()
            }
            Core::Json(core) => {
                settings.set_item("byte_fallback", core.has_byte_fallback())?;
                for name in MODEL_SETTINGS {
                    settings.set_item(name, py.None())?;
                }
                settings.set_item("metadata", PyDict::new(py))?;
                core.pipeline().general_because()
            }
        };
        settings.set_item("bos_id", self.tokenizer.bos_id())?;
        settings.set_item("eos_id", self.tokenizer.eos_id())?;
        settings.set_item("unk_id", self.tokenizer.unk_id())?;
        settings.set_item("pad_id", self.tokenizer.pad_id())?;
        settings.set_item("engine", if reason.is_some() { "general" } else { "fast" })?;
        settings.set_item("engine_reason", reason)?;
        Ok(settings)
    }

    /// The memory of the word caches: {"limit_bytes": ..., "used_bytes": ...}.
    fn cache_info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let info = either!(self.tokenizer, core => core.cache_info());
        let dict = PyDict::new(py);
        dict.set_item("limit_bytes", info.limit_bytes)?;
        dict.set_item("used_bytes", info.used_bytes)?;
        Ok(dict)
    }

    fn __len__(&self) -> usize {
        self.vocab_size()
    }

    fn __repr__(&self) -> String {
        format!("Tokenizer(vocab_size={}, format={:?})", self.vocab_size(), self.tokenizer.format())
    }

    /// Pickles carry the model's bytes; the tables are built anew.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mut load = py.get_type::<Self>().getattr("from_bytes")?;
        if let Some(cache_bytes) = self.cache_bytes {
            let kwargs = PyDict::new(py);
            kwargs.set_item("cache_bytes", cache_bytes)?;
            load = py.import("functools")?.call_method("partial", (load,), Some(&kwargs))?;
        }
        let data = match &self.tokenizer {
            Core::Model(core) => &core.model().serialized,
            Core::Json(core) => core.serialized(),
        };
        (load, (PyBytes::new(py, data),)).into_bound_py_any(py)
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
}
