//! What happened, revision by revision: the record that the other checks compare with.
//!
//! It comes from the simulator, which sees every applied revision, or from a watch of everything from revision 1 on a
//! member that survived. [`check`] makes sure that it is a possible history by itself.

use proto::etcdserverpb::WatchCreateRequest;
use proto::mvccpb::Event;

use super::Violation;
use super::expect::same_changes;
use crate::history::event_revision;
use crate::model::{Model, wants};

/// All events of all revisions, from the store's first write (revision 2) on.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Truth {
    revisions: Vec<Vec<Event>>,
    compacted_max: i64,
}

const FIRST: i64 = 2;

impl Truth {
    /// Groups events, given in order, by their revisions.
    pub fn new(events: impl IntoIterator<Item = Event>) -> Result<Self, Violation> {
        let mut truth = Truth::default();
        for event in events {
            let revision = event_revision(&event);
            let after = truth.last();
            match truth.revisions.last_mut() {
                Some(last) if revision == after => last.push(event),
                _ if revision == after + 1 => truth.revisions.push(vec![event]),
                _ => {
                    return Err(Violation::RevisionGap {
                        after,
                        found: revision,
                    });
                }
            }
        }
        Ok(truth)
    }

    /// Adds the next revision. Adding one again must not change it (members apply the same log, and replay it).
    pub fn push(&mut self, events: &[Event]) -> Result<(), Violation> {
        let Some(revision) = events.first().map(event_revision) else {
            return Ok(());
        };
        if revision == self.last() + 1 {
            self.revisions.push(events.to_vec());
            return Ok(());
        }
        let known = self.events(revision);
        if known.is_empty() {
            return Err(Violation::RevisionGap {
                after: self.last(),
                found: revision,
            });
        }
        if same_changes(known, events) {
            return Ok(());
        }
        let (found, expected) = (events.to_vec(), known.to_vec());
        Err(Violation::ImpossibleEvents {
            revision,
            found,
            expected,
        })
    }

    /// Notes that history up to `revision` may have been compacted at some time.
    pub fn compacted(&mut self, revision: i64) {
        self.compacted_max = self.compacted_max.max(revision);
    }

    /// The highest revision that may have been compacted.
    #[must_use]
    pub const fn compacted_max(&self) -> i64 {
        self.compacted_max
    }

    /// The newest revision; 1 where nothing was written.
    #[must_use]
    pub fn last(&self) -> i64 {
        FIRST - 1 + i64::try_from(self.revisions.len()).expect("fewer than 2^63 revisions")
    }

    /// The events of one revision; none where there is no such revision.
    #[must_use]
    pub fn events(&self, revision: i64) -> &[Event] {
        usize::try_from(revision - FIRST)
            .ok()
            .and_then(|at| self.revisions.get(at))
            .map_or(&[], Vec::as_slice)
    }

    /// What a watch is owed between two revisions, both included.
    pub fn owed<'a>(
        &'a self,
        watch: &'a WatchCreateRequest,
        from: i64,
        upto: i64,
    ) -> impl Iterator<Item = &'a Event> {
        let upto = upto.min(self.last());
        (from.max(FIRST)..=upto)
            .flat_map(|revision| self.events(revision))
            .filter(|event| wants(watch, event))
    }
}

/// Whether each revision's versions, creations and previous values follow from the revisions before it.
#[must_use]
pub fn check(truth: &Truth) -> Vec<Violation> {
    let mut model = Model::default();
    let mut found = Vec::new();
    for revision in FIRST..=truth.last() {
        let events = truth.events(revision);
        let expected = model.replay(events);
        if !same_changes(&expected, events) {
            found.push(Violation::ImpossibleEvents {
                revision,
                found: events.to_vec(),
                expected,
            });
        }
    }
    found
}
