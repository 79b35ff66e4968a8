//! One member, composed: consensus, applier, watch hub and the leader's lease deadlines, each a synchronous actor,
//! and the routes between them. Driven by the driver's task in production and by the simulator in tests: this is
//! the same code for both, and it neither waits, sleeps, nor touches a disk.
//!
//! A *round* takes everything queued since the last one: one Raft step for all proposals, one read index for all
//! readers, one lock of the state for all that committed. What must happen outside comes out as [`Output`]s.

mod leases;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, InternalRaftRequest,
};

use super::command::{Answer, Answered, Command, WatchCommand};
use super::pending::Pending;
use super::shared::{Pin, Shared};
use crate::apply::{Applied, CommittedEntry, Response};
use crate::consensus::{Append, Committed, Effect, Input, Node, ReadRounds, Role};
use crate::env::Instant;
use crate::error::{Error, Unavailable};
use crate::lease::Expiry;
use crate::mvcc::Mvcc;
use crate::types::{Index, LeaseId, SharedRevision, WatchId};
use crate::watch::{self, Hub, ReadToken};

/// What the caller of a round must do.
pub(super) enum Output {
    /// Make these durable, then report [`Member::persisted`] with the number.
    Append(Append),
    /// Read history for the hub, then report [`Member::history`].
    ReadHistory(HistoryRequest),
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

/// A reader waiting for its read index, and since when.
struct Reader {
    since: Instant,
    goal: Goal,
}

/// A renewal that waits for the revoke of its lease, and since when.
struct ExpiredRenewal {
    since: Instant,
    lease: LeaseId,
    answer: Answer<i64>,
}

enum Goal {
    Read(Answer<()>),
    KeepAlive { lease: LeaseId, answer: Answer<i64> },
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
    expired_renewals: Vec<ExpiredRenewal>,
    applied: Index,
    /// Whether an entry of this member's own term as leader is applied.
    leads_applied: bool,
    /// Leases granted or revoked since last asked for.
    changed_leases: Vec<LeaseId>,
    next_expiry_scan: Instant,
    effects: Vec<Effect>,
    hub_effects: Vec<watch::Effect>,
    readers: Vec<Reader>,
}

impl Member {
    pub(super) fn new(shared: Arc<Shared>, node: Node, hub: Hub, applied: Index) -> Self {
        let first_context = shared.entropy.next_u64();
        Member {
            shared,
            node,
            hub,
            expiry: Expiry::new(),
            pending: Pending::default(),
            reads: ReadRounds::new(first_context),
            proposals: Vec::new(),
            counters: Vec::new(),
            expired_renewals: Vec::new(),
            applied,
            leads_applied: false,
            changed_leases: Vec::new(),
            next_expiry_scan: Instant::default(),
            effects: Vec::new(),
            hub_effects: Vec::new(),
            readers: Vec::new(),
        }
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
            Command::ReadIndex(answer) => self.reads.join(Reader {
                since: now,
                goal: Goal::Read(answer),
            }),
            Command::KeepAlive { lease, answer } => {
                self.reads.join(Reader {
                    since: now,
                    goal: Goal::KeepAlive { lease, answer },
                });
            }
            Command::TimeToLive { lease, answer } => {
                let remaining = self.expiry.remaining(lease, now);
                let seconds = remaining.map(|left| i64::try_from(left.as_secs()).unwrap_or(i64::MAX));
                let _ = answer.send(self.led().map(|()| seconds));
            }
            Command::Leases(answer) => {
                let _ = answer.send(Ok(self.leases()));
            }
            Command::Watch(command) => self.watch(command),
            Command::AwaitCompaction(_) | Command::Stop => {
                unreachable!("the driver keeps these to itself")
            }
        }
    }

    /// One tick of the clock, a heartbeat interval after the last.
    pub(super) fn tick(&mut self, now: Instant) {
        self.node.step(Input::Tick);
        if self.reads.give_up(now - READ_ROUND_MAX) {
            self.shared
                .published
                .read_rounds_given_up
                .fetch_add(1, Ordering::Relaxed);
        }
        self.expire_callers(now);
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

    /// Stands for election at once: a lone voter need not wait for a timeout to know that nobody else leads.
    pub(super) fn campaign(&mut self) {
        self.node.step(Input::Campaign);
    }

    /// The append of this number is durable.
    pub(super) fn persisted(&mut self, number: u64) {
        self.node.step(Input::Persisted(number));
    }

    /// The history that the hub asked for.
    pub(super) fn history(&mut self, token: ReadToken, answer: Result<Vec<SharedRevision>, i64>) {
        self.hub_input(watch::Input::History { token, answer });
    }

    /// Does everything that is due; what must happen outside goes to `out`.
    pub(super) fn round(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.propose();
        self.ask_read_index(now);
        loop {
            self.node.ready(&mut self.effects);
            if self.effects.is_empty() {
                break;
            }
            let mut effects = std::mem::take(&mut self.effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Append(append) => out.push(Output::Append(append)),
                    Effect::Commit(entries) => self.apply(entries, now),
                    Effect::ReadIndex { context, index } => self.reads.confirm(context, index),
                    Effect::Role(role) => self.role_changed(role, now),
                }
            }
            self.effects = effects;
            self.serve_readers(now);
            self.ask_read_index(now);
        }
        self.serve_readers(now);
        self.take_hub_effects(out);
        self.publish();
    }

