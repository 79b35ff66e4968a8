//! The receiving end of snapshot transfers: writes the bytes in order, checks them as a whole, and builds the state
//! that they hold.
//!
//! One transfer at a time. The one of the newest leader counts, of that leader the one begun last; it replaces an
//! older one in whatever stage that is. Work for the disk is done one piece at a time, in order, also across
//! transfers: what is left of an older one is gone before the newer one begins.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::open_error::OpenError;
use super::recovery;
use super::shared::Shared;
use super::transfers::{
    self, Ack, Action, CHUNK_BYTES_MAX, Chunk, Decision, Part, Received, SnapshotMessage, Standing,
    WINDOW_BYTES_MAX,
};
use crate::apply::State;
use crate::env::{Disk, Instant};
use crate::types::{Index, MemberId, Term};
use crate::wal::snapshot::{SnapshotCopy, SnapshotError, SnapshotMeta};

/// What waits for the disk.
pub(super) enum Work {
    /// Begin a file.
    Begin {
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        index: Index,
    },
    /// Append to it.
    Write { copy: SnapshotCopy, data: Vec<Bytes> },
    /// All of it is there: make it durable, check it and read it.
    Finish {
        copy: SnapshotCopy,
        announced: SnapshotMeta,
    },
    /// It is of no use: remove it.
    Discard(SnapshotCopy),
}

/// The outcome of [`Work`].
pub(super) enum Done {
    Written(Result<SnapshotCopy, SnapshotError>),
    Finished(Result<Box<State>, OpenError>),
    Discarded,
}

impl Work {
    pub(super) fn run(self) -> Done {
        match self {
            Work::Begin { disk, dir, index } => Done::Written(SnapshotCopy::create(disk, &dir, index)),
            Work::Write { mut copy, data } => {
                let written = data.iter().try_for_each(|piece| copy.append(piece));
                Done::Written(written.map(|()| copy))
            }
            Work::Finish { copy, announced } => Done::Finished(finish(copy, announced)),
            Work::Discard(copy) => {
                drop(copy);
                Done::Discarded
            }
        }
    }
}

fn finish(copy: SnapshotCopy, announced: SnapshotMeta) -> Result<Box<State>, OpenError> {
    let mut reader = copy.finish(announced)?;
    recovery::state_of(&mut reader).map(Box::new)
}

/// See the module's description.
pub(super) struct Incoming {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    current: Option<Transfer>,
    /// For which transfer a piece of work is under way.
    working: Option<Key>,
    /// Files of transfers that were replaced, to be removed.
    discarded: Vec<SnapshotCopy>,
    /// The last transfer that ended, and how.
    ended: Option<(Key, u64, Standing)>,
}

/// Which transfer; the greater one is the newer one, as a term has one leader, in one life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    leader_term: Term,
    number: u64,
    from: MemberId,
}

struct Transfer {
    key: Key,
    index: Index,
    term: Term,
    total_bytes: u64,
    incarnation: u64,
    began: Instant,
    /// When the sender was last heard.
    heard: Instant,
    /// When it was last told how things stand.
    told: Instant,
    stage: Stage,
    /// Everything below is written.
    written: u64,
    /// What comes after it and is not yet being written, and where that ends.
    queue: VecDeque<Bytes>,
    queued_to: u64,
    /// A chunk has come from beyond `queued_to` since the last answer.
    gap: bool,
}

enum Stage {
    /// Bytes are missing. The file, unless it is away with a piece of work, or not yet begun.
    Receiving(Option<SnapshotCopy>),
    /// The file is being checked and read.
    Checking,
    /// It is with Raft.
    Deciding,
}

impl Incoming {
    pub(super) fn new(shared: Arc<Shared>, disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Incoming {
            shared,
            disk,
            dir,
            current: None,
            working: None,
            discarded: Vec::new(),
            ended: None,
        }
    }

