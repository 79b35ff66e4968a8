//! Ordered: a watcher gets events in the order of history, by revision and inside one by sub revision.

use proto::mvccpb::Event;

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
            let from = if revision == last.0 { last.1 } else { 0 };
            let at = position(truth.events(revision), event, from);
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

/// Where in its revision an event happened: at `from` or later if it can be (a key may change twice in a transaction), else
/// where it first did. An event that never happened has no place; `reliable` reports it.
fn position(happened: &[Event], event: &Event, from: usize) -> usize {
    let same = |at: &usize| happened[*at].r#type == event.r#type && happened[*at].kv == event.kv;
    (from..happened.len())
        .find(same)
        .or_else(|| (0..happened.len()).find(same))
        .unwrap_or(from)
}
