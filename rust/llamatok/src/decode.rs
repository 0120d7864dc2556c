//! Ids to text, as SentencePiece's `DecodeIds` (sentencepiece 0.2.3).
//!
//! `▁` becomes a space, control pieces vanish, the unknown piece gives the model's surface for it,
//! and a run of byte pieces is read as UTF-8, in which each byte that begins no valid sequence
//! gives one U+FFFD. Where the model puts a space in front of text, the first one is taken away again.

use std::sync::Arc;

use crate::model::Model;
use crate::stop;
use crate::vocabulary::{parse_byte_piece, PieceKind, TokenId, SPACE_SYMBOL};
use crate::{Error, Result};

/// The bytes of a slot. Short pieces are copied by slots: a copy of fixed size is several times as
/// fast as one of the true length.
const SLOT: usize = 16;

/// The length of a piece that needs more than the copy of a slot.
const SPECIAL: u8 = u8::MAX;

/// How many slots are made room for at a time.
const CHUNK: usize = 1024;

/// How many bytes to make room for before ids are decoded: more than most texts take, so that the
/// memory need not grow, and a chunk of slots beyond.
pub(crate) fn room(ids: usize) -> usize {
    ids * 5 + ids.min(CHUNK) * SLOT
}

/// What each id gives.
#[derive(Debug)]
pub(crate) struct DecodeTable {
    /// The texts of pieces of at most [`SLOT`] bytes, with anything behind them.
    slots: Vec<[u8; SLOT]>,
    /// The true lengths of the texts in `slots`, as many as there are slots; [`SPECIAL`] for all pieces
    /// that are no text, or a longer one. A byte piece below 0x80 is a text: whatever stands around it,
    /// it is that character.
    lens: Vec<u8>,
    /// The texts of all pieces, one after the other.
    texts: Vec<u8>,
    entries: Vec<Entry>,
    unk_surface: Vec<u8>,
    /// Whether the text's first space is taken away.
    strips_prefix: bool,
    /// Whether all leading spaces are.
    strips_all: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    len: u32,
    class: Class,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Text,
    /// A piece that begins with `▁`.
    SpacedText,
    Byte(u8),
    Control,
    Unknown,
}

/// What the text so far means for the next piece.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    /// Whether a leading space would still be taken away.
    at_start: bool,
    /// Whether any text has been given.
    has_text: bool,
}

impl Position {
    /// Takes note of a text that is no piece.
    pub(crate) fn pass(&mut self, text: &str) {
        self.has_text |= !text.is_empty();
        self.at_start &= !self.has_text;
    }
}

impl DecodeTable {
    pub(crate) fn new(model: &Model) -> Self {
        let mut texts = Vec::new();
        let entries: Vec<Entry> = model
            .vocabulary
            .pieces()
            .iter()
            .map(|piece| {
                let start = texts.len() as u32;
                let class = match piece.kind {
                    PieceKind::Control => Class::Control,
                    PieceKind::Unknown => Class::Unknown,
                    PieceKind::Byte => Class::Byte(parse_byte_piece(&piece.text).unwrap_or_default()),
                    _ => {
                        texts.extend_from_slice(piece.text.replace(SPACE_SYMBOL, " ").as_bytes());
                        if piece.text.starts_with(SPACE_SYMBOL) {
                            Class::SpacedText
                        } else {
                            Class::Text
                        }
                    }
                };
                Entry { start, len: texts.len() as u32 - start, class }
            })
            .collect();
        let (slots, lens) = entries.iter().map(|entry| slot(entry, &texts)).unzip();
        Self {
            slots,
            lens,
            texts,
            entries,
            unk_surface: model.unk_surface.clone().into_bytes(),
            strips_prefix: model.normalizer.add_dummy_prefix || model.normalizer.remove_extra_whitespaces,
            strips_all: model.normalizer.remove_extra_whitespaces,
        }
    }

    fn start(&self) -> Position {
        Position { at_start: self.strips_prefix, has_text: false }
    }

    fn entry(&self, ids: &[TokenId], index: usize) -> Result<Entry> {
        let id = ids[index];
        self.entries
            .get(id as usize)
            .copied()
            .ok_or_else(|| Error::id_out_of_range(id.into(), index, self.entries.len()))
    }

