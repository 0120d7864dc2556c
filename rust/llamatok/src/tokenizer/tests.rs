//! Tests of the tokenizer.

use proptest::prelude::*;

use super::*;
use crate::batch::SLICE_BYTES;
use crate::bpe::MAX_UNCUT;
use crate::random::Random;
use crate::{Piece, PieceKind};

fn tokenizer() -> Tokenizer {
    Tokenizer::new(model(false, 0), None).unwrap()
}

/// With so many more control pieces behind the others.
fn model(byte_fallback: bool, more: usize) -> Model {
    let texts = ["▁a", "ab", "▁ab", "ba", "中文", "▁▁", "▁", "a", "b", "中", "文"];
    let pieces = texts.iter().enumerate().map(|(index, &text)| Piece {
        text: text.into(),
        score: if text == "▁▁" { -1e9 } else { -(index as f32) },
        kind: PieceKind::Normal,
    });
    let control = |index| Piece { text: format!("<{index}>"), score: 0.0, kind: PieceKind::Control };
    Model::like_llama(byte_fallback, pieces.chain((0..more).map(control)))
}

#[test]
fn a_long_text_is_shared_out_with_the_same_ids() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.general_because(), None);
    let options = EncodeOptions { add_bos: true, add_eos: true, parse_special: false };
    for part in ["ab  ba  a▁ b", "中a文文中文", "abab", "  ", "\u{FFFD}中", "x▁ ▁ y"] {
        let texts = [part.repeat(3 * SLICE_BYTES / part.len() + 7), "ab".into(), String::new()];
        let mut shared_out = texts.clone().map(String::into_bytes);
        // Bytes that are no UTF-8, among others at the very place of a cut.
        shared_out[0].splice(SLICE_BYTES..SLICE_BYTES + 1, *b"\xE2\x96\xFF");
        for texts in [texts.map(String::into_bytes), shared_out] {
            let expected = tokenizer.encode_batch(&texts, &options, Some(1)).unwrap();
            let shared_out = tokenizer.encode_batch(&texts, &options, Some(3)).unwrap();
            assert!(expected == shared_out, "{part:?}");
            let lens: Vec<i64> = expected.offsets.windows(2).map(|ends| ends[1] - ends[0]).collect();
            assert_eq!(lens, tokenizer.count_batch(&texts, &options, Some(3)).unwrap());
            for threads in [1, 3] {
                let texts = texts
                    .iter()
                    .map(|text| Ok::<_, ()>(std::str::from_utf8(text).map_or(Text::Bytes(text), Text::Str)));
                let batch = tokenizer.encode_batch_from(texts, &options, Some(threads), |work| work());
                assert!(expected == batch.unwrap().unwrap(), "{part:?}");
            }
        }
    }
}

#[test]
fn text_without_a_cut_that_fits_no_buffer_is_refused() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.general_because(), None);
    let options = EncodeOptions::default();
    let most = MAX_UNCUT - 1;
    for threads in [1, 3] {
        let error = tokenizer
            .encode_batch(&["a", &" ".repeat(MAX_UNCUT + SLICE_BYTES)], &options, Some(threads))
            .unwrap_err();
        assert_eq!((error.kind(), error.field()), (crate::ErrorKind::Unsupported, Some("text")));
        // What comes next is not harmed, and the most that fits is encoded.
        let count = |len| tokenizer.count_batch(&[" ".repeat(len)], &options, Some(threads)).unwrap();
        assert_eq!(count(most), [most.div_ceil(2) as i64 + 1 - (most % 2) as i64]);
    }
}

