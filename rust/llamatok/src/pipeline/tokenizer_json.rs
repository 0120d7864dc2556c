//! Text to ids by the pipeline that a `tokenizer.json` states, as the HF tokenizers library runs it
//! (`TokenizerImpl::encode`, tokenizers 0.23).
//!
//! Text is split at the added tokens that are sought in raw text; what is between is normalized, split
//! at those that are sought in normalized text, cut into words, and merged. Where the file asks for
//! nothing but `▁` for spaces and in front, as Llama's files do, and nobody asks for offsets, no
//! normalized text is made: the engine takes the raw one.

use std::sync::Arc;

use super::columns::Columns;
use super::sentencepiece::Dropout;
use crate::added_tokens::automata::Splitter;
use crate::added_tokens::AddedTokens;
use crate::bpe::ranked::{RankedEngine, RankedWorker, Span, WordRule};
use crate::components::{
    AlignedText, Metaspace, Normalizer, Pattern, PreTokenizer, PrependScheme, TokenizerJson,
};
use crate::vocabulary::SPACE_SYMBOL;
use crate::Result;

/// How raw text becomes what is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// The normalizer does nothing but this.
    Normalizer { prepends: bool, replaces: bool },
    /// There is no normalizer, and the pre-tokenizer is this one.
    Metaspace(Metaspace),
    /// Something else, to be done step by step.
    Steps,
}

impl Plan {
    fn new(normalizer: Option<&Normalizer>, pre_tokenizer: Option<&PreTokenizer>) -> Self {
        let normalizers = normalizer.map(Normalizer::steps).unwrap_or_default();
        let splitters = pre_tokenizer.map(PreTokenizer::steps).unwrap_or_default();
        if let ([], [metaspace]) = (&normalizers[..], &splitters[..]) {
            if metaspace.replacement == '▁' {
                return Self::Metaspace(**metaspace);
            }
        }
        let prepends = |step: &Normalizer| matches!(step, Normalizer::Prepend(text) if text == SPACE_SYMBOL);
        let plan = match normalizers[..] {
            _ if !splitters.is_empty() => Self::Steps,
            [] => Self::Normalizer { prepends: false, replaces: false },
            [step] if prepends(step) => Self::Normalizer { prepends: true, replaces: false },
            [step] if replaces_spaces(step) => Self::Normalizer { prepends: false, replaces: true },
            [a, b] if prepends(a) && replaces_spaces(b) || replaces_spaces(a) && prepends(b) => {
                Self::Normalizer { prepends: true, replaces: true }
            }
            _ => Self::Steps,
        };
        plan
    }
}

fn replaces_spaces(step: &Normalizer) -> bool {
    matches!(
        step,
        Normalizer::Replace { pattern: Pattern::String(pattern), content }
            if pattern == " " && content == SPACE_SYMBOL
    )
}

/// What the words are that the engine gets.
pub(super) fn word_rule(json: &TokenizerJson) -> WordRule {
    let splitters = json.pre_tokenizer.as_ref().map(PreTokenizer::steps).unwrap_or_default();
    let replaced_last = json.normalizer.as_ref().is_some_and(|normalizer| {
        let steps = normalizer.steps();
        let after = steps.iter().rev().take_while(|step| !replaces_spaces(step)).collect::<Vec<_>>();
        after.len() < steps.len()
            && after.iter().all(|step| matches!(step, Normalizer::Prepend(text) if !text.contains(' ')))
    });
    let by_symbol = !splitters.is_empty() && splitters.iter().all(|step| step.replacement == '▁');
    WordRule {
        spaces_are_replaced: by_symbol || (splitters.is_empty() && replaced_last),
        splits: by_symbol && splitters.iter().any(|step| step.split),
    }
}

/// A `tokenizer.json` that runs.
#[derive(Debug)]
pub(super) struct JsonRules {
    pub(super) json: TokenizerJson,
    pub(super) engine: RankedEngine,
    plan: Plan,
}

impl JsonRules {
    pub(super) fn new(json: TokenizerJson, cache_bytes: Option<usize>) -> Self {
        let plan = Plan::new(json.normalizer.as_ref(), json.pre_tokenizer.as_ref());
        // The engine has a share in the model; the file's description keeps one of its own.
        let engine = RankedEngine::new(&Arc::new(json.model.clone()), word_rule(&json), cache_bytes);
        Self { json, engine, plan }
    }

