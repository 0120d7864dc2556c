//! The fast path: units of text, looked up in a cache, or merged where they are not in it.
//!
//! Text is copied, with its dummy prefix and with literal `▁` made spaces (the two are the same to
//! SentencePiece), into a buffer of a few kilobytes, a part at a time; parts end where a run of spaces
//! begins. In the buffer, [`scan`](super::scan) finds the units. Then, for a batch of units at a time,
//! keys and hashes are made and the buckets of the cache asked for, and only then looked at, so that
//! memory is waited for once a batch and not once a unit.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::cache::{Cache, Cells, Handle, LongKey, ShortKey, Tables, LONG, SHORT};
use super::classes::ByteClasses;
use super::cuts::Adjacency;
use super::merges::ranks;
use super::runs::{run_len, Runs};
use super::scan::{Level, Scanner, BLOCK};
use super::words::{Reason, Splits, WordMerger, WordScratch, SPACE};
use crate::model::Model;
use crate::normalize::to_valid_utf8;
use crate::vocabulary::{PieceKind, TokenId, Vocabulary, SPACE_SYMBOL};

/// Units that are looked up together.
const BATCH: usize = 128;
/// How much text goes into the buffer at a time, in bytes.
const PART: usize = 8 << 10;

/// All that the fast path knows of a vocabulary.
#[derive(Debug)]
pub(crate) struct FastMerger {
    words: WordMerger,
    /// Where runs of spaces are encoded apart from the words after them.
    runs: Option<Runs>,
    scanner: Scanner,
    /// For long text without spaces; made when the first one comes.
    adjacency: OnceLock<Adjacency>,
    model: Arc<Model>,
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
}

#[derive(Debug, Default)]
struct Buffers {
    /// Text, and zeros behind it.
    text: Vec<u8>,
    starts: Vec<u32>,
    words: WordScratch,
    merged: Vec<TokenId>,
}

/// The largest buffer that is kept for the next call, in bytes.
pub(crate) const MAX_KEPT_BYTES: usize = 1 << 20;

