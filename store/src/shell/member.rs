//! One member, composed: consensus, applier, watch hub and the leader's lease deadlines, each a synchronous actor,
//! and the routes between them. Driven by the driver's task in production and by the simulator in tests: this is
//! the same code for both, and it neither waits, sleeps, nor touches a disk.
//!
//! A *round* takes everything queued since the last one: one Raft step for all proposals, one read index for all
//! readers, one lock of the state for all that committed. What must happen outside comes out as [`Output`]s.

mod alarms;
mod leadership;
mod leases;
mod membership;
mod overdue;
mod peers;
mod reading;
mod snapshots;
mod watching;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, InternalRaftRequest,
};

use self::leadership::{DiskWatch, Move};
use self::leases::{LeaseCall, Questions};
use self::membership::Changes;
use self::peers::Peers;
use self::reading::{Goal, Reader};
use self::snapshots::Installing;
use super::command::{Answered, Command};
use super::pending::Pending;
use super::shared::{Pin, Shared};
use super::slow::ApplyWatch;
use super::transfers::{self, Received, Transfers};
use crate::apply::{Applied, CommittedEntry, Response, State};
use crate::consensus::{Append, Committed, Effect, Input, Node, ReadRounds, Role};
use crate::env::{Class, Instant};
use crate::error::{Error, Unavailable};
use crate::lease::Expiry;
use crate::mvcc::Mvcc;
use crate::types::{Index, LeaseId, MemberId, SharedRevision};
use crate::watch::{self, Hub, ReadToken};

/// What the caller of a round must do.
pub(super) enum Output {
    /// Make these durable, then report [`Member::persisted`] with the number.
    Append(Append),
    /// Read history for the hub, then report [`Member::history`].
    ReadHistory(HistoryRequest),
    /// Do this where it may wait for the disk, then report [`Member::transferred`].
    Transfer(transfers::Work),
    /// Write a snapshot file now, for a member that lags.
    WriteSnapshot,
    /// Send this to another member; if it is dropped, report [`Member::undelivered`].
    Send(MemberId, Class, Bytes),
}

/// Older history for the hub: main revisions `from..=to`.
pub(super) struct HistoryRequest {
    pub(super) token: ReadToken,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) with_previous: bool,
}

/// The state as the hub sees it.
struct View<'a>(&'a Mvcc);

impl watch::HistoryView for View<'_> {
    fn current(&self) -> i64 {
        self.0.current()
    }

    fn compacted(&self) -> i64 {
        self.0.compacted()
    }

    fn recent_first(&self) -> i64 {
        self.0.recent().first()
    }

    fn recent(&self, main: i64) -> Option<SharedRevision> {
        self.0.recent().get(main).cloned()
    }
}

/// See the module's description.
pub(super) struct Member {
    shared: Arc<Shared>,
    node: Node,
    hub: Hub,
    expiry: Expiry,
    pending: Pending,
    reads: ReadRounds<Reader>,
    proposals: Vec<Bytes>,
    /// Counters of `proposals`, in step with it; 0 for the member's own.
    counters: Vec<u64>,
    /// Renewals that found their lease expired: answered when it is revoked.
    expired_renewals: Vec<LeaseCall>,
    /// Questions about leases that wait for a leader, or for its answer.
    questions: Questions,
    peers: Peers,
    changes: Changes,
    /// Callers who wait for the leadership to move.
    moves: Vec<Move>,
    disk: DiskWatch,
    transfers: Transfers,
    /// A snapshot that is offered to Raft, one that Raft has taken, and one that is put in place now.
    arrived: Option<Box<Received>>,
    installing: Option<Installing>,
    installed: Option<(MemberId, u64, Index)>,
    /// When the present leader was first heard of.
    led_since: Instant,
    /// When this member last asked to be known by its name and addresses.
    next_publish: Instant,
    outbox: Vec<Output>,
    applied: Index,
    /// Whether an entry of this member's own term as leader is applied.
    leads_applied: bool,
    /// Leases granted or revoked since last asked for.
    changed_leases: Vec<LeaseId>,
    next_expiry_scan: Instant,
    effects: Vec<Effect>,
    hub_effects: Vec<watch::Effect>,
    readers: Vec<Reader>,
    /// The leader's revokes of expired leases do not say in which term it led: a bug for simulations to find.
    #[cfg(any(test, feature = "sim"))]
    revokes_without_term: bool,
}

