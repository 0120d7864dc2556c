//! Exact SentencePiece BPE: normalized text to ids.

pub(crate) mod cuts;
pub(crate) mod engine;
pub(crate) mod general;
pub(crate) mod merges;

/// Hash maps whose keys a model file chooses: quick, and seeded at random.
pub(crate) type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
/// The set that goes with [`Map`].
pub(crate) type Set<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;
