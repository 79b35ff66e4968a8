//! The service Lease.

use std::sync::Arc;

use futures_util::{Stream, stream};
use http::Request;
use proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest};
use store::Store;
use tonic::{Status, Streaming};

use super::guard::Guarded;
use super::meter::RequestBody;
use super::rpc::Rpc;
use super::{Answering, acting, answer, bidi_stream, requires_leader, status, unary};
use crate::auth::Credentials;
use crate::core::Core;
use crate::metrics::StreamFailure;

pub(super) fn serve<'a>(
    core: &'a Arc<Core>,
    store: &'a Store,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Answering<'a> {
    match rpc {
        Rpc::LeaseGrant => unary(core, request, move |q| async move {
            answer(store.lease_grant(q).await)
        }),
        Rpc::LeaseRevoke => unary(core, request, move |q| async move {
            answer(store.lease_revoke(q).await)
        }),
        Rpc::LeaseTimeToLive => unary(core, request, move |q| async move {
            answer(store.lease_time_to_live(q).await)
        }),
        Rpc::LeaseLeases => unary(core, request, move |_: LeaseLeasesRequest| async move {
            answer(store.lease_leases().await)
        }),
        Rpc::LeaseKeepAlive => {
            let requires_leader = requires_leader(request.headers());
            let credentials = Credentials::of(&request);
            bidi_stream(core, request, move |requests| {
                let credentials = credentials.clone();
                async move {
                    let renewals = renewals(core.clone(), credentials, requests);
                    Ok(tonic::Response::new(Guarded::new(
                        core,
                        requires_leader,
                        renewals,
                    )))
                }
            })
        }
        other => unreachable!("{other:?} is no RPC of Lease"),
    }
}

/// One answer per request, in turn; who calls is found out with each. The client's end of the stream ends it; so does the first error.
fn renewals(
    core: Arc<Core>,
    credentials: Credentials,
    requests: Streaming<LeaseKeepAliveRequest>,
) -> impl Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send + 'static {
    stream::unfold(Some((core, credentials, requests)), |state| async {
        let (core, credentials, mut requests) = state?;
        let request = match requests.message().await {
            Ok(request) => request?,
            Err(error) => {
                if status::is_broken_message(&error) {
                    let numbers = &core.shard.numbers;
                    numbers.stream_failed(StreamFailure::ReceiveLease);
                }
                return Some((Err(status::translate(error)), None));
            }
        };
        core.shard.message_received(Rpc::LeaseKeepAlive);
        let store = acting(&core, &credentials).await;
        match store.lease_keep_alive(request.id).await {
            Ok(renewal) => {
                core.shard.message_sent(Rpc::LeaseKeepAlive);
                Some((Ok(renewal), Some((core, credentials, requests))))
            }
            Err(error) => Some((Err(status::of(&error)), None)),
        }
    })
}