impl Member {
    pub(super) fn new(
        shared: Arc<Shared>,
        node: Node,
        hub: Hub,
        transfers: Transfers,
        applied: Index,
    ) -> Self {
        let mut member = Member {
            node,
            hub,
            expiry: Expiry::new(),
            pending: Pending::default(),
            reads: ReadRounds::new(1),
            proposals: Vec::new(),
            counters: Vec::new(),
            expired_renewals: Vec::new(),
            questions: Questions::new(shared.boot),
            peers: Peers::new(&shared),
            changes: Changes::default(),
            moves: Vec::new(),
            disk: DiskWatch::default(),
            shared,
            transfers,
            arrived: None,
            installing: None,
            installed: None,
            led_since: Instant::default(),
            next_publish: Instant::default(),
            outbox: Vec::new(),
            applied,
            leads_applied: false,
            changed_leases: Vec::new(),
            next_expiry_scan: Instant::default(),
            effects: Vec::new(),
            hub_effects: Vec::new(),
            readers: Vec::new(),
            #[cfg(any(test, feature = "sim"))]
            revokes_without_term: false,
        };
        member.note_changes(&member.node.log_from(applied.next()).1);
        member.tell_peers();
        if member
            .shared
            .state
            .read()
            .membership
            .is_removed(member.shared.member)
        {
            member.leave(member.shared.clock.now());
        }
        member
    }

