//! Ragged results, and work shared out among threads.
//!
//! Threads live as long as a call: a pool would outlive a fork in the parent only, and leave the
//! child waiting for threads that it does not have.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use crate::vocabulary::TokenId;
use crate::Result;

/// The ids of several texts: `ids[offsets[i]..offsets[i + 1]]` are those of text `i`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenBatch {
    /// The ids of all texts, one text after the other.
    pub ids: Vec<TokenId>,
    /// Where each text begins, and at last where the last one ends: one more than there are texts.
    pub offsets: Vec<i64>,
}

/// The bytes of several texts: `bytes[offsets[i]..offsets[i + 1]]` are those of text `i`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextBatch {
    /// All texts, one after the other.
    pub bytes: Vec<u8>,
    /// Where each text begins, and at last where the last one ends: one more than there are texts.
    pub offsets: Vec<i64>,
}

impl TokenBatch {
    /// Joins parts whose `offsets` hold the ends of their texts only.
    pub(crate) fn concat(parts: Vec<Self>, num_threads: Option<usize>) -> Self {
        let parts = parts.into_iter().map(|part| (part.ids, part.offsets)).collect();
        let (ids, offsets) = concat(parts, num_threads);
        Self { ids, offsets }
    }
}

impl TextBatch {
    /// Joins parts whose `offsets` hold the ends of their texts only.
    pub(crate) fn concat(parts: Vec<Self>, num_threads: Option<usize>) -> Self {
        let parts = parts.into_iter().map(|part| (part.bytes, part.offsets)).collect();
        let (bytes, offsets) = concat(parts, num_threads);
        Self { bytes, offsets }
    }
}

pub(crate) fn concat<T: Copy + Send>(
    mut parts: Vec<(Vec<T>, Vec<i64>)>,
    num_threads: Option<usize>,
) -> (Vec<T>, Vec<i64>) {
    let mut offsets = Vec::with_capacity(parts.iter().map(|part| part.1.len()).sum::<usize>() + 1);
    offsets.push(0);
    let mut base = 0;
    for (values, ends) in &parts {
        offsets.extend(ends.iter().map(|end| base + end));
        base += values.len() as i64;
    }
    let values = if parts.len() == 1 {
        let mut values = parts.swap_remove(0).0;
        // Room in vain is not worth keeping, once it is the most of it.
        if values.len() < values.capacity() / 2 {
            values.shrink_to_fit();
        }
        values
    } else {
        join(parts.into_iter().map(|part| part.0).collect(), num_threads)
    };
    (values, offsets)
}

/// The least memory worth a thread to copy it, in bytes.
const MIN_COPY_BYTES: usize = 1 << 20;

/// Copies all parts into one piece of memory, which threads fill together: that is the first time
/// that its pages are touched.
fn join<T: Copy + Send>(parts: Vec<Vec<T>>, num_threads: Option<usize>) -> Vec<T> {
    let len = parts.iter().map(Vec::len).sum();
    let mut joined = with_capacity(len);
    let mut room = &mut joined.spare_capacity_mut()[..len];
    let mut jobs = Vec::with_capacity(parts.len());
    for part in parts {
        let (place, rest) = room.split_at_mut(part.len());
        room = rest;
        jobs.push((part, place));
    }
    let threads = thread_count(num_threads).min(len * size_of::<T>() / MIN_COPY_BYTES).min(jobs.len());
    let jobs = Mutex::new(jobs.into_iter());
    let next = || jobs.lock().ok().and_then(|mut jobs| jobs.next());
    let copy = || {
        while let Some((part, place)) = next() {
            for (cell, value) in place.iter_mut().zip(part) {
                *cell = MaybeUninit::new(value);
            }
        }
    };
    share(threads, copy);
    // SAFETY: every part was copied to a place of its own size, by a thread that has ended, and the
    // places make up the first `len` cells.
    unsafe { joined.set_len(len) };
    joined
}

/// The least memory that is asked for in large pages, in bytes: where nothing is known to be
/// written at once, smaller amounts would get more than they use.
const MIN_HUGE_BYTES: usize = 4 << 20;

/// A vector that is about to be filled. The system is asked for large pages, where it has them: to
/// get many small ones takes as long as it takes to decode ids into them.
pub(crate) fn with_capacity<T>(capacity: usize) -> Vec<T> {
    let vector = Vec::with_capacity(capacity);
    #[cfg(target_os = "linux")]
    if capacity.saturating_mul(size_of::<T>()) >= MIN_HUGE_BYTES {
        const PAGE: usize = 4096;
        let start = vector.as_ptr() as usize;
        let (first, end) = (start.next_multiple_of(PAGE), (start + capacity * size_of::<T>()) / PAGE * PAGE);
        // SAFETY: the advice concerns memory of `vector` only, and changes no byte of it. Where it is
        // refused, nothing has happened.
        unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
    }
    vector
}

/// The least work worth a task of its own, in bytes of text.
const MIN_TASK_BYTES: usize = 64 << 10;
/// The most work in one task, so that threads end at about the same time.
const MAX_TASK_BYTES: usize = 4 << 20;

