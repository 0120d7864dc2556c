//! Text to ids by the pipeline that a `tokenizer.json` states, as the HF tokenizers library runs it
//! (`TokenizerImpl::encode`, tokenizers 0.23).
//!
//! Text is split at the added tokens that are sought in raw text; what is between is normalized, split
//! at those that are sought in normalized text, cut into words, and merged. Where the file asks for
//! nothing but `▁` for spaces and in front, as Llama's files do, and nobody asks for offsets, no
//! normalized text is made: the engine takes the raw one.

use std::sync::{Arc, OnceLock};

use super::check_counted;
use super::columns::Columns;
use super::sentencepiece::Dropout;
use super::spans::Units;
use crate::added_tokens::automata::{Part, Splitter};
use crate::added_tokens::AddedTokens;
use crate::bpe::ranked::RankedWorker;
use crate::components::{growth, AlignedToken, BpeModel, Encoder as Components, TokenizerJson};
use crate::vocabulary::SPACE_SYMBOL;
use crate::{Result, TokenId};

/// A `tokenizer.json` that runs.
#[derive(Debug)]
pub(super) struct JsonRules {
    /// The file, but for its added tokens and its model.
    file: TokenizerJson,
    pub(super) components: Components,
    /// If they are known for every token; made when offsets are asked for.
    units: OnceLock<Option<Units>>,
}

impl JsonRules {
    pub(super) fn new(mut file: TokenizerJson, cache_bytes: Option<usize>) -> Result<Self> {
        let components = Components::new(&file, cache_bytes);
        // The components have the model; a second one would double the memory.
        file.model = BpeModel::new(Vec::<(&str, TokenId)>::new())?;
        Ok(Self { file, components, units: OnceLock::new() })
    }

    /// The file, but for its added tokens and its model.
    pub(super) fn file(&self) -> &TokenizerJson {
        &self.file
    }

    /// The model.
    pub(super) fn model(&self) -> &BpeModel {
        self.components.model()
    }

    /// Splits text at added tokens.
    ///
    /// # Errors
    /// As [`Splitter::new`], and where the normalizer may make too much of the tokens.
    pub(super) fn splitter(&self, added: &Arc<AddedTokens>) -> Result<Splitter> {
        if let Some(normalizer) = &self.file.normalizer {
            growth::check_added_tokens(normalizer, added.tokens())?;
        }
        Splitter::new(added.clone(), |content| match &self.file.normalizer {
            Some(normalizer) => normalizer.normalize_str(content),
            None => content.to_owned(),
        })
    }
}

/// One call's encoder.
pub(super) struct Encoder<'a> {
    pub(super) rules: &'a JsonRules,
    pub(super) added: &'a AddedTokens,
    pub(super) splitter: &'a Splitter,
    pub(super) split_special: bool,
}

