//! The two halves of a watch stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use tokio::sync::mpsc;

use super::command::{Command, WatchCommand};
use super::shared::Shared;
use crate::auth::Caller;
use crate::error::Unavailable;
use crate::watch::{SINK_RESPONSES_MAX, Sink, StreamId};

/// The sending half: requests to one watch stream. Not answered here; answers come on [`WatchResponses`] in the
/// order of the requests.
pub struct WatchRequests {
    shared: Arc<Shared>,
    stream: StreamId,
    caller: Caller,
}

/// The receiving half. Holds at most [`SINK_RESPONSES_MAX`] responses; a reader that lags loses none, its watchers
/// catch up from history. Dropping it ends the stream.
pub struct WatchResponses {
    shared: Arc<Shared>,
    stream: StreamId,
    responses: mpsc::Receiver<WatchResponse>,
}

/// The hub's end of the queue; completes the headers.
pub(super) struct ChannelSink {
    pub(super) shared: Arc<Shared>,
    pub(super) responses: mpsc::Sender<WatchResponse>,
}

impl Sink for ChannelSink {
    fn offer(&mut self, mut response: WatchResponse) -> Result<(), WatchResponse> {
        self.shared.complete(&mut response.header);
        self.responses
            .try_send(response)
            .map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(response) | mpsc::error::TrySendError::Closed(response) => {
                    response
                }
            })
    }

    fn room(&self) -> usize {
        self.responses.capacity()
    }

    fn is_closed(&self) -> bool {
        self.responses.is_closed()
    }
}

/// Opens a stream.
pub(super) async fn open(
    shared: &Arc<Shared>,
    caller: &Caller,
) -> Result<(WatchRequests, WatchResponses), Unavailable> {
    let stream = StreamId(shared.streams.fetch_add(1, Ordering::Relaxed));
    let (sender, responses) = mpsc::channel(SINK_RESPONSES_MAX);
    let sink = ChannelSink {
        shared: Arc::clone(shared),
        responses: sender,
    };
    shared
        .send(Command::Watch(WatchCommand::Open(stream, Box::new(sink))))
        .await?;
    Ok((
        WatchRequests {
            shared: Arc::clone(shared),
            stream,
            caller: caller.clone(),
        },
        WatchResponses {
            shared: Arc::clone(shared),
            stream,
            responses,
        },
    ))
}

impl WatchRequests {
    /// Creates a watcher, for the caller of the handle by which the stream was opened.
    ///
    /// # Errors
    /// `Stopped` when the store has stopped; what is wrong with a request is answered on the stream.
    pub async fn create(&self, request: WatchCreateRequest) -> Result<(), Unavailable> {
        self.shared
            .send(Command::Watch(WatchCommand::Create(
                self.stream,
                request,
                self.caller.clone(),
            )))
            .await
    }

    /// Creates a watcher for somebody: who a stream's client is, is found out anew with each request.
    ///
    /// # Errors
    /// As [`WatchRequests::create`].
    pub async fn create_as(&self, caller: Caller, request: WatchCreateRequest) -> Result<(), Unavailable> {
        self.shared
            .send(Command::Watch(WatchCommand::Create(self.stream, request, caller)))
            .await
    }

    /// Answers, in its turn, a request to create a watcher with the reason why there is none.
    ///
    /// # Errors
    /// `Stopped` when the store has stopped.
    pub async fn refuse(&self, reason: String) -> Result<(), Unavailable> {
        self.shared
            .send(Command::Watch(WatchCommand::Refuse(self.stream, reason)))
            .await
    }

    /// Cancels a watcher; answered only where there is one of that id.
    ///
    /// # Errors
    /// `Stopped` when the store has stopped.
    pub async fn cancel(&self, watch_id: i64) -> Result<(), Unavailable> {
        self.shared
            .send(Command::Watch(WatchCommand::Cancel(self.stream, watch_id)))
            .await
    }

    /// Asks for a progress response; answered only while every watcher of the stream is synced.
    ///
    /// # Errors
    /// `Stopped` when the store has stopped.
    pub async fn progress(&self) -> Result<(), Unavailable> {
        self.shared
            .send(Command::Watch(WatchCommand::Progress(self.stream)))
            .await
    }
}

impl WatchResponses {
    /// The next response; `None` when the stream has ended because the store stops.
    pub async fn recv(&mut self) -> Option<WatchResponse> {
        self.responses.recv().await
    }

    /// As [`WatchResponses::recv`], for hand-written futures.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<WatchResponse>> {
        self.responses.poll_recv(context)
    }
}

impl Drop for WatchResponses {
    fn drop(&mut self) {
        self.responses.close();
        let close = Command::Watch(WatchCommand::Close(self.stream));
        // Nothing can be waited for here. With a full mailbox, the member's next tick looks for such streams.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.shared.mailbox.try_send(close) {
            self.shared.streams_abandoned.store(true, Ordering::Release);
        }
    }
}