/// `count` items of `weight(index)` bytes, in tasks of about the same number of bytes, in order.
pub(crate) fn share_out_by(
    count: usize,
    num_threads: Option<usize>,
    weight: impl Fn(usize) -> usize,
) -> Vec<Range<usize>> {
    let threads = thread_count(num_threads);
    if threads == 1 {
        return std::iter::once(0..count).collect();
    }
    // Each item costs something, however short it is.
    let weight = |index| weight(index) + 32;
    let total: usize = (0..count).map(weight).sum();
    let target = (total / (threads * 8)).clamp(MIN_TASK_BYTES, MAX_TASK_BYTES);
    let mut tasks = Vec::with_capacity(total / target + 1);
    let (mut start, mut bytes) = (0, 0);
    for index in 0..count {
        bytes += weight(index);
        if bytes >= target {
            tasks.push(start..index + 1);
            (start, bytes) = (index + 1, 0);
        }
    }
    if start < count || tasks.is_empty() {
        tasks.push(start..count);
    }
    tasks
}

/// The most threads of a call, whatever it asks for.
const MAX_THREADS: usize = 1024;

fn thread_count(num_threads: Option<usize>) -> usize {
    num_threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
        .clamp(1, MAX_THREADS)
}

/// Runs all tasks and returns their results in order, or the error of the first task that failed.
pub(crate) fn run<T: Send>(
    tasks: &[Range<usize>],
    num_threads: Option<usize>,
    work: impl Fn(&Range<usize>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let threads = thread_count(num_threads).min(tasks.len());
    if threads <= 1 {
        return tasks.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<Result<T>>>> = tasks.iter().map(|_| Mutex::new(None)).collect();
    let drain = || {
        while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < tasks.len()) {
            let result = work(&tasks[index]);
            if let Ok(mut slot) = slots[index].lock() {
                *slot = Some(result);
            }
        }
    };
    share(threads, drain);
    // Every index was taken by some thread, and all of them have ended.
    slots.into_iter().filter_map(|slot| slot.into_inner().ok().flatten()).collect()
}

/// Runs `drain`, which works until nothing is left, on this thread and as many more as make up `threads`.
fn share(threads: usize, drain: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system gives no more threads, the others do the work.
            if std::thread::Builder::new().spawn_scoped(scope, &drain).is_err() {
                break;
            }
        }
        drain();
    });
}

/// Fills the rows of a rectangle of `width` cells a row: `fill` gets the number of a row and its cells.
/// Threads do it together where each has `min_cells` cells at the least.
pub fn fill<T: Send>(cells: &mut [T], width: usize, min_cells: usize, fill: impl Fn(usize, &mut [T]) + Sync) {
    let threads = thread_count(None).min(cells.len() / min_cells.max(1)).max(1);
    let rows = cells.len() / width;
    // Some more parts than threads, so that they end at about the same time.
    let part = if threads == 1 { rows } else { rows.div_ceil(threads * 4) }.max(1);
    let jobs = Mutex::new(cells.chunks_mut(part * width).enumerate());
    let next = || jobs.lock().ok().and_then(|mut jobs| jobs.next());
    share(threads, || {
        while let Some((index, cells)) = next() {
            for (row, cells) in cells.chunks_mut(width).enumerate() {
                fill(index * part + row, cells);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, ErrorKind};

    #[test]
    fn tasks_cover_all_items_in_order() {
        for threads in [1, 2, 7, usize::MAX] {
            let weights = [0usize, 100_000, 5, 5, 900_000, 0, 0];
            let tasks = share_out_by(weights.len(), Some(threads), |index| weights[index]);
            let covered: Vec<usize> = tasks.into_iter().flatten().collect();
            assert_eq!(covered, (0..weights.len()).collect::<Vec<_>>());
        }
        assert_eq!(share_out_by(0, Some(2), |_| 0), vec![0..0]);
    }

    #[test]
    fn parts_are_joined_in_order() {
        for (count, len) in [(0, 5), (1, 5), (3, 0), (40, 100_000)] {
            let parts: Vec<(Vec<u32>, Vec<i64>)> = (0..count)
                .map(|part| {
                    ((0..len).map(|index| part * len + index).collect(), vec![1.min(len.into()), len.into()])
                })
                .collect();
            let (values, offsets) = concat(parts, Some(3));
            assert_eq!(values, (0..count * len).collect::<Vec<_>>());
            assert_eq!(offsets.len(), 2 * count as usize + 1);
            assert_eq!(offsets.last(), Some(&i64::from(count * len)));
            assert!(offsets.is_sorted());
        }
    }

    #[test]
    fn room_is_made_in_any_size() {
        for bytes in [0, 1, MIN_HUGE_BYTES - 1, MIN_HUGE_BYTES, MIN_HUGE_BYTES + 4097] {
            let mut vector = with_capacity(bytes);
            vector.resize(bytes, 7u8);
            assert!(vector.iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn results_keep_their_order() {
        let tasks: Vec<_> = (0..100).map(|index| index..index + 1).collect();
        let results = run(&tasks, Some(4), |task| Ok(task.start)).unwrap();
        assert_eq!(results, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_error_is_given() {
        let tasks: Vec<_> = (0..100).map(|index| index..index + 1).collect();
        let error = run(&tasks, Some(4), |task| match task.start {
            40.. => Err(Error::id_out_of_range(7, task.start, 1)),
            _ => Ok(()),
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IdOutOfRange);
        assert!(error.to_string().contains("index 40"));
    }
}
