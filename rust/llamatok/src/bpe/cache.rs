//! A cache from units of text to their ids.
//!
//! A table is an array of buckets of one cache line or two, and in a bucket two entries, the newer one
//! first. A unit is looked up in the one bucket that its hash names, and an entry holds the whole text
//! of its unit, so a hit is exact; text crafted to share a bucket can only cause misses, and a miss
//! costs what merging the unit costs. Tables grow with what they hold, up to their bound.

use bytemuck::{Pod, Zeroable};
use memmap2::MmapMut;

use crate::vocabulary::TokenId;

/// The longest unit that the short table holds, in bytes.
pub(crate) const SHORT: usize = 15;
/// The longest unit that the long table holds, in bytes.
pub(crate) const LONG: usize = 31;

/// The text of a unit, padded with zeros, with its length in the last byte.
pub(crate) type ShortKey = [u64; 2];
/// The same for longer units.
pub(crate) type LongKey = [u64; 4];

/// The ids of a unit as an entry stores them: cells of one kind, the last of them for the number of
/// ids and a flag. Zero cells mean that there is no entry.
pub(crate) trait Cells: Pod + Default {
    /// Cells for `ids`, if these fit. `lone_space` says that the first one is the piece `▁`.
    fn pack(ids: &[TokenId], lone_space: bool) -> Option<Self>;

    /// The number of ids, and the flag in bit 8.
    fn meta(&self) -> usize;

    /// Writes all cells as ids; those beyond the number of ids are of no meaning.
    fn write(&self, out: &mut [std::mem::MaybeUninit<TokenId>]);
}

/// The flag in [`Cells::meta`].
pub(crate) const LONE_SPACE: usize = 1 << 8;

macro_rules! cells {
    ($cell:ty, $len:literal) => {
        impl Cells for [$cell; $len] {
            fn pack(ids: &[TokenId], lone_space: bool) -> Option<Self> {
                if ids.len() >= $len {
                    return None;
                }
                let mut cells = [0; $len];
                for (cell, &id) in cells.iter_mut().zip(ids) {
                    *cell = <$cell>::try_from(id).ok()?;
                }
                cells[$len - 1] = (ids.len() | usize::from(lone_space) << 8) as $cell;
                Some(cells)
            }

            #[inline(always)]
            fn meta(&self) -> usize {
                self[$len - 1] as usize
            }

            #[inline(always)]
            fn write(&self, out: &mut [std::mem::MaybeUninit<TokenId>]) {
                let out = &mut out[..$len];
                for index in 0..$len {
                    out[index].write(TokenId::from(self[index]));
                }
            }
        }
    };
}

cells!(u16, 8);
cells!(u16, 16);
cells!(u32, 4);
cells!(u32, 8);

/// A table for one kind of key and value.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    memory: Option<MmapMut>,
    buckets: usize,
    max_buckets: usize,
    entries: usize,
    kind: std::marker::PhantomData<(K, V)>,
}

/// An entry: a key and cells. Its size is a power of two, so that it lies within one cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Entry<K, V> {
    key: K,
    cells: V,
}

// SAFETY: all zeros are a valid key and valid cells, which are plain integers.
unsafe impl<K: Pod, V: Pod> Zeroable for Entry<K, V> {}
// SAFETY: `repr(C)` over two arrays of integers; `Table` uses it for sizes without padding only
// (16 + 16 and 32 + 32 bytes), which `Table::new` asserts at compile time.
unsafe impl<K: Pod, V: Pod> Pod for Entry<K, V> {}

/// Entries in a bucket.
const WAYS: usize = 2;
/// The first size of a table.
const MIN_BUCKETS: usize = 1 << 12;

impl<K: Pod + Eq + Default, V: Cells> Table<K, V> {
    const ENTRY: usize = {
        let size = std::mem::size_of::<Entry<K, V>>();
        assert!(size == std::mem::size_of::<K>() + std::mem::size_of::<V>() && size.is_power_of_two());
        size
    };

    /// A table that may grow to `max_bytes`.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let max_buckets = max_bytes / (Self::ENTRY * WAYS);
        Self { memory: None, buckets: 0, max_buckets, entries: 0, kind: std::marker::PhantomData }
    }

    /// The bytes that the table takes now.
    pub(crate) fn bytes(&self) -> usize {
        self.buckets * Self::ENTRY * WAYS
    }

    /// The bucket for a hash of 32 good bits; 0 for a table without buckets.
    #[inline(always)]
    pub(crate) fn bucket(&self, hash: u32) -> u32 {
        ((u64::from(hash) * self.buckets as u64) >> 32) as u32
    }

    /// What the table holds, for a number of look-ups.
    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_, K, V> {
        View { entries: self.memory.as_deref().map_or(&[], bytemuck::cast_slice) }
    }

    /// Puts an entry in front of its bucket; the last one there is lost. Returns whether the table
    /// wants to [`grow`](Table::grow).
    pub(crate) fn insert(&mut self, bucket: u32, key: K, cells: V) -> bool {
        let start = bucket as usize * WAYS;
        let memory: &mut [Entry<K, V>] = self.memory.as_deref_mut().map_or(&mut [], bytemuck::cast_slice_mut);
        if let Some(entries) = memory.get_mut(start..start + WAYS) {
            self.entries += usize::from(entries[WAYS - 1].cells.meta() == 0);
            entries.copy_within(..WAYS - 1, 1);
            entries[0] = Entry { key, cells };
        }
        self.buckets < self.max_buckets && self.entries >= self.buckets
    }

    /// Makes the table four times as large, or as large as it may be. `hash` gives the hash of a key.
    pub(crate) fn grow(&mut self, hash: impl Fn(&K) -> u32) {
        let target = (self.buckets * 4).max(MIN_BUCKETS).min(self.max_buckets);
        // The last step to the bound is taken at once if it is a small one.
        let target = if target * 2 > self.max_buckets { self.max_buckets } else { target };
        let mut larger = Self { buckets: target, entries: 0, memory: None, ..*self };
        match MmapMut::map_anon(target.max(1) * Self::ENTRY * WAYS) {
            Ok(memory) => {
                #[cfg(target_os = "linux")]
                // Fewer misses of the TLB; where the system has no huge pages, nothing is lost.
                let _ = memory.advise(memmap2::Advice::HugePage);
                larger.memory = Some(memory);
            }
            Err(_) => {
                // No memory for a larger cache: stay with this one.
                self.max_buckets = self.buckets;
                return;
            }
        }
        for bucket in self.view().entries.chunks_exact(WAYS) {
            // The older entries first, so that the newer ones end in front of them.
            for entry in bucket.iter().rev().filter(|entry| entry.cells.meta() != 0) {
                larger.insert(larger.bucket(hash(&entry.key)), entry.key, entry.cells);
            }
        }
        *self = larger;
    }
}

