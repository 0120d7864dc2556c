//! `EncodingBatch`: encoded texts as columns for numpy, and as lists.

use std::mem::MaybeUninit;
use std::slice::from_raw_parts_mut;
use std::sync::{Arc, OnceLock};

use llamatok::components::Side;
use llamatok::pipeline::Column;
use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::{PyIndexError, PyMemoryError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList, PySlice, PyTuple};
use pyo3::IntoPyObjectExt;

use crate::arguments::side;
use crate::interrupt::{detached, Signals};
use crate::ints::Ints;
use crate::ragged::{borrow_array, rectangle};

/// Encoded texts: row after row of tokens, and what is known of each token.
#[pyclass(frozen, module = "llamatok._core")]
pub struct EncodingBatch {
    batch: llamatok::EncodingBatch,
    pipeline: llamatok::Pipeline,
    ints: Arc<Ints>,
    columns: [OnceLock<Vec<i32>>; 3],
}

/// The columns that Python asks for by name.
enum Name {
    Flat(Column),
    Offsets,
    Words,
}

impl Name {
    fn parse(name: &str) -> PyResult<Self> {
        Ok(match name {
            "input_ids" => Self::Flat(Column::Ids),
            "token_type_ids" => Self::Flat(Column::TypeIds),
            "attention_mask" => Self::Flat(Column::AttentionMask),
            "special_tokens_mask" => Self::Flat(Column::SpecialTokensMask),
            "sequence_ids" => Self::Flat(Column::SequenceIds),
            "offset_mapping" => Self::Offsets,
            "word_ids" => Self::Words,
            _ => return Err(PyValueError::new_err(format!("there is no column {name:?}"))),
        })
    }
}

/// The least cells worth a thread to fill.
const MIN_CELLS: usize = 1 << 18;

impl EncodingBatch {
    pub fn new(batch: llamatok::EncodingBatch, pipeline: llamatok::Pipeline, ints: Arc<Ints>) -> Self {
        Self { batch, pipeline, ints, columns: Default::default() }
    }

    fn column<'py>(slf: &Bound<'py, Self>, slot: usize, column: Column) -> Bound<'py, PyArray1<i32>> {
        let this = slf.get();
        let values = this.columns[slot].get_or_init(|| this.batch.column(column));
        borrow_array(values, slf)
    }

    fn row_len(&self, row: usize) -> usize {
        self.batch.row(row).len()
    }

    /// How much padding goes before and behind a row.
    fn padding(&self, row: usize, length: usize, side: Side) -> (usize, usize) {
        let padding = length.saturating_sub(self.row_len(row));
        match side {
            Side::Left => (padding, 0),
            Side::Right => (0, padding),
        }
    }

    fn longest(&self) -> usize {
        (0..self.batch.len()).map(|row| self.row_len(row)).max().unwrap_or(0)
    }

    /// The tokens of a row.
    pub fn row_tokens<'py>(&self, py: Python<'py>, row: usize) -> PyResult<Bound<'py, PyList>> {
        let tokens = self.batch.row(row).map(|place| {
            let token = || self.pipeline.id_to_token(self.batch.ids[place]);
            self.batch.surface(place).or_else(token).unwrap_or_default()
        });
        PyList::new(py, tokens.collect::<Vec<_>>())
    }

    /// A row of a column that comes in runs of equal values.
    fn run_list<'py>(
        &self,
        py: Python<'py>,
        column: Column,
        row: usize,
        (before, after): (usize, usize),
        padding: &Bound<'py, PyInt>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut runs: Vec<(Option<i64>, usize)> = vec![(None, before)];
        self.batch.for_each_run(column, row, |value, count| runs.push((Some(value), count)));
        runs.push((None, after));
        let mut list: Option<Bound<'py, PyAny>> = None;
        for (value, count) in runs.into_iter().filter(|&(_, count)| count > 0) {
            let item = match value {
                Some(-1) | None if column == Column::SequenceIds => py.None().into_bound(py),
                Some(value) => value.into_bound_py_any(py)?,
                None => padding.clone().into_any(),
            };
            let run = PyList::new(py, [item])?.as_sequence().repeat(count)?;
            list = Some(match list {
                Some(list) => list.cast::<PyList>()?.as_sequence().concat(&run)?.into_any(),
                None => run.into_any(),
            });
        }
        Ok(list.unwrap_or_else(|| PyList::empty(py).into_any()))
    }
}

