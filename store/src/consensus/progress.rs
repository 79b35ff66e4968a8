//! What a leader knows of its followers, and what follows from it: which entries to keep in memory for them, whom to
//! hand the leadership to, whose acknowledgements count no more.

use raft::{Progress, ProgressState, StateRole};

use super::node::Node;
use crate::types::{Index, MemberId};

impl Node {
    /// The voter to hand the leadership to: of those heard of lately the one whose log is the longest.
    #[must_use]
    pub fn successor(&self) -> Option<MemberId> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return None;
        }
        let votes = |id: u64| self.raw.store().is_voter(MemberId(id));
        raft.prs()
            .iter()
            .filter(|(id, progress)| **id != raft.id && votes(**id) && self.is_active(**id, progress))
            .max_by_key(|(id, progress)| (progress.matched, **id))
            .map(|(id, _)| MemberId(*id))
    }

    /// The disk of this member's log stands still, or does so no more: meanwhile it does not stand for election, nor does
    /// it take a leadership that is handed over. It goes on leading, until somebody else can.
    pub fn set_stalled(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    /// The voter to hand the leadership to while this member's own log stands still: of those that keep up the one whose
    /// log is the longest, if they are a quorum without this member. One keeps up that has acknowledged more than is
    /// durable here, or all there is: its own disk works.
    #[must_use]
    pub fn able_successor(&self) -> Option<MemberId> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return None;
        }
        let (durable, last) = (raft.raft_log.persisted, raft.raft_log.last_index());
        let store = self.raw.store();
        let able = |id: u64, progress: &Progress| {
            id != raft.id
                && store.is_voter(MemberId(id))
                && self.is_active(id, progress)
                && (progress.matched > durable || progress.matched == last)
        };
        let able: Vec<_> = raft
            .prs()
            .iter()
            .filter(|(id, progress)| able(**id, progress))
            .map(|(id, progress)| (progress.matched, *id))
            .collect();
        let quorum = store.voters().len() / 2 + 1;
        let longest = able.iter().max().map(|(_, id)| MemberId(*id));
        longest.filter(|_| able.len() >= quorum)
    }

    /// Lets a follower stand for election soon, unless it hears of a leader: it has just started, and whoever led would
    /// have been heard.
    pub fn advance_election(&mut self) {
        let election_ticks = self.election_ticks();
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Follower && raft.leader_id == 0 {
            raft.election_elapsed = raft.election_elapsed.max(election_ticks.saturating_sub(2));
        }
    }

    /// Whether a leadership is being handed over.
    #[must_use]
    pub fn transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// Whether a snapshot was asked for in the name of this member, and its fate is not yet known.
    #[must_use]
    pub fn snapshot_under_way(&self, member: MemberId) -> bool {
        self.snapshots_under_way.contains(&member)
    }

    /// A snapshot of this index is on its way to a member that lags, which will need the log after it.
    pub fn hold_after_snapshot(&mut self, index: Option<Index>) {
        self.snapshot_held = index.unwrap_or_default();
    }

    /// Takes note of who is there: raft-rs forgets it at each check of the quorum, until they are heard from again.
    pub(super) fn note_active(&mut self) {
        self.active.clear();
        let raft = &self.raw.raft;
        if raft.state == StateRole::Leader {
            let heard = raft.prs().iter().filter(|(_, progress)| progress.recent_active);
            self.active.extend(heard.map(|(id, _)| *id));
        }
    }

    fn is_active(&self, id: u64, progress: &Progress) -> bool {
        progress.recent_active || self.active.contains(&id)
    }

    /// Gives up an election under way, in which a vote was counted that is forgotten where it came from.
    pub fn abandon_campaign(&mut self) {
        let raft = &mut self.raw.raft;
        if matches!(raft.state, StateRole::Candidate | StateRole::PreCandidate) {
            raft.become_follower(raft.term, 0);
        }
    }

    /// The first index that a member which is there still needs from memory.
    pub(super) fn needed(&self) -> Index {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return Index(u64::MAX);
        }
        let others = raft.prs().iter().filter(|(id, _)| **id != raft.id);
        let needed = others.filter_map(|(id, progress)| match progress.state {
            ProgressState::Snapshot => {
                let under_way = self.snapshots_under_way.contains(&MemberId(*id));
                under_way.then_some(progress.pending_snapshot.max(self.snapshot_held.0) + 1)
            }
            ProgressState::Probe | ProgressState::Replicate => {
                self.is_active(*id, progress).then_some(progress.matched + 1)
            }
        });
        Index(needed.min().unwrap_or(u64::MAX))
    }

    /// Takes back what a member has acknowledged, and lets it have a snapshot of at least `index`.
    pub(super) fn forget(&mut self, member: MemberId, index: Index) {
        if self.raw.raft.state != StateRole::Leader {
            return;
        }
        self.snapshots_under_way.remove(&member);
        let Some(progress) = self.raw.raft.mut_prs().get_mut(member.0) else {
            return;
        };
        progress.matched = 0;
        progress.committed_index = 0;
        // Out of the state Snapshot first: a probe after it would begin behind that snapshot.
        progress.become_replicate();
        progress.become_probe();
        progress.pending_request_snapshot = index.0.max(1);
        // It takes part in nothing, so only its request tells that it is there.
        progress.recent_active = true;
        self.raw.raft.send_append(member.0);
        if let Some(progress) = self.raw.raft.mut_prs().get_mut(member.0) {
            // One is enough: asked for again, it would be sent again.
            progress.pending_request_snapshot = 0;
        }
    }
}
