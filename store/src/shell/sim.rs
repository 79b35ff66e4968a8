//! A member without threads, for simulations (feature `sim`): the same actors, routes and public handle as in
//! production, with every thread's work turned into a [`Step`] that the simulator takes when it likes. Calls of the
//! handle are futures that need no runtime; the simulator polls them between steps.

mod messages;
mod snapshots;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub use self::messages::{describe, is_proposal, tells};
pub use self::snapshots::{import, snapshot_sections, state_of};
use super::Settings;
use super::actors::Event;
use super::bootstrap::{self, Actors, Files, Workplace, World};
use super::command::Command;
use super::handle::Store;
use super::install;
use super::maintenance::{Job, Replace, SnapshotJob};
use super::member::Output;
use super::open_error::OpenError;
use super::shared::{Offload, Shared};
use super::snapshots::WriteError;
use super::{history, transfers};
use crate::backend::{Backend, StateStore, Table};
pub use crate::consensus::Part;
use crate::consensus::{Append, LogEntry};
use crate::env::{Class, Clock, DirLock, Disk, Entropy, Instant, Transport};
use crate::types::{Index, MemberId, SharedRevision, Term};
use crate::wal::{self, Metadata, Wal, WalError};

/// The world of a simulated member.
#[derive(Clone)]
pub struct SimWorld {
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Its working copy.
    pub backend: Arc<dyn Backend>,
}

/// Bugs that a simulation plants to see whether its checkers find them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bugs {
    /// Appends are reported durable before they are written.
    pub answer_before_sync: bool,
    /// A checkpoint claims to hold an entry whose changes it lacks.
    pub applied_ahead_of_data: bool,
    /// The log's reader takes a torn batch for a whole one.
    pub torn_tail_as_record: bool,
    /// A vote is sent, but not written.
    pub vote_not_persisted: bool,
    /// Every read index round asks under the same context.
    pub reused_read_context: bool,
    /// A revoke of an expired lease takes effect although its leader has lost its office.
    pub stale_revoke_applied: bool,
    /// A snapshot holds no leases.
    pub snapshot_without_leases: bool,
    /// Nor users and roles.
    pub snapshot_without_users: bool,
    /// An append that found the disk full counts as written.
    pub full_disk_ignored: bool,
    /// A proposal on its way to the leader arrives twice.
    pub proposal_twice: bool,
    /// A membership change is appended while another is not yet applied.
    pub overlapping_changes: bool,
    /// A learner is counted as a voter.
    pub learner_votes: bool,
}

/// One thing that can happen to a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Step {
    /// The driver takes what has queued and runs a round.
    Round,
    /// The log writer makes all appends handed out durable.
    WriteLog,
    /// The driver hears of one completion.
    Deliver,
    /// The driver's heartbeat.
    Tick,
    /// The watch hub's tick.
    WatchTick,
    /// One step of a compaction.
    Compact,
    /// The state's thread does one job: a checkpoint or a snapshot file.
    Work,
    /// The working copy is flushed, as it is now and then by itself.
    Flush,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Step; 8] = [
        Step::Round,
        Step::WriteLog,
        Step::Deliver,
        Step::Tick,
        Step::WatchTick,
        Step::Compact,
        Step::Work,
        Step::Flush,
    ];
}

/// A message on its way to another member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// For whom.
    pub to: MemberId,
    /// By which stream.
    pub class: Class,
    /// What is sent.
    pub message: Bytes,
}

/// Collects what a member sends.
#[derive(Default)]
struct Outbox {
    sent: Mutex<Vec<Sent>>,
    /// Since when which members are connected; a member that is not in here always has been.
    connected: Mutex<BTreeMap<MemberId, Option<Instant>>>,
}

impl Transport for Outbox {
    fn send(&self, to: MemberId, class: Class, message: Bytes) -> bool {
        let connected = self.connected_since(to).is_some();
        if connected {
            self.sent.lock().push(Sent { to, class, message });
        }
        connected
    }

