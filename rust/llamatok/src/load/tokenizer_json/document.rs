//! The outer form of a `tokenizer.json`. The vocabulary and the merges, which are nearly all of it, are read
//! straight into lists; all else becomes [`Json`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{twice, Json};
use crate::bpe::Set;

/// The sections of a file.
#[derive(Debug, Default)]
pub(super) struct Document<'a> {
    /// An object of all sections but `model`.
    pub(super) sections: Vec<(String, Json)>,
    pub(super) model: Option<RawModel<'a>>,
}

/// The section `model`.
#[derive(Debug, Default)]
pub(super) struct RawModel<'a> {
    /// An object of all fields but `vocab` and `merges`.
    pub(super) fields: Vec<(String, Json)>,
    pub(super) vocab: Option<RawVocab<'a>>,
    pub(super) merges: Option<Vec<RawMerge<'a>>>,
}

/// The field `vocab`.
#[derive(Debug)]
pub(super) enum RawVocab<'a> {
    /// Tokens and ids.
    Map(Vec<(Cow<'a, str>, u32)>),
    /// A list, as unigram models have it.
    List,
}

/// An entry of `merges`.
#[derive(Debug)]
pub(super) enum RawMerge<'a> {
    /// Two tokens with a space between.
    Line(Cow<'a, str>),
    Pair(Cow<'a, str>, Cow<'a, str>),
}

/// What is said where something else is found, and how it is read.
macro_rules! visitor {
    ($type:ident, $method:ident, $expecting:literal, { $($visits:tt)* }) => {
        impl<'de> Deserialize<'de> for $type<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;

                impl<'de> Visitor<'de> for Reader {
                    type Value = $type<'de>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    $($visits)*
                }

                deserializer.$method(Reader)
            }
        }
    };
}

visitor!(Document, deserialize_map, "an object, the sections of a tokenizer", {
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document<'de>, A::Error> {
        let mut document = Document::default();
        let mut keys = Set::default();
        while let Some(key) = map.next_key::<String>()? {
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom(twice(&key)));
            }
            if key == "model" {
                document.model = Some(map.next_value()?);
            } else {
                document.sections.push((key, map.next_value()?));
            }
        }
        Ok(document)
    }
});

visitor!(RawModel, deserialize_map, "an object, the model", {
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawModel<'de>, A::Error> {
        let mut model = RawModel::default();
        let mut keys = Set::default();
        while let Some(key) = map.next_key::<String>()? {
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom(twice(&key)));
            }
            match key.as_str() {
                "vocab" => model.vocab = Some(map.next_value()?),
                "merges" => model.merges = Some(map.next_value()?),
                _ => model.fields.push((key, map.next_value()?)),
            }
        }
        Ok(model)
    }
});

visitor!(RawVocab, deserialize_any, "an object of tokens and ids", {
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawVocab<'de>, A::Error> {
        let mut vocab = Vec::new();
        while let Some(Text(token)) = map.next_key()? {
            vocab.push((token, map.next_value()?));
        }
        Ok(RawVocab::Map(vocab))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawVocab<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(RawVocab::List)
    }
});

visitor!(RawMerge, deserialize_any, "a merge: \"left right\" or [\"left\", \"right\"]", {
    fn visit_borrowed_str<E>(self, line: &'de str) -> Result<RawMerge<'de>, E> {
        Ok(RawMerge::Line(Cow::Borrowed(line)))
    }

    fn visit_str<E>(self, line: &str) -> Result<RawMerge<'de>, E> {
        Ok(RawMerge::Line(Cow::Owned(line.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawMerge<'de>, A::Error> {
        let wrong = || A::Error::custom("a merge is of two tokens");
        let (Some(Text(left)), Some(Text(right))) = (seq.next_element()?, seq.next_element()?) else {
            return Err(wrong());
        };
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(RawMerge::Pair(left, right)),
            Some(_) => Err(wrong()),
        }
    }
});

/// A string, borrowed from the file where it has no escapes.
struct Text<'a>(Cow<'a, str>);

visitor!(Text, deserialize_str, "a string", {
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.into())))
    }
});
