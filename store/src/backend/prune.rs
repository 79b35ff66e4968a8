//! Which dead revisions are still to be removed from the blocks, and in what order.
//!
//! Compaction reports dead revisions key by key; removing each at once would rewrite most of the history many times
//! over. So they are collected and removed in sweeps, in ascending order of revision, a bounded number of blocks per
//! checkpoint.
//!
//! Invariant: of the dead revisions of one key, an older one never outlives a newer one, at any durable moment.
//! Otherwise a restart in the middle of a sweep could find a put whose tombstone is gone, and the key would live
//! again. It holds because a compaction reports the dead of a key at once, a sweep takes everything reported so far
//! and nothing later, goes upwards, and ends before the next one begins.

use crate::types::Revision;

/// Dead revisions reported and not yet removed.
#[derive(Default, Debug)]
pub(super) struct DeadRevisions {
    /// The sweep under way, descending, so that the next one is at the end.
    sweep: Vec<Revision>,
    /// Reported since it began.
    reported: Vec<Revision>,
}

impl DeadRevisions {
    pub(super) fn report(&mut self, dead: &[Revision]) {
        self.reported.extend_from_slice(dead);
    }

    /// How many are still to be removed.
    pub(super) fn len(&self) -> usize {
        self.sweep.len() + self.reported.len()
    }

    /// Begins a sweep where none is under way and there is enough to remove, or anything when `all` is wanted.
    pub(super) fn maybe_begin(&mut self, all: bool) {
        if self.sweep.is_empty() && (all || self.reported.len() >= SWEEP_REVISIONS_MIN) {
            self.sweep = std::mem::take(&mut self.reported);
            self.sweep.sort_unstable_by(|a, b| b.cmp(a));
            self.sweep.dedup();
        }
    }

    /// The next revision to remove.
    pub(super) fn next(&self) -> Option<Revision> {
        self.sweep.last().copied()
    }

    /// Takes those of the main revisions up to `to`, ascending.
    pub(super) fn take_through(&mut self, to: i64) -> Vec<Revision> {
        let keep = self.sweep.partition_point(|revision| revision.main > to);
        let mut taken = self.sweep.split_off(keep);
        taken.reverse();
        if self.sweep.is_empty() {
            self.sweep.shrink_to_fit();
        }
        taken
    }
}

/// A sweep begins when this many are waiting (16 bytes each), or when the compaction is at its end.
pub(super) const SWEEP_REVISIONS_MIN: usize = 128 << 10;
