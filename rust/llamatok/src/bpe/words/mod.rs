//! The merger for words: exact BPE, merge by merge for short ones, and in linear time for long ones, by
//! finding the longest pieces and checking neighbours.
//!
//! # Definitions
//! BPE runs on characters and, again and again, merges the pair of neighbours whose product has the
//! lowest rank, the leftmost of several. *Word pieces* are the normal pieces that do not hold two
//! `▁` in a row. A piece is *reachable* if BPE turns its own text into the piece alone.
//!
//! # Lemma 1 (restriction)
//! While no merge crosses the borders of a stretch of text, BPE does within the stretch what it does
//! to the stretch alone. *Proof.* The next merge is the first pair by (rank, position); seen within
//! the stretch it is the first pair of the stretch, or outside of it. Pairs of the stretch depend on
//! the symbols of the stretch only. ∎ Hence, each time a piece arises, it does so by the same tree of
//! merges, that of its own text; its last merge is unique; and only reachable pieces arise. One pair
//! for each reachable piece is all that a table of merges need hold.
//!
//! # Lemma 2 (neighbours)
//! A sequence of reachable pieces is what BPE makes of its text if and only if BPE leaves each two
//! neighbours, as a text of their own, as they are (they are *stable*). *Proof.* If the sequence is
//! the result, no merge ever crossed the borders of a pair of neighbours, nor the one between the
//! two; by Lemma 1 the pair alone ends as the same two. Conversely, look at the first merge across a
//! border between neighbours `l` and `r`. Until then nothing crossed the outer borders of `l r`, so
//! BPE on `l r` alone does the same, and crosses as well; but `l r` is stable. So nothing ever
//! crosses a border, and by Lemma 1 each piece, being reachable, ends as itself. ∎
//!
//! So for each prefix of a text the sequence is unique, and so is its last piece. The merger takes the
//! longest piece at a position that is stable with the one before, and goes back where it gets stuck.
//! A position that it has gone back from is dead for good, since only one stable sequence leads up to
//! it: each position is entered once, with at most one look at each piece that begins there, and the
//! whole takes linear time.
//!
//! # Stability
//! Let every merge in the table have a product of higher rank than its parts (which
//! [`WordMerger::new`] verifies) and all products different ranks. Then BPE on `l r` takes merges in
//! the order of (rank, position), each of `l`'s and `r`'s own being there in time. The symbols next to
//! the border are, at any time, one on the right spine of `l`'s tree and one on the left spine of
//! `r`'s. Going back in time from (`l`, `r`), by undoing whichever of the two is younger, visits each
//! pair that ever meets at the border. A pair (`a`, `b`) with product `c` merges across the border
//! exactly if `c` comes before the merge that ended the meeting: if that one was of `a` (to its left),
//! `c` must have a lower rank, since of equal ranks the left one is first; if it was of `b`, a lower
//! or the same rank.

mod long;
mod pairs;
mod short;

use super::scan::Level;
use super::trie::Trie;
use super::Map;
use crate::normalize::to_valid_utf8;
use crate::vocabulary::{PieceKind, TokenId, Vocabulary};
use long::LongScratch;
use pairs::PairTable;
use short::{Group, Row, ROWS};

/// A character or a reachable word piece: the characters first, then the pieces by rank.
type Symbol = u32;

/// A unit of text that holds a space holds it in front; in the tables and in text it is U+0020.
pub(crate) const SPACE: u8 = b' ';

/// The tables of the linear merger.
#[derive(Debug)]
pub(crate) struct WordMerger {
    trie: Trie,
    /// The number of symbols that are characters.
    characters: u32,
    /// For each symbol, the two that it is merged from; unused for characters.
    splits: Vec<(Symbol, Symbol)>,
    ids: Vec<TokenId>,
    /// For each character of the basic plane, its symbol; [`NO_SYMBOL`] for those that are no pieces.
    basic_plane: Box<[Symbol]>,
    /// For each symbol, its length in bytes and the longest shorter one that its text begins with.
    extents: Vec<(u32, Symbol)>,
    pairs: PairTable,
    /// What two ASCII characters merge into: at the left one times 128 plus the right one.
    ascii_pairs: Box<[Symbol]>,
    unknown: Unknown,
}

/// What the tables give a symbol, in bits.
const SYMBOL_BITS: u32 = 21;
/// Greater than any symbol.
const NO_SYMBOL: Symbol = (1 << SYMBOL_BITS) - 1;

/// The most symbols that the tables have room for.
const MAX_SYMBOLS: usize = NO_SYMBOL as usize;

