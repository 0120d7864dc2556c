//! A cache from units of text to their ids, shared by all threads of a tokenizer.
//!
//! A unit is looked up in the bucket that its hash names and in the one beside it, and an entry holds the
//! whole text of its unit, so a hit is exact; text crafted to share a bucket can only cause misses, and a
//! miss costs what merging the unit costs. Tables grow with what they hold, as far as that pays, up to their
//! bound; then new entries push out old ones.

mod key;
mod table;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock, TryLockError, TryLockResult, Weak};

pub(crate) use key::{LongKey, ShortKey, LONG, SHORT};
pub(crate) use table::{Cells, LongTable, ShortTable, MAX_CACHED_IDS};

use crate::memory::LARGE_PAGE;

/// The bound on the caches of a process, for all tokenizers that are not given one of their own.
pub(crate) const DEFAULT_LIMIT: usize = 64_000_000;

/// A limit of fewer bytes leaves no room for a table.
const LEAST_LIMIT: usize = 1 << 10;

/// The first size of the tables, and by how much they grow at first and later. The smaller table stays until
/// the larger one is filled from it, so the bound holds for the sum of the two. Fresh pages cost more than
/// entries that move, so large tables wait until they are wanted.
const FIRST_BYTES: usize = 256 << 10;
const GROWTH: usize = 16;
const LATER_GROWTH: usize = 4;

/// The two tables: for units of up to [`SHORT`] and of up to [`LONG`] bytes.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) short: ShortTable,
    pub(crate) long: LongTable,
}

impl Tables {
    /// Empty tables of `bytes` in all.
    fn new(bytes: usize) -> Self {
        // What is left of a large page would be many small ones.
        let unit = if bytes < 2 * LARGE_PAGE { 1 } else { LARGE_PAGE };
        let long = (bytes / 4).next_multiple_of(unit);
        Self { short: ShortTable::new((bytes - long) / unit * unit), long: LongTable::new(long) }
    }

    fn bytes(&self) -> usize {
        self.short.bytes() + self.long.bytes()
    }

    /// Whether the tables hold so much that they had better be larger, and may be. Beyond a third of the
    /// limit they may not: the last ones take all the room that the ones before leave, which is more.
    fn want_growth(&self, limit: usize, tally: &Tally) -> bool {
        limit >= LEAST_LIMIT
            && self.bytes() < limit / 3
            && (self.short.is_crowded() || self.long.is_crowded())
            && (self.bytes() < FIRST_BYTES * GROWTH || tally.is_worthwhile())
    }

    /// Larger tables with the same entries.
    fn grown(&self, limit: usize) -> Self {
        let growth = if self.bytes() < FIRST_BYTES * GROWTH / 2 { GROWTH } else { LATER_GROWTH };
        let bytes = (self.bytes() * growth).max(FIRST_BYTES);
        let room = limit.saturating_sub(self.bytes());
        // Where no successor of these would be much larger, they take all the room at once.
        let larger = Self::new(if bytes > limit / 3 { room } else { bytes });
        self.short.copy_to(&larger.short);
        self.long.copy_to(&larger.long);
        larger
    }
}

/// How much of its text a thread has found in the cache of late. Of text that hardly ever repeats, large
/// tables hold no more that is found again than small ones, and take more time to fill and to look at.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    bytes: usize,
    missed: usize,
}

impl Tally {
    /// After so many bytes, half of what was counted is forgotten.
    const SPAN: usize = 1 << 20;

    /// Counts a text of so many bytes, of which so many were missed.
    pub(crate) fn add(&mut self, bytes: usize, missed: usize) {
        self.bytes += bytes;
        self.missed += missed;
        if self.bytes > Self::SPAN {
            self.bytes /= 2;
            self.missed /= 2;
        }
    }

    fn is_worthwhile(&self) -> bool {
        self.bytes > 0 && self.missed <= self.bytes / 2
    }
}

/// The cache of a tokenizer.
///
/// Locks are never waited for without end: a fork may have left one locked for ever in the child, by a
/// thread that the child does not have. Whoever does not get it does without.
#[derive(Debug)]
pub(crate) struct Cache {
    tables: RwLock<Arc<Tables>>,
    /// Counts the replacements of `tables`.
    generation: AtomicUsize,
    limit: AtomicUsize,
    is_growing: AtomicBool,
    /// Whether the limit is a share of [`DEFAULT_LIMIT`]. It is taken when the cache is first used, so
    /// that tokenizers that are not used leave the memory to others.
    has_share: bool,
    is_used: AtomicBool,
}

