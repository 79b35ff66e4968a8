//! How many handshakes are under way at once. Whoever begins one gets a turn; where there are too many, the oldest has
//! to go. So those who begin and say nothing keep nobody else out: an honest handshake takes milliseconds, and is not
//! the oldest for long.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The turns of one listener.
pub(super) struct Turns {
    max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    /// The number of the next turn.
    next: u64,
    /// Those under way, the oldest first, each with what ends it.
    ends: BTreeMap<u64, Arc<Notify>>,
}

/// Taken until it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    number: u64,
    end: Arc<Notify>,
}

impl Turns {
    /// At most `max` at once.
    pub(super) fn of(max: usize) -> Turns {
        Turns {
            max,
            taken: Mutex::default(),
        }
    }

    pub(super) fn take(&self) -> Turn<'_> {
        let end = Arc::new(Notify::new());
        let mut taken = self.taken.lock();
        if taken.ends.len() >= self.max
            && let Some((_, oldest)) = taken.ends.pop_first()
        {
            oldest.notify_one();
        }
        let number = taken.next;
        taken.next += 1;
        taken.ends.insert(number, end.clone());
        Turn {
            turns: self,
            number,
            end,
        }
    }
}

impl Turn<'_> {
    /// Waits until this turn is taken away.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.taken.lock().ends.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_oldest_goes_for_the_newest() {
        let turns = Turns::of(2);
        let first = turns.take();
        let second = turns.take();
        assert!(first.ended().now_or_never().is_none());
        drop(second);
        let third = turns.take();
        assert!(first.ended().now_or_never().is_none());
        let fourth = turns.take();
        assert!(first.ended().now_or_never().is_some());
        assert!(third.ended().now_or_never().is_none());
        assert!(fourth.ended().now_or_never().is_none());
        drop((first, third, fourth));
        assert!(turns.taken.lock().ends.is_empty());
    }
}
