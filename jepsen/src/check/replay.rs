//! Puts a history through the model in order of revisions and compares every answer with it.

use proto::etcdserverpb::LeaseRevokeRequest;
use proto::mvccpb::{Event, event::EventType};

use super::expect::{same_answer, same_changes};
use super::linearizable::Options;
use super::matching::Explanations;
use super::observed::{Observed, Role, View};
use super::{Truth, Violation};
use crate::history::CallId;
use crate::model::{Model, Request};

/// What the replay found.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) violations: Vec<Violation>,
    /// Who can have made the revisions that no answered call and no lease made.
    pub(super) explanations: Explanations,
    pub(super) unanswered_revisions: usize,
}

pub(super) fn check(view: &View<'_>, truth: &Truth, options: &Options) -> Replayed {
    let mut replayed = Replayed::default();
    let mut model = view.model();
    for revision in 1..=truth.last() {
        if revision > 1 {
            let events = truth.events(revision);
            match view.writers.get(&revision) {
                Some(writer) => {
                    replayed
                        .violations
                        .extend(check_writer(&mut model, writer, events));
                }
                None => explain(view, &mut model, revision, events, options, &mut replayed),
            }
            model.replay(events);
        }
        let readers = view.readers.get(&revision);
        for reader in readers.into_iter().flatten() {
            replayed.violations.extend(check_reader(view, &mut model, reader));
        }
    }
    let lost = view.observed.iter().filter(|this| this.revision > truth.last());
    replayed
        .violations
        .extend(lost.map(|this| Violation::LostRevision {
            call: this.id,
            revision: this.revision,
            last: truth.last(),
        }));
    replayed
}

/// What a call that saw the model's state got wrong.
pub(super) fn check_reader(view: &View<'_>, model: &mut Model, reader: &Observed<'_>) -> Option<Violation> {
    match (&reader.call.operation, reader.role) {
        (Request::LeaseRevoke(revoke), _) => check_revoked(view, model, reader, revoke),
        (_, Role::Read | Role::LocalRead) => check_answer(model, reader),
        _ => None,
    }
}

/// What a call got wrong that was answered in, or made its revision from, the model's state.
pub(super) fn check_answer(model: &mut Model, this: &Observed<'_>) -> Option<Violation> {
    let expected = model
        .preview(&this.call.operation)
        .map(|applied| applied.response);
    if let Ok(response) = &expected
        && same_answer(model, &this.call.operation, response, this.response)
    {
        return None;
    }
    Some(Violation::WrongAnswer {
        call: this.id,
        revision: this.revision,
        expected: Box::new(expected),
        actual: Box::new(Ok(this.response.clone())),
    })
}

fn check_writer(model: &mut Model, writer: &Observed<'_>, events: &[Event]) -> Vec<Violation> {
    let mut found = Vec::from_iter(check_answer(model, writer));
    if let Ok(applied) = model.preview(&writer.call.operation)
        && !same_changes(&applied.events, events)
    {
        let (call, revision) = (writer.id, writer.revision);
        let (expected, events) = (applied.events, events.to_vec());
        found.push(Violation::WrongEffect {
            call,
            revision,
            expected,
            found: events,
        });
    }
    found
}

/// A revoked lease has no keys; where its id was granted only once, it never has any again.
fn check_revoked(
    view: &View<'_>,
    model: &Model,
    revoke: &Observed<'_>,
    request: &LeaseRevokeRequest,
) -> Option<Violation> {
    let keys = model.lease_keys(request.id);
    (view.grants.get(&request.id) == Some(&1) && !keys.is_empty()).then_some(Violation::RevokedLeaseHasKeys {
        call: revoke.id,
        lease: request.id,
        revision: revoke.revision,
        keys,
    })
}

/// Finds who can have made a revision that no answer claims.
fn explain(
    view: &View<'_>,
    model: &mut Model,
    revision: i64,
    events: &[Event],
    options: &Options,
    replayed: &mut Replayed,
) {
    replayed.unanswered_revisions += 1;
    if ended_lease(model, events).is_some_and(|lease| may_end(view, lease, revision, options)) {
        return;
    }
    let calls = possible_writers(view, model, revision, events);
    if calls.is_empty() {
        replayed
            .violations
            .push(Violation::UnexplainedRevision { revision });
    } else {
        replayed.explanations.insert(revision, calls);
    }
}

/// The calls without an answer that can have made a revision.
pub(super) fn possible_writers(
    view: &View<'_>,
    model: &mut Model,
    revision: i64,
    events: &[Event],
) -> Vec<CallId> {
    let unknown = view.unknown_writes.iter().filter(|(id, call)| {
        let in_time = view.floors[id.0].revision < revision;
        in_time
            && model
                .preview(&call.operation)
                .is_ok_and(|applied| same_changes(&applied.events, events))
    });
    unknown.map(|(id, _)| *id).collect()
}

/// The lease whose end in the model's state is exactly these events, if there is one.
pub(super) fn ended_lease(model: &mut Model, events: &[Event]) -> Option<i64> {
    let all_deletes = events
        .iter()
        .all(|event| event.r#type == i32::from(EventType::Delete));
    let first = events.first().and_then(|event| event.kv.as_ref());
    let lease = model.lease_of(&first.filter(|_| all_deletes)?.key);
    if lease == 0 {
        return None;
    }
    let ended = model.delete_keys_of_lease(lease);
    let same = same_changes(&ended, events);
    model.undo(&ended);
    same.then_some(lease)
}

/// Whether a lease can have ended with this revision.
pub(super) fn may_end(view: &View<'_>, lease: i64, revision: i64, options: &Options) -> bool {
    options.leases_expire
        || view.revokes.iter().any(|(id, call)| {
            let revoke = matches!(&call.operation, Request::LeaseRevoke(request) if request.id == lease);
            revoke && view.floors[id.0].revision < revision
        })
}