    /// Appends a piece that is no byte piece.
    fn piece(&self, entry: Entry, position: &mut Position, out: &mut Vec<u8>) {
        position.at_start &= !position.has_text;
        let (mut start, mut len) = (entry.start as usize, entry.len as usize);
        match entry.class {
            Class::Control | Class::Byte(_) => return,
            Class::Unknown => {
                out.extend_from_slice(&self.unk_surface);
                position.has_text |= !self.unk_surface.is_empty();
                return;
            }
            Class::Text => {}
            Class::SpacedText => {
                if position.at_start {
                    start += 1;
                    len -= 1;
                    position.at_start = self.strips_all;
                }
            }
        }
        position.has_text |= len > 0;
        out.extend_from_slice(&self.texts[start..start + len]);
    }

    /// Appends the text of `ids` to `out`, as valid UTF-8.
    pub(crate) fn decode(&self, ids: &[TokenId], skip_special: bool, out: &mut Vec<u8>) -> Result<()> {
        self.append(ids, skip_special, true, out)
    }

    /// Appends the bytes of `ids` to `out`: those of byte pieces as they are.
    pub(crate) fn decode_bytes(&self, ids: &[TokenId], skip_special: bool, out: &mut Vec<u8>) -> Result<()> {
        self.append(ids, skip_special, false, out)
    }

    /// The beginning of a text whose first space the model's dummy prefix is (or is not) the reason to
    /// take away.
    pub(crate) fn begin(&self, dummy_prefix: bool) -> Position {
        Position { at_start: self.strips_all || (self.strips_prefix && dummy_prefix), has_text: false }
    }

    /// Appends the text of `ids` to `out`, as the next part of a text: a run of byte pieces ends with it.
    pub(crate) fn decode_part(
        &self,
        ids: &[TokenId],
        position: &mut Position,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.append_at(ids, false, true, position, out)
    }

    fn append(&self, ids: &[TokenId], skip_special: bool, as_text: bool, out: &mut Vec<u8>) -> Result<()> {
        self.append_at(ids, skip_special, as_text, &mut self.start(), out)
    }

    fn append_at(
        &self,
        ids: &[TokenId],
        skip_special: bool,
        as_text: bool,
        position: &mut Position,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let (mut index, mut next_look) = (0, stop::IDS);
        while index < ids.len() {
            if index >= next_look {
                if stop::is_asked() {
                    break;
                }
                next_look = index + stop::IDS;
            }
            if !position.at_start {
                // Where a piece stands matters no more.
                let end = ids.len().min(next_look);
                index += self.copy_slots(&ids[index..end], out);
                if index == end {
                    continue;
                }
            }
            let entry = self.entry(ids, index)?;
            match entry.class {
                Class::Byte(_) => {
                    index += self.byte_run(ids, index, skip_special, as_text, out)?;
                    position.has_text = true;
                }
                Class::Control | Class::Unknown if skip_special => index += 1,
                _ => {
                    self.piece(entry, position, out);
                    index += 1;
                }
            }
            position.at_start &= !position.has_text;
        }
        Ok(())
    }

    /// Appends the texts of `ids`, up to the first that is no slot's, and returns how many those are.
    fn copy_slots(&self, ids: &[TokenId], out: &mut Vec<u8>) -> usize {
        let mut copied = 0;
        for chunk in ids.chunks(CHUNK) {
            out.reserve(chunk.len() * SLOT);
            let mut len = out.len();
            let end = out.as_mut_ptr();
            let first = copied;
            for &id in chunk {
                let Some(&piece_len) = self.lens.get(id as usize).filter(|&&len| len != SPECIAL) else {
                    break;
                };
                // SAFETY: there are as many slots as lengths, so the id has a slot. Before this copy `len`
                // has grown by at most SLOT for each id of the chunk before this one, so that SLOT more
                // bytes are within the room that was made; nobody else has a reference to them.
                unsafe {
                    let slot = self.slots.as_ptr().add(id as usize).cast::<u8>();
                    std::ptr::copy_nonoverlapping(slot, end.add(len), SLOT);
                }
                len += usize::from(piece_len);
                copied += 1;
            }
            // SAFETY: `len` is within the room that was made, and all bytes before it have been written,
            // since a text is not longer than its slot.
            unsafe { out.set_len(len) };
            if copied - first < chunk.len() {
                break;
            }
        }
        copied
    }

