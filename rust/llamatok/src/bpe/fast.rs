//! The fast path: units of text, looked up in a cache, or merged where they are not in it.
//!
//! Text is copied, with its dummy prefix and with literal `▁` made spaces (the two are the same to
//! SentencePiece), into a buffer of a few kilobytes, a part at a time. In the buffer,
//! [`scan`](super::scan) finds the units; what comes after the last place where one may be cut off waits
//! for the next part. Then, for a batch of units at a time, keys and hashes are made and the buckets of
//! the cache asked for, and only then looked at, so that memory is waited for once a batch and not once
//! a unit. Units that are not in the cache are put off until there are enough of them to be merged
//! together; their ids are then put in their places.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::cache::{Cache, Cells, Handle, LongKey, ShortKey, Tables, LONG, MAX_CACHED_IDS, SHORT};
use super::classes::ByteClasses;
use super::general::uncut;
use super::merges::ranks;
use super::runs::{run_len, Runs};
use super::scan::{Level, Scanner, BLOCK};
use super::words::{Merged, Reason, Splits, WordMerger, WordScratch, SPACE};
use crate::batch::{self, SLICE_BYTES};
use crate::model::Model;
use crate::stop;
use crate::vocabulary::{PieceKind, TokenId, Vocabulary, SPACE_SYMBOL};
use crate::Result;

/// Units that are looked up together.
const BATCH: usize = 128;
/// How much text goes into the buffer at a time, in bytes.
const PART: usize = 8 << 10;
/// How much text without a cut fits the buffer, in bytes: places in it are numbers of 32 bits. Much less for the
/// tests of this crate, which then come to it.
pub(crate) const MAX_UNCUT: usize = if cfg!(test) { 2 << 20 } else { u32::MAX as usize - 4 * BLOCK };

/// All that the fast path knows of a vocabulary.
#[derive(Debug)]
pub(crate) struct FastMerger {
    words: WordMerger,
    /// Where runs of spaces are encoded apart from the words after them.
    runs: Option<Runs>,
    scanner: Scanner,
    space_id: TokenId,
    /// Whether ids fit 16 bits.
    narrow: bool,
    /// The id of which a run gives one, in models without byte fallback.
    fused_id: Option<TokenId>,
}

/// The buffers of one thread and, for the time of a call, its hold on the cache.
#[derive(Debug, Default)]
pub(crate) struct FastScratch {
    handle: Option<Handle>,
    buffers: Buffers,
    /// How many threads may share a long text in this call; none but this one for 0.
    threads: usize,
}

#[derive(Debug, Default)]
struct Buffers {
    /// Text, and zeros behind it.
    text: Vec<u8>,
    starts: Vec<u32>,
    batch: Box<Batch>,
    words: WordScratch,
    pending: Pending,
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
struct Pending {
    /// Where each unit begins and ends in the buffer.
    words: Vec<(u32, u32)>,
    /// Where its ids belong, were there none of the others.
    places: Vec<usize>,
    merged: Merged,
    /// What comes after the first of those places.
    tail: Vec<TokenId>,
}

/// How many units are merged together, about.
const ENOUGH_PENDING: usize = 16;

/// The largest buffer that is kept for the next call, in bytes.
pub(crate) const MAX_KEPT_BYTES: usize = 1 << 20;

impl FastScratch {
    /// Lets so many threads share a long text, for the time of a call.
    pub(crate) fn share_long_texts(&mut self, threads: usize) {
        self.threads = threads;
    }

