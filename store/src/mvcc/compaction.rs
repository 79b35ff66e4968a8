//! Compaction: history below a revision is given up, at once for every reader (*logical*, replicated), and in
//! bounded steps for the index and the backend (*physical*, each member at its own pace).
//!
//! No answer may depend on how far the physical part has got. It only drops revisions that the logical one has put
//! out of sight, so it can stop anywhere and begin anew: after a restart it starts over at the first key. A newer
//! compaction takes over from one under way, since it drops a superset.

use std::ops::Bound;

use bytes::Bytes;

use super::Mvcc;
use super::key_index::Trimmed;
use crate::error::RequestError;
use crate::types::Revision;

/// A physical compaction that has work left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compaction {
    /// What it compacts to.
    pub revision: i64,
    /// The compacted revision before it, -1 for none; unknown after a restart. Only the kept hash needs it.
    pub previous: Option<i64>,
    /// The last key done with; the next step begins after it.
    cursor: Option<Bytes>,
}

impl Compaction {
    pub(super) fn new(revision: i64, previous: Option<i64>) -> Self {
        Compaction {
            revision,
            previous,
            cursor: None,
        }
    }
}

/// What one physical step did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CompactionStep {
    /// Revisions out of the index, to be pruned from the backend; in key order.
    pub dead: Vec<Revision>,
    /// Nothing is left to do.
    pub done: bool,
}

impl Mvcc {
    /// Compacts to `revision` logically; the physical steps are then to be made with
    /// [`compaction_step`](Self::compaction_step).
    pub fn compact(&mut self, revision: i64) -> Result<(), RequestError> {
        if revision <= self.compacted {
            return Err(RequestError::Compacted {
                requested: revision,
                compacted: self.compacted,
            });
        }
        if revision > self.current {
            return Err(RequestError::FutureRevision {
                requested: revision,
                current: self.current,
            });
        }
        self.compaction = Some(Compaction::new(revision, Some(self.compacted)));
        self.compacted = revision;
        Ok(())
    }

    /// The physical compaction under way.
    #[must_use]
    pub fn compaction(&self) -> Option<&Compaction> {
        self.compaction.as_ref()
    }

    /// Works on the compaction under way: visits keys and drops revisions, together at most `keys_max` (at least 1)
    /// and a few.
    pub fn compaction_step(&mut self, keys_max: usize) -> CompactionStep {
        let mut step = CompactionStep::default();
        let Some(mut compaction) = self.compaction.take() else {
            return CompactionStep { done: true, ..step };
        };
        let start = match &compaction.cursor {
            Some(key) => Bound::Excluded(key.as_ref()),
            None => Bound::Unbounded,
        };
        let (mut visited, mut gone, mut at, mut more) = (0, Vec::new(), compaction.cursor.clone(), false);
        for (key, slot) in self.index.range_mut((start, Bound::Unbounded)) {
            if visited + step.dead.len() >= keys_max.max(1) {
                more = true;
                break;
            }
            visited += 1;
            let room = keys_max.saturating_sub(step.dead.len()).max(1);
            match slot.trim(compaction.revision, room, &mut step.dead) {
                Trimmed::Done => {}
                Trimmed::Gone => gone.push(key.clone()),
                // The key has more to drop: stay before it.
                Trimmed::More => {
                    more = true;
                    break;
                }
            }
            at = Some(key.clone());
        }
        gone.iter().for_each(|key| self.index.remove(key));
        self.revisions -= step.dead.len() as u64;
        step.done = !more;
        if more {
            compaction.cursor = at;
            self.compaction = Some(compaction);
        }
        step
    }
}
