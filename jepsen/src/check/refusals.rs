//! Refusals have no revision, so they are right where some state between the begin and the end of the call explains
//! them; and what compaction and revokes took away must stay away.

use proto::etcdserverpb::RequestOp;
use proto::etcdserverpb::request_op::Request as Op;

use super::linearizable::KvCall;
use super::observed::View;
use super::{Truth, Violation};
use crate::history::CallId;
use crate::model::{Error, Model, Request, is_serializable};

pub(super) fn check(view: &View<'_>, truth: &Truth) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut open = Vec::new();
    let model = view.model();
    for (id, call) in view.history.iter() {
        match call.answer() {
            Some(Err(refusal)) if model.check_shape(&call.operation) == Err(*refusal) => {}
            Some(Err(Error::Compacted)) => found.extend(compacted(view, id, call)),
            Some(Err(Error::LeaseNotFound)) => {}
            Some(Err(Error::LeaseExist)) => found.extend(lease_exists(view, id, call)),
            Some(Err(refusal)) => open.push(Window::new(view, id, call, *refusal, truth.last())),
            Some(Ok(_)) => {
                found.extend(uncompacted(view, id, call));
                found.extend(revoked(view, id, call));
            }
            None => {}
        }
    }
    found.extend(unexplained(model, truth, open));
    found
}

/// A refusal and the revisions of which one must explain it.
struct Window<'a> {
    id: CallId,
    call: &'a KvCall,
    refusal: Error,
    from: i64,
    upto: i64,
}

impl<'a> Window<'a> {
    fn new(view: &View<'_>, id: CallId, call: &'a KvCall, refusal: Error, last: i64) -> Self {
        let from = if is_local(&call.operation) {
            1
        } else {
            view.floors[id.0].revision
        };
        Window {
            id,
            call,
            refusal,
            from,
            upto: view.ceiling(call, last),
        }
    }

    fn explained_by(&self, model: &mut Model) -> bool {
        match &self.call.operation {
            // A compaction is too early exactly where its revision is not there; no need to try it on a copy.
            Request::Compact(request) => {
                self.refusal == Error::FutureRev && request.revision > model.revision()
            }
            request => model.preview(request) == Err(self.refusal),
        }
    }
}

/// Goes through history once and strikes out every refusal that a state of its window explains.
fn unexplained(mut model: Model, truth: &Truth, mut open: Vec<Window<'_>>) -> Vec<Violation> {
    for revision in 1..=truth.last() {
        if open.is_empty() {
            break;
        }
        if revision > 1 {
            model.replay(truth.events(revision));
        }
        open.retain(|window| {
            let inside = (window.from..=window.upto).contains(&revision);
            !(inside && window.explained_by(&mut model))
        });
    }
    let wrong = |window: Window<'_>| Violation::WrongRefusal {
        call: window.id,
        refusal: window.refusal,
        from: window.from,
        to: window.upto,
    };
    open.into_iter().map(wrong).collect()
}

fn is_local(request: &Request) -> bool {
    match request {
        Request::Range(range) => range.serializable,
        Request::Txn(txn) => is_serializable(txn),
        _ => false,
    }
}

/// The revision that a request depends on not having been compacted.
fn asked(request: &Request) -> Option<i64> {
    match request {
        Request::Range(range) if range.revision > 0 => Some(range.revision),
        _ => None,
    }
}

/// "Compacted" needs a compaction, begun before the call ended, that got far enough.
fn compacted(view: &View<'_>, id: CallId, call: &KvCall) -> Option<Violation> {
    let (asked, inclusive) = match &call.operation {
        Request::Compact(request) => (request.revision, true),
        Request::Range(range) => (range.revision, false),
        // Which of its ranges a transaction failed at is not told: any compaction will do.
        _ => (0, false),
    };
    let explains = |other: CallId, compaction: &KvCall| {
        let Request::Compact(request) = &compaction.operation else {
            return false;
        };
        let far_enough = request.revision > asked || (inclusive && request.revision == asked);
        other != id && far_enough && compaction.invoked <= call.returned
    };
    // Before any compaction the compacted revision is -1.
    let always = inclusive && asked < 0;
    let explained = always
        || view
            .compactions
            .iter()
            .any(|(other, call)| explains(*other, call));
    (!explained).then_some(Violation::NotCompacted { call: id, asked })
}

/// What was compacted before a call began, it can neither read nor compact again.
fn uncompacted(view: &View<'_>, id: CallId, call: &KvCall) -> Option<Violation> {
    let behind = |compacted: i64| match &call.operation {
        Request::Compact(request) => (request.revision <= compacted).then_some(request.revision),
        request if is_local(request) => None,
        request => asked(request).filter(|asked| *asked < compacted),
    };
    view.compactions.iter().find_map(|(compaction, other)| {
        let Request::Compact(request) = &other.operation else {
            return None;
        };
        let before = !other.is_unknown() && other.returned < call.invoked;
        let asked = behind(request.revision).filter(|_| before)?;
        let compaction = *compaction;
        Some(Violation::Uncompacted {
            call: id,
            asked,
            compaction,
            compacted: request.revision,
        })
    })
}

/// "Exists" needs another grant of that lease.
fn lease_exists(view: &View<'_>, id: CallId, call: &KvCall) -> Option<Violation> {
    let Request::LeaseGrant(request) = &call.operation else {
        return None;
    };
    // A refused grant is not counted among the grants.
    let granted = view.grants.contains_key(&request.id);
    let (from, to) = (view.floors[id.0].revision, view.last);
    (!granted).then_some(Violation::WrongRefusal {
        call: id,
        refusal: Error::LeaseExist,
        from,
        to,
    })
}

/// A lease that was granted once and revoked takes no key any more.
fn revoked(view: &View<'_>, id: CallId, call: &KvCall) -> Option<Violation> {
    let leases: Vec<i64> = match &call.operation {
        Request::Put(put) => vec![put.lease],
        // Without compares it is certain which puts ran.
        Request::Txn(txn) if txn.compare.is_empty() => txn.success.iter().map(lease_of_op).collect(),
        _ => return None,
    };
    let once = |lease: &i64| leases.contains(lease) && view.grants.get(lease) == Some(&1);
    view.revokes.iter().find_map(|(revoke, other)| {
        let Request::LeaseRevoke(request) = &other.operation else {
            return None;
        };
        let ended = !other.is_unknown() && other.returned < call.invoked;
        let used = ended && once(&request.id);
        used.then_some(Violation::RevokedLeaseUsed {
            call: id,
            lease: request.id,
            revoke: *revoke,
        })
    })
}

fn lease_of_op(op: &RequestOp) -> i64 {
    match op.request.as_ref() {
        Some(Op::RequestPut(put)) => put.lease,
        _ => 0,
    }
}
