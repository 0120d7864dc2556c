//! The texts of a batch, as tasks take them: long ones in parts, short ones together.

use super::{EncodeOptions, Text, Tokenizer};
use crate::batch::{Arenas, Part, SLICE_BYTES};
use crate::bpe::engine::Worker;
use crate::stop;
use crate::{Result, TokenId};

/// A text, or a part of one that is encoded by itself.
#[derive(Debug)]
pub(super) struct Slice<'a> {
    pub(super) text: Text<'a>,
    begins_text: bool,
    pub(super) ends_text: bool,
}

/// The longest text that is encoded together with others, in bytes. The longer a text, the less it is worth.
const MAX_SHORT: usize = 1 << 10;
/// The most texts that are encoded together.
const MAX_TOGETHER: usize = 256;

impl Slice<'_> {
    fn is_short(&self) -> bool {
        self.begins_text && self.ends_text && self.text.as_bytes().len() <= MAX_SHORT
    }
}

impl Tokenizer {
    /// Texts, the long ones cut so that several threads can share them.
    pub(super) fn slices<'a, T: AsRef<[u8]>>(
        &self,
        texts: &'a [T],
        options: &EncodeOptions,
        num_threads: Option<usize>,
    ) -> Vec<Slice<'a>> {
        let mut slices = Vec::with_capacity(texts.len());
        for text in texts {
            self.cut(Text::Bytes(text.as_ref()), options, num_threads, &mut slices);
        }
        slices
    }

    /// Appends the slices of a text.
    pub(super) fn cut<'a>(
        &self,
        text: Text<'a>,
        options: &EncodeOptions,
        num_threads: Option<usize>,
        slices: &mut Vec<Slice<'a>>,
    ) {
        let cut = num_threads != Some(1) && !options.parse_special;
        let mut start = 0;
        let bytes = text.as_bytes();
        while cut && bytes.len() - start >= 2 * SLICE_BYTES {
            let range = start + SLICE_BYTES..start + 2 * SLICE_BYTES;
            let Some(end) = self.inner.engine.find_cut(bytes, range) else { break };
            slices.push(Slice { text: text.part(start..end), begins_text: start == 0, ends_text: false });
            start = end;
        }
        slices.push(Slice { text: text.part(start..bytes.len()), begins_text: start == 0, ends_text: true });
    }

    /// Leaves the ids of slices in an arena, and tells where those of each text that ends there end.
    pub(super) fn encode_slices(
        &self,
        slices: &[Slice<'_>],
        options: &EncodeOptions,
        arenas: &Arenas,
    ) -> Result<(Part, Vec<i64>)> {
        let bytes: usize = slices.iter().map(|slice| slice.text.as_bytes().len()).sum();
        // More than nearly all texts take: room that is not used costs nothing, growing does.
        let room = bytes / 2 + slices.len();
        arenas.fill(room, |ids| {
            let start = ids.len();
            let mut ends = Vec::with_capacity(slices.len());
            self.inner.engine.with_worker(|worker| {
                for group in self.groups(slices, options) {
                    self.encode_group(worker, group, options, ids, &mut ends)?;
                }
                Ok(ends.into_iter().map(|end| (end - start) as i64).collect())
            })
        })
    }

    /// The number of ids of each text that ends in `slices`, and of what comes after the last of them.
    pub(super) fn count_slices(
        &self,
        slices: &[Slice<'_>],
        options: &EncodeOptions,
    ) -> Result<(Vec<i64>, i64)> {
        self.inner.engine.with_worker(|worker| {
            let mut ids = std::mem::take(&mut worker.ids);
            let mut counts = Vec::with_capacity(slices.len());
            let mut rest = 0;
            let mut ends = Vec::new();
            for group in self.groups(slices, options) {
                ids.clear();
                ends.clear();
                self.encode_group(worker, group, options, &mut ids, &mut ends)?;
                let mut start = 0;
                for &end in &ends {
                    counts.push(std::mem::take(&mut rest) + (end - start) as i64);
                    start = end;
                }
                rest += (ids.len() - start) as i64;
            }
            worker.ids = ids;
            Ok((counts, rest))
        })
    }

    /// The slices in groups, each of which is encoded together, until the call is told to stop.
    fn groups<'a, 'b>(
        &self,
        slices: &'a [Slice<'b>],
        options: &EncodeOptions,
    ) -> impl Iterator<Item = &'a [Slice<'b>]> {
        let together = self.inner.engine.serves_texts() && !options.parse_special;
        let are_short = move |a: &Slice<'_>, b: &Slice<'_>| together && a.is_short() && b.is_short();
        let groups = slices.chunk_by(are_short).flat_map(|group| group.chunks(MAX_TOGETHER));
        let every = |group: &[_]| (stop::ROUNDS / group.len()).max(1);
        groups
            .enumerate()
            .take_while(move |(round, group)| !stop::is_due(*round, every(group)))
            .map(|(_, group)| group)
    }

    /// Appends the ids of slices, and to `ends` where those of each text that ends there end in `ids`.
    fn encode_group(
        &self,
        worker: &mut Worker,
        group: &[Slice<'_>],
        options: &EncodeOptions,
        ids: &mut Vec<TokenId>,
        ends: &mut Vec<usize>,
    ) -> Result<()> {
        let [slice] = group else {
            let model = self.model();
            let around = [model.bos_id.filter(|_| options.add_bos), model.eos_id.filter(|_| options.add_eos)];
            let texts = group.iter().map(|slice| slice.text);
            self.inner.engine.encode_texts(worker, texts, around, ids, ends);
            return Ok(());
        };
        if slice.begins_text {
            let options = EncodeOptions { add_eos: options.add_eos && slice.ends_text, ..*options };
            self.encode_with(worker, slice.text, &options, ids)?;
        } else {
            self.inner.engine.encode_rest(worker, slice.text, ids)?;
            if options.add_eos && slice.ends_text {
                ids.extend(self.model().eos_id);
            }
        }
        if slice.ends_text {
            ends.push(ids.len());
        }
        Ok(())
    }
}
