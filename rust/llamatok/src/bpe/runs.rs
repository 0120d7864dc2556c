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
//! Lemma 2 of [`super::words`] applies (it needs no distinct ranks). The table is made by the general
//! merger, and the condition is verified.

use super::general::{Emitter, GeneralMerger, GeneralScratch};
use crate::vocabulary::{PieceKind, TokenId, Vocabulary, SPACE_SYMBOL};

/// What runs of spaces become.
#[derive(Debug)]
pub(crate) struct Runs {
    /// R(0), R(1), ..., R(2M).
    table: Vec<Vec<TokenId>>,
    longest: usize,
    longest_id: TokenId,
}

impl Runs {
    /// Makes the table, or says what speaks against it.
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        general: &GeneralMerger,
    ) -> Result<Self, super::words::Reason> {
        let Some(space) = vocabulary.mergeable_id(SPACE_SYMBOL) else {
            return Err("▁ is no piece");
        };
        let is_run = |text: &str| text.chars().all(|c| c == '▁');
        let longest_run = vocabulary
            .pieces()
            .iter()
            .filter(|piece| piece.kind == PieceKind::Normal && is_run(&piece.text))
            .max_by_key(|piece| piece.text.len());
        let longest_id = longest_run.and_then(|piece| vocabulary.mergeable_id(&piece.text)).unwrap_or(space);
        let longest = longest_run.map_or(1, |piece| piece.text.chars().count());
        if longest > 1024 {
            return Err("a run of more than 1024 ▁ is a piece");
        }
        let mut scratch = GeneralScratch::default();
        let mut table = Vec::with_capacity(2 * longest + 1);
        for len in 0..=2 * longest {
            let mut ids = Vec::new();
            let text = SPACE_SYMBOL.repeat(len);
            general
                .encode(&text, &mut scratch, &mut Emitter::new(vocabulary, &mut ids))
                .map_err(|_| "a run of ▁ cannot be merged")?;
            table.push(ids);
        }
        let periodic = (1..=longest)
            .all(|rest| table[longest + rest].split_first() == Some((&longest_id, table[rest].as_slice())));
        if !periodic {
            return Err("long runs of ▁ do not repeat the longest run piece");
        }
        Ok(Self { table, longest, longest_id })
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
