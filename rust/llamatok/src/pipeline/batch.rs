//! Rows of tokens: texts and pairs with their templates around them, cut to a length.

use std::ops::Range;
use std::sync::Arc;

use super::columns::{Columns, Details, NO_WORD};
use super::truncate::{cut, windows};
use super::{Pipeline, Rules, Worker};
use crate::batch::{concat, run, share_out_by, thread_count};
use crate::components::Truncation;
use crate::post_process::{TemplateItem, Templates};
use crate::random::Random;
use crate::stop;
use crate::vocabulary::TokenId;
use crate::{Error, Result};

/// How texts are encoded.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// Whether the template's tokens are put around the texts.
    pub add_special_tokens: bool,
    /// Whether special tokens in the text are treated as any other text (and all added tokens, by the
    /// rules of the SentencePiece-backed class).
    pub split_special_tokens: bool,
    /// Whether the offsets and words of tokens are wanted.
    pub details: bool,
    /// How rows are cut.
    pub truncation: Option<Truncation>,
    /// Whether what is cut off is kept.
    pub overflow: bool,
    /// The probability that a merge is left out; `None`: that which a `tokenizer.json` says.
    pub dropout: Option<f64>,
    /// The seed for leaving merges out.
    pub seed: Option<u64>,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            add_special_tokens: true,
            split_special_tokens: false,
            details: false,
            truncation: None,
            overflow: false,
            dropout: None,
            seed: None,
        }
    }
}

/// Several texts, each of which may be split into words.
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a> {
    /// The texts, or all their words.
    pub parts: &'a [&'a str],
    /// Where the words of each text end, if texts are split into words.
    pub ends: Option<&'a [usize]>,
}

impl<'a> Sequences<'a> {
    /// The number of texts.
    pub fn len(&self) -> usize {
        self.ends.map_or(self.parts.len(), <[usize]>::len)
    }

    /// Whether there are no texts.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn get(&self, index: usize) -> &'a [&'a str] {
        let range = match self.ends {
            Some(ends) => index.checked_sub(1).map_or(0, |before| ends[before])..ends[index],
            None => index..index + 1,
        };
        &self.parts[range]
    }

    fn bytes(&self, index: usize) -> usize {
        self.get(index).iter().map(|part| part.len() + 8).sum()
    }
}

/// The columns that follow from the templates, and the ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The ids.
    Ids,
    /// The type ids.
    TypeIds,
    /// 1 for each token.
    AttentionMask,
    /// 1 for the tokens of a template, else 0.
    SpecialTokensMask,
    /// 0 for the tokens of a text, 1 for those of its pair, -1 for those of a template.
    SequenceIds,
}

/// Encoded texts: row after row of tokens, one row for each text, or more where texts have overflowed.
#[derive(Debug, Clone)]
pub struct EncodingBatch {
    /// The ids of all rows, one row after the other.
    pub ids: Vec<TokenId>,
    /// Where each row begins, and at last where the last one ends.
    pub row_offsets: Vec<i64>,
    /// For each token its range of code points in the text, if it was asked for.
    pub spans: Option<Vec<[i32; 2]>>,
    /// For each token the number of its word or -1, if it was asked for.
    pub words: Option<Vec<i32>>,
    /// Tokens that are shown as another text than that of their id, by their place in `ids`, in order.
    pub surfaces: Vec<(usize, String)>,
    /// The number of each row's text; `None` where row `i` is text `i`.
    pub samples: Option<Vec<i64>>,
    /// What was cut off, by the rules of the SentencePiece-backed class, and where that of each row ends.
    pub overflowing: Option<(Vec<TokenId>, Vec<i64>)>,
    /// For each row, by how many tokens it was longer than wanted, by the same rules.
    pub excess: Option<Vec<i64>>,
    /// Rows that are left whole since more would have to be cut off than there is.
    pub unmet: Vec<i64>,
    /// For each row the number of tokens of its first text, where there are pairs.
    first_lens: Option<Vec<usize>>,
    /// For each row a bit for each text of which it holds a window that has overflowed.
    overflown: Option<Vec<u8>>,
    templates: Arc<Templates>,
    add_special_tokens: bool,
    /// Whether type ids follow the template even without its tokens, and windows that have overflowed do
    /// not follow it, as in the tokenizers library.
    types_by_library: bool,
}

