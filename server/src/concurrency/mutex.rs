//! The lock: the owner's key is the proof of ownership, and its deletion the release.

use bytes::Bytes;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{DeleteRangeRequest, ResponseHeader};
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use store::Store;

use super::candidate::Candidate;
use super::{
    Failure, first_of, get, key_of, lease_or_grant, oldest, prefix_of, put, revision_of, txn_if_created,
    wait_until_oldest,
};

/// Waits until the caller owns the name; at once where its lease owns it already.
pub(crate) async fn lock(store: &Store, request: LockRequest) -> Result<LockResponse, Failure> {
    let lease = lease_or_grant(store, request.lease).await?;
    let prefix = prefix_of(&request.name);
    let key = key_of(&prefix, lease);
    let enter = put(key.clone(), Bytes::new(), lease);
    let again = Request::RequestRange(get(key.clone()));
    // The owner in the same breath: a free lock costs one round.
    let owner = Request::RequestRange(oldest(&prefix));
    let entered = store
        .txn(txn_if_created(
            key.clone(),
            0,
            vec![enter, owner.clone()],
            vec![again, owner],
        ))
        .await?;
    let create_revision = if entered.succeeded {
        revision_of(entered.header.as_ref())
    } else {
        first_of(&entered, 0).map_or(0, |own| own.create_revision)
    };
    if first_of(&entered, 1).is_none_or(|owner| owner.create_revision == create_revision) {
        return Ok(LockResponse {
            header: entered.header,
            key,
        });
    }
    let candidate = Candidate::new(store, key, create_revision);
    match await_ownership(store, &prefix, &candidate, create_revision).await {
        Ok(header) => Ok(LockResponse {
            header,
            key: candidate.keep(),
        }),
        // There is nothing left to delete.
        Err(expired @ Failure::SessionExpired) => {
            candidate.keep();
            Err(expired)
        }
        Err(failure) => {
            // What failed first is what the caller hears; with the key left behind, its lease ends it.
            let _ = candidate.give_up().await;
            Err(failure)
        }
    }
}

/// Gives the lock up. Whether there was one does not matter.
pub(crate) async fn unlock(store: &Store, request: UnlockRequest) -> Result<UnlockResponse, Failure> {
    let deleted = store
        .delete_range(DeleteRangeRequest {
            key: request.key,
            ..Default::default()
        })
        .await?;
    Ok(UnlockResponse {
        header: deleted.header,
    })
}

async fn await_ownership(
    store: &Store,
    prefix: &Bytes,
    candidate: &Candidate<'_>,
    create_revision: i64,
) -> Result<Option<ResponseHeader>, Failure> {
    wait_until_oldest(store, prefix, create_revision).await?;
    let own = store.range(get(candidate.key())).await?;
    if own.kvs.is_empty() {
        return Err(Failure::SessionExpired);
    }
    Ok(own.header)
}