    fn set_peers(&self, _: &[(MemberId, Vec<String>)]) {}

    fn connected_since(&self, peer: MemberId) -> Option<Instant> {
        let connected = self.connected.lock();
        connected.get(&peer).copied().unwrap_or(Some(Instant::default()))
    }
}

/// What a member's Raft stands at, for checkers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RaftView {
    /// Who it is.
    pub member: MemberId,
    /// The current term.
    pub term: Term,
    /// Its part in that term.
    pub part: Part,
    /// The leader it knows, 0 for none.
    pub leader: MemberId,
    /// Whom it voted for in that term, 0 for nobody.
    pub vote: MemberId,
    /// The commit index it knows.
    pub commit: Index,
    /// The last index applied.
    pub applied: Index,
    /// The first index of the log in memory.
    pub first: Index,
    /// The last index of the log, durable or not.
    pub last: Index,
    /// The members that vote, as it counts them.
    pub voters: Vec<MemberId>,
    /// The members that only learn.
    pub learners: Vec<MemberId>,
}

/// See the module's description.
pub struct SimMember {
    pub(super) shared: Arc<Shared>,
    pub(super) actors: Actors,
    pub(super) wal: Wal,
    state: StateStore,
    world: SimWorld,
    pub(super) place: Workplace,
    bugs: Bugs,
    mailbox: mpsc::Receiver<Command>,
    messages: mpsc::Receiver<(MemberId, Bytes)>,
    outbox: Arc<Outbox>,
    events_in: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    appends: VecDeque<Append>,
    /// The log's disk stands still until then.
    stalled_until: Instant,
    /// A batch that found the disk full, and the number of its last append: it is tried again with the next tick.
    full: Option<(Vec<wal::Append>, u64)>,
    retry_full: bool,
    release: Option<Index>,
    pub(super) jobs: VecDeque<Job>,
    _lock: Box<dyn DirLock>,
}

