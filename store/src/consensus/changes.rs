//! Membership changes, one at a time (thesis section 4.1): a leader appends the next one only once the one before it is
//! applied.
//!
//! raft-rs 0.7.0 makes an empty entry of a change that is proposed too early, without a word to whoever proposed it:
//! while another is pending, and until a new leader has applied what it found in its log. So changes wait here, with
//! whatever else finds nobody to take it (`stranded.rs`), until it would take them. A leader that is to be removed first
//! hands over to the voter whose log is the longest, and the change goes there; if nobody takes over within an election
//! timeout it removes itself.
//!
//! A member that applies its own removal goes on in the configuration before it, without taking proposals: perhaps
//! nobody else knows yet that the change is committed, and without its vote and its log they might never. That is
//! safe: no later change can be in its log, and a majority with it and one without it share a member. It retires once
//! a voter says that it knows, and will know after a crash ([`Node::keeps_change`]).

use bytes::Bytes;
use raft::StateRole;
use raft::eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, Message, MessageType};

use super::effect::{Change, Snapshot};
use super::node::Node;
use crate::membership::{MemberChange, What};
use crate::types::{Index, MemberId};

impl Node {
    /// Proposes an encoded membership change, here or to the leader. It may wait for a while; whether it was lost, only
    /// its proposer's deadline tells.
    pub fn propose_change(&mut self, data: Bytes) {
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChange);
        entry.data = data;
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.raw.raft.id;
        message.set_entries(vec![entry].into());
        self.message(message);
        self.pin_election_timeout();
    }

    /// A change on its way into the log, or to the leader.
    pub(super) fn change_proposed(&mut self, message: Message) {
        if self.raw.raft.state != StateRole::Leader {
            drop(self.raw.step(message));
            return;
        }
        let [entry] = message.get_entries() else {
            return tracing::warn!("a membership change that does not come alone is dropped");
        };
        let change = match MemberChange::decode(&entry.data) {
            Ok(change) => change,
            Err(error) => return tracing::warn!(%error, "a membership change that cannot be read is dropped"),
        };
        let removes_itself = change.what == What::Remove(MemberId(self.raw.raft.id));
        let pending = self.raw.raft.has_pending_conf();
        #[cfg(any(test, feature = "sim"))]
        let pending = pending && !self.changes_overlap;
        if pending || (removes_itself && self.hands_over()) {
            self.strand(message);
        } else {
            self.append_change(entry.clone());
        }
    }

    /// What raft-rs does with a proposal, but without reading the change: its numbers are not those of etcd.
    fn append_change(&mut self, entry: Entry) {
        let raft = &mut self.raw.raft;
        let index = raft.raft_log.last_index() + 1;
        if raft.append_entry(&mut [entry]) {
            raft.pending_conf_index = index;
            raft.bcast_append();
        }
    }

    /// Whether a leader that is to be removed still tries to find a successor.
    fn hands_over(&mut self) -> bool {
        let Some(successor) = self.successor() else {
            return false;
        };
        let (term, now) = (self.raw.raft.term, self.ticks);
        match self.leaving {
            Some((in_term, since)) if in_term == term => now < since + self.election_ticks() as u64,
            _ => {
                self.leaving = Some((term, now));
                tracing::info!(to = %successor, "handing the leadership over before this member is removed");
                self.raw.transfer_leader(successor.0);
                true
            }
        }
    }

    /// A change is applied.
    pub(super) fn changed(&mut self, index: Index, change: Change) {
        let (kind, member) = match change {
            Change::Voter(member) => (ConfChangeType::AddNode, member),
            Change::Learner(member) => (ConfChangeType::AddLearnerNode, member),
            Change::Removed(member) => (ConfChangeType::RemoveNode, member),
            // Nobody: raft-rs must hear of every change, and leaves this one.
            Change::Nothing => (ConfChangeType::AddNode, MemberId(0)),
        };
        let mut applied = ConfChange::default();
        applied.set_change_type(kind);
        applied.node_id = member.0;
        let conf_state = self
            .raw
            .apply_conf_change(&applied)
            .expect("a change that the membership allows is one that Raft allows");
        self.keep_commit = true;
        if change == Change::Nothing {
            return;
        }
        self.raw.mut_store().change(index, &conf_state);
        if let Change::Removed(member) = change {
            self.snapshots_under_way.remove(&member);
            self.active.remove(&member.0);
            if self.alone() && self.raw.raft.state == StateRole::Leader {
                // Nobody is left to speak to, and so nothing else would make the commit index durable.
                let appended = self.raw.raft.append_entry(&mut [Entry::default()]);
                assert!(appended, "an empty entry is never too much");
            }
        }
    }

    /// It was removed: whatever it said from now on would only disturb the others.
    pub(super) fn retire(&mut self) {
        self.retired = true;
        let raft = &mut self.raw.raft;
        raft.become_follower(raft.term, 0);
        self.stranded.clear();
        self.early_reads.clear();
    }

    /// Plants a bug: changes do not wait for one another.
    #[cfg(any(test, feature = "sim"))]
    pub fn overlap_changes(&mut self) {
        self.changes_overlap = true;
    }

    /// Whether a change is in the log, or may be, that is not yet applied.
    #[must_use]
    pub fn change_pending(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// How far the log of a member is known to match this leader's, and how far that is itself; `None` if this member
    /// does not lead or has no such follower.
    #[must_use]
    pub fn matched(&self, member: MemberId) -> Option<(Index, Index)> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return None;
        }
        let matched = |id: u64| raft.prs().get(id).map(|progress| Index(progress.matched));
        Some((matched(member.0)?, matched(raft.id)?))
    }

    /// The members that vote and those that only learn, as Raft counts them now.
    #[must_use]
    pub fn configuration(&self) -> (Vec<MemberId>, Vec<MemberId>) {
        let store = self.raw.store();
        let ids = |members: &[u64]| members.iter().copied().map(MemberId).collect();
        (ids(store.voters()), ids(store.learners()))
    }

    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) {
        let ids = |members: &[MemberId]| members.iter().map(|member| member.0).collect::<Vec<_>>();
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgSnapshot);
        message.from = snapshot.from.0;
        message.to = self.raw.raft.id;
        message.term = snapshot.leader_term.0;
        let metadata = message.mut_snapshot().mut_metadata();
        metadata.index = snapshot.index.0;
        metadata.term = snapshot.term.0;
        let mut conf_state = ConfState::default();
        conf_state.set_voters(ids(&snapshot.voters));
        conf_state.set_learners(ids(&snapshot.learners));
        *metadata.mut_conf_state() = conf_state;
        let recovering = std::mem::take(&mut self.recovering);
        self.message(message);
        if recovering {
            self.recovering = self.raw.snap().is_none();
            // Whom it voted for in this term is forgotten; that leader has won it, so nobody else may.
            self.raw.raft.vote = snapshot.from.0;
        }
    }
}

/// Whether a message with proposals holds a membership change.
pub(super) fn holds_change(message: &Message) -> bool {
    let normal = |entry: &Entry| entry.get_entry_type() == EntryType::EntryNormal;
    !message.get_entries().iter().all(normal)
}
