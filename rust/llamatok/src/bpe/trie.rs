//! A double-array trie over bytes, for the longest piece at a position.

/// A trie. The child of a node for byte `b` is the node `base ^ b`, if that node has the label `b`. No
/// two nodes have the same base, so a node with the label `b` is the child of the one node with the
/// base that is its own number `^ b`.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    /// For each node its base, whether a key ends there, and its label.
    nodes: Vec<u32>,
    values: Vec<u32>,
}

const LABEL: u32 = 0xFF;
const KEY_ENDS: u32 = 1 << 8;
const BASE_SHIFT: u32 = 9;
/// The most nodes that bases can name.
const MAX_NODES: usize = 1 << (32 - BASE_SHIFT);

impl Trie {
    /// A trie of `keys`, which must be sorted, distinct, and not empty; `None` if it would be too large.
    pub(crate) fn new(keys: &[(&[u8], u32)]) -> Option<Self> {
        let mut builder = Builder::default();
        // The first block holds the root and nothing else: its nodes have labels that no look-up from
        // base 0, the base of nodes without children, asks for.
        builder.grow();
        for node in 0..BLOCK {
            builder.take(node, node & LABEL ^ 1);
        }
        builder.grow();
        // Each entry: a node, how many bytes lead up to it, and the keys below it.
        let mut todo = vec![(0u32, 0usize, 0..keys.len())];
        let mut labels: Vec<(u8, std::ops::Range<usize>)> = Vec::new();
        while let Some((node, depth, range)) = todo.pop() {
            let mut rest = range;
            if rest.start < rest.end && keys[rest.start].0.len() == depth {
                builder.trie.nodes[node as usize] |= KEY_ENDS;
                builder.trie.values[node as usize] = keys[rest.start].1;
                rest.start += 1;
            }
            labels.clear();
            while rest.start < rest.end {
                let label = keys[rest.start].0[depth];
                let len = keys[rest.clone()].partition_point(|(key, _)| key[depth] <= label);
                labels.push((label, rest.start..rest.start + len));
                rest.start += len;
            }
            if labels.is_empty() {
                continue;
            }
            let base = builder.find_base(&labels);
            if builder.trie.nodes.len() > MAX_NODES {
                return None;
            }
            builder.used_bases[base as usize] = true;
            builder.trie.nodes[node as usize] |= base << BASE_SHIFT;
            for (label, range) in labels.drain(..) {
                let child = base ^ u32::from(label);
                builder.take(child, u32::from(label));
                todo.push((child, depth + 1, range));
            }
        }
        builder.label_free_nodes();
        Some(builder.trie)
    }

    /// As [`longest_prefix`](Self::longest_prefix), and how many bytes of `text` were looked at.
    pub(crate) fn longest_prefix_and_reach(&self, text: &[u8]) -> (Option<u32>, usize) {
        let mut found = None;
        let Some(root) = self.nodes.first() else { return (None, 0) };
        let mut base = *root >> BASE_SHIFT;
        for (index, &byte) in text.iter().enumerate() {
            let child = base ^ u32::from(byte);
            let node = self.nodes.get(child as usize).filter(|&&node| node & LABEL == u32::from(byte));
            let Some(&node) = node else { return (found, index + 1) };
            if node & KEY_ENDS != 0 {
                found = Some(self.values[child as usize]);
            }
            base = node >> BASE_SHIFT;
        }
        (found, text.len())
    }

    /// The value of the longest key that `text` begins with.
    #[inline]
    pub(crate) fn longest_prefix(&self, text: &[u8]) -> Option<u32> {
        let mut found = None;
        let mut base = *self.nodes.first()? >> BASE_SHIFT;
        for &byte in text {
            let child = base ^ u32::from(byte);
            let Some(&node) = self.nodes.get(child as usize) else { break };
            if node & LABEL != u32::from(byte) {
                break;
            }
            if node & KEY_ENDS != 0 {
                found = Some(child);
            }
            base = node >> BASE_SHIFT;
        }
        found.map(|node| self.values[node as usize])
    }
}

/// A trie in the making, with its free nodes in a ring.
#[derive(Default)]
struct Builder {
    trie: Trie,
    is_free: Vec<bool>,
    used_bases: Vec<bool>,
    /// For each node, the next and the previous free one; meaningful for free ones.
    next: Vec<u32>,
    prev: Vec<u32>,
    head: Option<u32>,
}

/// A base and the children of it lie in the same block of so many nodes.
const BLOCK: u32 = 256;
/// How many free nodes are tried before new ones are made: a bound on the time to build.
const MAX_TRIES: usize = 64;

impl Builder {
    /// Adds a block of free nodes.
    fn grow(&mut self) {
        let start = self.trie.nodes.len() as u32;
        let len = (start + BLOCK) as usize;
        self.trie.nodes.resize(len, 0);
        self.trie.values.resize(len, 0);
        self.is_free.resize(len, true);
        self.used_bases.resize(len, false);
        for node in start..start + BLOCK {
            self.next.push(node);
            self.prev.push(node);
            if let Some(head) = self.head {
                let last = self.prev[head as usize];
                self.next[last as usize] = node;
                self.prev[node as usize] = last;
                self.next[node as usize] = head;
                self.prev[head as usize] = node;
            } else {
                self.head = Some(node);
            }
        }
    }

    /// Takes a free node.
    fn take(&mut self, node: u32, label: u32) {
        self.trie.nodes[node as usize] = label;
        self.is_free[node as usize] = false;
        let (next, prev) = (self.next[node as usize], self.prev[node as usize]);
        self.next[prev as usize] = next;
        self.prev[next as usize] = prev;
        if self.head == Some(node) {
            self.head = (next != node).then_some(next);
        }
    }

    /// A base that no other node has, with free nodes for children with `labels`.
    fn find_base(&mut self, labels: &[(u8, std::ops::Range<usize>)]) -> u32 {
        let first = u32::from(labels[0].0);
        let mut candidate = self.head;
        for _ in 0..MAX_TRIES {
            let Some(node) = candidate else { break };
            let base = node ^ first;
            let fits = |label: u8| self.is_free[(base ^ u32::from(label)) as usize];
            if !self.used_bases[base as usize] && labels.iter().all(|&(label, _)| fits(label)) {
                return base;
            }
            candidate = Some(self.next[node as usize]).filter(|&next| Some(next) != self.head);
        }
        // A new block has room for any set of labels.
        let base = self.trie.nodes.len() as u32;
        self.grow();
        base
    }

    /// Gives each free node a label that makes it the child of a base that no node has. There is one
    /// in its block: each base in use has a child there, so they are fewer than the nodes.
    fn label_free_nodes(&mut self) {
        for node in (0..self.is_free.len() as u32).filter(|&node| self.is_free[node as usize]) {
            let unused = (0..BLOCK).find(|label| !self.used_bases[(node ^ label) as usize]);
            self.trie.nodes[node as usize] = unused.unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_the_longest_key(
            keys in proptest::collection::btree_set(proptest::collection::vec(any::<u8>(), 1..5), 1..400),
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 20),
        ) {
            let keys: Vec<_> = keys.iter().map(Vec::as_slice).zip(0..).collect();
            let trie = Trie::new(&keys).unwrap();
            for text in texts.iter().map(Vec::as_slice).chain(keys.iter().map(|&(key, _)| key)) {
                let expected = keys.iter().filter(|(key, _)| text.starts_with(key)).max_by_key(|(key, _)| key.len());
                prop_assert_eq!(trie.longest_prefix(text), expected.map(|&(_, value)| value));
            }
        }
    }
}
