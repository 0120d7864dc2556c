//! Runs of spaces.
//!
//! # The rule
//! Suppose that (1) no piece holds `▁` after another character, (2) none begins with two `▁` and goes
//! on with another character, and (3) the pieces of two or more `▁` and nothing else (*run pieces*)
//! rank after every word piece. Then `k` spaces and a word `w` become what the run of `k - 1` spaces
//! becomes by itself, and then what `▁w` becomes by itself; but if the latter begins with the piece
//! `▁`, that one belongs to the run: `k` spaces by themselves, then the rest of `▁w`.
//!
//! *Proof.* By (3) all merges that give word pieces come before any that gives a run piece. By (1) and
//! (2) no word piece reaches into the run further than its last `▁`, nor do run pieces reach out of
//! it. So first `▁w` merges as it does by itself, and then the single `▁` left: the first `k - 1`,
//! and the last one if nothing has merged with it. Merging them gives no new chance to a word piece,
//! since by (2) none begins with two `▁`. ∎
//!
//! # Long runs
//! A run of `k` spaces is written R(k). Let M be the longest run piece. If R(M + r) is M followed by
//! R(r) for all r from 1 to M, then R(k) is M followed by R(k - M) for all k > M: in the sequence M,
//! ..., M, R(r), each two neighbours stand side by side in some R(M + r), so they are stable, and
//! Lemma 2 of [`super::words`] applies (it needs no distinct ranks). The table is made by merging, and
//! the condition is verified.

use super::words::{Reason, Splits};
use crate::vocabulary::{PieceKind, TokenId, Vocabulary, SPACE_SYMBOL};

/// What runs of spaces become.
#[derive(Debug)]
pub(crate) struct Runs {
    /// R(0), R(1), ..., R(2M).
    table: Vec<Vec<TokenId>>,
    longest: usize,
    longest_id: TokenId,
}

/// The longest run piece that the table is made for.
const MAX_RUN: usize = 64;

/// The number of `▁` in a piece that holds nothing else.
pub(crate) fn run_len(text: &str) -> Option<usize> {
    text.chars().all(|c| c == '▁').then(|| text.len() / SPACE_SYMBOL.len())
}

impl Runs {
    /// Makes the table, or says what speaks against it. `ranks` are those of the vocabulary's pieces, and
    /// `splits` is as for [`WordMerger::new`](super::words::WordMerger::new).
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        ranks: &[u32],
        splits: Option<&Splits>,
    ) -> Result<Self, Reason> {
        // For each length, the run piece and its rank.
        let mut pieces: [Option<(TokenId, u32)>; MAX_RUN + 1] = [None; MAX_RUN + 1];
        for (id, piece) in (0..).zip(vocabulary.pieces()).filter(|(_, piece)| piece.kind == PieceKind::Normal)
        {
            if let Some(len) = run_len(&piece.text) {
                let slot = pieces.get_mut(len).ok_or("a run of more than 64 ▁ is a piece")?;
                *slot = Some((id, ranks[id as usize]));
            }
        }
        if pieces[1].is_none() {
            return Err("▁ is no piece");
        }
        let longest = pieces.iter().rposition(Option::is_some).unwrap_or(1);
        let id = |len: usize| pieces.get(len).copied().flatten().map_or(0, |(id, _)| id);
        // The rank of a merge of two runs, by their lengths.
        let rank = |left: usize, right: usize| {
            let (product, rank) = pieces.get(left + right).copied().flatten()?;
            let is_merge = splits.is_none_or(|splits| splits.get(&product) == Some(&(id(left), id(right))));
            is_merge.then_some(rank)
        };
        let table: Vec<Vec<TokenId>> =
            (0..=2 * longest).map(|len| merge_run(len, rank).into_iter().map(id).collect()).collect();
        let periodic = (1..=longest)
            .all(|rest| table[longest + rest].split_first() == Some((&id(longest), table[rest].as_slice())));
        if !periodic {
            return Err("long runs of ▁ do not repeat the longest run piece");
        }
        Ok(Self { table, longest, longest_id: id(longest) })
    }

    /// Appends what `len` spaces become.
    pub(crate) fn encode(&self, len: usize, out: &mut Vec<TokenId>) {
        let mut rest = len;
        if rest >= self.table.len() {
            let repeats = (rest - 1) / self.longest;
            out.extend(std::iter::repeat_n(self.longest_id, repeats));
            rest -= repeats * self.longest;
        }
        out.extend_from_slice(&self.table[rest]);
    }

    /// How many ids `len` spaces become.
    pub(crate) fn count(&self, len: usize) -> usize {
        match self.table.get(len) {
            Some(ids) => ids.len(),
            None => {
                let repeats = (len - 1) / self.longest;
                repeats + self.table[len - repeats * self.longest].len()
            }
        }
    }
}

/// The lengths of the pieces that a run of `len` spaces is merged into, by the letter of the rule: the
/// pair of the lowest rank, the leftmost of several.
fn merge_run(len: usize, rank: impl Fn(usize, usize) -> Option<u32>) -> Vec<usize> {
    let mut run = vec![1; len];
    loop {
        let candidates = (0..run.len().saturating_sub(1))
            .filter_map(|index| Some((rank(run[index], run[index + 1])?, index)));
        let Some((_, index)) = candidates.min() else { return run };
        run[index] += run.remove(index + 1);
    }
}
