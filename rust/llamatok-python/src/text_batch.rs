//! `TextBatch`: several texts in one piece of memory, shared with numpy and Arrow.

use std::sync::atomic::{AtomicUsize, Ordering};

use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use pyo3::IntoPyObjectExt;

use crate::arrow;
use crate::interrupt::Signals;
use crate::ragged::{borrow_array, Ragged, Rows};

/// Several texts: the UTF-8 of text `i` is `bytes[offsets[i]:offsets[i + 1]]`.
#[pyclass(frozen, module = "llamatok")]
pub struct TextBatch {
    /// Every row is UTF-8.
    texts: Ragged<u8>,
}

impl TextBatch {
    pub fn from_core(batch: llamatok::TextBatch) -> Self {
        Self { texts: Ragged { values: batch.bytes.into(), offsets: batch.offsets.into() } }
    }

    fn text<'py>(&self, py: Python<'py>, row: usize) -> PyResult<Bound<'py, PyString>> {
        PyString::from_bytes(py, self.texts.row(row))
    }
}

#[pymethods]
impl TextBatch {
    #[new]
    fn new(bytes: &Bound<'_, PyAny>, offsets: &Bound<'_, PyAny>) -> PyResult<Self> {
        let bytes = if let Ok(bytes) = bytes.cast::<PyBytes>() {
            bytes.as_bytes().to_vec()
        } else if let Ok(bytes) = bytes.cast::<PyArray1<u8>>() {
            bytes.try_readonly()?.as_array().to_vec()
        } else {
            let found = bytes.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "bytes must be bytes or an array of uint8, not {found}"
            )));
        };
        let texts = Ragged::checked(bytes, offsets, "bytes")?;
        let invalid = texts.rows().position(|text| std::str::from_utf8(text).is_err());
        if let Some(row) = invalid {
            return Err(PyValueError::new_err(format!("text {row} is not valid UTF-8")));
        }
        Ok(Self { texts })
    }

    /// The UTF-8 of all texts, one after the other: a read-only array of uint8 over the batch's memory.
    #[getter]
    fn bytes<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<u8>> {
        borrow_array(&slf.get().texts.values, slf)
    }

    /// Where each text begins, and at last where the last one ends: a read-only array of int64.
    #[getter]
    fn offsets<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<i64>> {
        borrow_array(&slf.get().texts.offsets, slf)
    }

    fn __len__(&self) -> usize {
        self.texts.len()
    }

    fn __getitem__<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self.texts.get::<Self>(index)? {
            Rows::One(row) => Ok(self.text(index.py(), row)?.into_any()),
            Rows::Several(texts) => Self { texts }.into_bound_py_any(index.py()),
        }
    }

    fn __iter__(slf: Py<Self>) -> TextBatchIterator {
        TextBatchIterator { batch: slf, next: AtomicUsize::new(0) }
    }

    fn __eq__(&self, other: PyRef<'_, Self>) -> bool {
        self.texts == other.texts
    }

    fn __repr__(&self) -> String {
        format!("TextBatch({} texts, {} bytes)", self.texts.len(), self.texts.values.len())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        (slf.py().get_type::<Self>(), (Self::bytes(slf), Self::offsets(slf))).into_bound_py_any(slf.py())
    }

    /// The texts as str.
    pub fn to_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut signals = Signals::default();
        let texts = self.texts.rows().enumerate().map(|(row, text)| {
            signals.after(py, text.len() / 8 + 1)?;
            self.text(py, row)
        });
        PyList::new(py, texts.collect::<PyResult<Vec<_>>>()?)
    }

    /// The batch as Arrow's large_utf8, over the same memory. A schema that is asked for is not
    /// heeded, as the protocol allows: the consumer casts.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let _ = requested_schema;
        // SAFETY: every row is UTF-8: the core decodes to nothing else, and `new` checks it.
        unsafe { arrow::export_texts(py, &self.texts) }
    }
}

/// Hands out the texts of a batch, one str after the other.
#[pyclass(frozen, module = "llamatok")]
pub struct TextBatchIterator {
    batch: Py<TextBatch>,
    next: AtomicUsize,
}

#[pymethods]
impl TextBatchIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        let batch = self.batch.get();
        let row = self.next.fetch_add(1, Ordering::Relaxed);
        (row < batch.texts.len()).then(|| batch.text(py, row)).transpose()
    }
}
