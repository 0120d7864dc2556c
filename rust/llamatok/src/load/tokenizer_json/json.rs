//! JSON values that know where they stand, for errors that say so.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::{Error, Result};

/// A JSON value. An object keeps the order of its keys; a key that comes twice is an error.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Integer(u64),
    /// Any other number.
    Float(f64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Float(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries: Vec<(String, Json)> = Vec::new();
        let mut keys = crate::bpe::Set::default();
        while let Some(key) = map.next_key::<String>()? {
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom(twice(&key)));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(Json::Object(entries))
    }
}

/// The message for a key that comes twice in an object.
pub(super) fn twice(key: &str) -> String {
    format!("the key {key:?} comes twice in one object")
}

/// A value and the path to it, such as `normalizer.normalizers[1]`.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    pub(super) path: String,
    pub(super) value: &'a Json,
}

impl<'a> Node<'a> {
    pub(super) fn new(path: impl Into<String>, value: &'a Json) -> Self {
        Self { path: path.into(), value }
    }

    /// An error about this value.
    pub(super) fn fault(&self, message: impl Into<String>) -> Error {
        Error::model_format(self.path.clone(), message)
    }

    fn expected(&self, what: &str) -> Error {
        let found = match self.value {
            Json::Null => "null",
            Json::Bool(_) => "a boolean",
            Json::Integer(_) | Json::Float(_) => "another number",
            Json::String(_) => "a string",
            Json::Array(_) => "an array",
            Json::Object(_) => "an object",
        };
        self.fault(format!("{what} is expected, not {found}"))
    }

    /// `None` for null.
    pub(super) fn present(self) -> Option<Self> {
        Some(self).filter(|node| *node.value != Json::Null)
    }

    /// The value of a key; `None` where it is missing.
    pub(super) fn get(&self, key: &str) -> Result<Option<Node<'a>>> {
        let Json::Object(entries) = self.value else { return Err(self.expected("an object")) };
        let entry = entries.iter().find(|(name, _)| name == key);
        Ok(entry.map(|(_, value)| Node::new(format!("{}.{key}", self.path), value)))
    }

    /// The value of a key, unless it is missing or null.
    pub(super) fn optional(&self, key: &str) -> Result<Option<Node<'a>>> {
        Ok(self.get(key)?.and_then(Node::present))
    }

    /// The value of a key that must be there.
    pub(super) fn field(&self, key: &str) -> Result<Node<'a>> {
        self.get(key)?.ok_or_else(|| self.fault(format!("the key {key:?} is missing")))
    }

    pub(super) fn entries(&self) -> Result<impl Iterator<Item = (&'a str, Node<'a>)>> {
        let Json::Object(entries) = self.value else { return Err(self.expected("an object")) };
        let path = self.path.clone();
        Ok(entries.iter().map(move |(key, value)| (key.as_str(), Node::new(format!("{path}.{key}"), value))))
    }

    pub(super) fn items(&self) -> Result<impl Iterator<Item = Node<'a>>> {
        let Json::Array(items) = self.value else { return Err(self.expected("an array")) };
        let path = self.path.clone();
        Ok(items.iter().enumerate().map(move |(index, item)| Node::new(format!("{path}[{index}]"), item)))
    }

    pub(super) fn string(&self) -> Result<&'a str> {
        match self.value {
            Json::String(text) => Ok(text),
            _ => Err(self.expected("a string")),
        }
    }

    pub(super) fn character(&self) -> Result<char> {
        let mut chars = self.string()?.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => Err(self.fault("a string of one character is expected")),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool> {
        match *self.value {
            Json::Bool(value) => Ok(value),
            _ => Err(self.expected("a boolean")),
        }
    }

    pub(super) fn integer(&self) -> Result<u64> {
        match *self.value {
            Json::Integer(value) => Ok(value),
            _ => Err(self.expected("a number that is whole and not negative")),
        }
    }

    pub(super) fn u32(&self) -> Result<u32> {
        let value = self.integer()?;
        value.try_into().map_err(|_| self.fault(format!("{value} is more than 32 bits hold")))
    }

    pub(super) fn usize(&self) -> Result<usize> {
        let value = self.integer()?;
        value.try_into().map_err(|_| self.fault(format!("{value} is more than memory can hold")))
    }

    pub(super) fn number(&self) -> Result<f64> {
        match *self.value {
            Json::Integer(value) => Ok(value as f64),
            Json::Float(value) => Ok(value),
            _ => Err(self.expected("a number")),
        }
    }
}
