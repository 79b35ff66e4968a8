//! Locks and elections over the store's handle: what etcd's services Lock and Election do for clients that cannot do
//! it themselves.
//!
//! Both are one recipe. Whoever wants to own a *name* puts the key `name/lease` (the lease in hexadecimal), bound to
//! its lease; the owner is the key with the lowest create revision; everybody else waits for the deletion of the key
//! just before its own, so that a release wakes one waiter and not all of them. Nothing is kept here: a call that
//! waits is one watch of one key, and keys and leases are as visible to others as any.
//!
//! Where etcd's recipe has an edge, it is kept, because programs can see it:
//! - a lock checks after its wait that its own key is still there; a campaign does not;
//! - a candidate that gives up deletes its key, but a lease granted for it (see [`lease_or_grant`]) is left to expire;
//! - a campaign's header is that of the moment it began, a lock's that of the moment it was won.

use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RangeResponse, RequestOp,
    ResponseHeader, TxnRequest, TxnResponse,
};
use proto::mvccpb::KeyValue;
use store::Store;
use store::error::Error;

mod candidate;
pub(crate) mod election;
pub(crate) mod mutex;
pub(crate) mod observe;
mod watching;

/// Why a lock or an election failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Store(#[from] Error),
    /// A watch met history that is compacted.
    #[error("the revision to watch from has been compacted")]
    Compacted,
    /// A watch ended in another way.
    #[error("lost watcher waiting for delete")]
    LostWatcher,
    /// The own key is gone after the wait for the lock.
    #[error("mutex: session is expired")]
    SessionExpired,
    #[error("election: no leader")]
    NoLeader,
    #[error("election: not leader")]
    NotLeader,
    #[error("\"leader\" field must be provided")]
    MissingLeader,
}

/// The lease to bind a key to: the caller's, or for 0 a new one, which nobody renews.
async fn lease_or_grant(store: &Store, lease: i64) -> Result<i64, Failure> {
    if lease != 0 {
        return Ok(lease);
    }
    let granted = store
        .lease_grant(LeaseGrantRequest {
            ttl: LEASE_TTL_S,
            id: 0,
        })
        .await?;
    Ok(granted.id)
}

/// What all keys of a name begin with.
fn prefix_of(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The key of a lease among those of a prefix. Ids may be negative, and then have a sign here as in Go.
fn key_of(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let id = format!("{sign}{:x}", lease.unsigned_abs());
    [prefix, id.as_bytes()].concat().into()
}

/// The end of the range of all keys that begin with a prefix of [`prefix_of`].
fn end_of(prefix: &Bytes) -> Bytes {
    let mut end = prefix.to_vec();
    // A prefix ends in a slash.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// The key of a prefix that was created first: the owner's.
fn oldest(prefix: &Bytes) -> RangeRequest {
    RangeRequest {
        key: prefix.clone(),
        range_end: end_of(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend as i32,
        sort_target: SortTarget::Create as i32,
        ..Default::default()
    }
}

/// The key of a prefix that was created last before `create_revision`.
fn newest_before(prefix: &Bytes, create_revision: i64) -> RangeRequest {
    RangeRequest {
        max_create_revision: create_revision - 1,
        sort_order: SortOrder::Descend as i32,
        ..oldest(prefix)
    }
}

fn get(key: Bytes) -> RangeRequest {
    RangeRequest {
        key,
        ..Default::default()
    }
}

/// A put of a candidate's key.
fn put(key: Bytes, value: Bytes, lease: i64) -> Request {
    Request::RequestPut(PutRequest {
        key,
        value,
        lease,
        ..Default::default()
    })
}

fn delete(key: Bytes) -> Request {
    Request::RequestDeleteRange(DeleteRangeRequest {
        key,
        ..Default::default()
    })
}

/// A txn on the condition that `key` was created at `create_revision`; 0: that it does not exist.
fn txn_if_created(
    key: Bytes,
    create_revision: i64,
    success: Vec<Request>,
    failure: Vec<Request>,
) -> TxnRequest {
    let op = |request| RequestOp {
        request: Some(request),
    };
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Create as i32,
            key,
            target_union: Some(TargetUnion::CreateRevision(create_revision)),
            ..Default::default()
        }],
        success: success.into_iter().map(op).collect(),
        failure: failure.into_iter().map(op).collect(),
    }
}

/// The first pair of the range at a place in a txn's answer.
fn first_of(answer: &TxnResponse, place: usize) -> Option<&KeyValue> {
    match answer.responses.get(place)?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first(),
        _ => None,
    }
}

fn revision_of(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// Waits until no key of the prefix is older than one created at `create_revision`: for one key after the other, the
/// newest first, because one that gives up must not let those behind it pass those before it.
async fn wait_until_oldest(store: &Store, prefix: &Bytes, create_revision: i64) -> Result<(), Failure> {
    loop {
        let RangeResponse { header, mut kvs, .. } =
            store.range(newest_before(prefix, create_revision)).await?;
        let Some(before) = kvs.pop() else {
            return Ok(());
        };
        watching::until_deleted(store, before.key, revision_of(header.as_ref())).await?;
    }
}

/// As long as the session of a client lasts by default.
const LEASE_TTL_S: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_after_leases_in_gos_hexadecimal() {
        for (name, lease, key) in [
            ("foo", 77, "foo/4d"),
            ("", 77, "/4d"),
            ("neg", -5, "neg/-5"),
            ("a/b", i64::MAX, "a/b/7fffffffffffffff"),
            ("min", i64::MIN, "min/-8000000000000000"),
        ] {
            assert_eq!(key_of(&prefix_of(name.as_bytes()), lease), key);
        }
    }

    #[test]
    fn the_range_of_a_name_holds_its_keys_only() {
        let request = oldest(&prefix_of(b"foo"));
        assert_eq!(
            (&request.key[..], &request.range_end[..]),
            (&b"foo/"[..], &b"foo0"[..])
        );
        let request = newest_before(&prefix_of(b"foo"), 8);
        assert_eq!((request.limit, request.max_create_revision), (1, 7));
    }
}
