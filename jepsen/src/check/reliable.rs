//! Reliable: between two events that a watcher got, nothing is missing, nothing is invented, and each event is what
//! happened. Where the run waited for the watcher, that holds up to the revision it waited for.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::mvccpb::Event;

use super::expect::same_event;
use super::violation::Place;
use super::{Truth, Violation};
use crate::history::{WatchRecord, WatchSession, event_revision};

/// Looks for missing, invented and distorted events.
#[must_use]
pub fn check(record: &WatchRecord, truth: &Truth) -> Vec<Violation> {
    let last = record.sessions.len().saturating_sub(1);
    let mut found = Vec::new();
    for (session, heard) in record.sessions.iter().enumerate() {
        let place = Place {
            process: record.process,
            session,
        };
        let drained_to = record
            .drained_to
            .filter(|_| session == last && heard.compacted_at().is_none());
        found.extend(missing(place, heard, truth, drained_to));
        found.extend(untrue(place, heard, truth));
    }
    found
}

fn missing(place: Place, heard: &WatchSession, truth: &Truth, drained_to: Option<i64>) -> Vec<Violation> {
    let revisions = || heard.events().map(event_revision);
    // From where on nothing may be missing: the first event, or for a drained watcher all that it is owed.
    let from = drained_to
        .and_then(|_| heard.owed_from())
        .or_else(|| revisions().min());
    let upto = drained_to.max(complete_upto(heard));
    let (Some(from), Some(upto)) = (from, upto) else {
        return Vec::new();
    };
    let mut got: BTreeMap<(i64, Bytes, i32), usize> = BTreeMap::new();
    for event in heard.events() {
        *got.entry(identity(event)).or_default() += 1;
    }
    truth
        .certain(&heard.request, from, upto)
        .map(identity)
        .filter(|owed| match got.get_mut(owed) {
            Some(left @ 1..) => {
                *left -= 1;
                false
            }
            _ => true,
        })
        .map(|(revision, key, _)| Violation::Missed {
            place,
            revision,
            key,
            upto,
        })
        .collect()
}

/// The newest revision that came whole: a stream may break inside a chain of fragments.
fn complete_upto(heard: &WatchSession) -> Option<i64> {
    let newest = heard.events().map(event_revision).max()?;
    let last = heard
        .responses
        .iter()
        .rev()
        .find(|heard| !heard.response.events.is_empty())?;
    Some(newest - i64::from(last.response.fragment))
}

fn untrue(place: Place, heard: &WatchSession, truth: &Truth) -> Vec<Violation> {
    let mut found = Vec::new();
    for event in heard.events() {
        let (revision, key, kind) = identity(event);
        let owed = truth.owed(&heard.request, revision, revision);
        let happened: Vec<&Event> = owed
            .filter(|owed| identity(owed) == (revision, key.clone(), kind))
            .collect();
        let right = |owed: &&Event| same_event(&heard.request, owed, event, truth.compacted_max());
        match happened.first() {
            None => found.push(Violation::Phantom { place, revision, key }),
            Some(owed) if !happened.iter().any(right) => {
                let (found_event, expected) = (Box::new(event.clone()), Box::new((*owed).clone()));
                found.push(Violation::Distorted {
                    place,
                    found: found_event,
                    expected,
                });
            }
            Some(_) => {}
        }
    }
    found
}

fn identity(event: &Event) -> (i64, Bytes, i32) {
    let key = event.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
    (event_revision(event), key, event.r#type)
}
