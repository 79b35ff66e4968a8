//! What each answered call tells about revisions: the one it was answered at, whether it made it, and which revision
//! must have existed before it began.

use std::collections::BTreeMap;

use proto::etcdserverpb::response_op::Response as OpAnswer;
use proto::etcdserverpb::{LeaseGrantRequest, ResponseHeader, TxnResponse};

use super::Violation;
use super::linearizable::{KvCall, KvHistory};
use crate::history::CallId;
use crate::model::{Model, Request, Response, is_serializable, is_write};

/// What role a call plays in the order of revisions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// It made the revision of its header.
    Write,
    /// It saw the state of the revision of its header, no older than what was known when it began.
    Read,
    /// It saw the state of the revision of its header, which may be an old one.
    LocalRead,
    /// It did not look at keys, but its header is no older than what was known when it began.
    Fence,
    /// Its header only proves that the revision exists.
    Hint,
}

/// An answered call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed<'a> {
    pub(super) id: CallId,
    pub(super) call: &'a KvCall,
    pub(super) response: &'a Response,
    pub(super) role: Role,
    pub(super) revision: i64,
}

/// The newest revision that had been answered before a call began, and by whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Floor {
    pub(super) revision: i64,
    pub(super) seen_by: Option<CallId>,
}

/// A history, sorted by what it tells.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) history: &'a KvHistory,
    pub(super) observed: Vec<Observed<'a>>,
    /// By call.
    pub(super) floors: Vec<Floor>,
    /// By revision.
    pub(super) writers: BTreeMap<i64, Observed<'a>>,
    /// By revision: the calls that saw it.
    pub(super) readers: BTreeMap<i64, Vec<Observed<'a>>>,
    /// The newest revision in any answer.
    pub(super) last: i64,
    /// The writes that may have taken effect without an answer.
    pub(super) unknown_writes: Vec<(CallId, &'a KvCall)>,
    /// The compactions that may have happened.
    pub(super) compactions: Vec<(CallId, &'a KvCall)>,
    /// The revokes that may have happened.
    pub(super) revokes: Vec<(CallId, &'a KvCall)>,
    /// By lease: how often it was or may have been granted.
    pub(super) grants: BTreeMap<i64, usize>,
}

impl<'a> View<'a> {
    /// Sorts a history; what is wrong already in the order of its revisions comes beside it.
    pub(super) fn new(history: &'a KvHistory) -> (Self, Vec<Violation>) {
        let mut found = Vec::new();
        let mut observed = Vec::new();
        for (id, call) in history.iter() {
            let Some(Ok(response)) = call.answer() else {
                continue;
            };
            let (role, header) = role_and_header(&call.operation, response);
            match header.map_or(0, |header| header.revision) {
                revision if revision > 0 => observed.push(Observed {
                    id,
                    call,
                    response,
                    role,
                    revision,
                }),
                _ => found.push(Violation::NoRevision { call: id }),
            }
        }
        let floors = floors(history, &observed);
        let mut writers: BTreeMap<i64, Observed<'a>> = BTreeMap::new();
        let mut readers: BTreeMap<i64, Vec<Observed<'a>>> = BTreeMap::new();
        for this in &observed {
            found.extend(too_early(this, floors[this.id.0]));
            match this.role {
                Role::Write => {
                    if let Some(other) = writers.insert(this.revision, *this) {
                        let (first, second) = (other.id, this.id);
                        found.push(Violation::SharedRevision {
                            revision: this.revision,
                            first,
                            second,
                        });
                    }
                }
                Role::Read | Role::LocalRead | Role::Fence => {
                    readers.entry(this.revision).or_default().push(*this);
                }
                Role::Hint => {}
            }
        }
        let last = observed.iter().map(|this| this.revision).max().unwrap_or(1);
        let took_place = |call: &KvCall| call.is_unknown() || matches!(call.answer(), Some(Ok(_)));
        let of_kind = |kind: fn(&Request) -> bool| {
            history
                .iter()
                .filter(move |(_, call)| took_place(call) && kind(&call.operation))
        };
        let view = View {
            history,
            observed,
            floors,
            writers,
            readers,
            last,
            unknown_writes: of_kind(can_write).filter(|(_, call)| call.is_unknown()).collect(),
            compactions: of_kind(|request| matches!(request, Request::Compact(_))).collect(),
            revokes: of_kind(|request| matches!(request, Request::LeaseRevoke(_))).collect(),
            grants: grants(history),
        };
        (view, found)
    }

    /// The newest revision that can have existed when a call returned, as far as answered writes tell.
    pub(super) fn ceiling(&self, call: &KvCall, last: i64) -> i64 {
        let later = self
            .writers
            .values()
            .filter(|writer| writer.call.invoked > call.returned);
        later
            .map(|writer| writer.revision - 1)
            .min()
            .unwrap_or(last)
            .min(last)
    }

    /// A fresh model in which every lease of the history is granted for good: a lease's end has no revision of its own
    /// unless it deletes keys, and then it is told by that revision.
    pub(super) fn model(&self) -> Model {
        let mut model = Model::default();
        for id in self.grants.keys() {
            let granted = model.lease_grant(&LeaseGrantRequest { ttl: 0, id: *id });
            granted.expect("a fresh model accepts each lease once");
        }
        model
    }
}

fn grants(history: &KvHistory) -> BTreeMap<i64, usize> {
    let mut grants = BTreeMap::new();
    for call in history.calls() {
        let Request::LeaseGrant(request) = &call.operation else {
            continue;
        };
        let id = match call.answer() {
            Some(Ok(Response::LeaseGrant(granted))) => granted.id,
            // Of a lease whose id the server drew and never told, nobody can speak.
            None if call.is_unknown() && request.id != 0 => request.id,
            _ => continue,
        };
        *grants.entry(id).or_default() += 1;
    }
    grants
}

fn too_early(this: &Observed<'_>, floor: Floor) -> Option<Violation> {
    let (call, revision, seen) = (this.id, this.revision, floor.revision);
    let seen_by = floor.seen_by?;
    match this.role {
        Role::Write if revision <= seen => Some(Violation::RevisionBeforeWrite {
            call,
            revision,
            seen,
            seen_by,
        }),
        Role::Read | Role::Fence if revision < seen => Some(Violation::StaleRevision {
            call,
            revision,
            seen,
            seen_by,
        }),
        _ => None,
    }
}

fn floors(history: &KvHistory, observed: &[Observed<'_>]) -> Vec<Floor> {
    let mut returns: Vec<&Observed<'_>> = observed.iter().collect();
    returns.sort_by_key(|this| this.call.returned);
    let mut returns = returns.into_iter().peekable();
    let mut floor = Floor {
        revision: 1,
        seen_by: None,
    };
    let mut floors = Vec::new();
    for call in history.calls() {
        while let Some(this) = returns.next_if(|this| this.call.returned < call.invoked) {
            if this.revision > floor.revision {
                floor = Floor {
                    revision: this.revision,
                    seen_by: Some(this.id),
                };
            }
        }
        floors.push(floor);
    }
    floors
}

fn can_write(request: &Request) -> bool {
    match request {
        Request::Put(_) | Request::DeleteRange(_) => true,
        Request::Txn(txn) => is_write(txn),
        _ => false,
    }
}

fn role_and_header<'a>(request: &Request, response: &'a Response) -> (Role, Option<&'a ResponseHeader>) {
    match response {
        Response::Range(r) => {
            let local = matches!(request, Request::Range(range) if range.serializable);
            (
                if local { Role::LocalRead } else { Role::Read },
                r.header.as_ref(),
            )
        }
        Response::Put(r) => (Role::Write, r.header.as_ref()),
        Response::DeleteRange(r) => (
            if r.deleted > 0 { Role::Write } else { Role::Read },
            r.header.as_ref(),
        ),
        Response::Txn(r) => {
            let local = matches!(request, Request::Txn(txn) if is_serializable(txn));
            let role = match changed(r) {
                true => Role::Write,
                false if local => Role::LocalRead,
                false => Role::Read,
            };
            (role, r.header.as_ref())
        }
        Response::Compact(r) => (Role::Fence, r.header.as_ref()),
        Response::LeaseGrant(r) => (Role::Fence, r.header.as_ref()),
        Response::LeaseRevoke(r) => (Role::Fence, r.header.as_ref()),
        Response::LeaseKeepAlive(r) => (Role::Hint, r.header.as_ref()),
        Response::LeaseTimeToLive(r) => (Role::Hint, r.header.as_ref()),
        Response::LeaseLeases(r) => (Role::Hint, r.header.as_ref()),
    }
}

/// Whether a transaction says that it changed something.
fn changed(response: &TxnResponse) -> bool {
    response.responses.iter().any(|op| match op.response.as_ref() {
        Some(OpAnswer::ResponsePut(_)) => true,
        Some(OpAnswer::ResponseDeleteRange(delete)) => delete.deleted > 0,
        Some(OpAnswer::ResponseTxn(nested)) => changed(nested),
        Some(OpAnswer::ResponseRange(_)) | None => false,
    })
}
