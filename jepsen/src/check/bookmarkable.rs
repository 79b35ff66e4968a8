//! Bookmarkable: a progress response at revision R promises that every event up to R has been sent before it. The
//! correctness of Kubernetes' watch cache rests on this one.

use std::collections::BTreeSet;

use super::violation::Place;
use super::{Truth, Violation};
use crate::history::{WatchRecord, WatchSession, event_revision, header_revision, is_progress};

/// Looks for progress that was told too early, backwards, or of a revision that never was.
#[must_use]
pub fn check(record: &WatchRecord, truth: &Truth) -> Vec<Violation> {
    let sessions = record.sessions.iter().enumerate();
    sessions
        .flat_map(|(session, heard)| {
            check_session(
                Place {
                    process: record.process,
                    session,
                },
                heard,
                truth,
            )
        })
        .collect()
}

fn check_session(place: Place, heard: &WatchSession, truth: &Truth) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut got = BTreeSet::new();
    let mut told = heard.owed_from().map_or(0, |from| from - 1);
    let mut latest = 0;
    for response in heard.responses.iter().map(|heard| &heard.response) {
        for event in &response.events {
            let revision = event_revision(event);
            latest = latest.max(revision);
            got.insert((revision, event.kv.as_ref().map(|kv| &kv.key), event.r#type));
        }
        if !is_progress(response) {
            continue;
        }
        let progress = header_revision(response);
        if progress < latest {
            found.push(Violation::BookmarkBackwards {
                place,
                progress,
                after: latest,
            });
        }
        if progress > truth.last() {
            found.push(Violation::BookmarkFromFuture {
                place,
                progress,
                last: truth.last(),
            });
        }
        for owed in truth.certain(&heard.request, told + 1, progress) {
            let key = owed.kv.as_ref().map(|kv| &kv.key);
            let revision = event_revision(owed);
            if !got.contains(&(revision, key, owed.r#type)) {
                let key = key.cloned().unwrap_or_default();
                found.push(Violation::EarlyBookmark {
                    place,
                    progress,
                    revision,
                    key,
                });
            }
        }
        latest = latest.max(progress);
        told = told.max(progress);
    }
    found
}
