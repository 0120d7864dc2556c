//! BPE by merges that a file lists, as the HF tokenizers library does it (`models/bpe`, 0.23.2).
//!
//! # The rule
//! A word is its characters: a character of the vocabulary is its token, another one the tokens of its
//! bytes or the unknown token. Of all neighbours that the list of merges holds, the pair that stands first
//! in the list is merged, the leftmost of several; and again, until none is left.
//!
//! That differs from SentencePiece's rule: there the *product* decides whether and when two neighbours
//! merge, here the *pair* does. A list may hold only one of several ways to split a piece, or hold them
//! apart from each other.
//!
//! # One way is enough
//! Lemma 1 of [`super::words`] speaks of "the first pair by (rank, position)" only, so it holds here
//! word for word, with the place of a pair in the list as its rank: while no merge crosses the borders of a
//! stretch, the stretch does what it does alone. So whenever a piece arises, it has come about by the same
//! merges, those of its own text. Call the last of these the *split* of the piece, and a piece *reachable*
//! if its text becomes the piece alone.
//!
//! **Reduction.** Only splits are ever merged; all other entries of the list can be struck out. *Proof.*
//! Suppose a pair merges. It gives a piece, which has come about by its own merges, the last of which is
//! this pair; so the pair is the split of the piece. An entry that never is the first one to merge can be
//! struck out without changing which one is. ∎
//!
//! So a list of merges amounts to one pair and one rank for each reachable piece, no two ranks being the
//! same. That is just what the fast path's tables hold, whichever way they came about, and its proofs ask
//! for nothing else: Lemma 2 rests on Lemma 1; the cut rule asks which characters stand side by side in
//! some product; stability asks that a product ranks after its parts, which [`super::words::WordMerger::new`]
//! verifies. The splits are found by merging the text of each product once ([`Reduction`]).
//!
//! Text that is split before each `▁` (`Metaspace` with `split`) is the same as whole text with all
//! products struck out that hold `▁` behind another character: nothing but those can reach over such a
//! place.
//!
//! What the fast path cannot do, the general merger does ([`Merger`]); its cuts need no condition.

mod engine;
mod merger;
mod reduction;
#[cfg(test)]
mod tests;

pub(crate) use engine::{RankedEngine, RankedWorker, Span, WordRule};
#[cfg(test)]
use merger::Merger;
use reduction::Reduction;