    pub(super) fn chunk(&mut self, from: MemberId, chunk: Chunk, now: Instant, out: &mut Vec<Action>) {
        let key = Key {
            leader_term: Term(chunk.leader_term),
            number: chunk.transfer,
            from,
        };
        let end = chunk.offset.saturating_add(chunk.data.len() as u64);
        if chunk.data.len() > CHUNK_BYTES_MAX || end > chunk.total_bytes || chunk.index == 0 {
            tracing::warn!(%from, offset = chunk.offset, "an impossible piece of a snapshot");
            return;
        }
        if let Some((ended, next_offset, standing)) = self.ended
            && ended == key
        {
            out.push(ack(key, next_offset, standing, false));
            return;
        }
        let newest = self.current.as_ref().map(|transfer| transfer.key);
        let newest = newest.max(self.ended.map(|(ended, ..)| ended));
        match newest {
            Some(newest) if newest > key => {
                out.push(ack(key, 0, Standing::Failed, false));
                return;
            }
            Some(newest) if newest == key => {}
            _ => self.begin(key, &chunk, now),
        }
        if let Some(transfer) = &mut self.current {
            transfer.heard = now;
            transfer.take(chunk, now, out);
        }
        self.work_on(out);
    }

    fn begin(&mut self, key: Key, chunk: &Chunk, now: Instant) {
        self.drop_current();
        tracing::info!(
            from = %key.from, index = chunk.index, bytes = chunk.total_bytes, "receiving a snapshot"
        );
        self.shared.published.snapshots_received.with(key.from).begin();
        self.current = Some(Transfer {
            key,
            index: Index(chunk.index),
            term: Term(chunk.term),
            total_bytes: chunk.total_bytes,
            incarnation: chunk.incarnation,
            began: now,
            heard: now,
            told: now,
            stage: Stage::Receiving(None),
            written: 0,
            queue: VecDeque::new(),
            queued_to: 0,
            gap: false,
        });
    }

    /// Forgets a transfer that nobody will hear of again.
    fn drop_current(&mut self) {
        let Some(transfer) = self.current.take() else {
            return;
        };
        match transfer.stage {
            // Counted as received.
            Stage::Deciding => return,
            Stage::Receiving(Some(copy)) => self.discarded.push(copy),
            Stage::Receiving(None) | Stage::Checking => {}
        }
        let numbers = &self.shared.published.snapshots_received;
        numbers.with(transfer.key.from).give_up();
    }

    /// Hands out the next piece of work, unless one is under way.
    fn work_on(&mut self, out: &mut Vec<Action>) {
        if self.working.is_some() {
            return;
        }
        if let Some(copy) = self.discarded.pop() {
            self.working = Some(NOBODY);
            out.push(work(Work::Discard(copy)));
            return;
        }
        let Some(transfer) = &mut self.current else { return };
        let Stage::Receiving(copy) = &mut transfer.stage else {
            return;
        };
        let next = match copy.take() {
            None => Work::Begin {
                disk: Arc::clone(&self.disk),
                dir: self.dir.clone(),
                index: transfer.index,
            },
            Some(copy) if transfer.written == transfer.total_bytes => {
                transfer.stage = Stage::Checking;
                let announced = SnapshotMeta {
                    index: transfer.index,
                    term: transfer.term,
                    revision: 0,
                    cluster: self.shared.cluster,
                };
                Work::Finish { copy, announced }
            }
            Some(copy) if transfer.queue.is_empty() => {
                transfer.stage = Stage::Receiving(Some(copy));
                return;
            }
            Some(copy) => Work::Write {
                copy,
                data: transfer.queue.drain(..).collect(),
            },
        };
        self.working = Some(transfer.key);
        out.push(work(next));
    }

    pub(super) fn done(&mut self, done: Done, now: Instant, out: &mut Vec<Action>) {
        let key = self.working.take();
        let current = self.current.as_ref().map(|transfer| transfer.key);
        let stale = key != current;
        match done {
            Done::Written(Ok(copy)) if stale => self.discarded.push(copy),
            _ if stale => {}
            Done::Written(Ok(copy)) => {
                if let Some(transfer) = &mut self.current {
                    transfer.written = copy.bytes();
                    transfer.stage = Stage::Receiving(Some(copy));
                    transfer.tell(now, out);
                }
            }
            Done::Written(Err(error)) => self.fail(&error, now, out),
            Done::Finished(Err(error)) => self.fail(&error, now, out),
            Done::Finished(Ok(state)) => self.received(state, now, out),
            Done::Discarded => {}
        }
        self.work_on(out);
    }

