//! Tables that many threads read and write without waiting.
//!
//! A bucket is one cache line of eight words. The first word holds a version and, for each entry, how
//! many ids it has; the others hold keys and ids. It is a sequence lock: a writer makes the version
//! odd (if another writer has, it gives up, since a cache may forget), writes, and makes it even again,
//! a higher one. A reader that finds an even version, reads, and finds the same version once more has
//! read what one writer wrote: any word of a later writer that it could have seen was written after
//! that writer had made the version odd, and the fences make the reader see that. All words are
//! atomic, so that there is no data race.

use std::mem::MaybeUninit;
use std::sync::atomic::{fence, AtomicU64, AtomicUsize, Ordering};

use memmap2::MmapRaw;

use super::key::{Key, LongKey, ShortKey};
use crate::memory::map_zeroed;
use crate::vocabulary::TokenId;

/// A bucket: a head and seven words.
#[derive(Debug)]
#[repr(align(64))]
struct Bucket([AtomicU64; 8]);

/// The bits of a head below the version: a [`Meta`] for each of two entries.
const META_BITS: u32 = 16;
const VERSION: u64 = 1 << META_BITS;

/// The number of ids of an entry and a flag; 0 for no entry.
type Meta = u8;

/// The flag of units whose first id is the piece `▁`.
pub(crate) const LONE_SPACE: Meta = 1 << 7;

/// Ids packed in words, and their number: those of a short entry in 12 bytes, of a long one in 24.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cells<const N: usize> {
    words: [u64; N],
    meta: Meta,
}

/// What a look-up has found.
pub(crate) type Hit<const N: usize> = Cells<N>;

const SHORT_WORDS: usize = 2;
const LONG_WORDS: usize = 3;

/// The most ids that an entry holds: a long one, of 16 bits.
pub(crate) const MAX_CACHED_IDS: usize = 4 * LONG_WORDS;

impl<const N: usize> Cells<N> {
    /// The bytes for ids: all words, but half of the last one in short entries.
    const BYTES: usize = if N == SHORT_WORDS { 12 } else { 8 * N };

    /// Packs ids of 32 bits (`WIDE`) or 16, if they fit. `lone_space` says that the first one is the
    /// piece `▁`.
    pub(crate) fn pack<const WIDE: bool>(ids: &[TokenId], lone_space: bool) -> Option<Self> {
        let bytes = if WIDE { 4 } else { 2 };
        if ids.is_empty() || ids.len() > Self::BYTES / bytes {
            return None;
        }
        let mut words = [0; N];
        for (index, &id) in ids.iter().enumerate() {
            if !WIDE && id > 0xFFFF {
                return None;
            }
            let bit = index * bytes * 8;
            words[bit / 64] |= u64::from(id) << (bit % 64);
        }
        let meta = ids.len() as Meta | if lone_space { LONE_SPACE } else { 0 };
        Some(Self { words, meta })
    }

    /// Whether the first id is the piece `▁`.
    #[inline(always)]
    pub(crate) fn lone_space(&self) -> bool {
        self.meta & LONE_SPACE != 0
    }

    /// Appends the ids to `out`, which must have room for 12 more.
    #[inline(always)]
    pub(crate) fn emit<const WIDE: bool>(&self, out: &mut Vec<TokenId>) {
        let count = usize::from(self.meta & !LONE_SPACE);
        let per_word = if WIDE { 2 } else { 4 };
        let room: &mut [MaybeUninit<TokenId>] = &mut out.spare_capacity_mut()[..per_word * N];
        for (slots, &word) in room.chunks_exact_mut(per_word).zip(&self.words) {
            match <&mut [MaybeUninit<TokenId>; 4]>::try_from(&mut *slots) {
                Ok(slots) => widen(word, slots),
                Err(_) => {
                    slots[0].write(word as u32);
                    slots[1].write((word >> 32) as u32);
                }
            }
        }
        // SAFETY: all lanes have been written, and `pack` gives no count beyond them.
        unsafe { out.set_len(out.len() + count) };
    }
}

