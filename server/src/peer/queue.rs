//! What waits to be written to one connection: bounded in messages and bytes, never blocking whoever fills it, and
//! empty whenever the connection is down.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use store::env::Class;
use tokio::sync::Notify;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) messages_max: usize,
    /// One message may always wait, however large.
    pub(super) bytes_max: usize,
}

impl Bounds {
    pub(super) fn of(class: Class) -> Bounds {
        match class {
            Class::Control => CONTROL,
            Class::Log => LOG,
            Class::Snapshot => SNAPSHOT,
        }
    }
}

/// See the module's description.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
    bounds: Bounds,
}

#[derive(Default)]
struct Waiting {
    open: bool,
    messages: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    /// A closed one.
    pub(super) fn new(bounds: Bounds) -> Queue {
        Queue {
            waiting: Mutex::default(),
            filled: Notify::new(),
            bounds,
        }
    }

    /// Adds a message; `false` where the queue is closed or full.
    pub(super) fn push(&self, message: Bytes) -> bool {
        let mut waiting = self.waiting.lock();
        let full = waiting.messages.len() >= self.bounds.messages_max
            || waiting.bytes.saturating_add(message.len()) > self.bounds.bytes_max;
        if !waiting.open || (full && !waiting.messages.is_empty()) {
            return false;
        }
        waiting.bytes += message.len();
        waiting.messages.push_back(message);
        // Whoever empties the queue looks again before it waits.
        if waiting.messages.len() == 1 {
            self.filled.notify_one();
        }
        true
    }

    /// From now on messages are taken in.
    pub(super) fn open(&self) {
        self.waiting.lock().open = true;
    }

    /// From now on none are; what waited is dropped. Says how many messages that were.
    pub(super) fn close(&self) -> usize {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.messages.len()
    }

    /// Waits until there is a message.
    pub(super) async fn filled(&self) {
        while self.waiting.lock().messages.is_empty() {
            self.filled.notified().await;
        }
    }

    /// Hands the oldest messages to `take`, until there is none left or it has had `bytes_max` bytes.
    pub(super) fn drain(&self, bytes_max: usize, mut take: impl FnMut(Bytes)) {
        let mut waiting = self.waiting.lock();
        let mut taken = 0;
        while taken < bytes_max {
            let Some(message) = waiting.messages.pop_front() else {
                return;
            };
            waiting.bytes -= message.len();
            taken += message.len();
            take(message);
        }
    }

    /// Messages and bytes that wait.
    pub(super) fn depth(&self) -> (usize, usize) {
        let waiting = self.waiting.lock();
        (waiting.messages.len(), waiting.bytes)
    }
}

/// Small and soon useless: what does not fit is out of date anyway.
const CONTROL: Bounds = Bounds {
    messages_max: 1024,
    bytes_max: 4 << 20,
};
/// Several full flights of appends of raft's inflight window.
const LOG: Bounds = Bounds {
    messages_max: 4096,
    bytes_max: 64 << 20,
};
/// Chunks are resent from the acknowledged offset: a window of them is enough.
const SNAPSHOT: Bounds = Bounds {
    messages_max: 64,
    bytes_max: 32 << 20,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        Queue::new(Bounds {
            messages_max: 3,
            bytes_max: 10,
        })
    }

    fn message(bytes: usize) -> Bytes {
        Bytes::from(vec![7; bytes])
    }

    #[test]
    fn nothing_enters_a_closed_queue_and_closing_drops_all() {
        let queue = queue();
        assert!(!queue.push(message(1)));
        queue.open();
        assert!(queue.push(message(1)) && queue.push(message(2)));
        assert_eq!(queue.depth(), (2, 3));
        assert_eq!(queue.close(), 2);
        assert_eq!(queue.depth(), (0, 0));
        assert!(!queue.push(message(1)));
    }

    #[test]
    fn both_bounds_hold() {
        let queue = queue();
        queue.open();
        assert!(queue.push(message(5)) && queue.push(message(5)));
        assert!(!queue.push(message(1)), "11 bytes");
        assert!(queue.push(message(0)));
        assert!(!queue.push(message(0)), "4 messages");
        let mut taken = Vec::new();
        queue.drain(usize::MAX, |message| taken.push(message.len()));
        assert_eq!(taken, [5, 5, 0]);
        assert!(queue.push(message(100)), "one message may have any size");
        assert!(!queue.push(message(0)));
    }

    #[test]
    fn a_batch_ends_with_the_message_that_fills_it() {
        let queue = queue();
        queue.open();
        assert!(queue.push(message(4)) && queue.push(message(4)) && queue.push(message(2)));
        let mut taken = Vec::new();
        queue.drain(5, |message| taken.push(message.len()));
        assert_eq!((taken, queue.depth()), (vec![4, 4], (1, 2)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_once_there_is_a_message() {
        let queue = std::sync::Arc::new(queue());
        queue.open();
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.filled().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert!(queue.push(message(1)));
        waiting.await.unwrap();
        // It stays true until the message is taken.
        queue.filled().await;
    }
}
