//! The other members: what they send and what they are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::reading::{Goal, Reader};
use super::{Input, Member, Output};
use crate::apply;
use crate::consensus::RaftMessage;
use crate::env::{Class, Instant};
use crate::shell::envelope::{Body, Envelope, Known, Recover};
use crate::shell::shared::Shared;
use crate::shell::slow;
use crate::types::MemberId;

/// What is remembered of them.
#[derive(Default)]
pub(super) struct Peers {
    /// The incarnation of each member that has lost its disk: what an earlier one said counts no more.
    incarnations: BTreeMap<MemberId, u64>,
    /// Those whose loss a quorum knows of: what it has acknowledged before is forgotten.
    confirmed: BTreeMap<MemberId, u64>,
    /// Senders of an older incarnation that were told of.
    outdated: BTreeSet<(MemberId, u64)>,
    next_recovery: Instant,
    /// When each was sent its last heartbeat while this member leads.
    heartbeats: BTreeMap<MemberId, Instant>,
    /// Until when the first election may be hastened.
    first_election_until: Option<Instant>,
}

impl Peers {
    pub(super) fn new(shared: &Shared) -> Self {
        let hastened = shared.settings.election_tick_advance;
        let until = shared.clock.now() + FIRST_ELECTION_MAX;
        Peers {
            first_election_until: hastened.then_some(until),
            ..Peers::default()
        }
    }

    /// The incarnation of a member whose loss of its disk a quorum knows of; else 0.
    pub(super) fn recovers_as(&self, member: MemberId) -> u64 {
        self.confirmed.get(&member).copied().unwrap_or(0)
    }

    fn known(&self) -> Vec<Known> {
        let known = self.incarnations.iter().map(|(member, incarnation)| Known {
            member: member.0,
            incarnation: *incarnation,
        });
        known.collect()
    }

    /// Whether too few voters have been connected since before `since` for a quorum.
    pub(super) fn quorum_lost(&self, shared: &Shared, since: Instant) -> bool {
        let state = shared.state.read();
        let voters = state.membership.iter().filter(|member| !member.is_learner);
        let (mut all, mut connected) = (0, 0);
        for voter in voters {
            all += 1;
            let own = voter.id == shared.member;
            let before = |at: Instant| at < since;
            connected += usize::from(own || shared.transport.connected_since(voter.id).is_some_and(before));
        }
        connected < all / 2 + 1
    }
}

impl Member {
    /// A message of another member.
    pub(in crate::shell) fn message(&mut self, from: MemberId, message: Bytes, now: Instant) {
        let Ok(envelope) = Envelope::decode(message) else {
            return tracing::warn!(%from, "a message of another member does not decode");
        };
        if !self.hears(from, now) || !self.heard_of(&envelope, from) {
            return;
        }
        let Some(body) = envelope.body else { return };
        match body {
            Body::Raft(message) => self.raft_message(from, message),
            Body::Snapshot(message) => self.snapshot_message(from, message, now),
            Body::LeaseAsk(ask) => self.lease_asked(from, ask, now),
            Body::LeaseReply(reply) => self.lease_answered(from, reply),
            Body::Removed(_) => self.told_removed(from),
            // Only who has applied it has an answer; see `hears`.
            Body::AmIRemoved(_) => {}
            Body::Recover(_) => {
                let confirmed = self.peers.confirmed.get(&from) == Some(&envelope.incarnation);
                let under_way = confirmed && self.node.snapshot_under_way(from);
                if self.node.role().is_leader && !under_way {
                    // Confirmed by a quorum, to which that member does not belong: it answers nothing.
                    let goal = Goal::Recover(from, envelope.incarnation);
                    self.reads.join(Reader { since: now, goal });
                }
            }
        }
    }

    /// Takes note of the incarnations that a message tells of. Returns whether it comes from the newest of its sender's.
    fn heard_of(&mut self, envelope: &Envelope, from: MemberId) -> bool {
        let told = envelope
            .known
            .iter()
            .map(|known| (MemberId(known.member), known.incarnation));
        for (member, incarnation) in told.chain([(from, envelope.incarnation)]) {
            let before = self.peers.incarnations.get(&member).copied().unwrap_or(0);
            let room = before > 0 || self.peers.incarnations.len() < INCARNATIONS_MAX;
            if member == self.shared.member || incarnation <= before || !room {
                continue;
            }
            tracing::info!(%member, "a member has lost its disk");
            self.peers.incarnations.insert(member, incarnation);
            // It may have voted here, and has forgotten it.
            self.node.abandon_campaign();
        }
        let newest = self.peers.incarnations.get(&from).copied().unwrap_or(0);
        let enough = self.peers.outdated.len() >= INCARNATIONS_MAX;
        if envelope.incarnation < newest
            && !enough
            && self.peers.outdated.insert((from, envelope.incarnation))
        {
            tracing::warn!(
                %from,
                "a message from before its sender lost its disk; if it is there again with an older clock, restart this \
                 member"
            );
        }
        envelope.incarnation >= newest
    }

