//! Ragged results, and work shared out among threads.
//!
//! Threads live as long as a call: a pool would outlive a fork in the parent only, and leave the
//! child waiting for threads that it does not have.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::Mutex;

use crate::memory::prefer_large_pages;
use crate::stop;
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
    /// Joins what tasks have left in arenas, each with the ends of its texts.
    pub(crate) fn concat(arenas: &Arenas, parts: Vec<(Part, Vec<i64>)>, num_threads: Option<usize>) -> Self {
        let mut values = arenas.take_values();
        let lens: Vec<usize> = parts.iter().map(|(part, _)| part.range.len()).collect();
        let offsets = offsets(lens.iter().copied().zip(parts.iter().map(|(_, ends)| ends.as_slice())));
        if let (false, [(part, _)], [_]) = (arenas.are_joined, parts.as_slice(), values.as_slice()) {
            if part.range == (0..values[0].len()) {
                return Self { ids: trimmed(values.swap_remove(0)), offsets };
            }
        }
        let slices = parts.iter().map(|(part, _)| &values[part.arena][part.range.clone()]).collect();
        let ids = join(slices, num_threads);
        arenas.give_back(values);
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

/// Joins parts, each with the ends of its texts.
pub(crate) fn concat<T: Copy + Send + Sync>(
    mut parts: Vec<(Vec<T>, Vec<i64>)>,
    num_threads: Option<usize>,
) -> (Vec<T>, Vec<i64>) {
    let offsets = offsets(parts.iter().map(|(values, ends)| (values.len(), ends.as_slice())));
    if parts.len() == 1 {
        return (trimmed(parts.swap_remove(0).0), offsets);
    }
    (join(parts.iter().map(|(values, _)| values.as_slice()).collect(), num_threads), offsets)
}

/// The offsets of all texts, from the lengths of parts and the ends of texts in them.
fn offsets<'a>(parts: impl Iterator<Item = (usize, &'a [i64])> + Clone) -> Vec<i64> {
    let mut offsets = Vec::with_capacity(parts.clone().map(|(_, ends)| ends.len()).sum::<usize>() + 1);
    offsets.push(0);
    let mut base = 0;
    for (len, ends) in parts {
        offsets.extend(ends.iter().map(|end| base + end));
        base += len as i64;
    }
    offsets
}

/// Without its room, if that is the most of it and so not worth keeping.
fn trimmed<T>(mut values: Vec<T>) -> Vec<T> {
    if values.len() < values.capacity() / 2 {
        values.shrink_to_fit();
    }
    values
}

/// Memory that the tasks of a call fill, each thread its own piece, task after task: few large pieces
/// are had from the system in less time than one for each task.
#[derive(Debug)]
pub(crate) struct Arenas {
    /// Whether all ids are going to be joined, so that the memory stays here.
    are_joined: bool,
    state: Mutex<ArenaState>,
}

#[derive(Debug, Default)]
struct ArenaState {
    idle: Vec<(usize, Vec<TokenId>)>,
    full: Vec<(usize, Vec<TokenId>)>,
    count: usize,
}

/// What a task has left in an arena.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    arena: usize,
    range: Range<usize>,
}

/// The sizes of the first arenas of a call and of the last ones, in ids.
const MIN_ARENA: usize = 64 << 10;
const MAX_ARENA: usize = 2 << 20;

/// Arenas of calls that have ended, [`MAX_SPARE`] ids in all: memory that has been used before is filled
/// faster.
static SPARE: Mutex<Vec<Vec<TokenId>>> = Mutex::new(Vec::new());
const MAX_SPARE: usize = 4 << 20;

impl Arenas {
    /// For a call on so many threads.
    pub(crate) fn new(num_threads: Option<usize>) -> Self {
        Self { are_joined: thread_count(num_threads) > 1, state: Mutex::default() }
    }

