//! The service KV.

use std::sync::Arc;

use futures_util::stream;
use http::{Request, Response};
use proto::etcdserverpb::RangeStreamResponse;
use tonic::body::Body;

use super::meter::RequestBody;
use super::rpc::Rpc;
use super::{answer, server_stream, status, unary};
use crate::core::Core;

pub(super) async fn serve(core: &Arc<Core>, rpc: Rpc, request: Request<RequestBody>) -> Response<Body> {
    let store = &core.store;
    match rpc {
        Rpc::Range => unary(core, request, |q| async move { answer(store.range(q).await) }).await,
        Rpc::Put => unary(core, request, |q| async move { answer(store.put(q).await) }).await,
        Rpc::DeleteRange => {
            unary(
                core,
                request,
                |q| async move { answer(store.delete_range(q).await) },
            )
            .await
        }
        Rpc::Txn => unary(core, request, |q| async move { answer(store.txn(q).await) }).await,
        Rpc::Compact => unary(core, request, |q| async move { answer(store.compact(q).await) }).await,
        Rpc::RangeStream => range_stream(core, request).await,
        other => unreachable!("{other:?} is no RPC of KV"),
    }
}

async fn range_stream(core: &Arc<Core>, request: Request<RequestBody>) -> Response<Body> {
    server_stream(core, request, |q| async {
        let parts = core.store.range_stream(q);
        let shard = core.shard.clone();
        let messages = stream::unfold((parts, shard), |(mut parts, shard)| async {
            let message = match parts.next().await? {
                Ok(part) => {
                    shard.message_sent(Rpc::RangeStream);
                    Ok(RangeStreamResponse {
                        range_response: Some(part),
                    })
                }
                Err(error) => Err(status::of(&error)),
            };
            Some((message, (parts, shard)))
        });
        Ok(tonic::Response::new(messages))
    })
    .await
}
