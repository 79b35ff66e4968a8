//! Which watchers a key concerns: an index from key ranges to watchers.
//!
//! Watchers of one key stand in an ordered map. Ranges stand in a treap ordered by (start, end) in which every node
//! knows the furthest end below it, so that looking up a key visits only subtrees that can reach it:
//! O(log n + hits) as a rule. Watchers of the same range share a node. The treap's priorities come from a seeded
//! generator, so equal inputs give equal trees; a sorted order of creation, which is common, does not unbalance it.
//!
//! Invariants: every node holds at least one watcher, watchers in ascending order; `furthest` is the greatest end in
//! the node's subtree; a parent's priority is not below its children's.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::mix;
use crate::types::KeyRange;

/// Watchers by key range.
#[derive(Debug)]
pub struct IntervalIndex<W> {
    points: BTreeMap<Bytes, Vec<W>>,
    nodes: Vec<Node<W>>,
    /// Places in `nodes` that are unused.
    free: Vec<usize>,
    root: Link,
    random: u64,
    len: usize,
}

type Link = Option<usize>;

/// Where a range ends; orders by reach.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    /// Just before this key.
    Before(Bytes),
    /// Nowhere.
    Open,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => key < end.as_ref(),
            End::Open => true,
        }
    }
}

#[derive(Debug)]
struct Node<W> {
    start: Bytes,
    end: End,
    furthest: End,
    priority: u64,
    left: Link,
    right: Link,
    watchers: Vec<W>,
}

impl<W> Node<W> {
    fn cmp(&self, start: &Bytes, end: &End) -> Ordering {
        self.start.cmp(start).then_with(|| self.end.cmp(end))
    }
}

impl<W: Copy + Ord> IntervalIndex<W> {
    /// An empty index. The seed shapes the tree, never a result.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        IntervalIndex {
            points: BTreeMap::new(),
            nodes: Vec::new(),
            free: Vec::new(),
            root: None,
            random: seed,
            len: 0,
        }
    }

    /// How many watchers it holds, counted once per range.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a watcher of a range. An empty range is allowed and concerns no key. A pair that is there already stays
    /// there once.
    pub fn insert(&mut self, range: &KeyRange, watcher: W) {
        let watchers = if range.is_single() {
            self.points.entry(range.key.clone()).or_default()
        } else {
            let (start, end) = ends(range);
            let at = match self.find(&start, &end) {
                Some(at) => at,
                None => self.grow(&start, &end),
            };
            &mut self.nodes[at].watchers
        };
        if let Err(at) = watchers.binary_search(&watcher) {
            watchers.insert(at, watcher);
            self.len += 1;
        }
    }

    /// Removes a watcher of a range; false if it was not there.
    pub fn remove(&mut self, range: &KeyRange, watcher: W) -> bool {
        let removed = if range.is_single() {
            self.remove_point(range, watcher)
        } else {
            self.remove_range(range, watcher)
        };
        self.len -= usize::from(removed);
        removed
    }

    /// Calls `hit` for every watcher that `key` concerns, in an order that depends on the contents only: those of
    /// the single key first, then by (start, end) of the range; ascending within a range.
    pub fn stab(&self, key: &[u8], hit: &mut impl FnMut(W)) {
        if let Some(watchers) = self.points.get(key) {
            watchers.iter().copied().for_each(&mut *hit);
        }
        self.visit(self.root, key, hit);
    }

    fn visit(&self, link: Link, key: &[u8], hit: &mut impl FnMut(W)) {
        let Some(node) = link.map(|at| &self.nodes[at]) else {
            return;
        };
        if !node.furthest.is_after(key) {
            return;
        }
        self.visit(node.left, key, hit);
        if node.start.as_ref() > key {
            return;
        }
        if node.end.is_after(key) {
            node.watchers.iter().copied().for_each(&mut *hit);
        }
        self.visit(node.right, key, hit);
    }

    fn remove_point(&mut self, range: &KeyRange, watcher: W) -> bool {
        let Some(watchers) = self.points.get_mut(&range.key) else {
            return false;
        };
        let Ok(at) = watchers.binary_search(&watcher) else {
            return false;
        };
        watchers.remove(at);
        if watchers.is_empty() {
            self.points.remove(&range.key);
        }
        true
    }

    fn remove_range(&mut self, range: &KeyRange, watcher: W) -> bool {
        let (start, end) = ends(range);
        let Some(node) = self.find(&start, &end) else {
            return false;
        };
        let watchers = &mut self.nodes[node].watchers;
        let Ok(at) = watchers.binary_search(&watcher) else {
            return false;
        };
        watchers.remove(at);
        if watchers.is_empty() {
            self.root = self.cut(self.root, &start, &end);
            self.nodes[node] = blank();
            self.free.push(node);
        }
        true
    }

    fn find(&self, start: &Bytes, end: &End) -> Link {
        let mut link = self.root;
        while let Some(at) = link {
            let node = &self.nodes[at];
            link = match node.cmp(start, end) {
                Ordering::Equal => return Some(at),
                Ordering::Greater => node.left,
                Ordering::Less => node.right,
            };
        }
        None
    }

    /// Adds an empty node for a range that has none.
    fn grow(&mut self, start: &Bytes, end: &End) -> usize {
        self.random = self.random.wrapping_add(1);
        let priority = mix(self.random);
        let node = Node {
            start: start.clone(),
            end: end.clone(),
            furthest: end.clone(),
            priority,
            ..blank()
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at] = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.root = Some(self.place(self.root, at, start, end));
        at
    }

    /// Places the node `new` in the subtree; the subtree's new root.
    fn place(&mut self, link: Link, new: usize, start: &Bytes, end: &End) -> usize {
        let Some(at) = link else { return new };
        if self.nodes[new].priority > self.nodes[at].priority {
            let (left, right) = self.split(link, start, end);
            self.nodes[new].left = left;
            self.nodes[new].right = right;
            self.measure(new);
            return new;
        }
        if self.nodes[at].cmp(start, end) == Ordering::Greater {
            self.nodes[at].left = Some(self.place(self.nodes[at].left, new, start, end));
        } else {
            self.nodes[at].right = Some(self.place(self.nodes[at].right, new, start, end));
        }
        self.measure(at);
        at
    }

    /// The subtree's nodes below (start, end), and the others.
    fn split(&mut self, link: Link, start: &Bytes, end: &End) -> (Link, Link) {
        let Some(at) = link else { return (None, None) };
        let halves = if self.nodes[at].cmp(start, end) == Ordering::Less {
            let (left, right) = self.split(self.nodes[at].right, start, end);
            self.nodes[at].right = left;
            (Some(at), right)
        } else {
            let (left, right) = self.split(self.nodes[at].left, start, end);
            self.nodes[at].left = right;
            (left, Some(at))
        };
        self.measure(at);
        halves
    }

    /// Takes the node of (start, end) out of the subtree; the subtree's new root.
    fn cut(&mut self, link: Link, start: &Bytes, end: &End) -> Link {
        let at = link?;
        match self.nodes[at].cmp(start, end) {
            Ordering::Equal => return self.merge(self.nodes[at].left, self.nodes[at].right),
            Ordering::Greater => self.nodes[at].left = self.cut(self.nodes[at].left, start, end),
            Ordering::Less => self.nodes[at].right = self.cut(self.nodes[at].right, start, end),
        }
        self.measure(at);
        Some(at)
    }

    /// Joins two subtrees, all of `left` before all of `right`.
    fn merge(&mut self, left: Link, right: Link) -> Link {
        let (Some(l), Some(r)) = (left, right) else {
            return left.or(right);
        };
        let top = if self.nodes[l].priority > self.nodes[r].priority {
            self.nodes[l].right = self.merge(self.nodes[l].right, right);
            l
        } else {
            self.nodes[r].left = self.merge(left, self.nodes[r].left);
            r
        };
        self.measure(top);
        Some(top)
    }

    /// Sets `furthest` from the node and its children.
    fn measure(&mut self, at: usize) {
        let node = &self.nodes[at];
        let below = [node.left, node.right]
            .into_iter()
            .flatten()
            .map(|child| &self.nodes[child].furthest)
            .max();
        let furthest = below.map_or(&node.end, |below| below.max(&node.end));
        if *furthest != node.furthest {
            self.nodes[at].furthest = furthest.clone();
        }
    }
}

