//! Looks the units of a buffer up, and merges those that the cache has not.

use std::sync::Arc;

use super::texts::Borders;
use super::{FastMerger, FastScratch};
use crate::bpe::cache::{Cache, Cells, LongKey, ShortKey, Tables, LONG, MAX_CACHED_IDS, SHORT};
use crate::bpe::runs::Runs;
use crate::bpe::words::{Merged, WordScratch, SPACE};
use crate::vocabulary::TokenId;

/// Units that are looked up together.
const BATCH: usize = 128;

/// What one thread needs.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// Text, and zeros behind it.
    pub(super) text: Vec<u8>,
    pub(super) starts: Vec<u32>,
    batch: Box<Batch>,
    pub(super) words: WordScratch,
    pub(super) pending: Pending,
}

/// What is known of the units of a batch before they are looked up; kept, since to clear it would take
/// as long as a short text.
#[derive(Debug)]
struct Batch {
    keys: [ShortKey; BATCH],
    buckets: [u32; BATCH],
}

impl Default for Batch {
    fn default() -> Self {
        Self { keys: [ShortKey::default(); BATCH], buckets: [0; BATCH] }
    }
}

/// Units that wait to be merged, and whose ids are missing from the result.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Where each unit begins and ends in the buffer.
    words: Vec<(u32, u32)>,
    /// Where its ids belong, were there none of the others.
    places: Vec<usize>,
    pub(super) merged: Merged,
    /// What comes after the first of those places.
    tail: Vec<TokenId>,
    /// The bytes of all units that were put off since the cache has been told.
    missed: usize,
}

/// How many units are merged together, about.
const ENOUGH_PENDING: usize = 16;

impl FastMerger {
    /// Appends the ids of all units in the buffer, which belong to one text or, where there are `borders`, to
    /// several.
    pub(super) fn look_up(
        &self,
        cache: &Arc<Cache>,
        scratch: &mut FastScratch,
        borders: &mut Borders,
        out: &mut Vec<TokenId>,
    ) {
        let FastScratch { handle, tally, buffers, .. } = scratch;
        let tables = handle.get_or_insert_with(|| cache.handle()).tables(cache, tally);
        if self.narrow {
            self.look_up_by::<false>(tables, buffers, borders, out);
        } else {
            self.look_up_by::<true>(tables, buffers, borders, out);
        }
        let range = buffers.starts.first().zip(buffers.starts.last());
        let bytes = range.map_or(0, |(&start, &end)| (end - start) as usize);
        tally.add(bytes, std::mem::take(&mut buffers.pending.missed));
    }

    /// The same; `WIDE` says that ids take 32 bits in the cache.
    fn look_up_by<const WIDE: bool>(
        &self,
        tables: &Tables,
        buffers: &mut Buffers,
        borders: &mut Borders,
        out: &mut Vec<TokenId>,
    ) {
        let Buffers { text, starts, batch, words, pending } = buffers;
        let Batch { keys, buckets } = &mut **batch;
        let (short, long) = (tables.short.view(), tables.long.view());
        let mut rest = starts.as_slice();
        // How many units there are before the next border.
        let mut border = borders.next(0);
        while rest.len() > 1 {
            let units = (rest.len() - 1).min(BATCH);
            for index in 0..units {
                let (start, end) = (rest[index] as usize, rest[index + 1] as usize);
                if end - start <= SHORT {
                    let key = ShortKey::new(text, start, end - start);
                    buckets[index] = short.bucket(&key);
                    short.prefetch(buckets[index]);
                    keys[index] = key;
                } else if end - start <= LONG {
                    buckets[index] = long.bucket(&LongKey::new(text, start, end - start));
                    long.prefetch(buckets[index]);
                }
            }
            for index in 0..units {
                if index == border {
                    borders.cross(pending.words.len(), out);
                    border = borders.next(starts.len() - rest.len());
                    continue;
                }
                let (start, end) = (rest[index] as usize, rest[index + 1] as usize);
                let place = out.len();
                let mut lone_space = None;
                if end - start <= SHORT {
                    let (bucket, key) = (buckets[index], &keys[index]);
                    if let Some(hit) = short.get(bucket, key).or_else(|| short.get_beside(bucket, key)) {
                        hit.emit::<WIDE>(out);
                        lone_space = Some(hit.lone_space());
                    }
                } else if end - start <= LONG {
                    let key = LongKey::new(text, start, end - start);
                    if let Some(hit) = long.get(buckets[index], &key) {
                        hit.emit::<WIDE>(out);
                        lone_space = Some(hit.lone_space());
                    }
                }
                match lone_space {
                    Some(false) => {}
                    Some(true) => self.join_run(text, start, place, out),
                    None => self.put_off::<WIDE>(tables, text, start, end, pending, out),
                }
            }
            rest = &rest[units..];
            border = border.saturating_sub(units);
            if pending.words.len() >= ENOUGH_PENDING {
                self.settle::<WIDE>(tables, text, words, pending, borders, out);
            }
        }
        self.settle::<WIDE>(tables, text, words, pending, borders, out);
    }

