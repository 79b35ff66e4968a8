//! Unique: a watcher gets no event twice, be it in one session or again after it resumed behind it.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::mvccpb::Event;

use super::violation::Place;
use super::{Truth, Violation};
use crate::history::{WatchRecord, event_revision};

/// Looks for events that came more often than they happened. (A transaction can delete a key, put it and delete it again:
/// then two equal events are two events.)
#[must_use]
pub fn check(record: &WatchRecord, truth: &Truth) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut seen: BTreeMap<_, usize> = BTreeMap::new();
    for (session, heard) in record.sessions.iter().enumerate() {
        let place = Place {
            process: record.process,
            session,
        };
        let start = heard.request.start_revision;
        // A client that went back on purpose asked for these again.
        seen.retain(|(revision, _, _), _| start == 0 || *revision < start);
        for event in heard.events() {
            let revision = event_revision(event);
            let key = event.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
            let same = |other: &&Event| other.r#type == event.r#type && key_of(other) == Some(&key);
            // What never happened may not come either, but that is for `reliable` to say.
            let happened = truth.events(revision).iter().filter(same).count().max(1);
            let times = seen.entry((revision, key.clone(), event.r#type)).or_default();
            *times += 1;
            if *times > happened {
                found.push(Violation::Duplicate { place, revision, key });
            }
        }
    }
    found
}

fn key_of(event: &Event) -> Option<&Bytes> {
    event.kv.as_ref().map(|kv| &kv.key)
}
