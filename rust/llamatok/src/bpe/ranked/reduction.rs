//! The splits of a list of merges, and a vocabulary that the fast path understands.

use std::sync::Arc;

use super::engine::WordRule;
use super::merger::{Merge, Merger, MergerScratch};
use crate::bpe::words::{Reason, Splits};
use crate::bpe::Set;
use crate::components::BpeModel;
use crate::vocabulary::{Piece, PieceKind, Vocabulary, SPACE_SYMBOL};
use crate::{Model, ModelFormat, NormalizerSettings, TokenId};

/// What a list of merges amounts to: see the account of it in [`super`].
#[derive(Debug)]
pub(super) struct Reduction {
    /// A model with the same ids whose normal pieces are the characters and the reachable pieces.
    pub(super) model: Arc<Model>,
    /// For each id, the rank of the split; the highest number for what has none.
    pub(super) ranks: Vec<u32>,
    pub(super) splits: Splits,
    /// The unknown id, where a run of unknown characters gives one.
    pub(super) fused_id: Option<TokenId>,
}

impl Reduction {
    /// Reduces the merges, or says what the fast path cannot take.
    pub(super) fn new(model: &BpeModel, merger: &Merger, rule: WordRule) -> Result<Self, Reason> {
        if !rule.spaces_are_replaced {
            return Err("spaces are not replaced by ▁");
        }
        let bytes = model.byte_ids();
        let unk_id = model.unk_id();
        if bytes.is_none() && (0..=255).any(|byte| model.byte_id(byte).is_some()) {
            return Err("some byte tokens are missing");
        }
        if bytes.is_none() && unk_id.is_none() {
            return Err("unknown characters are left out");
        }
        let never_merge: Set<TokenId> =
            bytes.iter().flat_map(|bytes| bytes.iter().copied()).chain(unk_id).collect();
        if model
            .merges
            .iter()
            .any(|(left, right, _)| never_merge.contains(left) || never_merge.contains(right))
        {
            return Err("byte tokens or the unknown token are merged");
        }
        if model.ignore_merges && rule.splits {
            return Err("`ignore_merges` is on");
        }
        let (ranks, splits) = find_splits(model, merger, rule);
        let mut pieces: Vec<Piece> = Vec::with_capacity(model.id_limit() + 1);
        for id in 0..model.id_limit() as TokenId {
            let Some(text) = model.id_to_token(id) else { return Err("the ids leave gaps") };
            let kind = if bytes.is_some() && never_merge.contains(&id) && unk_id != Some(id) {
                PieceKind::Byte
            } else if splits.contains_key(&id) || text.chars().nth(1).is_none() {
                PieceKind::Normal
            } else if unk_id == Some(id) && bytes.is_none() {
                PieceKind::Unknown
            } else {
                PieceKind::Control
            };
            pieces.push(Piece { text: text.into(), score: 0.0, kind });
        }
        if bytes.is_some() {
            // Never the result of anything, but a vocabulary has one.
            pieces.push(Piece { text: "an unknown piece".into(), score: 0.0, kind: PieceKind::Unknown });
        }
        let mut ranks = ranks;
        ranks.resize(pieces.len(), u32::MAX);
        let vocabulary =
            Vocabulary::new(pieces, bytes.is_some()).map_err(|_| "a token is out of the ordinary")?;
        let fused_id = unk_id.filter(|_| bytes.is_none() && model.fuse_unk);
        Ok(Self { model: Arc::new(bare(vocabulary)), ranks, splits, fused_id })
    }
}

/// Merges the text of each product: for each id the rank of its split, and the splits.
fn find_splits(model: &BpeModel, merger: &Merger, rule: WordRule) -> (Vec<u32>, Splits) {
    let mut ranks = vec![u32::MAX; model.id_limit()];
    let mut splits = Splits::default();
    let mut seen = Set::default();
    let mut parts = Vec::new();
    let mut scratch = MergerScratch::default();
    for &(_, _, product) in &model.merges {
        let text = model.id_to_token(product).unwrap_or_default();
        let is_split = rule.splits && text.char_indices().skip(1).any(|(_, c)| c == '▁');
        if !seen.insert(product) || is_split || text.contains(' ') {
            continue;
        }
        parts.clear();
        parts.extend(text.chars().map_while(|c| merger.character(c)));
        if parts.len() < text.chars().count() {
            // Never the result of text: some character of it becomes something else.
            continue;
        }
        let last = merger.last_merge(&mut parts, &mut scratch);
        if let Some(Merge { left, right, rank, .. }) = last.filter(|merge| merge.product == product) {
            ranks[product as usize] = rank;
            splits.insert(product, (left, right));
        }
    }
    (ranks, splits)
}

/// A model of which nothing but the vocabulary is looked at.
fn bare(vocabulary: Vocabulary) -> Model {
    Model {
        format: ModelFormat::SentencePiece,
        vocabulary,
        normalizer: NormalizerSettings {
            name: String::new(),
            precompiled_charsmap: Vec::new(),
            add_dummy_prefix: false,
            remove_extra_whitespaces: false,
            escape_whitespaces: true,
            treat_whitespace_as_suffix: false,
        },
        unk_surface: SPACE_SYMBOL.into(),
        bos_id: None,
        eos_id: None,
        pad_id: None,
        add_bos: None,
        add_eos: None,
        metadata: Vec::new(),
        serialized: Vec::new(),
    }
}
