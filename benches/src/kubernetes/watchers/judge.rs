//! What was to be seen, what was seen, and the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::time::Instant;

use serde::Serialize;

/// What happened to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deed {
    Added,
    Modified,
    Deleted,
}

/// A change of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) revision: i64,
    pub(super) namespace: u16,
    /// Of the pod; [`LAST`] of the last one of its namespace.
    pub(super) pod: u32,
    pub(super) deed: Deed,
}

/// A change as a client saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) change: Change,
    pub(super) at: Instant,
}

/// A write that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    pub(super) namespace: u16,
    pub(super) pod: u32,
    pub(super) deed: Deed,
    /// Not known of a deletion, of which a pod has no more than one.
    pub(super) revision: Option<i64>,
    /// When it was to be made.
    pub(super) due: Instant,
}

/// How clients fared, in events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Seen as they were.
    pub delivered: u64,
    /// Not seen.
    pub lost: u64,
    /// Seen again.
    pub doubled: u64,
    /// Seen after one that came later.
    pub disordered: u64,
    /// Seen, but nothing of the kind happened.
    pub wrong: u64,
}

impl Verdict {
    /// Whether every event was seen once and in order, and nothing else.
    #[must_use]
    pub fn is_faultless(&self) -> bool {
        (self.lost, self.doubled, self.disordered, self.wrong) == (0, 0, 0, 0)
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.wrong += other.wrong;
    }
}

/// Judges what a client saw of the changes, which are in the order of their revisions.
pub(super) fn judge(expected: &[Change], seen: &[Event]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut known = vec![false; expected.len()];
    let mut newest = i64::MIN;
    for Event { change, .. } in seen {
        let found = expected.binary_search_by_key(&change.revision, |other| other.revision);
        match found {
            Ok(at) if expected[at] == *change && known[at] => verdict.doubled += 1,
            Ok(at) if expected[at] == *change => {
                known[at] = true;
                verdict.delivered += 1;
                if change.revision < newest {
                    verdict.disordered += 1;
                }
            }
            _ => verdict.wrong += 1,
        }
        newest = newest.max(change.revision);
    }
    verdict.lost = known.iter().filter(|known| !**known).count() as u64;
    verdict
}

/// Finds the changes that the writes made: when each was due, by its revision, and how many of either are left over.
pub(super) fn account(truth: &[Change], writes: &[Write]) -> (BTreeMap<i64, Instant>, u64) {
    let by_revision: BTreeMap<i64, &Change> = truth.iter().map(|change| (change.revision, change)).collect();
    let deletions: BTreeMap<u32, &Change> = truth
        .iter()
        .filter(|change| change.deed == Deed::Deleted)
        .map(|change| (change.pod, change))
        .collect();
    let mut due_at = BTreeMap::new();
    let mut left_over = 0;
    for write in writes {
        let change = match write.revision {
            Some(revision) => by_revision.get(&revision),
            None => deletions.get(&write.pod),
        };
        let told = (write.namespace, write.pod, write.deed);
        match change {
            Some(change) if (change.namespace, change.pod, change.deed) == told => {
                if due_at.insert(change.revision, write.due).is_some() {
                    left_over += 1;
                }
            }
            _ => left_over += 1,
        }
    }
    let made: BTreeSet<i64> = due_at.keys().copied().collect();
    let nobodys = truth.iter().filter(|change| !made.contains(&change.revision));
    left_over += nobodys.count() as u64;
    (due_at, left_over)
}

/// The number of the last pod of a namespace.
pub(super) const LAST: u32 = u32::MAX;

/// The name of the pod of that number.
pub(super) fn name_of_pod(pod: u32) -> String {
    match pod {
        LAST => "last".to_owned(),
        number => format!("hand-{number:07}"),
    }
}

/// The number in a pod's name.
pub(super) fn pod_of(name: &str) -> Option<u32> {
    match name {
        "last" => Some(LAST),
        name => name.strip_prefix("hand-")?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: i64, pod: u32, deed: Deed) -> Change {
        Change {
            revision,
            namespace: 0,
            pod,
            deed,
        }
    }

    fn seen(changes: &[Change]) -> Vec<Event> {
        let at = Instant::now();
        changes.iter().map(|&change| Event { change, at }).collect()
    }

    #[test]
    fn every_fault_has_its_name() {
        let all = [
            change(5, 1, Deed::Added),
            change(7, 1, Deed::Modified),
            change(9, 1, Deed::Deleted),
        ];
        let [a, b, c] = all;
        let other_deed = change(9, 1, Deed::Modified);
        let nobodys = change(8, 1, Deed::Modified);
        for (events, expected) in [
            (vec![a, b, c], (3, 0, 0, 0, 0)),
            (vec![a, c], (2, 1, 0, 0, 0)),
            (vec![], (0, 3, 0, 0, 0)),
            (vec![a, b, b, c], (3, 0, 1, 0, 0)),
            (vec![a, c, b], (3, 0, 0, 1, 0)),
            (vec![a, b, other_deed], (2, 1, 0, 0, 1)),
            (vec![a, b, nobodys, c], (3, 0, 0, 0, 1)),
        ] {
            let verdict = judge(&all, &seen(&events));
            let Verdict {
                delivered,
                lost,
                doubled,
                disordered,
                wrong,
            } = verdict;
            assert_eq!(
                (delivered, lost, doubled, disordered, wrong),
                expected,
                "{events:?}"
            );
            assert_eq!(verdict.is_faultless(), events == all);
        }
    }

    #[test]
    fn writes_and_changes_are_the_same() {
        let due = Instant::now();
        let write = |revision, pod, deed| Write {
            namespace: 0,
            pod,
            deed,
            revision,
            due,
        };
        let truth = [change(5, 1, Deed::Added), change(9, 1, Deed::Deleted)];
        let added = write(Some(5), 1, Deed::Added);
        let deleted = write(None, 1, Deed::Deleted);
        let left_over = |writes: &[Write]| account(&truth, writes).1;
        assert_eq!(left_over(&[added, deleted]), 0);
        assert_eq!(left_over(&[added]), 1, "nobody deleted it");
        assert_eq!(left_over(&[added, deleted, deleted]), 1);
        assert_eq!(left_over(&[added, deleted, write(Some(6), 2, Deed::Added)]), 1);
        assert_eq!(left_over(&[added, write(Some(9), 1, Deed::Modified)]), 2);
        let (due_at, _) = account(&truth, &[added, deleted]);
        assert_eq!(due_at.into_keys().collect::<Vec<_>>(), [5, 9]);
    }

    #[test]
    fn names_are_numbers() {
        for pod in [0, 17, 12_345_678, LAST] {
            assert_eq!(pod_of(&name_of_pod(pod)), Some(pod));
        }
        assert_eq!(pod_of("other"), None);
    }
}
