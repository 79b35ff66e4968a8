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

impl Truth {
    /// As [`Truth::owed`], without what compaction may have taken: a watch may begin at the compacted revision itself,
    /// and once the compaction is done, each key has only the last of its changes in it (as in etcd).
    pub fn certain<'a>(
        &'a self,
        watch: &'a WatchCreateRequest,
        from: i64,
        upto: i64,
    ) -> impl Iterator<Item = &'a Event> {
        self.owed(watch, from, upto)
            .filter(|event| event_revision(event) != watch.start_revision || !self.may_be_taken(event))
    }

    fn may_be_taken(&self, event: &Event) -> bool {
        let revision = event_revision(event);
        let key = |event: &Event| event.kv.as_ref().map(|kv| kv.key.clone());
        let events = self.events(revision);
        let later = events.iter().skip_while(|other| *other != event).skip(1);
        revision <= self.compacted_max && later.into_iter().any(|other| key(other) == key(event))
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::mvccpb::KeyValue;
    use proto::mvccpb::event::EventType;

    use super::*;

    #[test]
    fn a_compaction_takes_what_was_overwritten_at_its_own_revision() {
        let event = |kind: EventType| Event {
            r#type: kind.into(),
            kv: Some(KeyValue {
                key: Bytes::from_static(b"k"),
                mod_revision: 2,
                ..KeyValue::default()
            }),
            prev_kv: None,
        };
        let events = vec![event(EventType::Put), event(EventType::Delete)];
        let mut truth = Truth::new(events.clone()).unwrap();
        let watch = |start_revision| WatchCreateRequest {
            key: Bytes::from_static(b"k"),
            start_revision,
            ..WatchCreateRequest::default()
        };
        let certain = |truth: &Truth, start| truth.certain(&watch(start), 2, 2).cloned().collect::<Vec<_>>();
        assert_eq!(certain(&truth, 2), events);
        truth.compacted(2);
        assert_eq!(certain(&truth, 2), events[1..]);
        // Who began before it has had all of it, or is told that it cannot.
        assert_eq!(certain(&truth, 1), events);
    }
}
