//! The newest revisions, whole and shared: what the backend does not hold yet, and more of them up to a limit of
//! bytes, for watchers that catch up and reads of the near past.
//!
//! Invariants: the mains kept have no gap and end at the store's current revision; a revision above the checkpointed
//! one is never dropped.

use std::collections::VecDeque;

use crate::types::{Change, Revision, SharedRevision};

/// A queue of whole revisions.
#[derive(Clone, Debug)]
pub struct Recent {
    /// Main of the oldest revision kept; the next to come where none is.
    first: i64,
    revisions: VecDeque<SharedRevision>,
    bytes: usize,
    bytes_max: usize,
    checkpointed: i64,
}

impl Recent {
    /// Empty, after `current`, all of which the backend holds.
    pub(super) fn new(current: i64) -> Self {
        Recent {
            first: current + 1,
            revisions: VecDeque::new(),
            bytes: 0,
            bytes_max: RECENT_BYTES_MAX,
            checkpointed: current,
        }
    }

    /// The smallest main kept; one above the current revision where none is.
    #[must_use]
    pub fn first(&self) -> i64 {
        self.first
    }

    /// Everything at or below this main revision is in the backend.
    #[must_use]
    pub fn checkpointed(&self) -> i64 {
        self.checkpointed
    }

    /// Bytes kept: keys, values and an estimate of what surrounds them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The revision `main`, if it is kept.
    #[must_use]
    pub fn get(&self, main: i64) -> Option<&SharedRevision> {
        self.revisions
            .get(usize::try_from(main.checked_sub(self.first)?).ok()?)
    }

    /// One change, if its revision is kept.
    #[must_use]
    pub fn change(&self, revision: Revision) -> Option<&Change> {
        self.get(revision.main)?
            .changes
            .get(usize::try_from(revision.sub).ok()?)
    }

    /// The revisions kept from main `from` on, ascending.
    pub fn range(&self, from: i64) -> impl Iterator<Item = &SharedRevision> {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(0);
        self.revisions.range(skip.min(self.revisions.len())..)
    }

    pub(super) fn push(&mut self, revision: SharedRevision) {
        let next = self.first + i64::try_from(self.revisions.len()).expect("a queue in memory");
        assert_eq!(revision.main, next, "the history in memory has no gap");
        self.bytes += weight(&revision);
        self.revisions.push_back(revision);
        self.trim();
    }

    pub(super) fn set_checkpointed(&mut self, main: i64) {
        self.checkpointed = self.checkpointed.max(main);
        self.trim();
    }

    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.trim();
    }

    fn trim(&mut self) {
        while self.bytes > self.bytes_max && self.first <= self.checkpointed {
            let Some(oldest) = self.revisions.pop_front() else {
                return;
            };
            self.bytes -= weight(&oldest);
            self.first += 1;
        }
    }
}

/// What keeping `revision` costs.
fn weight(revision: &SharedRevision) -> usize {
    revision.bytes() + CHANGE_BYTES * revision.changes.len()
}

/// What a change and its previous state take beside keys and values; an estimate, so that a flood of tiny changes
/// counts too.
const CHANGE_BYTES: usize = 256;

/// How much is kept of what the backend holds already, until told otherwise.
const RECENT_BYTES_MAX: usize = 32 << 20;
