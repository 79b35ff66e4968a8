//! Entries before the index that a replay is asked for: a member that restarts keeps them in memory, as it did before,
//! for others that lag.
//!
//! How much is read for them is bounded: no more than one segment before the first that is needed anyway.

use std::collections::VecDeque;

use super::Entry;
use crate::types::Index;

/// How many entries before the index asked for a replay returns, if the log still has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retain {
    /// Their number.
    pub entries_max: usize,
    /// Bytes of their data.
    pub bytes_max: usize,
}

/// Such entries, as the log is read.
///
/// Invariants: indexes are consecutive; within the limits; `bytes` is the sum of the entries' data.
pub(super) struct Retained {
    limits: Retain,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Retained {
    pub(super) fn new(limits: Retain) -> Self {
        Retained {
            limits,
            entries: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Whether any are wanted.
    pub(super) fn wants(&self) -> bool {
        self.limits.entries_max > 0
    }

    /// Takes the next entry; the log has been cut to end before it.
    pub(super) fn push(&mut self, entry: Entry) {
        if self
            .entries
            .back()
            .is_some_and(|last| last.index.next() != entry.index)
        {
            self.clear();
        }
        self.bytes += entry.data.len();
        self.entries.push_back(entry);
        while self.entries.len() > self.limits.entries_max || self.bytes > self.limits.bytes_max {
            let Some(dropped) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= dropped.data.len();
        }
    }

    /// Drops the entries from `index` on.
    pub(super) fn cut(&mut self, index: Index) {
        while let Some(last) = self.entries.pop_back_if(|last| last.index >= index) {
            self.bytes -= last.data.len();
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// The entries that lead up to `from`.
    pub(super) fn up_to(self, from: Index) -> Vec<Entry> {
        match self.entries.back() {
            Some(last) if last.index.next() == from => self.entries.into(),
            _ => Vec::new(),
        }
    }
}
