use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::components::BpeModel;
use crate::TokenId;

const CHARACTERS: [&str; 6] = ["▁", "a", "b", "c", "é", "中"];

/// A model of merges of `CHARACTERS`, given by the places of their parts among the tokens so far.
fn model(merges: &[(usize, usize)], order: &[usize], bytes: bool, fuse_unk: bool) -> BpeModel {
    let mut tokens: Vec<String> = vec!["<unk>".into()];
    tokens.extend(CHARACTERS.map(String::from));
    let mut pairs: Vec<(String, String)> = Vec::new();
    for &(left, right) in merges {
        let part = |place: usize| tokens[1 + place % (tokens.len() - 1)].clone();
        let (left, right) = (part(left), part(right));
        let product = format!("{left}{right}");
        if product.chars().count() > 6 || pairs.contains(&(left.clone(), right.clone())) {
            continue;
        }
        if !tokens.contains(&product) {
            tokens.push(product);
        }
        pairs.push((left, right));
    }
    for (place, &other) in order.iter().enumerate().take(pairs.len()) {
        let other = other % pairs.len();
        pairs.swap(place, other);
    }
    if bytes {
        tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    }
    let mut model = BpeModel::new(tokens.into_iter().zip(0..).collect()).unwrap();
    let id = |token: &str| model.token_to_id(token).unwrap();
    model.merges =
        pairs.iter().map(|(left, right)| (id(left), id(right), id(&format!("{left}{right}")))).collect();
    model.unk_token = Some("<unk>".into());
    model.byte_fallback = bytes;
    model.fuse_unk = fuse_unk;
    model
}

/// The rule, by the letter, for one word: tokens and how many bytes each stands for.
fn merge_naively(word: &str, model: &BpeModel) -> Vec<(TokenId, usize)> {
    let unknown = model.unk_id().unwrap();
    let mut parts: Vec<(TokenId, usize)> = Vec::new();
    let mut after_unknown = false;
    for c in word.chars() {
        let mut buffer = [0; 4];
        let character: &str = c.encode_utf8(&mut buffer);
        if let Some(id) = model.token_to_id(character) {
            parts.push((id, character.len()));
            after_unknown = false;
        } else if let Some(bytes) = model.byte_ids() {
            parts.extend(character.bytes().map(|byte| (bytes[usize::from(byte)], 1)));
        } else if after_unknown && model.fuse_unk {
            parts.last_mut().unwrap().1 += character.len();
        } else {
            parts.push((unknown, character.len()));
            after_unknown = true;
        }
    }
    loop {
        let place_of = |&(left, right, product): &(TokenId, TokenId, TokenId)| {
            let place = parts.windows(2).position(|pair| pair[0].0 == left && pair[1].0 == right)?;
            Some((place, product))
        };
        let Some((place, product)) = model.merges.iter().find_map(place_of) else { return parts };
        let right = parts.remove(place + 1);
        parts[place] = (product, parts[place].1 + right.1);
    }
}

/// Text as the model gets to see it, in words.
fn words(text: &str, splits: bool) -> Vec<String> {
    let text = text.replace(' ', "▁");
    let mut words = vec![String::new()];
    for c in text.chars() {
        if splits && c == '▁' {
            words.push(String::new());
        }
        words.last_mut().unwrap().push(c);
    }
    words.retain(|word| !word.is_empty());
    words
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]
    #[test]
    fn all_ways_follow_the_list(
        merges in prop::collection::vec((0usize..40, 0usize..40), 0..40),
        order in prop::collection::vec(any::<usize>(), 0..40),
        (bytes, fuse_unk, splits) in any::<(bool, bool, bool)>(),
        texts in prop::collection::vec("[ abcé中▁]{0,12}|( |[abc]|  |[é中🦙x]){0,60}|(a|bc| ){0,200}", 8),
    ) {
        let model = Arc::new(model(&merges, &order, bytes, fuse_unk));
        let engine = RankedEngine::new(&model, WordRule { spaces_are_replaced: true, splits }, Some(1 << 20));
        let merger = Merger::new(&model);
        let mut worker = RankedWorker::default();
        let mut scratch = Default::default();
        for text in texts {
            for prefix in [false, true] {
                let full = if prefix { format!("▁{text}") } else { text.clone() };
                let mut ids = Vec::new();
                engine.encode(&mut worker, &text, prefix, &mut ids).unwrap();
                let mut expected_ids = Vec::new();
                for word in words(&full, splits) {
                    let expected = merge_naively(&word, &model);
                    expected_ids.extend(expected.iter().map(|&(id, _)| id));
                    merger.merge(&word, &mut scratch, None).unwrap();
                    let merged: Vec<_> = scratch.parts.iter().map(|part| (part.id, part.len as usize)).collect();
                    prop_assert_eq!(&merged, &expected, "{:?}", word);
                    let mut spans = Vec::new();
                    engine.encode_word(&mut worker, &word, &mut spans).unwrap();
                    let placed: Vec<_> = spans.iter().map(|span| (span.id, (span.end - span.start) as usize)).collect();
                    prop_assert_eq!(&placed, &expected, "{:?}", word);
                }
                prop_assert_eq!(&ids, &expected_ids, "{:?} {:?}", full, engine.general_because());
            }
        }
    }
}