    /// Appends the run of byte pieces that begins at `index`, and returns how many ids it has.
    fn byte_run(
        &self,
        ids: &[TokenId],
        index: usize,
        skip_special: bool,
        as_text: bool,
        out: &mut Vec<u8>,
    ) -> Result<usize> {
        let start = out.len();
        let mut end = index;
        while end < ids.len() {
            match self.entry(ids, end)?.class {
                Class::Byte(byte) => out.push(byte),
                Class::Control | Class::Unknown if skip_special => {}
                _ => break,
            }
            end += 1;
        }
        if as_text && std::str::from_utf8(&out[start..]).is_err() {
            let mut run = out.split_off(start);
            flush(&mut run, out);
        }
        Ok(end - index)
    }
}

/// The slot of a piece, and its length.
fn slot(entry: &Entry, texts: &[u8]) -> ([u8; SLOT], u8) {
    let mut slot = [0; SLOT];
    let len = match entry.class {
        Class::Text | Class::SpacedText if entry.len as usize <= SLOT => {
            let text = &texts[entry.start as usize..][..entry.len as usize];
            slot[..text.len()].copy_from_slice(text);
            entry.len as u8
        }
        Class::Byte(byte @ ..0x80) => {
            slot[0] = byte;
            1
        }
        _ => SPECIAL,
    };
    (slot, len)
}

/// Appends a run of bytes as UTF-8, one U+FFFD for each byte that begins no valid sequence.
fn flush(run: &mut Vec<u8>, out: &mut Vec<u8>) {
    for chunk in run.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
    run.clear();
}

/// Turns ids into text as they arrive.
///
/// Whatever the ids are and however they are cut into pushes, the texts of all pushes and of
/// [`finish`](StreamDecoder::finish), joined, are what [`Tokenizer::decode`](crate::Tokenizer::decode)
/// gives for the whole. A character whose bytes have not all arrived is held back; so no more than
/// three bytes ever are.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    table: Arc<DecodeTable>,
    skip_special: bool,
    position: Position,
    /// The beginning of a character, at most three bytes.
    pending: Vec<u8>,
}

impl StreamDecoder {
    pub(crate) fn new(table: Arc<DecodeTable>, skip_special: bool) -> Self {
        let position = table.start();
        Self { table, skip_special, position, pending: Vec::new() }
    }

    /// Takes ids and appends the text that is complete by now to `out`.
    ///
    /// # Errors
    /// [`ErrorKind::IdOutOfRange`](crate::ErrorKind::IdOutOfRange); the decoder and `out` are then
    /// unchanged.
    pub fn push(&mut self, ids: &[TokenId], out: &mut String) -> Result<()> {
        for index in 0..ids.len() {
            self.table.entry(ids, index)?;
        }
        let mut bytes = Vec::new();
        for index in 0..ids.len() {
            let entry = self.table.entry(ids, index)?;
            match entry.class {
                Class::Byte(byte) => {
                    self.pending.push(byte);
                    self.resolve_pending(&mut bytes);
                }
                Class::Control | Class::Unknown if self.skip_special => {}
                _ => {
                    self.flush_pending(&mut bytes);
                    self.table.piece(entry, &mut self.position, &mut bytes);
                }
            }
        }
        append_utf8(&bytes, out);
        Ok(())
    }

    /// Ends the stream: appends what was held back to `out`. The decoder may be used again, as new.
    pub fn finish(&mut self, out: &mut String) {
        let mut bytes = Vec::new();
        self.flush_pending(&mut bytes);
        append_utf8(&bytes, out);
        self.position = self.table.start();
    }

    fn flush_pending(&mut self, out: &mut Vec<u8>) {
        self.position.has_text |= !self.pending.is_empty();
        flush(&mut self.pending, out);
    }

    /// Gives what the next bytes cannot change any more.
    fn resolve_pending(&mut self, out: &mut Vec<u8>) {
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(_) => return self.flush_pending(out),
                // Not an error yet: more bytes may make it a character.
                Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => return,
                Err(error) => {
                    // At least one byte is decided: the valid ones, or the first one as invalid.
                    let decided = error.valid_up_to().max(1);
                    let rest = self.pending.split_off(decided);
                    self.flush_pending(out);
                    self.pending = rest;
                }
            }
        }
    }
}

