//! The commit index (thesis section 3.5; TLA+ `MonotonicCommitIndex`, there for the protocol without restarts): while a
//! member runs, its commit and applied index never go back, and applied <= commit <= last index of the log.

use super::{Breach, Observation};

pub(super) fn check(step: &Observation<'_>) -> Option<Breach> {
    let now = step.now.stand();
    let before = step.before.map_or(now, |before| before.stand());
    let in_order = now.applied <= now.commit && now.commit <= now.last;
    let forward = before.applied <= now.applied && before.commit <= now.commit;
    (!(in_order && forward)).then_some(Breach::CommitIndex {
        member: step.member,
        before,
        now,
    })
}