/// What one task makes.
#[derive(Debug, Default)]
struct Part {
    columns: Columns,
    ends: Vec<i64>,
    first_lens: Vec<usize>,
    samples: Vec<i64>,
    overflown: Vec<u8>,
    overflowing: Vec<TokenId>,
    overflowing_ends: Vec<i64>,
    excess: Vec<i64>,
    unmet: Vec<i64>,
}

/// So few texts and bytes are encoded on the calling thread.
const MAX_SMALL: usize = 64;
const MAX_SMALL_BYTES: usize = 16 << 10;

impl Pipeline {
    /// Encodes texts, or pairs where there are `pairs`, on `num_threads` threads (`None`: as many as
    /// there are cores).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where `pairs` are not as many as `texts`, and
    /// by the rules of the tokenizers library where the stride leaves no room, or a text is too short to
    /// be cut as asked.
    pub fn encode_batch(
        &self,
        texts: Sequences<'_>,
        pairs: Option<Sequences<'_>>,
        options: &PipelineOptions,
        num_threads: Option<usize>,
    ) -> Result<EncodingBatch> {
        if pairs.is_some_and(|pairs| pairs.len() != texts.len()) {
            return Err(Error::unsupported("pairs", "there must be as many as there are texts"));
        }
        self.check(options)?;
        let seed = options.seed.unwrap_or_else(|| self.any_seed(options));
        let weight = |index| texts.bytes(index) + pairs.map_or(0, |pairs| pairs.bytes(index));
        // To ask how many cores there are takes as long as to encode a few pages.
        let is_small = (0..texts.len().min(MAX_SMALL)).map(weight).sum::<usize>() < MAX_SMALL_BYTES;
        let num_threads = if is_small && texts.len() <= MAX_SMALL { Some(1) } else { num_threads };
        let tasks = share_out_by(texts.len(), num_threads, weight);
        let parts = run(&tasks, num_threads, |task| {
            self.with_worker(|worker| {
                if tasks.len() == 1 {
                    // The other threads have nothing else to do.
                    worker.share_long_texts(thread_count(num_threads));
                }
                self.encode_task(worker, texts, pairs, task, options, seed)
            })
        })?;
        Ok(self.join(parts, pairs.is_some(), options, num_threads))
    }

    /// The ids of one text or one pair, appended to `ids`.
    ///
    /// # Errors
    /// As [`encode_batch`](Self::encode_batch).
    pub fn encode_into(
        &self,
        text: &str,
        pair: Option<&str>,
        options: &PipelineOptions,
        ids: &mut Vec<TokenId>,
    ) -> Result<()> {
        if options.truncation.is_some() || options.details {
            let (text, pair) = ([text], pair.map(|pair| [pair]));
            let sequences = |parts| Sequences { parts, ends: None };
            let pair = pair.as_ref().map(|pair| sequences(&pair[..]));
            ids.extend(self.encode_batch(sequences(&text), pair, options, Some(1))?.ids);
            return Ok(());
        }
        let mut random = Random::new(options.seed.unwrap_or_else(|| self.any_seed(options)), 0);
        self.with_worker(|worker| {
            let mut columns = Columns { ids: std::mem::take(ids), ..Columns::default() };
            let mut result = Ok(());
            for item in self.templates.of(pair.is_some()) {
                match item {
                    TemplateItem::Token { id, .. } if options.add_special_tokens => columns.ids.push(*id),
                    TemplateItem::Token { .. } => {}
                    TemplateItem::Sequence { sequence, .. } => {
                        let text = if *sequence == 0 { text } else { pair.unwrap_or_default() };
                        let encoded =
                            self.encode_text(worker, text, None, options, &mut random, &mut columns);
                        result = result.and(encoded);
                    }
                }
            }
            *ids = columns.ids;
            result
        })
    }

    /// A seed where one is needed.
    fn any_seed(&self, options: &PipelineOptions) -> u64 {
        if options.dropout.is_some() || self.stated_dropout().is_some() {
            Random::any_seed()
        } else {
            0
        }
    }

    fn follows_library(&self) -> bool {
        !matches!(self.rules, Rules::SentencePiece { .. })
    }

    /// Refuses options that hold for no text.
    fn check(&self, options: &PipelineOptions) -> Result<()> {
        if let Some(probability) = options.dropout.filter(|probability| !(0.0..=1.0).contains(probability)) {
            return Err(Error::unsupported("dropout", format!("{probability} is not between 0 and 1")));
        }
        if let Some(truncation) = options.truncation.as_ref().filter(|_| self.follows_library()) {
            // The library counts the template's tokens whether or not they are added.
            let room = truncation.max_length.checked_sub(self.templates.num_special_tokens(false));
            if let Some(room) = room.filter(|&room| room < truncation.stride) {
                return Err(Error::unsupported(
                    "stride",
                    format!(
                        "{} is not less than {room}, the tokens that there is room for",
                        truncation.stride
                    ),
                ));
            }
        }
        Ok(())
    }

