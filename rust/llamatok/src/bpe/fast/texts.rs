//! Several short texts at once.
//!
//! A text by itself costs as much as some fifty of its letters before the first of them is looked at, and its few
//! units do not fill a batch. So short texts share a buffer, each with a zero behind it, and the scan is shown one
//! after the other as if there were no other. Their units make up batches together; the zero between two texts is a
//! unit that is not looked up, but tells where the ids of one text end.

use std::borrow::Cow;
use std::sync::Arc;

use super::{fill, FastMerger, FastScratch, PART};
use crate::bpe::cache::Cache;
use crate::bpe::scan::BLOCK;
use crate::bpe::words::SPACE;
use crate::vocabulary::TokenId;

/// What is put around each of several texts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Around {
    /// Whether the text gets a space in front, if it is not empty.
    pub(crate) prefix: bool,
    pub(crate) bos: Option<TokenId>,
    pub(crate) eos: Option<TokenId>,
}

/// Where texts end, among their units and among their ids.
#[derive(Debug, Default)]
pub(super) struct Borders {
    around: Around,
    /// The numbers of the units behind each text of the buffer.
    units: Vec<usize>,
    crossed: usize,
    /// Where the ids of each text end.
    ends: Vec<usize>,
    /// Of the last ends, how many units waited to be merged when they were met: their ids are still to come
    /// before these ends.
    waiting: Vec<usize>,
    settled: usize,
}

impl Borders {
    /// How many units come before the next border, when `done` of all are done.
    #[inline]
    pub(super) fn next(&self, done: usize) -> usize {
        self.units.get(self.crossed).map_or(usize::MAX, |unit| unit - done)
    }

    /// Ends a text, while `waiting` units wait to be merged, and begins the next one, if there is one.
    pub(super) fn cross(&mut self, waiting: usize, out: &mut Vec<TokenId>) {
        out.extend(self.around.eos);
        self.ends.push(out.len());
        if waiting > 0 {
            self.waiting.push(waiting);
        }
        self.crossed += 1;
        if self.crossed < self.units.len() {
            out.extend(self.around.bos);
        }
    }

    /// Moves the ends that were met while just `waiting` units waited by `more`, the number of ids that these
    /// units have added.
    #[inline]
    pub(super) fn shift(&mut self, waiting: usize, more: isize) {
        let first = self.ends.len() - self.waiting.len();
        while self.waiting.get(self.settled) == Some(&waiting) {
            let end = &mut self.ends[first + self.settled];
            *end = end.wrapping_add_signed(more);
            self.settled += 1;
        }
    }

    /// Takes note that no unit waits any more.
    #[inline]
    pub(super) fn settle(&mut self) {
        self.waiting.clear();
        self.settled = 0;
    }
}

impl FastMerger {
    /// Whether [`encode_texts`](Self::encode_texts) serves.
    pub(crate) fn serves_texts(&self) -> bool {
        self.fused_id.is_none()
    }

    /// Appends the ids of each of several texts, with what is put around it, and to `ends` where they end in
    /// `out`. It is meant for texts of less than a kilobyte or so; longer ones take as much memory.
    pub(crate) fn encode_texts<'a>(
        &self,
        cache: &Arc<Cache>,
        scratch: &mut FastScratch,
        mut texts: impl Iterator<Item = Cow<'a, str>>,
        around: Around,
        out: &mut Vec<TokenId>,
        ends: &mut Vec<usize>,
    ) {
        let mut borders = Borders { around, ends: std::mem::take(ends), ..Borders::default() };
        let mut ranges = Vec::new();
        loop {
            let buffer = &mut scratch.buffers.text;
            buffer.clear();
            ranges.clear();
            while buffer.len() < PART {
                let Some(text) = texts.next() else { break };
                let start = buffer.len();
                if around.prefix && !text.is_empty() {
                    buffer.push(SPACE);
                }
                fill(&text, buffer);
                ranges.push(start..buffer.len());
                buffer.push(0);
            }
            if ranges.is_empty() {
                break;
            }
            let len = buffer.len();
            buffer.resize(len + BLOCK, 0);
            let starts = &mut scratch.buffers.starts;
            starts.clear();
            borders.units.clear();
            borders.crossed = 0;
            for range in ranges.drain(..) {
                self.scanner.units(&scratch.buffers.text, range, starts);
                borders.units.push(starts.len() - 1);
            }
            starts.push(len as u32);
            // At most one id a byte, and room for what the copies of whole entries write beyond.
            out.reserve(len + 2 * borders.units.len() + BLOCK);
            out.extend(around.bos);
            self.look_up(cache, scratch, &mut borders, out);
        }
        *ends = borders.ends;
    }
}
