//! `Trie.split` of transformers 4.57.6 with its errors, in time that does not grow with the tokens.
//!
//! That code keeps, for each place where a token may have begun, how far along the trie it is. These are the
//! ends of the text so far that are beginnings of tokens: the state of an automaton after Aho and Corasick
//! (1975), and those that it falls to. It stops at the earliest begun that is a whole token, and then looks
//! ahead for those begun before it, the earliest first: where one can take the next character, from behind
//! that, as a token that goes on; where it cannot, from behind it all the same, which is the error. The first
//! that becomes a token by that wins, with the longest that it becomes; else the one that is whole does.
//!
//! Each begun place belongs to characters that are not looked at again, so there are no more than those. What
//! each may become is found by bisection: the beginnings of tokens are known by a hash, and that of a beginning
//! with text behind it follows from those of the two.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::bpe::Map;

const ROOT: u32 = 0;
/// In place of a node, where there is none.
const NONE: u32 = u32::MAX;

/// The beginnings of tokens.
#[derive(Debug)]
pub(super) struct LetterTrie {
    children: Map<(u32, char), u32>,
    /// For each node: its depth in characters, and that of the deepest node below it.
    depths: Vec<u32>,
    heights: Vec<u32>,
    /// For each node, that of its longest end that is a beginning.
    falls_to: Vec<u32>,
    /// For each node: the deepest token among it and those that it falls to, and the deepest one on the way to
    /// it, itself included.
    fallen_ends: Vec<u32>,
    passed_ends: Vec<u32>,
    hashes: Vec<u64>,
    by_hash: Map<u64, u32>,
    base: u64,
}

/// A text, character by character.
struct Letters<'a> {
    chars: &'a [(usize, char)],
    /// The hash of the first characters, for each number of them, and the powers of the base; made at need.
    hashes: Vec<u64>,
    powers: Vec<u64>,
}

