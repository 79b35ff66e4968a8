//! Leader Append-Only (thesis figure 3.2; TLA+ `LeaderAppendOnly`): a leader never overwrites or deletes entries in its
//! log; it only appends new ones. (What compaction takes from its beginning is applied and no longer looked at.)

use store::types::Index;

use super::{Breach, Observation};

pub(super) fn check(step: &Observation<'_>) -> Option<Breach> {
    let before = step.before?;
    let term = step.now.view.term;
    if !(before.leads() && step.now.leads() && before.view.term == term) {
        return None;
    }
    let changed = if step.now.view.last < before.view.last {
        Some(step.now.view.last.next())
    } else {
        let kept = before
            .log
            .iter()
            .filter(|entry| entry.index >= step.now.view.first);
        let mut changed = kept.filter(|entry| step.now.entry(entry.index) != Some(entry));
        changed.next().map(|entry| Index(entry.index.0))
    };
    changed.map(|index| Breach::LeaderChangedLog {
        member: step.member,
        term,
        index,
    })
}