    /// Gives up what only a call needs: the cache's tables, which may have been replaced, and buffers
    /// that a long text has made large.
    pub(crate) fn release(&mut self) {
        self.handle = None;
        self.threads = 0;
        let Buffers { text, words, pending, .. } = &self.buffers;
        if text.capacity() + words.bytes() + pending.merged.bytes() > MAX_KEPT_BYTES {
            self.buffers = Buffers::default();
        }
    }
}

impl FastMerger {
    /// Builds the tables, or says why the vocabulary must go the general way.
    pub(crate) fn new(model: &Arc<Model>, level: Level) -> Result<Self, Reason> {
        check_words(&model.vocabulary)?;
        let ranks = ranks(&model.vocabulary);
        check_runs(&model.vocabulary, &ranks)?;
        let runs = Runs::new(&model.vocabulary, &ranks, None)?;
        let words = WordMerger::new(&model.vocabulary, &ranks, None, false)?;
        let fused_id = model.vocabulary.byte_ids().is_none().then(|| model.vocabulary.unk_id());
        Self::with_parts(model, level, words, Some(runs), fused_id)
    }

    /// The same where pieces merge by `splits`, in the order of `ranks`, instead of by scores. Where the rule
    /// for [runs](super::runs) does not hold, runs of spaces stay together with the words after them: the
    /// cut rule allows that, and the merger for words needs no more than it.
    pub(crate) fn with_splits(
        model: &Arc<Model>,
        level: Level,
        ranks: &[u32],
        splits: &Splits,
        fused_id: Option<TokenId>,
    ) -> Result<Self, Reason> {
        let vocabulary = &model.vocabulary;
        check_words(vocabulary)?;
        let runs = check_runs(vocabulary, ranks).and_then(|()| Runs::new(vocabulary, ranks, Some(splits)));
        let words = WordMerger::new(vocabulary, ranks, Some(splits), runs.is_err())?;
        Self::with_parts(model, level, words, runs.ok(), fused_id)
    }

    fn with_parts(
        model: &Arc<Model>,
        level: Level,
        words: WordMerger,
        runs: Option<Runs>,
        fused_id: Option<TokenId>,
    ) -> Result<Self, Reason> {
        let vocabulary = &model.vocabulary;
        let scanner = Scanner::new(level, ByteClasses::new(vocabulary));
        Ok(Self {
            words,
            scanner: if runs.is_some() { scanner } else { scanner.joining_runs() },
            runs,
            space_id: vocabulary.mergeable_id(SPACE_SYMBOL).ok_or("▁ is no piece")?,
            narrow: vocabulary.len() <= 1 << 16,
            fused_id,
        })
    }

    /// Appends the ids of `text`, in which a space stands for `▁` (but literal `▁` may occur), with a
    /// space in front if `prefix` says so.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for 4 GiB of text without a place
    /// where it may be cut.
    pub(crate) fn encode(
        &self,
        cache: &Arc<Cache>,
        scratch: &mut FastScratch,
        text: &str,
        prefix: bool,
        out: &mut Vec<TokenId>,
    ) -> Result<()> {
        if scratch.threads > 1 && text.len() >= 2 * SLICE_BYTES {
            return self.encode_shared(cache, scratch.threads, text, prefix, out);
        }
        let first = out.len();
        let mut rest = text;
        let buffer = &mut scratch.buffers.text;
        buffer.clear();
        if prefix {
            buffer.push(SPACE);
        }
        while !rest.is_empty() || !scratch.buffers.text.is_empty() {
            let buffer = &mut scratch.buffers.text;
            let room = MAX_UNCUT - buffer.len();
            if room < PART && room < rest.len() {
                return Err(uncut());
            }
            // At least as much as is there already, so that text without cuts takes linear time.
            let (part, tail) = rest.split_at(boundary(rest, PART.max(buffer.len()).min(room)));
            fill(part, buffer);
            rest = tail;
            self.encode_buffer(cache, scratch, rest.is_empty(), out);
            if !rest.is_empty() && stop::is_asked() {
                break;
            }
        }
        if let Some(unknown) = self.fused_id {
            fuse(out, first, unknown);
        }
        Ok(())
    }

