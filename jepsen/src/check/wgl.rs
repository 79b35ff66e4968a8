//! Linearizability of any small state machine, by search: the algorithm of Wing and Gong with Lowe's memory of the
//! configurations already tried.
//!
//! It needs nothing but a sequential specification, and may take exponential time; so it judges small histories, and
//! keeps the checker that knows revisions ([`super::linearizable`]) honest.

use std::collections::HashSet;
use std::hash::Hash;

use crate::history::{Call, CallId, History, Outcome};

/// A sequential state machine.
pub trait Specification {
    /// A whole state; equal states behave equally.
    type State: Clone + Eq + Hash;
    /// What can be asked.
    type Operation;
    /// What comes back.
    type Answer;

    /// The state before the first call.
    fn initial(&self) -> Self::State;

    /// The state after an operation that was answered so, or `None` where this state would not answer so. Without an
    /// answer (a call that nobody heard back from) any will do.
    fn step(
        &self,
        state: &Self::State,
        operation: &Self::Operation,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;
}

/// What the search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// In this order the calls make sense; unknown ones that never took effect are left out.
    Linearizable(Vec<CallId>),
    /// No order does. The longest one that made sense, and the calls of which one had to come next.
    Violation {
        /// The longest sensible beginning.
        longest: Vec<CallId>,
        /// The calls that had returned by then, none of which fits.
        stuck_at: Vec<CallId>,
    },
    /// Given up after the allowed number of steps.
    Undecided,
}

/// Searches for an order; gives up after `steps_max` tried operations.
pub fn check<S: Specification>(
    specification: &S,
    history: &History<S::Operation, S::Answer>,
    steps_max: usize,
) -> Verdict {
    let calls: Vec<Entry<'_, S>> = history
        .iter()
        .filter(|(_, call)| !matches!(call.outcome, Outcome::Failed))
        .collect();
    let mut search = Search {
        specification,
        done: vec![false; calls.len()],
        open: calls.iter().filter(|(_, call)| call.answer().is_some()).count(),
        calls,
        tried: HashSet::new(),
        order: Vec::new(),
        longest: Vec::new(),
        steps: steps_max,
    };
    match search.run() {
        Some(true) => Verdict::Linearizable(search.ids(&search.order)),
        Some(false) => {
            let stuck_at = search.stuck_at();
            Verdict::Violation {
                longest: search.ids(&search.longest),
                stuck_at,
            }
        }
        None => Verdict::Undecided,
    }
}

type Entry<'a, S> = (
    CallId,
    &'a Call<<S as Specification>::Operation, <S as Specification>::Answer>,
);

struct Search<'a, S: Specification> {
    specification: &'a S,
    calls: Vec<Entry<'a, S>>,
    done: Vec<bool>,
    /// Calls that were answered and stand in no order yet.
    open: usize,
    tried: HashSet<(Vec<bool>, S::State)>,
    order: Vec<usize>,
    longest: Vec<usize>,
    steps: usize,
}

impl<S: Specification> Search<'_, S> {
    /// Whether an order was found; `None` where the steps ran out.
    fn run(&mut self) -> Option<bool> {
        // The states on the way, each with the next call to try there.
        let mut way = vec![(self.specification.initial(), 0)];
        while let Some((state, next)) = way.last_mut() {
            if self.open == 0 {
                return Some(true);
            }
            let Some(at) = (*next..self.calls.len()).find(|at| self.may_come_next(*at)) else {
                way.pop();
                if let Some(undone) = self.order.pop() {
                    self.mark(undone, false);
                }
                continue;
            };
            *next = at + 1;
            self.steps = self.steps.checked_sub(1)?;
            let call = self.calls[at].1;
            let Some(after) = self.specification.step(state, &call.operation, call.answer()) else {
                continue;
            };
            self.mark(at, true);
            if !self.tried.insert((self.done.clone(), after.clone())) {
                self.mark(at, false);
                continue;
            }
            self.order.push(at);
            if self.order.len() > self.longest.len() {
                self.longest.clone_from(&self.order);
            }
            way.push((after, 0));
        }
        Some(false)
    }

    /// A call may come next if no other open one returned before it was invoked.
    fn may_come_next(&self, at: usize) -> bool {
        let invoked = self.calls[at].1.invoked;
        !self.done[at]
            && self
                .calls
                .iter()
                .enumerate()
                .all(|(other, (_, call))| self.done[other] || call.is_unknown() || call.returned >= invoked)
    }

    fn mark(&mut self, at: usize, done: bool) {
        self.done[at] = done;
        if self.calls[at].1.answer().is_some() {
            self.open = if done { self.open - 1 } else { self.open + 1 };
        }
    }

    fn ids(&self, order: &[usize]) -> Vec<CallId> {
        order.iter().map(|at| self.calls[*at].0).collect()
    }

    /// The answered calls that could have come after the longest beginning.
    fn stuck_at(&mut self) -> Vec<CallId> {
        self.done.fill(false);
        for at in self.longest.clone() {
            self.done[at] = true;
        }
        let candidates = (0..self.calls.len()).filter(|at| self.may_come_next(*at));
        candidates
            .filter(|at| self.calls[*at].1.answer().is_some())
            .map(|at| self.calls[at].0)
            .collect()
    }
}
