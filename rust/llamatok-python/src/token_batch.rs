//! `TokenBatch`: the ids of several texts in one piece of memory, shared with numpy and Arrow.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use llamatok::TokenId;
use numpy::ndarray::{Array2, ArrayView1};
use numpy::{Element, PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::{
    PyImportError, PyIndexError, PyMemoryError, PyOverflowError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList, PySlice, PyTuple};
use pyo3::IntoPyObjectExt;

use crate::arrow;
use crate::ids::{extract_ids, IdSource, Ragged};

/// The ids of several texts: those of text `i` are `ids[offsets[i]:offsets[i + 1]]`.
#[pyclass(frozen, module = "llamatok")]
pub struct TokenBatch {
    lists: Ragged,
    pad_id: Option<TokenId>,
}

impl TokenBatch {
    pub fn from_core(batch: llamatok::TokenBatch, pad_id: Option<TokenId>) -> Self {
        Self { lists: Ragged { ids: batch.ids.into(), offsets: batch.offsets.into() }, pad_id }
    }

    pub fn ragged(&self) -> &Ragged {
        &self.lists
    }

    fn slice(&self, slice: &Bound<'_, PySlice>) -> PyResult<Self> {
        let indices = slice.indices(self.lists.len() as isize)?;
        let lists = if indices.step == 1 {
            let first = self.lists.offsets[indices.start as usize];
            let offsets = self.lists.offsets.slice(indices.start as usize, indices.slicelength + 1);
            let ids = self.lists.ids.slice(first as usize, (offsets[indices.slicelength] - first) as usize);
            Ragged { ids, offsets: offsets.iter().map(|offset| offset - first).collect() }
        } else {
            let (mut ids, mut offsets) = (Vec::new(), vec![0]);
            for step in 0..indices.slicelength as isize {
                ids.extend_from_slice(self.lists.row((indices.start + step * indices.step) as usize));
                offsets.push(ids.len() as i64);
            }
            Ragged { ids: ids.into(), offsets: offsets.into() }
        };
        Ok(Self { lists, pad_id: self.pad_id })
    }
}

/// Ids and mask.
type Rectangles<'py> = (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<i64>>);

/// A read-only array over memory that `owner` keeps alive.
fn borrow_array<'py, T: Element>(slice: &[T], owner: &Bound<'py, TokenBatch>) -> Bound<'py, PyArray1<T>> {
    // SAFETY: `slice` is memory of `owner`, a frozen object whose buffers are never replaced, moved
    // or written to; the array holds a reference to `owner`, and is made read-only before anyone
    // sees it.
    let array = unsafe { PyArray1::borrow_from_array(&ArrayView1::from(slice), owner.clone().into_any()) };
    array.readwrite().make_nonwriteable();
    array
}

#[pymethods]
impl TokenBatch {
    #[new]
    #[pyo3(signature = (ids, offsets, *, pad_id=None))]
    fn new(ids: &Bound<'_, PyAny>, offsets: &Bound<'_, PyAny>, pad_id: Option<TokenId>) -> PyResult<Self> {
        let ids = extract_ids(ids, &IdSource { row: None, vocab_size: None })?;
        let offsets: Vec<i64> = match offsets.cast::<PyArray1<i64>>() {
            Ok(offsets) => offsets.try_readonly()?.as_array().to_vec(),
            Err(_) => offsets.try_iter()?.map(|offset| offset?.extract()).collect::<PyResult<_>>()?,
        };
        if offsets.first() != Some(&0)
            || offsets.last() != Some(&(ids.len() as i64))
            || offsets.windows(2).any(|pair| pair[0] > pair[1])
        {
            return Err(PyValueError::new_err(format!(
                "offsets must begin with 0, never fall, and end with the number of ids: {}",
                ids.len()
            )));
        }
        Ok(Self { lists: Ragged { ids: ids.into(), offsets: offsets.into() }, pad_id })
    }