    /// The same on several threads, which encode the parts between cuts.
    fn encode_shared(
        &self,
        cache: &Arc<Cache>,
        threads: usize,
        text: &str,
        prefix: bool,
        out: &mut Vec<TokenId>,
    ) -> Result<()> {
        let mut tasks = Vec::with_capacity(text.len() / SLICE_BYTES + 1);
        let mut start = 0;
        while text.len() - start >= 2 * SLICE_BYTES {
            let range = start + SLICE_BYTES..start + 2 * SLICE_BYTES;
            let Some(end) = self.find_cut(text.as_bytes(), range) else { break };
            tasks.push(start..end);
            start = end;
        }
        tasks.push(start..text.len());
        let parts = Mutex::new(Vec::with_capacity(tasks.len()));
        let next = AtomicUsize::new(0);
        batch::share(threads.min(tasks.len()), || {
            let mut scratch = FastScratch::default();
            while let Some((index, range)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|index| Some((index, tasks.get(index)?)))
            {
                let mut ids = Vec::with_capacity(range.len() / 3);
                let text = &text[range.clone()];
                let done = self.encode(cache, &mut scratch, text, prefix && index == 0, &mut ids);
                parts.lock().unwrap_or_else(PoisonError::into_inner).push((index, done.map(|()| ids)));
            }
        });
        let mut parts = parts.into_inner().unwrap_or_else(PoisonError::into_inner);
        parts.sort_unstable_by_key(|&(index, _)| index);
        out.reserve(parts.iter().flat_map(|(_, ids)| ids).map(Vec::len).sum());
        for (_, ids) in parts {
            out.extend_from_slice(&ids?);
        }
        Ok(())
    }

    /// The first place in `range` where `text` may be cut in two that are encoded by themselves: a run of
    /// spaces rather than another one. (Where unknown characters are fused, the two sides of another
    /// one might share an id.)
    pub(crate) fn find_cut(&self, text: &[u8], mut range: Range<usize>) -> Option<usize> {
        let run = range.clone().find(|&index| begins_run(text, index));
        run.or_else(|| range.find(|&index| self.fused_id.is_none() && self.may_cut(text, index)))
    }

    /// Whether `text` may be cut at `index` by the rule of [`cuts`](super::cuts); `false` where that is
    /// not between two characters, or one of them is a space.
    fn may_cut(&self, text: &[u8], index: usize) -> bool {
        let first = |bytes: &[u8]| bytes.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
        let before = (1..=index.min(4)).find_map(|len| std::str::from_utf8(&text[index - len..index]).ok());
        let after = first(&text[index..text.len().min(index + 4)]);
        let (Some(left), Some(right)) = (before.and_then(|text| text.chars().next()), after) else {
            return false;
        };
        let is_space = |c: char| matches!(c, ' ' | '▁');
        !is_space(left) && !is_space(right) && self.scanner.classes().are_apart(left, right)
    }

    /// Appends the ids of what is in the buffer and leaves there, unless the text is at its end, what may
    /// belong to a unit that goes on.
    fn encode_buffer(
        &self,
        cache: &Arc<Cache>,
        scratch: &mut FastScratch,
        is_end: bool,
        out: &mut Vec<TokenId>,
    ) {
        let Buffers { text, starts, .. } = &mut scratch.buffers;
        let len = text.len();
        text.resize(len + 2 * BLOCK, 0);
        starts.clear();
        self.scanner.units(text, len, starts);
        let mut taken = len;
        if !is_end {
            // The cut before the last space of a run depends on what comes after it, and a run must
            // not be parted from that space; all other cuts depend on two neighbours.
            let is_final = |start: u32| start > 0 && text[start as usize - 1] != SPACE;
            let units = starts.len() - 1;
            let kept = (1..units).rev().find(|&index| is_final(starts[index])).unwrap_or(0);
            starts.truncate(kept + 1);
            taken = starts[kept] as usize;
        }
        // At most one id a byte, and room for what the copies of whole entries write beyond.
        out.reserve(taken + BLOCK);
        let tables = scratch.handle.get_or_insert_with(|| cache.handle()).tables(cache);
        if self.narrow {
            self.look_up::<false>(tables, &mut scratch.buffers, out);
        } else {
            self.look_up::<true>(tables, &mut scratch.buffers, out);
        }
        let text = &mut scratch.buffers.text;
        text.copy_within(taken..len, 0);
        text.truncate(len - taken);
    }

