//! Ids from Python: lists, tuples, other iterables, integer arrays of numpy, and whatever turns into
//! them by `__array__` (tensors of torch among them).

use llamatok::TokenId;
use numpy::{Element, PyArray1, PyArrayDescrMethods, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyIndexError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyInt, PyList, PyMemoryView, PyString, PyTuple};

use crate::arrow;
use crate::interrupt::Signals;
use crate::ragged::Ragged;
use crate::token_batch::TokenBatch;

/// The error about the first of `lists`' ids that a vocabulary of this size does not have.
pub fn out_of_range(lists: &Ragged<TokenId>, vocab_size: usize) -> PyErr {
    let position = lists.values.iter().position(|&id| id as usize >= vocab_size).unwrap_or(0);
    let row = lists.offsets.partition_point(|&offset| offset as usize <= position).saturating_sub(1);
    let source = IdSource { row: Some(row), vocab_size: Some(vocab_size) };
    source.out_of_range(lists.values[position], position - lists.offsets[row] as usize)
}

/// Where ids come from: what messages call them, and how many ids there are to be had.
#[derive(Clone, Copy)]
pub struct IdSource {
    /// The number of the list among several.
    pub row: Option<usize>,
    /// The size of the vocabulary, where the ids are meant for one.
    pub vocab_size: Option<usize>,
}

impl IdSource {
    /// One list of ids for a vocabulary of the given size.
    pub fn single(vocab_size: usize) -> Self {
        Self { row: None, vocab_size: Some(vocab_size) }
    }

    fn name(&self) -> String {
        self.row.map_or_else(|| "ids".to_owned(), |row| format!("ids[{row}]"))
    }

    /// The error about an id that is none.
    pub fn out_of_range(&self, id: impl std::fmt::Display, index: usize) -> PyErr {
        let limit = match self.vocab_size {
            Some(size) => format!("the vocabulary has {size} pieces"),
            None => "ids have 32 bits".to_owned(),
        };
        let place = self.row.map_or_else(String::new, |row| format!(" of ids[{row}]"));
        PyIndexError::new_err(format!("id {id} at index {index}{place} is out of range: {limit}"))
    }

    fn id(&self, item: &Bound<'_, PyAny>, index: usize) -> PyResult<TokenId> {
        item.extract::<TokenId>().map_err(|error| {
            let py = item.py();
            if error.is_instance_of::<PyOverflowError>(py) {
                return self.out_of_range(item, index);
            }
            if !error.is_instance_of::<PyTypeError>(py) {
                return error;
            }
            match item.get_type().name() {
                Ok(found) => {
                    PyTypeError::new_err(format!("{}[{index}] must be int, not {found}", self.name()))
                }
                Err(error) => error,
            }
        })
    }
}

/// One id.
pub fn extract_id(id: &Bound<'_, PyAny>, vocab_size: usize) -> PyResult<TokenId> {
    let id_error = |id: &dyn std::fmt::Display| {
        PyIndexError::new_err(format!("id {id} is out of range: the vocabulary has {vocab_size} pieces"))
    };
    match id.extract::<TokenId>() {
        Ok(found) if (found as usize) < vocab_size => Ok(found),
        Ok(found) => Err(id_error(&found)),
        Err(error) if error.is_instance_of::<PyOverflowError>(id.py()) => Err(id_error(id)),
        Err(error) if error.is_instance_of::<PyTypeError>(id.py()) => {
            Err(PyTypeError::new_err(format!("id must be int, not {}", id.get_type().name()?)))
        }
        Err(error) => Err(error),
    }
}

/// One id or several.
pub fn extract_id_or_ids(ids: &Bound<'_, PyAny>, source: &IdSource) -> PyResult<Vec<TokenId>> {
    if ids.is_instance_of::<PyInt>() {
        return Ok(vec![source.id(ids, 0)?]);
    }
    if ids.hasattr(intern!(ids.py(), "__array__"))? && as_array(ids)?.ndim() == 0 {
        return Ok(vec![source.id(&ids.call_method0(intern!(ids.py(), "item"))?, 0)?]);
    }
    extract_ids(ids, source)
}

/// One list of ids.
pub fn extract_ids(ids: &Bound<'_, PyAny>, source: &IdSource) -> PyResult<Vec<TokenId>> {
    let mut found = Vec::new();
    push_ids(ids, source, &mut found)?;
    Ok(found)
}

/// Several lists of ids, each as [`extract_ids`] takes them; or a `TokenBatch`, an array with two
/// dimensions, or Arrow lists.
pub fn extract_ragged(lists: &Bound<'_, PyAny>, vocab_size: usize) -> PyResult<Ragged<TokenId>> {
    if let Ok(batch) = lists.cast::<TokenBatch>() {
        return Ok(batch.get().ragged().clone());
    }
    refuse_bytes(lists, "ids")?;
    let (mut ids, mut offsets) = (Vec::new(), vec![0]);
    let is_sequence = lists.is_instance_of::<PyList>() || lists.is_instance_of::<PyTuple>();
    let arrays = if is_sequence { None } else { arrow::import(lists)? };
    if let Some(arrays) = arrays {
        arrow::push_lists(&arrays, vocab_size, &mut ids, &mut offsets)?;
    } else {
        let Ok(rows) = lists.try_iter() else {
            return Err(PyTypeError::new_err(format!(
                "ids must be a TokenBatch or an iterable of lists of ids, not {}",
                lists.get_type().name()?
            )));
        };
        let mut signals = Signals::default();
        for (row, list) in rows.enumerate() {
            push_ids(&list?, &IdSource { row: Some(row), vocab_size: Some(vocab_size) }, &mut ids)?;
            signals.after(lists.py(), ids.len() - offsets[row] as usize + 1)?;
            offsets.push(ids.len() as i64);
        }
    }
    Ok(Ragged { values: ids.into(), offsets: offsets.into() })
}

