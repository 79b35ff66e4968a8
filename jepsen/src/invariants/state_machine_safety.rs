//! State Machine Safety (thesis figure 3.2; TLA+ `StateMachineSafety`): if a server has applied a log entry at a given
//! index to its state machine, no other server will ever apply a different log entry for the same index. Checked for
//! what is committed, before it is applied.

use std::collections::BTreeMap;
use std::ops::Bound;

use store::consensus::LogEntry;
use store::types::{Index, Term};

use super::{Breach, Observation};
use crate::sim::member::MemberNumber;

/// The entry that somebody has committed at an index.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) entry: LogEntry,
    pub(super) by: MemberNumber,
    /// The term in which it was first known to be committed.
    pub(super) in_term: Term,
}

/// Everything that anybody has committed.
#[derive(Debug, Default)]
pub(super) struct Committed(BTreeMap<Index, Commit>);

impl Committed {
    pub(super) fn check(&mut self, step: &Observation<'_>) -> Option<Breach> {
        let (before, now) = (step.before, step.now);
        let from = before.map_or(now.view.first.0, |before| before.view.commit.0 + 1);
        let mut found = None;
        for index in (from..=now.view.commit.0).map(Index) {
            // What came with a snapshot, or was committed and left memory in one step, cannot be looked at.
            let Some(entry) = now.entry(index) else {
                continue;
            };
            let known = self.0.entry(index).or_insert_with(|| Commit {
                entry: entry.clone(),
                by: step.member,
                in_term: now.view.term,
            });
            if known.entry != *entry {
                found = found.or(Some(Breach::TwoEntries {
                    member: step.member,
                    other: known.by,
                    index,
                }));
            }
        }
        found
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (Index, &Commit)> {
        self.0.iter().map(|(index, commit)| (*index, commit))
    }

    pub(super) fn after(&self, index: Index) -> impl Iterator<Item = (Index, &Commit)> {
        let entries = self.0.range((Bound::Excluded(index), Bound::Unbounded));
        entries.map(|(index, commit)| (*index, commit))
    }

    pub(super) fn last(&self) -> Index {
        self.0.keys().next_back().copied().unwrap_or_default()
    }
}
