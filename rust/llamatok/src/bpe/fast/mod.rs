//! The fast path: units of text, looked up in a cache, or merged where they are not in it.
//!
//! Text is copied, with its dummy prefix and with literal `▁` made spaces (the two are the same to
//! SentencePiece), into a buffer of a few kilobytes, a part at a time. In the buffer,
//! [`scan`](super::scan) finds the units; what comes after the last place where one may be cut off waits
//! for the next part. Then, for a batch of units at a time, keys and hashes are made and the buckets of
//! the cache asked for, and only then looked at, so that memory is waited for once a batch and not once
//! a unit. Units that are not in the cache are put off until there are enough of them to be merged
//! together; their ids are then put in their places. Short texts share a buffer ([`texts`]).

mod look_up;
mod texts;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use self::look_up::Buffers;
pub(crate) use self::texts::Around;
use self::texts::Borders;
use super::cache::{Cache, Handle, Tally};
use super::classes::ByteClasses;
use super::general::uncut;
use super::merges::ranks;
use super::runs::{run_len, Runs};
use super::scan::{Level, Scanner, BLOCK};
use super::words::{Reason, Splits, WordMerger, SPACE};
use crate::batch::{self, SLICE_BYTES};
use crate::model::Model;
use crate::stop;
use crate::vocabulary::{PieceKind, TokenId, Vocabulary, SPACE_SYMBOL};
use crate::Result;

/// How much text goes into the buffer at a time, in bytes.
const PART: usize = 16 << 10;
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
    tally: Tally,
    buffers: Buffers,
    /// How many threads may share a long text in this call; none but this one for 0.
    threads: usize,
}

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
        self.scanner.units(text, 0..len, starts);
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
        self.look_up(cache, scratch, &mut Borders::default(), out);
        let text = &mut scratch.buffers.text;
        text.copy_within(taken..len, 0);
        text.truncate(len - taken);
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
