//! The general merger: to the letter of the library, for every vocabulary, O(n log n) for every word.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, OnceLock};

use crate::bpe::{Map, Set};
use crate::components::BpeModel;
use crate::stop;
use crate::{Error, Result, TokenId};

/// A model's merges, by pair.
#[derive(Debug)]
pub(crate) struct Merger {
    model: Arc<BpeModel>,
    /// For each pair its rank and its product.
    pairs: Map<(TokenId, TokenId), (u32, TokenId)>,
    /// Made when the first text is merged.
    cuts: OnceLock<Cuts>,
    characters: Map<char, TokenId>,
    bytes: [Option<TokenId>; 256],
    unk_id: Option<TokenId>,
}

/// What tells where nothing merges across.
#[derive(Debug, Default)]
struct Cuts {
    /// Characters that stand side by side in some product.
    adjacent: Set<(char, char)>,
    /// For each token that takes part in merges, its first and its last character.
    borders: Map<TokenId, (char, char)>,
}

/// A token of a word, and how many bytes of it the token counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) id: TokenId,
    /// 0 once it has been merged into the one before.
    pub(crate) len: u32,
}

/// Buffers that calls share.
#[derive(Debug, Default)]
pub(crate) struct MergerScratch {
    pub(crate) parts: Vec<Part>,
    links: Vec<Link>,
    agenda: BinaryHeap<Reverse<Candidate>>,
    skipped: Vec<Candidate>,
}

/// The neighbours of a part.
#[derive(Debug, Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

const NO_PART: u32 = u32::MAX;

/// A merge that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Merge {
    pub(crate) left: TokenId,
    pub(crate) right: TokenId,
    pub(crate) product: TokenId,
    pub(crate) rank: u32,
}

/// The most tokens that are merged without an agenda.
const MAX_ROW: usize = 32;

/// A pair that may merge: in the order of the agenda.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    product: TokenId,
}

impl MergerScratch {
    /// The bytes that grow with a text.
    pub(crate) fn bytes(&self) -> usize {
        self.parts.capacity() * size_of::<Part>()
            + self.links.capacity() * size_of::<Link>()
            + (self.agenda.capacity() + self.skipped.capacity()) * size_of::<Candidate>()
    }
}

impl Merger {
    pub(crate) fn new(model: &Arc<BpeModel>) -> Self {
        let mut pairs = Map::with_capacity_and_hasher(model.merges.len(), Default::default());
        for (rank, &(left, right, product)) in (0..).zip(&model.merges) {
            pairs.insert((left, right), (rank, product));
        }
        let mut characters = Map::default();
        for (token, id) in model.iter() {
            let mut chars = token.chars();
            if let (Some(c), None) = (chars.next(), chars.next()) {
                characters.insert(c, id);
            }
        }
        let bytes = std::array::from_fn(|byte| model.byte_id(byte as u8));
        Self { model: model.clone(), pairs, cuts: OnceLock::new(), characters, bytes, unk_id: model.unk_id() }
    }

    /// The rank and the product of a pair.
    pub(crate) fn pair(&self, left: TokenId, right: TokenId) -> Option<(u32, TokenId)> {
        self.pairs.get(&(left, right)).copied()
    }

    /// The token of a character.
    pub(crate) fn character(&self, c: char) -> Option<TokenId> {
        self.characters.get(&c).copied()
    }

    /// The last merge of a row of tokens, its product and its rank, if they become one token.
    pub(crate) fn last_merge(&self, parts: &mut Vec<TokenId>, scratch: &mut MergerScratch) -> Option<Merge> {
        if parts.len() > MAX_ROW {
            let MergerScratch { parts: nodes, links, agenda, skipped } = scratch;
            nodes.clear();
            nodes.extend(parts.iter().map(|&id| Part { id, len: 1 }));
            let last = self.merge_parts(nodes, links, agenda, skipped, &mut || false);
            return last.filter(|_| nodes[0].len as usize == nodes.len());
        }
        // For each token but the last, what it merges into with the next one.
        let mut row: [Option<(u32, TokenId)>; MAX_ROW] = [None; MAX_ROW];
        for (slot, pair) in row.iter_mut().zip(parts.windows(2)) {
            *slot = self.pair(pair[0], pair[1]);
        }
        let mut last = None;
        while parts.len() > 1 {
            let merges = row[..parts.len() - 1].iter().zip(0usize..);
            let (rank, place, product) = merges
                .filter_map(|(merge, place)| merge.map(|(rank, product)| (rank, place, product)))
                .min()?;
            last = Some(Merge { left: parts[place], right: parts[place + 1], product, rank });
            parts[place] = product;
            parts.remove(place + 1);
            row.copy_within(place + 1.., place);
            if place > 0 {
                row[place - 1] = self.pair(parts[place - 1], product);
            }
            row[place] = parts.get(place + 1).and_then(|&right| self.pair(product, right));
        }
        last
    }

