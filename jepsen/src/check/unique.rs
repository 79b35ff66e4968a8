//! Unique: a watcher gets no event twice, be it in one session or again after it resumed behind it.

use std::collections::BTreeSet;

use super::Violation;
use super::violation::Place;
use crate::history::{WatchRecord, event_revision};

/// Looks for events that came twice.
#[must_use]
pub fn check(record: &WatchRecord) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (session, heard) in record.sessions.iter().enumerate() {
        let place = Place {
            process: record.process,
            session,
        };
        let start = heard.request.start_revision;
        // A client that went back on purpose asked for these again.
        seen.retain(|(revision, _, _)| start == 0 || *revision < start);
        for event in heard.events() {
            let revision = event_revision(event);
            let key = event.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
            if !seen.insert((revision, key.clone(), event.r#type)) {
                found.push(Violation::Duplicate { place, revision, key });
            }
        }
    }
    found
}
