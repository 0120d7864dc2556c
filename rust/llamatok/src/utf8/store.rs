//! Memory that is handed out once, bit by bit, and stays where it is.

use std::cell::RefCell;
use std::slice::from_raw_parts_mut;

use memmap2::MmapMut;

use crate::memory::{map_zeroed, LARGE_PAGE};

/// Chunks are twice as large as what those before them hold, up to this many bytes, and as large as is
/// asked for.
const MAX_CHUNK: usize = 16 << 20;

#[derive(Debug, Default)]
pub(super) struct Store {
    chunks: RefCell<Vec<Chunk>>,
}

impl Store {
    /// What `write` leaves at the beginning of a piece of memory of at least `room` bytes: it tells how many
    /// these are, and nothing is kept if it does not. `None` also where there is no such memory.
    pub(super) fn fill(&self, room: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<&[u8]> {
        let mut chunks = self.chunks.borrow_mut();
        if chunks.last().is_none_or(|chunk| chunk.len - chunk.used < room) {
            let used: usize = chunks.iter().map(|chunk| chunk.used).sum();
            let wanted = room.max((2 * used).min(MAX_CHUNK));
            chunks.push(Chunk::new(wanted).or_else(|| Chunk::new(room))?);
        }
        let chunk = chunks.last_mut()?;
        // SAFETY: the memory is initialized, stays where it is until `self` is cleared or dropped, which
        // waits for all that is borrowed from it, and is borrowed from `start` to `used` alone.
        let free = unsafe { from_raw_parts_mut(chunk.start.add(chunk.used), chunk.len - chunk.used) };
        let written = write(free)?;
        let (written, _) = free.split_at(written);
        chunk.used += written.len();
        Some(written)
    }

    /// Takes all memory back, and keeps the largest chunk of at most `bytes` for what comes.
    pub(super) fn clear(&mut self, bytes: usize) {
        let chunks = self.chunks.get_mut();
        chunks.retain(|chunk| chunk.len <= bytes);
        chunks.sort_unstable_by_key(|chunk| std::cmp::Reverse(chunk.len));
        chunks.truncate(1);
        chunks.iter_mut().for_each(|chunk| chunk.used = 0);
    }
}

// SAFETY: `start` leads to memory that the chunk alone owns.
unsafe impl Send for Chunk {}

#[derive(Debug)]
struct Chunk {
    _memory: Memory,
    start: *mut u8,
    len: usize,
    used: usize,
}

/// Small chunks come from the allocator, which has them at hand; others from the system, in large pages.
#[derive(Debug)]
enum Memory {
    Heap { _bytes: Vec<u8> },
    Mapped { _map: MmapMut },
}

impl Chunk {
    fn new(len: usize) -> Option<Self> {
        if len < LARGE_PAGE {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len).ok()?;
            bytes.resize(len, 0);
            return Some(Self {
                start: bytes.as_mut_ptr(),
                len,
                used: 0,
                _memory: Memory::Heap { _bytes: bytes },
            });
        }
        let (mut map, skipped) = map_zeroed(len)?;
        let start = map[skipped..].as_mut_ptr();
        Some(Self { start, len, used: 0, _memory: Memory::Mapped { _map: map } })
    }
}
