//! A cache from units of text to their ids, shared by all threads of a tokenizer.
//!
//! A unit is looked up in the one bucket that its hash names, and an entry holds the whole text of its
//! unit, so a hit is exact; text crafted to share a bucket can only cause misses, and a miss costs what
//! merging the unit costs. Tables grow with what they hold, up to their bound; then new entries push
//! out old ones.

mod key;
mod table;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

pub(crate) use key::{LongKey, ShortKey, LONG, SHORT};
pub(crate) use table::{Cells, LongTable, ShortTable};

/// The bound on the caches of a process, for all tokenizers that are not given one of their own.
pub(crate) const DEFAULT_LIMIT: usize = 64_000_000;

/// The first size of the tables, and by how much they grow at a time. The smaller table stays until
/// the larger one is filled from it, so the bound holds for the sum of the two.
const FIRST_BYTES: usize = 256 << 10;
const GROWTH: usize = 16;

/// The two tables: for units of up to [`SHORT`] and of up to [`LONG`] bytes.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) short: ShortTable,
    pub(crate) long: LongTable,
    limit: usize,
    /// Whether larger ones may follow. None follow those that have filled the room beside their
    /// predecessors: they would find no more room themselves.
    may_grow: bool,
}

impl Tables {
    /// Empty tables of `bytes` in all, which may grow to `limit`.
    fn new(bytes: usize, limit: usize) -> Self {
        let (short, long) = (ShortTable::new(bytes / 4 * 3), LongTable::new(bytes / 4));
        Self { short, long, limit, may_grow: bytes < limit / 3 }
    }

    fn bytes(&self) -> usize {
        self.short.bytes() + self.long.bytes()
    }

    /// Whether the tables hold so much that they had better be larger.
    pub(crate) fn is_crowded(&self) -> bool {
        self.may_grow && (self.short.is_crowded() || self.long.is_crowded())
    }

    /// Larger tables with the same entries.
    fn grown(&self) -> Self {
        let room = self.limit.saturating_sub(self.bytes());
        let bytes = (self.bytes() * GROWTH).max(FIRST_BYTES);
        // Where no successor of twice the size would fit, these are the last, and take all the room.
        let is_last = bytes > self.limit / 3;
        let mut larger = Self::new(if is_last { room } else { bytes }, self.limit);
        larger.may_grow = !is_last;
        self.short.copy_to(&larger.short);
        self.long.copy_to(&larger.long);
        larger
    }
}

/// The cache of a tokenizer.
#[derive(Debug)]
pub(crate) struct Cache {
    tables: RwLock<Arc<Tables>>,
    /// Counts the replacements of `tables`.
    generation: AtomicUsize,
    limit: AtomicUsize,
}

/// A thread's hold on the tables of the moment.
#[derive(Debug)]
pub(crate) struct Handle {
    cache: Arc<Cache>,
    tables: Arc<Tables>,
    generation: usize,
}

impl Cache {
    /// A cache with a bound of its own or, for `None`, with a share of [`DEFAULT_LIMIT`].
    pub(crate) fn new(limit: Option<usize>) -> Arc<Self> {
        let cache = Arc::new(Self {
            tables: RwLock::new(Arc::new(Tables::new(0, limit.unwrap_or(0)))),
            generation: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit.unwrap_or(0)),
        });
        if limit.is_none() {
            share_default_limit(&cache);
        }
        cache
    }

    /// The bytes that the tables may take, and those that they take now.
    pub(crate) fn info(&self) -> (usize, usize) {
        (self.limit.load(Ordering::Relaxed), self.current().1.bytes())
    }

    fn current(&self) -> (usize, Arc<Tables>) {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        (self.generation.load(Ordering::Acquire), tables.clone())
    }

    /// Replaces the tables by what `change` makes of them, if it makes something.
    fn replace(&self, change: impl FnOnce(&Tables) -> Option<Tables>) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = change(&tables) {
            *tables = Arc::new(changed);
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Sets the bound; tables beyond it are given up with all they hold.
    fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.replace(|tables| {
            let bytes = if tables.bytes() > limit { 0 } else { return Some(tables.with_limit(limit)) };
            Some(Tables::new(bytes, limit))
        });
    }
}