impl Encoder<'_> {
    /// Appends the tokens of one text; `word` is its number where texts are split into words.
    pub(super) fn encode(
        &self,
        worker: &mut RankedWorker,
        text: &str,
        word: Option<i32>,
        mut dropout: Dropout<'_>,
        out: &mut Columns,
    ) -> Result<()> {
        let direct = dropout.is_none();
        let mut rest = Rest { text, bytes: 0, chars: 0, words: 0, word };
        self.splitter.split_raw(text, self.split_special, |(range, id)| {
            if let Some(id) = id {
                let matched = &text[range.clone()];
                self.push_token(id, matched, (range.start, range.end), &mut rest, out);
                return Ok(());
            }
            let chunk = &text[range.clone()];
            if direct && self.encode_direct(worker, chunk, range.start, &mut rest, out)? {
                return Ok(());
            }
            self.encode_aligned(worker, chunk, range.start, &mut rest, &mut dropout, out)
        })
    }

    /// Appends an added token that stands for `range` of the text and was matched as `matched`.
    fn push_token(
        &self,
        id: u32,
        matched: &str,
        range: (usize, usize),
        rest: &mut Rest<'_>,
        out: &mut Columns,
    ) {
        if self.added.by_id(id).is_some_and(|token| token.content != matched) {
            out.surfaces.push((out.len(), matched.to_owned()));
        }
        out.ids.push(id);
        if let Some(details) = &mut out.details {
            details.spans.push(rest.span(range));
            details.words.push(rest.next_word());
        }
    }

    /// Encodes a chunk without offsets, if the components allow it.
    fn encode_direct(
        &self,
        worker: &mut RankedWorker,
        chunk: &str,
        start: usize,
        rest: &mut Rest<'_>,
        out: &mut Columns,
    ) -> Result<bool> {
        let components = &self.rules.components;
        if out.details.is_some() {
            return self.encode_plain_with_offsets(worker, chunk, start, rest, out);
        }
        if !self.splitter.seeks_normalized() {
            components.encode_chunk(worker, chunk, start, &mut out.ids)?;
            return Ok(true);
        }
        if !components.is_plain() {
            return Ok(false);
        }
        if let (Some(prefix), false) = (components.normalizer_prefix(), chunk.is_empty()) {
            let visit = |(range, id): Part, with_prefix: bool| {
                let Some(id) = id else {
                    return components.encode_spaced(worker, &chunk[range], with_prefix, &mut out.ids);
                };
                let matched = chunk[range].replace(' ', SPACE_SYMBOL);
                let matched = if with_prefix { [SPACE_SYMBOL, &matched].concat() } else { matched };
                self.push_token(id, &matched, (0, 0), rest, out);
                Ok(())
            };
            if self.splitter.split_spaced(chunk, prefix, self.split_special, visit)? {
                return Ok(true);
            }
        }
        let normalized = components.normalize_plain(chunk);
        self.splitter.split_normalized(&normalized, self.split_special, |(range, id)| match id {
            Some(id) => {
                self.push_token(id, &normalized[range], (0, 0), rest, out);
                Ok(())
            }
            None => {
                let start = start + range.start;
                components.encode_part(worker, &normalized[range], start, &mut out.ids)
            }
        })?;
        Ok(true)
    }

    /// Encodes a chunk with offsets, if it is one word in which nothing is replaced but spaces.
    fn encode_plain_with_offsets(
        &self,
        worker: &mut RankedWorker,
        chunk: &str,
        start: usize,
        rest: &mut Rest<'_>,
        out: &mut Columns,
    ) -> Result<bool> {
        let Columns { ids, details: Some(details), .. } = out else { return Ok(false) };
        let components = &self.rules.components;
        let prefix = components.plain_prefix(chunk, start).filter(|_| !self.splitter.seeks_normalized());
        let units = self.rules.units.get_or_init(|| Units::of_model(self.rules.model()));
        let (Some(prefix), Some(units), false) = (prefix, units, chunk.is_empty()) else { return Ok(false) };
        let first = ids.len();
        components.encode_chunk(worker, chunk, start, ids)?;
        units.push_plain_spans(&ids[first..], chunk, rest.char_at(start), prefix, &mut details.spans);
        details.words.resize(details.spans.len(), rest.next_word());
        Ok(true)
    }

    /// Encodes a chunk step by step, with offsets where they are asked for.
    fn encode_aligned(
        &self,
        worker: &mut RankedWorker,
        chunk: &str,
        start: usize,
        rest: &mut Rest<'_>,
        dropout: &mut Dropout<'_>,
        out: &mut Columns,
    ) -> Result<()> {
        let components = &self.rules.components;
        let aligned = components.normalize(chunk, start)?;
        if out.details.is_some() {
            check_counted(aligned.text())?;
        }
        let mut tokens: Vec<AlignedToken> = Vec::new();
        self.splitter.split_normalized(aligned.text(), self.split_special, |(range, id)| {
            if range.start == range.end {
                return Ok(());
            }
            if let Some(id) = id {
                let origin = aligned.original_range(range.clone()).unwrap_or((range.start, range.end));
                self.push_token(id, &aligned.text()[range], origin, rest, out);
                return Ok(());
            }
            let is_all = range.len() == aligned.text().len();
            let part = if is_all { aligned.clone() } else { aligned.slice(range) };
            tokens.clear();
            let words = match dropout {
                Some((probability, random)) => {
                    let mut drop = || random.chance(*probability);
                    components.encode_aligned(worker, part, Some(&mut drop), &mut tokens)?
                }
                None => components.encode_aligned(worker, part, None, &mut tokens)?,
            };
            out.ids.extend(tokens.iter().map(|token| token.id));
            if let Some(details) = &mut out.details {
                details.spans.extend(tokens.iter().map(|token| rest.span(token.range)));
                details.words.extend(tokens.iter().map(|token| rest.word_at(token.word)));
                rest.words += words as i32;
            }
            Ok(())
        })
    }
}

/// How far the original text has been read.
struct Rest<'a> {
    text: &'a str,
    bytes: usize,
    chars: i32,
    words: i32,
    word: Option<i32>,
}

impl Rest<'_> {
    /// A range of bytes as one of characters, as the library converts it
    /// (`BytesToCharOffsetConverter`): a byte within a character counts as that character.
    fn span(&mut self, (start, end): (usize, usize)) -> [i32; 2] {
        let len = self.text.len();
        // Beyond the text there is no character, and bytes stay bytes.
        if start >= len {
            return [start as i32, end as i32];
        }
        let first = self.char_at(start);
        let last = match end {
            end if end < len => self.char_at(end),
            end if end - 1 < len => self.char_at(end - 1) + 1,
            _ => first + 2,
        };
        [first, last]
    }

    /// The number of the character that byte `index` belongs to.
    fn char_at(&mut self, index: usize) -> i32 {
        if index < self.bytes {
            if self.bytes - index < index {
                let back = self.text.as_bytes()[index..self.bytes].iter();
                self.chars -= back.filter(|&&byte| begins_char(byte)).count() as i32;
            } else {
                self.chars =
                    self.text.as_bytes()[..index].iter().filter(|&&byte| begins_char(byte)).count() as i32;
            }
        } else {
            let ahead = self.text.as_bytes()[self.bytes..index].iter();
            self.chars += ahead.filter(|&&byte| begins_char(byte)).count() as i32;
        }
        self.bytes = index;
        self.chars - i32::from(!begins_char(self.text.as_bytes()[index]))
    }

    /// The number of the word that is `index` words ahead.
    fn word_at(&self, index: usize) -> i32 {
        self.word.unwrap_or(self.words + index as i32)
    }

    fn next_word(&mut self) -> i32 {
        self.words += 1;
        self.word.unwrap_or(self.words - 1)
    }
}

fn begins_char(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}
