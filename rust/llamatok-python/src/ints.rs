//! Python's int objects of ids, each made once: it takes less time to look one up than to make it, and
//! a list of ids then takes 8 bytes an id instead of 40.

use llamatok::vocabulary::MAX_PIECES;
use llamatok::TokenId;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyInt, PyList};

use crate::interrupt::Signals;

/// The longest list that is made at once.
pub const MAX_QUICK: usize = 1 << 16;

/// The int objects of the ids of a vocabulary.
pub struct Ints(Box<[PyOnceLock<Py<PyInt>>]>);

impl Ints {
    /// For ids below `len`; others are made anew each time.
    pub fn new(len: usize) -> Self {
        Self((0..len.min(MAX_PIECES)).map(|_| PyOnceLock::new()).collect())
    }

    /// How many ids have an object of their own.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The object of an id.
    #[inline]
    pub fn get<'py>(&self, py: Python<'py>, id: TokenId) -> Bound<'py, PyInt> {
        match self.0.get(id as usize) {
            Some(slot) => slot.get_or_init(py, || make(py, id).unbind()).bind(py).clone(),
            None => make(py, id),
        }
    }

    /// A list of ids.
    pub fn list<'py>(&self, py: Python<'py>, ids: &[TokenId]) -> PyResult<Bound<'py, PyList>> {
        self.padded_list(py, ids, 0, 0, &make(py, 0))
    }

    /// A list of ids, with `before` and `after` paddings around them.
    pub fn padded_list<'py>(
        &self,
        py: Python<'py>,
        ids: &[TokenId],
        before: usize,
        after: usize,
        padding: &Bound<'py, PyInt>,
    ) -> PyResult<Bound<'py, PyList>> {
        let len = before + ids.len() + after;
        let pad = |count: usize| (0..count).map(|_| padding.clone());
        let items = pad(before).chain(ids.iter().map(|&id| self.get(py, id))).chain(pad(after));
        if len > MAX_QUICK {
            return long_list(py, items);
        }
        // SAFETY: the list is new and nobody else knows it; it has `len` places, each of which is set once
        // to an object whose reference is given away. Nothing in between runs other code, but for a garbage
        // collection, which lists with empty places stand.
        unsafe {
            let list = Bound::from_owned_ptr_or_err(py, ffi::PyList_New(len as ffi::Py_ssize_t))?;
            for (index, item) in items.enumerate() {
                ffi::PyList_SetItem(list.as_ptr(), index as ffi::Py_ssize_t, item.into_ptr());
            }
            Ok(list.cast_into_unchecked())
        }
    }
}

/// A list that takes long to make: signals are handled meanwhile, whose handlers may look at it.
///
/// # Errors
/// What a handler has raised.
pub fn long_list<'py>(
    py: Python<'py>,
    items: impl Iterator<Item = Bound<'py, PyInt>>,
) -> PyResult<Bound<'py, PyList>> {
    let (list, mut signals) = (PyList::empty(py), Signals::default());
    for item in items {
        signals.after(py, 1)?;
        list.append(item)?;
    }
    Ok(list)
}

fn make(py: Python<'_>, id: TokenId) -> Bound<'_, PyInt> {
    id.into_pyobject(py).unwrap_or_else(|never| match never {})
}