/// The most characters of a short word, and of a very short one.
const SHORT: usize = 32;
const VERY_SHORT: usize = 16;

/// What words have become.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    ids: Vec<TokenId>,
    /// For each word, where its ids begin and end.
    ranges: Vec<(u32, u32)>,
}

impl Merged {
    /// The ids of a word.
    pub(crate) fn ids(&self, word: usize) -> &[TokenId] {
        let (start, end) = self.ranges[word];
        &self.ids[start as usize..end as usize]
    }

    /// The bytes that grow with a text.
    pub(crate) fn bytes(&self) -> usize {
        self.ids.capacity() * size_of::<TokenId>()
    }
}

/// Buffers that calls share.
#[derive(Debug, Default)]
pub(crate) struct WordScratch {
    very_short: Group<VERY_SHORT, { 2 * VERY_SHORT }>,
    short: Group<SHORT, { 2 * SHORT }>,
    long: LongScratch,
}

impl WordScratch {
    /// The bytes that grow with a text.
    pub(crate) fn bytes(&self) -> usize {
        self.long.bytes()
    }
}

/// What a character that is no piece becomes.
#[derive(Debug)]
enum Unknown {
    Bytes(Box<[TokenId; 256]>),
    Piece(TokenId),
}

/// The one way in which each reachable piece arises: the parts of its last merge.
pub(crate) type Splits = Map<TokenId, (TokenId, TokenId)>;

/// Why a vocabulary cannot be served by the linear merger; for people who wonder.
pub(crate) type Reason = &'static str;

