//! Exact SentencePiece BPE: normalized text to ids.

mod cache;
mod classes;
pub(crate) mod cuts;
pub(crate) mod engine;
mod fast;
pub(crate) mod general;
pub(crate) mod merges;
pub(crate) mod ranked;
mod runs;
pub(crate) mod scan;
pub(crate) mod trie;
mod words;

#[cfg(test)]
pub(crate) use fast::MAX_UNCUT;

/// Hash maps whose keys a model file chooses: quick, and seeded at random.
pub(crate) type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
/// The set that goes with [`Map`].
pub(crate) type Set<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;
