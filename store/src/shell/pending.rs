//! Proposals of this process that wait to be applied: counter to caller.

use std::collections::BTreeMap;

use crate::env::Instant;
use crate::error::{Error, Unavailable};

use super::command::{Answer, Answered};

/// Waiting callers by counter. Counters rise with time, so the oldest come first.
#[derive(Default)]
pub(super) struct Pending {
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    since: Instant,
    /// It was handed to Raft: it may take effect.
    handed: bool,
    answer: Answer<Answered>,
}

/// A proposal that has waited too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Overdue {
    /// When its caller came.
    pub(super) since: Instant,
    /// Whether it was handed to Raft.
    pub(super) handed: bool,
}

impl Pending {
    /// A caller waits for its proposal.
    pub(super) fn register(&mut self, counter: u64, since: Instant, answer: Answer<Answered>) {
        let waiting = Waiting {
            since,
            handed: false,
            answer,
        };
        self.waiting.insert(counter, waiting);
    }

    /// A proposal is handed to Raft.
    pub(super) fn handed(&mut self, counter: u64) {
        if let Some(waiting) = self.waiting.get_mut(&counter) {
            waiting.handed = true;
        }
    }

    /// Answers the caller of a proposal, if it still waits.
    pub(super) fn answer(&mut self, counter: u64, result: Result<Answered, Error>) {
        if let Some(waiting) = self.waiting.remove(&counter) {
            // A caller that has gone away does not want it.
            let _ = waiting.answer.send(result);
        }
    }

    /// Answers everybody who has waited since before `deadline` with the error that `judge` finds. Returns how many
    /// there were.
    pub(super) fn expire(&mut self, deadline: Instant, judge: impl Fn(Overdue) -> Unavailable) -> usize {
        let mut expired = 0;
        while let Some(first) = self.waiting.first_entry() {
            if first.get().since >= deadline {
                break;
            }
            let waiting = first.remove();
            let error = judge(Overdue {
                since: waiting.since,
                handed: waiting.handed,
            });
            let _ = waiting.answer.send(Err(error.into()));
            expired += 1;
        }
        expired
    }

    /// Answers `error` to everybody.
    pub(super) fn fail_all(&mut self, error: Unavailable) {
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            let _ = waiting.answer.send(Err(error.into()));
        }
    }

    /// Whether the caller of a proposal still waits.
    pub(super) fn waits(&self, counter: u64) -> bool {
        self.waiting.contains_key(&counter)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn only_the_overdue_expire() {
        let mut pending = Pending::default();
        let (old, mut old_answer) = oneshot::channel();
        let (young, mut young_answer) = oneshot::channel();
        pending.register(1, Instant(10), old);
        pending.register(2, Instant(20), young);
        pending.handed(1);
        let judge = |overdue: Overdue| match overdue.handed {
            true => Unavailable::Timeout,
            false => Unavailable::DeadlineExceeded,
        };
        assert_eq!(pending.expire(Instant(15), judge), 1);
        assert!(matches!(
            old_answer.try_recv(),
            Ok(Err(Error::Unavailable(Unavailable::Timeout)))
        ));
        assert!(young_answer.try_recv().is_err());
        assert_eq!(pending.len(), 1);
    }
}
