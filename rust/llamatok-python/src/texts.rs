//! Texts from Python.

use arrow_data::ArrayData;
use llamatok::Text;
use pyo3::exceptions::{PyTypeError, PyUnicodeEncodeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PyString, PyTuple};

use crate::arrow;
use crate::utf8::Utf8;

/// The bytes of a `str` (its UTF-8) or a `bytes`; `None` for anything else.
///
/// # Errors
/// `UnicodeEncodeError` for a `str` with lone surrogates.
pub fn text_bytes<'a>(text: &'a Bound<'_, PyAny>, utf8: &'a Utf8) -> PyResult<Option<&'a [u8]>> {
    Ok(text_of(text, utf8)?.map(Text::as_bytes))
}

fn text_of<'a>(text: &'a Bound<'_, PyAny>, utf8: &'a Utf8) -> PyResult<Option<Text<'a>>> {
    if let Ok(text) = text.cast::<PyString>() {
        return utf8.of(text).map(|text| Some(Text::Str(text)));
    }
    Ok(text.cast::<PyBytes>().ok().map(|text| Text::Bytes(text.as_bytes())))
}

/// [`text_bytes`], with a `TypeError` for anything else.
pub fn single_text<'a>(text: &'a Bound<'_, PyAny>, utf8: &'a Utf8) -> PyResult<&'a [u8]> {
    text_bytes(text, utf8)?.ok_or_else(|| not_a_text("text", text))
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
            if let Ok(list) = texts.call_method0(intern!(texts.py(), "tolist"))?.cast_into::<PyList>() {
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
    pub fn slices<'a>(&'a self, utf8: &'a Utf8) -> PyResult<Vec<&'a [u8]>> {
        match self {
            Self::Objects(objects) => texts_of(objects, utf8).map(|text| text.map(Text::as_bytes)).collect(),
            Self::Arrow(arrays) => arrow::text_slices(arrays),
        }
    }
}

/// The text of each object, one after the other, since making UTF-8 takes time.
pub fn texts_of<'a>(
    objects: &'a [Bound<'_, PyAny>],
    utf8: &'a Utf8,
) -> impl Iterator<Item = PyResult<Text<'a>>> {
    objects.iter().enumerate().map(|(index, text)| match text_of(text, utf8) {
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
    name_place(py, error, &format!("texts[{index}]"))
}

/// Says in a `UnicodeEncodeError` what it is about.
fn name_place(py: Python<'_>, error: PyErr, place: &str) -> PyErr {
    if error.is_instance_of::<PyUnicodeEncodeError>(py) {
        let value = error.value(py);
        let named = value
            .getattr("reason")
            .and_then(|reason| value.setattr("reason", format!("{reason} (in {place})")));
        if let Err(other) = named {
            return other;
        }
    }
    error
}

/// Several `str`.
pub fn str_texts<'py>(name: &str, texts: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyString>>> {
    let mut owners = Vec::new();
    push_str_texts(name, texts, &mut owners)?;
    Ok(owners)
}

fn push_str_texts<'py>(
    name: &str,
    texts: &Bound<'py, PyAny>,
    owners: &mut Vec<Bound<'py, PyString>>,
) -> PyResult<()> {
    let mut push = |index: usize, text: Bound<'py, PyAny>| match text.cast_into::<PyString>() {
        Ok(text) => {
            owners.push(text);
            Ok(())
        }
        Err(error) => {
            let found = error.into_inner().get_type().name()?;
            Err(PyTypeError::new_err(format!("{name}[{index}] must be str, not {found}")))
        }
    };
    if let Ok(list) = texts.cast::<PyList>() {
        return list.iter().enumerate().try_for_each(|(index, text)| push(index, text));
    }
    let found = texts.get_type().name()?;
    let refused = || PyTypeError::new_err(format!("{name} must be an iterable of str, not {found}"));
    if texts.is_instance_of::<PyString>() {
        return Err(refused());
    }
    let items = texts.try_iter().map_err(|_| refused())?;
    items.enumerate().try_for_each(|(index, text)| push(index, text?))
}

/// Several `str`, or several lists of them.
pub struct StrTexts<'py> {
    owners: Vec<Bound<'py, PyString>>,
    ends: Option<Vec<usize>>,
}

impl<'py> StrTexts<'py> {
    /// Takes hold of texts, or of the words of texts.
    pub fn extract(name: &str, texts: &Bound<'py, PyAny>, are_words: bool) -> PyResult<Self> {
        if !are_words {
            return Ok(Self { owners: str_texts(name, texts)?, ends: None });
        }
        let (mut owners, mut ends) = (Vec::new(), Vec::new());
        for (index, words) in texts.try_iter()?.enumerate() {
            push_str_texts(&format!("{name}[{index}]"), &words?, &mut owners)?;
            ends.push(owners.len());
        }
        Ok(Self { owners, ends: Some(ends) })
    }

    /// Where the words of each text end, if these are words.
    pub fn ends(&self) -> Option<&[usize]> {
        self.ends.as_deref()
    }

    /// The texts, or all words.
    ///
    /// # Errors
    /// `UnicodeEncodeError` for lone surrogates, naming the text.
    pub fn slices<'a>(&'a self, name: &str, utf8: &'a Utf8) -> PyResult<Vec<&'a str>> {
        let slice = |(index, text): (usize, &'a Bound<'py, PyString>)| {
            utf8.of(text).map_err(|error| {
                let place = match &self.ends {
                    None => format!("{name}[{index}]"),
                    Some(ends) => {
                        let row = ends.partition_point(|&end| end <= index);
                        let first = row.checked_sub(1).map_or(0, |before| ends[before]);
                        format!("{name}[{row}][{}]", index - first)
                    }
                };
                name_place(text.py(), error, &place)
            })
        };
        self.owners.iter().enumerate().map(slice).collect()
    }
}