    /// Splits text at added tokens.
    ///
    /// # Errors
    /// As [`Splitter::new`].
    pub(super) fn splitter(&self, added: &Arc<AddedTokens>) -> Result<Splitter> {
        Splitter::new(added.clone(), |content| match &self.json.normalizer {
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
        let direct = out.details.is_none() && dropout.is_none();
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
    fn push_token(&self, id: u32, matched: &str, range: (usize, usize), rest: &mut Rest<'_>, out: &mut Columns) {
        if self.added.by_id(id).is_some_and(|token| token.content != matched) {
            out.surfaces.push((out.len(), matched.to_owned()));
        }
        out.ids.push(id);
        if let Some(details) = &mut out.details {
            details.spans.push(rest.span(range));
            details.words.push(rest.next_word());
        }
    }

    /// Encodes a chunk without offsets, if the plan is a simple one.
    fn encode_direct(
        &self,
        worker: &mut RankedWorker,
        chunk: &str,
        start: usize,
        rest: &mut Rest<'_>,
        out: &mut Columns,
    ) -> Result<bool> {
        let engine = &self.rules.engine;
        if chunk.is_empty() {
            return Ok(true);
        }
        match self.rules.plan {
            Plan::Steps => return Ok(false),
            Plan::Normalizer { prepends, .. } if !self.splitter.seeks_normalized() => {
                engine.encode(worker, chunk, prepends, &mut out.ids)?;
            }
            Plan::Normalizer { prepends, replaces } => {
                let mut normalized = String::with_capacity(chunk.len() + chunk.len() / 2 + 3);
                if prepends {
                    normalized.push_str(SPACE_SYMBOL);
                }
                if replaces {
                    replace_spaces(chunk, &mut normalized);
                } else {
                    normalized.push_str(chunk);
                }
                self.splitter.split_normalized(&normalized, self.split_special, |(range, id)| match id {
                    Some(id) => {
                        self.push_token(id, &normalized[range], (0, 0), rest, out);
                        Ok(())
                    }
                    None => engine.encode(worker, &normalized[range], false, &mut out.ids),
                })?;
            }
            Plan::Metaspace(metaspace) => {
                let mut encode = |part: &str, start: usize, out: &mut Columns| {
                    let prefix = !part.starts_with([' ', '▁']) && metaspace.prepends_at(start);
                    engine.encode(worker, part, prefix, &mut out.ids)
                };
                if !self.splitter.seeks_normalized() {
                    encode(chunk, start, out)?;
                    return Ok(true);
                }
                self.splitter.split_normalized(chunk, self.split_special, |(range, id)| match id {
                    Some(id) => {
                        self.push_token(id, &chunk[range], (0, 0), rest, out);
                        Ok(())
                    }
                    None => encode(&chunk[range.clone()], start + range.start, out),
                })?;
            }
        }
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
        let json = &self.rules.json;
        let mut aligned = AlignedText::new(chunk, start)?;
        if let Some(normalizer) = &json.normalizer {
            normalizer.normalize(&mut aligned);
        }
        let mut words = Vec::new();
        let mut spans: Vec<Span> = Vec::new();
        self.splitter.split_normalized(aligned.text(), self.split_special, |(range, id)| {
            if range.is_empty() {
                return Ok(());
            }
            if let Some(id) = id {
                let origin = aligned.original_range(range.clone()).unwrap_or((range.start, range.end));
                self.push_token(id, &aligned.text()[range], origin, rest, out);
                return Ok(());
            }
            let part = if range.len() == aligned.text().len() { aligned.clone() } else { aligned.slice(range) };
            match &json.pre_tokenizer {
                Some(pre_tokenizer) => pre_tokenizer.split(part, &mut words),
                None => words.push(part),
            }
            for word in words.drain(..) {
                spans.clear();
                match dropout {
                    Some((probability, random)) => {
                        let mut drop = || random.chance(*probability);
                        self.rules.engine.encode_word_with_dropout(worker, word.text(), &mut drop, &mut spans)?;
                    }
                    None => self.rules.engine.encode_word(worker, word.text(), &mut spans)?,
                }
                out.ids.extend(spans.iter().map(|span| span.id));
                if let Some(details) = &mut out.details {
                    details.spans.extend(spans.iter().map(|span| {
                        let range = span.start as usize..span.end as usize;
                        rest.span(word.original_range(range.clone()).unwrap_or((range.start, range.end)))
                    }));
                    details.words.resize(details.spans.len(), rest.next_word());
                }
            }
            Ok(())
        })
    }
}

/// Appends `text` with `▁` for each space.
fn replace_spaces(text: &str, out: &mut String) {
    for (index, part) in text.split(' ').enumerate() {
        if index > 0 {
            out.push_str(SPACE_SYMBOL);
        }
        out.push_str(part);
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
                self.chars = self.text.as_bytes()[..index].iter().filter(|&&byte| begins_char(byte)).count() as i32;
            }
        } else {
            let ahead = self.text.as_bytes()[self.bytes..index].iter();
            self.chars += ahead.filter(|&&byte| begins_char(byte)).count() as i32;
        }
        self.bytes = index;
        self.chars - i32::from(!begins_char(self.text.as_bytes()[index]))
    }

    fn next_word(&mut self) -> i32 {
        self.words += 1;
        self.word.unwrap_or(self.words - 1)
    }
}

fn begins_char(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}
