//! The Aho-Corasick automaton behind masking, with the depth of each state.
//! Must not know what its patterns mean; ready-made automata do not tell a state's depth, which
//! is how many bytes must be held back.

/// The state in which no pattern has begun.
pub(super) const ROOT: u32 = 0;

/// Finds all occurrences of a set of patterns, one byte at a time.
pub(super) struct Automaton {
    nodes: Vec<Node>,
    /// The root's edges, dense: most bytes of a log are looked up here only.
    first: [u32; 256],
}

#[derive(Default)]
struct Node {
    /// Sorted by byte.
    edges: Vec<(u8, u32)>,
    fail: u32,
    depth: u32,
    /// Length of the longest pattern that ends in this state, 0 for none.
    longest: u32,
}

impl Default for Automaton {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            first: [ROOT; 256],
        }
    }
}

impl Automaton {
    /// Adds a pattern. [`Automaton::link`] must follow before the first search.
    pub(super) fn insert(&mut self, pattern: &[u8]) {
        let mut at = ROOT;
        for (depth, &byte) in (1..).zip(pattern) {
            let edges = &self.nodes[at as usize].edges;
            at = match edges.binary_search_by_key(&byte, |edge| edge.0) {
                Ok(found) => edges[found].1,
                Err(place) => {
                    let new = u32::try_from(self.nodes.len())
                        .expect("an environment is far smaller than 4 GiB");
                    self.nodes[at as usize].edges.insert(place, (byte, new));
                    self.nodes.push(Node {
                        depth,
                        ..Node::default()
                    });
                    new
                }
            };
        }
        let node = &mut self.nodes[at as usize];
        node.longest = node.depth;
    }

    /// Computes the failure links, breadth first.
    pub(super) fn link(&mut self) {
        for &(byte, child) in &self.nodes[ROOT as usize].edges {
            self.first[byte as usize] = child;
        }
        let mut level: Vec<u32> = self
            .first
            .into_iter()
            .filter(|&node| node != ROOT)
            .collect();
        while !level.is_empty() {
            let mut below = Vec::new();
            for parent in level {
                let edges = std::mem::take(&mut self.nodes[parent as usize].edges);
                let fail = self.nodes[parent as usize].fail;
                for &(byte, child) in &edges {
                    let target = self.next(fail, byte);
                    let inherited = self.nodes[target as usize].longest;
                    let node = &mut self.nodes[child as usize];
                    node.fail = target;
                    node.longest = node.longest.max(inherited);
                    below.push(child);
                }
                self.nodes[parent as usize].edges = edges;
            }
            level = below;
        }
    }

    /// The state after `byte`.
    pub(super) fn next(&self, mut state: u32, byte: u8) -> u32 {
        while state != ROOT {
            let node = &self.nodes[state as usize];
            if let Ok(found) = node.edges.binary_search_by_key(&byte, |edge| edge.0) {
                return node.edges[found].1;
            }
            state = node.fail;
        }
        self.first[byte as usize]
    }

    /// How many bytes at the start of `bytes` leave the root where it is.
    pub(super) fn plain_prefix(&self, bytes: &[u8]) -> usize {
        bytes
            .iter()
            .position(|&byte| self.first[byte as usize] != ROOT)
            .unwrap_or(bytes.len())
    }

    /// How many of the last bytes may still grow into a pattern.
    pub(super) fn depth(&self, state: u32) -> usize {
        self.nodes[state as usize].depth as usize
    }

    /// Length of the longest pattern that ends in `state`, 0 for none.
    pub(super) fn longest_match(&self, state: u32) -> usize {
        self.nodes[state as usize].longest as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }
}
