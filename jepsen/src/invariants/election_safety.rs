//! Election Safety (thesis figure 3.2; TLA+ `ElectionSafety`): at most one leader can be elected in a given term.

use std::collections::BTreeMap;

use store::types::Term;

use super::{Breach, Observation};
use crate::sim::member::MemberNumber;

/// Who led in which term.
#[derive(Debug, Default)]
pub(super) struct Leaders(BTreeMap<Term, MemberNumber>);

impl Leaders {
    pub(super) fn check(&mut self, step: &Observation<'_>) -> Option<Breach> {
        if !step.now.leads() {
            return None;
        }
        let term = step.now.view.term;
        let first = *self.0.entry(term).or_insert(step.member);
        (first != step.member).then_some(Breach::TwoLeaders {
            term,
            first,
            second: step.member,
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }
}