#[test]
fn threads_share_a_tokenizer() {
    let parts = [" ", "a", "b", "ab", "ba", "aab", "x", "é", "🦙", "中", "文", "▁", "\n"];
    let mut random = Random::new(1, 0);
    // Words of all lengths, more of them than fit in the small caches.
    let texts: Vec<String> = (0..800)
        .map(|number| (0..number % 90).map(|_| parts[random.below(parts.len() as u32) as usize]).collect())
        .collect();
    let options = EncodeOptions { add_bos: true, ..Default::default() };
    let alone = Tokenizer::new(model(true, 0), Some(0)).unwrap();
    let expected: Vec<Vec<TokenId>> = texts
        .iter()
        .map(|text| {
            let mut ids = Vec::new();
            alone.encode_into(text.as_bytes(), &options, &mut ids).unwrap();
            ids
        })
        .collect();
    let ask = |tokenizer: &Tokenizer, thread: usize| {
        for round in 0..6 {
            let range = (thread * 97 + round * 31) % 400..400 + round * 60;
            let (texts, expected) = (&texts[range.clone()], &expected[range]);
            let batch = tokenizer.encode_batch(texts, &options, Some(1 + round % 3)).unwrap();
            assert!(batch.ids == expected.concat());
            for (text, expected) in texts.iter().zip(expected) {
                assert_eq!(tokenizer.count(text.as_bytes(), &options).unwrap(), expected.len());
                let (mut decoder, mut decoded) = (tokenizer.stream_decoder(true), String::new());
                for id in expected {
                    decoder.push(std::slice::from_ref(id), &mut decoded).unwrap();
                }
                decoder.finish(&mut decoded);
                assert_eq!(decoded, text.replace('▁', " "));
            }
            let cache = tokenizer.cache_info();
            assert!(cache.used_bytes <= cache.limit_bytes, "{cache:?}");
        }
    };
    for cache_bytes in [None, Some(2_000), Some(40_000)] {
        let tokenizer = Tokenizer::new(model(true, 0), cache_bytes).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let (ask, tokenizer) = (&ask, &tokenizer);
                scope.spawn(move || ask(tokenizer, thread));
            }
        });
    }
}

proptest! {
    #[test]
    fn texts_together_are_encoded_as_each_by_itself(
        texts in prop::collection::vec("( |  |a|b|ab|ba|aab|abba|\0|x|é|🦙|中文?|▁){0,30}|(ab ?ba){0,400}|[ab ]{60,66}", 0..300),
        options in (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1)),
        cache_bytes in prop::sample::select(vec![None, Some(0), Some(2_000)]),
        damaged in any::<bool>(),
        byte_fallback in prop::bool::weighted(0.8),
        add_dummy_prefix in any::<bool>(),
        // Ids of 32 bits in the cache.
        are_many in prop::bool::weighted(0.1),
    ) {
        let mut model = model(byte_fallback, if are_many { 1 << 16 } else { 0 });
        model.normalizer.add_dummy_prefix = add_dummy_prefix;
        let alone = Tokenizer::new(model.clone(), Some(0)).unwrap();
        let tokenizer = Tokenizer::new(model, cache_bytes).unwrap();
        prop_assert_eq!(tokenizer.general_because(), None);
        let (add_bos, add_eos, parse_special) = options;
        let options = EncodeOptions { add_bos, add_eos, parse_special };
        let mut texts: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        if let Some(text) = texts.last_mut().filter(|_| damaged) {
            text.extend(b"\xE2\x96 \xFF");
        }
        let expected: Vec<Vec<TokenId>> = texts.iter().map(|text| {
            let mut ids = Vec::new();
            alone.encode_into(text, &options, &mut ids).unwrap();
            ids
        }).collect();
        // The second time most units come from the cache.
        for _ in 0..2 {
            let batch = tokenizer.encode_batch(&texts, &options, Some(1)).unwrap();
            let found: Vec<&[TokenId]> =
                batch.offsets.windows(2).map(|ends| &batch.ids[ends[0] as usize..ends[1] as usize]).collect();
            prop_assert_eq!(&found, &expected);
            let counts: Vec<i64> = expected.iter().map(|ids| ids.len() as i64).collect();
            prop_assert_eq!(tokenizer.count_batch(&texts, &options, Some(2)).unwrap(), counts);
        }
    }
}
