//! The service Cluster. A change of membership waits until it is applied here; only the leader can judge a promotion,
//! so that another member asks it to.

use std::sync::Arc;

use http::Request;
use proto::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest,
    MemberUpdateRequest, ResponseHeader,
};
use store::Store;
use store::apply::Request as Asked;
use store::types::MemberId;

use super::meter::RequestBody;
use super::rpc::Rpc;
use super::{Answering, answer, status, unary};
use crate::core::Core;
use crate::peer::promote;

pub(super) fn serve<'a>(
    core: &'a Arc<Core>,
    store: &'a Store,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Answering<'a> {
    match rpc {
        Rpc::MemberAdd => unary(core, request, move |q: MemberAddRequest| async move {
            answer(store.member_add(q.peer_urls, q.is_learner).await)
        }),
        Rpc::MemberRemove => unary(core, request, move |q: MemberRemoveRequest| async move {
            answer(store.member_remove(MemberId(q.id)).await)
        }),
        Rpc::MemberUpdate => unary(core, request, move |q: MemberUpdateRequest| async move {
            answer(store.member_update(MemberId(q.id), q.peer_urls).await)
        }),
        Rpc::MemberList => unary(core, request, move |q: MemberListRequest| async move {
            answer(store.member_list(q.linearizable).await)
        }),
        Rpc::MemberPromote => unary(core, request, move |q: MemberPromoteRequest| async move {
            // Here, whoever it is that can judge the learner: members do not ask each other who calls.
            let permitted = store.permit(Asked::MemberChange);
            permitted.map_err(|error| status::of(&error))?;
            let promoted = promote::promote(store, &core.peers, MemberId(q.id)).await;
            answer(promoted.map(|members| MemberPromoteResponse {
                // As all answers about members: without a revision.
                header: Some(ResponseHeader {
                    revision: 0,
                    ..store.status().header
                }),
                members,
            }))
        }),
        other => unreachable!("{other:?} is not served here"),
    }
}