impl LetterTrie {
    pub(super) fn new<'a>(contents: impl Iterator<Item = &'a str>) -> Self {
        let mut trie = Self {
            children: Map::default(),
            depths: vec![0],
            heights: vec![0],
            falls_to: vec![ROOT],
            fallen_ends: vec![NONE],
            passed_ends: vec![NONE],
            hashes: vec![0],
            by_hash: Map::default(),
            // By chance for each trie, so that no text can be made that is mistaken for another.
            base: RandomState::new().hash_one(0) % PRIME,
        };
        let mut edges: Vec<(u32, char, u32)> = Vec::new();
        for content in contents {
            let mut node = ROOT;
            for c in content.chars() {
                let next = trie.depths.len() as u32;
                let child = *trie.children.entry((node, c)).or_insert(next);
                if child == next {
                    edges.push((node, c, child));
                    trie.depths.push(trie.depths[node as usize] + 1);
                    let hash = append(trie.hashes[node as usize], c, trie.base);
                    trie.hashes.push(hash);
                    trie.by_hash.insert(hash, child);
                    trie.passed_ends.push(NONE);
                }
                node = child;
            }
            trie.passed_ends[node as usize] = node;
        }
        let nodes = trie.depths.len();
        trie.heights = trie.depths.clone();
        trie.falls_to.resize(nodes, ROOT);
        trie.fallen_ends.resize(nodes, NONE);
        // From the root outwards: what a node falls to is nearer to it.
        edges.sort_by_key(|&(_, _, node)| trie.depths[node as usize]);
        for &(before, c, node) in &edges {
            let (before, node) = (before as usize, node as usize);
            if before != ROOT as usize {
                trie.falls_to[node] = trie.next(trie.falls_to[before], c);
            }
            let is_end = trie.passed_ends[node] == node as u32;
            trie.fallen_ends[node] =
                if is_end { node as u32 } else { trie.fallen_ends[trie.falls_to[node] as usize] };
            if !is_end {
                trie.passed_ends[node] = trie.passed_ends[before];
            }
        }
        for &(before, _, node) in edges.iter().rev() {
            trie.heights[before as usize] = trie.heights[before as usize].max(trie.heights[node as usize]);
        }
        trie
    }

    fn child(&self, node: u32, c: char) -> Option<u32> {
        self.children.get(&(node, c)).copied()
    }

    /// The longest end of what `node` and `c` make that is a beginning.
    fn next(&self, mut node: u32, c: char) -> u32 {
        loop {
            if let Some(child) = self.child(node, c) {
                return child;
            }
            if node == ROOT {
                return ROOT;
            }
            node = self.falls_to[node as usize];
        }
    }

    /// Where `Trie.split` cuts `text`, in its order.
    pub(super) fn cuts(&self, text: &str) -> Vec<usize> {
        let chars: Vec<(usize, char)> = text.char_indices().collect();
        let place = |index: usize| chars.get(index).map_or(text.len(), |&(place, _)| place);
        let mut letters = Letters { chars: &chars, hashes: Vec::new(), powers: Vec::new() };
        let mut cuts = vec![0];
        let mut node = ROOT;
        let mut index = 0;
        while let Some(&(_, c)) = chars.get(index) {
            if self.fallen_ends[node as usize] == NONE {
                node = self.next(node, c);
                index += 1;
                continue;
            }
            let (start, end) = self.found(node, index, &mut letters);
            cuts.extend([place(start), place(end)]);
            // A token that ends here leaves this character for others.
            (node, index) = (ROOT, end);
        }
        if let Some(whole) = Some(self.fallen_ends[node as usize]).filter(|&whole| whole != NONE) {
            cuts.extend([place(index - self.depths[whole as usize] as usize), text.len()]);
        }
        cuts
    }

    /// The token that is taken at the character `index`, where one of those begun, `node` and what it falls
    /// to, is whole: its first character and the one behind it.
    fn found(&self, node: u32, index: usize, letters: &mut Letters<'_>) -> (usize, usize) {
        let whole = self.fallen_ends[node as usize];
        let c = letters.chars[index].1;
        let mut begun = node;
        while begun != whole {
            let start = index - self.depths[begun as usize] as usize;
            let from = self.child(begun, c).unwrap_or(begun);
            if let Some(end) = self.longest(from, index + 1, letters) {
                return (start, end);
            }
            begun = self.falls_to[begun as usize];
        }
        let start = index - self.depths[whole as usize] as usize;
        (start, self.longest(whole, index, letters).unwrap_or(index))
    }

    /// Where the longest token ends that `node` becomes, itself included, by characters from `index` on.
    fn longest(&self, node: u32, index: usize, letters: &mut Letters<'_>) -> Option<usize> {
        let reached = self.walk(node, index, letters);
        let end = self.passed_ends[reached as usize];
        if end == NONE {
            return None;
        }
        let len = self.depths[end as usize].checked_sub(self.depths[node as usize])?;
        Some(index + len as usize)
    }

    /// The deepest node to which characters from `index` on lead from `node`.
    fn walk(&self, mut node: u32, mut index: usize, letters: &mut Letters<'_>) -> u32 {
        // Mostly it is not far.
        for _ in 0..NEAR {
            match letters.chars.get(index).and_then(|&(_, c)| self.child(node, c)) {
                Some(child) => node = child,
                None => return node,
            }
            index += 1;
        }
        let below = (self.heights[node as usize] - self.depths[node as usize]) as usize;
        let (mut reached, mut low, mut high) = (node, 0, below.min(letters.chars.len() - index));
        if low < high {
            letters.hash(self.base);
        }
        while low < high {
            let middle = (low + high).div_ceil(2);
            let hash = letters.behind(self.hashes[node as usize], index, middle);
            match self.by_hash.get(&hash) {
                Some(&found) => (reached, low) = (found, middle),
                None => high = middle - 1,
            }
        }
        reached
    }
}

/// So many characters are walked one by one, before bisection.
const NEAR: usize = 8;

impl Letters<'_> {
    /// Makes the hashes, unless they are there.
    fn hash(&mut self, base: u64) {
        if !self.hashes.is_empty() {
            return;
        }
        let (mut hash, mut power) = (0, 1);
        self.hashes.push(hash);
        self.powers.push(power);
        for &(_, c) in self.chars {
            hash = append(hash, c, base);
            power = times(power, base);
            self.hashes.push(hash);
            self.powers.push(power);
        }
    }

    /// The hash of what has the hash `before`, with `len` characters from `index` on behind it.
    fn behind(&self, before: u64, index: usize, len: usize) -> u64 {
        let (start, end) = (self.hashes[index], self.hashes[index + len]);
        // Both are of a whole beginning: the one is taken from the other, and what was before put in its place.
        (times(before + PRIME - start, self.powers[len]) + end) % PRIME
    }
}

/// Hashes are polynomials of the characters modulo this prime, 2⁶¹ − 1: two beginnings of `n` characters agree by
/// chance in `n` of its values for the base.
const PRIME: u64 = (1 << 61) - 1;

fn times(a: u64, b: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(PRIME)) as u64
}