impl FastScratch {
    /// Gives up what only a call needs: the cache's tables, which may have been replaced, and buffers
    /// that a long text has made large.
    pub(crate) fn release(&mut self) {
        self.handle = None;
        if self.buffers.text.capacity() + self.buffers.words.bytes() > MAX_KEPT_BYTES {
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
            adjacency: OnceLock::new(),
            model: model.clone(),
            space_id: vocabulary.mergeable_id(SPACE_SYMBOL).ok_or("▁ is no piece")?,
            narrow: vocabulary.len() <= 1 << 16,
            fused_id,
        })
    }

    /// Appends the ids of `text`, in which a space stands for `▁` (but literal `▁` may occur), with a
    /// space in front if `prefix` says so.
    pub(crate) fn encode(
        &self,
        cache: &Arc<Cache>,
        scratch: &mut FastScratch,
        text: &str,
        prefix: bool,
        out: &mut Vec<TokenId>,
    ) {
        let first = out.len();
        let mut rest = text;
        let mut prefix = prefix;
        while !rest.is_empty() || prefix {
            let (part, tail) = rest.split_at(self.part_len(rest));
            let buffer = &mut scratch.buffers.text;
            buffer.clear();
            if prefix {
                buffer.push(SPACE);
            }
            fill(part, buffer);
            self.encode_buffer(cache, scratch, out);
            (rest, prefix) = (tail, false);
        }
        if let Some(unknown) = self.fused_id {
            fuse(out, first, unknown);
        }
    }

    /// How much of `text` makes a part: up to the beginning of a run of spaces or, where there is none
    /// for long, another place where it may be cut.
    fn part_len(&self, text: &str) -> usize {
        if text.len() <= PART {
            return text.len();
        }
        let bytes = text.as_bytes();
        if let Some(index) = (PART / 2..PART).rev().find(|&index| begins_run(bytes, index)) {
            return index;
        }
        (PART / 2..PART)
            .rev()
            .chain(PART..bytes.len())
            .find(|&index| begins_run(bytes, index) || self.may_cut(bytes, index))
            .unwrap_or(bytes.len())
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
        let adjacency = self.adjacency.get_or_init(|| Adjacency::new(&self.model.vocabulary));
        !is_space(left) && !is_space(right) && !adjacency.contains(left, right)
    }

    fn encode_buffer(&self, cache: &Arc<Cache>, scratch: &mut FastScratch, out: &mut Vec<TokenId>) {
        let Buffers { text, starts, .. } = &mut scratch.buffers;
        let len = text.len();
        text.resize(len + 2 * BLOCK, 0);
        starts.clear();
        self.scanner.units(text, len, starts);
        // At most one id a byte, and room for what the copies of whole entries write beyond.
        out.reserve(len + BLOCK);
        let tables = scratch.handle.get_or_insert_with(|| cache.handle()).tables(cache);
        if self.narrow {
            self.look_up::<false>(tables, &mut scratch.buffers, out);
        } else {
            self.look_up::<true>(tables, &mut scratch.buffers, out);
        }
    }

    /// Appends the ids of all units in the buffer; `WIDE` says that ids take 32 bits in the cache.
    fn look_up<const WIDE: bool>(&self, tables: &Tables, buffers: &mut Buffers, out: &mut Vec<TokenId>) {
        let Buffers { text, starts, words, merged } = buffers;
        let mut keys = [ShortKey::default(); BATCH];
        let mut buckets = [0u32; BATCH];
        let mut rest = starts.as_slice();
        while rest.len() > 1 {
            let units = (rest.len() - 1).min(BATCH);
            for index in 0..units {
                let (start, end) = (rest[index] as usize, rest[index + 1] as usize);
                if end - start <= SHORT {
                    let key = ShortKey::new(text, start, end - start);
                    buckets[index] = tables.short.bucket(&key);
                    tables.short.prefetch(buckets[index]);
                    keys[index] = key;
                } else if end - start <= LONG {
                    buckets[index] = tables.long.bucket(&LongKey::new(text, start, end - start));
                    tables.long.prefetch(buckets[index]);
                }
            }
            for index in 0..units {
                let (start, end) = (rest[index] as usize, rest[index + 1] as usize);
                let hit = if end - start <= SHORT {
                    tables.short.get(buckets[index], &keys[index]).map(|hit| {
                        hit.emit::<WIDE>(out);
                        hit.lone_space()
                    })
                } else if end - start <= LONG {
                    tables.long.get(buckets[index], &LongKey::new(text, start, end - start)).map(|hit| {
                        hit.emit::<WIDE>(out);
                        hit.lone_space()
                    })
                } else {
                    None
                };
                let lone_space = match hit {
                    Some(lone_space) => lone_space,
                    None => {
                        self.merge(&text[start..end], words, merged);
                        out.extend_from_slice(merged);
                        let lone_space = text[start] == SPACE && merged.first() == Some(&self.space_id);
                        keep::<WIDE>(tables, text, start, end - start, merged, lone_space);
                        lone_space
                    }
                };
                if lone_space && start > 0 && text[start - 1] == SPACE {
                    self.lengthen_run(text, start, end, words, merged, out);
                }
            }
            rest = &rest[units..];
        }
    }

    /// The ids of a unit, in `merged`.
    #[cold]
    #[inline(never)]
    fn merge(&self, unit: &[u8], words: &mut WordScratch, merged: &mut Vec<TokenId>) {
        merged.clear();
        match &self.runs {
            Some(runs) if unit[0] == SPACE && unit.iter().all(|&byte| byte == SPACE) => {
                runs.encode(unit.len(), merged);
            }
            // Units are cut between characters of valid text, so this borrows.
            _ => self.words.encode(&to_valid_utf8(unit), words, merged),
        }
    }

    /// Mends what has been appended for a run of spaces and the unit after it, whose first id is a
    /// lone `▁`: the run is one longer, and the unit begins after it.
    #[cold]
    #[inline(never)]
    fn lengthen_run(
        &self,
        buffer: &[u8],
        start: usize,
        end: usize,
        words: &mut WordScratch,
        merged: &mut Vec<TokenId>,
        out: &mut Vec<TokenId>,
    ) {
        // Where runs and words are not parted, no unit begins with a space after another one.
        let Some(runs) = &self.runs else { return };
        let run = buffer[..start].iter().rev().take_while(|&&byte| byte == SPACE).count();
        self.merge(&buffer[start..end], words, merged);
        out.truncate(out.len() - merged.len() - runs.count(run));
        runs.encode(run + 1, out);
        out.extend_from_slice(&merged[1..]);
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
