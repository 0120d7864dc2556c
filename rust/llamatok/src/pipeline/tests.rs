//! The rules on a small vocabulary; the binding's tests hold them against the libraries.

use proptest::prelude::*;

use super::*;
use crate::{Model, Piece, PieceKind};

const SPACE_ID: TokenId = 259;

fn tokenizer() -> Tokenizer {
    let texts = ["▁", "a", "b", "é", "ab", "▁a", "▁ab", "▁▁"];
    let pieces = texts.iter().enumerate().map(|(index, &text)| Piece {
        text: text.into(),
        score: if text.chars().all(|c| c == '▁') { -1e9 } else { -(index as f32) },
        kind: PieceKind::Normal,
    });
    Tokenizer::new(Model::like_llama(true, pieces), Some(0)).unwrap()
}

fn token(id: TokenId, content: &str, special: bool) -> AddedToken {
    AddedToken {
        id,
        content: content.into(),
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special,
    }
}

/// With the tokens of the model, and `<foo>`, which is not special.
fn pipeline(legacy: bool) -> Pipeline {
    let settings = SlowSettings { legacy, add_prefix_space: true };
    let added = vec![
        token(0, "<unk>", true),
        token(1, "<s>", true),
        token(2, "</s>", true),
        token(300, "<foo>", false),
    ];
    Pipeline::from_tokenizer(tokenizer(), settings)
        .unwrap()
        .with_added_tokens(added)
        .unwrap()
        .with_special_ids(vec![0, 1, 2], Vec::new())
}

fn tokens(pipeline: &Pipeline, text: &str) -> Vec<String> {
    let mut ids = Vec::new();
    pipeline.encode_into(text, None, &PipelineOptions::default(), &mut ids).unwrap();
    ids.into_iter().map(|id| pipeline.id_to_token(id).unwrap().to_owned()).collect()
}

fn decoded(pipeline: &Pipeline, ids: &[TokenId], options: DecodeOptions) -> String {
    let mut text = String::new();
    pipeline.decode(ids, &options, &mut text).unwrap();
    text
}

#[test]
fn chunks_get_a_prefix_each_or_the_text_one() {
    assert_eq!(tokens(&pipeline(true), "a<s>b"), ["▁a", "<s>", "▁", "b"]);
    assert_eq!(tokens(&pipeline(false), "a<s>b"), ["▁a", "<s>", "b"]);
    assert_eq!(tokens(&pipeline(true), ""), [] as [&str; 0]);
    // A lone prefix is taken away before a special token, and left before another one.
    assert_eq!(tokens(&pipeline(false), "<s>b"), ["<s>", "b"]);
    assert_eq!(tokens(&pipeline(false), "<foo>b"), ["▁", "<foo>", "b"]);
    assert_eq!(tokens(&pipeline(true), "<foo>b"), ["<foo>", "▁", "b"]);
}

#[test]
fn decoding_takes_prefixes_away() {
    let options = DecodeOptions::default();
    let skip = DecodeOptions { skip_special_tokens: true, ..options };
    let (legacy, new) = (pipeline(true), pipeline(false));
    let space_a = [1, SPACE_ID, 264];
    assert_eq!(decoded(&legacy, &space_a, options), "<s> a");
    assert_eq!(decoded(&new, &space_a, options), "<s>  a");
    assert_eq!(decoded(&legacy, &space_a, skip), "a");
    // Each byte that begins no character gives one U+FFFD.
    let invalid: Vec<TokenId> = [0xE2, 0x82, 0xAC, 0xFF].iter().map(|byte| byte + 3).collect();
    assert_eq!(decoded(&new, &invalid, options), "€\u{FFFD}");
    let foo = [264, 300, 261];
    assert_eq!(decoded(&new, &foo, options), "a <foo> b");
    assert_eq!(
        decoded(&new, &foo, DecodeOptions { spaces_between_special_tokens: false, ..options }),
        "a<foo>b"
    );
    let clean = DecodeOptions { clean_up_tokenization_spaces: true, ..options };
    assert_eq!(decoded(&new, &[264, SPACE_ID, 3 + u32::from(b'.')], clean), "a.");
    let error = new.decode(&[1, 999], &options, &mut String::new()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::IdOutOfRange);
}

