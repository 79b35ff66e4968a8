//! What a member refuses for what it is, and what ends a long-lived stream from the server's side: the stop of the
//! process, and the loss of the leader for streams that require one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use tonic::Status;

use super::rpc::Rpc;
use super::status;
use crate::core::{Core, raised};

/// Refuses what a learner does not serve, for a member that is one. Whether it serves a Range depends on its message:
/// see [`serves_read`].
pub(super) fn serves(core: &Core, rpc: Rpc) -> Result<(), Status> {
    let always = matches!(rpc, Rpc::Status | Rpc::Range | Rpc::Snapshot);
    match !always && core.store.is_learner() {
        true => Err(status::not_supported_for_learner()),
        false => Ok(()),
    }
}

/// The same for a Range: a learner reads only what it has.
pub(super) fn serves_read(core: &Core, serializable: bool) -> Result<(), Status> {
    match !serializable && core.store.is_learner() {
        true => Err(status::not_supported_for_learner()),
        false => Ok(()),
    }
}

/// A stream that the server may end.
pub(super) struct Guarded<S> {
    stream: Pin<Box<S>>,
    interruption: Pin<Box<dyn Future<Output = Status> + Send>>,
    ended: bool,
}

impl<S> Guarded<S> {
    pub(super) fn new(core: &Arc<Core>, requires_leader: bool, stream: S) -> Guarded<S> {
        Guarded {
            stream: Box::pin(stream),
            interruption: Box::pin(interruption(core.clone(), requires_leader)),
            ended: false,
        }
    }
}

impl<A, S> Stream for Guarded<S>
where
    S: Stream<Item = Result<A, Status>>,
{
    type Item = Result<A, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // What is ready goes out first.
        if let Poll::Ready(item) = self.stream.as_mut().poll_next(context) {
            self.ended = !matches!(item, Some(Ok(_)));
            return Poll::Ready(item);
        }
        match self.interruption.as_mut().poll(context) {
            Poll::Ready(status) => {
                self.ended = true;
                Poll::Ready(Some(Err(status)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

async fn interruption(core: Arc<Core>, requires_leader: bool) -> Status {
    let mut stopping = core.stopping.clone();
    // A stream is admitted only while a leader is known: only a later loss concerns it.
    let mut leaderless = core.leaderless.clone();
    leaderless.mark_unchanged();
    tokio::select! {
        () = raised(&mut stopping) => status::stopped(),
        _ = leaderless.changed(), if requires_leader => status::no_leader(),
    }
}