    fn encode_task(
        &self,
        worker: &mut Worker<'_>,
        texts: Sequences<'_>,
        pairs: Option<Sequences<'_>>,
        task: &Range<usize>,
        options: &PipelineOptions,
        seed: u64,
    ) -> Result<Part> {
        let bytes: usize = task.clone().map(|index| texts.bytes(index)).sum();
        let mut part = Part { columns: Columns::new(options.details), ..Part::default() };
        // More than nearly all texts take: room that is not used costs nothing, growing does.
        part.columns.ids = crate::batch::with_capacity(bytes / 2 + task.len());
        part.ends.reserve(task.len());
        let mut scratch = [Columns::new(options.details), Columns::new(options.details)];
        for index in task.clone() {
            if stop::is_due(index, stop::ROUNDS) {
                break;
            }
            let mut random = Random::new(seed, index as u64);
            let mut encode = |sequences: Sequences<'_>, out: &mut Columns| {
                for (word, text) in (0..).zip(sequences.get(index)) {
                    let word = sequences.ends.map(|_| word);
                    self.encode_text(worker, text, word, options, &mut random, out)?;
                }
                Ok::<_, Error>(())
            };
            if pairs.is_none() && options.truncation.is_none() {
                // The short way, for most calls: straight to where the ids stay.
                for item in self.templates.single() {
                    match item {
                        TemplateItem::Sequence { .. } => encode(texts, &mut part.columns)?,
                        TemplateItem::Token { id, .. } if options.add_special_tokens => {
                            part.columns.push_template_token(*id);
                        }
                        TemplateItem::Token { .. } => {}
                    }
                }
                part.ends.push(part.columns.len() as i64);
                if options.overflow {
                    part.samples.push(index as i64);
                    part.overflown.push(0);
                    part.overflowing_ends.push(part.overflowing.len() as i64);
                    part.excess.push(0);
                }
                continue;
            }
            for (sequences, out) in [Some(texts), pairs].into_iter().zip(&mut scratch) {
                out.clear();
                if let Some(sequences) = sequences {
                    encode(sequences, out)?;
                }
            }
            self.push_rows(&mut part, &scratch, index, pairs.is_some(), options)?;
        }
        Ok(part)
    }

    /// Appends the rows of one text or pair.
    fn push_rows(
        &self,
        part: &mut Part,
        texts: &[Columns; 2],
        sample: usize,
        is_pair: bool,
        options: &PipelineOptions,
    ) -> Result<()> {
        let lens = [texts[0].len(), texts[1].len()];
        let pair_len = is_pair.then_some(lens[1]);
        let added = if options.add_special_tokens { self.templates.num_special_tokens(is_pair) } else { 0 };
        let Some(truncation) = &options.truncation else {
            self.push_row(part, texts, [0..lens[0], 0..lens[1]], sample, is_pair, options);
            return Ok(());
        };
        if self.follows_library() {
            // Of a length that has no room for the template's tokens the library takes them away all the
            // same, and the number runs over to a very large one.
            let max_length =
                if added > 0 { truncation.max_length.wrapping_sub(added) } else { truncation.max_length };
            let [first, second] = windows(lens[0], pair_len, max_length, truncation)?;
            let row = |part: &mut Part, a: usize, b: usize| {
                self.push_row(part, texts, [first[a].clone(), second[b].clone()], sample, is_pair, options);
                if let Some(overflown) = part.overflown.last_mut() {
                    *overflown = u8::from(a > 0) | u8::from(b > 0) << 1;
                }
            };
            row(part, 0, 0);
            if options.overflow {
                let order = self.overflow_order(first.len(), second.len(), is_pair);
                for (a, b) in order {
                    row(part, a, b);
                }
            }
            return Ok(());
        }
        let total = lens[0] + lens[1] + added;
        // No length at all is no limit.
        let excess = if truncation.max_length == 0 { 0 } else { total.saturating_sub(truncation.max_length) };
        let cut = cut(lens[0], pair_len, excess, truncation);
        if cut.unmet {
            part.unmet.push(sample as i64);
        }
        self.push_row(part, texts, [cut.first, cut.second], sample, is_pair, options);
        if options.overflow {
            if let Some((which, range)) = cut.overflow {
                part.overflowing.extend_from_slice(&texts[usize::from(which)].ids[range]);
            }
            part.overflowing_ends.push(part.overflowing.len() as i64);
            part.excess.push(total as i64 - truncation.max_length as i64);
        }
        Ok(())
    }

    /// The windows of the rows that overflow, as the tokenizers library pairs them when it joins one
    /// part of the template after the other (`Encoding::merge_with`).
    fn overflow_order(&self, first: usize, second: usize, is_pair: bool) -> Vec<(usize, usize)> {
        let mut rows: Vec<(usize, usize)> = Vec::new();
        for item in self.templates.of(is_pair) {
            let TemplateItem::Sequence { sequence, .. } = item else { continue };
            let count = if *sequence == 0 { first } else { second };
            let with = |row: (usize, usize), window: usize| match sequence {
                0 => (window, row.1),
                _ => (row.0, window),
            };
            let mut next = Vec::with_capacity(rows.len() * count + count);
            for &row in &rows {
                next.extend((0..count).map(|window| with(row, window)));
            }
            next.extend((1..count).map(|window| with((0, 0), window)));
            rows = next;
        }
        rows
    }

    fn push_row(
        &self,
        part: &mut Part,
        texts: &[Columns; 2],
        ranges: [Range<usize>; 2],
        sample: usize,
        is_pair: bool,
        options: &PipelineOptions,
    ) {
        for item in self.templates.of(is_pair) {
            match item {
                TemplateItem::Sequence { sequence, .. } => {
                    let which = usize::from(*sequence);
                    part.columns.extend_from(&texts[which], ranges[which].clone());
                }
                TemplateItem::Token { id, .. } if options.add_special_tokens => {
                    part.columns.push_template_token(*id);
                }
                TemplateItem::Token { .. } => {}
            }
        }
        part.ends.push(part.columns.len() as i64);
        if is_pair {
            part.first_lens.push(ranges[0].len());
        }
        if options.overflow {
            part.samples.push(sample as i64);
            part.overflown.push(0);
        }
    }

    fn join(
        &self,
        parts: Vec<Part>,
        is_pair: bool,
        options: &PipelineOptions,
        num_threads: Option<usize>,
    ) -> EncodingBatch {
        let by_library = self.follows_library();
        let mut surfaces = Vec::new();
        let mut details = options.details.then(Details::default);
        let (mut first_lens, mut samples, mut overflown) = (Vec::new(), Vec::new(), Vec::new());
        let (mut excess, mut unmet) = (Vec::new(), Vec::new());
        let (mut rows, mut overflowing) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        let mut base = 0;
        for part in parts {
            surfaces.extend(part.columns.surfaces.into_iter().map(|(place, text)| (place + base, text)));
            base += part.columns.ids.len();
            if let (Some(details), Some(more)) = (&mut details, part.columns.details) {
                details.spans.extend(more.spans);
                details.words.extend(more.words);
            }
            first_lens.extend(part.first_lens);
            samples.extend(part.samples);
            overflown.extend(part.overflown);
            excess.extend(part.excess);
            unmet.extend(part.unmet);
            rows.push((part.columns.ids, part.ends));
            overflowing.push((part.overflowing, part.overflowing_ends));
        }
        let (ids, row_offsets) = concat(rows, num_threads);
        let (spans, words) = details.map(|details| (details.spans, details.words)).unzip();
        EncodingBatch {
            ids,
            row_offsets,
            spans,
            words,
            surfaces,
            samples: (options.overflow && by_library).then_some(samples),
            overflowing: (options.overflow && !by_library).then(|| concat(overflowing, num_threads)),
            excess: (options.overflow && !by_library).then_some(excess),
            unmet,
            first_lens: is_pair.then_some(first_lens),
            overflown: (options.overflow && by_library).then_some(overflown),
            templates: self.templates.clone(),
            add_special_tokens: options.add_special_tokens,
            types_by_library: by_library,
        }
    }
}

