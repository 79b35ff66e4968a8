//! Ordered: a watcher gets events in the order of history, by revision and inside one by sub revision.

use super::violation::Place;
use super::{Truth, Violation};
use crate::history::{WatchRecord, event_revision};

/// Looks for events that came before an earlier one.
#[must_use]
pub fn check(record: &WatchRecord, truth: &Truth) -> Vec<Violation> {
    let mut found = Vec::new();
    for (session, heard) in record.sessions.iter().enumerate() {
        let place = Place {
            process: record.process,
            session,
        };
        let mut last = (0, 0);
        for event in heard.events() {
            let revision = event_revision(event);
            let key = event.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
            // An event that never happened has no place in its revision; `reliable` reports it.
            let happened = truth.events(revision);
            let at = happened
                .iter()
                .position(|h| h.r#type == event.r#type && h.kv == event.kv);
            let at = at.unwrap_or(if revision == last.0 { last.1 } else { 0 });
            if revision < last.0 {
                found.push(Violation::Reordered {
                    place,
                    revision,
                    after: last.0,
                });
            } else if (revision, at) < last {
                found.push(Violation::ReorderedWithin { place, revision, key });
            }
            last = last.max((revision, at));
        }
    }
    found
}
