//! Ragged arrays: several rows in one piece of memory, and how Python gets at them.

use std::mem::MaybeUninit;
use std::slice::from_raw_parts_mut;

use arrow_buffer::{ArrowNativeType, ScalarBuffer};
use llamatok::memory::{large_page_bytes, prefer_large_pages, LARGE_PAGE};
use numpy::ndarray::ArrayView1;
use numpy::{Element, PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::{PyIndexError, PyMemoryError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PySlice;
use pyo3::PyClass;

use crate::ids::is_aligned;

/// Several rows, one after the other: row `i` is `values[offsets[i]..offsets[i + 1]]`.
///
/// Whoever makes one sees to it that the offsets begin with 0, never fall, and end with the number
/// of values.
#[derive(Clone, PartialEq)]
pub struct Ragged<T: ArrowNativeType> {
    pub values: ScalarBuffer<T>,
    pub offsets: ScalarBuffer<i64>,
}

/// What an index names.
pub enum Rows<T: ArrowNativeType> {
    One(usize),
    Several(Ragged<T>),
}

impl<T: ArrowNativeType> Ragged<T> {
    /// From Python's arguments, which are checked.
    pub fn checked(values: Vec<T>, offsets: &Bound<'_, PyAny>, called: &str) -> PyResult<Self> {
        let offsets: Vec<i64> = match offsets.cast::<PyArray1<i64>>() {
            Ok(offsets) if is_aligned(offsets) => offsets.try_readonly()?.as_array().to_vec(),
            _ => offsets.try_iter()?.map(|offset| offset?.extract()).collect::<PyResult<_>>()?,
        };
        if offsets.first() != Some(&0)
            || offsets.last() != Some(&(values.len() as i64))
            || offsets.windows(2).any(|pair| pair[0] > pair[1])
        {
            return Err(PyValueError::new_err(format!(
                "offsets must begin with 0, never fall, and end with the number of {called}: {}",
                values.len()
            )));
        }
        Ok(Self { values: values.into(), offsets: offsets.into() })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[T] {
        &self.values[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    /// All rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[T]> {
        (0..self.len()).map(|index| self.row(index))
    }

    /// The row or the rows that `index` of a `C` names, as in a list.
    pub fn get<C: PyClass>(&self, index: &Bound<'_, PyAny>) -> PyResult<Rows<T>> {
        if let Ok(slice) = index.cast::<PySlice>() {
            return self.slice(slice).map(Rows::Several);
        }
        let (py, len) = (index.py(), self.len());
        let out_of_range =
            || PyIndexError::new_err(format!("index {index} is out of range: the batch has {len} texts"));
        let position: isize = index.extract().map_err(|error: PyErr| {
            if error.is_instance_of::<PyOverflowError>(py) {
                return out_of_range();
            }
            match py.get_type::<C>().name() {
                Ok(name) => PyTypeError::new_err(format!("a {name} is indexed by integers and slices")),
                Err(error) => error,
            }
        })?;
        let row = if position < 0 { position + len as isize } else { position };
        usize::try_from(row).ok().filter(|&row| row < len).map(Rows::One).ok_or_else(out_of_range)
    }

    fn slice(&self, slice: &Bound<'_, PySlice>) -> PyResult<Self> {
        let indices = slice.indices(self.len() as isize)?;
        if indices.step == 1 {
            let first = self.offsets[indices.start as usize];
            let offsets = self.offsets.slice(indices.start as usize, indices.slicelength + 1);
            let values = self.values.slice(first as usize, (offsets[indices.slicelength] - first) as usize);
            return Ok(Self { values, offsets: offsets.iter().map(|offset| offset - first).collect() });
        }
        let (mut values, mut offsets) = (Vec::new(), vec![0]);
        for step in 0..indices.slicelength as isize {
            values.extend_from_slice(self.row((indices.start + step * indices.step) as usize));
            offsets.push(values.len() as i64);
        }
        Ok(Self { values: values.into(), offsets: offsets.into() })
    }
}

/// A read-only array over memory that `owner` keeps alive: `slice` must be memory of `owner`, which
/// must never replace, move or write to it.
pub fn borrow_array<'py, T: Element, C: PyClass<Frozen = pyo3::pyclass::boolean_struct::True>>(
    slice: &[T],
    owner: &Bound<'py, C>,
) -> Bound<'py, PyArray1<T>> {
    // SAFETY: the callers are the batches, which are frozen and hold their memory in shared buffers
    // that nobody writes to; the array holds a reference to `owner`, and is made read-only before
    // anyone sees it.
    let array = unsafe { PyArray1::borrow_from_array(&ArrayView1::from(slice), owner.clone().into_any()) };
    array.readwrite().make_nonwriteable();
    array
}

/// A new array, not filled yet.
pub fn rectangle(py: Python<'_>, rows: usize, width: usize) -> PyResult<Bound<'_, PyArray2<i64>>> {
    let empty = || match rows.checked_mul(width).and_then(|size| size.checked_mul(size_of::<i64>())) {
        Some(bytes) if (1..=MAX_LARGE).contains(&large_page_bytes(bytes)) => {
            in_large_pages(py, rows, width, bytes)
        }
        _ => py.import("numpy")?.call_method1(intern!(py, "empty"), ((rows, width), intern!(py, "int64"))),
    };
    // By numpy's own functions, whose errors are exceptions.
    let array = empty().map_err(|error| {
        let too_large = PyMemoryError::new_err(format!("{rows} rows of {width} ids do not fit in memory"));
        too_large.set_cause(py, Some(error));
        too_large
    })?;
    Ok(array.cast_into()?)
}

/// More large pages than any memory has, in bytes; beyond it numpy has the words.
const MAX_LARGE: usize = isize::MAX as usize / 2;

/// An array of `bytes` in large pages, a view of a longer one: numpy asks for them from 4 MB on, and not for
/// all of it.
fn in_large_pages(py: Python<'_>, rows: usize, width: usize, bytes: usize) -> PyResult<Bound<'_, PyAny>> {
    let large = large_page_bytes(bytes);
    let memory = py
        .import("numpy")?
        .call_method1(intern!(py, "empty"), (bytes.max(large) + LARGE_PAGE, intern!(py, "uint8")))?;
    let memory = memory.cast_into::<PyArray1<u8>>()?;
    let start = memory.data().align_offset(LARGE_PAGE).min(LARGE_PAGE);
    // SAFETY: the array is new, of this size, and known to nobody else.
    let pages = unsafe { from_raw_parts_mut(memory.data().add(start).cast::<MaybeUninit<u8>>(), large) };
    prefer_large_pages(pages);
    // By Python's own `slice`: `PySlice::new` of PyO3 0.29 never gives its integers up.
    let cells = memory.get_item(py.get_type::<PySlice>().call1((start, start + bytes))?)?;
    let cells = cells.call_method1(intern!(py, "view"), (intern!(py, "int64"),))?;
    cells.call_method1(intern!(py, "reshape"), (rows, width))
}