fn ends(range: &KeyRange) -> (Bytes, End) {
    let end = if range.is_open() {
        End::Open
    } else {
        End::Before(range.range_end.clone())
    };
    (range.key.clone(), end)
}

fn blank<W>() -> Node<W> {
    Node {
        start: Bytes::new(),
        end: End::Open,
        furthest: End::Open,
        priority: 0,
        left: None,
        right: None,
        watchers: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &str, end: &str) -> KeyRange {
        KeyRange::new(
            Bytes::copy_from_slice(key.as_bytes()),
            Bytes::copy_from_slice(end.as_bytes()),
        )
    }

    fn hits(index: &IntervalIndex<u32>, key: &str) -> Vec<u32> {
        let mut hits = Vec::new();
        index.stab(key.as_bytes(), &mut |watcher| hits.push(watcher));
        hits
    }

    #[test]
    fn keys_ranges_and_open_ends() {
        let mut index = IntervalIndex::new(1);
        index.insert(&range("b", ""), 1);
        index.insert(&range("a", "c"), 2);
        index.insert(&range("b", "\0"), 3);
        index.insert(&range("z", "a"), 4);
        assert_eq!(hits(&index, "a"), [2]);
        assert_eq!(hits(&index, "b"), [1, 2, 3]);
        assert_eq!(hits(&index, "c"), [3]);
        assert_eq!(hits(&index, "z"), [3]);
        assert_eq!(index.len(), 4);
    }

    #[test]
    fn a_pair_counts_once_and_leaves_once() {
        let mut index = IntervalIndex::new(1);
        for watcher in [7, 5, 7] {
            index.insert(&range("a", "c"), watcher);
            index.insert(&range("a", ""), watcher);
        }
        assert_eq!((hits(&index, "a"), index.len()), (vec![5, 7, 5, 7], 4));
        assert!(index.remove(&range("a", "c"), 7) && !index.remove(&range("a", "c"), 7));
        assert!(index.remove(&range("a", ""), 5) && !index.remove(&range("x", ""), 5));
        assert_eq!((hits(&index, "a"), index.len()), (vec![7, 5], 2));
    }

    #[test]
    fn ten_thousand_ranges_in_order_stay_shallow() {
        let mut index = IntervalIndex::new(1);
        for n in 0..10_000 {
            index.insert(&range(&format!("{n:05}"), &format!("{n:05}~")), n);
        }
        fn depth(index: &IntervalIndex<u32>, link: Link) -> usize {
            link.map_or(0, |at| {
                1 + depth(index, index.nodes[at].left).max(depth(index, index.nodes[at].right))
            })
        }
        assert!(
            depth(&index, index.root) < 60,
            "depth {}",
            depth(&index, index.root)
        );
        assert_eq!(hits(&index, "04711/x"), [4711]);
        for n in 0..10_000 {
            assert!(index.remove(&range(&format!("{n:05}"), &format!("{n:05}~")), n));
        }
        assert!(index.root.is_none() && index.is_empty() && index.free.len() == index.nodes.len());
    }
}