#[pymethods]
impl EncodingBatch {
    fn __len__(&self) -> usize {
        self.batch.len()
    }

    /// All ids, one row after the other: a read-only array of uint32 over the batch's memory.
    #[getter]
    fn ids<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<u32>> {
        borrow_array(&slf.get().batch.ids, slf)
    }

    /// Where each row begins, and at last where the last one ends.
    #[getter]
    fn row_offsets<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<i64>> {
        borrow_array(&slf.get().batch.row_offsets, slf)
    }

    /// The type id of each token.
    #[getter]
    fn type_ids<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<i32>> {
        Self::column(slf, 0, Column::TypeIds)
    }

    /// 1 for the tokens that the template added, else 0.
    #[getter]
    fn special_tokens_mask<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<i32>> {
        Self::column(slf, 1, Column::SpecialTokensMask)
    }

    /// 0 for the tokens of a text, 1 for those of its pair, -1 for those of the template.
    #[getter]
    fn sequence_ids<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<i32>> {
        Self::column(slf, 2, Column::SequenceIds)
    }

    /// The number of each token's word, -1 for those of the template; None unless asked for.
    #[getter]
    fn word_ids<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyArray1<i32>>> {
        slf.get().batch.words.as_ref().map(|words| borrow_array(words, slf))
    }

