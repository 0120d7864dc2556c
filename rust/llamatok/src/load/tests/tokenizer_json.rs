use super::super::tokenizer_json::{read, write, write_as, Spelling};
use super::*;
use crate::components::{
    Decoder, Metaspace, Normalizer, Pattern, PostProcessor, PreTokenizer, PrependScheme,
};
use crate::components::{PaddingStrategy, Side, TemplatePiece, TemplateSequence, TruncationStrategy};

/// A file as the library saves it.
const FILE: &str = r#"{
  "version": "1.0",
  "truncation": {
    "direction": "Left",
    "max_length": 16,
    "strategy": "OnlyFirst",
    "stride": 2
  },
  "padding": {
    "strategy": {
      "Fixed": 8
    },
    "direction": "Left",
    "pad_to_multiple_of": null,
    "pad_id": 3,
    "pad_type_id": 1,
    "pad_token": "<pad>"
  },
  "added_tokens": [
    {
      "id": 0,
      "content": "<unk>",
      "single_word": false,
      "lstrip": false,
      "rstrip": false,
      "normalized": false,
      "special": true
    },
    {
      "id": 6,
      "content": "<pad>",
      "single_word": true,
      "lstrip": true,
      "rstrip": false,
      "normalized": true,
      "special": false
    }
  ],
  "normalizer": {
    "type": "Sequence",
    "normalizers": [
      {
        "type": "Prepend",
        "prepend": "▁"
      },
      {
        "type": "Replace",
        "pattern": {
          "String": " "
        },
        "content": "▁"
      },
      {
        "type": "Replace",
        "pattern": {
          "Regex": "▁{2,}"
        },
        "content": "▁"
      },
      {
        "type": "NFKC"
      },
      {
        "type": "Strip",
        "strip_left": false,
        "strip_right": true
      }
    ]
  },
  "pre_tokenizer": {
    "type": "Sequence",
    "pretokenizers": [
      {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "first",
        "split": false
      }
    ]
  },
  "post_processor": {
    "type": "Sequence",
    "processors": [
      {
        "type": "TemplateProcessing",
        "single": [
          {
            "SpecialToken": {
              "id": "<s>",
              "type_id": 0
            }
          },
          {
            "Sequence": {
              "id": "A",
              "type_id": 0
            }
          }
        ],
        "pair": [
          {
            "Sequence": {
              "id": "A",
              "type_id": 0
            }
          },
          {
            "Sequence": {
              "id": "B",
              "type_id": 1
            }
          }
        ],
        "special_tokens": {
          "<s>": {
            "id": "<s>",
            "ids": [
              1
            ],
            "tokens": [
              "<s>"
            ]
          }
        }
      }
    ]
  },
  "decoder": {
    "type": "Sequence",
    "decoders": [
      {
        "type": "Replace",
        "pattern": {
          "String": "▁"
        },
        "content": " "
      },
      {
        "type": "ByteFallback"
      },
      {
        "type": "Fuse"
      },
      {
        "type": "Strip",
        "content": " ",
        "start": 1,
        "stop": 0
      },
      {
        "type": "Metaspace",
        "replacement": "_",
        "prepend_scheme": "never",
        "split": true
      }
    ]
  },
  "model": {
    "type": "BPE",
    "dropout": 0.1,
    "unk_token": "<unk>",
    "continuing_subword_prefix": null,
    "end_of_word_suffix": "",
    "fuse_unk": true,
    "byte_fallback": true,
    "ignore_merges": false,
    "vocab": {
      "<unk>": 0,
      "<s>": 1,
      "▁": 2,
      "a": 3,
      "\"\\\n": 4,
      "▁a": 5
    },
    "merges": [
      [
        "▁",
        "a"
      ]
    ]
  }
}"#;

/// The file with one place of it changed.
fn with(old: &str, new: &str) -> String {
    assert_eq!(FILE.matches(old).count(), 1, "{old}");
    FILE.replace(old, new)
}

/// A file with a model and a few sections.
fn file(sections: &str) -> String {
    let comma = if sections.is_empty() { "" } else { ", " };
    format!(
        r#"{{{sections}{comma}"model": {{"type": "BPE", "vocab": {{"a": 0, "b": 1, "ab": 2}}, "merges": []}}}}"#
    )
}