fn append(hash: u64, c: char, base: u64) -> u64 {
    (times(hash, base) + u64::from(u32::from(c)) + 1) % PRIME
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `Trie.split`, line by line.
    #[derive(Debug)]
    struct CharTrie {
        children: Map<(u32, char), u32>,
        /// Whether a token ends at the node.
        ends: Vec<bool>,
    }

    impl CharTrie {
        fn new<'a>(contents: impl Iterator<Item = &'a str>) -> Self {
            let mut trie = Self { children: Map::default(), ends: vec![false] };
            for content in contents {
                let mut node = ROOT;
                for c in content.chars() {
                    let next = trie.ends.len() as u32;
                    node = *trie.children.entry((node, c)).or_insert(next);
                    if node == next {
                        trie.ends.push(false);
                    }
                }
                trie.ends[node as usize] = true;
            }
            trie
        }

        fn child(&self, node: u32, c: Option<char>) -> Option<u32> {
            self.children.get(&(node, c?)).copied()
        }

        /// Where it cuts `text`, in its order.
        fn cuts(&self, text: &str) -> Vec<usize> {
            let char_at = |index: usize| text[index..].chars().next();
            // Where tokens may have begun, and how far along they are.
            let mut states: Vec<(usize, u32)> = Vec::new();
            let mut cuts = vec![0];
            let mut skip = 0;
            for (current, c) in text.char_indices() {
                if current < skip {
                    continue;
                }
                let after = current + c.len_utf8();
                let mut failed = Vec::new();
                let mut found = false;
                for index in 0..states.len() {
                    let (begin, node) = states[index];
                    if self.ends[node as usize] {
                        let (mut start, mut end) = (begin, current);
                        for &(look_start, look_node) in &states[..=index] {
                            if look_start > start {
                                break;
                            }
                            // Those that began earlier have taken this character already, or have failed at
                            // it, which is not heeded.
                            let mut ahead = if look_start < start { after } else { current };
                            end = ahead;
                            let mut look_node = look_node;
                            if self.ends[look_node as usize] {
                                (start, end, skip) = (look_start, ahead, ahead);
                            }
                            let mut next = char_at(ahead);
                            while let Some(child) = self.child(look_node, next) {
                                look_node = child;
                                ahead += next.map_or(0, char::len_utf8);
                                if self.ends[look_node as usize] {
                                    (start, end, skip) = (look_start, ahead, ahead);
                                }
                                next = char_at(ahead);
                            }
                        }
                        cuts.extend([start, end]);
                        found = true;
                        break;
                    } else if let Some(child) = self.child(node, Some(c)) {
                        states[index].1 = child;
                    } else {
                        failed.push(index);
                    }
                }
                if found {
                    states.clear();
                } else {
                    // Both are in the order of the states.
                    let mut failed = failed.into_iter().peekable();
                    let mut index = 0..;
                    states.retain(|_| failed.next_if_eq(&index.next().unwrap_or(usize::MAX)).is_none());
                }
                if current >= skip {
                    states.extend(self.child(ROOT, Some(c)).map(|child| (current, child)));
                }
            }
            if let Some(&(start, _)) = states.iter().find(|&&(_, node)| self.ends[node as usize]) {
                cuts.extend([start, text.len()]);
            }
            cuts
        }
    }

    proptest! {
        #[test]
        fn cuts_are_those_of_the_letter(
            contents in prop::collection::hash_set("[ab]{1,4}|[abé]{1,3}|[ab]{9,14}c?|a{8,24}b?", 1..8),
            text in "[abcé]{0,60}|(a{1,20}[bc]){0,6}",
        ) {
            let all = || contents.iter().map(String::as_str);
            prop_assert_eq!(LetterTrie::new(all()).cuts(&text), CharTrie::new(all()).cuts(&text));
        }

        #[test]
        fn long_tokens_are_cut_as_by_the_letter(
            parts in prop::collection::vec("a{5,30}|[bc]", 1..8),
            drops in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            inner in "b|c|ab|ca?",
        ) {
            // Tokens that hold one another, and texts that are they with characters put in and left out.
            let long = parts.concat();
            let mut text = long.repeat(3);
            for drop in drops {
                let place = drop.index(text.len());
                text.replace_range(place..=place, if place % 2 == 0 { "" } else { "cc" });
            }
            let contents = [&long[..], &inner, &long[long.len() / 2..]];
            let all = || contents.iter().copied().filter(|content| !content.is_empty());
            prop_assert_eq!(LetterTrie::new(all()).cuts(&text), CharTrie::new(all()).cuts(&text));
        }
    }
}