/// A stretch of a row of which all tokens have the same values.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    len: usize,
    type_id: u32,
    /// `None` for a token of the template.
    sequence: Option<u8>,
}

impl EncodingBatch {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.row_offsets.len() - 1
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a row is in the flat columns.
    pub fn row(&self, index: usize) -> Range<usize> {
        self.row_offsets[index] as usize..self.row_offsets[index + 1] as usize
    }

    /// The number of a row's text.
    pub fn sample(&self, row: usize) -> i64 {
        self.samples.as_ref().map_or(row as i64, |samples| samples[row])
    }

    fn stretches(&self, row: usize) -> impl Iterator<Item = Stretch> + '_ {
        let is_pair = self.first_lens.is_some();
        let template = self.templates.of(is_pair);
        let added = if self.add_special_tokens { self.templates.num_special_tokens(is_pair) } else { 0 };
        let len = self.row(row).len() - added;
        let first = self.first_lens.as_ref().map_or(len, |lens| lens[row]);
        let overflown = self.overflown.as_ref().map_or(0, |overflown| overflown[row]);
        template.iter().filter_map(move |item| match item {
            TemplateItem::Sequence { sequence, type_id } => {
                let type_id = if overflown >> sequence & 1 == 1 {
                    u32::from(*sequence)
                } else if self.add_special_tokens || self.types_by_library {
                    *type_id
                } else {
                    0
                };
                let len = if *sequence == 0 { first } else { len - first };
                Some(Stretch { len, type_id, sequence: Some(*sequence) })
            }
            TemplateItem::Token { type_id, .. } => {
                self.add_special_tokens.then_some(Stretch { len: 1, type_id: *type_id, sequence: None })
            }
        })
    }

    /// Hands the values of a row to `push`: one at a time, or several equal ones.
    pub fn for_each_run(&self, column: Column, row: usize, mut push: impl FnMut(i64, usize)) {
        match column {
            Column::Ids => self.ids[self.row(row)].iter().for_each(|&id| push(id.into(), 1)),
            Column::AttentionMask => push(1, self.row(row).len()),
            Column::TypeIds => self.stretches(row).for_each(|s| push(s.type_id.into(), s.len)),
            Column::SpecialTokensMask => {
                self.stretches(row).for_each(|s| push(s.sequence.is_none().into(), s.len));
            }
            Column::SequenceIds => {
                self.stretches(row).for_each(|s| push(s.sequence.map_or(-1, i64::from), s.len));
            }
        }
    }

    /// A whole column, row after row.
    pub fn column(&self, column: Column) -> Vec<i32> {
        let mut values = Vec::with_capacity(self.ids.len());
        for row in 0..self.len() {
            self.for_each_run(column, row, |value, count| {
                values.resize(values.len() + count, value as i32);
            });
        }
        values
    }

    /// The text that a token is shown as, where it is not that of its id.
    pub fn surface(&self, place: usize) -> Option<&str> {
        let found = self.surfaces.binary_search_by_key(&place, |&(place, _)| place).ok()?;
        Some(&self.surfaces[found].1)
    }

    /// Some of the rows.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let places = self.row_offsets[rows.start] as usize..self.row_offsets[rows.end] as usize;
        let shifted = |offsets: &[i64]| offsets.iter().map(|offset| offset - offsets[0]).collect();
        let surfaces = self.surfaces.iter().filter(|(place, _)| places.contains(place));
        Self {
            ids: self.ids[places.clone()].to_vec(),
            row_offsets: shifted(&self.row_offsets[rows.start..=rows.end]),
            spans: self.spans.as_ref().map(|spans| spans[places.clone()].to_vec()),
            words: self.words.as_ref().map(|words| words[places.clone()].to_vec()),
            surfaces: surfaces.map(|(place, text)| (place - places.start, text.clone())).collect(),
            samples: self.samples.as_ref().map(|samples| samples[rows.clone()].to_vec()),
            overflowing: self.overflowing.as_ref().map(|(ids, ends)| {
                let range = ends[rows.start] as usize..ends[rows.end] as usize;
                (ids[range].to_vec(), shifted(&ends[rows.start..=rows.end]))
            }),
            excess: self.excess.as_ref().map(|excess| excess[rows.clone()].to_vec()),
            unmet: {
                let unmet = self.unmet.iter().map(|&row| row - rows.start as i64);
                unmet.filter(|row| (0..rows.len() as i64).contains(row)).collect()
            },
            first_lens: self.first_lens.as_ref().map(|lens| lens[rows.clone()].to_vec()),
            overflown: self.overflown.as_ref().map(|overflown| overflown[rows].to_vec()),
            templates: self.templates.clone(),
            ..*self
        }
    }

    /// Whether a value of the column of words stands for none.
    pub fn is_no_word(word: i32) -> bool {
        word == NO_WORD
    }
}
