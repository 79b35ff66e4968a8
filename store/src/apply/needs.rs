//! What each request needs: the one table (etcd reference 1.6). A request is taken apart into [`Operation`]s, each of
//! which [`authorise`] judges; nothing is collected, so that judging takes no memory.
//!
//! What a transaction needs is what all of it needs: the compares and both branches, taken or not, of nested
//! transactions too. A put under a lease needs writing all keys of that lease, since whoever may not could not revoke
//! it either.

use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{
    DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::State;
use crate::auth::{Access, Identity, Keys, Operation, authorise};
use crate::error::RequestError;
use crate::lease::Lessor;
use crate::types::{KeyRange, LeaseId};

/// A request, as far as its needs go.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// Range and RangeStream.
    Range(&'a RangeRequest),
    /// Put.
    Put(&'a PutRequest),
    /// DeleteRange.
    DeleteRange(&'a DeleteRangeRequest),
    /// Txn.
    Txn(&'a TxnRequest),
    /// The creation of a watcher.
    Watch(&'a KeyRange),
    /// Anything that only asks who it is.
    Authenticated,
    /// LeaseGrant.
    LeaseGrant,
    /// LeaseRevoke.
    LeaseRevoke(LeaseId),
    /// LeaseKeepAlive of one lease.
    LeaseKeepAlive(LeaseId),
    /// LeaseTimeToLive.
    LeaseTimeToLive {
        /// Of which lease.
        lease: LeaseId,
        /// Whether its keys are asked for.
        keys: bool,
    },
    /// LeaseLeases.
    LeaseLeases,
    /// Compact.
    Compact,
    /// Alarm with action GET.
    AlarmList,
    /// Alarm with any other.
    AlarmChange,
    /// MemberList.
    MemberList,
    /// Any other call of Cluster.
    MemberChange,
    /// Status.
    Status,
    /// Any other call of Maintenance: Defragment, Hash, HashKV, Snapshot, MoveLeader, Downgrade.
    Maintenance,
    /// Authenticate and AuthStatus.
    Login,
    /// UserGet of this user.
    UserGet(&'a str),
    /// RoleGet of this role.
    RoleGet(&'a str),
    /// Any other call of Auth.
    AuthChange,
}

/// What takes the needs, one by one, and may end it.
type Judge<'a, 'j> = &'j mut dyn FnMut(Operation<'a>) -> Result<(), RequestError>;

/// Shows `judge` everything that a request needs.
///
/// # Errors
/// The first of `judge`.
pub fn needs<'a>(request: Request<'a>, leases: &'a Lessor, judge: Judge<'a, '_>) -> Result<(), RequestError> {
    match request {
        Request::Range(range) => judge(over(Access::Read, &range.key, &range.range_end)),
        Request::Put(put) => needs_of_put(put, leases, judge),
        Request::DeleteRange(delete) => needs_of_delete(delete, judge),
        Request::Txn(txn) => needs_of_txn(txn, leases, judge),
        Request::Watch(range) => judge(Operation::Range(Access::Read, range.into())),
        Request::Authenticated
        | Request::LeaseGrant
        | Request::AlarmList
        | Request::MemberList
        | Request::Status => judge(Operation::Authenticated),
        Request::LeaseRevoke(lease) | Request::LeaseKeepAlive(lease) => {
            judge(Operation::Authenticated)?;
            each_key(Access::Write, lease, leases, judge)
        }
        Request::LeaseTimeToLive { lease, keys } => {
            judge(Operation::Authenticated)?;
            match keys {
                true => each_key(Access::Read, lease, leases, judge),
                false => Ok(()),
            }
        }
        Request::LeaseLeases => {
            judge(Operation::Authenticated)?;
            leases
                .iter()
                .try_for_each(|lease| judge(Operation::Each(Access::Read, &lease.keys)))
        }
        Request::Compact
        | Request::AlarmChange
        | Request::MemberChange
        | Request::Maintenance
        | Request::AuthChange => judge(Operation::Admin),
        Request::Login => judge(Operation::Open),
        Request::UserGet(name) => judge(Operation::Oneself(name)),
        Request::RoleGet(role) => judge(Operation::Holder(role)),
    }
}

fn needs_of_put<'a>(
    put: &'a PutRequest,
    leases: &'a Lessor,
    judge: Judge<'a, '_>,
) -> Result<(), RequestError> {
    judge(over(Access::Write, &put.key, &[]))?;
    each_key(Access::Write, LeaseId(put.lease), leases, judge)?;
    match put.prev_kv {
        true => judge(over(Access::Read, &put.key, &[])),
        false => Ok(()),
    }
}

fn needs_of_delete<'a>(delete: &'a DeleteRangeRequest, judge: Judge<'a, '_>) -> Result<(), RequestError> {
    judge(over(Access::Write, &delete.key, &delete.range_end))?;
    match delete.prev_kv {
        true => judge(over(Access::Read, &delete.key, &delete.range_end)),
        false => Ok(()),
    }
}

fn needs_of_txn<'a>(
    txn: &'a TxnRequest,
    leases: &'a Lessor,
    judge: Judge<'a, '_>,
) -> Result<(), RequestError> {
    for compare in &txn.compare {
        judge(over(Access::Read, &compare.key, &compare.range_end))?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        needs_of_op(op, leases, judge)?;
    }
    Ok(())
}

fn needs_of_op<'a>(op: &'a RequestOp, leases: &'a Lessor, judge: Judge<'a, '_>) -> Result<(), RequestError> {
    match &op.request {
        Some(Op::RequestRange(range)) => judge(over(Access::Read, &range.key, &range.range_end)),
        Some(Op::RequestPut(put)) => needs_of_put(put, leases, judge),
        Some(Op::RequestDeleteRange(delete)) => needs_of_delete(delete, judge),
        Some(Op::RequestTxn(txn)) => needs_of_txn(txn, leases, judge),
        None => Ok(()),
    }
}

fn over<'a>(access: Access, key: &'a [u8], range_end: &'a [u8]) -> Operation<'a> {
    Operation::Range(access, Keys::new(key, range_end))
}

fn each_key<'a>(
    access: Access,
    lease: LeaseId,
    leases: &'a Lessor,
    judge: Judge<'a, '_>,
) -> Result<(), RequestError> {
    match leases.lookup(lease) {
        Some(lease) => judge(Operation::Each(access, &lease.keys)),
        None => Ok(()),
    }
}

