//! A double-array trie over bytes, for the longest piece at a position.

/// A trie. The child of node `n` for byte `b` is the node `base(n) ^ b`, if its parent is `n`.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    values: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// The base, and in the top bit whether a key ends here.
    base: u32,
    parent: u32,
}

const KEY_ENDS: u32 = 1 << 31;
const NO_PARENT: u32 = u32::MAX;
const FREE: Node = Node { base: 0, parent: NO_PARENT };

impl Trie {
    /// A trie of `keys`, which must be sorted, distinct, and not empty strings.
    pub(crate) fn new(keys: &[(&[u8], u32)]) -> Self {
        let mut builder = Builder::default();
        builder.grow();
        builder.take(0, NO_PARENT - 1);
        // Each entry: a node, how many bytes lead up to it, and the keys below it.
        let mut todo = vec![(0u32, 0usize, 0..keys.len())];
        let mut labels: Vec<(u8, std::ops::Range<usize>)> = Vec::new();
        while let Some((node, depth, range)) = todo.pop() {
            let mut rest = range;
            if rest.start < rest.end && keys[rest.start].0.len() == depth {
                builder.trie.nodes[node as usize].base |= KEY_ENDS;
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
            builder.trie.nodes[node as usize].base |= base;
            for (label, range) in labels.drain(..) {
                let child = base ^ u32::from(label);
                builder.take(child, node);
                todo.push((child, depth + 1, range));
            }
        }
        builder.trie
    }

    /// The value of the longest key that `text` begins with.
    #[inline]
    pub(crate) fn longest_prefix(&self, text: &[u8]) -> Option<u32> {
        let mut node = 0u32;
        let mut found = None;
        let mut base = self.nodes.first()?.base & !KEY_ENDS;
        for &byte in text {
            let child = base ^ u32::from(byte);
            match self.nodes.get(child as usize) {
                Some(entry) if entry.parent == node => {
                    if entry.base & KEY_ENDS != 0 {
                        found = Some(child);
                    }
                    base = entry.base & !KEY_ENDS;
                    node = child;
                }
                _ => break,
            }
        }
        found.map(|node| self.values[node as usize])
    }
}

/// A trie in the making, with its free nodes in a ring.
#[derive(Default)]
struct Builder {
    trie: Trie,
    /// For each node, the next and the previous free one; meaningful for free ones.
    next: Vec<u32>,
    prev: Vec<u32>,
    head: Option<u32>,
}

/// How many free nodes are tried before new ones are made: a bound on the time to build.
const MAX_TRIES: usize = 64;

impl Builder {
    fn grow(&mut self) {
        let start = self.trie.nodes.len() as u32;
        self.trie.nodes.resize(start as usize + 256, FREE);
        self.trie.values.resize(start as usize + 256, 0);
        for node in start..start + 256 {
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

    fn take(&mut self, node: u32, parent: u32) {
        self.trie.nodes[node as usize].parent = parent;
        let (next, prev) = (self.next[node as usize], self.prev[node as usize]);
        self.next[prev as usize] = next;
        self.prev[next as usize] = prev;
        if self.head == Some(node) {
            self.head = (next != node).then_some(next);
        }
    }

    fn find_base(&mut self, labels: &[(u8, std::ops::Range<usize>)]) -> u32 {
        let first = u32::from(labels[0].0);
        let mut candidate = self.head;
        for _ in 0..MAX_TRIES {
            let Some(node) = candidate else { break };
            let base = node ^ first;
            let is_free = |child: u32| self.trie.nodes[child as usize].parent == NO_PARENT;
            if labels.iter().all(|(label, _)| is_free(base ^ u32::from(*label))) {
                return base;
            }
            candidate = Some(self.next[node as usize]).filter(|&next| Some(next) != self.head);
        }
        // A new block of 256 nodes has room for any set of labels.
        let base = self.trie.nodes.len() as u32;
        self.grow();
        base
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
            let trie = Trie::new(&keys);
            for text in texts.iter().map(Vec::as_slice).chain(keys.iter().map(|&(key, _)| key)) {
                let expected = keys.iter().filter(|(key, _)| text.starts_with(key)).max_by_key(|(key, _)| key.len());
                prop_assert_eq!(trie.longest_prefix(text), expected.map(|&(_, value)| value));
            }
        }
    }
}