    /// Leaves the tokens of `word` in `scratch.parts`, the `len` of none of them 0.
    ///
    /// `drop` says for each candidate whether it is passed over (BPE-dropout); without it text is cut where
    /// nothing merges across, which `drop` would notice: a candidate that was passed over comes back when
    /// another one is not, wherever in the word that is.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for words of 4 GiB.
    pub(crate) fn merge(
        &self,
        word: &str,
        scratch: &mut MergerScratch,
        drop: Option<&mut dyn FnMut() -> bool>,
    ) -> Result<()> {
        if word.len() >= NO_PART as usize {
            return Err(Error::unsupported("text", "4 GiB in one word"));
        }
        self.split(word, &mut scratch.parts);
        let MergerScratch { parts, links, agenda, skipped } = scratch;
        if let Some(drop) = drop {
            self.merge_parts(parts, links, agenda, skipped, drop);
        } else {
            let (mut start, mut rounds) = (0, 0);
            while start < parts.len() && !stop::is_due(rounds, stop::ROUNDS) {
                rounds += 1;
                let next =
                    (start + 1..parts.len()).find(|&end| !self.may_join(parts[end - 1].id, parts[end].id));
                let end = next.unwrap_or(parts.len());
                self.merge_parts(&mut parts[start..end], links, agenda, skipped, &mut || false);
                start = end;
            }
        }
        parts.retain(|part| part.len != 0);
        Ok(())
    }

    /// Whether a merge may cross the border between two neighbours: both take part in merges, and some
    /// product has the characters at the border side by side.
    fn may_join(&self, left: TokenId, right: TokenId) -> bool {
        let cuts = self.cuts.get_or_init(|| Cuts::new(&self.model));
        match (cuts.borders.get(&left), cuts.borders.get(&right)) {
            (Some(&(_, last)), Some(&(first, _))) => cuts.adjacent.contains(&(last, first)),
            _ => false,
        }
    }

    /// The tokens of the characters of a word (`BPE::merge_word`). Odd, but so: without an unknown token
    /// unknown characters are left out, and an unknown token waits for the next known character, so that it
    /// comes after the bytes of another unknown one.
    fn split(&self, word: &str, parts: &mut Vec<Part>) {
        parts.clear();
        let mut unknown: Option<Part> = None;
        for c in word.chars() {
            let len = c.len_utf8() as u32;
            if let Some(id) = self.character(c) {
                parts.extend(unknown.take());
                parts.push(Part { id, len });
                continue;
            }
            let mut buffer = [0; 4];
            let bytes = c.encode_utf8(&mut buffer).bytes().map(|byte| self.bytes[usize::from(byte)]);
            if bytes.clone().all(|id| id.is_some()) {
                parts.extend(bytes.flatten().map(|id| Part { id, len: 1 }));
                continue;
            }
            let Some(id) = self.unk_id else { continue };
            unknown = match unknown {
                Some(part) if self.model.fuse_unk => Some(Part { id, len: part.len + len }),
                Some(part) => {
                    parts.push(part);
                    Some(Part { id, len })
                }
                None => Some(Part { id, len }),
            };
        }
        parts.extend(unknown);
    }

    /// `Word::merge_all`; gives the last merge.
    fn merge_parts(
        &self,
        parts: &mut [Part],
        links: &mut Vec<Link>,
        agenda: &mut BinaryHeap<Reverse<Candidate>>,
        skipped: &mut Vec<Candidate>,
        drop: &mut dyn FnMut() -> bool,
    ) -> Option<Merge> {
        if parts.len() < 2 {
            return None;
        }
        let candidate = |parts: &[Part], left: u32, right: u32| {
            let pair = (parts.get(left as usize)?.id, parts.get(right as usize)?.id);
            let &(rank, product) = self.pairs.get(&pair)?;
            Some(Candidate { rank, left, product })
        };
        let last = parts.len() as u32 - 1;
        links.clear();
        links.extend((0..=last).map(|index| Link {
            prev: index.wrapping_sub(1),
            next: if index == last { NO_PART } else { index + 1 },
        }));
        // All at once, since to put them in order one by one takes longer.
        let mut first = std::mem::take(agenda).into_vec();
        first.clear();
        first.extend((0..last).filter_map(|left| candidate(parts, left, left + 1)).map(Reverse));
        *agenda = BinaryHeap::from(first);
        skipped.clear();
        let (mut last, mut rounds) = (None, 0);
        while let Some(Reverse(top)) = agenda.pop() {
            rounds += 1;
            if stop::is_due(rounds, stop::ROUNDS) {
                break;
            }
            if drop() {
                skipped.push(top);
                continue;
            }
            agenda.extend(skipped.drain(..).map(Reverse));
            let (left, right) = (top.left as usize, links[top.left as usize].next);
            if parts[left].len == 0 || right == NO_PART {
                continue;
            }
            // The pair may be another one by now, if only it gives the same.
            if candidate(parts, top.left, right).is_none_or(|now| now.product != top.product) {
                continue;
            }
            let after = links[right as usize].next;
            let (left_id, right_id) = (parts[left].id, parts[right as usize].id);
            last = Some(Merge { left: left_id, right: right_id, product: top.product, rank: top.rank });
            parts[left] = Part { id: top.product, len: parts[left].len + parts[right as usize].len };
            parts[right as usize].len = 0;
            links[left].next = after;
            if after != NO_PART {
                links[after as usize].prev = top.left;
            }
            agenda.extend(candidate(parts, links[left].prev, top.left).map(Reverse));
            agenda.extend(candidate(parts, top.left, after).map(Reverse));
        }
        last
    }
}

impl Cuts {
    fn new(model: &BpeModel) -> Self {
        let mut cuts = Self::default();
        let text = |id: TokenId| model.id_to_token(id).unwrap_or_default();
        let mut products = Set::default();
        for &(left, right, product) in &model.merges {
            for id in [left, right] {
                let mut chars = text(id).chars();
                if let Some(first) = chars.next() {
                    cuts.borders.insert(id, (first, chars.next_back().unwrap_or(first)));
                }
            }
            if products.insert(product) {
                cuts.adjacent.extend(text(product).chars().zip(text(product).chars().skip(1)));
            }
        }
        cuts
    }
}
