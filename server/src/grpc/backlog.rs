//! Bounds what clients can make the process hold: requests that come in pieces and never end, and large answers
//! that are never read. Small ones are not counted: they are bounded by what the store admits.
//!
//! Answers: a call that may be answered with much waits for room before it is carried out, so that what waits is
//! only a request. Requests: whoever goes on sending beyond the bound is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;
use tonic::{Code, Status};

/// Bytes held for clients, of one kind, with a bound.
pub(crate) struct Backlog {
    bytes: AtomicUsize,
    bytes_max: usize,
    freed: Notify,
}

impl Backlog {
    /// With a bound of its own.
    pub(crate) fn new(bytes_max: usize) -> Arc<Backlog> {
        Arc::new(Backlog {
            bytes: AtomicUsize::new(0),
            bytes_max,
            freed: Notify::new(),
        })
    }

    /// For requests received in part.
    pub(crate) fn of_requests() -> Arc<Backlog> {
        Backlog::new(REQUEST_BYTES_MAX)
    }

    /// For answers not yet sent.
    pub(crate) fn of_answers() -> Arc<Backlog> {
        Backlog::new(ANSWER_BYTES_MAX)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    /// Waits until there is room, but not for ever.
    pub(super) async fn room(&self) -> Result<(), Status> {
        if !self.is_full() {
            return Ok(());
        }
        timeout(ROOM_WAIT_MAX, self.wait()).await.map_err(|_| too_many())
    }

    async fn wait(&self) {
        loop {
            let freed = self.freed.notified();
            let mut freed = std::pin::pin!(freed);
            // Registered before the look, so that nothing freed in between is missed.
            freed.as_mut().enable();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }

    /// Counts `data`, if it is large, until it is sent.
    pub(crate) fn hold_data(self: &Arc<Self>, data: Vec<u8>) -> Bytes {
        let (bytes, data) = (data.len(), Bytes::from(data));
        if bytes < COUNTED_BYTES_MIN {
            return data;
        }
        Arc::new(self.hold(bytes)).with(data)
    }

    /// Counts `bytes` until the answer's end.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Held {
            backlog: self.clone(),
            bytes,
        }
    }
}

/// Counted bytes; dropping it frees them.
pub(crate) struct Held {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Held {
    /// `data` that is counted here until the last of it is gone.
    pub(super) fn with(self: Arc<Held>, data: Bytes) -> Bytes {
        Bytes::from_owner(HeldData { data, _held: self })
    }

    /// Counts more, unless the bound is reached.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Status> {
        if self.backlog.is_full() {
            return Err(too_many());
        }
        self.backlog.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let before = self.backlog.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if before >= self.backlog.bytes_max {
            self.backlog.freed.notify_waiters();
        }
    }
}

struct HeldData {
    data: Bytes,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for HeldData {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Refused for the sake of the others.
pub(super) fn too_many() -> Status {
    Status::new(Code::ResourceExhausted, "etcdserver: too many requests")
}

/// Requests received in part, together.
const REQUEST_BYTES_MAX: usize = 256 << 20;
/// Large answers made and not yet sent, together. One more may be made when there is any room, so that no answer is
/// too large to be given.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// As long as a read may take.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(7);
/// A request or an answer below this is not counted.
pub(super) const COUNTED_BYTES_MIN: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_on_when_room_is_made() {
        let backlog = Backlog::new(100);
        backlog.room().await.unwrap();
        let held = backlog.hold(100);
        let other = backlog.hold(50);
        let waiting = tokio::spawn({
            let backlog = backlog.clone();
            async move { backlog.room().await.is_ok() }
        });
        drop(other);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_refused() {
        let backlog = Backlog::new(100);
        let _held = backlog.hold(100);
        assert_eq!(backlog.room().await.unwrap_err().code(), Code::ResourceExhausted);
    }

    #[test]
    fn nothing_grows_beyond_the_bound() {
        let backlog = Backlog::new(100);
        let mut held = backlog.hold(0);
        held.grow(60).unwrap();
        held.grow(60).unwrap();
        assert_eq!(
            held.grow(1).unwrap_err().message(),
            "etcdserver: too many requests"
        );
        drop(held);
        assert!(!backlog.is_full());
        backlog.hold(0).grow(1).unwrap();
    }
}