/// A thread's hold on the tables of the moment, for the time of a call.
#[derive(Debug)]
pub(crate) struct Handle {
    tables: Arc<Tables>,
    generation: usize,
}

/// How often a lock is tried before it is taken for lost.
const TRIES: usize = 1000;

fn patiently<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    (0..TRIES).find_map(|_| {
        let result = attempt();
        if result.is_none() {
            std::thread::yield_now();
        }
        result
    })
}

/// What a lock gives that is tried, whether or not its last owner panicked.
pub(super) fn taken<T>(attempt: TryLockResult<T>) -> Option<T> {
    match attempt {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Cache {
    /// A cache with a bound of its own or, for `None`, with a share of [`DEFAULT_LIMIT`].
    pub(crate) fn new(limit: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            tables: RwLock::new(Arc::new(Tables::new(0))),
            generation: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit.unwrap_or(DEFAULT_LIMIT)),
            is_growing: AtomicBool::new(false),
            has_share: limit.is_none(),
            is_used: AtomicBool::new(false),
        })
    }

    /// The bytes that the tables may take, and those that they take now.
    pub(crate) fn info(&self) -> (usize, usize) {
        let bytes = self.current().map_or(0, |handle| handle.tables.bytes());
        (self.limit.load(Ordering::Relaxed), bytes)
    }

    /// The tables of the moment.
    pub(crate) fn handle(self: &Arc<Self>) -> Handle {
        if self.has_share && !self.is_used.swap(true, Ordering::Relaxed) {
            share_default_limit(Some(self));
        }
        self.current().unwrap_or_else(|| Handle { tables: Arc::new(Tables::new(0)), generation: usize::MAX })
    }

    fn current(&self) -> Option<Handle> {
        let tables = patiently(|| taken(self.tables.try_read()))?;
        Some(Handle { tables: tables.clone(), generation: self.generation.load(Ordering::Acquire) })
    }

    fn replace(&self, tables: Tables) {
        let tables = Arc::new(tables);
        let Some(mut place) = patiently(|| taken(self.tables.try_write())) else { return };
        let old = std::mem::replace(&mut *place, tables);
        self.generation.fetch_add(1, Ordering::Release);
        drop(place);
        drop(old);
    }

    /// Sets the bound; tables beyond it are given up with all they hold.
    fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        if self.current().is_some_and(|handle| handle.tables.bytes() > limit) {
            self.replace(Tables::new(0));
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        if self.has_share && *self.is_used.get_mut() {
            share_default_limit(None);
        }
    }
}

impl Handle {
    /// The tables of the moment, after growing them if they are crowded and that is worthwhile.
    #[inline]
    pub(crate) fn tables(&mut self, cache: &Cache, tally: &Tally) -> &Tables {
        let limit = cache.limit.load(Ordering::Relaxed);
        if self.tables.want_growth(limit, tally) && !cache.is_growing.swap(true, Ordering::Acquire) {
            // Another thread may have been quicker.
            if cache.generation.load(Ordering::Acquire) == self.generation {
                cache.replace(self.tables.grown(limit));
            }
            cache.is_growing.store(false, Ordering::Release);
        }
        if cache.generation.load(Ordering::Relaxed) != self.generation {
            if let Some(current) = cache.current() {
                *self = current;
            }
        }
        &self.tables
    }
}