impl SimMember {
    /// Opens the store of a simulated disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(settings: Settings, world: SimWorld, bugs: Bugs) -> Result<Self, OpenError> {
        let outbox = Arc::new(Outbox::default());
        let outside = World {
            transport: Arc::clone(&outbox) as Arc<_>,
            disk: Arc::clone(&world.disk),
            clock: Arc::clone(&world.clock),
            entropy: Arc::clone(&world.entropy),
            backend: Some(Arc::clone(&world.backend)),
            verify_log: !bugs.torn_tail_as_record,
        };
        let lock = bootstrap::lock(&outside, &settings)?;
        let recovered = bootstrap::recover(&outside, &settings)?;
        let place = Workplace {
            world: outside.clone(),
            folders: bootstrap::Folders::new(&settings.data_dir),
            metadata: recovered.metadata,
        };
        let (sender, mailbox) = mpsc::channel(settings.limits.mailbox_commands);
        let (inbox, messages) = mpsc::channel(settings.limits.inbox_messages);
        let (shared, mut actors, Files { store, wal }) =
            bootstrap::assemble(settings, &outside, (sender, inbox), Offload::Inline, recovered);
        let (events_in, events) = mpsc::unbounded_channel();
        shared
            .published
            .disk
            .wal_bytes
            .store(wal.bytes(), Ordering::Relaxed);
        actors.member.plant(bugs);
        actors.member.begin();
        Ok(SimMember {
            shared,
            actors,
            wal,
            state: store,
            world,
            place,
            bugs,
            mailbox,
            messages,
            outbox,
            events_in,
            events,
            appends: VecDeque::new(),
            stalled_until: Instant::default(),
            full: None,
            retry_full: false,
            release: None,
            jobs: VecDeque::new(),
            _lock: lock,
        })
    }

    /// The public handle.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::of(Arc::clone(&self.shared))
    }

    /// This member.
    #[must_use]
    pub fn member(&self) -> MemberId {
        self.shared.member
    }

    /// Takes in a message that another member sent; the next round sees it.
    pub fn receive(&self, from: MemberId, message: Bytes) {
        // A full inbox drops it, as a network may.
        let _ = self.shared.inbox.try_send((from, message));
    }

    /// The connection to another member stands again, or is broken: until told otherwise, messages for it are dropped,
    /// and the member knows.
    pub fn connected(&mut self, peer: MemberId, connected: bool) {
        let since = connected.then(|| self.world.clock.now());
        let mut known = self.outbox.connected.lock();
        if known
            .get(&peer)
            .is_none_or(|before| before.is_some() != connected)
        {
            known.insert(peer, since);
        }
    }

    /// Hands the leadership over, if it leads, as a member does that is about to stop.
    pub fn hand_over(&mut self) {
        self.actors.member.hand_over();
        self.round();
    }

    /// The log's disk stands still until then: what is to be written there waits.
    pub fn stall(&mut self, until: Instant) {
        self.stalled_until = until;
    }

    /// The messages sent since the last call, in order.
    pub fn take_sends(&mut self) -> Vec<Sent> {
        let sends = std::mem::take(&mut *self.outbox.sent.lock());
        if !self.bugs.proposal_twice {
            return sends;
        }
        let times = |sent: &Sent| if is_proposal(&sent.message) { 2 } else { 1 };
        sends
            .into_iter()
            .flat_map(|sent| std::iter::repeat_n(sent.clone(), times(&sent)))
            .collect()
    }

    /// The applied revisions from `main` on, as far as they are in memory.
    #[must_use]
    pub fn committed_from(&self, main: i64) -> Vec<SharedRevision> {
        let state = self.shared.state.read();
        state.mvcc.recent().range(main).cloned().collect()
    }

    /// Where its Raft stands.
    #[must_use]
    pub fn raft(&self) -> RaftView {
        self.actors.member.raft()
    }

    /// The log in memory from an index on.
    #[must_use]
    pub fn log_from(&self, index: Index) -> Vec<LogEntry> {
        self.actors.member.log_from(index)
    }

    /// Why the member has failed, if it has.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        self.shared.fatal.borrow().clone()
    }

    /// Whether a step would do anything.
    #[must_use]
    pub fn enabled(&self, step: Step) -> bool {
        if self.fatal().is_some() {
            return false;
        }
        match step {
            Step::Round => {
                !self.mailbox.is_empty() || !self.messages.is_empty() || self.actors.member.has_work()
            }
            Step::WriteLog => {
                let stalled = self.world.clock.now() < self.stalled_until;
                let waits = !self.appends.is_empty() || self.release.is_some();
                !stalled
                    && if self.full.is_some() {
                        self.retry_full
                    } else {
                        waits
                    }
            }
            Step::Deliver => !self.events.is_empty(),
            Step::Tick | Step::Flush => true,
            Step::WatchTick => self.actors.member.watch_deadline().is_some(),
            Step::Compact => self.actors.maintenance.has_steps(),
            Step::Work => !self.jobs.is_empty(),
        }
    }

    /// Takes a step. A failure of the disk makes the member fail; nothing is acknowledged from then on.
    pub fn step(&mut self, step: Step) {
        if self.fatal().is_some() {
            return;
        }
        let now = self.world.clock.now();
        match step {
            Step::Round => self.drain(),
            Step::WriteLog => return self.write_log(),
            Step::Deliver => self.deliver(),
            Step::Tick => self.tick(),
            Step::WatchTick => self.actors.member.watch_tick(now),
            Step::Compact => {
                if let Some(job) = self.actors.maintenance.step() {
                    history::hash_compaction(&self.shared, job, self.events_in.clone());
                }
            }
            Step::Work => return self.work(),
            Step::Flush => {
                // As often as that is enough here; and a disk that fails it fails the next append, too.
                let _ = self.wal.mark();
                if let Err(error) = self.state.flush() {
                    self.shared.fail(error.to_string());
                }
                return;
            }
        }
        self.round();
    }

    fn drain(&mut self) {
        let now = self.world.clock.now();
        while let Ok((from, message)) = self.messages.try_recv() {
            self.actors.member.message(from, message, now);
        }
        while let Ok(command) = self.mailbox.try_recv() {
            match command {
                // Physical compaction is waited for by polling; a simulated stop is a crash.
                Command::AwaitCompaction(answer) => drop(answer.send(Ok(()))),
                Command::Stop => drop(self.shared.ended.send_replace(true)),
                command => self.actors.member.command(command, now),
            }
        }
    }

    fn round(&mut self) {
        let mut out = Vec::new();
        self.actors.member.round(self.world.clock.now(), &mut out);
        for output in out {
            match output {
                Output::Append(append) => {
                    if self.bugs.answer_before_sync {
                        drop(self.events_in.send(Event::Persisted(append.number)));
                    }
                    if self.appends.is_empty() {
                        let busy = &self.shared.published.disk.wal_busy;
                        busy.begin(self.world.clock.now());
                    }
                    self.appends.push_back(append);
                }
                Output::ReadHistory(request) => {
                    history::read_for_watch(&self.shared, request, self.events_in.clone());
                }
                Output::Transfer(work) => transfers::start(&self.shared, work, self.events_in.clone()),
                Output::WriteSnapshot => self.actors.maintenance.snapshot_wanted(),
                Output::Send(to, class, message) => {
                    if !self.shared.transport.send(to, class, message.clone()) && class == Class::Log {
                        self.actors.member.undelivered(to, message);
                    }
                }
            }
        }
    }

    fn write_log(&mut self) {
        if let Some((batch, number)) = self.full.take() {
            return self.append(batch, number);
        }
        let Some(number) = self.appends.back().map(|append| append.number) else {
            return self.release();
        };
        if self.bugs.vote_not_persisted {
            let states = self.appends.iter_mut().filter_map(|append| append.state.as_mut());
            states.for_each(|state| state.vote = MemberId(0));
        }
        let batch: Vec<_> = self.appends.drain(..).map(super::snapshots::to_wal).collect();
        self.append(batch, number);
    }

    fn append(&mut self, batch: Vec<wal::Append>, number: u64) {
        let appended = self.wal.append(&batch);
        let full = matches!(appended, Err(WalError::Full { .. }));
        self.shared.published.log_full.store(full, Ordering::Relaxed);
        if full && self.bugs.full_disk_ignored {
            drop(self.events_in.send(Event::Persisted(number)));
            return;
        }
        if full {
            self.full = Some((batch, number));
            self.retry_full = false;
            return;
        }
        self.shared.published.disk.wal_busy.end();
        match appended {
            Ok(()) if self.bugs.answer_before_sync => {}
            Ok(()) => drop(self.events_in.send(Event::Persisted(number))),
            Err(error) => self.shared.fail(error.to_string()),
        }
        self.shared
            .published
            .disk
            .wal_bytes
            .store(self.wal.bytes(), Ordering::Relaxed);
        self.release();
    }

    fn release(&mut self) {
        if let Some(covered) = self.release.take()
            && let Err(error) = self.wal.release(covered)
        {
            self.shared.fail(error.to_string());
        }
    }

    fn deliver(&mut self) {
        match self.events.try_recv() {
            Ok(Event::Persisted(number)) => {
                if let Some(state) = self.actors.member.persisted(number) {
                    let job = install::install(&self.shared, &mut self.actors.maintenance, state);
                    self.jobs.push_back(job);
                    self.actors.member.installed(self.world.clock.now());
                }
            }
            Ok(Event::History { token, answer }) => self.actors.member.history(token, answer),
            Ok(Event::Checkpointed {
                disk_bytes,
                dead_pending,
            }) => {
                self.actors.maintenance.checkpointed(disk_bytes, dead_pending);
            }
            Ok(Event::Hashed(hash)) => self.actors.maintenance.hashed(hash),
            Ok(Event::SnapshotLost) => self.actors.maintenance.snapshot_wanted(),
            Ok(Event::Transfer(done)) => self.actors.member.transferred(done, self.world.clock.now()),
            Ok(Event::Replaced(replaced)) => {
                let maintenance = &mut self.actors.maintenance;
                let covered = install::replaced(&self.shared, maintenance, replaced, &self.events_in);
                self.release = covered.or(self.release);
            }
            Ok(Event::SnapshotLacksRoom) => {
                let now = self.world.clock.now();
                self.actors.maintenance.snapshot_lacks_room(now);
                self.actors.member.snapshotted(None);
            }
            Ok(Event::Snapshotted(index)) => {
                self.actors.maintenance.snapshotted();
                self.actors.member.snapshotted(index);
                self.release = index;
            }
            Err(_) => {}
        }
    }

    fn tick(&mut self) {
        let now = self.world.clock.now();
        self.retry_full = true;
        self.actors.member.tick(now);
        let Actors { member, keeper, .. } = &mut self.actors;
        keeper.tick(now, member);
        let leases = self.actors.member.take_changed_leases();
        self.actors.maintenance.leases_changed(leases);
        if let Some(job) = self.actors.maintenance.due(now) {
            self.jobs.push_back(job);
        }
        if self.actors.member.known() {
            self.shared.ready.send_replace(true);
        }
    }

    fn work(&mut self) {
        let Some(job) = self.jobs.pop_front() else { return };
        let outcome = match job {
            Job::Checkpoint(mut checkpoint) => {
                if self.bugs.applied_ahead_of_data {
                    checkpoint.revisions.pop();
                }
                self.state
                    .checkpoint(&checkpoint)
                    .map_err(|error| error.to_string())
                    .map(|_| Event::Checkpointed {
                        disk_bytes: self.state.disk_bytes().unwrap_or(0),
                        dead_pending: self.state.dead_pending(),
                    })
            }
            Job::Snapshot(mut job) => {
                let bugs = self.bugs;
                job.tables.retain(|(table, ..)| match table {
                    Table::Lease => !bugs.snapshot_without_leases,
                    Table::Auth => !bugs.snapshot_without_users,
                    _ => true,
                });
                self.write_snapshot(&job)
            }
            Job::Replace(job) => self.replace(job),
        };
        match outcome {
            Ok(event) => drop(self.events_in.send(event)),
            Err(cause) => self.shared.fail(cause),
        }
    }

    fn write_snapshot(&self, job: &SnapshotJob) -> Result<Event, String> {
        let written = self.shared.stored().map(|stored| {
            let (disk, dir) = (&self.world.disk, &self.place.folders.snap);
            super::snapshots::write(disk, dir, &self.shared, &stored, job)
        });
        match written {
            Some(Ok(())) => Ok(Event::Snapshotted(Some(job.applied))),
            // The state was replaced meanwhile.
            None | Some(Err(WriteError::Replaced)) => Ok(Event::Snapshotted(None)),
            Some(Err(error)) if error.is_full() => Ok(Event::SnapshotLacksRoom),
            Some(Err(error)) => Err(error.to_string()),
        }
    }

    fn replace(&mut self, job: Replace) -> Result<Event, String> {
        let Metadata { cluster, member } = self.place.metadata;
        let nothing = StateStore::create(Arc::clone(&self.world.backend), cluster, member);
        let store = std::mem::replace(&mut self.state, nothing);
        let (store, replaced) =
            install::replace(&self.shared, &self.place, store, job).map_err(|error| error.to_string())?;
        self.state = store;
        Ok(Event::Replaced(replaced))
    }
}
