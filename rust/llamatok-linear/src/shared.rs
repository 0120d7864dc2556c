//! Memory that several threads write to, each to a part of its own.

use std::marker::PhantomData;

/// A matrix, row by row, whose elements may be written by one thread while others write other ones.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    _memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: whoever calls an unsafe method vouches for what other threads do; the safe ones touch no element.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// `memory` is `rows` rows of `width` elements.
    pub fn new(memory: &'a mut [f32], rows: usize, width: usize) -> Self {
        assert_eq!(memory.len(), rows * width);
        Self { start: memory.as_mut_ptr(), rows, width, _memory: PhantomData }
    }

    /// Writes an element.
    ///
    /// # Safety
    /// Nobody else reads or writes it at the time.
    pub unsafe fn put(self, row: usize, column: usize, value: f32) {
        assert!(row < self.rows && column < self.width);
        // SAFETY: inside the memory, which is borrowed for as long as this lives; the caller answers for the rest.
        unsafe { self.start.add(row * self.width + column).write(value) }
    }

    /// All rows.
    ///
    /// # Safety
    /// Nobody writes while the slice is in use.
    pub unsafe fn all(self) -> &'a [f32] {
        // SAFETY: the whole memory; the caller answers for the rest.
        unsafe { std::slice::from_raw_parts(self.start, self.rows * self.width) }
    }

    /// `count` elements of a row, from `column` on, to read.
    ///
    /// # Safety
    /// Nobody writes them while the slice is in use.
    pub unsafe fn read(self, row: usize, column: usize, count: usize) -> &'a [f32] {
        self.check(row, column, count);
        // SAFETY: inside the memory; the caller answers for the rest.
        unsafe { std::slice::from_raw_parts(self.start.add(row * self.width + column), count) }
    }

    /// `count` elements of a row, from `column` on, to write.
    ///
    /// # Safety
    /// Nobody else reads or writes them while the slice is in use.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(self, row: usize, column: usize, count: usize) -> &'a mut [f32] {
        self.check(row, column, count);
        // SAFETY: inside the memory; the caller answers for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.width + column), count) }
    }

    fn check(self, row: usize, column: usize, count: usize) {
        assert!(row < self.rows && column <= self.width && count <= self.width - column);
    }
}