#[test]
fn a_json_decodes_by_table_as_step_by_step() {
    let json = Pipeline::from_tokenizer_json(&pipeline(true).to_tokenizer_json().unwrap(), Some(0)).unwrap();
    let decoder = json.json().unwrap().decoder.clone().unwrap();
    let step_by_step = json_decode::JsonDecoder::Steps(Some(decoder));
    let table = json_decode::JsonDecoder::new(&json);
    assert!(matches!(table, json_decode::JsonDecoder::Table { .. }));
    let mut random = Random::new(1, 0);
    for _ in 0..2000 {
        let limit = json.id_limit() as u32 + 2;
        let ids: Vec<TokenId> = (0..8).map(|_| random.below(limit)).collect();
        for skip_special_tokens in [false, true] {
            let options = DecodeOptions { skip_special_tokens, ..DecodeOptions::default() };
            let (mut quick, mut slow) = (Vec::new(), Vec::new());
            table.decode(&json, &ids, &options, &mut quick);
            step_by_step.decode(&json, &ids, &options, &mut slow);
            assert_eq!(String::from_utf8(quick), String::from_utf8(slow), "{ids:?}");
        }
    }
}

#[test]
fn offsets_that_their_numbers_do_not_hold_are_refused() {
    let text = "ab ".repeat(MAX_COUNTED / 3);
    let long = [text.as_str(), "abc"].concat();
    let json = Pipeline::from_tokenizer_json(&pipeline(true).to_tokenizer_json().unwrap(), Some(0)).unwrap();
    for pipeline in [pipeline(true), pipeline(false), json] {
        let encode = |text, details| {
            let options = PipelineOptions { details, ..PipelineOptions::default() };
            pipeline.encode_batch(Sequences { parts: &[text], ends: None }, None, &options, Some(1))
        };
        let error = encode(&long, true).unwrap_err();
        assert_eq!((error.kind(), error.field()), (crate::ErrorKind::Unsupported, Some("text")));
        assert!(error.to_string().contains("hint: encode it without offsets"), "{error}");
        assert_eq!(encode(&long, false).unwrap().spans, None);
        let last = *encode(&text, true).unwrap().spans.unwrap().last().unwrap();
        assert_eq!(last[1], text.len() as i32);
    }
}

#[test]
fn pairs_of_different_numbers_are_refused() {
    let sequences = |parts| Sequences { parts, ends: None };
    let options = PipelineOptions::default();
    let result = pipeline(true).encode_batch(sequences(&["a"]), Some(sequences(&["a", "b"])), &options, None);
    assert_eq!(result.unwrap_err().field(), Some("pairs"));
}

#[test]
fn templates_hold_each_text_once() {
    use crate::post_process::TemplateItem::Sequence;
    let item = |sequence| Sequence { sequence, type_id: 0 };
    assert!(Templates::new(vec![item(0)], vec![item(1), item(0)]).is_ok());
    assert!(Templates::new(vec![item(1)], vec![item(0), item(1)]).is_err());
    assert!(Templates::new(vec![item(0)], vec![item(0), item(0), item(1)]).is_err());
}

#[test]
fn type_ids_of_templates_are_int32() {
    use crate::post_process::TemplateItem::{Sequence, Token};
    let sequence = |sequence| Sequence { sequence, type_id: i32::MAX as u32 };
    let token = |type_id| Token { token: "<s>".into(), id: 1, type_id };
    let templates =
        |type_id| Templates::new(vec![sequence(0)], vec![sequence(0), sequence(1), token(type_id)]);
    assert!(templates(i32::MAX as u32).is_ok());
    let error = templates(1 << 31).unwrap_err();
    assert_eq!(error.field(), Some("post_processor.pair"));
    assert!(error.to_string().contains("2147483648 is more than 2147483647"));
}

proptest! {
    #[test]
    fn offsets_are_the_same_either_way(text in "[ab é中🦙▁\\n]{0,30}", legacy in any::<bool>()) {
        let pipeline = pipeline(legacy);
        let options = PipelineOptions { details: true, ..PipelineOptions::default() };
        let texts = [text.as_str()];
        let batch = pipeline.encode_batch(Sequences { parts: &texts, ends: None }, None, &options, None).unwrap();
        let tokenizer = tokenizer();
        let units = Units::of_tokenizer(&tokenizer);
        let chars: Vec<(i32, char)> = (0..).zip(text.chars()).collect();
        let mut details = columns::Details::default();
        let aligned = spans::Aligned::new(tokenizer.engine().normalizer(), &text, &chars, true, !text.is_empty());
        units.push_spans(&batch.ids, &aligned, &mut details);
        prop_assert_eq!(batch.spans.unwrap(), details.spans);
    }

    #[test]
    fn split_special_tokens_leaves_no_control_id(text in "(<s>|</s>|<unk>|<|s|>|a| ){0,12}", legacy in any::<bool>()) {
        let options = PipelineOptions { split_special_tokens: true, ..PipelineOptions::default() };
        let mut ids = Vec::new();
        pipeline(legacy).encode_into(&text, None, &options, &mut ids).unwrap();
        prop_assert!(ids.iter().all(|&id| id > 2));
    }
}