/// Gives each cache in use that has a share of the default bound, `newcomer` among them, an equal one.
fn share_default_limit(newcomer: Option<&Arc<Cache>>) {
    static MEMBERS: Mutex<Vec<Weak<Cache>>> = Mutex::new(Vec::new());
    // A cache that is dropped while the list is in use, perhaps by the lines below, leaves it at that.
    let patience = if newcomer.is_some() { TRIES } else { 1 };
    let Some(mut members) = (0..patience).find_map(|_| taken(MEMBERS.try_lock())) else {
        return newcomer.map_or((), |cache| cache.set_limit(DEFAULT_LIMIT / 16));
    };
    members.extend(newcomer.map(Arc::downgrade));
    members.retain(|member| member.strong_count() > 0);
    let living: Vec<_> = members.iter().filter_map(Weak::upgrade).collect();
    for member in &living {
        member.set_limit(DEFAULT_LIMIT / living.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(cache: &Arc<Cache>, keys: std::ops::Range<u64>) {
        fill_after(cache, keys, &Tally { bytes: 2, missed: 1 });
    }

    fn fill_after(cache: &Arc<Cache>, keys: std::ops::Range<u64>, tally: &Tally) {
        let mut handle = cache.handle();
        for number in keys {
            let tables = handle.tables(cache, tally);
            let key = ShortKey::of_words([number, 1 << 56]);
            tables.short.insert(&key, Cells::pack::<false>(&[number as u32 & 0xFFFF], false).unwrap());
        }
    }

    #[test]
    fn tables_grow_up_to_their_bound() {
        let limit = 3_000_000;
        let cache = Cache::new(Some(limit));
        assert_eq!(cache.info(), (limit, 0));
        fill(&cache, 0..200_000);
        let (_, used) = cache.info();
        assert!(used <= limit && used > limit / 2, "{used}");
        for number in 0..200_000 {
            let key = ShortKey::of_words([number, 1 << 56]);
            let mut handle = cache.handle();
            let table = handle.tables(&cache, &Tally::default()).short.view();
            if let Some(hit) = table.get(table.bucket(&key), &key) {
                let mut ids = Vec::with_capacity(16);
                hit.emit::<false>(&mut ids);
                assert_eq!(ids, [number as u32 & 0xFFFF]);
            }
        }
    }

    #[test]
    fn tables_stay_small_for_text_that_never_repeats() {
        let mut tally = Tally::default();
        let cache = Cache::new(None);
        fill_after(&cache, 0..400_000, &tally);
        let (_, small) = cache.info();
        assert_eq!(small, FIRST_BYTES * GROWTH, "before anything is known");
        tally.add(1000, 900);
        fill_after(&cache, 0..400_000, &tally);
        assert_eq!(cache.info().1, small);
        // What has repeated itself for some megabytes counts for more than what has not before.
        for _ in 0..100 {
            tally.add(1 << 16, 1 << 12);
        }
        fill_after(&cache, 0..400_000, &tally);
        assert!(cache.info().1 > small);
    }

    #[test]
    fn growing_comes_to_an_end() {
        for limit in [1, 100, 500, 4_000, 300_000, 600_000, 1_500_000, 5_000_000, 10_000_000, 13_000_000] {
            let cache = Cache::new(Some(limit));
            fill(&cache, 0..400_000);
            let (_, used) = cache.info();
            assert!(used <= limit && (used > limit / 2 || limit < 1_000), "{used} of {limit}");
            assert!(cache.generation.load(Ordering::Relaxed) <= 3, "{limit}");
        }
    }

    #[test]
    fn no_bytes_mean_no_cache() {
        let cache = Cache::new(Some(0));
        fill(&cache, 0..100);
        assert_eq!(cache.info(), (0, 0));
    }

    #[test]
    fn a_process_shares_the_default_bound() {
        let mut caches: Vec<_> = (0..3).map(|_| Cache::new(None)).collect();
        caches.iter().for_each(|cache| fill(cache, 0..2_000_000));
        let limits: usize = caches.iter().map(|cache| cache.info().0).sum();
        let used: usize = caches.iter().map(|cache| cache.info().1).sum();
        assert!(limits <= DEFAULT_LIMIT && used <= limits, "{used} {limits}");
        let shared = caches[0].info().0;
        caches.truncate(1);
        assert!(caches[0].info().0 > shared, "what is dropped gives its share back");
    }

    #[test]
    fn a_lock_that_is_lost_is_done_without() {
        // As a fork leaves it in the child, if another thread has it.
        let cache = Cache::new(Some(1_000_000));
        let lost = cache.tables.write();
        let mut handle = cache.handle();
        assert_eq!(handle.tables(&cache, &Tally::default()).bytes(), 0);
        drop(lost);
        fill(&cache, 0..1000);
        assert!(cache.info().1 > 0);
    }

    #[test]
    fn threads_never_see_half_an_entry() {
        // All threads write and read the same few buckets, with ids that follow from the key.
        let table = ShortTable::new(64 * 4);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let table = &table;
                scope.spawn(move || {
                    for round in 0..200_000u64 {
                        let number = (round * 7 + thread * 13) % 61;
                        let key = ShortKey::of_words([number, 1 << 56]);
                        let ids =
                            [number as u32, number as u32 + 1, 0, 0, number as u32 + 2, number as u32 + 3];
                        if round % 3 == 0 {
                            table.insert(&key, Cells::pack::<false>(&ids, false).unwrap());
                        } else if let Some(hit) = table.view().get(table.view().bucket(&key), &key) {
                            let mut found = Vec::with_capacity(16);
                            hit.emit::<false>(&mut found);
                            assert_eq!(found, ids);
                        }
                    }
                });
            }
        });
    }
}