fn push_ids(ids: &Bound<'_, PyAny>, source: &IdSource, found: &mut Vec<TokenId>) -> PyResult<()> {
    if let Ok(list) = ids.cast::<PyList>() {
        found.reserve(list.len());
        return push_list(list, source, found);
    }
    if let Ok(tuple) = ids.cast::<PyTuple>() {
        found.reserve(tuple.len());
        return push_items(tuple.iter().map(Ok), source, found);
    }
    refuse_bytes(ids, &source.name())?;
    if ids.hasattr(intern!(ids.py(), "__array__"))? {
        return push_array(&as_array(ids)?, source, found);
    }
    let Ok(items) = ids.try_iter() else {
        return Err(PyTypeError::new_err(format!(
            "{} must be an iterable of int, not {}",
            source.name(),
            ids.get_type().name()?
        )));
    };
    push_items(items, source, found)
}

/// Appends the ids of a list. Nearly all are small numbers of Python's own type, which need no more
/// than one call each.
fn push_list(list: &Bound<'_, PyList>, source: &IdSource, found: &mut Vec<TokenId>) -> PyResult<()> {
    let mut signals = Signals::default();
    for (index, item) in list.iter().enumerate() {
        signals.after(list.py(), 1)?;
        let id = if item.is_exact_instance_of::<PyInt>() {
            // SAFETY: `item` is an int; and where -1 stands for an error, that is taken away.
            unsafe {
                let id = ffi::PyLong_AsLong(item.as_ptr());
                if id == -1 {
                    ffi::PyErr_Clear();
                }
                TokenId::try_from(id).ok()
            }
        } else {
            None
        };
        found.push(match id {
            Some(id) => id,
            None => source.id(&item, index)?,
        });
    }
    Ok(())
}

fn push_items<'py>(
    items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
    source: &IdSource,
    found: &mut Vec<TokenId>,
) -> PyResult<()> {
    for (index, item) in items.enumerate() {
        found.push(source.id(&item?, index)?);
    }
    Ok(())
}

/// Numbers are not text: `decode(b"...")` would otherwise quietly read bytes as ids.
fn refuse_bytes(ids: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    if ids.is_instance_of::<PyString>()
        || ids.is_instance_of::<PyBytes>()
        || ids.is_instance_of::<PyByteArray>()
        || ids.is_instance_of::<PyMemoryView>()
    {
        let found = ids.get_type().name()?;
        return Err(PyTypeError::new_err(format!("{name} must be an iterable of int, not {found}")));
    }
    Ok(())
}

fn as_array<'py>(ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    if let Ok(array) = ids.cast::<PyUntypedArray>() {
        return Ok(array.clone());
    }
    Ok(ids.py().import("numpy")?.call_method1(intern!(ids.py(), "asarray"), (ids,))?.cast_into()?)
}

/// Whether all elements stand where Rust may read them; in views of bytes, they need not.
pub fn is_aligned<T: Element>(array: &Bound<'_, PyArray1<T>>) -> bool {
    (array.data() as usize | array.strides()[0].unsigned_abs()).is_multiple_of(align_of::<T>())
}

fn push_array(
    array: &Bound<'_, PyUntypedArray>,
    source: &IdSource,
    found: &mut Vec<TokenId>,
) -> PyResult<()> {
    if array.ndim() != 1 {
        return Err(PyValueError::new_err(format!(
            "{} must have one dimension, not {}",
            source.name(),
            array.ndim()
        )));
    }
    if array.is_empty() {
        // `np.array([])` has float64 for its type.
        return Ok(());
    }
    macro_rules! push_integers {
        ($($integer:ty),*) => {$(
            if let Ok(array) = array.cast::<PyArray1<$integer>>() {
                if !is_aligned(array) {
                    return push_array(array.call_method0("copy")?.cast()?, source, found);
                }
                let array = array.try_readonly()?;
                found.reserve(array.len());
                for (index, &id) in array.as_array().iter().enumerate() {
                    found.push(TokenId::try_from(id).map_err(|_| source.out_of_range(id, index))?);
                }
                return Ok(());
            }
        )*};
    }
    push_integers!(u32, i64, i32, u64, u16, i16, u8, i8);
    // Integers in the other byte order.
    let wide = match array.dtype().kind() {
        b'i' => "int64",
        b'u' => "uint64",
        _ => {
            return Err(PyTypeError::new_err(format!(
                "{} must be integers, not {}",
                source.name(),
                array.dtype()
            )))
        }
    };
    push_array(array.call_method1("astype", (wide,))?.cast()?, source, found)
}
