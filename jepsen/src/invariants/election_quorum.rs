//! Election quorum (thesis section 3.4, with section 4.1; TLA+ `BecomeLeader`): whoever leads has the votes of a majority
//! of those who vote by its own configuration. Learners' votes count for nothing. A vote counts from the message on
//! that grants it; its own vote a leader needs to tell nobody.

use std::collections::BTreeMap;

use store::types::{MemberId, Term};

use super::{Breach, Observation, Told};

/// Who has voted for whom.
#[derive(Debug, Default)]
pub(super) struct Ballots(BTreeMap<(Term, MemberId), MemberId>);

impl Ballots {
    pub(super) fn told(&mut self, told: Told) {
        if let Some(vote) = told.vote {
            self.0.insert((told.term, told.from), vote);
        }
    }

    pub(super) fn check(&self, step: &Observation<'_>) -> Option<Breach> {
        let view = &step.now.view;
        let led_before = step
            .before
            .is_some_and(|before| before.leads() && before.view.term == view.term);
        if !step.now.leads() || led_before {
            return None;
        }
        let for_it = |voter: &&MemberId| {
            **voter == view.member || self.0.get(&(view.term, **voter)) == Some(&view.member)
        };
        let (votes, voters) = (view.voters.iter().filter(for_it).count(), view.voters.len());
        (votes * 2 <= voters).then_some(Breach::FewVotes {
            member: step.member,
            term: view.term,
            votes,
            voters,
        })
    }
}
