//! Leases end in their time: never before the time to live has passed since the call that last gave them life began,
//! unless somebody asked for their revoke.
//!
//! A renewal takes effect somewhere between its begin and its end, so the begin is the earliest moment from which the
//! time can have been counted, and the clock that counts it is a member's, which may run fast. What shows that a lease is
//! gone: a revision that nobody else can have made than its end, a put that is refused for it, a renewal that finds
//! nothing to renew. (That a lease does end is demanded by the run, after its trouble.)

use super::linearizable::KvHistory;
use super::observed::View;
use super::replay::{ended_lease, possible_writers};
use super::{Truth, Violation};
use crate::history::CallId;
use crate::model::{Error, Request, Response};

/// What the simulator's clock told.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    /// By revision from 2 on: when it was first applied, in nanoseconds.
    pub applied: &'a [u64],
    /// How fast the fastest clock may have run, in percent of true time.
    pub clock_percent_max: u64,
}

/// A proof that a lease was gone.
struct Gone {
    lease: i64,
    at: u64,
    /// Renewals answered before this moment count.
    after: u64,
    evidence: String,
}

/// Looks for leases that ended early.
#[must_use]
pub fn check(history: &KvHistory, truth: &Truth, times: &Times<'_>) -> Vec<Violation> {
    let (view, _) = View::new(history);
    let mut gone = refusals(&view);
    gone.extend(ends(&view, truth, times));
    gone.into_iter()
        .filter_map(|gone| too_early(&view, &gone, times))
        .collect()
}

/// Answers that tell of a lease's absence. The lease is known to have been there, where a renewal had been answered
/// before.
fn refusals(view: &View<'_>) -> Vec<Gone> {
    let calls = view.history.iter();
    let gone = calls.filter_map(|(id, call)| {
        let lease = match (&call.operation, call.answer()?) {
            (Request::Put(put), Err(Error::LeaseNotFound)) => put.lease,
            (Request::LeaseKeepAlive(renewal), Ok(Response::LeaseKeepAlive(answer))) if answer.ttl <= 0 => {
                renewal.id
            }
            _ => return None,
        };
        Some(Gone {
            lease,
            at: call.returned,
            after: call.invoked,
            evidence: format!("{id:?}"),
        })
    });
    gone.collect()
}

/// Revisions that only the end of a lease can have made.
fn ends(view: &View<'_>, truth: &Truth, times: &Times<'_>) -> Vec<Gone> {
    let mut model = view.model();
    let mut found = Vec::new();
    for (revision, at) in (2..=truth.last()).zip(times.applied) {
        let events = truth.events(revision);
        if !view.writers.contains_key(&revision)
            && let Some(lease) = ended_lease(&mut model, events)
            && possible_writers(view, &mut model, revision, events).is_empty()
        {
            found.push(Gone {
                lease,
                at: *at,
                after: *at,
                evidence: format!("revision {revision}"),
            });
        }
        model.replay(events);
    }
    found
}

fn too_early(view: &View<'_>, gone: &Gone, times: &Times<'_>) -> Option<Violation> {
    let revoked = view.revokes.iter().any(|(_, call)| {
        let this = matches!(&call.operation, Request::LeaseRevoke(request) if request.id == gone.lease);
        this && call.invoked < gone.at
    });
    if revoked {
        return None;
    }
    let renewals = view.history.iter().filter_map(|(id, call)| {
        let (lease, ttl) = match call.answer()? {
            Ok(Response::LeaseGrant(granted)) => (granted.id, granted.ttl),
            Ok(Response::LeaseKeepAlive(renewed)) => (renewed.id, renewed.ttl),
            _ => return None,
        };
        (lease == gone.lease && ttl > 0 && call.returned < gone.after)
            .then(|| (call.invoked + life(ttl, times.clock_percent_max), id))
    });
    let (until, renewal): (u64, CallId) = renewals.max()?;
    (gone.at < until).then(|| Violation::LeaseEndedEarly {
        lease: gone.lease,
        gone: gone.at,
        evidence: gone.evidence.clone(),
        renewal,
        until,
    })
}

/// The shortest true time that a time to live in seconds can take.
fn life(ttl: i64, clock_percent_max: u64) -> u64 {
    u64::try_from(ttl).unwrap_or(0).saturating_mul(NANOSECONDS * 100) / clock_percent_max.max(100)
}

/// In a second.
const NANOSECONDS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, PutRequest, PutResponse, ResponseHeader,
    };
    use proto::mvccpb::Event;

    use super::*;
    use crate::history::{Call, History, Outcome, ProcessId};
    use crate::model::{Answer, Model};

    fn header(revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        })
    }

    fn call(invoked: u64, operation: Request, response: Response) -> Call<Request, Answer> {
        Call {
            process: ProcessId(invoked),
            operation,
            invoked,
            returned: invoked + 1,
            outcome: Outcome::Ok(Ok(response)),
        }
    }

    /// A lease of 2 s from time 10 on with one key, and its end.
    fn history() -> (Vec<Call<Request, Answer>>, Truth) {
        let grant = LeaseGrantRequest { ttl: 2, id: 7 };
        let put = PutRequest {
            key: Bytes::from_static(b"k"),
            lease: 7,
            ..PutRequest::default()
        };
        let mut model = Model::default();
        model.lease_grant(&grant).unwrap();
        let mut events: Vec<Event> = model.put(&put).unwrap().1;
        events.extend(model.lease_expire(7).unwrap());
        let granted = LeaseGrantResponse {
            header: header(1),
            id: 7,
            ttl: 2,
            ..LeaseGrantResponse::default()
        };
        let was_put = PutResponse {
            header: header(2),
            ..PutResponse::default()
        };
        let calls = vec![
            call(10, Request::LeaseGrant(grant), Response::LeaseGrant(granted)),
            call(20, Request::Put(put), Response::Put(was_put)),
        ];
        (calls, Truth::new(events).unwrap())
    }

    fn found(calls: Vec<Call<Request, Answer>>, truth: &Truth, gone: u64, percent: u64) -> usize {
        let times = Times {
            applied: &[21, gone],
            clock_percent_max: percent,
        };
        check(&History::new(calls), truth, &times).len()
    }

    #[test]
    fn a_lease_that_ends_before_its_time() {
        let (calls, truth) = history();
        assert_eq!(found(calls.clone(), &truth, 10 + 2 * NANOSECONDS, 100), 0);
        assert_eq!(found(calls.clone(), &truth, 9 + 2 * NANOSECONDS, 100), 1);
        // A clock may have run at double speed.
        assert_eq!(found(calls.clone(), &truth, 10 + NANOSECONDS, 200), 0);
        assert_eq!(found(calls, &truth, 9 + NANOSECONDS, 200), 1);
    }

    #[test]
    fn a_revoke_ends_it_at_any_time() {
        let (mut calls, truth) = history();
        calls.push(Call {
            outcome: Outcome::Unknown,
            ..call(
                30,
                Request::LeaseRevoke(LeaseRevokeRequest { id: 7 }),
                Response::LeaseRevoke(Default::default()),
            )
        });
        assert_eq!(found(calls, &truth, 50, 100), 0);
    }

    #[test]
    fn a_put_refused_for_it_is_a_proof() {
        let (mut calls, _) = history();
        let mut refused = calls[1].clone();
        (refused.invoked, refused.returned) = (100, 101);
        refused.outcome = Outcome::Ok(Err(Error::LeaseNotFound));
        calls.push(refused);
        let nothing = Truth::default();
        assert_eq!(found(calls, &nothing, 0, 100), 1);
    }
}
