//! `TokenBatch`: the ids of several texts in one piece of memory, shared with numpy and Arrow.

use std::mem::MaybeUninit;
use std::slice::from_raw_parts_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use llamatok::vocabulary::MAX_PIECES;
use llamatok::{stop, TokenId};
use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::{PyImportError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList, PyTuple};
use pyo3::IntoPyObjectExt;

use crate::arrow;
use crate::ids::{extract_ids, IdSource};
use crate::interrupt::{detached, Signals};
use crate::ints::{long_list, MAX_QUICK};
use crate::ragged::{borrow_array, rectangle, Ragged, Rows};

/// The ids of several texts: those of text `i` are `ids[offsets[i]:offsets[i + 1]]`.
#[pyclass(frozen, module = "llamatok")]
pub struct TokenBatch {
    lists: Ragged<TokenId>,
    pad_id: Option<TokenId>,
}

impl TokenBatch {
    pub fn from_core(batch: llamatok::TokenBatch, pad_id: Option<TokenId>) -> Self {
        Self { lists: Ragged { values: batch.ids.into(), offsets: batch.offsets.into() }, pad_id }
    }

    pub fn ragged(&self) -> &Ragged<TokenId> {
        &self.lists
    }
}

/// Ids and mask.
type Rectangles<'py> = (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<i64>>);

#[pymethods]
impl TokenBatch {
    #[new]
    #[pyo3(signature = (ids, offsets, *, pad_id=None))]
    fn new(ids: &Bound<'_, PyAny>, offsets: &Bound<'_, PyAny>, pad_id: Option<TokenId>) -> PyResult<Self> {
        let ids = extract_ids(ids, &IdSource { row: None, vocab_size: None })?;
        Ok(Self { lists: Ragged::checked(ids, offsets, "ids")?, pad_id })
    }

    /// All ids, one text after the other: a read-only array of uint32 over the batch's memory.
    #[getter]
    fn ids<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<TokenId>> {
        borrow_array(&slf.get().lists.values, slf)
    }

    /// Where each text begins, and at last where the last one ends: a read-only array of int64.
    #[getter]
    fn offsets<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<i64>> {
        borrow_array(&slf.get().lists.offsets, slf)
    }

    /// The padding id of the tokenizer that made the batch, if it has one.
    #[getter]
    fn pad_id(&self) -> Option<TokenId> {
        self.pad_id
    }

    fn __len__(&self) -> usize {
        self.lists.len()
    }

    fn __getitem__<'py>(slf: &Bound<'py, Self>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let batch = slf.get();
        match batch.lists.get::<Self>(index)? {
            Rows::One(row) => Ok(borrow_array(batch.lists.row(row), slf).into_any()),
            Rows::Several(lists) => Self { lists, pad_id: batch.pad_id }.into_bound_py_any(slf.py()),
        }
    }

    fn __iter__(slf: Py<Self>) -> TokenBatchIterator {
        TokenBatchIterator { batch: slf, next: AtomicUsize::new(0) }
    }

    fn __eq__(&self, other: PyRef<'_, Self>) -> bool {
        self.lists == other.lists
    }

    fn __repr__(&self) -> String {
        format!("TokenBatch({} texts, {} ids)", self.lists.len(), self.lists.values.len())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let make = py.import("functools")?.getattr("partial")?;
        let kwargs = pyo3::types::PyDict::new(py);
        kwargs.set_item("pad_id", slf.get().pad_id)?;
        let make = make.call((py.get_type::<Self>(),), Some(&kwargs))?;
        (make, (Self::ids(slf), Self::offsets(slf))).into_bound_py_any(py)
    }

    /// The ids as lists of int, one a text.
    fn to_lists<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut ints = Ints::new(py, &self.lists.values);
        let mut signals = Signals::default();
        let rows = self.lists.rows().map(|row| {
            signals.after(py, row.len() + 1)?;
            let row = row.iter().map(|&id| ints.get(id));
            if row.len() > MAX_QUICK {
                return long_list(py, row);
            }
            PyList::new(py, row)
        });
        PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)
    }

    /// The ids as a rectangle: `(ids, mask)`, both int64 and of the same shape; the mask is 1 where
    /// an id stands and 0 where padding does.
    ///
    /// Rows are as long as the longest text, or exactly `max_length`: then longer texts lose ids at
    /// their end. `side` is the side that padding goes to, "right" or "left". On Linux, arrays from 2 MB
    /// on are views of longer ones, in large pages.
    #[pyo3(signature = (max_length=None, side="right", pad_id=None))]
    fn to_padded<'py>(
        &self,
        py: Python<'py>,
        max_length: Option<i64>,
        side: &str,
        pad_id: Option<TokenId>,
    ) -> PyResult<Rectangles<'py>> {
        let max_length = max_length.map(usize::try_from).transpose();
        let max_length = max_length.map_err(|_| PyValueError::new_err("max_length must not be negative"))?;
        let left = match side {
            "left" => true,
            "right" => false,
            _ => return Err(PyValueError::new_err(format!("side must be 'left' or 'right', not {side:?}"))),
        };
        let pad_id = pad_id.or(self.pad_id).ok_or_else(|| {
            PyValueError::new_err("the model has no padding token\nhint: name an id by `pad_id`")
        })?;
        pad(py, &self.lists, max_length, left, pad_id)
    }

    /// The ids and the offsets as tensors of int64, on the CPU.
    fn to_torch<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let torch = py.import("torch").map_err(|error| {
            if !error.is_instance_of::<PyImportError>(py) {
                return error;
            }
            let hint = PyImportError::new_err("`to_torch` needs torch\nhint: pip install 'llamatok[torch]'");
            hint.set_cause(py, Some(error));
            hint
        })?;
        let ids = PyArray1::from_iter(py, self.lists.values.iter().map(|&id| i64::from(id)));
        let offsets = PyArray1::from_slice(py, &self.lists.offsets);
        Ok((torch.call_method1("from_numpy", (ids,))?, torch.call_method1("from_numpy", (offsets,))?))
    }

    /// The batch as Arrow's large_list<uint32>, over the same memory. A schema that is asked for is
    /// not heeded, as the protocol allows: the consumer casts.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let _ = requested_schema;
        arrow::export_lists(py, &self.lists)
    }
}