fn append_utf8(bytes: &[u8], out: &mut String) {
    // What is appended is whole pieces and whole characters, hence valid; this cannot replace anything.
    out.push_str(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::{Piece, PieceKind};
    use crate::ErrorKind;

    /// The unknown piece, two control pieces, the 256 bytes, and texts around the size of a slot.
    fn table(strips_all: bool) -> Arc<DecodeTable> {
        let piece = |text: String, kind| Piece { text, score: 0.0, kind };
        let mut pieces = Vec::new();
        for len in [1, 2, 3, SLOT - 1, SLOT, SLOT + 1, 3 * SLOT] {
            pieces.push(piece("a".repeat(len), PieceKind::Normal));
            pieces.push(piece(format!("{SPACE_SYMBOL}{}", "b".repeat(len - 1)), PieceKind::Normal));
        }
        pieces.push(piece("é".into(), PieceKind::UserDefined));
        pieces.push(piece(SPACE_SYMBOL.repeat(SLOT), PieceKind::Normal));
        let mut model = Model::like_llama(true, pieces);
        model.normalizer.remove_extra_whitespaces = strips_all;
        Arc::new(DecodeTable::new(&model))
    }

    /// The stream goes piece by piece, and knows nothing of slots.
    #[test]
    fn slots_give_what_pieces_give() {
        let mut state = 1u32;
        let mut below = |limit: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % limit
        };
        for round in 0..400 {
            let table = table(round % 2 == 0);
            let size = table.entries.len() as u32;
            let texts_only = round % 3 == 0;
            let len = if round % 50 == 0 { 3 * CHUNK as u32 } else { below(60) };
            let ids: Vec<TokenId> = (0..len)
                .map(|_| if texts_only || below(2) == 0 { size - 1 - below(16) } else { below(size) })
                .collect();
            for skip in [false, true] {
                let mut expected = String::new();
                let mut stream = StreamDecoder::new(table.clone(), skip);
                for id in &ids {
                    stream.push(&[*id], &mut expected).unwrap();
                }
                stream.finish(&mut expected);
                let mut text = b"before".to_vec();
                table.decode(&ids, skip, &mut text).unwrap();
                assert_eq!(text, format!("before{expected}").into_bytes(), "{ids:?}");
                let mut bytes = Vec::new();
                table.decode_bytes(&ids, skip, &mut bytes).unwrap();
                if let Ok(bytes) = String::from_utf8(bytes) {
                    assert_eq!(bytes, expected, "{ids:?}");
                }
            }
        }
    }

    #[test]
    fn bytes_of_a_character_may_have_skipped_pieces_between() {
        let table = table(false);
        let byte = |byte: u8| 3 + TokenId::from(byte);
        let ids = [byte(0xC3), 1, byte(0xA9), byte(b'\n'), byte(0xC3), byte(b'\n')];
        let decode = |skip| {
            let mut out = Vec::new();
            table.decode(&ids, skip, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(decode(true), "é\n\u{FFFD}\n");
        assert_eq!(decode(false), "\u{FFFD}\u{FFFD}\n\u{FFFD}\n");
    }

    #[test]
    fn ids_out_of_range_are_named_by_their_index() {
        let table = table(false);
        let size = table.entries.len() as TokenId;
        for (ids, index) in [(vec![size], 0), (vec![259, 259, size], 2), (vec![259, 250, TokenId::MAX], 2)] {
            let error = table.decode(&ids, false, &mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::IdOutOfRange);
            assert!(error.to_string().contains(&format!("index {index}")), "{error}");
        }
    }

    #[test]
    fn truncated_sequences_give_one_replacement_a_byte() {
        for (bytes, expected) in
            [(&b"\xF0\x9F\xA6"[..], 3), (b"\xE2\x82", 2), (b"\xED\xA0\x80", 3), (b"\xC0\x80", 2)]
        {
            let mut out = Vec::new();
            flush(&mut bytes.to_vec(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), "\u{FFFD}".repeat(expected));
        }
    }
}
