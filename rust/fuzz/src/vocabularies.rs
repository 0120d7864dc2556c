//! The tokenizers that texts and ids are tried with, each in three ways that must agree.

use std::sync::LazyLock;

use llamatok::pipeline::SlowSettings;
use llamatok::{
    JsonTokenizer, Model, ModelFormat, NormalizerSettings, Piece, PieceKind, Pipeline, Tokenizer, Vocabulary,
};

/// Asks for the general engine while it is set.
const ENGINE: &str = "LLAMATOK_ENGINE";

/// One vocabulary: by the fast engine with its cache, without it, and by the general engine.
pub(crate) struct Ways<T>([T; 3]);

impl<T> Ways<T> {
    /// What `make` makes of a size of the cache in bytes, if it does; it is not to depend on anything else.
    pub(crate) fn new<E>(make: impl Fn(usize) -> Result<T, E>) -> Result<Self, E> {
        let fast = make(1 << 16)?;
        let uncached = make(0)?;
        std::env::set_var(ENGINE, "general");
        let general = make(0);
        std::env::remove_var(ENGINE);
        Ok(Self([fast, uncached, general?]))
    }

    /// What `make` makes of each of the three.
    pub(crate) fn map<U>(&self, make: impl Fn(&T) -> Result<U, llamatok::Error>) -> Ways<U> {
        Ways(self.0.each_ref().map(|way| make(way).unwrap()))
    }

    /// The first of the three.
    pub(crate) fn fast(&self) -> &T {
        &self.0[0]
    }

    /// What `result` is for all three.
    pub(crate) fn agree<R: PartialEq + std::fmt::Debug>(&self, result: impl Fn(&T) -> R) -> R {
        let [fast, uncached, general] = self.0.each_ref().map(result);
        assert_eq!(fast, uncached, "with a cache, and without");
        assert_eq!(fast, general, "the fast engine, and the general one");
        fast
    }
}

/// SentencePiece models: the one that is inside the package, and small ones with all that models may have.
pub(crate) static MODELS: LazyLock<Vec<Ways<Tokenizer>>> = LazyLock::new(|| {
    let embedded =
        || Tokenizer::from_bytes(DEFAULT, None).map(|tokenizer| tokenizer.model().clone()).unwrap();
    [
        embedded(),
        small(&[], [true, false, true, false]),
        small(&SYMBOLS, [true, true, true, false]),
        small(&SYMBOLS, [false, false, false, false]),
        small(&[], [true, true, true, true]),
    ]
    .into_iter()
    .map(|model| Ways::new(|cache| Tokenizer::new(model.clone(), Some(cache))).unwrap())
    .collect()
});

/// The models with the rules of transformers' class.
pub(crate) static PIPELINES: LazyLock<Vec<Ways<Pipeline>>> = LazyLock::new(|| {
    let settings = SlowSettings { legacy: true, add_prefix_space: true };
    let pipeline = |tokenizer: &Tokenizer| Pipeline::from_tokenizer(tokenizer.clone(), settings);
    MODELS.iter().map(|models| models.map(pipeline)).collect()
});

/// `tokenizer.json` files: that of the model inside the package, and small ones.
pub(crate) static FILES: LazyLock<Vec<Ways<JsonTokenizer>>> = LazyLock::new(|| {
    let converted = |pipelines: &Ways<Pipeline>| pipelines.fast().to_tokenizer_json().unwrap();
    let plain = converted(&PIPELINES[1]);
    // Spaces by a pre-tokenizer, a normalizer that changes the lengths of texts, and no decoder of Llama's.
    let text = String::from_utf8(plain.clone()).unwrap();
    let from = text.find("\"normalizer\"").unwrap();
    let to = text.find("\"post_processor\"").unwrap();
    let other = format!("{}{OTHER_RULES}{}", &text[..from], &text[to..]);
    [converted(&PIPELINES[0]), plain, other.into_bytes()]
        .into_iter()
        .map(|data| Ways::new(|cache| JsonTokenizer::from_bytes(data.clone(), Some(cache))).unwrap())
        .collect()
});

/// Parts of a `tokenizer.json`, instead of those that conversion gives.
const OTHER_RULES: &str = r#""normalizer": {"type": "NFKC"},
    "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},"#;

const DEFAULT: &[u8] = include_bytes!("../../../python/llamatok/data/default.model");

/// Symbols that begin alike, lie within each other, and hold spaces.
const SYMBOLS: [&str; 6] = ["<s1>", "<s1>x", "ab", "aba", "é▁", "1"];

/// A small model with these user-defined symbols, and the settings `add_dummy_prefix`,
/// `remove_extra_whitespaces`, `escape_whitespaces` and `treat_whitespace_as_suffix`.
fn small(symbols: &[&str], settings: [bool; 4]) -> Model {
    let piece = |text: &str, score: f32, kind| Piece { text: text.into(), score, kind };
    let mut pieces = vec![
        piece("<unk>", 0.0, PieceKind::Unknown),
        piece("<s>", 0.0, PieceKind::Control),
        piece("</s>", 0.0, PieceKind::Control),
    ];
    pieces.extend((0..256).map(|byte| piece(&format!("<0x{byte:02X}>"), 0.0, PieceKind::Byte)));
    pieces.extend(symbols.iter().map(|symbol| piece(symbol, 0.0, PieceKind::UserDefined)));
    let normal = [
        "▁a", "he", "aa", "ll", "hell", "hello", "bb", "bbb", "▁▁", "▁", "a", "b", "c", "h", "e", "l", "o",
        "é", "中", "文", "中文", "aaaa", "aaa", ".", "..", "ca",
    ];
    let normal = normal.iter().filter(|text| !symbols.contains(text));
    pieces.extend(normal.zip(0u8..).map(|(text, rank)| piece(text, -f32::from(rank), PieceKind::Normal)));
    Model {
        format: ModelFormat::SentencePiece,
        vocabulary: Vocabulary::new(pieces, true).unwrap(),
        normalizer: NormalizerSettings {
            name: "identity".into(),
            precompiled_charsmap: Vec::new(),
            add_dummy_prefix: settings[0],
            remove_extra_whitespaces: settings[1],
            escape_whitespaces: settings[2],
            treat_whitespace_as_suffix: settings[3],
        },
        unk_surface: " ⁇ ".into(),
        bos_id: Some(1),
        eos_id: Some(2),
        pad_id: None,
        add_bos: None,
        add_eos: None,
        metadata: Vec::new(),
        serialized: Vec::new(),
    }
}