    /// Where its Raft stands.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn raft(&self) -> super::sim::RaftView {
        let role = self.node.role();
        super::sim::RaftView {
            term: role.term,
            part: self.node.part(),
            leader: role.leader,
            vote: self.node.vote(),
            commit: self.node.commit(),
            applied: self.applied,
            first: self.node.log_from(self.node.last_index()).0,
            last: self.node.last_index(),
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
        !self.proposals.is_empty() || !self.reads.is_empty()
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
        self.fail_expired_renewals(Unavailable::Stopped);
        self.hub = Hub::new(watch::Config::default(), self.hub.revision(), Instant::default());
    }

    fn propose(&mut self) {
        if self.proposals.is_empty() {
            return;
        }
        if self.node.role().leader.0 == 0 {
            // raft-rs would drop them; they wait for a leader until their callers' deadline.
            return;
        }
        let proposals = std::mem::take(&mut self.proposals);
        let counters = std::mem::take(&mut self.counters);
        if self.node.propose(proposals).is_err() {
            for counter in counters {
                self.pending
                    .answer(counter, Err(Unavailable::TooManyRequests.into()));
            }
        }
    }

    fn ask_read_index(&mut self, now: Instant) {
        if self.node.role().leader.0 != 0
            && let Some(context) = self.reads.begin(now)
        {
            self.node.step(Input::ReadIndex(context));
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
        let compacted;
        {
            let mut state = self.shared.state.write();
            compacted = state.mvcc.compacted();
            for entry in entries {
                let entry = CommittedEntry {
                    term: entry.term,
                    index: entry.index,
                    data: entry.data,
                };
                done.push(state.apply(&entry));
            }
            self.shared
                .published
                .revision
                .store(state.mvcc.current(), Ordering::Relaxed);
        }
        self.applied = last;
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
        let mut dirty = 0;
        for applied in done {
            for event in &applied.leases {
                self.lease_changed(event, now);
            }
            if let Some(revision) = applied.committed {
                dirty += revision.bytes();
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
            self.hub_input(watch::Input::Committed(&revisions));
        }
    }

    fn serve_readers(&mut self, now: Instant) {
        let mut readers = std::mem::take(&mut self.readers);
        self.reads.take_applied(self.applied, &mut readers);
        for reader in readers.drain(..) {
            match reader.goal {
                Goal::Read(answer) => {
                    let _ = answer.send(Ok(()));
                }
                Goal::KeepAlive { lease, answer } => self.renew(lease, reader.since, answer, now),
            }
        }
        self.readers = readers;
    }

    fn role_changed(&mut self, role: Role, now: Instant) {
        let published = &self.shared.published;
        let before = published.leader.swap(role.leader.0, Ordering::Relaxed);
        published.is_leader.store(role.is_leader, Ordering::Relaxed);
        published.term.store(role.term.0, Ordering::Relaxed);
        if role.leader.0 != before && role.leader.0 != 0 {
            published.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
        if before != 0 && before != role.leader.0 {
            self.fail_readers(Unavailable::LeaderChanged);
        }
        if !role.is_leader && self.leads_applied {
            self.leads_applied = false;
            self.expiry.demote();
            // The next leader extends the lease.
            self.fail_expired_renewals(Unavailable::LeaderChanged);
        }
        tracing::info!(term = role.term.0, leader = %role.leader, leads = role.is_leader, at = now.0, "role changed");
    }

    /// This member leads and has applied an entry of its term: it takes over the leases and makes itself known.
    fn lead(&mut self, now: Instant) {
        self.leads_applied = true;
        let state = self.shared.state.read();
        self.expiry
            .promote(&state.lessor, now, self.shared.settings.election);
        let settings = &self.shared.settings;
        let known = state.membership.get(self.shared.member).is_some_and(|member| {
            member.name == settings.name && member.client_urls == settings.advertise_client_urls
        });
        let version_known = state.membership.cluster_version().is_some();
        drop(state);
        if !known {
            self.propose_own(&InternalRaftRequest {
                cluster_member_attr_set: Some(Box::new(ClusterMemberAttrSetRequest {
                    member_id: self.shared.member.0,
                    member_attributes: Some(Attributes {
                        name: settings.name.clone(),
                        client_urls: settings.advertise_client_urls.clone(),
                    }),
                })),
                ..Default::default()
            });
        }
        if !version_known {
            self.propose_own(&InternalRaftRequest {
                cluster_version_set: Some(Box::new(ClusterVersionSetRequest {
                    ver: CLUSTER_VERSION.to_owned(),
                })),
                ..Default::default()
            });
        }
        self.propose();
    }

    fn propose_own(&mut self, request: &InternalRaftRequest) {
        self.proposals.push(Bytes::from(request.encode_to_vec()));
        self.counters.push(0);
    }

    fn expire_callers(&mut self, now: Instant) {
        let deadline = now - self.shared.settings.request_timeout();
        let led = self.node.role().leader.0 != 0;
        let proposal = if led {
            Unavailable::Timeout
        } else {
            Unavailable::DeadlineExceeded
        };
        let expired = self.pending.expire(deadline, proposal);
        self.shared
            .published
            .failed
            .fetch_add(expired as u64, Ordering::Relaxed);
        if expired > 0 {
            self.forget_expired_proposals();
        }
        for renewal in self
            .expired_renewals
            .extract_if(.., |renewal| renewal.since < deadline)
        {
            let _ = renewal.answer.send(Err(Unavailable::Timeout.into()));
        }
        let mut readers = std::mem::take(&mut self.readers);
        self.reads
            .take_expired(|reader| reader.since < deadline, &mut readers);
        for reader in readers.drain(..) {
            fail_reader(reader, Unavailable::Timeout);
        }
        self.readers = readers;
    }

    fn fail_readers(&mut self, error: Unavailable) {
        let mut readers = std::mem::take(&mut self.readers);
        self.reads.take_all(&mut readers);
        for reader in readers.drain(..) {
            fail_reader(reader, error);
        }
        self.readers = readers;
    }

    /// Who was told that no leader was found in time must not see the proposal made later; and without a leader the
    /// queue would grow for as long as clients try again.
    fn forget_expired_proposals(&mut self) {
        let counters = std::mem::take(&mut self.counters);
        let queued = counters.into_iter().zip(std::mem::take(&mut self.proposals));
        let waits = |counter: u64| counter == 0 || self.pending.waits(counter);
        (self.counters, self.proposals) = queued.filter(|(counter, _)| waits(*counter)).unzip();
    }

    fn led(&self) -> Result<(), Error> {
        if self.leads_applied {
            Ok(())
        } else {
            Err(Unavailable::NoLeader.into())
        }
    }

    fn watch(&mut self, command: WatchCommand) {
        let input = match command {
            WatchCommand::Open(stream, sink) => watch::Input::Open { stream, sink },
            WatchCommand::Create(stream, request) => watch::Input::Create { stream, request },
            WatchCommand::Cancel(stream, id) => watch::Input::Cancel {
                stream,
                id: WatchId(id),
            },
            WatchCommand::Progress(stream) => watch::Input::Progress { stream },
            WatchCommand::Close(stream) => watch::Input::Close { stream },
        };
        self.hub_input(input);
    }

    fn hub_input(&mut self, input: watch::Input<'_>) {
        let state = self.shared.state.read();
        self.hub.step(input, &View(&state.mvcc), &mut self.hub_effects);
    }

    fn take_hub_effects(&mut self, out: &mut Vec<Output>) {
        for effect in self.hub_effects.drain(..) {
            match effect {
                watch::Effect::ReadHistory {
                    token,
                    from,
                    to,
                    with_previous,
                } => {
                    out.push(Output::ReadHistory(HistoryRequest {
                        token,
                        from,
                        to,
                        with_previous,
                    }));
                }
                // The hub has dropped the stream's sink: its reader sees the end.
                watch::Effect::Overflow { stream } => {
                    tracing::warn!(
                        stream = stream.0,
                        "a watch stream was closed: its client takes no answers"
                    );
                }
            }
        }
    }

    fn publish(&self) {
        let published = &self.shared.published;
        published.committed.store(self.node.commit().0, Ordering::Relaxed);
        published
            .last_index
            .store(self.node.last_index().0, Ordering::Relaxed);
    }

    fn publish_watching(&self) {
        let published = &self.shared.published;
        let stats = self.hub.stats();
        published.watchers.store(stats.watchers as u64, Ordering::Relaxed);
        published
            .watch_streams
            .store(stats.streams as u64, Ordering::Relaxed);
        published
            .slow_watchers
            .store(stats.slow as u64, Ordering::Relaxed);
        published
            .pending_events
            .store(stats.events_pending as u64, Ordering::Relaxed);
        published.events.store(stats.events_total, Ordering::Relaxed);
    }
}

fn fail_reader(reader: Reader, error: Unavailable) {
    match reader.goal {
        Goal::Read(answer) => drop(answer.send(Err(error.into()))),
        Goal::KeepAlive { answer, .. } => drop(answer.send(Err(error.into()))),
    }
}

/// The version of the cluster's interface that a member of this build brings.
const CLUSTER_VERSION: &str = "3.7.0";
/// How long a read index round may go unanswered before its readers join a new one (etcd reference 1.0).
const READ_ROUND_MAX: std::time::Duration = std::time::Duration::from_millis(500);
/// Interval of the search for expired leases (etcd reference 1.3).
const LEASE_SCAN_INTERVAL: std::time::Duration = std::time::Duration::from_millis(500);
