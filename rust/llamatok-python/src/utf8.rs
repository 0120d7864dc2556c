//! The UTF-8 of `str`.
//!
//! Python makes the UTF-8 of a `str` that is not ASCII when it is first asked for it
//! (`PyUnicode_AsUTF8AndSize`), one character after the other, and keeps it as long as the `str` lives. Most
//! texts are encoded once; for them, this takes more time than need be, and up to twice the memory of what
//! may be a long list. So, where the processor can do it faster, it is made in here, and given up when the
//! call ends.

use std::cell::{OnceCell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Mutex;

use llamatok::Utf8Encoder;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{ffi, intern};

/// Shorter texts, in characters, are left to Python: there is little to win.
const MIN_CHARACTERS: usize = 256;
/// Longer ones, too: all of their characters would not stay in the second-level cache.
const MAX_CHARACTERS: usize = 1 << 18;

/// What is kept of the memory of a call, for each of so many calls at a time.
const SPARE_BYTES: usize = 4 << 20;
const MAX_SPARE: usize = 4;

/// The UTF-8 of texts, as long as it lives.
#[derive(Default)]
pub struct Utf8 {
    space: OnceCell<Space>,
}

#[derive(Default)]
struct Space {
    encoder: Utf8Encoder,
    characters: RefCell<Vec<u32>>,
}

/// Space of calls that have ended.
static SPARE: Mutex<Vec<Space>> = Mutex::new(Vec::new());

impl Drop for Utf8 {
    fn drop(&mut self) {
        let Some(mut space) = self.space.take() else { return };
        space.encoder.clear(SPARE_BYTES);
        // A lock that a fork has left behind stays locked: nobody waits for it.
        if let Ok(mut spare) = SPARE.try_lock() {
            if spare.len() < MAX_SPARE {
                spare.push(space);
            }
        }
    }
}

impl Utf8 {
    /// The UTF-8 of a `str`: its own if it is likely to have it, or else a copy in here.
    ///
    /// # Errors
    /// `UnicodeEncodeError` for lone surrogates.
    pub fn of<'a>(&'a self, text: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
        match self.made(text)? {
            Some(utf8) => Ok(utf8),
            None => text.to_str(),
        }
    }

    /// The UTF-8 of a text that is worth it; `None` for others, for lone surrogates, and where memory is
    /// short, which Python has words for.
    fn made(&self, text: &Bound<'_, PyString>) -> PyResult<Option<&str>> {
        // Classes of users' own may say anything of their length.
        if !text.is_exact_instance_of::<PyString>() {
            return Ok(None);
        }
        let length = text.len()?;
        if !(MIN_CHARACTERS..=MAX_CHARACTERS).contains(&length)
            || !Utf8Encoder::is_fast()
            || text.call_method0(intern!(text.py(), "isascii"))?.is_truthy()?
            || MET.meet(key(text, length))
        {
            return Ok(None);
        }
        let space = self
            .space
            .get_or_init(|| SPARE.try_lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default());
        let mut characters = space.characters.borrow_mut();
        if characters.len() < length {
            let more = length - characters.len();
            if characters.try_reserve(more).is_err() {
                return Ok(None);
            }
            characters.resize(length, 0);
        }
        let size = ffi::Py_ssize_t::try_from(length)?;
        // SAFETY: `characters` has room for the `length` characters of the text, and no zero is asked for.
        if unsafe { ffi::PyUnicode_AsUCS4(text.as_ptr(), characters.as_mut_ptr(), size, 0) }.is_null() {
            return Err(PyErr::fetch(text.py()));
        }
        Ok(space.encoder.encode(&characters[..length]))
    }
}

/// What tells texts that were met from others: where a text is, how long it is, and some of its characters.
fn key(text: &Bound<'_, PyString>, length: usize) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let samples = [length / 4, length / 2, length - 1].map(|place| {
        // SAFETY: the place lies within the text, which is not empty.
        unsafe { ffi::PyUnicode_ReadChar(text.as_ptr(), place as ffi::Py_ssize_t) }
    });
    samples
        .into_iter()
        .fold(text.as_ptr() as u64 ^ (length as u64) << 32, |key, sample| {
            (key ^ u64::from(sample)).wrapping_mul(FACTOR).rotate_left(29)
        })
        .wrapping_mul(FACTOR)
}

/// Some 16,000 texts that this process has met lately. One that comes again may well come a third time, and is
/// then best left with its UTF-8. Texts may be forgotten, and others be taken for one that was met: that
/// costs time or memory, and changes no id.
static MET: Met = Met([const { [const { AtomicU32::new(0) }; 4] }; 1 << Met::BITS]);

/// Tags of keys, four to a bucket; 0 is none.
struct Met([[AtomicU32; 4]; 1 << Met::BITS]);

impl Met {
    const BITS: u32 = 12;

    /// Whether the text of a key was met before.
    fn meet(&self, key: u64) -> bool {
        let tag = key as u32 | 1;
        let bucket = &self.0[(key >> (u64::BITS - Self::BITS)) as usize];
        for place in bucket {
            match place.load(Ordering::Relaxed) {
                met if met == tag => return true,
                0 => {
                    place.store(tag, Ordering::Relaxed);
                    return false;
                }
                _ => {}
            }
        }
        bucket[(key >> 32) as usize % bucket.len()].store(tag, Ordering::Relaxed);
        false
    }
}