    /// Of shape (n, 2): each token's range of code points in its text; None unless asked for.
    #[getter]
    fn char_offsets<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(spans) = &slf.get().batch.spans else { return Ok(None) };
        let flat = borrow_array(spans.as_flattened(), slf);
        flat.call_method1(intern!(slf.py(), "reshape"), (spans.len(), 2)).map(Some)
    }

    /// The number of each row's text.
    #[getter]
    fn sample_mapping<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<i64>> {
        let this = slf.get();
        match &this.batch.samples {
            Some(samples) => borrow_array(samples, slf),
            None => PyArray1::from_iter(slf.py(), 0..this.batch.len() as i64),
        }
    }

    /// For each row, what was cut off, with `stride` ids more; "sentencepiece" with `overflow` only.
    #[getter]
    fn overflowing_ids<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        let Some((ids, ends)) = &self.batch.overflowing else { return Ok(None) };
        let rows = ends.windows(2).map(|ends| self.ints.list(py, &ids[ends[0] as usize..ends[1] as usize]));
        PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?).map(Some)
    }

    /// For each row, the number of its ids less `max_length`; "sentencepiece" with `overflow` only.
    #[getter]
    fn num_truncated<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyArray1<i64>>> {
        slf.get().batch.excess.as_ref().map(|excess| borrow_array(excess, slf))
    }

    /// Rows that are left whole, since more would have to be cut off than there is.
    #[getter]
    fn unmet_rows(&self) -> Vec<i64> {
        self.batch.unmet.clone()
    }

    /// The number of tokens of each row.
    fn lengths<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_iter(py, self.batch.row_offsets.windows(2).map(|ends| ends[1] - ends[0]))
    }

    /// The tokens of a row.
    fn tokens<'py>(&self, py: Python<'py>, row: isize) -> PyResult<Bound<'py, PyList>> {
        let len = self.batch.len();
        let index = if row < 0 { row + len as isize } else { row };
        match usize::try_from(index).ok().filter(|&index| index < len) {
            Some(index) => self.row_tokens(py, index),
            None => {
                Err(PyIndexError::new_err(format!("row {row} is out of range: the batch has {len} rows")))
            }
        }
    }

    /// A column as lists, one a row; rows shorter than `length` are filled up at `side`.
    #[pyo3(signature = (column, *, length=None, side="right", pad_value=0))]
    fn lists<'py>(
        &self,
        py: Python<'py>,
        column: &str,
        length: Option<usize>,
        side: &str,
        pad_value: i64,
    ) -> PyResult<Bound<'py, PyList>> {
        let (name, side) = (Name::parse(column)?, self::side("side", side)?);
        let missing =
            || PyValueError::new_err(format!("{column} was not asked for: encode with offsets=True"));
        let (length, padding) = (length.unwrap_or(0), pad_value.into_pyobject(py)?);
        let lists = PyList::empty(py);
        let mut signals = Signals::default();
        for row in 0..self.batch.len() {
            signals.after(py, self.batch.row(row).len() + 1)?;
            let (before, after) = self.padding(row, length, side);
            let places = self.batch.row(row);
            let list = match name {
                Name::Flat(Column::Ids) => {
                    self.ints.padded_list(py, &self.batch.ids[places], before, after, &padding)?.into_any()
                }
                Name::Flat(column) => self.run_list(py, column, row, (before, after), &padding)?,
                Name::Offsets => {
                    let spans = self.batch.spans.as_ref().ok_or_else(missing)?;
                    let pad = |count| std::iter::repeat_n([0, 0], count);
                    let spans = pad(before).chain(spans[places].iter().copied()).chain(pad(after));
                    let tuples = spans.map(|span| PyTuple::new(py, span)).collect::<PyResult<Vec<_>>>()?;
                    PyList::new(py, tuples)?.into_any()
                }
                Name::Words => {
                    let words = self.batch.words.as_ref().ok_or_else(missing)?;
                    let pad = |count| std::iter::repeat_n(None, count);
                    let words = words[places].iter().map(|&word| (word >= 0).then_some(word));
                    let words = pad(before).chain(words).chain(pad(after));
                    PyList::new(py, words.collect::<Vec<_>>())?.into_any()
                }
            };
            lists.append(list)?;
        }
        Ok(lists)
    }

    /// A column as a rectangle; rows are as long as the longest one, or `length`, which must not be less.
    #[pyo3(signature = (column, length=None, side="right", pad_value=0))]
    fn padded<'py>(
        &self,
        py: Python<'py>,
        column: &str,
        length: Option<usize>,
        side: &str,
        pad_value: i64,
    ) -> PyResult<Bound<'py, PyArray2<i64>>> {
        let Name::Flat(column) = Name::parse(column)? else {
            return Err(PyValueError::new_err(format!("{column} cannot be padded to a rectangle")));
        };
        let side = self::side("side", side)?;
        let (rows, longest) = (self.batch.len(), self.longest());
        let width = length.unwrap_or(longest);
        if width < longest {
            return Err(PyValueError::new_err(format!(
                "a row has {longest} tokens, more than length={width}"
            )));
        }
        let size = rows.checked_mul(width);
        let size = size.ok_or_else(|| PyMemoryError::new_err(format!("{rows} rows of {width} tokens")))?;
        let array = rectangle(py, rows, width)?;
        let cells = array.data().cast();
        // SAFETY: the array is new, of this size, contiguous, and known to nobody else; it is kept until
        // the slice is gone.
        let cells: &mut [MaybeUninit<i64>] = unsafe { from_raw_parts_mut(cells, size) };
        detached(py, || {
            if width > 0 {
                llamatok::pipeline::fill(cells, width, MIN_CELLS, |row, cells| {
                    let (before, after) = self.padding(row, width, side);
                    let len = cells.len();
                    cells[..before].fill(MaybeUninit::new(pad_value));
                    cells[len - after..].fill(MaybeUninit::new(pad_value));
                    let values = &mut cells[before..len - after];
                    if column == Column::Ids {
                        for (cell, &id) in values.iter_mut().zip(&self.batch.ids[self.batch.row(row)]) {
                            cell.write(i64::from(id));
                        }
                        return;
                    }
                    let mut done = 0;
                    self.batch.for_each_run(column, row, |value, count| {
                        values[done..done + count].fill(MaybeUninit::new(value));
                        done += count;
                    });
                });
            }
        })?;
        Ok(array)
    }

    fn __getitem__(&self, rows: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Ok(slice) = rows.cast::<PySlice>() else {
            return Err(PyTypeError::new_err("an EncodingBatch is sliced: batch[i:i + 1] is row i"));
        };
        let indices = slice.indices(self.batch.len() as isize)?;
        if indices.step != 1 {
            return Err(PyValueError::new_err("an EncodingBatch is sliced in steps of 1"));
        }
        let start = indices.start as usize;
        let batch = self.batch.slice(start..start + indices.slicelength);
        Ok(Self::new(batch, self.pipeline.clone(), self.ints.clone()))
    }

    fn __repr__(&self) -> String {
        format!("EncodingBatch({} rows, {} tokens)", self.batch.len(), self.batch.ids.len())
    }
}
