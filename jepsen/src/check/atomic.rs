//! Atomic: all events of one revision come in one response, or in one chain of fragments.

use std::collections::BTreeSet;

use super::Violation;
use super::violation::Place;
use crate::history::{WatchRecord, WatchSession, event_revision};

/// Looks for revisions that were split.
#[must_use]
pub fn check(record: &WatchRecord) -> Vec<Violation> {
    let sessions = record.sessions.iter().enumerate();
    sessions
        .flat_map(|(session, heard)| {
            check_session(
                Place {
                    process: record.process,
                    session,
                },
                heard,
            )
        })
        .collect()
}

fn check_session(place: Place, heard: &WatchSession) -> Vec<Violation> {
    let mut found = Vec::new();
    // The revisions of the chains that are complete, and of the one that is open.
    let mut closed = BTreeSet::new();
    let mut open = BTreeSet::new();
    let mut in_chain = false;
    for response in heard.responses.iter().map(|heard| &heard.response) {
        if response.events.is_empty() {
            if in_chain {
                let revision = open.last().copied().unwrap_or(0);
                found.push(Violation::BrokenFragments { place, revision });
            }
            continue;
        }
        for revision in response.events.iter().map(event_revision) {
            if closed.contains(&revision) && open.insert(revision) {
                found.push(Violation::SplitRevision { place, revision });
            }
            open.insert(revision);
        }
        in_chain = response.fragment;
        if !in_chain {
            closed.append(&mut open);
        }
    }
    found
}