    /// Appends the ids of all units in the buffer; `WIDE` says that ids take 32 bits in the cache.
    fn look_up<const WIDE: bool>(&self, tables: &Tables, buffers: &mut Buffers, out: &mut Vec<TokenId>) {
        let Buffers { text, starts, batch, words, pending } = buffers;
        let Batch { keys, buckets } = &mut **batch;
        let (short, long) = (tables.short.view(), tables.long.view());
        let mut rest = starts.as_slice();
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
            if pending.words.len() >= ENOUGH_PENDING {
                self.settle::<WIDE>(tables, text, words, pending, out);
            }
        }
        self.settle::<WIDE>(tables, text, words, pending, out);
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
        out: &mut Vec<TokenId>,
    ) {
        let Pending { words: units, places, merged, tail } = pending;
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
            out.extend_from_slice(&tail[place - first..next - first]);
        }
        units.clear();
        places.clear();
    }
}

/// Whether nothing but runs stands against the fast path.
fn check_words(vocabulary: &Vocabulary) -> Result<(), Reason> {
    for piece in vocabulary.pieces() {
        match piece.kind {
            PieceKind::Unused => return Err("there are unused pieces"),
            PieceKind::UserDefined if piece.text.contains([' ', '▁']) => {
                return Err("a user-defined symbol holds a space")
            }
            PieceKind::Normal if piece.text.trim_start_matches('▁').contains('▁') => {
                return Err("a piece holds ▁ after another character");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the rule for [runs](super::runs) holds.
fn check_runs(vocabulary: &Vocabulary, ranks: &[u32]) -> Result<(), Reason> {
    let mut last_word = 0;
    let mut first_run = u32::MAX;
    for (piece, &rank) in vocabulary.pieces().iter().zip(ranks) {
        if piece.kind != PieceKind::Normal || piece.text.chars().nth(1).is_none() {
            continue;
        }
        if run_len(&piece.text).is_some() {
            first_run = first_run.min(rank);
        } else if piece.text.starts_with("▁▁") {
            return Err("a piece begins with several ▁ and goes on");
        } else {
            last_word = last_word.max(rank);
        }
    }
    if first_run <= last_word {
        return Err("a run of ▁ has a higher score than some other piece");
    }
    Ok(())
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

/// Whether a run of spaces begins at `index`, which is not 0. A literal `▁` before it would belong to the
/// run; its last byte tells enough.
fn begins_run(text: &[u8], index: usize) -> bool {
    text[index] == SPACE && !matches!(text[index - 1], SPACE | 0x81)
}

/// The greatest place between two characters of `text` that is at most `place`.
fn boundary(text: &str, place: usize) -> usize {
    (0..=place.min(text.len())).rev().find(|&place| text.is_char_boundary(place)).unwrap_or(0)
}

/// Appends `text` to `buffer`, with each `▁` as a space.
fn fill(text: &str, buffer: &mut Vec<u8>) {
    if text.is_ascii() {
        buffer.extend_from_slice(text.as_bytes());
        return;
    }
    let bytes = text.as_bytes();
    let mut start = 0;
    for found in memchr::memmem::find_iter(bytes, SPACE_SYMBOL) {
        buffer.extend_from_slice(&bytes[start..found]);
        buffer.push(SPACE);
        start = found + SPACE_SYMBOL.len();
    }
    buffer.extend_from_slice(&bytes[start..]);
}

/// Leaves one of each run of `unknown` among `ids[first..]`.
fn fuse(ids: &mut Vec<TokenId>, first: usize, unknown: TokenId) {
    let mut kept = first;
    for index in first..ids.len() {
        let id = ids[index];
        if id != unknown || kept == first || ids[kept - 1] != unknown {
            ids[kept] = id;
            kept += 1;
        }
    }
    ids.truncate(kept);
}
