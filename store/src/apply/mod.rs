//! What a committed entry means: the replicated state and the one way it changes.
//!
//! [`State`] takes entries in log order. What comes out depends on the entries alone: no clock, no randomness, no
//! limit or setting of this member, and nothing of how far compaction or checkpoints have got here. Whatever depends
//! on those is judged before proposing (`check.rs`) or answered from outside.
//!
//! An entry passes the gates (`gate.rs`), then its kind's file. Failing is part of the result, the same everywhere,
//! and leaves the state as it was. An entry that cannot be read is no such result: the member stops.

mod auth;
mod check;
mod cluster;
mod gate;
mod kind;
mod kv;
mod lease;
mod needs;
mod plan;
mod txn;

use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::{
    AlarmResponse, CompactionResponse, DeleteRangeResponse, InternalRaftRequest, LeaseGrantResponse,
    LeaseRevokeResponse, PutResponse, ResponseHeader, TxnRequest,
};

pub use auth::{AuthResponse, Authenticated};
pub use check::{
    check_delete, check_put, check_range, check_txn, cost_of_delete, cost_of_grant, cost_of_put, cost_of_txn,
    is_applicable, is_read_only, is_serializable,
};
pub use kind::RequestKind;
pub use needs::{Request, needs};
pub use plan::TxnPlan;

use crate::alarm::Alarms;
use crate::auth::{AuthEvent, AuthState};
use crate::error::RequestError;
use crate::lease::Lessor;
use crate::membership::{Member, Membership, What};
use crate::mvcc::{Mvcc, Tally, WriteTxn};
use crate::types::{EntryKind, Index, LeaseId, MemberId, ProposalId, SharedRevision, Term};

/// Everything that the log has decided so far.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Keys and their history.
    pub mvcc: Mvcc,
    /// Leases and what is attached to them.
    pub lessor: Lessor,
    /// The cluster's members.
    pub membership: Membership,
    /// The alarms raised.
    pub alarms: Alarms,
    /// Users, roles and permissions.
    pub auth: AuthState,
    applied: Index,
    term: Term,
}

/// What a state is made of, for one that is read back.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "as in `State`")]
pub struct StateParts {
    pub mvcc: Mvcc,
    pub lessor: Lessor,
    pub membership: Membership,
    pub alarms: Alarms,
    pub auth: AuthState,
}

/// An entry of the log that a quorum holds.
#[derive(Clone, PartialEq, Debug)]
pub struct CommittedEntry {
    /// The term it was proposed in.
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
    /// What it holds.
    pub kind: EntryKind,
    /// One encoded `InternalRaftRequest`, nothing in the entry by which a leader begins its term; or a membership change.
    pub data: Bytes,
}

/// What an entry came to.
#[derive(Debug)]
pub struct Applied {
    /// The entry.
    pub index: Index,
    /// Whose proposal it was.
    pub proposal: Option<ProposalId>,
    /// The answer for the caller.
    pub response: Result<Response, RequestError>,
    /// The revision it took, for watchers and checkpoint.
    pub committed: Option<SharedRevision>,
    /// What it did to leases, for the leader's deadlines.
    pub leases: Vec<LeaseEvent>,
    /// What it asked for; `None` for the entry by which a leader begins its term, and for membership changes.
    pub kind: Option<RequestKind>,
    /// What became of a membership change; `None` for anything else.
    pub change: Option<Changed>,
    /// What it did that concerns whoever keeps tokens; seldom anything.
    pub auth: Option<Box<AuthEvent>>,
    /// What it did, for the metrics.
    pub tally: Tally,
}

/// The answer to a replicated request. Headers hold the revision only.
#[derive(Debug)]
pub enum Response {
    /// To a put.
    Put(PutResponse),
    /// To a range delete.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction, in which values of the past may still be missing.
    Txn(TxnPlan),
    /// To a compaction; its physical part is still to be done.
    Compact(CompactionResponse),
    /// To a lease grant.
    LeaseGrant(LeaseGrantResponse),
    /// To a lease revoke.
    LeaseRevoke(LeaseRevokeResponse),
    /// To an alarm request.
    Alarm(AlarmResponse),
    /// To a request about auth.
    Auth(AuthResponse),
    /// To a membership change: the members after it.
    Members(Vec<Member>),
    /// To what nobody waits for an answer of.
    None,
}

impl Response {
    /// Whether values of the past are still missing in it.
    #[must_use]
    pub fn lacks_values(&self) -> bool {
        matches!(self, Response::Txn(plan) if !plan.missing().is_empty())
    }
}

/// A change among the leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseEvent {
    /// A lease begins.
    Granted {
        /// Its id.
        id: LeaseId,
        /// Its TTL in seconds.
        ttl_s: i64,
    },
    /// A lease has ended.
    Revoked {
        /// Its id.
        id: LeaseId,
    },
}

/// What became of a membership change: Raft must hear of each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Changed {
    /// It took effect.
    Made(What),
    /// The membership does not allow it.
    Refused,
}

