//! The election: as the lock, with a value of the leader's choice in its key.

use bytes::Bytes;
use proto::etcdserverpb::ResponseHeader;
use proto::etcdserverpb::request_op::Request;
use proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use store::Store;

use super::candidate::{Candidate, resign as resign_key};
use super::{
    Failure, first_of, get, key_of, lease_or_grant, oldest, prefix_of, put, revision_of, txn_if_created,
    wait_until_oldest,
};

/// Waits until the caller leads. A lease that stands already stands with the new value, in its old place.
pub(crate) async fn campaign(store: &Store, request: CampaignRequest) -> Result<CampaignResponse, Failure> {
    let CampaignRequest { name, lease, value } = request;
    let lease = lease_or_grant(store, lease).await?;
    let prefix = prefix_of(&name);
    let key = key_of(&prefix, lease);
    let enter = put(key.clone(), value.clone(), lease);
    let again = Request::RequestRange(get(key.clone()));
    let entered = store
        .txn(txn_if_created(key.clone(), 0, vec![enter], vec![again]))
        .await?;
    let mut rev = revision_of(entered.header.as_ref());
    if let Some(standing) = first_of(&entered, 0) {
        rev = standing.create_revision;
        if standing.value != value {
            let update = update(store, key.clone(), rev, value, lease).await;
            if let Err(failure) = update {
                // What failed first is what the caller hears.
                let _ = resign_key(store, key, rev).await;
                return Err(failure);
            }
        }
    }
    let candidate = Candidate::new(store, key, rev);
    let won = wait_until_oldest(store, &prefix, rev).await;
    // Unlike a lock, a campaign that fails leaves its key: only one given up by its client takes it back.
    let key = candidate.keep();
    won?;
    Ok(CampaignResponse {
        header: entered.header,
        leader: Some(LeaderKey {
            name,
            key,
            rev,
            lease,
        }),
    })
}

/// Changes the value of the leader's key, for whoever proves to have it.
pub(crate) async fn proclaim(store: &Store, request: ProclaimRequest) -> Result<ProclaimResponse, Failure> {
    let leader = request.leader.ok_or(Failure::MissingLeader)?;
    let lease = lease_or_grant(store, leader.lease).await?;
    let header = update(store, leader.key, leader.rev, request.value, lease).await?;
    Ok(ProclaimResponse { header })
}

/// The leader's key as it is now.
pub(crate) async fn leader(store: &Store, request: LeaderRequest) -> Result<LeaderResponse, Failure> {
    let mut found = store.range(oldest(&prefix_of(&request.name))).await?;
    match found.kvs.pop() {
        Some(kv) => Ok(LeaderResponse {
            header: found.header,
            kv: Some(kv),
        }),
        None => Err(Failure::NoLeader),
    }
}

/// Gives the leadership up. Whether the caller had it does not matter.
pub(crate) async fn resign(store: &Store, request: ResignRequest) -> Result<ResignResponse, Failure> {
    let leader = request.leader.ok_or(Failure::MissingLeader)?;
    // etcd opens a session here as for all others: lease 0 leaves a new lease behind.
    lease_or_grant(store, leader.lease).await?;
    let resigned = resign_key(store, leader.key, leader.rev).await?;
    Ok(ResignResponse {
        header: resigned.header,
    })
}

async fn update(
    store: &Store,
    key: Bytes,
    create_revision: i64,
    value: Bytes,
    lease: i64,
) -> Result<Option<ResponseHeader>, Failure> {
    let change = vec![put(key.clone(), value, lease)];
    let updated = store
        .txn(txn_if_created(key, create_revision, change, Vec::new()))
        .await?;
    if updated.succeeded {
        Ok(updated.header)
    } else {
        Err(Failure::NotLeader)
    }
}