impl WordMerger {
    /// Builds the tables, or says what speaks against it. `ranks` are those of the vocabulary's pieces.
    /// Two neighbours merge if together they are a piece; or, with `splits`, if they are the split of one.
    /// `with_runs` says that `▁` may come several in a row.
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        ranks: &[u32],
        splits: Option<&Splits>,
        with_runs: bool,
    ) -> Result<Self, Reason> {
        let rank = |id: TokenId| ranks[id as usize];
        let text = |id: TokenId| vocabulary.pieces()[id as usize].text.as_str();
        let mut characters: Map<char, TokenId> = Map::default();
        let mut pieces = Vec::with_capacity(vocabulary.len());
        let mut by_text: Map<&str, TokenId> =
            Map::with_capacity_and_hasher(vocabulary.len(), Default::default());
        for (id, piece) in (0..).zip(vocabulary.pieces()) {
            if piece.kind != PieceKind::Normal || piece.text.contains(' ') {
                // A raw space never occurs in normalized text; nor do the other kinds merge.
                continue;
            }
            let mut chars = piece.text.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => {
                    characters.insert(c, id);
                }
                _ if piece.text.contains("▁▁") && !with_runs => {}
                _ => {
                    pieces.push(id);
                    by_text.insert(&piece.text, id);
                }
            }
        }
        if characters.len() + pieces.len() > MAX_SYMBOLS {
            return Err("the pieces are too many for the table of merges");
        }
        pieces.sort_unstable_by_key(|&id| rank(id));
        if pieces.windows(2).any(|pair| rank(pair[0]) == rank(pair[1])) {
            return Err("two pieces have the same score");
        }
        // The id of a part of a piece, if it is a character or a piece.
        let part = |text: &str| {
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => characters.get(&c).copied(),
                _ => by_text.get(text).copied(),
            }
        };
        let mut ids: Vec<TokenId> = characters.values().copied().collect();
        ids.sort_unstable();
        let mut merger = Self {
            trie: Trie::default(),
            characters: ids.len() as u32,
            splits: vec![(NO_SYMBOL, NO_SYMBOL); ids.len()],
            ids,
            basic_plane: vec![NO_SYMBOL; 1 << 16].into(),
            extents: Vec::new(),
            pairs: PairTable::default(),
            ascii_pairs: Box::default(),
            unknown: match vocabulary.byte_ids() {
                Some(bytes) => Unknown::Bytes(Box::new(*bytes)),
                None => Unknown::Piece(vocabulary.unk_id()),
            },
        };
        let mut symbols = vec![NO_SYMBOL; vocabulary.len()];
        for (symbol, &id) in (0..).zip(&merger.ids) {
            symbols[id as usize] = symbol;
        }
        for (&c, &id) in &characters {
            // In text a space stands for `▁`; a literal one does not get here.
            let c = if c == '▁' { char::from(SPACE) } else { c };
            if let Some(symbol) = merger.basic_plane.get_mut(c as usize) {
                *symbol = symbols[id as usize];
            }
        }
        let mut pairs: Map<(Symbol, Symbol), Symbol> =
            Map::with_capacity_and_hasher(pieces.len(), Default::default());
        let mut falling = Vec::new();
        // In the order of ranks: the table then holds just the merges that may come before this one,
        // so that a stable split is one that is left when the piece's turn comes.
        for &id in &pieces {
            if text(id).chars().any(|c| !characters.contains_key(&c)) {
                return Err("a piece holds a character that is no piece");
            }
            let mut split = None;
            let candidates: Vec<(TokenId, TokenId)> = match splits {
                Some(splits) => splits.get(&id).copied().into_iter().collect(),
                None => all_splits(text(id))
                    .filter_map(|(left, right)| Some((part(left)?, part(right)?)))
                    .collect(),
            };
            let product = |left, right| pairs.get(&(left, right)).copied().unwrap_or(NO_SYMBOL);
            for (left, right) in candidates {
                let pair = (symbols[left as usize], symbols[right as usize]);
                if pair.0 == NO_SYMBOL || pair.1 == NO_SYMBOL {
                    // A part that ranks higher, or is not reachable.
                    falling.push((left, right));
                } else if split.is_none() && merger.stable(pair, product) {
                    split = Some(pair);
                }
            }
            if let Some(pair) = split {
                let symbol = merger.ids.len() as Symbol;
                symbols[id as usize] = symbol;
                merger.ids.push(id);
                merger.splits.push(pair);
                pairs.insert(pair, symbol);
            }
        }
        merger.pairs = PairTable::new(pairs.into_iter()).ok_or("the table of merges cannot be built")?;
        let product = |left, right| merger.pairs.get(left, right);
        // A merge of parts that rank no lower than their product is not in the table; make sure that
        // its parts never meet.
        for (left, right) in falling {
            let pair = (symbols[left as usize], symbols[right as usize]);
            if pair.0 != NO_SYMBOL && pair.1 != NO_SYMBOL && merger.meet(pair, product) {
                return Err("a piece has a higher score than a piece that it is merged from");
            }
        }
        merger.build_trie(text)?;
        let ascii = &merger.basic_plane[..128];
        let pairs = &merger.pairs;
        let products = ascii.iter().flat_map(|&left| ascii.iter().map(move |&right| pairs.get(left, right)));
        merger.ascii_pairs = products.collect();
        Ok(merger)
    }

    fn build_trie<'a>(&mut self, text: impl Fn(TokenId) -> &'a str) -> Result<(), Reason> {
        let raw: Vec<Vec<u8>> = self.ids.iter().map(|&id| text(id).replace('▁', " ").into_bytes()).collect();
        let mut keys: Vec<(&[u8], Symbol)> = raw.iter().map(Vec::as_slice).zip(0..).collect();
        keys.sort_unstable();
        self.trie = Trie::new(&keys).ok_or("the pieces are too many for the trie")?;
        let prefix = |key: &[u8]| self.trie.longest_prefix(&key[..key.len() - 1]).unwrap_or(NO_SYMBOL);
        self.extents = raw.iter().map(|key| (key.len() as u32, prefix(key))).collect();
        Ok(())
    }

    /// Whether BPE leaves the two as they are. `product` tells what two symbols merge into, or [`NO_SYMBOL`].
    fn stable(&self, pair: (Symbol, Symbol), product: impl Fn(Symbol, Symbol) -> Symbol) -> bool {
        product(pair.0, pair.1) == NO_SYMBOL && self.meet(pair, product)
    }

    /// Whether BPE, on the texts of the two, makes the two: see the module's account of stability. `product` tells
    /// what two symbols merge into, or [`NO_SYMBOL`].
    #[inline]
    fn meet(&self, (mut a, mut b): (Symbol, Symbol), product: impl Fn(Symbol, Symbol) -> Symbol) -> bool {
        loop {
            // What the product must stay below for the pair to merge across the border.
            let limit;
            if a > b {
                if a < self.characters {
                    return true;
                }
                limit = a;
                a = self.splits[a as usize].1;
            } else {
                if b < self.characters {
                    return true;
                }
                limit = b + 1;
                b = self.splits[b as usize].0;
            }
            if product(a, b) < limit {
                return false;
            }
        }
    }

    /// Encodes words of `text`, which begin and end where `words` says: valid UTF-8, not empty, with
    /// spaces as U+0020 and no two of them in a row.
    pub(crate) fn encode(
        &self,
        level: Level,
        text: &[u8],
        words: &[(u32, u32)],
        scratch: &mut WordScratch,
        merged: &mut Merged,
    ) {
        merged.ids.clear();
        merged.ranges.clear();
        merged.ranges.resize(words.len(), (0, 0));
        let WordScratch { very_short, short, long } = scratch;
        for (tag, &(start, end)) in (0..).zip(words) {
            let word = &text[start as usize..end as usize];
            let mut symbols = [NO_SYMBOL; SHORT];
            if word.len() <= VERY_SHORT && word.is_ascii() {
                let symbol = |place: usize| self.basic_plane[usize::from(word[place])];
                very_short.push(tag, word.len(), symbol, |place| self.ascii_product(word, place));
            } else if let Some(len) = self.symbols(word, &mut symbols) {
                let product = |place: usize| self.pairs.get(symbols[place], symbols[place + 1]);
                if len <= VERY_SHORT {
                    very_short.push(tag, len, |place| symbols[place], product);
                } else {
                    short.push(tag, len, |place| symbols[place], product);
                }
            } else {
                let first = merged.ids.len();
                self.encode_long(level, &to_valid_utf8(word), long, &mut merged.ids);
                merged.ranges[tag as usize] = (first as u32, merged.ids.len() as u32);
            }
            if very_short.is_full() {
                self.merge_group(level, text, words, very_short, merged);
            }
            if short.is_full() {
                self.merge_group(level, text, words, short, merged);
            }
        }
        self.merge_group(level, text, words, very_short, merged);
        self.merge_group(level, text, words, short, merged);
    }

    /// What the ASCII characters at `place` and behind it merge into, or [`NO_SYMBOL`].
    #[inline(always)]
    fn ascii_product(&self, text: &[u8], place: usize) -> Symbol {
        self.ascii_pairs[usize::from(text[place]) << 7 | usize::from(text[place + 1])]
    }

    /// The symbols of a word of at most [`SHORT`] characters, all in the basic plane.
    #[inline]
    fn symbols(&self, word: &[u8], symbols: &mut [Symbol; SHORT]) -> Option<usize> {
        let (len, size) = self.first_symbols(word, symbols, |_| true);
        (size == word.len()).then_some(len)
    }

    /// The symbols of the first characters of a text, which are pieces, and how many bytes they take.
    #[inline]
    fn known_symbols<const LEN: usize>(&self, text: &[u8], symbols: &mut [Symbol; LEN]) -> (usize, usize) {
        self.first_symbols(text, symbols, |symbol| symbol != NO_SYMBOL)
    }

    /// The symbols of the first characters of a text that are in the basic plane and wanted, at most
    /// `LEN`, and how many bytes they take.
    #[inline(always)]
    fn first_symbols<const LEN: usize>(
        &self,
        text: &[u8],
        symbols: &mut [Symbol; LEN],
        is_wanted: impl Fn(Symbol) -> bool,
    ) -> (usize, usize) {
        let (mut len, mut bytes) = (0, 0);
        let low = |byte: u8| usize::from(byte & 0x3F);
        while let Some(slot) = symbols.get_mut(len) {
            let (code, size) = match text[bytes..] {
                [a, ..] if a < 0x80 => (usize::from(a), 1),
                [a, b, ..] if a < 0xE0 => (usize::from(a & 0x1F) << 6 | low(b), 2),
                [a, b, c, ..] if a < 0xF0 => (usize::from(a & 0xF) << 12 | low(b) << 6 | low(c), 3),
                _ => break,
            };
            let symbol = self.basic_plane[code];
            if !is_wanted(symbol) {
                break;
            }
            *slot = symbol;
            len += 1;
            bytes += size;
        }
        (len, bytes)
    }

    /// Merges the words of a group, which is empty then.
    fn merge_group<const LANES: usize, const ROOM: usize>(
        &self,
        level: Level,
        text: &[u8],
        words: &[(u32, u32)],
        group: &mut Group<LANES, ROOM>,
        merged: &mut Merged,
    ) {
        let Merged { ids, ranges } = merged;
        ids.reserve(ROWS * SHORT * 4);
        for row in group.merge(&self.pairs, level) {
            let first = ids.len();
            if row.has_unknown {
                let (start, end) = words[row.tag as usize];
                self.name_with_unknown(row, &text[start as usize..end as usize], ids);
            } else {
                ids.extend(row.symbols().map(|symbol| self.ids[symbol as usize]));
            }
            ranges[row.tag as usize] = (first as u32, ids.len() as u32);
        }
    }

    /// Appends the ids of a row that is merged, of whose characters one is no piece.
    #[cold]
    fn name_with_unknown<const LANES: usize, const ROOM: usize>(
        &self,
        row: &Row<LANES, ROOM>,
        word: &[u8],
        ids: &mut Vec<TokenId>,
    ) {
        let mut rest = word;
        for symbol in row.symbols() {
            let len = match self.ids.get(symbol as usize) {
                Some(&id) => {
                    ids.push(id);
                    self.extents[symbol as usize].0 as usize
                }
                None => {
                    let is_tail = |&&byte: &&u8| byte & 0xC0 == 0x80;
                    let len = 1 + rest[1..].iter().take_while(is_tail).count();
                    self.unknown(&rest[..len], ids);
                    len
                }
            };
            rest = &rest[len..];
        }
    }

    fn unknown(&self, character: &[u8], out: &mut Vec<TokenId>) {
        match &self.unknown {
            Unknown::Bytes(bytes) => out.extend(character.iter().map(|&byte| bytes[usize::from(byte)])),
            Unknown::Piece(id) => out.push(*id),
        }
    }
}

