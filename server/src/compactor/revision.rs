//! A number of revisions is kept.

use std::time::Duration;

/// How many, and up to where it was last compacted.
pub(super) struct Revision {
    kept: i64,
    compacted: i64,
}

impl Revision {
    pub(super) fn new(kept: i64) -> Revision {
        Revision { kept, compacted: 0 }
    }

    pub(super) fn kept(&self) -> i64 {
        self.kept
    }

    pub(super) fn due(&self, current: i64, leads: bool) -> Option<i64> {
        let revision = current.saturating_sub(self.kept);
        (leads && revision > 0 && revision != self.compacted).then_some(revision)
    }

    pub(super) fn done(&mut self, compacted: i64) {
        self.compacted = compacted;
    }
}

/// Between two turns.
pub(super) const INTERVAL: Duration = Duration::from_secs(5 * 60);
