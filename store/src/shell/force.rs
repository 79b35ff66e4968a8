//! `--force-new-cluster`: the last member of a cluster whose quorum is lost for good goes on alone.
//!
//! The member keeps its id, the cluster's id and its whole log. etcd drops what it does not know to be committed; but a
//! commit index is not written down with each acknowledgement, so that loses acknowledged writes. What is kept here beyond
//! them are writes whose callers were never told how they ended. Behind the log come, as if this member had been elected
//! in a new term, entries that remove all others, and everything up to them counts as committed. All of that is one batch
//! of the log, so a crash leaves either the old log or the new one, and the start goes on from there as any start does. The
//! others are removed for good: should they ever come back with their old disks, they are refused.

use super::open_error::OpenError;
use crate::apply::State;
use crate::membership::{MemberChange, What};
use crate::types::{EntryKind, Index, MemberId, Term};
use crate::wal::{self, Entry, Position, Replay, Wal};

/// Makes `member` the only one of the log's cluster; does nothing where it is that already.
pub(super) fn force(
    wal: &mut Wal,
    replay: &mut Replay,
    state: &State,
    member: MemberId,
) -> Result<(), OpenError> {
    let members = members_behind(state, &replay.entries);
    if !members.iter().any(|(id, _)| *id == member) {
        return Err(OpenError::ForcedAfterRemoval { member });
    }
    let others: Vec<MemberId> = members
        .iter()
        .map(|(id, _)| *id)
        .filter(|id| *id != member)
        .collect();
    if others.is_empty() {
        tracing::info!("--force-new-cluster: this member is the only one already");
        return Ok(());
    }
    let is_learner = members.iter().any(|(id, learns)| *id == member && *learns);
    // A cluster must have a voter at every moment.
    let promotion = is_learner.then_some(What::Promote(member));
    let changes = promotion
        .into_iter()
        .chain(others.iter().map(|id| What::Remove(*id)));
    let term = Term(replay.hard_state.term.0 + 1);
    let entries: Vec<Entry> = changes
        .zip(replay.last.index.0 + 1..)
        .map(|(what, index)| Entry {
            term,
            index: Index(index),
            kind: EntryKind::Change as u8,
            data: MemberChange {
                what,
                proposal: None,
                learners_max: None,
            }
            .encode(),
        })
        .collect();
    let last = Position {
        index: Index(replay.last.index.0 + entries.len() as u64),
        term,
    };
    let hard_state = wal::HardState {
        term,
        vote: member,
        commit: last.index,
    };
    wal.append(&[wal::Append {
        restart: None,
        entries: entries.clone(),
        hard_state: Some(hard_state),
    }])?;
    replay.entries.extend(entries);
    replay.last = last;
    replay.hard_state = hard_state;
    tracing::warn!(
        removed = ?others,
        "--force-new-cluster: this member goes on alone, and all others are removed for good. Start it without this \
         flag from now on, and never start the others again"
    );
    Ok(())
}

/// The members at the end of the log, and whether each is a learner.
fn members_behind(state: &State, entries: &[Entry]) -> Vec<(MemberId, bool)> {
    let mut membership = state.membership.clone();
    for entry in entries
        .iter()
        .filter(|entry| entry.kind == EntryKind::Change as u8)
    {
        if let Ok(change) = MemberChange::decode(&entry.data) {
            // Refused now as it will be when it is applied.
            let _ = membership.change(change);
        }
    }
    membership
        .iter()
        .map(|member| (member.id, member.is_learner))
        .collect()
}
