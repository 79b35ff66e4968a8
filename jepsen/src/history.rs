//! What the clients of one run saw: calls with their invocation, their return and what came back.
//!
//! Owns the record only; what a record must look like is decided in [`crate::check`]. Times are logical: any `u64`
//! that never runs backwards over the whole run (the simulator's clock, or one monotonic clock of the process that
//! drives a live cluster). The checkers use nothing but their order, so a record from a machine whose clients read
//! different clocks is not a valid one.
//!
//! Invariants, held by [`Recorder`]: a call returns at most once and never before it was invoked; a process has at
//! most one call open (a process whose call ends [`Outcome::Unknown`] must go on under a new id, because the old call may
//! still take effect at any later time).

mod watch;

use std::collections::BTreeMap;

pub use watch::{Heard, WatchRecord, WatchSession, event_revision, header_revision, is_progress};

/// A logical client: one call at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProcessId(pub u64);

/// The position of a call in its history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub usize);

/// What became of a call.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome<A> {
    /// An answer came, be it a result or a refusal that the state machine itself decided.
    Ok(A),
    /// The call certainly had no effect and says nothing about the state (refused before it was proposed).
    Failed,
    /// No answer, or one that leaves it open: it may have taken effect, may still do so, or never will.
    Unknown,
}

/// One call of one client.
#[derive(Clone, PartialEq, Debug)]
pub struct Call<O, A> {
    /// Who called.
    pub process: ProcessId,
    /// What was asked.
    pub operation: O,
    /// When the call began.
    pub invoked: u64,
    /// When it ended; of no meaning where the outcome is unknown.
    pub returned: u64,
    /// What came back.
    pub outcome: Outcome<A>,
}

impl<O, A> Call<O, A> {
    /// The answer, where one came.
    pub const fn answer(&self) -> Option<&A> {
        match &self.outcome {
            Outcome::Ok(answer) => Some(answer),
            Outcome::Failed | Outcome::Unknown => None,
        }
    }

    /// Whether the call may have taken effect without the client knowing.
    pub const fn is_unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown)
    }
}

/// All calls of a run, in order of invocation.
#[derive(Clone, PartialEq, Debug)]
pub struct History<O, A> {
    calls: Vec<Call<O, A>>,
}

impl<O, A> History<O, A> {
    /// A history of these calls, which are put in order of invocation.
    #[must_use]
    pub fn new(mut calls: Vec<Call<O, A>>) -> Self {
        for call in &calls {
            assert!(
                call.is_unknown() || call.invoked <= call.returned,
                "a call of process {} returned at {} before it was invoked at {}",
                call.process.0,
                call.returned,
                call.invoked,
            );
        }
        calls.sort_by_key(|call| call.invoked);
        History { calls }
    }

    /// The calls, in order of invocation.
    #[must_use]
    pub fn calls(&self) -> &[Call<O, A>] {
        &self.calls
    }

    /// The calls with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (CallId, &Call<O, A>)> {
        self.calls.iter().enumerate().map(|(at, call)| (CallId(at), call))
    }
}

/// Writes a history down while it happens.
#[derive(Debug)]
pub struct Recorder<O, A> {
    calls: Vec<Call<O, A>>,
    open: BTreeMap<ProcessId, usize>,
    latest: u64,
}

impl<O, A> Default for Recorder<O, A> {
    fn default() -> Self {
        Recorder {
            calls: Vec::new(),
            open: BTreeMap::new(),
            latest: 0,
        }
    }
}

impl<O, A> Recorder<O, A> {
    /// Notes that `process` begins `operation` at `now`.
    pub fn invoke(&mut self, process: ProcessId, operation: O, now: u64) -> CallId {
        self.observe(now);
        let id = self.calls.len();
        let busy = self.open.insert(process, id);
        assert!(
            busy.is_none(),
            "process {} calls while call {busy:?} is open",
            process.0
        );
        // Until it returns, nobody knows.
        self.calls.push(Call {
            process,
            operation,
            invoked: now,
            returned: u64::MAX,
            outcome: Outcome::Unknown,
        });
        CallId(id)
    }

    /// Notes that a call ended at `now`.
    pub fn returned(&mut self, id: CallId, outcome: Outcome<A>, now: u64) {
        self.observe(now);
        let call = &mut self.calls[id.0];
        let open = self.open.remove(&call.process);
        assert_eq!(
            open,
            Some(id.0),
            "call {} of process {} is not open",
            id.0,
            call.process.0
        );
        call.returned = now;
        call.outcome = outcome;
    }

    /// How many calls have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The history; calls still open are unknown.
    #[must_use]
    pub fn finish(self) -> History<O, A> {
        History::new(self.calls)
    }

    fn observe(&mut self, now: u64) {
        assert!(
            now >= self.latest,
            "time runs backwards: {now} after {}",
            self.latest
        );
        self.latest = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_never_returns_is_unknown() {
        let mut recorder = Recorder::<&str, u8>::default();
        let first = recorder.invoke(ProcessId(1), "a", 1);
        recorder.invoke(ProcessId(2), "b", 2);
        recorder.returned(first, Outcome::Ok(7), 3);
        assert_eq!(recorder.open(), 1);
        let history = recorder.finish();
        assert_eq!(history.calls()[0].answer(), Some(&7));
        assert!(history.calls()[1].is_unknown());
        assert_eq!(history.calls()[1].returned, u64::MAX);
    }

    #[test]
    #[should_panic(expected = "process 1 calls while")]
    fn a_process_has_one_call_at_a_time() {
        let mut recorder = Recorder::<&str, u8>::default();
        recorder.invoke(ProcessId(1), "a", 1);
        recorder.invoke(ProcessId(1), "b", 2);
    }

    #[test]
    #[should_panic(expected = "time runs backwards: 4 after 5")]
    fn time_does_not_run_backwards() {
        let mut recorder = Recorder::<&str, u8>::default();
        recorder.invoke(ProcessId(1), "a", 5);
        recorder.invoke(ProcessId(2), "b", 4);
    }
}