fn fault(kind: ErrorKind, data: &str) -> (String, String) {
    let error = read(data.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    (error.field().unwrap_or_default().to_owned(), error.to_string())
}

#[test]
fn what_is_read_is_written_as_it_was() {
    let tokenizer = read(FILE.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(write(&tokenizer)).unwrap(), FILE);
}

#[test]
fn the_old_spelling_means_the_same() {
    let tokenizer = read(FILE.as_bytes()).unwrap();
    let old = String::from_utf8(write_as(&tokenizer, Spelling::Old)).unwrap();
    assert!(old.contains("\"merges\": [\n      \"▁ a\"\n    ]"), "{old}");
    assert_eq!(old.matches("\"add_prefix_space\": true").count(), 1);
    assert_eq!(old.matches("\"add_prefix_space\": false").count(), 1);
    assert_eq!(read(old.as_bytes()).unwrap(), tokenizer);
    let spaced = r#"{"model": {"vocab": {" ": 0, "b": 1, " b": 2}, "merges": [[" ", "b"]]}}"#;
    let tokenizer = read(spaced.as_bytes()).unwrap();
    assert_eq!(read(&write_as(&tokenizer, Spelling::Old)).unwrap(), tokenizer);
}

#[test]
fn all_fields_are_read() {
    let tokenizer = read(FILE.as_bytes()).unwrap();
    let truncation = tokenizer.truncation.unwrap();
    assert_eq!((truncation.direction, truncation.max_length, truncation.stride), (Side::Left, 16, 2));
    assert_eq!(truncation.strategy, TruncationStrategy::OnlyFirst);
    let padding = tokenizer.padding.unwrap();
    assert_eq!((padding.strategy, padding.direction), (PaddingStrategy::Fixed(8), Side::Left));
    assert_eq!((padding.pad_id, padding.pad_type_id, padding.pad_token.as_str()), (3, 1, "<pad>"));
    let pad = &tokenizer.added_tokens[1];
    assert_eq!(
        (pad.id, pad.single_word, pad.lstrip, pad.normalized, pad.special),
        (6, true, true, true, false)
    );
    let Some(Normalizer::Sequence(steps)) = &tokenizer.normalizer else { panic!() };
    assert!(matches!(
        &steps[2],
        Normalizer::Replace { pattern: Pattern::Repeated { character: '▁', min: 2, .. }, .. }
    ));
    let Some(PostProcessor::Sequence(steps)) = &tokenizer.post_processor else { panic!() };
    let [PostProcessor::Template(template)] = steps.as_slice() else { panic!() };
    assert_eq!(template.pair[1], TemplatePiece::Sequence { id: TemplateSequence::B, type_id: 1 });
    assert_eq!(template.special_tokens[0].ids, [1]);
    let Some(Decoder::Sequence(steps)) = &tokenizer.decoder else { panic!() };
    assert_eq!(steps[3], Decoder::Strip { content: ' ', start: 1, stop: 0 });
    let model = tokenizer.model;
    assert_eq!((model.merges.as_slice(), model.dropout), ([(2, 3, 5)].as_slice(), Some(0.1)));
    assert_eq!((model.vocab_size(), model.id_to_token(4), model.unk_id()), (6, Some("\"\\\n"), Some(0)));
}

#[test]
fn old_spellings_are_read() {
    let old = with(
        r#"[
        "▁",
        "a"
      ]"#,
        r#""▁ a""#,
    );
    assert_eq!(read(old.as_bytes()).unwrap(), read(FILE.as_bytes()).unwrap());
    let old = with("\"type\": \"BPE\",\n", "");
    assert_eq!(read(old.as_bytes()).unwrap(), read(FILE.as_bytes()).unwrap());
    let metaspace = |fields: &str| {
        let file = file(&format!(r#""pre_tokenizer": {{"type": "Metaspace", "replacement": "▁"{fields}}}"#));
        match read(file.as_bytes()).unwrap().pre_tokenizer {
            Some(PreTokenizer::Metaspace(Metaspace { prepend_scheme, split, .. })) => (prepend_scheme, split),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(metaspace(""), (PrependScheme::Always, true));
    assert_eq!(metaspace(r#", "str_rep": "▁", "add_prefix_space": true"#), (PrependScheme::Always, true));
    assert_eq!(metaspace(r#", "add_prefix_space": false"#), (PrependScheme::Never, true));
    assert_eq!(metaspace(r#", "prepend_scheme": "first", "split": false"#), (PrependScheme::First, false));
}

#[test]
fn added_tokens_get_the_ids_that_the_library_gives() {
    let token = |id: u32, content: &str, special: bool| {
        format!(
            r#"{{"id": {id}, "content": "{content}", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": {special}}}"#
        )
    };
    let tokens = [
        token(9, "<x>", false),
        token(7, "", true),
        token(5, "b", true),
        token(4, "<y>", false),
        token(8, "<x>", true),
    ];
    let tokenizer = read(file(&format!(r#""added_tokens": [{}]"#, tokens.join(","))).as_bytes()).unwrap();
    let given: Vec<_> = tokenizer
        .added_tokens
        .iter()
        .map(|token| (token.id, token.content.as_str(), token.special))
        .collect();
    assert_eq!(given, [(1, "b", true), (3, "<x>", true), (4, "<y>", false)]);
}

#[test]
fn a_pair_that_is_listed_twice_counts_where_it_is_last() {
    let merges = r#""merges": [["a", "b"], ["b", "a"], ["a", "b"]]"#;
    let file = format!(r#"{{"model": {{"vocab": {{"a": 0, "b": 1, "ab": 2, "ba": 3}}, {merges}}}}}"#);
    assert_eq!(read(file.as_bytes()).unwrap().model.merges, [(1, 0, 3), (0, 1, 2)]);
}

#[test]
fn what_is_not_supported_is_named() {
    let section =
        |name: &str, value: &str| fault(ErrorKind::Unsupported, &file(&format!(r#""{name}": {value}"#)));
    let (field, message) = section("normalizer", r#"{"type": "BertNormalizer"}"#);
    assert_eq!(field, "normalizer.type");
    assert!(message.contains("the normalizer `BertNormalizer` is not supported"), "{message}");
    let (field, _) = section(
        "normalizer",
        r#"{"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "ByteLevel"}]}"#,
    );
    assert_eq!(field, "normalizer.normalizers[1].type");
    let (field, message) =
        section("normalizer", r#"{"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": ""}"#);
    assert_eq!(field, "normalizer.pattern.Regex");
    assert!(message.contains(r"\\s+"), "{message}");
    assert_eq!(
        section("pre_tokenizer", r#"{"type": "ByteLevel", "add_prefix_space": false}"#).0,
        "pre_tokenizer.type"
    );
    assert_eq!(section("decoder", r#"{"type": "WordPiece"}"#).0, "decoder.type");
    assert_eq!(section("post_processor", r#"{"type": "ByteLevel"}"#).0, "post_processor.type");
    assert_eq!(section("version", r#""2.0""#).0, "version");
    for (model, field) in [
        (r#"{"type": "Unigram", "vocab": [["a", 0.0]]}"#, "model.type"),
        (r#"{"type": "WordLevel", "vocab": {}}"#, "model.type"),
        (r#"{"vocab": {"a": 0}}"#, "model.type"),
        (
            r#"{"type": "BPE", "vocab": {}, "merges": [], "end_of_word_suffix": "</w>"}"#,
            "model.end_of_word_suffix",
        ),
        (
            r###"{"type": "BPE", "vocab": {}, "merges": [], "continuing_subword_prefix": "##"}"###,
            "model.continuing_subword_prefix",
        ),
    ] {
        assert_eq!(fault(ErrorKind::Unsupported, &format!(r#"{{"model": {model}}}"#)).0, field);
    }
}

#[test]
fn damage_is_named_by_its_place() {
    let damaged = |data: &str| fault(ErrorKind::ModelFormat, data);
    for (old, new, field, part) in [
        (r#""▁a": 5"#, r#""▁a": 2"#, "model.vocab", "the same id, 2"),
        (r#""▁a": 5"#, r#""a": 5"#, "model.vocab", "comes twice, with the ids 3 and 5"),
        (r#""▁a": 5"#, r#""▁a": 4000000000"#, "model.vocab", "go up to 4000000000"),
        (r#""▁a": 5"#, r#""▁a": 4294967295"#, "model.vocab", "go up to 429496729"),
        (r#""▁a": 5"#, r#""▁b": 5"#, "model.merges[0]", "\"▁a\" is not in the vocabulary"),
        ("[\n        \"▁\",\n        \"a\"\n      ]", r#""▁a""#, "model.merges[0]", "not two tokens"),
        ("[\n        \"▁\",\n        \"a\"\n      ]", r#"["▁", "a"], "▁ a""#, "model.merges[1]", "one form"),
        ("[\n        \"▁\",\n        \"a\"\n      ]", r#"["▁"]"#, "file", "a merge is of two tokens"),
        ("\"dropout\": 0.1", "\"dropout\": 1.5", "model.dropout", "no probability"),
        ("\"fuse_unk\": true", "\"fuse_unk\": 1", "model.fuse_unk", "a boolean is expected"),
        ("\"unk_token\": \"<unk>\"", "\"unk_token\": \"<u>\"", "model.unk_token", "not in the vocabulary"),
        (
            "\"strip_right\": true",
            "\"strip_right\": null",
            "normalizer.normalizers[4].strip_right",
            "a boolean",
        ),
        ("\"max_length\": 16", "\"max_length\": -1", "truncation.max_length", "not negative"),
        ("\"pad_id\": 3", "\"pad_id\": 5000000000", "padding.pad_id", "32 bits"),
        ("\"strategy\": \"OnlyFirst\"", "\"strategy\": \"Some\"", "truncation.strategy", "LongestFirst"),
        (
            "\"type_id\": 1",
            "\"type_id\": 2147483648",
            "post_processor.processors[0].pair[1].Sequence.type_id",
            "more than 2147483647",
        ),
        ("\"lstrip\": true", "\"l\": true", "added_tokens[1]", "\"lstrip\" is missing"),
        (
            "\"ids\": [\n              1\n            ]",
            "\"ids\": []",
            "post_processor.processors[0].special_tokens.<s>",
            "0 ids, but 1 tokens",
        ),
        ("\"stride\": 2", "\"stride\": 2, \"stride\": 3", "file", "comes twice"),
    ] {
        let (found, message) = damaged(&with(old, new));
        assert_eq!(found, field, "{message}");
        assert!(message.contains(part), "{message}");
    }
    let template = with("\"<s>\": {\n            \"id\"", "\"<t>\": {\n            \"id\"");
    assert_eq!(damaged(&template).0, "post_processor.processors[0].single[0]");
    assert_eq!(damaged("{}").0, "model");
    assert!(damaged(&file("\"padding\": null, \"padding\": null")).1.contains("comes twice"));
    let charsmap = |text: &str| {
        damaged(&file(&format!(
            r#""normalizer": {{"type": "Precompiled", "precompiled_charsmap": "{text}"}}"#
        )))
    };
    assert_eq!(charsmap("?").0, "normalizer.precompiled_charsmap");
    assert_eq!(charsmap("AAAA").0, "normalizer.precompiled_charsmap");
}

#[test]
fn deep_files_are_refused() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}0{}", open.repeat(100_000), close.repeat(100_000));
        assert!(read(deep.as_bytes()).is_err());
        let section = file(&format!("\"normalizer\": {deep}"));
        assert!(read(section.as_bytes()).unwrap_err().to_string().contains("recursion limit"));
    }
}

proptest! {
    #[test]
    fn spoiled_files_are_errors(place in 0..FILE.len(), len in 0..20usize, new in "[\\[\\]{}\",:0-9a▁-]{0,4}") {
        let mut data = FILE.as_bytes().to_vec();
        data.splice(place..(place + len).min(data.len()), new.bytes());
        if let Ok(tokenizer) = read(&data) {
            prop_assert_eq!(read(&write(&tokenizer)).unwrap(), tokenizer);
        }
    }

    #[test]
    fn any_bytes_are_safe(data: Vec<u8>) {
        let _ = read(&data);
    }
}
