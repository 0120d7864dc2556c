//! Ragged results, and work shared out among threads.
//!
//! Threads live as long as a call: a pool would outlive a fork in the parent only, and leave the
//! child waiting for threads that it does not have.

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
    pub(crate) fn concat(parts: Vec<Self>) -> Self {
        let (ids, offsets) = concat(parts.into_iter().map(|part| (part.ids, part.offsets)).collect());
        Self { ids, offsets }
    }
}

impl TextBatch {
    /// Joins parts whose `offsets` hold the ends of their texts only.
    pub(crate) fn concat(parts: Vec<Self>) -> Self {
        let (bytes, offsets) = concat(parts.into_iter().map(|part| (part.bytes, part.offsets)).collect());
        Self { bytes, offsets }
    }
}

fn concat<T: Copy>(mut parts: Vec<(Vec<T>, Vec<i64>)>) -> (Vec<T>, Vec<i64>) {
    let mut offsets = Vec::with_capacity(parts.iter().map(|part| part.1.len()).sum::<usize>() + 1);
    offsets.push(0);
    let mut base = 0;
    for (values, ends) in &parts {
        offsets.extend(ends.iter().map(|end| base + end));
        base += values.len() as i64;
    }
    let values = if parts.len() == 1 {
        parts.swap_remove(0).0
    } else {
        let mut values = Vec::with_capacity(base as usize);
        for (part, _) in parts {
            values.extend_from_slice(&part);
        }
        values
    };
    (values, offsets)
}

/// The least work worth a task of its own, in bytes of text.
const MIN_TASK_BYTES: usize = 64 << 10;
/// The most work in one task, so that threads end at about the same time.
const MAX_TASK_BYTES: usize = 4 << 20;

/// Texts in tasks of about the same number of bytes, in order.
pub(crate) fn share_out<T: AsRef<[u8]>>(texts: &[T], num_threads: Option<usize>) -> Vec<Range<usize>> {
    share_out_by(texts.len(), num_threads, |index| texts[index].as_ref().len())
}

/// As [`share_out`], for `count` items of `weight(index)` bytes.
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

fn thread_count(num_threads: Option<usize>) -> usize {
    num_threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
        .max(1)
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
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system gives no more threads, the others do the work.
            if std::thread::Builder::new().spawn_scoped(scope, drain).is_err() {
                break;
            }
        }
        drain();
    });
    // Every index was taken by some thread, and all of them have ended.
    slots.into_iter().filter_map(|slot| slot.into_inner().ok().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, ErrorKind};

    #[test]
    fn tasks_cover_all_items_in_order() {
        for threads in [1, 2, 7] {
            let weights = [0usize, 100_000, 5, 5, 900_000, 0, 0];
            let tasks = share_out_by(weights.len(), Some(threads), |index| weights[index]);
            let covered: Vec<usize> = tasks.into_iter().flatten().collect();
            assert_eq!(covered, (0..weights.len()).collect::<Vec<_>>());
        }
        assert_eq!(share_out_by(0, Some(2), |_| 0), vec![0..0]);
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
