//! The service KV.

use std::sync::Arc;

use futures_util::stream;
use http::Request;
use proto::etcdserverpb::response_op::Response as OpResponse;
use proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, RangeRequest, RangeResponse, RangeStreamResponse, ResponseOp,
    TxnResponse,
};
use proto::mvccpb::KeyValue;
use store::Store;

use super::meter::RequestBody;
use super::rpc::Rpc;
use super::{Answering, answer, guard, large_answer, server_stream, status, unary};
use crate::core::Core;

pub(super) fn serve<'a>(
    core: &'a Arc<Core>,
    store: &'a Store,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Answering<'a> {
    match rpc {
        Rpc::Range => unary(core, request, move |q: RangeRequest| async move {
            guard::serves_read(core, q.serializable)?;
            if !q.range_end.is_empty() {
                core.answers.room().await?;
            }
            large_answer(core, store.range(q).await, range_bytes)
        }),
        Rpc::Put => unary(core, request, move |q| async move { answer(store.put(q).await) }),
        Rpc::DeleteRange => unary(core, request, move |q: DeleteRangeRequest| async move {
            if q.prev_kv {
                core.answers.room().await?;
            }
            large_answer(core, store.delete_range(q).await, delete_bytes)
        }),
        Rpc::Txn => unary(core, request, move |q| async move {
            core.answers.room().await?;
            large_answer(core, store.txn(q).await, txn_bytes)
        }),
        Rpc::Compact => unary(
            core,
            request,
            move |q| async move { answer(store.compact(q).await) },
        ),
        Rpc::RangeStream => range_stream(core, store, request),
        other => unreachable!("{other:?} is no RPC of KV"),
    }
}

/// About what key-value pairs take in memory.
fn pairs_bytes(pairs: &[KeyValue]) -> usize {
    pairs
        .iter()
        .map(|kv| size_of::<KeyValue>() + kv.key.len() + kv.value.len())
        .sum()
}

fn range_bytes(answer: &RangeResponse) -> usize {
    pairs_bytes(&answer.kvs)
}

fn delete_bytes(answer: &DeleteRangeResponse) -> usize {
    pairs_bytes(&answer.prev_kvs)
}

fn txn_bytes(answer: &TxnResponse) -> usize {
    let bytes = |op: &ResponseOp| match &op.response {
        Some(OpResponse::ResponseRange(answer)) => range_bytes(answer),
        Some(OpResponse::ResponseDeleteRange(answer)) => delete_bytes(answer),
        Some(OpResponse::ResponseTxn(answer)) => txn_bytes(answer),
        Some(OpResponse::ResponsePut(answer)) => {
            answer.prev_kv.as_slice().iter().map(|kv| kv.value.len()).sum()
        }
        None => 0,
    };
    answer.responses.iter().map(bytes).sum()
}

fn range_stream<'a>(core: &'a Arc<Core>, store: &'a Store, request: Request<RequestBody>) -> Answering<'a> {
    server_stream(core, request, move |q| async {
        let parts = store.range_stream(q);
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
}
