//! One Watch stream.

use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use proto::mvccpb::Event;
use proto::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Status};

use super::requests::text;
use super::{Client, PATIENCE};

/// Requests go out as they are sent; a task of its own receives. (A real server sends its response headers only with
/// the first response, so waiting for them before a request was sent would be waiting for ever.)
pub(crate) struct WatchStream {
    requests: Option<mpsc::UnboundedSender<WatchRequest>>,
    responses: mpsc::UnboundedReceiver<Result<WatchResponse, Status>>,
}

/// The opening request of a stream.
pub(crate) type Outgoing = Request<UnboundedReceiverStream<WatchRequest>>;

impl WatchStream {
    pub(crate) fn open(client: &Client) -> WatchStream {
        WatchStream::open_as(client, |request| request)
    }

    /// A stream whose opening request is made up by the caller, with metadata say.
    pub(crate) fn open_as(client: &Client, prepare: impl FnOnce(Outgoing) -> Outgoing) -> WatchStream {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let outgoing = prepare(Request::new(UnboundedReceiverStream::new(outgoing)));
        let (incoming, responses) = mpsc::unbounded_channel();
        let mut watch = client.watch.clone();
        tokio::spawn(async move {
            let mut stream = match watch.watch(outgoing).await {
                Ok(response) => response.into_inner(),
                Err(status) => return drop(incoming.send(Err(status))),
            };
            loop {
                let received = tokio::select! {
                    received = stream.message() => received,
                    () = incoming.closed() => return,
                };
                let last = received.is_err();
                let Some(response) = received.transpose() else {
                    return;
                };
                if incoming.send(response).is_err() || last {
                    return;
                }
            }
        });
        WatchStream {
            requests: Some(requests),
            responses,
        }
    }

    /// Opens a stream with one watcher and returns its created response too.
    pub(crate) async fn with(client: &Client, request: WatchCreateRequest) -> (WatchStream, WatchResponse) {
        let mut stream = WatchStream::open(client);
        let created = stream.create(request).await;
        (stream, created)
    }

    /// Asks for a watcher; the next response must be its creation.
    pub(crate) async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.send(RequestUnion::CreateRequest(request));
        let created = self.next().await;
        assert!(
            created.created && created.events.is_empty(),
            "not a created response: {created:?}"
        );
        created
    }

    pub(crate) fn cancel(&self, watch_id: i64) {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    pub(crate) fn request_progress(&self) {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    pub(crate) fn send(&self, request: RequestUnion) {
        let requests = self.requests.as_ref().expect("the stream is not half-closed");
        requests
            .send(WatchRequest {
                request_union: Some(request),
            })
            .expect("the stream is open");
    }

    /// Ends the requests; the server sees a half-closed stream.
    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next response.
    pub(crate) async fn next(&mut self) -> WatchResponse {
        self.next_result()
            .await
            .expect("the stream is open")
            .expect("the stream has not failed")
    }

    /// The next response, the error that ended the stream, or nothing at its end.
    pub(crate) async fn next_result(&mut self) -> Option<Result<WatchResponse, Status>> {
        tokio::time::timeout(PATIENCE, self.responses.recv())
            .await
            .expect("a response of the watch stream")
    }

    /// The events of at least `count` changes, over as many responses as they come in.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.extend(self.next().await.events);
        }
        events
    }
}

/// Events as `PUT key=value` and `DELETE key`.
pub(crate) fn showed(events: &[Event]) -> Vec<String> {
    let show = |event: &Event| {
        let kv = event.kv.as_ref().expect("an event has a key");
        match event.r#type() {
            EventType::Put => format!("PUT {}={}", text(&kv.key), text(&kv.value)),
            EventType::Delete => format!("DELETE {}", text(&kv.key)),
        }
    };
    events.iter().map(show).collect()
}

pub(crate) fn keys_of(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| text(&event.kv.as_ref().expect("an event has a key").key))
        .collect()
}
