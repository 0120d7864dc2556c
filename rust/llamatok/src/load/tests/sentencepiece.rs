//! `tokenizer.model` files, written by prost.

use prost::Message;

use super::{message, pieces};
use crate::load::charsmap::tests::frame;
use crate::load::from_bytes;
use crate::load::sentencepiece::{NormalizerSpec, SentencePiece, TrainerSpec};
use crate::{ErrorKind, ModelFormat, Piece, PieceKind};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Proto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<SentencePiece>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer_spec: Option<NormalizerSpec>,
    #[prost(bytes = "vec", optional, tag = "4")]
    self_test_data: Option<Vec<u8>>,
    #[prost(message, optional, tag = "5")]
    denormalizer_spec: Option<NormalizerSpec>,
    #[prost(uint64, optional, tag = "200")]
    extension: Option<u64>,
}

fn proto_piece(piece: &Piece) -> SentencePiece {
    SentencePiece {
        piece: Some(piece.text.clone().into_bytes()),
        score: Some(piece.score),
        r#type: Some(piece.kind as i32),
    }
}

impl Proto {
    pub(super) fn good() -> Self {
        Self {
            pieces: pieces().iter().map(proto_piece).collect(),
            trainer_spec: Some(TrainerSpec {
                model_type: Some(2),
                vocab_size: Some(263),
                byte_fallback: Some(true),
                split_digits: Some(true),
                ..Default::default()
            }),
            normalizer_spec: Some(NormalizerSpec {
                name: Some("identity".into()),
                remove_extra_whitespaces: Some(false),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Few pieces, no byte fallback.
    pub(super) fn small() -> Self {
        let mut proto = Self::good();
        proto.pieces.retain(|piece| piece.r#type != Some(PieceKind::Byte as i32));
        proto.trainer().byte_fallback = Some(false);
        proto
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    fn trainer(&mut self) -> &mut TrainerSpec {
        self.trainer_spec.as_mut().unwrap()
    }

    fn normalizer(&mut self) -> &mut NormalizerSpec {
        self.normalizer_spec.as_mut().unwrap()
    }
}

/// What is said about the small model after `spoil`.
fn fault(kind: ErrorKind, spoil: impl FnOnce(&mut Proto)) -> String {
    let mut proto = Proto::small();
    spoil(&mut proto);
    message(kind, &proto.encode())
}

#[test]
fn a_model_says_what_was_written() {
    let data = Proto::good().encode();
    let model = from_bytes(&data).unwrap();
    assert_eq!(model.format, ModelFormat::SentencePiece);
    assert_eq!(model.vocabulary.pieces(), pieces());
    assert!(model.vocabulary.byte_ids().is_some());
    assert_eq!((model.bos_id, model.eos_id, model.pad_id), (Some(1), Some(2), Some(260)));
    assert_eq!((model.add_bos, model.add_eos), (None, None));
    assert_eq!(model.unk_surface, " \u{2047} ");
    assert_eq!(model.normalizer.name, "identity");
    assert!(model.normalizer.add_dummy_prefix && model.normalizer.escape_whitespaces);
    assert!(!model.normalizer.remove_extra_whitespaces && !model.normalizer.treat_whitespace_as_suffix);
    assert_eq!(model.serialized, data);
    let setting = |name: &str| {
        model.metadata.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap()
    };
    assert_eq!((setting("split_digits"), setting("character_coverage")), ("true", "0.9995"));
}

#[test]
fn absent_fields_have_their_defaults() {
    let proto = Proto {
        pieces: vec![
            SentencePiece { r#type: Some(2), ..proto_piece(&pieces()[0]) },
            SentencePiece { piece: Some(b"a".to_vec()), score: None, r#type: None },
        ],
        trainer_spec: Some(TrainerSpec { model_type: Some(2), ..Default::default() }),
        ..Default::default()
    };
    let model = from_bytes(&proto.encode()).unwrap();
    let expected = Piece { text: "a".into(), score: 0.0, kind: PieceKind::Normal };
    assert_eq!(model.vocabulary.get(1), Some(&expected));
    assert!(model.vocabulary.byte_ids().is_none());
    assert!(model.normalizer.add_dummy_prefix);
    assert!(model.normalizer.remove_extra_whitespaces);
    assert!(model.normalizer.escape_whitespaces);
    assert!(!model.normalizer.treat_whitespace_as_suffix);
    assert_eq!((model.bos_id, model.eos_id, model.pad_id), (None, None, None));
}

#[test]
fn special_pieces_count_by_name_and_kind() {
    let mut proto = Proto::small();
    proto.trainer().bos_piece = Some(String::new()); // the default
    proto.trainer().eos_piece = Some("<pad>".into());
    proto.trainer().pad_piece = Some("<mask>".into()); // user-defined, hence no control piece
    proto.trainer().unk_surface = Some(String::new());
    let model = from_bytes(&proto.encode()).unwrap();
    assert_eq!((model.bos_id, model.eos_id, model.pad_id), (Some(1), Some(4), None));
    assert_eq!(model.unk_surface, "");
}

#[test]
fn repeated_messages_are_merged() {
    let mut data = Proto::small().encode();
    let more = NormalizerSpec { add_dummy_prefix: Some(false), ..Default::default() };
    data.extend(Proto { normalizer_spec: Some(more), ..Default::default() }.encode());
    let model = from_bytes(&data).unwrap();
    assert_eq!(model.normalizer.name, "identity");
    assert!(!model.normalizer.add_dummy_prefix);
}

#[test]
fn old_and_foreign_fields_are_skipped() {
    let proto = Proto { self_test_data: Some(vec![0xff; 9]), extension: Some(u64::MAX), ..Proto::small() };
    assert!(from_bytes(&proto.encode()).is_ok());
    for extension in [&b"\xc1\x0c12345678"[..], b"\xc5\x0c1234", b"\xc2\x0c\x021\n"] {
        assert!(from_bytes(&[&Proto::small().encode(), extension].concat()).is_ok(), "{extension:?}");
    }
}

#[test]
fn other_model_types_are_named() {
    for (number, name) in
        [(1, "a unigram model"), (3, "a word model"), (4, "a char model"), (9, "unknown type 9")]
    {
        let found = fault(ErrorKind::Unsupported, |proto| proto.trainer().model_type = Some(number));
        assert!(found.starts_with("trainer_spec.model_type: ") && found.contains(name), "{found}");
    }
    let found = fault(ErrorKind::Unsupported, |proto| proto.trainer_spec = None);
    assert!(found.contains("a unigram model (the default"), "{found}");
}

#[test]
fn charsmaps_are_kept_or_refused() {
    let mut proto = Proto::small();
    proto.normalizer().precompiled_charsmap = Some(frame(1024, b"x\0"));
    proto.denormalizer_spec = Some(NormalizerSpec::default());
    let model = from_bytes(&proto.encode()).unwrap();
    assert_eq!(model.normalizer.precompiled_charsmap, frame(1024, b"x\0"));

    let found = fault(ErrorKind::ModelFormat, |proto| {
        proto.normalizer().precompiled_charsmap = Some(frame(1024, b""));
    });
    assert!(found.starts_with("normalizer_spec.precompiled_charsmap: "), "{found}");
    let found = fault(ErrorKind::Unsupported, |proto| {
        let precompiled_charsmap = Some(frame(1024, b"\0"));
        proto.denormalizer_spec = Some(NormalizerSpec { precompiled_charsmap, ..Default::default() });
    });
    assert!(found.starts_with("denormalizer_spec.precompiled_charsmap: "), "{found}");
}

#[test]
fn faulty_pieces_are_named() {
    let pushed = |spoil: fn(&mut SentencePiece)| {
        fault(ErrorKind::ModelFormat, |proto| {
            let mut piece = proto_piece(&Piece { text: "b".into(), score: 0.0, kind: PieceKind::Normal });
            spoil(&mut piece);
            proto.pieces.push(piece);
        })
    };
    for (found, expected) in [
        (pushed(|piece| piece.piece = Some(b"<s>".to_vec())), "already defined, by id 1"),
        (pushed(|piece| piece.piece = Some(vec![])), "empty"),
        (pushed(|piece| piece.piece = None), "empty"),
        (pushed(|piece| piece.piece = Some(b"a\xff".to_vec())), "\"a\\\\xff\" is not valid UTF-8"),
        (pushed(|piece| piece.piece = Some(b"a\0".to_vec())), "NUL"),
        (pushed(|piece| piece.piece = Some(vec![b'a'; 8000])), "more than the limit of 7999"),
        (pushed(|piece| piece.score = Some(f32::NAN)), "NaN"),
        (pushed(|piece| piece.score = Some(f32::INFINITY)), "inf"),
        (pushed(|piece| piece.r#type = Some(7)), "unknown type 7"),
        (pushed(|piece| piece.r#type = Some(-1)), "unknown type -1"),
        (pushed(|piece| piece.r#type = Some(2)), "a second unknown piece; the first is id 0"),
        (pushed(|piece| piece.r#type = Some(6)), "byte_fallback is off"),
    ] {
        assert!(found.starts_with("pieces[7]: ") && found.contains(expected), "{found}");
    }
    let no_unknown = fault(ErrorKind::ModelFormat, |proto| drop(proto.pieces.remove(0)));
    assert_eq!(no_unknown, "pieces: no piece of kind UNKNOWN");
    let no_pieces = fault(ErrorKind::ModelFormat, |proto| proto.pieces.clear());
    assert_eq!(no_pieces, "pieces: the model has no pieces");
    let mut proto = Proto::good();
    proto.pieces.retain(|piece| piece.piece.as_deref() != Some(b"<0x0A>"));
    assert!(message(ErrorKind::ModelFormat, &proto.encode()).contains("<0x0A> is missing"));
}

#[test]
fn damaged_wire_format_is_located() {
    let small = Proto::small().encode();
    let appended = |tail: &[u8]| message(ErrorKind::ModelFormat, &[&small, tail].concat());
    let end = small.len();
    for (found, expected) in [
        (appended(b"\x32\x00"), "field 6 does not exist: the file is damaged or has trailing garbage"),
        (appended(b"\0\0\0\0"), "field 0 does not exist"),
        (appended(b"\x08\x01"), "field 1 has the wire type 0"),
        (appended(b"\xc3\x0c"), "field 200 has the wire type 3"),
        (appended(&[0xff; 10]), "a number is longer than 64 bits"),
        (appended(b"\xfa\xff\xff\xff\xff\xff\xff\xff\xff\x01\0"), "does not exist"),
        (appended(b"\x0a"), "the field needs 1 bytes, but only 0 are left"),
        (appended(b"\x0a\x05abc"), "the field needs 5 bytes, but only 3 are left"),
        (appended(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "needs 18446744073709551615 bytes"),
        (appended(b"\xc1\x0c123"), "extension: "),
        (appended(b"\x0a\x02\x0a\x09"), "pieces[7]: "),
        (appended(b"\x12\x02\x1a\x00"), "trainer_spec: "),
        (appended(b"\x1a\x03\x0a\x01\xff"), "normalizer_spec: "),
        (appended(b"\x2a\x01\xff"), "denormalizer_spec: "),
    ] {
        assert!(found.contains(expected) && found.contains(&format!("byte {end}")), "{found}");
    }
    // Cut within the settings, which come last.
    assert!(message(ErrorKind::ModelFormat, &small[..end - 1]).starts_with("normalizer_spec: "));
}