/// All ways to split a piece in two.
fn all_splits(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.char_indices().skip(1).map(|(index, _)| text.split_at(index))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bpe::merges::ranks;
    use crate::vocabulary::Piece;

    /// BPE by the letter of its definition: the pair whose product has the lowest rank, the leftmost of
    /// several, until none is left.
    fn merge_naively(text: &str, vocabulary: &Vocabulary, ranks: &[u32]) -> Vec<TokenId> {
        let mut parts: Vec<String> = text.replace(' ', "▁").chars().map(String::from).collect();
        loop {
            let product =
                |place: usize| vocabulary.mergeable_id(&format!("{}{}", parts[place], parts[place + 1]));
            let candidates = (0..parts.len().saturating_sub(1))
                .filter_map(|place| Some((ranks[product(place)? as usize], place)));
            let Some((_, place)) = candidates.min() else { break };
            let right = parts.remove(place + 1);
            parts[place] += &right;
        }
        parts.iter().map(|part| vocabulary.mergeable_id(part).unwrap_or(vocabulary.unk_id())).collect()
    }

    fn vocabulary(pieces: &[String]) -> Vocabulary {
        let piece = |text: &str, kind, score| Piece { text: text.into(), score, kind };
        let mut all = vec![piece("<unk>", PieceKind::Unknown, 0.0)];
        for character in ["▁", "a", "b", "c", "é", "中"] {
            all.push(piece(character, PieceKind::Normal, -1e6));
        }
        for (index, text) in pieces.iter().enumerate() {
            all.push(piece(text, PieceKind::Normal, -(index as f32)));
        }
        Vocabulary::new(all, false).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn both_ways_do_what_bpe_does(
            pieces in prop::collection::hash_set("▁?[abcé中]{1,5}", 1..40),
            texts in prop::collection::vec(" ?([abcé中]{0,300}|[abcé中x🦙]{0,200}|[abcé中x]{0,40}|(a|bc){0,200}|(abc){0,100})", 1..40),
            sorted in any::<bool>(),
        ) {
            let mut pieces: Vec<String> = pieces.into_iter().filter(|piece| piece.chars().count() > 1).collect();
            if sorted {
                // As trained: a piece comes after its parts.
                pieces.sort_by_key(|piece| piece.chars().count());
            }
            let vocabulary = vocabulary(&pieces);
            let ranks = ranks(&vocabulary);
            let Ok(merger) = WordMerger::new(&vocabulary, &ranks, None, false) else { return Ok(()) };
            let mut scratch = WordScratch::default();
            let mut merged = Merged::default();
            let mut joined = String::new();
            let mut words = Vec::new();
            for text in texts.iter().filter(|text| !text.is_empty()) {
                words.push((joined.len() as u32, (joined.len() + text.len()) as u32));
                joined += text;
            }
            for level in Level::available() {
                merger.encode(level, joined.as_bytes(), &words, &mut scratch, &mut merged);
                for (index, &(start, end)) in words.iter().enumerate() {
                    let text = &joined[start as usize..end as usize];
                    let expected = merge_naively(text, &vocabulary, &ranks);
                    prop_assert_eq!(merged.ids(index), &expected, "{:?} {:?}", text, pieces);
                    let mut long = Vec::new();
                    merger.encode_long(level, text, &mut scratch.long, &mut long);
                    prop_assert_eq!(&long, &expected, "long: {:?} {:?}", text, pieces);
                }
            }
        }
    }
}