/// The entries of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a, K, V> {
    entries: &'a [Entry<K, V>],
}

impl<'a, K: Pod + Eq, V: Cells> View<'a, K, V> {
    /// Asks the processor to load a bucket.
    #[inline(always)]
    pub(crate) fn prefetch(&self, bucket: u32) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
            let entry = self.entries.as_ptr().wrapping_add(bucket as usize * WAYS);
            // SAFETY: a prefetch reads nothing, whatever the address; SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(entry.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = bucket;
    }

    /// The cells for a key.
    #[inline(always)]
    pub(crate) fn get(&self, bucket: u32, key: &K) -> Option<&'a V> {
        let start = bucket as usize * WAYS;
        let entries = self.entries.get(start..start + WAYS)?;
        entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.cells)
    }
}

/// As many bytes as the longest key has, to be kept, and as many to be cleared.
const KEEP: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut index = 0;
    while index < 32 {
        bytes[index] = u8::MAX;
        index += 1;
    }
    bytes
};

/// The first `len` bytes of `buffer[start..]`, padded with zeros, as `N` words; the last byte is `len`.
#[inline(always)]
fn key<const N: usize>(buffer: &[u8], start: usize, len: usize) -> [u64; N] {
    let text = &buffer[start..start + 8 * N];
    let keep = &KEEP[32 - len..][..8 * N];
    let mut key = [0; N];
    for (index, word) in key.iter_mut().enumerate() {
        let part = |bytes: &[u8]| bytes[8 * index..8 * index + 8].try_into().map_or(0, u64::from_le_bytes);
        *word = part(text) & part(keep);
    }
    key[N - 1] |= (len as u64) << 56;
    key
}

/// The key of a unit of at most [`SHORT`] bytes; `buffer` goes on for 16 bytes from `start`.
#[inline(always)]
pub(crate) fn short_key(buffer: &[u8], start: usize, len: usize) -> ShortKey {
    key(buffer, start, len)
}

/// The key of a unit of at most [`LONG`] bytes; `buffer` goes on for 32 bytes from `start`.
#[inline(always)]
pub(crate) fn long_key(buffer: &[u8], start: usize, len: usize) -> LongKey {
    key(buffer, start, len)
}

const MIX: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93];

/// 32 bits that depend on all of the key.
#[inline(always)]
pub(crate) fn hash_short(key: &ShortKey) -> u32 {
    let high = key[1].wrapping_mul(MIX[1]);
    ((key[0] ^ high ^ high >> 32).wrapping_mul(MIX[0]) >> 32) as u32
}

/// 32 bits that depend on all of the key.
#[inline(always)]
pub(crate) fn hash_long(key: &LongKey) -> u32 {
    let fold = |low: u64, high: u64| {
        let high = high.wrapping_mul(MIX[1]);
        (low ^ high ^ high >> 32).wrapping_mul(MIX[0])
    };
    let low = fold(key[0], key[1]);
    (fold(low ^ low >> 32 ^ key[2], key[3]) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_tell_texts_apart(a in "[a\0]{0,15}", b in "[a\0]{0,15}", c in "[a\0]{0,31}", d in "[a\0]{0,31}") {
            let pad = |text: &str| [text.as_bytes(), &[b'x'; 40]].concat();
            prop_assert_eq!(
                short_key(&pad(&a), 0, a.len()) == short_key(&pad(&b), 0, b.len()), a == b);
            prop_assert_eq!(
                long_key(&pad(&c), 0, c.len()) == long_key(&pad(&d), 0, d.len()), c == d);
        }

        #[test]
        fn a_table_forgets_but_never_lies(keys in prop::collection::vec(0u64..5000, 0..3000)) {
            let mut table: Table<ShortKey, [u16; 8]> = Table::new(64 * (MIN_BUCKETS + 100));
            table.grow(hash_short);
            for key in keys {
                let cells = Cells::pack(&[key as u32], false).unwrap();
                let key = [key, 7];
                let bucket = table.bucket(hash_short(&key));
                match table.view().get(bucket, &key) {
                    Some(found) => prop_assert_eq!(found, &cells),
                    None => if table.insert(bucket, key, cells) { table.grow(hash_short) },
                }
            }
            prop_assert!(table.bytes() <= 64 * (MIN_BUCKETS + 100));
        }
    }
}