/// Writes the four ids of 16 bits in a word.
#[inline(always)]
fn widen(word: u64, slots: &mut [MaybeUninit<TokenId>; 4]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_cvtsi64_si128, _mm_setzero_si128, _mm_storeu_si128, _mm_unpacklo_epi16};
        // SAFETY: SSE2 is part of x86-64, and the store writes the 16 bytes of `slots`.
        unsafe {
            let ids = _mm_unpacklo_epi16(_mm_cvtsi64_si128(word as i64), _mm_setzero_si128());
            _mm_storeu_si128(slots.as_mut_ptr().cast(), ids);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    for (lane, slot) in slots.iter_mut().enumerate() {
        slot.write(u32::from((word >> (16 * lane)) as u16));
    }
}

/// Buckets in zeroed memory.
#[derive(Debug)]
struct Buckets {
    memory: Option<MmapRaw>,
    /// Where the buckets begin in `memory`, in bytes.
    start: usize,
    len: usize,
    /// How many entries have been put where none was.
    entries: AtomicUsize,
}

impl Buckets {
    /// Buckets of `bytes` in all, rounded down to a multiple of `group` buckets; none where the system
    /// gives no memory.
    fn new(bytes: usize, group: usize) -> Self {
        let len = bytes / std::mem::size_of::<Bucket>() / group * group;
        let bytes = len * std::mem::size_of::<Bucket>();
        let Some((memory, start)) = (len > 0).then(|| map_zeroed(bytes)).flatten() else {
            return Self { memory: None, start: 0, len: 0, entries: AtomicUsize::new(0) };
        };
        Self { memory: Some(MmapRaw::from(memory)), start, len, entries: AtomicUsize::new(0) }
    }

    #[inline(always)]
    fn all(&self) -> &[Bucket] {
        match &self.memory {
            // SAFETY: the mapping has `len` buckets from `start` on, which is less than the slack behind
            // them and where a page begins; it lives as long as `self`, and is only ever used as these
            // atomics, for which all zeros are a value.
            Some(memory) => unsafe {
                std::slice::from_raw_parts(memory.as_ptr().add(self.start).cast(), self.len)
            },
            None => &[],
        }
    }
}

/// The place in `0..groups` of a hash of 32 good bits.
#[inline(always)]
fn place(hash: u32, groups: usize) -> u32 {
    ((u64::from(hash) * groups as u64) >> 32) as u32
}

/// Asks the processor to load a bucket.
#[inline(always)]
fn prefetch(buckets: &[Bucket], index: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        let address = buckets.as_ptr().wrapping_add(index);
        // SAFETY: a prefetch reads nothing, whatever the address; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (buckets, index);
}

impl Bucket {
    /// The head, if no writer is at work.
    #[inline(always)]
    fn begin_read(&self) -> Option<u64> {
        let head = self.0[0].load(Ordering::Acquire);
        (head & VERSION == 0).then_some(head)
    }

    /// Whether what has been read since `head` is of one piece.
    #[inline(always)]
    fn end_read(&self, head: u64) -> bool {
        fence(Ordering::Acquire);
        self.0[0].load(Ordering::Relaxed) == head
    }

    #[inline(always)]
    fn word(&self, index: usize) -> u64 {
        self.0[index].load(Ordering::Relaxed)
    }