    fn raft_message(&mut self, from: MemberId, message: RaftMessage) {
        if !message.is_of(from) {
            return tracing::warn!(%from, "a message in the name of another member");
        }
        if !message
            .log_entries()
            .all(|(kind, data)| apply::is_applicable(kind, data))
        {
            return tracing::warn!(%from, "a message with an entry that cannot be read");
        }
        // A member that writes its state more slowly than its log has no other way to be waited for; the leader sends
        // it again, and the caller of a proposal sees its time run out.
        let dirty = self.shared.dirty.bytes.load(Ordering::Relaxed);
        let grows = message.brings_entries() || message.is_proposal();
        if grows && dirty > self.shared.settings.limits.dirty_bytes_hard {
            return;
        }
        self.changes.heard(self.shared.clock.now());
        self.node.step(Input::Message(message));
    }

    /// A message to another member was dropped before it was sent. Proposals are as good as never made: they wait for
    /// another leader.
    pub(in crate::shell) fn undelivered(&mut self, to: MemberId, message: Bytes) {
        if let Ok(envelope) = Envelope::decode(message)
            && let Some(Body::Raft(message)) = envelope.body
            && message.is_proposal()
        {
            self.node.step(Input::Undelivered(message));
        }
        self.node.step(Input::Unreachable(to));
    }

    /// Hands the leadership to another member. Returns whether this one leads and there is one to take it.
    pub(in crate::shell) fn hand_over(&mut self) -> bool {
        let Some(successor) = self.node.successor() else {
            return false;
        };
        tracing::info!(to = %successor, "handing the leadership over");
        self.node.step(Input::Transfer(successor));
        true
    }

    /// Whether another member is about to take the leadership over.
    pub(in crate::shell) fn handing_over(&self) -> bool {
        self.node.transferring()
    }

    /// Whether this member leads.
    pub(in crate::shell) fn leads(&self) -> bool {
        self.node.role().is_leader
    }

    /// Asks everybody for a snapshot, since who leads is not known to a member that takes part in nothing.
    pub(super) fn ask_for_recovery(&mut self, now: Instant) {
        if !self.node.recovering() || now < self.peers.next_recovery {
            return;
        }
        self.peers.next_recovery = now + RECOVERY_INTERVAL;
        for (peer, _) in self.shared.peers() {
            self.send(peer, Class::Control, Body::Recover(Recover {}));
        }
    }

    /// A member that has just started need not wait for a leader as long as one that has lost it: once a quorum is
    /// connected, a leader would be heard from within a heartbeat or two (etcd's `--initial-election-tick-advance`).
    pub(super) fn hasten_election(&mut self, now: Instant) {
        let Some(until) = self.peers.first_election_until else {
            return;
        };
        let given_up = now > until || self.node.role().leader.0 != 0 || self.node.recovering();
        if given_up {
            self.peers.first_election_until = None;
        } else if !self.peers.quorum_lost(&self.shared, Instant(u64::MAX)) {
            self.peers.first_election_until = None;
            self.node.advance_election();
        }
    }

    pub(super) fn send_raft(&mut self, message: RaftMessage) {
        let (to, class) = (message.to(), message.class());
        if message.is_heartbeat() {
            self.note_heartbeat(to);
        }
        self.send(to, class, Body::Raft(message));
    }

    /// A leader that is late with its heartbeats has not been given the time, or the disk, that it needs.
    fn note_heartbeat(&mut self, to: MemberId) {
        let (now, heartbeat) = (self.shared.clock.now(), self.shared.settings.heartbeat);
        let expected = 2 * heartbeat;
        let before = self.peers.heartbeats.insert(to, now);
        let took = before.map_or(Duration::ZERO, |before| now.since(before));
        if took <= expected {
            return;
        }
        tracing::warn!(
            %to,
            "heartbeat-interval" = slow::go_duration(heartbeat),
            "expected-duration" = slow::go_duration(expected),
            "exceeded-duration" = slow::go_duration(took.saturating_sub(expected)),
            "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk"
        );
        let late = &self.shared.published.late_heartbeats;
        late.fetch_add(1, Ordering::Relaxed);
    }

    /// Whoever leads anew owes nothing from before.
    pub(super) fn forget_heartbeats(&mut self) {
        self.peers.heartbeats.clear();
    }

    pub(super) fn send(&mut self, to: MemberId, class: Class, body: Body) {
        let message = Envelope::pack(self.shared.incarnation, self.peers.known(), body);
        self.outbox.push(Output::Send(to, class, message));
    }

    /// A member that has lost its disk is to have a snapshot that holds all that is committed now.
    pub(super) fn recover(&mut self, member: MemberId, incarnation: u64) {
        if self.peers.incarnations.get(&member) != Some(&incarnation) {
            // It has lost yet another disk since, and asks again.
            return;
        }
        let index = self.node.commit();
        tracing::info!(%member, index = index.0, "a member has lost its disk: it gets a snapshot");
        self.peers.confirmed.insert(member, incarnation);
        self.node.step(Input::Forget(member, index));
    }
}

/// Members whose incarnations are kept, and disks told of: many times those of any cluster, also of one that lives long.
const INCARNATIONS_MAX: usize = 4096;
/// How often a member that has lost its disk asks for a snapshot.
const RECOVERY_INTERVAL: Duration = Duration::from_millis(500);
/// How long after the start the first election may be hastened, as etcd.
const FIRST_ELECTION_MAX: Duration = Duration::from_secs(5);
