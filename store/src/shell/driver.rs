//! The task that drives one member: takes commands, completions and ticks, runs a round, and routes what comes out
//! to the log writer, the checkpoint writer and the history reader.
//!
//! Placement, by measurement (DESIGN section 4): the driver is a task beside the callers' own, so that on one core
//! a request crosses no thread; each wake-up takes everything that has queued, which is the batch. Syncs happen on
//! the log writer's thread, so that no read waits for one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::actors::{CheckpointWriter, Event, LogWriter};
use super::bootstrap::Actors;
use super::command::{Answer, Command};
use super::history;
use super::install;
use super::maintenance::Maintenance;
use super::member::{Member, Output};
use super::shared::{Shared, Vital};
use super::space_keeper::SpaceKeeper;
use super::transfers;
use crate::env::{Class, DirLock, Instant};
use crate::types::MemberId;

/// Everything the task owns.
pub(super) struct Driver {
    shared: Arc<Shared>,
    member: Member,
    maintenance: Maintenance,
    keeper: SpaceKeeper,
    mailbox: mpsc::Receiver<Command>,
    messages: mpsc::Receiver<(MemberId, Bytes)>,
    events_in: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    log: LogWriter,
    checkpoints: CheckpointWriter,
    awaiting_compaction: Vec<Answer<()>>,
    stop: bool,
    hand_over: HandOver,
    /// The folder stays locked until everything is closed.
    lock: Option<Box<dyn DirLock>>,
}

/// The way of completions, both ends: the driver hands the sending one to the threads it starts.
pub(super) type Events = (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>);

impl Driver {
    pub(super) fn new(
        (shared, parts): (Arc<Shared>, Actors),
        (mailbox, messages): (mpsc::Receiver<Command>, mpsc::Receiver<(MemberId, Bytes)>),
        (events_in, events): Events,
        (log, checkpoints): (LogWriter, CheckpointWriter),
        lock: Option<Box<dyn DirLock>>,
    ) -> Self {
        Driver {
            shared,
            member: parts.member,
            maintenance: parts.maintenance,
            keeper: parts.keeper,
            mailbox,
            messages,
            events_in,
            events,
            log,
            checkpoints,
            awaiting_compaction: Vec::new(),
            stop: false,
            hand_over: HandOver::Done,
            lock,
        }
    }

    /// Runs until stopped or until something fatal happened.
    pub(super) async fn run(mut self) {
        let _end = End {
            _vital: Vital::new(&self.shared, "the driver"),
            shared: Arc::clone(&self.shared),
        };
        let mut commands = Vec::with_capacity(COMMANDS_PER_ROUND);
        let mut out = Vec::new();
        let mut ticks = every(self.shared.settings.heartbeat);
        let mut compaction = every(COMPACTION_STEP_INTERVAL);
        let mut watch = every(WATCH_TICK_INTERVAL);
        self.member.begin();
        loop {
            self.round(&mut out);
            if self.stopped() {
                break;
            }
            tokio::select! {
                biased;
                event = self.events.recv() => self.event(event.expect("the driver holds a sender itself")),
                _ = ticks.tick() => self.tick(),
                _ = watch.tick(), if self.watch_due() => self.member.watch_tick(self.now()),
                _ = compaction.tick(), if self.maintenance.has_steps() => self.maintenance_step(),
                message = self.messages.recv() => {
                    let (from, message) = message.expect("the handle's shared part holds a sender");
                    self.member.message(from, message, self.now());
                }
                _ = self.mailbox.recv_many(&mut commands, COMMANDS_PER_ROUND) => {}
            }
            self.drain(&mut commands);
        }
        self.finish().await;
    }

