//! Votes (thesis section 3.4; TLA+ `VotesGrantedInv`): each server will vote for at most one candidate in a given term. A
//! vote counts from the message on that grants it, over restarts too; a candidate's vote for itself from its request on.

use std::collections::BTreeMap;

use store::types::{MemberId, Term};

use super::{Breach, Observation, Told};
use crate::sim::member::MemberNumber;

/// Who has voted for whom.
#[derive(Debug, Default)]
pub(super) struct Votes(BTreeMap<(MemberNumber, Term), MemberId>);

impl Votes {
    /// In memory a vote may be forgotten by a restart that came before anybody heard of it, but not changed.
    pub(super) fn check(&self, step: &Observation<'_>) -> Option<Breach> {
        let before = &step.before?.view;
        let now = &step.now.view;
        let changed = before.term == now.term && before.vote.0 != 0 && before.vote != now.vote;
        changed.then_some(Breach::TwoVotes {
            member: step.member,
            term: now.term,
            first: before.vote,
            second: now.vote,
        })
    }

    pub(super) fn told(&mut self, member: MemberNumber, told: Told) -> Option<Breach> {
        let second = told.vote?;
        let first = *self.0.entry((member, told.term)).or_insert(second);
        (first != second).then_some(Breach::TwoVotes {
            member,
            term: told.term,
            first,
            second,
        })
    }

    pub(super) fn wiped(&mut self, member: MemberNumber) {
        self.0.retain(|(of, _), _| *of != member);
    }
}