    fn received(&mut self, state: Box<State>, now: Instant, out: &mut Vec<Action>) {
        let Some(transfer) = &mut self.current else { return };
        transfer.stage = Stage::Deciding;
        transfer.heard = now;
        let numbers = &self.shared.published;
        let received = numbers.snapshots_received.with(transfer.key.from);
        received.end(true, now.since(transfer.began));
        numbers.snapshots_applying.fetch_add(1, Ordering::Relaxed);
        tracing::info!(from = %transfer.key.from, index = transfer.index.0, "a snapshot has arrived whole");
        out.push(Action::Received(Box::new(Received {
            from: transfer.key.from,
            transfer: transfer.key.number,
            leader_term: transfer.key.leader_term,
            index: transfer.index,
            term: transfer.term,
            state,
            incarnation: transfer.incarnation,
        })));
    }

    pub(super) fn decided(
        &mut self,
        from: MemberId,
        number: u64,
        decision: Decision,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.shared
            .published
            .snapshots_applying
            .fetch_sub(1, Ordering::Relaxed);
        tracing::info!(%from, ?decision, "a snapshot is decided on");
        let decided = |transfer: &Transfer| {
            transfer.key.from == from
                && transfer.key.number == number
                && matches!(transfer.stage, Stage::Deciding)
        };
        // One that was replaced meanwhile has nobody to tell.
        if self.current.as_ref().is_some_and(decided) {
            let standing = match decision {
                Decision::Installed => Standing::Installed,
                Decision::Refused => Standing::Refused,
            };
            self.end(standing, now, out);
        }
    }

    fn fail(&mut self, error: &dyn std::error::Error, now: Instant, out: &mut Vec<Action>) {
        let Some(transfer) = &self.current else { return };
        tracing::error!(%error, from = %transfer.key.from, index = transfer.index.0, "a snapshot did not arrive");
        self.shared
            .published
            .snapshots_received
            .with(transfer.key.from)
            .end(false, now.since(transfer.began));
        self.end(Standing::Failed, now, out);
    }

    fn end(&mut self, standing: Standing, now: Instant, out: &mut Vec<Action>) {
        let Some(mut transfer) = self.current.take() else {
            return;
        };
        transfer.told = now;
        self.ended = Some((transfer.key, transfer.written, standing));
        out.push(ack(transfer.key, transfer.written, standing, false));
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(transfer) = &mut self.current else { return };
        match transfer.stage {
            Stage::Receiving(_) => {
                if now.since(transfer.heard) >= SILENCE_MAX {
                    let from = transfer.key.from;
                    tracing::warn!(%from, "a snapshot is given up: its sender is silent");
                    self.drop_current();
                    self.shared.published.snapshots_received.with(from).fail();
                    self.work_on(out);
                }
            }
            // That takes as long as it takes; the sender must not take it for silence.
            Stage::Checking | Stage::Deciding => {
                if now.since(transfer.told) >= TELL_INTERVAL {
                    transfer.tell(now, out);
                }
            }
        }
    }
}

impl Transfer {
    /// Takes what fits; anything else is answered with what is wanted.
    fn take(&mut self, chunk: Chunk, now: Instant, out: &mut Vec<Action>) {
        let room = self.written + WINDOW_BYTES_MAX;
        let end = chunk.offset + chunk.data.len() as u64;
        let next = matches!(self.stage, Stage::Receiving(_)) && chunk.offset == self.queued_to;
        if next && !chunk.data.is_empty() && end <= room {
            self.queued_to = end;
            self.queue.push_back(chunk.data);
            return;
        }
        self.gap |= chunk.offset > self.queued_to;
        // What is being written is answered once it is.
        if self.written == self.queued_to {
            self.tell(now, out);
        }
    }

    fn tell(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.told = now;
        let gap = std::mem::take(&mut self.gap);
        out.push(ack(self.key, self.written, Standing::Receiving, gap));
    }
}

fn work(work: Work) -> Action {
    Action::Work(transfers::Work::Incoming(work))
}

fn ack(key: Key, next_offset: u64, standing: Standing, gap: bool) -> Action {
    let ack = Ack {
        transfer: key.number,
        next_offset,
        standing: standing.into(),
        gap,
    };
    Action::Send {
        to: key.from,
        message: SnapshotMessage {
            part: Some(Part::Ack(ack)),
        },
    }
}

/// Who removes a file.
const NOBODY: Key = Key {
    leader_term: Term(0),
    number: 0,
    from: MemberId(0),
};
/// Silence of a sender after which what it has sent is removed.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How often a sender hears that its snapshot is being checked or installed.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