/// What the handlers hand back; `apply` adds what is the same for all.
struct Outcome {
    response: Response,
    committed: Option<SharedRevision>,
    leases: Vec<LeaseEvent>,
    auth: Option<Box<AuthEvent>>,
    tally: Tally,
}

impl State {
    /// The state of a new cluster.
    #[must_use]
    pub fn new(membership: Membership) -> Self {
        State {
            membership,
            ..Self::default()
        }
    }

    /// A state read back, as it was after entry `applied` of term `term`.
    #[must_use]
    pub fn restore(parts: StateParts, applied: (Index, Term)) -> Self {
        State {
            mvcc: parts.mvcc,
            lessor: parts.lessor,
            membership: parts.membership,
            alarms: parts.alarms,
            auth: parts.auth,
            applied: applied.0,
            term: applied.1,
        }
    }

    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The term of that entry.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Applies the next entry. Entries at or below `applied` are for the caller to skip.
    ///
    /// # Panics
    /// If the entry does not follow, or does not decode: the log is broken and the member must not go on.
    pub fn apply(&mut self, entry: &CommittedEntry) -> Applied {
        assert!(
            entry.index > self.applied,
            "entry {} after entry {}",
            entry.index,
            self.applied
        );
        assert!(
            entry.term >= self.term,
            "term {} after term {}",
            entry.term,
            self.term
        );
        self.applied = entry.index;
        self.term = entry.term;
        if entry.kind == EntryKind::Change {
            return self.change_members(entry);
        }
        if entry.data.is_empty() {
            return Applied::new(entry.index, (None, None), Ok(Outcome::nothing()));
        }
        let request = InternalRaftRequest::decode(entry.data.clone())
            .unwrap_or_else(|error| panic!("entry {} cannot be read: {error}", entry.index));
        let proposal = request.proposal.map(|p| ProposalId {
            member: MemberId(p.member),
            boot: p.boot,
            counter: p.counter,
        });
        let kind = RequestKind::of(&request);
        let outcome = self.dispatch(request, entry.data.len());
        Applied::new(entry.index, (proposal, Some(kind)), outcome)
    }

    /// Answers a transaction that only reads, without the log.
    pub fn read_txn(&self, request: &TxnRequest) -> Result<(TxnPlan, Tally), RequestError> {
        txn::read(&self.mvcc, &self.lessor, request)
    }

    fn dispatch(&mut self, request: InternalRaftRequest, entry_len: usize) -> Result<Outcome, RequestError> {
        gate::check(&self.alarms, &request)?;
        self.judge_entry(&request)?;
        if let Some(put) = request.put {
            return self.put(put, entry_len);
        }
        if let Some(delete) = request.delete_range {
            return Ok(self.delete_range(&delete));
        }
        if let Some(txn) = request.txn {
            return txn::apply(self, txn, entry_len);
        }
        if let Some(compaction) = request.compaction {
            return self.compact(compaction);
        }
        if let Some(grant) = request.lease_grant {
            return self.lease_grant(grant);
        }
        if let Some(revoke) = request.lease_revoke {
            return self.lease_revoke(revoke, Term(request.revoke_term));
        }
        if let Some(checkpoint) = request.lease_checkpoint {
            return Ok(self.lease_checkpoint(&checkpoint));
        }
        if let Some(alarm) = request.alarm {
            return self.alarm(alarm);
        }
        if let Some(version) = request.cluster_version_set {
            return Ok(self.cluster_version_set(*version));
        }
        if let Some(attributes) = request.cluster_member_attr_set {
            return Ok(self.cluster_member_attr_set(*attributes));
        }
        self.auth_request(request)
    }

    /// A header as this state fills it.
    fn header(&self) -> Option<ResponseHeader> {
        header(self.mvcc.current())
    }
}

impl Applied {
    fn new(
        index: Index,
        (proposal, kind): (Option<ProposalId>, Option<RequestKind>),
        outcome: Result<Outcome, RequestError>,
    ) -> Self {
        let (response, rest) = match outcome {
            Ok(mut outcome) => {
                let response = std::mem::replace(&mut outcome.response, Response::None);
                (Ok(response), outcome)
            }
            Err(error) => (Err(error), Outcome::nothing()),
        };
        Applied {
            index,
            proposal,
            response,
            committed: rest.committed,
            leases: rest.leases,
            kind,
            change: None,
            auth: rest.auth,
            tally: rest.tally,
        }
    }
}

impl Outcome {
    fn nothing() -> Self {
        Self::of(Response::None)
    }

    fn of(response: Response) -> Self {
        Outcome {
            response,
            committed: None,
            leases: Vec::new(),
            auth: None,
            tally: Tally::default(),
        }
    }

    /// Ends a transaction; `response` is what it came to.
    fn written(response: Response, txn: WriteTxn<'_>) -> Self {
        let tally = txn.tally().ended();
        Outcome {
            committed: txn.commit(),
            tally,
            ..Self::of(response)
        }
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

#[cfg(test)]
mod tests;