    /// Takes everything else that has queued meanwhile.
    fn drain(&mut self, commands: &mut Vec<Command>) {
        // Also where a timer or a completion woke the task: what has queued joins its round.
        while commands.len() < COMMANDS_PER_ROUND
            && let Ok(command) = self.mailbox.try_recv()
        {
            commands.push(command);
        }
        while let Ok(event) = self.events.try_recv() {
            self.event(event);
        }
        let now = self.now();
        for _ in 0..MESSAGES_PER_ROUND {
            let Ok((from, message)) = self.messages.try_recv() else {
                break;
            };
            self.member.message(from, message, now);
        }
        for command in commands.drain(..) {
            match command {
                Command::AwaitCompaction(answer) => self.awaiting_compaction.push(answer),
                Command::Stop => {
                    self.stop = true;
                    if self.member.hand_over() {
                        self.hand_over = HandOver::Begun {
                            until: now + HAND_OVER_MAX,
                        };
                    }
                }
                command => self.member.command(command, now),
            }
        }
    }

    fn round(&mut self, out: &mut Vec<Output>) {
        if self.failed() {
            return;
        }
        self.member.round(self.now(), out);
        if !*self.shared.ready.borrow() && self.member.known() {
            self.shared.ready.send_replace(true);
        }
        for output in out.drain(..) {
            match output {
                Output::Append(append) => self.log.append(append),
                Output::ReadHistory(request) => {
                    history::read_for_watch(&self.shared, request, self.events_in.clone());
                }
                Output::Transfer(work) => transfers::start(&self.shared, work, self.events_in.clone()),
                Output::WriteSnapshot => self.maintenance.snapshot_wanted(),
                Output::Send(to, class, message) => {
                    if !self.shared.transport.send(to, class, message.clone()) && class == Class::Log {
                        self.member.undelivered(to, message);
                    }
                }
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Persisted(number) => {
                if let Some(state) = self.member.persisted(number) {
                    let job = install::install(&self.shared, &mut self.maintenance, state);
                    self.checkpoints.submit(job);
                    self.member.installed(self.now());
                }
            }
            Event::History { token, answer } => self.member.history(token, answer),
            Event::Checkpointed {
                disk_bytes,
                dead_pending,
            } => {
                self.maintenance.checkpointed(disk_bytes, dead_pending);
            }
            Event::Hashed(hash) => self.maintenance.hashed(hash),
            Event::SnapshotLost => self.maintenance.snapshot_wanted(),
            Event::Transfer(done) => self.member.transferred(done, self.now()),
            Event::Replaced(replaced) => {
                let covered =
                    install::replaced(&self.shared, &mut self.maintenance, replaced, &self.events_in);
                if let Some(index) = covered {
                    self.log.release(index);
                }
            }
            Event::SnapshotLacksRoom => {
                self.maintenance.snapshot_lacks_room(self.now());
                self.member.snapshotted(None);
            }
            Event::Snapshotted(index) => {
                self.maintenance.snapshotted();
                self.member.snapshotted(index);
                if let Some(index) = index {
                    self.log.release(index);
                }
            }
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        self.member.tick(now);
        self.keeper.tick(now, &mut self.member);
        self.maintenance.leases_changed(self.member.take_changed_leases());
        if let Some(job) = self.maintenance.due(now) {
            self.checkpoints.submit(job);
        }
        if !self.maintenance.compaction_unsettled() {
            for answer in self.awaiting_compaction.drain(..) {
                let _ = answer.send(Ok(()));
            }
        }
    }

    fn maintenance_step(&mut self) {
        if let Some(job) = self.maintenance.step() {
            history::hash_compaction(&self.shared, job, self.events_in.clone());
        }
    }

    fn stopped(&mut self) -> bool {
        self.failed() || (self.stop && self.handed_over() && self.member.pending() == 0)
    }

    /// Whether nothing of the leadership is left here: another member has it, and has been sent what others still
    /// proposed to this one.
    fn handed_over(&mut self) -> bool {
        let now = self.now();
        self.hand_over = match self.hand_over {
            HandOver::Begun { until } if !self.member.leads() => HandOver::PassingOn {
                until: until.min(now + PASS_ON),
            },
            HandOver::Begun { until } if now < until && self.member.handing_over() => return false,
            HandOver::PassingOn { until } if now < until => return false,
            HandOver::PassingOn { .. } | HandOver::Begun { .. } | HandOver::Done => HandOver::Done,
        };
        matches!(self.hand_over, HandOver::Done)
    }

    fn failed(&self) -> bool {
        self.shared.fatal.borrow().is_some()
    }

    /// Ends everybody's wait; on an orderly stop writes a last checkpoint, so that the next start is quick.
    async fn finish(mut self) {
        self.shared
            .stopping
            .store(true, std::sync::atomic::Ordering::Relaxed);
        self.mailbox.close();
        // Dropping a command tells its caller.
        while self.mailbox.try_recv().is_ok() {}
        self.shared.dirty.fewer.notify_waiters();
        self.member.stop();
        for answer in self.awaiting_compaction.drain(..) {
            let _ = answer.send(Err(crate::error::Unavailable::Stopped.into()));
        }
        if !self.failed() {
            self.last_checkpoint().await;
        }
        let (log, checkpoints, lock) = (self.log, self.checkpoints, self.lock);
        let shared = Arc::clone(&self.shared);
        // Both threads may be in the middle of a sync; that wait belongs on a thread of its own.
        let closed = tokio::task::spawn_blocking(move || {
            log.close();
            checkpoints.close();
            shared.close_history();
            drop(lock);
        });
        if closed.await.is_err() {
            tracing::error!("closing the files panicked");
        }
    }

    /// Writes what is not yet in the working copy, so that the next start has little to replay.
    async fn last_checkpoint(&mut self) {
        self.maintenance.leases_changed(self.member.take_changed_leases());
        while self.maintenance.busy() && !self.failed() {
            match self.events.recv().await {
                Some(Event::Checkpointed {
                    disk_bytes,
                    dead_pending,
                }) => {
                    self.maintenance.checkpointed(disk_bytes, dead_pending);
                }
                Some(_) => {}
                None => return,
            }
        }
        if let Some(job) = self.maintenance.last() {
            self.checkpoints.submit(job);
        }
    }

    /// Whether the watch hub wants a tick by the next look at it.
    fn watch_due(&self) -> bool {
        self.member
            .watch_deadline()
            .is_some_and(|deadline| deadline <= self.now() + WATCH_TICK_INTERVAL)
    }

    fn now(&self) -> Instant {
        self.shared.clock.now()
    }
}

/// How far a leader that stops is with giving up its office.
#[derive(Clone, Copy)]
enum HandOver {
    /// Another member is to take it, until then.
    Begun { until: Instant },
    /// Another has it; until then what members propose that have not heard of it yet is passed on to it.
    PassingOn { until: Instant },
    /// It has none, or nobody took it in time.
    Done,
}

/// Tells, however the task ends, that it has.
struct End {
    _vital: Vital,
    shared: Arc<Shared>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.ended.send_replace(true);
    }
}

/// A timer that, once late, goes on from there.
fn every(interval: Duration) -> tokio::time::Interval {
    let mut timer = tokio::time::interval(interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

/// Commands taken in one round: the bound of a batch.
const COMMANDS_PER_ROUND: usize = 2048;
/// Messages of other members taken in one round.
const MESSAGES_PER_ROUND: usize = 256;
/// How long a leader that stops waits for another member to lead.
const HAND_OVER_MAX: Duration = Duration::from_millis(500);
/// How long it goes on after that: members hear of a new leader within a round trip.
const PASS_ON: Duration = Duration::from_millis(100);
/// Pause between two steps of a compaction (etcd's is 10 ms for as many keys).
const COMPACTION_STEP_INTERVAL: Duration = Duration::from_millis(5);
/// How often the watch hub is looked after while somebody waits in it (etcd retries its victims as often).
const WATCH_TICK_INTERVAL: Duration = Duration::from_millis(10);