    fn set_words(&self, start: usize, words: &[u64]) {
        for (word, &value) in self.0[start..].iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Takes the bucket for writing, unless another thread has.
    fn begin_write(&self) -> Option<u64> {
        let head = self.0[0].load(Ordering::Relaxed);
        if head & VERSION != 0 {
            return None;
        }
        self.0[0].compare_exchange(head, head + VERSION, Ordering::Acquire, Ordering::Relaxed).ok()?;
        fence(Ordering::Release);
        Some(head)
    }

    /// Gives it back, with new metas.
    fn end_write(&self, head: u64, metas: u64) {
        let version = (head & !(VERSION - 1)).wrapping_add(2 * VERSION);
        self.0[0].store(version | metas, Ordering::Release);
    }
}

/// The table of short units: two entries in a bucket. The keys are words 1 and 2, and 3 and 4; the ids are
/// word 5 and the lower half of 6, and word 7 and the upper half of 6. What does not fit its bucket goes
/// into the one beside it.
#[derive(Debug)]
pub(crate) struct ShortTable(Buckets);

impl ShortTable {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Buckets::new(bytes, 2))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len * std::mem::size_of::<Bucket>()
    }

    #[inline]
    pub(super) fn is_crowded(&self) -> bool {
        self.0.entries.load(Ordering::Relaxed) >= self.0.len + self.0.len / 4
    }

    /// The buckets of the moment, to look keys up.
    #[inline(always)]
    pub(crate) fn view(&self) -> ShortView<'_> {
        ShortView(self.0.all())
    }

    /// Adds an entry, unless it is there. Where there is no room, it comes first in its bucket, the first one
    /// there becomes the second, and the second one is lost.
    pub(crate) fn insert(&self, key: &ShortKey, cells: Cells<SHORT_WORDS>) {
        let index = self.view().bucket(key) as usize;
        let all = self.0.all();
        let Some((home, beside)) = all.get(index).zip(all.get(index ^ 1)) else {
            self.0.entries.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let [low, high] = key.0;
        let holds = |bucket: &Bucket| {
            bucket.word(1) == low && bucket.word(2) == high || bucket.word(3) == low && bucket.word(4) == high
        };
        if holds(home) || holds(beside) {
            return;
        }
        let is_full = |head: u64| head >> 8 & 0xFF != 0;
        let bucket = if is_full(home.word(0)) && !is_full(beside.word(0)) { beside } else { home };
        let Some(head) = bucket.begin_write() else { return };
        let (ids, meta) = (cells.words[1] & 0xFFFF_FFFF, u64::from(cells.meta));
        if is_full(head) {
            let first = [bucket.word(1), bucket.word(2), bucket.word(5), bucket.word(6) & 0xFFFF_FFFF];
            bucket.set_words(1, &[low, high, first[0], first[1], cells.words[0]]);
            bucket.set_words(6, &[ids | first[3] << 32, first[2]]);
            return bucket.end_write(head, meta | (head & 0xFF) << 8);
        }
        self.0.entries.fetch_add(1, Ordering::Relaxed);
        if head & 0xFF == 0 {
            bucket.set_words(1, &[low, high]);
            bucket.set_words(5, &[cells.words[0], ids]);
            bucket.end_write(head, meta);
        } else {
            bucket.set_words(3, &[low, high]);
            bucket.set_words(6, &[bucket.word(6) | ids << 32, cells.words[0]]);
            bucket.end_write(head, head & 0xFF | meta << 8);
        }
    }

    pub(super) fn copy_to(&self, other: &Self) {
        for bucket in self.0.all() {
            let Some(head) = bucket.begin_read() else { continue };
            let words: [u64; 8] = std::array::from_fn(|index| bucket.word(index));
            if !bucket.end_read(head) {
                continue;
            }
            let entries = [
                (head, [words[1], words[2]], [words[5], words[6] & 0xFFFF_FFFF]),
                (head >> 8, [words[3], words[4]], [words[7], words[6] >> 32]),
            ];
            for (meta, key, words) in entries {
                if meta as Meta != 0 {
                    other.insert(&Key(key), Cells { words, meta: meta as Meta });
                }
            }
        }
    }
}

/// The buckets of a [`ShortTable`], as two numbers that a loop can keep in registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShortView<'a>(&'a [Bucket]);

impl ShortView<'_> {
    /// The bucket of a key.
    #[inline(always)]
    pub(crate) fn bucket(self, key: &ShortKey) -> u32 {
        place(key.hash(), self.0.len())
    }

    /// Asks the processor to load a bucket.
    #[inline(always)]
    pub(crate) fn prefetch(self, bucket: u32) {
        prefetch(self.0, bucket as usize);
    }

    /// Looks a key up where it is if its bucket had no room for it.
    #[inline(always)]
    pub(crate) fn get_beside(self, bucket: u32, key: &ShortKey) -> Option<Hit<SHORT_WORDS>> {
        self.get(bucket ^ 1, key)
    }

    /// Looks a key up in its bucket.
    #[inline(always)]
    pub(crate) fn get(self, bucket: u32, key: &ShortKey) -> Option<Hit<SHORT_WORDS>> {
        let bucket = self.0.get(bucket as usize)?;
        let head = bucket.begin_read()?;
        let Key([low, high]) = *key;
        let cells = if bucket.word(1) == low && bucket.word(2) == high {
            Cells { words: [bucket.word(5), bucket.word(6)], meta: head as Meta }
        } else if bucket.word(3) == low && bucket.word(4) == high {
            Cells { words: [bucket.word(7), bucket.word(6) >> 32], meta: (head >> 8) as Meta }
        } else {
            return None;
        };
        // A meta of 0 would be an empty entry; but no key is all zeros, since a unit has a length.
        bucket.end_read(head).then_some(cells)
    }
}

