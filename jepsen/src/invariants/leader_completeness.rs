//! Leader Completeness (thesis figure 3.2; TLA+ `LeaderCompleteness`): if a log entry is committed in a given term, then
//! that entry will be present in the logs of the leaders for all higher-numbered terms. Checked where a member begins
//! to lead; what its log no longer has in memory it has applied, and [`super::state_machine_safety`] has seen that.

use super::state_machine_safety::Committed;
use super::{Breach, Observation};

pub(super) fn check(step: &Observation<'_>, committed: &Committed) -> Option<Breach> {
    let (term, first) = (step.now.view.term, step.now.view.first);
    let led_before = step
        .before
        .is_some_and(|before| before.leads() && before.view.term == term);
    if !step.now.leads() || led_before {
        return None;
    }
    let in_memory = committed.iter().rev().take_while(|(index, _)| *index >= first);
    let mut lacking = in_memory
        .filter(|(index, commit)| commit.in_term < term && step.now.entry(*index) != Some(&commit.entry));
    lacking.next().map(|(index, commit)| Breach::LeaderLacks {
        member: step.member,
        term,
        index,
        by: commit.by,
    })
}
