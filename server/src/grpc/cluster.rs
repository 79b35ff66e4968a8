//! The service Cluster.

use std::sync::Arc;

use http::Request;
use proto::etcdserverpb::MemberListRequest;

use super::meter::RequestBody;
use super::{Answering, answer, unary};
use crate::core::Core;

pub(super) fn serve(core: &Arc<Core>, request: Request<RequestBody>) -> Answering<'_> {
    unary(core, request, move |q: MemberListRequest| async move {
        answer(core.store.member_list(q.linearizable).await)
    })
}