    /// Gives the space of a unit, whose ids begin at `place` with the piece `▁`, to the run before it, if
    /// there is one. Its ids are the last ones before `place`, since runs are never put off, but for a
    /// single space after another one, which nothing comes after that begins with a space.
    #[inline]
    fn join_run(&self, text: &[u8], start: usize, place: usize, out: &mut Vec<TokenId>) {
        if let Some(runs) = self.runs.as_ref().filter(|_| follows_space(text, start)) {
            let mut ids = [0; MAX_CACHED_IDS];
            let rest = out.len() - place - 1;
            ids[..rest].copy_from_slice(&out[place + 1..]);
            out.truncate(place);
            lengthen_run(runs, text, start, out);
            out.extend_from_slice(&ids[..rest]);
        }
    }

    /// Puts off a unit; or appends the ids of a run of spaces.
    #[cold]
    fn put_off<const WIDE: bool>(
        &self,
        tables: &Tables,
        text: &[u8],
        start: usize,
        end: usize,
        pending: &mut Pending,
        out: &mut Vec<TokenId>,
    ) {
        let is_run = text[start] == SPACE && text[start..end].iter().all(|&byte| byte == SPACE);
        if let Some(runs) = self.runs.as_ref().filter(|_| is_run) {
            let place = out.len();
            runs.encode(end - start, out);
            // A single space may be the last one of a run, and then makes it longer.
            let lone_space = end - start == 1;
            keep::<WIDE>(tables, text, start, end - start, &out[place..], lone_space);
            if !(lone_space && follows_space(text, start)) {
                return;
            }
            out.truncate(place);
        }
        pending.missed += end - start;
        pending.words.push((start as u32, end as u32));
        pending.places.push(out.len());
    }

    /// Merges the units that have been put off, keeps what they become, and puts it where it belongs.
    fn settle<const WIDE: bool>(
        &self,
        tables: &Tables,
        text: &[u8],
        words: &mut WordScratch,
        pending: &mut Pending,
        borders: &mut Borders,
        out: &mut Vec<TokenId>,
    ) {
        let Pending { words: units, places, merged, tail, .. } = pending;
        let Some(&first) = places.first() else { return };
        self.words.encode(self.scanner.level(), text, units, words, merged);
        tail.clear();
        tail.extend_from_slice(&out[first..]);
        out.truncate(first);
        let ends = places[1..].iter().copied().chain([first + tail.len()]);
        for (index, ((&(start, end), &place), next)) in units.iter().zip(&*places).zip(ends).enumerate() {
            let (start, end) = (start as usize, end as usize);
            let ids = merged.ids(index);
            let lone_space = text[start] == SPACE && ids.first() == Some(&self.space_id);
            keep::<WIDE>(tables, text, start, end - start, ids, lone_space);
            // Where runs and words are not parted, no unit begins with a space after another one.
            let run_before = self.runs.as_ref().filter(|_| lone_space && follows_space(text, start));
            if let Some(runs) = run_before {
                lengthen_run(runs, text, start, out);
                out.extend_from_slice(&ids[1..]);
            } else {
                out.extend_from_slice(ids);
            }
            borders.shift(index + 1, out.len().wrapping_sub(place) as isize);
            out.extend_from_slice(&tail[place - first..next - first]);
        }
        borders.settle();
        units.clear();
        places.clear();
    }
}

/// Makes the run of spaces before `start`, whose ids are the last ones, longer by one space.
fn lengthen_run(runs: &Runs, text: &[u8], start: usize, out: &mut Vec<TokenId>) {
    let run = text[..start].iter().rev().take_while(|&&byte| byte == SPACE).count();
    out.truncate(out.len() - runs.count(run));
    runs.encode(run + 1, out);
}

/// Whether the unit that begins at `start` comes after a run of spaces.
fn follows_space(text: &[u8], start: usize) -> bool {
    start > 0 && text[start - 1] == SPACE
}

/// Keeps the ids of the unit `text[start..start + len]`, if they fit.
fn keep<const WIDE: bool>(
    tables: &Tables,
    text: &[u8],
    start: usize,
    len: usize,
    ids: &[TokenId],
    lone_space: bool,
) {
    if len <= SHORT {
        if let Some(cells) = Cells::pack::<WIDE>(ids, lone_space) {
            tables.short.insert(&ShortKey::new(text, start, len), cells);
        }
    } else if len <= LONG {
        if let Some(cells) = Cells::pack::<WIDE>(ids, lone_space) {
            tables.long.insert(&LongKey::new(text, start, len), cells);
        }
    }
}
