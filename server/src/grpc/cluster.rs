//! The service Cluster.

use std::sync::Arc;

use http::{Request, Response};
use proto::etcdserverpb::MemberListRequest;
use tonic::body::Body;

use super::meter::RequestBody;
use super::{answer, unary};
use crate::core::Core;

pub(super) async fn serve(core: &Arc<Core>, request: Request<RequestBody>) -> Response<Body> {
    unary(core, request, |q: MemberListRequest| async move {
        answer(core.store.member_list(q.linearizable).await)
    })
    .await
}