impl State {
    /// Whether a caller may make a request, as this state stands.
    ///
    /// # Errors
    /// See [`authorise`].
    pub fn judge(&self, who: Identity<'_>, request: Request<'_>) -> Result<(), RequestError> {
        if !self.auth.enabled() || who == Identity::Trusted {
            return Ok(());
        }
        needs(request, &self.lessor, &mut |operation| {
            authorise(&self.auth, who, &operation).map_err(RequestError::Auth)
        })
    }

    /// The same for a request of the log. What members ask for by themselves, and what is judged where it is proposed
    /// because nothing of it depends on keys (grants, alarms), is open here.
    pub(super) fn judge_entry(&self, request: &InternalRaftRequest) -> Result<(), RequestError> {
        if !self.auth.enabled() {
            return Ok(());
        }
        match asked(request) {
            Some(asked) => self.judge(identity(request), asked),
            None => Ok(()),
        }
    }

    /// What applying a request will come to that needs a user and has none; nothing for a request that may pass. Spares
    /// the log what is refused for certain.
    ///
    /// # Errors
    /// `UserEmpty`, or what an alarm forbids before that.
    pub fn refuse_nobody(&self, request: &InternalRaftRequest) -> Result<(), RequestError> {
        if !self.auth.enabled() || identity(request) != Identity::Nobody {
            return Ok(());
        }
        super::gate::check(&self.alarms, request)?;
        self.judge_entry(request)
    }
}

/// Whose an entry is.
fn identity(request: &InternalRaftRequest) -> Identity<'_> {
    match &request.header {
        _ if request.trusted => Identity::Trusted,
        Some(header) if header.auth_revision > 0 => Identity::User {
            name: &header.username,
            revision: header.auth_revision,
        },
        _ => Identity::Nobody,
    }
}

/// What of an entry is judged when it is applied.
fn asked(request: &InternalRaftRequest) -> Option<Request<'_>> {
    if let Some(put) = &request.put {
        return Some(Request::Put(put));
    }
    if let Some(delete) = &request.delete_range {
        return Some(Request::DeleteRange(delete));
    }
    if let Some(txn) = &request.txn {
        return Some(Request::Txn(txn));
    }
    if request.compaction.is_some() {
        return Some(Request::Compact);
    }
    if let Some(revoke) = &request.lease_revoke {
        // The leader's own revoke of an expired lease names its term.
        let by_user = request.revoke_term == 0;
        return by_user.then_some(Request::LeaseRevoke(LeaseId(revoke.id)));
    }
    if let Some(user) = &request.auth_user_get {
        return Some(Request::UserGet(&user.name));
    }
    if let Some(role) = &request.auth_role_get {
        return Some(Request::RoleGet(&role.role));
    }
    changes_auth(request).then_some(Request::AuthChange)
}

/// Whether it is a request about auth that only an administrator may make.
fn changes_auth(request: &InternalRaftRequest) -> bool {
    request.auth_enable.is_some()
        || request.auth_disable.is_some()
        || request.auth_user_add.is_some()
        || request.auth_user_delete.is_some()
        || request.auth_user_change_password.is_some()
        || request.auth_user_grant_role.is_some()
        || request.auth_user_revoke_role.is_some()
        || request.auth_user_list.is_some()
        || request.auth_role_add.is_some()
        || request.auth_role_delete.is_some()
        || request.auth_role_list.is_some()
        || request.auth_role_grant_permission.is_some()
        || request.auth_role_revoke_permission.is_some()
}