/// The table of long units: one entry in a bucket (key in words 1 to 4, ids in 5 to 7), and two buckets
/// for a key.
#[derive(Debug)]
pub(crate) struct LongTable(Buckets);

impl LongTable {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Buckets::new(bytes, 2))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len * std::mem::size_of::<Bucket>()
    }

    #[inline]
    pub(super) fn is_crowded(&self) -> bool {
        self.0.entries.load(Ordering::Relaxed) >= self.0.len / 8 * 3
    }

    /// The buckets of the moment, to look keys up.
    #[inline(always)]
    pub(crate) fn view(&self) -> LongView<'_> {
        LongView(self.0.all())
    }

    /// Puts an entry in one of its buckets, unless it is there.
    pub(crate) fn insert(&self, key: &LongKey, cells: Cells<LONG_WORDS>) {
        let index = self.view().bucket(key) as usize;
        let Some(buckets) = self.0.all().get(index..index + 2) else {
            self.0.entries.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if buckets.iter().any(|bucket| (0..4).all(|index| bucket.word(index + 1) == key.0[index])) {
            return;
        }
        let heads = [buckets[0].word(0), buckets[1].word(0)];
        // An empty one or, of full ones, the one that has been written less often.
        let is_empty = |head: u64| head & 0xFF == 0;
        let choice = usize::from(!is_empty(heads[0]) && (is_empty(heads[1]) || heads[1] < heads[0]));
        let bucket = &buckets[choice];
        let Some(head) = bucket.begin_write() else { return };
        if is_empty(head) {
            self.0.entries.fetch_add(1, Ordering::Relaxed);
        }
        bucket.set_words(1, &key.0);
        bucket.set_words(5, &cells.words);
        bucket.end_write(head, u64::from(cells.meta));
    }

    pub(super) fn copy_to(&self, other: &Self) {
        for bucket in self.0.all() {
            let Some(head) = bucket.begin_read() else { continue };
            let key = Key(std::array::from_fn(|index| bucket.word(index + 1)));
            let words = [bucket.word(5), bucket.word(6), bucket.word(7)];
            if head as Meta != 0 && bucket.end_read(head) {
                other.insert(&key, Cells { words, meta: head as Meta });
            }
        }
    }
}

/// The buckets of a [`LongTable`], as two numbers that a loop can keep in registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LongView<'a>(&'a [Bucket]);

impl LongView<'_> {
    /// The first bucket of a key.
    #[inline(always)]
    pub(crate) fn bucket(self, key: &LongKey) -> u32 {
        place(key.hash(), self.0.len() / 2) * 2
    }

    /// Asks the processor to load both buckets.
    #[inline(always)]
    pub(crate) fn prefetch(self, bucket: u32) {
        prefetch(self.0, bucket as usize);
        prefetch(self.0, bucket as usize + 1);
    }

    /// Looks a key up in its buckets.
    #[inline(always)]
    pub(crate) fn get(self, bucket: u32, key: &LongKey) -> Option<Hit<LONG_WORDS>> {
        let buckets = self.0.get(bucket as usize..bucket as usize + 2)?;
        buckets.iter().find_map(|bucket| {
            let head = bucket.begin_read()?;
            if (0..4).any(|index| bucket.word(index + 1) != key.0[index]) {
                return None;
            }
            let words = [bucket.word(5), bucket.word(6), bucket.word(7)];
            bucket.end_read(head).then_some(Cells { words, meta: head as Meta })
        })
    }
}