impl Tables {
    fn with_limit(&self, limit: usize) -> Self {
        let same = Self::new(self.bytes(), limit);
        self.short.copy_to(&same.short);
        self.long.copy_to(&same.long);
        same
    }
}

impl Handle {
    pub(crate) fn new(cache: Arc<Cache>) -> Self {
        let (generation, tables) = cache.current();
        Self { cache, tables, generation }
    }

    /// The tables of the moment, after growing them if they are crowded.
    #[inline]
    pub(crate) fn tables(&mut self) -> &Tables {
        if self.tables.is_crowded() {
            let crowded = &self.tables;
            // Another thread may have been quicker.
            self.cache.replace(|tables| std::ptr::eq(tables, &**crowded).then(|| tables.grown()));
        }
        if self.cache.generation.load(Ordering::Relaxed) != self.generation {
            (self.generation, self.tables) = self.cache.current();
        }
        &self.tables
    }
}

/// Gives each living cache with a share of the default bound an equal one.
fn share_default_limit(cache: &Arc<Cache>) {
    static MEMBERS: OnceLock<Mutex<Vec<Weak<Cache>>>> = OnceLock::new();
    let mut members = MEMBERS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    members.push(Arc::downgrade(cache));
    members.retain(|member| member.strong_count() > 0);
    let living: Vec<_> = members.iter().filter_map(Weak::upgrade).collect();
    for member in &living {
        member.set_limit(DEFAULT_LIMIT / living.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(handle: &mut Handle, keys: std::ops::Range<u64>) {
        for number in keys {
            let tables = handle.tables();
            let key = ShortKey::of_words([number, 1 << 56]);
            tables.short.insert(&key, Cells::pack::<false>(&[number as u32 & 0xFFFF], false).unwrap());
        }
    }

    #[test]
    fn tables_grow_up_to_their_bound() {
        let limit = 3_000_000;
        let cache = Cache::new(Some(limit));
        let mut handle = Handle::new(cache.clone());
        assert_eq!(cache.info(), (limit, 0));
        fill(&mut handle, 0..200_000);
        let (_, used) = cache.info();
        assert!(used <= limit && used > limit / 2, "{used}");
        for number in 0..200_000 {
            let key = ShortKey::of_words([number, 1 << 56]);
            let table = &handle.tables().short;
            if let Some(hit) = table.get(table.bucket(&key), &key) {
                let mut ids = Vec::with_capacity(16);
                hit.emit::<false>(&mut ids);
                assert_eq!(ids, [number as u32 & 0xFFFF]);
            }
        }
    }

    #[test]
    fn growing_comes_to_an_end() {
        for limit in [1, 100, 500, 4_000, 300_000, 600_000, 1_500_000, 5_000_000, 10_000_000, 13_000_000] {
            let cache = Cache::new(Some(limit));
            fill(&mut Handle::new(cache.clone()), 0..400_000);
            let (_, used) = cache.info();
            assert!(used <= limit && (used > limit / 2 || limit < 1_000), "{used} of {limit}");
            assert!(cache.generation.load(Ordering::Relaxed) <= 3, "{limit}");
        }
    }

    #[test]
    fn no_bytes_mean_no_cache() {
        let mut handle = Handle::new(Cache::new(Some(0)));
        fill(&mut handle, 0..100);
        assert_eq!(handle.tables().bytes(), 0);
    }

    #[test]
    fn a_process_shares_the_default_bound() {
        let caches: Vec<_> = (0..3).map(|_| Cache::new(None)).collect();
        let mut handles: Vec<_> = caches.iter().cloned().map(Handle::new).collect();
        handles.iter_mut().for_each(|handle| fill(handle, 0..2_000_000));
        let limits: usize = caches.iter().map(|cache| cache.info().0).sum();
        let used: usize = caches.iter().map(|cache| cache.info().1).sum();
        assert!(limits <= DEFAULT_LIMIT && used <= limits, "{used} {limits}");
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
                        } else if let Some(hit) = table.get(table.bucket(&key), &key) {
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