    /// Queues a command for the next round (those that need no consensus are done at once).
    pub(super) fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Propose {
                counter,
                data,
                answer,
            } => {
                self.pending.register(counter, now, answer);
                self.proposals.push(data);
                self.counters.push(counter);
            }
            Command::Change {
                what,
                counter,
                answer,
            } => self.change_members(what, counter, now, answer),
            Command::ReadIndex(answer) => self.reads.join(Reader {
                since: now,
                goal: Goal::Read(answer),
            }),
            Command::AwaitApplied(index, answer) => {
                let goal = Goal::Applied(answer, index);
                self.reads.join_at(index, Reader { since: now, goal });
            }
            Command::Lease {
                question,
                lease,
                answer,
            } => self.lease_call(LeaseCall::of_client(question, lease, now, answer), now),
            Command::Leases(answer) => {
                let _ = answer.send(Ok(self.leases()));
            }
            Command::MoveLeader { target, answer } => self.move_leader(target, now, answer),
            Command::Watch(command) => self.watch(command),
            Command::AwaitCompaction(_) | Command::Stop => {
                unreachable!("the driver keeps these to itself")
            }
        }
    }

    /// One tick of the clock, a heartbeat interval after the last.
    pub(super) fn tick(&mut self, now: Instant) {
        self.watch_disk(now);
        self.node.step(Input::Tick);
        self.give_up_round(now);
        self.expire_callers(now);
        self.retry_lease_calls(now);
        self.settle_moves(now);
        self.publish_self(now);
        self.ask_for_recovery(now);
        self.hasten_election(now);
        self.tick_transfers(now);
        self.tick_changes(now);
        if self.shared.streams_abandoned.swap(false, Ordering::Acquire) {
            self.hub_input(watch::Input::Abandoned);
        }
        if now >= self.next_expiry_scan {
            self.next_expiry_scan = now + LEASE_SCAN_INTERVAL;
            self.expire_leases(now);
        }
        self.publish_watching();
    }

    /// When the watch hub wants its next tick.
    pub(super) fn watch_deadline(&self) -> Option<Instant> {
        self.hub.next_deadline()
    }

    /// A tick of the watch hub.
    pub(super) fn watch_tick(&mut self, now: Instant) {
        self.hub_input(watch::Input::Tick(now));
    }

    /// Stands for election at once where this is the only voter: it need not wait for a timeout to know that nobody
    /// else leads.
    pub(super) fn begin(&mut self) {
        if self.node.alone() {
            self.node.step(Input::Campaign);
        }
    }

    /// The append of this number is durable. With it comes perhaps the state of a snapshot, which the caller must put
    /// in place at once, then report [`Member::installed`].
    pub(super) fn persisted(&mut self, number: u64) -> Option<Box<State>> {
        self.node.step(Input::Persisted(number));
        self.take_installable(number)
    }

    /// The history that the hub asked for.
    pub(super) fn history(&mut self, token: ReadToken, answer: Result<Vec<SharedRevision>, i64>) {
        self.hub_input(watch::Input::History { token, answer });
    }

    /// Does everything that is due; what must happen outside goes to `out`.
    pub(super) fn round(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.propose();
        self.propose_changes();
        self.ask_read_index(now);
        loop {
            let acted = self.act_on_transfers(now);
            self.node.ready(&mut self.effects);
            if self.effects.is_empty() && self.arrived.is_none() && !acted {
                break;
            }
            let mut effects = std::mem::take(&mut self.effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Append(append) => {
                        self.note_changes(&append.entries);
                        out.push(Output::Append(append));
                    }
                    Effect::Commit(entries) => self.apply(entries, now),
                    Effect::ReadIndex { context, index } => self.reads.confirm(context, index),
                    Effect::Role(role) => self.role_changed(role, now),
                    Effect::Send(message) => self.send_raft(message),
                    Effect::SendSnapshot { to, index } => self.send_snapshot(to, index, now),
                    Effect::Install { number, index } => self.installing(number, index),
                }
            }
            self.effects = effects;
            self.refuse_arrived(now);
            self.serve_readers(now);
            self.ask_read_index(now);
        }
        self.serve_readers(now);
        self.take_hub_effects(out);
        out.append(&mut self.outbox);
        self.publish();
    }

    /// Plants those of the bugs that lie in here.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn plant(&mut self, bugs: super::sim::Bugs) {
        self.revokes_without_term = bugs.stale_revoke_applied;
        self.changes.learners_vote = bugs.learner_votes;
        if bugs.overlapping_changes {
            self.node.overlap_changes();
        }
        if bugs.reused_read_context {
            self.reads.reuse_contexts();
        }
    }

    /// Where its Raft stands.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn raft(&self) -> super::sim::RaftView {
        let role = self.node.role();
        super::sim::RaftView {
            member: self.shared.member,
            term: self.node.term(),
            part: self.node.part(),
            leader: role.leader,
            vote: self.node.vote(),
            commit: self.node.commit(),
            applied: self.applied,
            first: self.node.log_from(self.node.last_index()).0,
            last: self.node.last_index(),
            voters: self.node.configuration().0,
            learners: self.node.configuration().1,
        }
    }

    /// The log in memory from an index on.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn log_from(&self, index: Index) -> Vec<crate::consensus::LogEntry> {
        self.node.log_from(index).1
    }

    /// Whether something waits for a round.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn has_work(&self) -> bool {
        let asks = self.reads.can_begin() && self.node.role().leader.0 != 0;
        asks || (!self.proposals.is_empty() && self.node.takes_proposals())
    }

    /// Leases granted or revoked since the last call.
    pub(super) fn take_changed_leases(&mut self) -> Vec<LeaseId> {
        std::mem::take(&mut self.changed_leases)
    }

    /// Whether this member leads, has applied an entry of its term and is known to the cluster by name.
    pub(super) fn known(&self) -> bool {
        let state = self.shared.state.read();
        let member = state.membership.get(self.shared.member);
        self.shared.published.leader.load(Ordering::Relaxed) != 0
            && member.is_some_and(|member| !member.name.is_empty())
            && (self.leads_applied || !self.node.role().is_leader)
    }

    /// Callers whose proposals are not yet applied.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Ends every wait with `Stopped`, and every watch stream.
    pub(super) fn stop(&mut self) {
        self.fail_readers(Unavailable::Stopped);
        self.pending.fail_all(Unavailable::Stopped);
        self.fail_lease_calls(Unavailable::Stopped);
        self.fail_moves(Unavailable::Stopped);
        self.hub = Hub::new(watch::Config::default(), self.hub.revision(), Instant::default());
    }

    fn propose(&mut self) {
        // Without a leader raft-rs would drop them; they wait for one until their callers' deadline.
        if self.proposals.is_empty() || !self.node.takes_proposals() {
            return;
        }
        let proposals = std::mem::take(&mut self.proposals);
        let counters = std::mem::take(&mut self.counters);
        for counter in &counters {
            self.pending.handed(*counter);
        }
        if self.node.propose(proposals).is_err() {
            for counter in counters {
                self.pending
                    .answer(counter, Err(Unavailable::TooManyRequests.into()));
            }
        }
    }

    /// Applies what committed, under one lock, then tells callers and watchers.
    fn apply(&mut self, entries: Vec<Committed>, now: Instant) {
        let Some(last) = entries.last().map(|entry| entry.index) else {
            return;
        };
        let own_term = self.node.role().term;
        let led = entries.iter().any(|entry| entry.term == own_term);
        let mut done = Vec::with_capacity(entries.len());
        let mut watched = ApplyWatch::new(&self.shared);
        let compacted;
        {
            let mut state = self.shared.state.write();
            compacted = state.mvcc.compacted();
            for entry in entries {
                let entry = CommittedEntry {
                    term: entry.term,
                    index: entry.index,
                    kind: entry.kind,
                    data: entry.data,
                };
                let applied = state.apply(&entry);
                watched.applied(&entry.data, &applied);
                if let Some(event) = &applied.auth {
                    self.shared.auth.tell(event);
                }
                done.push(applied);
            }
            self.shared.auth.publish(&state.auth);
            self.shared
                .published
                .revision
                .store(state.mvcc.current(), Ordering::Relaxed);
        }
        watched.end();
        self.applied = last;
        self.changes_applied(&done, now);
        self.node.step(Input::Applied(last));
        self.shared.published.applied.store(last.0, Ordering::Relaxed);
        if led && self.node.role().is_leader && !self.leads_applied {
            self.lead(now);
        }
        self.answer(done, compacted, now);
    }

    /// `compacted` is what was compacted before all of this.
    fn answer(&mut self, done: Vec<Applied>, compacted: i64, now: Instant) {
        let mut revisions: Vec<SharedRevision> = Vec::new();
        let (mut dirty, mut stored) = (0, 0);
        for applied in done {
            for event in &applied.leases {
                self.lease_changed(event, now);
            }
            if let Some(revision) = applied.committed {
                dirty += revision.bytes();
                stored += revision.stored_bytes();
                revisions.push(revision);
            }
            if let Some(id) = applied.proposal
                && id.member == self.shared.member
                && id.boot == self.shared.boot
            {
                let pinned = |response: Response| Answered {
                    pin: response.lacks_values().then(|| Pin::new(&self.shared, compacted)),
                    response,
                };
                self.pending
                    .answer(id.counter, applied.response.map(pinned).map_err(Error::from));
            }
        }
        if !revisions.is_empty() {
            self.shared.dirty.bytes.fetch_add(dirty, Ordering::Relaxed);
            self.shared.dirty.stored.fetch_add(stored, Ordering::Relaxed);
            self.hub_input(watch::Input::Committed(&revisions));
        }
    }

    fn role_changed(&mut self, role: Role, now: Instant) {
        let published = &self.shared.published;
        let before = published.leader.swap(role.leader.0, Ordering::Relaxed);
        published.is_leader.store(role.is_leader, Ordering::Relaxed);
        published.term.store(role.term.0, Ordering::Relaxed);
        if role.leader.0 != before && role.leader.0 != 0 {
            published.leader_changes.fetch_add(1, Ordering::Relaxed);
            self.led_since = now;
            self.next_publish = now;
        }
        if !role.is_leader && self.leads_applied {
            self.leads_applied = false;
            self.expiry.demote();
            // The next leader extends the lease.
            for call in std::mem::take(&mut self.expired_renewals) {
                self.lease_call(call, now);
            }
        }
        if !role.is_leader {
            self.transfers.stop_sending();
            self.forget_heartbeats();
        }
        if role.leader.0 != before && role.leader.0 != 0 {
            self.leader_changed(now);
            self.ask_again(now);
            self.settle_moves(now);
        }
        tracing::info!(term = role.term.0, leader = %role.leader, leads = role.is_leader, at = now.0, "role changed");
    }

    /// This member leads and has applied an entry of its term: it takes over the leases and makes itself known.
    fn lead(&mut self, now: Instant) {
        self.leads_applied = true;
        let state = self.shared.state.read();
        self.expiry
            .promote(&state.lessor, now, self.shared.settings.election);
        let version_known = state.membership.cluster_version().is_some();
        drop(state);
        if !version_known {
            self.propose_own(&InternalRaftRequest {
                cluster_version_set: Some(Box::new(ClusterVersionSetRequest {
                    ver: CLUSTER_VERSION.to_owned(),
                })),
                ..Default::default()
            });
        }
        self.publish_self(now);
        self.propose();
    }

    /// Makes this member known by its name and addresses, as often as it takes.
    fn publish_self(&mut self, now: Instant) {
        if now < self.next_publish || !self.node.takes_proposals() {
            return;
        }
        self.next_publish = now + self.shared.settings.request_timeout();
        let settings = &self.shared.settings;
        let state = self.shared.state.read();
        let known = state.membership.get(self.shared.member).is_some_and(|member| {
            member.name == settings.name && member.client_urls == settings.advertise_client_urls
        });
        drop(state);
        if known {
            return;
        }
        let attributes = Attributes {
            name: settings.name.clone(),
            client_urls: settings.advertise_client_urls.clone(),
        };
        self.propose_own(&InternalRaftRequest {
            cluster_member_attr_set: Some(Box::new(ClusterMemberAttrSetRequest {
                member_id: self.shared.member.0,
                member_attributes: Some(attributes),
            })),
            ..Default::default()
        });
    }

    fn propose_own(&mut self, request: &InternalRaftRequest) {
        self.proposals.push(Bytes::from(request.encode_to_vec()));
        self.counters.push(0);
    }

    fn publish(&self) {
        let published = &self.shared.published;
        published.committed.store(self.node.commit().0, Ordering::Relaxed);
        published
            .last_index
            .store(self.node.last_index().0, Ordering::Relaxed);
    }
}

/// The version of the cluster's interface that a member of this build brings.
const CLUSTER_VERSION: &str = "3.7.0";
/// Interval of the search for expired leases (etcd reference 1.3).
const LEASE_SCAN_INTERVAL: std::time::Duration = std::time::Duration::from_millis(500);
