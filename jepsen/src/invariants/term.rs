//! Terms (thesis section 3.3; TLA+ `MonotonicTerm`): the current term increases monotonically over time, over restarts
//! too. What a member told nobody it may forget; a term in a message it must know again after a restart.

use store::types::Term;

use super::{Breach, Observation, Told};
use crate::sim::member::MemberNumber;

/// The highest term that each member has told of.
#[derive(Debug)]
pub(super) struct Terms(Vec<Term>);

impl Terms {
    pub(super) fn new(members: usize) -> Self {
        Terms(vec![Term(0); members])
    }

    pub(super) fn check(&self, step: &Observation<'_>) -> Option<Breach> {
        let in_memory = step.before.map_or(Term(0), |before| before.view.term);
        let before = in_memory.max(self.0[step.member.0]);
        (step.now.view.term < before).then_some(Breach::TermBack {
            member: step.member,
            before,
            now: step.now.view.term,
        })
    }

    pub(super) fn told(&mut self, member: MemberNumber, told: Told) {
        self.0[member.0] = self.0[member.0].max(told.term);
    }

    pub(super) fn wiped(&mut self, member: MemberNumber) {
        self.0[member.0] = Term(0);
    }
}
