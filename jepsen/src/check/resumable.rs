//! Resumable: a watch that begins at a revision gets everything from there on, so that a client whose stream broke can go on
//! behind the last thing it got. Only compaction may take that away, and only where it really passed.

use super::violation::Place;
use super::{Truth, Violation};
use crate::history::{WatchRecord, WatchSession, event_revision};

/// Looks at how each session begins, and how it ends.
#[must_use]
pub fn check(record: &WatchRecord, truth: &Truth) -> Vec<Violation> {
    let mut found = Vec::new();
    for (session, heard) in record.sessions.iter().enumerate() {
        let place = Place {
            process: record.process,
            session,
        };
        found.extend(check_begin(place, heard, truth));
        found.extend(check_end(place, heard));
        if let Some(before) = session.checked_sub(1).map(|before| &record.sessions[before]) {
            found.extend(check_resumption(place, before, heard));
        }
    }
    found
}

fn check_begin(place: Place, heard: &WatchSession, truth: &Truth) -> Vec<Violation> {
    let Some(first) = heard.events().next().map(event_revision) else {
        return Vec::new();
    };
    let created = heard
        .responses
        .first()
        .is_some_and(|first| first.response.created);
    let Some(start) = heard.owed_from().filter(|_| created) else {
        return vec![Violation::NotCreated { place }];
    };
    let owed = truth.owed(&heard.request, start, first).next();
    let certain = truth.certain(&heard.request, start, first).next();
    match certain.map(event_revision) {
        Some(expected) if expected == first => Vec::new(),
        _ if owed.map(event_revision) == Some(first) => Vec::new(),
        Some(expected) => vec![Violation::WrongStart {
            place,
            start,
            found: first,
            expected,
        }],
        // It begins before anything that it is owed.
        None => vec![Violation::WrongStart {
            place,
            start,
            found: first,
            expected: start,
        }],
    }
}

fn check_end(place: Place, heard: &WatchSession) -> Vec<Violation> {
    let mut found = Vec::new();
    let canceled = heard.responses.iter().position(|h| h.response.canceled);
    if let Some(at) = canceled
        && heard.responses[at + 1..]
            .iter()
            .any(|h| !h.response.canceled && h.response.watch_id != -1)
    {
        found.push(Violation::AfterCancel { place });
    }
    if let Some(compacted) = heard.compacted_at() {
        let last = heard.events().map(event_revision).max();
        let needed = last.map(|last| last + 1).max(heard.owed_from()).unwrap_or(0);
        if needed >= compacted {
            found.push(Violation::NeedlesslyCancelled {
                place,
                compacted,
                needed,
            });
        }
    }
    found
}

fn check_resumption(place: Place, before: &WatchSession, heard: &WatchSession) -> Option<Violation> {
    let start = heard.request.start_revision;
    // A session that was never created left nothing to resume; one that compaction overtook cannot be resumed.
    let resumable = before.created_at().is_some() && before.compacted_at().is_none();
    let expected = before.resume_from();
    (resumable && start != expected).then_some(Violation::WrongResumption {
        place,
        start,
        expected,
    })
}