    /// All ids, one text after the other: a read-only array of uint32 over the batch's memory.
    #[getter]
    fn ids<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<TokenId>> {
        borrow_array(&slf.get().lists.ids, slf)
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
        if let Ok(slice) = index.cast::<PySlice>() {
            return batch.slice(slice)?.into_bound_py_any(slf.py());
        }
        let len = batch.lists.len();
        let out_of_range =
            || PyIndexError::new_err(format!("index {index} is out of range: the batch has {len} texts"));
        let position: isize = index.extract().map_err(|error: PyErr| {
            if error.is_instance_of::<PyOverflowError>(slf.py()) {
                return out_of_range();
            }
            PyTypeError::new_err("a TokenBatch is indexed by integers and slices")
        })?;
        let row = if position < 0 { position + len as isize } else { position };
        if row < 0 || row as usize >= len {
            return Err(out_of_range());
        }
        Ok(borrow_array(batch.lists.row(row as usize), slf).into_any())
    }

    fn __iter__(slf: Py<Self>) -> TokenBatchIterator {
        TokenBatchIterator { batch: slf, next: AtomicUsize::new(0) }
    }

    fn __eq__(&self, other: PyRef<'_, Self>) -> bool {
        self.lists.ids == other.lists.ids && self.lists.offsets == other.lists.offsets
    }

    fn __repr__(&self) -> String {
        format!("TokenBatch({} texts, {} ids)", self.lists.len(), self.lists.ids.len())
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
        let lists = &self.lists;
        // The same id is the same object throughout: 8 bytes an id instead of 40.
        let mut ints: HashMap<TokenId, Bound<'py, PyInt>> = HashMap::new();
        let mut int = |&id: &TokenId| {
            let shared =
                ints.entry(id).or_insert_with(|| id.into_pyobject(py).unwrap_or_else(|never| match never {}));
            shared.clone()
        };
        let rows = (0..lists.len()).map(|row| PyList::new(py, lists.row(row).iter().map(&mut int)));
        PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)
    }

    /// The ids as a rectangle: `(ids, mask)`, both int64 and of the same shape; the mask is 1 where
    /// an id stands and 0 where padding does.
    ///
    /// Rows are as long as the longest text, or exactly `max_length`: then longer texts lose ids at
    /// their end. `side` is the side that padding goes to, "right" or "left".
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
        let (ids, mask) = py.detach(|| pad(&self.lists, max_length, left, pad_id))?;
        Ok((PyArray2::from_owned_array(py, ids), PyArray2::from_owned_array(py, mask)))
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
        let ids = PyArray1::from_iter(py, self.lists.ids.iter().map(|&id| i64::from(id)));
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
        arrow::export(py, &self.lists)
    }
}

fn pad(
    lists: &Ragged,
    max_length: Option<usize>,
    left: bool,
    pad_id: TokenId,
) -> PyResult<(Array2<i64>, Array2<i64>)> {
    let rows = lists.len();
    let longest = || (0..rows).map(|row| lists.row(row).len()).max().unwrap_or(0);
    let width = max_length.unwrap_or_else(longest);
    let too_large = || PyMemoryError::new_err(format!("{rows} rows of {width} ids do not fit in memory"));
    let size = rows.checked_mul(width).ok_or_else(too_large)?;
    let filled = |value: i64| {
        let mut cells = Vec::new();
        cells.try_reserve_exact(size).map_err(|_| too_large())?;
        cells.resize(size, value);
        Ok::<_, PyErr>(cells)
    };
    let (mut ids, mut mask) = (filled(i64::from(pad_id))?, filled(0)?);
    for row in 0..rows {
        let list = lists.row(row);
        let list = &list[..list.len().min(width)];
        let start = row * width + if left { width - list.len() } else { 0 };
        for (cell, &id) in ids[start..].iter_mut().zip(list) {
            *cell = i64::from(id);
        }
        mask[start..start + list.len()].fill(1);
    }
    let shaped = |cells| Array2::from_shape_vec((rows, width), cells).map_err(|_| too_large());
    Ok((shaped(ids)?, shaped(mask)?))
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