/// Tokens by id, and merges of them.
fn listed(tokens: &[&str], merges: &[(&str, &str)]) -> Arc<BpeModel> {
    let mut model = BpeModel::new(tokens.iter().copied().zip(0..).collect()).unwrap();
    let id = |token: &str| model.token_to_id(token).unwrap();
    model.merges =
        merges.iter().map(|&(left, right)| (id(left), id(right), id(&format!("{left}{right}")))).collect();
    model.unk_token = Some("<unk>".into());
    Arc::new(model)
}

fn ids(engine: &RankedEngine, text: &str) -> Vec<TokenId> {
    let mut ids = Vec::new();
    engine.with_worker(|worker| engine.encode(worker, text, false, &mut ids)).unwrap();
    ids
}

const REPLACED: WordRule = WordRule { spaces_are_replaced: true, splits: false };

#[test]
fn pairs_count_and_not_products() {
    // `abc` is listed as `a bc` only, and `ab` goes first.
    let model =
        listed(&["<unk>", "▁", "a", "b", "c", "ab", "bc", "abc"], &[("a", "b"), ("b", "c"), ("a", "bc")]);
    let engine = RankedEngine::new(&model, REPLACED, None);
    assert_eq!(engine.general_because(), None);
    assert_eq!(ids(&engine, "abc bc"), [5, 4, 1, 6]);
}

#[test]
fn runs_that_merge_first_stay_with_their_words() {
    let model = listed(&["<unk>", "▁", "a", "▁▁", "▁a", "▁▁▁▁"], &[("▁", "▁"), ("▁", "a"), ("▁▁", "▁▁")]);
    let engine = RankedEngine::new(&model, REPLACED, None);
    assert_eq!(engine.general_because(), None);
    assert_eq!(ids(&engine, "  a   a a"), [3, 2, 3, 4, 4]);
    assert_eq!(ids(&engine, &" ".repeat(1003)), [[5; 250].as_slice(), &[3, 1]].concat());
}

#[test]
fn what_the_fast_path_cannot_do_is_named() {
    let because = |model: &Arc<BpeModel>, rule| RankedEngine::new(model, rule, None).general_because();
    let model = listed(&["<unk>", "▁", "a", "a▁", "b"], &[("a", "▁")]);
    assert_eq!(because(&model, REPLACED), Some("a piece holds ▁ after another character"));
    assert_eq!(because(&model, WordRule { splits: true, ..REPLACED }), None);
    let raw = WordRule { spaces_are_replaced: false, splits: false };
    assert_eq!(because(&model, raw), Some("spaces are not replaced by ▁"));
    let falling = listed(&["<unk>", "▁", "a", "b", "ab", "aba"], &[("ab", "a"), ("a", "b")]);
    assert!(because(&falling, REPLACED).is_some());
    assert_eq!(ids(&RankedEngine::new(&falling, REPLACED, None), "ababa"), [5, 3, 2]);
}

#[test]
fn a_word_that_is_a_token_is_not_merged_if_the_model_says_so() {
    let mut model = (*listed(&["<unk>", "▁", "a", "b", "▁ab", "▁a"], &[("▁", "a")])).clone();
    model.ignore_merges = true;
    let model = Arc::new(model);
    let engine = RankedEngine::new(&model, REPLACED, None);
    assert_eq!((ids(&engine, " ab"), ids(&engine, " ab ab")), (vec![4], vec![5, 3, 5, 3]));
    let engine = RankedEngine::new(&model, WordRule { splits: true, ..REPLACED }, None);
    assert_eq!(ids(&engine, " ab ab"), [4, 4]);
}

#[test]
fn an_unknown_token_waits_for_a_known_character() {
    // As the library has it, if not all byte tokens are there.
    let mut model = (*listed(&["<unk>", "a", "<0xC3>", "<0xA9>"], &[])).clone();
    model.byte_fallback = true;
    let engine = RankedEngine::new(&Arc::new(model), REPLACED, None);
    assert_eq!(ids(&engine, "中éa"), [2, 3, 0, 1]);
}

#[test]
fn dropout_passes_candidates_over() {
    let model = listed(&["<unk>", "▁", "a", "b", "ab", "abab"], &[("a", "b"), ("ab", "ab")]);
    let engine = RankedEngine::new(&model, REPLACED, None);
    let sample = |drops: &[bool]| {
        let mut drops = drops.iter().copied().chain(std::iter::repeat(false));
        let mut spans = Vec::new();
        let mut drop = || drops.next().unwrap();
        engine
            .with_worker(|worker| engine.encode_word_with_dropout(worker, "abab", &mut drop, &mut spans))
            .unwrap();
        spans.iter().map(|span| (span.id, span.start, span.end)).collect::<Vec<_>>()
    };
    assert_eq!(sample(&[]), [(5, 0, 4)]);
    // Both candidates are passed over, and nothing is left to bring them back.
    assert_eq!(sample(&[true, true]), [(2, 0, 1), (3, 1, 2), (2, 2, 3), (3, 3, 4)]);
    // The first one is; the second one's merge brings it back.
    assert_eq!(sample(&[true]), [(5, 0, 4)]);
    assert_eq!(sample(&[false, false, true]), [(4, 0, 2), (4, 2, 4)]);
}
