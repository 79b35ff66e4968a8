//! Snapshots from and for other members: Raft's wishes become transfers, and what has arrived is offered to Raft.

use super::{Input, Member, Output};
use crate::apply::State;
use crate::consensus::Snapshot;
use crate::env::{Class, Instant};
use crate::shell::envelope::Body;
use crate::shell::transfers::{Action, Decision, Done, Received, SnapshotMessage, Wish};
use crate::types::{Index, MemberId};
use crate::watch;

/// A snapshot that Raft has taken, and the number of the append that makes it so.
pub(super) struct Installing {
    number: u64,
    received: Box<Received>,
}

impl Member {
    /// A piece of work on a transfer is done.
    pub(in crate::shell) fn transferred(&mut self, done: Done, now: Instant) {
        self.transfers.event(done, now);
    }

    /// A snapshot file was written here, or given up.
    pub(in crate::shell) fn snapshotted(&mut self, index: Option<Index>) {
        self.transfers.snapshotted(index);
    }

    pub(super) fn snapshot_message(&mut self, from: MemberId, message: SnapshotMessage, now: Instant) {
        self.transfers.message(from, message, now);
    }

    /// Raft wants a member to have a snapshot.
    pub(super) fn send_snapshot(&mut self, to: MemberId, least: Index, now: Instant) {
        let wish = Wish {
            to,
            least,
            leader_term: self.node.role().term,
            incarnation: self.peers.recovers_as(to),
        };
        self.transfers.wanted(wish, now);
    }

    pub(super) fn tick_transfers(&mut self, now: Instant) {
        self.transfers.tick(self.node.snapshot_index_min().next(), now);
        self.node.hold_after_snapshot(self.transfers.lowest_index());
    }

    /// Does what the transfers ask for. Returns whether there was anything.
    pub(super) fn act_on_transfers(&mut self, now: Instant) -> bool {
        let actions = self.transfers.take_actions();
        let any = !actions.is_empty();
        for action in actions {
            match action {
                Action::Send { to, message } => self.send(to, Class::Snapshot, Body::Snapshot(message)),
                Action::Work(work) => self.outbox.push(Output::Transfer(work)),
                Action::WantSnapshotFile => self.outbox.push(Output::WriteSnapshot),
                Action::Received(received) => self.received(received, now),
                Action::Outcome { to, delivered } => self.node.step(Input::SnapshotSent { to, delivered }),
            }
        }
        any
    }

    /// A whole snapshot is here: Raft decides whether it is of use.
    fn received(&mut self, received: Box<Received>, now: Instant) {
        let meant = !self.node.recovering() || received.incarnation == self.shared.incarnation;
        if !meant || self.arrived.is_some() || self.installing.is_some() {
            return self
                .transfers
                .decided(received.from, received.transfer, Decision::Refused, now);
        }
        let members = || received.state.membership.iter();
        let ids = |learners: bool| {
            let some = members().filter(|member| member.is_learner == learners);
            some.map(|member| member.id).collect()
        };
        self.node.step(Input::Snapshot(Snapshot {
            from: received.from,
            leader_term: received.leader_term,
            index: received.index,
            term: received.term,
            voters: ids(false),
            learners: ids(true),
        }));
        self.arrived = Some(received);
    }

    /// Raft has taken the snapshot that arrived.
    pub(super) fn installing(&mut self, number: u64, index: Index) {
        let received = self.arrived.take().expect("only what was offered is taken");
        assert_eq!(received.index, index, "one snapshot is offered at a time");
        self.installing = Some(Installing { number, received });
    }

    /// Raft had no use for what arrived, if it has not taken it by now.
    pub(super) fn refuse_arrived(&mut self, now: Instant) {
        if let Some(received) = self.arrived.take() {
            self.transfers
                .decided(received.from, received.transfer, Decision::Refused, now);
        }
    }

    /// The state to be put in place now that its append is durable; [`Member::installed`] follows.
    pub(super) fn take_installable(&mut self, number: u64) -> Option<Box<State>> {
        let Installing { received, .. } = self
            .installing
            .take_if(|installing| installing.number <= number)?;
        let Received {
            from,
            transfer,
            index,
            state,
            ..
        } = *received;
        self.installed = Some((from, transfer, index));
        Some(state)
    }

    /// The state is in place.
    pub(in crate::shell) fn installed(&mut self, now: Instant) {
        let (from, transfer, index) = self.installed.take().expect("take_installable() comes first");
        self.applied = index;
        self.node.step(Input::Applied(index));
        self.changed_leases.clear();
        self.snapshot_applied();
        self.hub_input(watch::Input::Installed);
        self.transfers.decided(from, transfer, Decision::Installed, now);
    }
}
