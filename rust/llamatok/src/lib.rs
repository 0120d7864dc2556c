#![doc = include_str!("../README.md")]
#![deny(missing_docs, rustdoc::broken_intra_doc_links)]

pub mod added_tokens;
mod batch;
mod bpe;
pub mod components;
mod decode;
mod error;
pub mod load;
pub mod memory;
mod model;
mod normalize;
pub mod pipeline;
pub mod post_process;
mod random;
mod special;
pub mod stop;
mod tokenizer;
mod utf8;
pub mod vocabulary;

pub use added_tokens::AddedToken;
pub use batch::{TextBatch, TokenBatch};
pub use decode::StreamDecoder;
pub use error::{Error, ErrorKind, Result};
pub use model::{Model, ModelFormat, NormalizerSettings};
pub use pipeline::{EncodingBatch, JsonStreamDecoder, JsonTokenizer, Pipeline};
pub use tokenizer::{CacheInfo, EncodeOptions, Text, Tokenizer};
pub use utf8::Utf8Encoder;
pub use vocabulary::{Piece, PieceKind, TokenId, Vocabulary};
