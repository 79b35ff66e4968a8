//! The service Maintenance.

use std::sync::Arc;

use futures_util::StreamExt as _;
use http::Request;
use proto::etcdserverpb::downgrade_request::DowngradeAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmType, DefragmentRequest, DefragmentResponse, DowngradeInfo, DowngradeRequest,
    DowngradeResponse, HashKvRequest, HashRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse,
    SnapshotRequest, StatusRequest, StatusResponse,
};
use store::Store;
use store::apply::Request as Asked;
use store::types::MemberId;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::guard::Guarded;
use super::meter::RequestBody;
use super::rpc::Rpc;
use super::{Answering, answer, requires_leader, server_stream, status, unary};
use crate::config::{ETCD_VERSION, STORAGE_VERSION};
use crate::core::Core;

pub(super) fn serve<'a>(
    core: &'a Arc<Core>,
    store: &'a Store,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Answering<'a> {
    match rpc {
        Rpc::Alarm => unary(
            core,
            request,
            move |q| async move { answer(store.alarm(q).await) },
        ),
        Rpc::HashKv => unary(core, request, move |q: HashKvRequest| async move {
            answer(store.hash_kv(q.revision).await)
        }),
        Rpc::Status => unary(core, request, move |_: StatusRequest| async {
            let permitted = store.permit(Asked::Status);
            permitted.map_err(|error| status::of(&error))?;
            Ok(tonic::Response::new(status_response(&store.status())))
        }),
        // Space is reclaimed continuously: there is nothing to do but to wait until it is. etcd's answer has no header
        // either.
        Rpc::Defragment => unary(core, request, move |_: DefragmentRequest| async {
            let _timed = core.health.defragmentation();
            answer(store.defragment().await.map(|()| DefragmentResponse::default()))
        }),
        Rpc::Hash => unary(core, request, move |_: HashRequest| async move {
            let header = store.status().header;
            let hash = core
                .backups
                .hash(store)
                .await
                .map_err(|failure| status::of_backup(&failure))?;
            Ok(tonic::Response::new(HashResponse {
                header: Some(header),
                hash,
            }))
        }),
        Rpc::Snapshot => snapshot(core, store, request),
        Rpc::MoveLeader => unary(core, request, move |q: MoveLeaderRequest| async move {
            let moved = store.move_leader(MemberId(q.target_id)).await;
            // etcd's answer has no header either.
            answer(moved.map(|()| MoveLeaderResponse::default()))
        }),
        Rpc::Downgrade => unary(core, request, move |q| downgrade(store, q)),
        other => unreachable!("{other:?} is not served here"),
    }
}

/// The whole state as etcd's file, in parts.
fn snapshot<'a>(core: &'a Arc<Core>, store: &'a Store, request: Request<RequestBody>) -> Answering<'a> {
    let requires_leader = requires_leader(request.headers());
    server_stream(core, request, move |_: SnapshotRequest| async move {
        let parts = core.backups.begin(store).await;
        let parts = parts.map_err(|failure| status::of_backup(&failure))?;
        let shard = core.shard.clone();
        let messages = ReceiverStream::new(parts).map(move |part| {
            shard.message_sent(Rpc::Snapshot);
            part.map_err(|failure| status::of_backup(&failure))
        });
        Ok(tonic::Response::new(Guarded::new(
            core,
            requires_leader,
            messages,
        )))
    })
}

async fn downgrade(
    store: &Store,
    request: DowngradeRequest,
) -> Result<tonic::Response<DowngradeResponse>, Status> {
    let version = match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate) => store.validate_downgrade(&request.version).await,
        Ok(DowngradeAction::Enable) => store.enable_downgrade(&request.version).await,
        Ok(DowngradeAction::Cancel) => store.cancel_downgrade(),
        Err(_) => return Err(status::unknown_method()),
    };
    answer(version.map(|version| DowngradeResponse {
        header: Some(store.status().header),
        version,
    }))
}

fn status_response(status: &store::shell::Status) -> StatusResponse {
    let mut errors = Vec::new();
    if status.leader.0 == 0 {
        errors.push("etcdserver: no leader".to_owned());
    }
    errors.extend(status.alarms.iter().map(alarm_text));
    StatusResponse {
        header: Some(status.header),
        version: ETCD_VERSION.to_owned(),
        db_size: status.db_size,
        leader: status.leader.0,
        raft_index: status.raft_index.0,
        raft_term: status.raft_term.0,
        raft_applied_index: status.raft_applied_index.0,
        errors,
        db_size_in_use: status.db_size_in_use,
        is_learner: status.is_learner,
        storage_version: STORAGE_VERSION.to_owned(),
        db_size_quota: status.db_size_quota,
        downgrade_info: Some(DowngradeInfo::default()),
    }
}

/// An alarm as Go prints the message, zero fields left out.
fn alarm_text(alarm: &AlarmMember) -> String {
    let mut parts = Vec::new();
    if alarm.member_id != 0 {
        parts.push(format!("memberID:{}", alarm.member_id));
    }
    match AlarmType::try_from(alarm.alarm) {
        Ok(AlarmType::None) => {}
        Ok(kind) => parts.push(format!("alarm:{}", kind.as_str_name())),
        Err(_) => parts.push(format!("alarm:{}", alarm.alarm)),
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_printed_as_go_does() {
        let text = |member_id, alarm| alarm_text(&AlarmMember { member_id, alarm });
        assert_eq!(text(77, AlarmType::Nospace as i32), "memberID:77 alarm:NOSPACE");
        assert_eq!(text(0, AlarmType::Corrupt as i32), "alarm:CORRUPT");
        assert_eq!(text(5, 9), "memberID:5 alarm:9");
    }
}
