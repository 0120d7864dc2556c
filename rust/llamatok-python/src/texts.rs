//! Texts from Python: borrowed, never copied.

use arrow_data::ArrayData;
use llamatok::Text;
use pyo3::exceptions::{PyTypeError, PyUnicodeEncodeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PyString, PyTuple};

use crate::arrow;

/// The bytes of a `str` (its UTF-8) or a `bytes`; `None` for anything else.
///
/// # Errors
/// `UnicodeEncodeError` for a `str` with lone surrogates.
pub fn text_bytes<'a>(text: &'a Bound<'_, PyAny>) -> PyResult<Option<&'a [u8]>> {
    Ok(text_of(text)?.map(Text::as_bytes))
}

fn text_of<'a>(text: &'a Bound<'_, PyAny>) -> PyResult<Option<Text<'a>>> {
    if let Ok(text) = text.cast::<PyString>() {
        return text.to_str().map(|text| Some(Text::Str(text)));
    }
    Ok(text.cast::<PyBytes>().ok().map(|text| Text::Bytes(text.as_bytes())))
}

/// [`text_bytes`], with a `TypeError` for anything else.
pub fn single_text<'a>(text: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    text_bytes(text)?.ok_or_else(|| not_a_text("text", text))
}

/// The owners of several texts.
pub enum Texts<'py> {
    Objects(Vec<Bound<'py, PyAny>>),
    Arrow(Vec<ArrayData>),
}

impl<'py> Texts<'py> {
    /// Takes hold of the texts in a list, a tuple, a one-dimensional array, Arrow data or any other
    /// iterable.
    pub fn extract(texts: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(list) = texts.cast::<PyList>() {
            return Ok(Self::Objects(list.iter().collect()));
        }
        if let Ok(tuple) = texts.cast::<PyTuple>() {
            return Ok(Self::Objects(tuple.iter().collect()));
        }
        refuse_single(texts)?;
        if let Some(arrays) = arrow::import(texts)? {
            return Ok(Self::Arrow(arrays));
        }
        // A numpy array hands out numpy scalars when iterated; `tolist` makes str and bytes at once.
        if let Some(ndim) = texts.getattr_opt("ndim")? {
            if !ndim.eq(1)? {
                return Err(PyTypeError::new_err(format!("texts must have one dimension, not {ndim}")));
            }
            if let Ok(list) = texts.call_method0("tolist")?.cast_into::<PyList>() {
                return Ok(Self::Objects(list.iter().collect()));
            }
        }
        let Ok(items) = texts.try_iter() else {
            return Err(PyTypeError::new_err(format!(
                "texts must be an iterable of str or bytes, not {}",
                texts.get_type().name()?
            )));
        };
        Ok(Self::Objects(items.collect::<PyResult<_>>()?))
    }

    /// The bytes of each text.
    pub fn slices(&self) -> PyResult<Vec<&[u8]>> {
        match self {
            Self::Objects(objects) => texts_of(objects).map(|text| text.map(Text::as_bytes)).collect(),
            Self::Arrow(arrays) => arrow::text_slices(arrays),
        }
    }
}

/// The text of each object. The first time, Python has to make the UTF-8 of a `str` that is not ASCII.
pub fn texts_of<'a>(objects: &'a [Bound<'_, PyAny>]) -> impl Iterator<Item = PyResult<Text<'a>>> {
    objects.iter().enumerate().map(|(index, text)| match text_of(text) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(not_a_text(&format!("texts[{index}]"), text)),
        Err(error) => Err(name_text(text.py(), error, index)),
    })
}

fn refuse_single(texts: &Bound<'_, PyAny>) -> PyResult<()> {
    if texts.is_instance_of::<PyString>()
        || texts.is_instance_of::<PyBytes>()
        || texts.is_instance_of::<PyByteArray>()
        || texts.is_instance_of::<PyMemoryView>()
    {
        return Err(PyTypeError::new_err(format!(
            "texts must be an iterable of str or bytes, not a single {}\nhint: put it in a list, or call `encode`",
            texts.get_type().name()?
        )));
    }
    Ok(())
}

fn not_a_text(name: &str, object: &Bound<'_, PyAny>) -> PyErr {
    match object.get_type().name() {
        Ok(found) => PyTypeError::new_err(format!("{name} must be str or bytes, not {found}")),
        Err(error) => error,
    }
}

/// Says in a `UnicodeEncodeError` which of the texts it is about.
fn name_text(py: Python<'_>, error: PyErr, index: usize) -> PyErr {
    if error.is_instance_of::<PyUnicodeEncodeError>(py) {
        let value = error.value(py);
        let named = value
            .getattr("reason")
            .and_then(|reason| value.setattr("reason", format!("{reason} (in texts[{index}])")));
        if let Err(other) = named {
            return other;
        }
    }
    error
}