    /// Lends `work` a vector to append to, with room for `room` values (more may come).
    pub(crate) fn fill<R>(
        &self,
        room: usize,
        work: impl FnOnce(&mut Vec<TokenId>) -> Result<R>,
    ) -> Result<(Part, R)> {
        let (arena, mut values) = self.take(room);
        let start = values.len();
        let result = work(&mut values);
        let part = Part { arena, range: start..values.len() };
        self.state().idle.push((arena, values));
        Ok((part, result?))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, ArenaState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn take(&self, room: usize) -> (usize, Vec<TokenId>) {
        let mut state = self.state();
        let mut size = MIN_ARENA;
        if let Some((arena, values)) = state.idle.pop() {
            if values.capacity() - values.len() >= room {
                return (arena, values);
            }
            size = (values.capacity() * 4).min(MAX_ARENA);
            state.full.push((arena, values));
        }
        state.count += 1;
        let arena = state.count - 1;
        drop(state);
        (arena, self.take_spare(room).unwrap_or_else(|| with_capacity(size.max(room))))
    }

    fn take_spare(&self, room: usize) -> Option<Vec<TokenId>> {
        // A lock that a fork has left behind stays locked: nobody waits for it.
        let mut spare = SPARE.try_lock().ok().filter(|_| self.are_joined)?;
        let index = spare.iter().rposition(|values| values.capacity() >= room)?;
        Some(spare.swap_remove(index))
    }

    fn give_back(&self, arenas: Vec<Vec<TokenId>>) {
        let Some(mut spare) = SPARE.try_lock().ok().filter(|_| self.are_joined) else { return };
        let mut room = MAX_SPARE.saturating_sub(spare.iter().map(Vec::capacity).sum());
        for mut values in arenas {
            if values.capacity() <= room {
                room -= values.capacity();
                values.clear();
                spare.push(values);
            }
        }
    }

    fn take_values(&self) -> Vec<Vec<TokenId>> {
        let state = std::mem::take(&mut *self.state());
        let mut arenas: Vec<_> = state.idle.into_iter().chain(state.full).collect();
        arenas.sort_unstable_by_key(|&(arena, _)| arena);
        arenas.into_iter().map(|(_, values)| values).collect()
    }
}

/// The least memory worth a thread to copy it, in bytes.
const MIN_COPY_BYTES: usize = 1 << 20;

/// Copies all parts into one piece of memory, which threads fill together: that is the first time
/// that its pages are touched.
fn join<T: Copy + Send + Sync>(parts: Vec<&[T]>, num_threads: Option<usize>) -> Vec<T> {
    let len = parts.iter().map(|part| part.len()).sum();
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
            for (cell, &value) in place.iter_mut().zip(part) {
                cell.write(value);
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

/// A vector that is about to be filled, in large pages where the system has them.
pub(crate) fn with_capacity<T>(capacity: usize) -> Vec<T> {
    let mut vector = Vec::with_capacity(capacity);
    if capacity.saturating_mul(size_of::<T>()) >= MIN_HUGE_BYTES {
        prefer_large_pages(vector.spare_capacity_mut());
    }
    vector
}

/// The least length of the parts of a text that threads share, in bytes.
pub(crate) const SLICE_BYTES: usize = 512 << 10;

/// The least work worth a task of its own, in bytes of text.
const MIN_TASK_BYTES: usize = 64 << 10;
/// The most work in one task, so that threads end at about the same time.
const MAX_TASK_BYTES: usize = 4 << 20;

/// The most work in a task of which nobody knows how many will follow.
const MAX_UNPLANNED_BYTES: usize = 512 << 10;

/// How many bytes the next task should have, after tasks of so many bytes in all: small ones first, so
/// that all threads soon have one; and a single one for a single thread.
pub(crate) fn next_task_bytes(bytes_before: usize, num_threads: Option<usize>) -> usize {
    if thread_count(num_threads) == 1 {
        return usize::MAX;
    }
    (bytes_before / 32).clamp(MIN_TASK_BYTES, MAX_UNPLANNED_BYTES)
}

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

pub(crate) fn thread_count(num_threads: Option<usize>) -> usize {
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
            if stop::is_asked() {
                break;
            }
            let result = work(&tasks[index]);
            if let Ok(mut slot) = slots[index].lock() {
                *slot = Some(result);
            }
        }
    };
    share(threads, drain);
    if stop::is_asked() {
        return Ok(Vec::new());
    }
    // Every index was taken by some thread, and all of them have ended.
    slots.into_iter().filter_map(|slot| slot.into_inner().ok().flatten()).collect()
}

/// Runs jobs on several threads while this one still makes them, and then on this one, too; the results
/// are in the order of the jobs, or the error of the first job that failed.
///
/// `finish` is given the work that is left for this thread once all jobs are made, and must call it: a
/// caller that holds a lock while it makes jobs can let go of it then.
///
/// # Errors
/// The error of the first job that cannot be made.
pub(crate) fn run_while_made<J: Send, T: Send, E>(
    mut make: impl FnMut() -> Option<std::result::Result<J, E>>,
    num_threads: Option<usize>,
    work: impl Fn(J) -> Result<T> + Sync,
    finish: impl FnOnce(&mut (dyn FnMut() + Send)),
) -> std::result::Result<Result<Vec<T>>, E> {
    let results = Mutex::new(Vec::new());
    let (sender, receiver) = channel::<(usize, J)>();
    let receiver = Mutex::new(receiver);
    let drain = || {
        let next = || receiver.lock().ok().and_then(|receiver| receiver.recv().ok());
        while let Some((index, job)) = next() {
            if stop::is_asked() {
                break;
            }
            let result = work(job);
            if let Ok(mut results) = results.lock() {
                results.push((index, result));
            }
        }
    };
    let shared = stop::share();
    std::thread::scope(|scope| {
        let mut helpers = Vec::new();
        let mut last = make().transpose()?;
        for index in 0.. {
            let Some(job) = last.filter(|_| !stop::is_asked()) else { break };
            last = make().transpose()?;
            let _ = sender.send((index, job));
            // This thread will take a job as well.
            if last.is_some() && helpers.len() + 1 < thread_count(num_threads) {
                // Where the system gives no more threads, the others do the work.
                helpers.extend(std::thread::Builder::new().spawn_scoped(scope, || shared.help(drain)));
            }
        }
        drop(sender);
        finish(&mut || {
            drain();
            for helper in helpers.drain(..) {
                if let Err(panic) = helper.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
        // Nothing, unless `finish` has broken its promise.
        drain();
        Ok(())
    })?;
    if stop::is_asked() {
        return Ok(Ok(Vec::new()));
    }
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_unstable_by_key(|&(index, _)| index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Runs `drain`, which works until nothing is left, on this thread and as many more as make up `threads`.
pub(crate) fn share(threads: usize, drain: impl Fn() + Sync) {
    let shared = stop::share();
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system gives no more threads, the others do the work.
            if std::thread::Builder::new().spawn_scoped(scope, || shared.help(&drain)).is_err() {
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
                if stop::is_due(row, stop::rows(width)) {
                    return;
                }
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
            let arenas = Arenas::new(Some(3));
            let parts = (0..count)
                .map(|part| {
                    let ends = vec![1.min(len.into()), len.into()];
                    let (part, ends) = arenas.fill(len as usize / 2, |arena| {
                        arena.extend((0..len).map(|index| part * len + index));
                        Ok(ends)
                    })?;
                    Ok((part, ends))
                })
                .collect::<Result<Vec<_>>>()
                .unwrap();
            let batch = TokenBatch::concat(&arenas, parts, Some(3));
            assert_eq!(batch.ids, (0..count * len).collect::<Vec<_>>());
            assert_eq!(batch.offsets.len(), 2 * count as usize + 1);
            assert_eq!(batch.offsets.last(), Some(&i64::from(count * len)));
            assert!(batch.offsets.is_sorted());
        }
        let part = |text: &str| TextBatch { bytes: text.into(), offsets: vec![1, text.len() as i64] };
        let texts = TextBatch::concat(vec![part("abc"), part("de")], Some(2));
        assert_eq!(texts, TextBatch { bytes: b"abcde".to_vec(), offsets: vec![0, 1, 3, 4, 5] });
    }

    #[test]
    fn arenas_are_used_again() {
        for (round, len) in [3_000_000, 10, 0, 70_000, 2_500_000, 1].into_iter().cycle().take(18).enumerate()
        {
            let arenas = Arenas::new(Some(1 + round % 3));
            let ids: Vec<TokenId> = (0..len).map(|id| id + round as TokenId).collect();
            let parts = ids.chunks(ids.len() / 2 + 1).map(|part| {
                arenas.fill(part.len() / 3, |values| {
                    values.extend_from_slice(part);
                    Ok(vec![part.len() as i64])
                })
            });
            let parts = parts.collect::<Result<Vec<_>>>().unwrap();
            let batch = TokenBatch::concat(&arenas, parts, Some(2));
            assert_eq!(batch.ids, ids);
            assert_eq!(batch.offsets.last(), Some(&i64::from(len)));
            let spare: usize = SPARE.lock().unwrap().iter().map(Vec::capacity).sum();
            assert!(spare <= MAX_SPARE);
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
    fn jobs_are_run_while_they_are_made() {
        for threads in [1, 2, 5] {
            for count in [0, 1, 100] {
                let mut jobs = 0..count;
                let make = || jobs.next().map(Ok::<usize, ()>);
                let mut finished = 0;
                let results = run_while_made(make, Some(threads), Ok, |work| {
                    work();
                    finished += 1;
                });
                assert_eq!(results.unwrap().unwrap(), (0..count).collect::<Vec<_>>());
                assert_eq!(finished, 1);
            }
            let mut jobs = 0..10;
            let make = || jobs.next().map(|job| if job < 5 { Ok(job) } else { Err(job) });
            assert_eq!(run_while_made(make, Some(threads), Ok, |work| work()).unwrap_err(), 5);
            let mut jobs = 0..10;
            let fail = |job: usize| match job {
                4.. => Err(Error::id_out_of_range(7, job, 1)),
                _ => Ok(job),
            };
            let make = || jobs.next().map(Ok::<usize, ()>);
            let results = run_while_made(make, Some(threads), fail, |work| work()).unwrap();
            assert!(results.unwrap_err().to_string().contains("index 4"));
        }
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