/// A list of ids.
pub fn id_list<'py>(py: Python<'py>, ids: &[TokenId]) -> PyResult<Bound<'py, PyList>> {
    if ids.len() <= MAX_QUICK {
        return PyList::new(py, ids);
    }
    let mut ints = Ints::new(py, ids);
    long_list(py, ids.iter().map(|&id| ints.get(id)))
}

/// Makes the objects of ids. The same id is the same object throughout, which takes less time to
/// look up than to make, and 8 bytes an id instead of 40.
struct Ints<'py> {
    py: Python<'py>,
    made: Vec<Option<Bound<'py, PyInt>>>,
}

impl<'py> Ints<'py> {
    fn new(py: Python<'py>, ids: &[TokenId]) -> Self {
        // Ids that no vocabulary has are made one by one; and so are few ids.
        let size = ids.iter().max().map_or(0, |&id| id as usize + 1);
        let size = if size <= MAX_PIECES.min(ids.len() * 16) { size } else { 0 };
        Self { py, made: vec![None; size] }
    }

    fn get(&mut self, id: TokenId) -> Bound<'py, PyInt> {
        let make = || id.into_pyobject(self.py).unwrap_or_else(|never| match never {});
        match self.made.get_mut(id as usize) {
            Some(int) => int.get_or_insert_with(make).clone(),
            None => make(),
        }
    }
}

fn pad<'py>(
    py: Python<'py>,
    lists: &Ragged<TokenId>,
    max_length: Option<usize>,
    left: bool,
    pad_id: TokenId,
) -> PyResult<Rectangles<'py>> {
    let rows = lists.len();
    let width = max_length.unwrap_or_else(|| lists.rows().map(<[_]>::len).max().unwrap_or(0));
    let ids = rectangle(py, rows, width)?;
    let mask = rectangle(py, rows, width)?;
    let (id_cells, mask_cells) = (ids.data().cast(), mask.data().cast());
    // SAFETY: the arrays are new, of this size, contiguous, and known to nobody else; they are kept
    // until both slices are gone.
    let (id_cells, mask_cells): (&mut [MaybeUninit<i64>], &mut [MaybeUninit<i64>]) = unsafe {
        let size = rows * width;
        (from_raw_parts_mut(id_cells, size), from_raw_parts_mut(mask_cells, size))
    };
    detached(py, || {
        if width == 0 {
            return;
        }
        let cells = id_cells.chunks_exact_mut(width).zip(mask_cells.chunks_exact_mut(width));
        for (row, (list, (ids, mask))) in lists.rows().zip(cells).enumerate() {
            if stop::is_due(row, stop::rows(width)) {
                return;
            }
            let list = &list[..list.len().min(width)];
            let padding = width - list.len();
            let (start, end) = if left { (padding, width) } else { (0, list.len()) };
            for (cell, &id) in ids[start..end].iter_mut().zip(list) {
                cell.write(i64::from(id));
            }
            mask[start..end].fill(MaybeUninit::new(1));
            let rest = if left { 0..start } else { end..width };
            ids[rest.clone()].fill(MaybeUninit::new(i64::from(pad_id)));
            mask[rest].fill(MaybeUninit::new(0));
        }
    })?;
    Ok((ids, mask))
}

/// Hands out the texts of a batch, one array after the other.
#[pyclass(frozen, module = "llamatok")]
pub struct TokenBatchIterator {
    batch: Py<TokenBatch>,
    next: AtomicUsize,
}

#[pymethods]
impl TokenBatchIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyArray1<TokenId>>> {
        let batch = self.batch.bind(py);
        let row = self.next.fetch_add(1, Ordering::Relaxed);
        (row < batch.get().lists.len()).then(|| borrow_array(batch.get().lists.row(row), batch))
    }
}
