//! The service Watch: one stream of the hub per call.
//!
//! Order, buffering and every rule of watching are the hub's; here the two directions are only kept going. The
//! client's half-close does not end a stream, its reset does.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::Stream;
use http::Request;
use proto::etcdserverpb::{WatchRequest, WatchResponse, watch_request::RequestUnion};
use store::Store;
use store::shell::{WatchRequests, WatchResponses};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::{Code, Status, Streaming};

use super::guard::Guarded;
use super::meter::{RequestBody, Shard};
use super::rpc::Rpc;
use super::{Answering, bidi_stream, requires_leader, status};
use crate::audit::Entry;
use crate::auth::Credentials;
use crate::core::Core;
use crate::metrics::{StreamFailure, WatchSend};

pub(super) fn serve<'a>(
    core: &'a Arc<Core>,
    store: &'a Store,
    request: Request<RequestBody>,
) -> Answering<'a> {
    let requires_leader = requires_leader(request.headers());
    let credentials = Credentials::of(&request);
    let entry = request.extensions().get::<Entry>().cloned();
    bidi_stream(core, request, move |requests| {
        let (credentials, entry) = (credentials.clone(), entry.clone());
        async move {
            let opened = store.watch().await.map_err(|error| status::of(&error))?;
            let client = Client {
                core: core.clone(),
                credentials,
                entry,
                requests,
            };
            let answers = Answers::start(client, opened);
            Ok(tonic::Response::new(Guarded::new(core, requires_leader, answers)))
        }
    })
}

/// The client's side of a stream. Who it is, is found out with each watcher that it asks for, as in etcd: a token may have
/// come to its end meanwhile.
struct Client {
    core: Arc<Core>,
    credentials: Credentials,
    /// Where somebody wants to know who did what.
    entry: Option<Entry>,
    requests: Streaming<WatchRequest>,
}

/// The answers of one watch stream; dropping it ends the stream in the hub.
struct Answers {
    responses: WatchResponses,
    reader: JoinHandle<()>,
    /// Why the client's direction broke off.
    broken: oneshot::Receiver<Status>,
    shard: Arc<Shard>,
    /// Where somebody wants to know who did what.
    entry: Option<Entry>,
    /// What was handed out last, and when.
    sending: Option<(WatchSend, Instant)>,
}

impl Answers {
    fn start(client: Client, (requests, responses): (WatchRequests, WatchResponses)) -> Answers {
        let (report, broken) = oneshot::channel();
        let (shard, entry) = (client.core.shard.clone(), client.entry.clone());
        let reader = tokio::spawn(read(client, requests, report));
        Answers {
            responses,
            reader,
            broken,
            shard,
            entry,
            sending: None,
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Stream for Answers {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some((sent, at)) = self.sending.take() {
            self.shard.numbers.watch_sent(sent, at.elapsed());
        }
        match self.responses.poll_recv(context) {
            Poll::Ready(Some(response)) => {
                self.shard.message_sent(Rpc::Watch);
                if let Some(entry) = &self.entry {
                    entry.watch_answers(&response);
                }
                self.sending = Some((WatchSend::of(&response), Instant::now()));
                return Poll::Ready(Some(Ok(response)));
            }
            // The store ends watches only when it stops.
            Poll::Ready(None) => return Poll::Ready(Some(Err(status::stopped()))),
            Poll::Pending => {}
        }
        match Pin::new(&mut self.broken).poll(context) {
            Poll::Ready(Ok(reason)) => Poll::Ready(Some(Err(reason))),
            Poll::Ready(Err(_)) => Poll::Ready(Some(Err(status::watch_canceled()))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Hands the client's requests to the hub. After the client's half-close it only keeps the hub's stream open,
/// until it is aborted with the answers.
async fn read(client: Client, requests: WatchRequests, report: oneshot::Sender<Status>) {
    let Client {
        core,
        credentials,
        entry,
        requests: mut inbound,
    } = client;
    let shard = &core.shard;
    loop {
        let request = match inbound.message().await {
            Ok(Some(request)) => request,
            Ok(None) => std::future::pending().await,
            Err(error) => {
                if status::is_broken_message(&error) {
                    shard.numbers.stream_failed(StreamFailure::ReceiveWatch);
                }
                let reason = match error.code() {
                    Code::Cancelled => status::watch_canceled(),
                    _ => status::translate(error),
                };
                // The receiver is gone when the stream is, and then nobody needs the reason.
                let _ = report.send(reason);
                return;
            }
        };
        shard.message_received(Rpc::Watch);
        let handed = match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                if let Some(entry) = &entry {
                    entry.watches(&create);
                }
                let caller = core.auth.caller(&core.store, &credentials).await;
                requests.create_as(caller, create).await
            }
            Some(RequestUnion::CancelRequest(cancel)) => requests.cancel(cancel.watch_id).await,
            Some(RequestUnion::ProgressRequest(_)) => requests.progress().await,
            // etcd ignores a request without content, and one of a kind it does not know.
            None => Ok(()),
        };
        if let Err(error) = handed {
            let _ = report.send(status::of(&error.into()));
            return;
        }
    }
}
