//! Configurations (thesis section 4.1): what a member counts by follows from the log that it has applied, the same for all; and
//! a leader appends no change before it has applied the one before, so that any two majorities share a member.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use store::membership::{MemberChange, What};
use store::types::{EntryKind, Index, MemberId};

use super::state_machine_safety::Committed;
use super::{Breach, Configuration, Observation};

/// The configurations by the index of the change that made them; 0 for that of the founders.
#[derive(Debug, Default)]
pub(super) struct Configurations {
    known: BTreeMap<Index, Configuration>,
    /// Committed changes.
    changes: BTreeMap<Index, What>,
    /// Up to where the committed entries were looked at.
    looked_to: Index,
    /// The first entries after some that nobody could look at: they were committed and left memory in one step.
    after_gaps: BTreeSet<Index>,
}

impl Configurations {
    pub(super) fn check(&mut self, step: &Observation<'_>, committed: &Committed) -> Option<Breach> {
        self.look(committed);
        overlap(step).or_else(|| self.count_by(step))
    }

    pub(super) fn count(&self) -> u64 {
        self.known.len().saturating_sub(1) as u64
    }

    fn look(&mut self, committed: &Committed) {
        for (index, commit) in committed.after(self.looked_to) {
            if index != self.looked_to.next() {
                self.after_gaps.insert(index);
            }
            self.looked_to = index;
            if commit.entry.kind == EntryKind::Change
                && let Ok(change) = MemberChange::decode(&commit.entry.data)
            {
                self.changes.insert(index, change.what);
            }
        }
    }

    /// Whether every entry between two indexes, the second included, was looked at.
    fn knows_all(&self, after: Index, upto: Index) -> bool {
        let between = (Bound::Excluded(after), Bound::Included(upto));
        upto <= self.looked_to && self.after_gaps.range(between).next().is_none()
    }

    /// Whether a member's removal is among the changes up to an index. That of the last voter is refused.
    fn has_left(&self, member: MemberId, upto: Index) -> bool {
        let removal = What::Remove(member);
        let removals = self.changes.range(..=upto).filter(|(_, what)| **what == removal);
        removals.into_iter().any(|(index, _)| {
            let before = self.known.range(..index).next_back();
            before.is_none_or(|(_, before)| before.voters != [member])
        })
    }

    /// What the changes between two indexes may have made of a configuration: of several that are applied in one step, only
    /// the last is seen, and whether the membership allowed each, the store's own tests know.
    fn possible(&self, after_index: Index, known: &Configuration, upto: Index) -> Vec<Configuration> {
        let mut possible = vec![known.clone()];
        let between = (Bound::Excluded(after_index), Bound::Included(upto));
        for (_, what) in self.changes.range(between) {
            for before in possible.clone() {
                let changed = after(&before, what);
                if !possible.contains(&changed) {
                    possible.push(changed);
                }
            }
        }
        possible
    }

    fn count_by(&mut self, step: &Observation<'_>) -> Option<Breach> {
        let view = &step.now.view;
        let mut found = Configuration {
            voters: view.voters.clone(),
            learners: view.learners.clone(),
        };
        found.voters.sort_unstable();
        found.learners.sort_unstable();
        // One that joins has applied nothing, and counts nobody.
        if found.voters.is_empty() && view.applied == Index(0) {
            return None;
        }
        // A snapshot counts from when the log begins after it, though its state is put in place later.
        let upto = view.applied.max(Index(view.first.0.saturating_sub(1)));
        // One that has applied its own removal goes on in the configuration before it, until others know.
        if self.has_left(view.member, upto) {
            return None;
        }
        let last = self.changes.range(..=upto).next_back();
        let index = last.map_or(Index(0), |(index, _)| *index);
        // There may have been a change among those that nobody could look at.
        if upto > index && !self.knows_all(index, upto) {
            return None;
        }
        let expected = match self.known.range(..=index).next_back() {
            Some((at, known)) if self.knows_all(*at, index) => self.possible(*at, known, index),
            _ => vec![found.clone()],
        };
        if expected.contains(&found) {
            self.known.insert(index, found);
            return None;
        }
        Some(Breach::WrongConfiguration {
            member: step.member,
            index,
            found,
            expected,
        })
    }
}

/// What a change makes of a configuration.
fn after(before: &Configuration, what: &What) -> Configuration {
    let mut after = before.clone();
    let id = what.member();
    match what {
        What::Add(member) if member.is_learner => after.learners.push(id),
        What::Add(_) => after.voters.push(id),
        What::Promote(_) => {
            after.learners.retain(|learner| *learner != id);
            after.voters.push(id);
        }
        What::Remove(_) => {
            after.learners.retain(|learner| *learner != id);
            after.voters.retain(|voter| *voter != id);
        }
        What::Update(..) => {}
    }
    after.voters.sort_unstable();
    after.learners.sort_unstable();
    after
}

/// A change of the present leader's own behind one that it has not applied.
fn overlap(step: &Observation<'_>) -> Option<Breach> {
    let view = &step.now.view;
    if !step.now.leads() {
        return None;
    }
    let not_applied = step.now.log.iter().filter(|entry| entry.index > view.applied);
    let changes: Vec<_> = not_applied
        .filter(|entry| entry.kind == EntryKind::Change)
        .collect();
    changes.windows(2).find_map(|pair| {
        let [first, second] = pair else { return None };
        (second.term == view.term).then_some(Breach::ChangesOverlap {
            member: step.member,
            term: view.term,
            first: first.index,
            second: second.index,
        })
    })
}
