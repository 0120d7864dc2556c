//! Ids: all ways to decode them must agree.

use llamatok::ErrorKind;

use crate::vocabularies::{FILES, MODELS};

/// What the first byte chooses, and the ids: two bytes each; it may ask that all be made to fit the vocabulary.
fn ids(data: &[u8]) -> Option<(u8, usize, Vec<u32>)> {
    let (&choice, rest) = data.split_first()?;
    let number = usize::from(choice >> 2) % (MODELS.len() + FILES.len());
    let size = match MODELS.get(number) {
        Some(ways) => ways.fast().model().vocabulary.len(),
        None => FILES[number - MODELS.len()].fast().vocab_size(),
    };
    let fits = choice & 2 != 0;
    let id = |pair: &[u8]| {
        let id = usize::from(u16::from_le_bytes([pair[0], pair[1]]));
        if fits {
            (id % size) as u32
        } else {
            id as u32
        }
    };
    Some((choice, number, rest.chunks_exact(2).map(id).collect()))
}

/// At once, and in a batch; ids that are too large are refused by their index.
pub(crate) fn decode(data: &[u8]) {
    let Some((choice, number, ids)) = ids(data) else { return };
    let skip = choice & 1 != 0;
    let middle = ids.len() / 2;
    let offsets = [0, ids.len() as i64, ids.len() as i64];
    let halves = [0, middle as i64, ids.len() as i64];
    let (size, whole, batch, split, bytes) = match MODELS.get(number) {
        Some(ways) => {
            let tokenizer = ways.fast();
            (
                tokenizer.model().vocabulary.len(),
                tokenizer.decode(&ids, skip),
                tokenizer.decode_batch(&ids, &offsets, skip, Some(1)),
                tokenizer.decode_batch(&ids, &halves, skip, Some(2)),
                tokenizer.decode_bytes(&ids, skip).ok(),
            )
        }
        None => {
            let tokenizer = FILES[number - MODELS.len()].fast();
            (
                tokenizer.vocab_size(),
                tokenizer.decode(&ids, skip),
                tokenizer.decode_batch(&ids, &offsets, skip, Some(1)),
                tokenizer.decode_batch(&ids, &halves, skip, Some(2)),
                tokenizer.decode_bytes(&ids, skip).ok(),
            )
        }
    };
    let fault = ids.iter().position(|&id| id as usize >= size);
    let Ok(whole) = whole else {
        assert!(fault.is_some() && batch.is_err() && split.is_err() && bytes.is_none());
        return;
    };
    assert_eq!(fault, None);
    let (batch, split) = (batch.unwrap(), split.unwrap());
    assert_eq!(batch.bytes, whole.as_bytes());
    assert_eq!(batch.offsets, [0, whole.len() as i64, whole.len() as i64]);
    assert!(std::str::from_utf8(&split.bytes).is_ok());
    // Where nothing had to be replaced, the text is the bytes.
    if !whole.contains('\u{FFFD}') {
        assert_eq!(bytes.unwrap(), whole.as_bytes());
    }
}

/// Piece by piece, however they are cut.
pub(crate) fn stream(data: &[u8]) {
    let Some((choice, number, ids)) = ids(data) else { return };
    let skip = choice & 1 != 0;
    let step = 1 + ids.first().map_or(0, |&id| id as usize % 5);
    let mut parts = String::new();
    let whole = match MODELS.get(number) {
        Some(ways) => {
            let mut stream = ways.fast().stream_decoder(skip);
            for push in ids.chunks(step) {
                if let Err(error) = stream.push(push, &mut parts) {
                    assert_eq!(error.kind(), ErrorKind::IdOutOfRange);
                }
            }
            stream.finish(&mut parts);
            ways.fast().decode(&sound(&ids, step, ways.fast().model().vocabulary.len()), skip).unwrap()
        }
        None => {
            let tokenizer = FILES[number - MODELS.len()].fast();
            let mut stream = tokenizer.stream_decoder(skip).unwrap();
            for push in ids.chunks(step) {
                if let Err(error) = stream.push(push, &mut parts) {
                    assert_eq!(error.kind(), ErrorKind::IdOutOfRange);
                }
            }
            stream.finish(&mut parts);
            tokenizer.decode(&sound(&ids, step, tokenizer.vocab_size()), skip).unwrap()
        }
    };
    assert_eq!(parts, whole);
}

/// The ids of the pushes that are not refused.
fn sound(ids: &[u32], step: usize, size: usize) -> Vec<u32> {
    let is_sound = |push: &&[u32]| push.iter().all(|&id| (id as usize) < size);
    ids.chunks(step).filter(is_sound).flatten().copied().collect()
}
