//! `StreamDecoder`: ids in, complete text out.

use std::sync::{Mutex, MutexGuard, PoisonError};

use llamatok::TokenId;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;

use crate::error::call_error;
use crate::ids::{extract_id_or_ids, IdSource};

/// The core's decoders.
pub enum Decoder {
    Model(llamatok::StreamDecoder),
    Json(Box<llamatok::JsonStreamDecoder>),
}

impl Decoder {
    pub fn push(&mut self, ids: &[TokenId], text: &mut String) -> llamatok::Result<()> {
        match self {
            Self::Model(decoder) => decoder.push(ids, text),
            Self::Json(decoder) => decoder.push(ids, text),
        }
    }

    fn finish(&mut self, text: &mut String) {
        match self {
            Self::Model(decoder) => decoder.finish(text),
            Self::Json(decoder) => decoder.finish(text),
        }
    }
}

/// Turns ids into text as they arrive; only complete characters come out.
#[pyclass(frozen, module = "llamatok")]
pub struct StreamDecoder {
    decoder: Mutex<Decoder>,
    vocab_size: usize,
}

impl StreamDecoder {
    pub fn new(decoder: Decoder, vocab_size: usize) -> Self {
        Self { decoder: Mutex::new(decoder), vocab_size }
    }

    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Decoder> {
        self.decoder.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl StreamDecoder {
    /// Takes an id or several and returns the text that is complete by now, often "".
    fn push(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<String> {
        let ids = extract_id_or_ids(ids, &IdSource::single(self.vocab_size))?;
        let mut text = String::new();
        self.lock(py).push(&ids, &mut text).map_err(|error| call_error(&error))?;
        Ok(text)
    }

    /// Ends the stream and returns what was held back. The decoder may be used again, as new.
    fn finish(&self, py: Python<'_>) -> String {
        let mut text = String::new();
        self.lock(py).finish(&mut text);
        text
    }
}
