//! The receiving end of snapshot transfers: writes the bytes in order, checks them as a whole, and builds the state
//! that they hold.
//!
//! One transfer at a time. The one of the newest leader counts, of that leader the one begun last; it replaces an
//! older one in whatever stage that is. Where it brings the same file it goes on with what is there, be that in the
//! transfer that it replaces or on the disk, left by one that ended or by an earlier life of this member; else the new
//! file takes the place of the old one. Work for the disk is done one piece at a time, in order, also across transfers.

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
use crate::types::{MemberId, Term};
use crate::wal::snapshot::{SnapshotCopy, SnapshotError, SnapshotIdentity, SnapshotMeta, keep_part};

/// What waits for the disk.
pub(super) enum Work {
    /// Begin a file, or find out how much of it there is.
    Begin {
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        identity: SnapshotIdentity,
    },
    /// Append to it.
    Write { copy: SnapshotCopy, data: Vec<Bytes> },
    /// All of it is there: make it durable, check it and read it.
    Finish {
        copy: SnapshotCopy,
        announced: SnapshotMeta,
    },
    /// What was left of a transfer is of no use: remove it.
    Clean { disk: Arc<dyn Disk>, dir: PathBuf },
}

/// The outcome of [`Work`].
pub(super) enum Done {
    Written(Result<SnapshotCopy, SnapshotError>),
    Finished(Result<Box<State>, OpenError>),
    Cleaned(Result<(), SnapshotError>),
}

impl Work {
    pub(super) fn run(self) -> Done {
        match self {
            Work::Begin { disk, dir, identity } => Done::Written(SnapshotCopy::begin(disk, &dir, identity)),
            Work::Write { copy, data } => Done::Written(write(copy, &data)),
            Work::Finish { copy, announced } => Done::Finished(finish(copy, announced)),
            Work::Clean { disk, dir } => Done::Cleaned(keep_part(disk.as_ref(), &dir, |_| false).map(drop)),
        }
    }
}

fn write(mut copy: SnapshotCopy, data: &[Bytes]) -> Result<SnapshotCopy, SnapshotError> {
    match data.iter().try_for_each(|piece| copy.append(piece)) {
        Ok(()) => Ok(copy),
        Err(error) => {
            // A full disk needs the space more than anybody else.
            copy.discard();
            Err(error)
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
    /// A part of a file on the disk that nobody sends at present.
    left: Option<Left>,
    /// The last transfer that ended, and how.
    ended: Option<(Key, u64, Standing)>,
}

/// What is left of a transfer.
struct Left {
    identity: SnapshotIdentity,
    /// When that was noticed.
    since: Option<Instant>,
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
    identity: SnapshotIdentity,
    term: Term,
    incarnation: u64,
    began: Instant,
    /// When the sender was last heard.
    heard: Instant,
    /// When it was last told how things stand.
    told: Instant,
    stage: Stage,
    /// It is known how much of the file there was already.
    opened: bool,
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
    /// `left` is what an earlier life of this member has left.
    pub(super) fn new(
        shared: Arc<Shared>,
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        left: Option<SnapshotIdentity>,
    ) -> Self {
        Incoming {
            shared,
            disk,
            dir,
            current: None,
            working: None,
            left: left.map(|identity| Left {
                identity,
                since: None,
            }),
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
        if crc32c::crc32c(&chunk.data) != chunk.data_checksum {
            // As good as lost: it will be sent again.
            tracing::warn!(%from, offset = chunk.offset, "a piece of a snapshot arrived damaged");
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
        tracing::info!(
            from = %key.from, index = chunk.index, bytes = chunk.total_bytes, "receiving a snapshot"
        );
        let received = &self.shared.published.snapshots_received;
        received.with(key.from).begin();
        if let Some(current) = &mut self.current
            && current.goes_on_with(chunk)
        {
            received.with(current.key.from).give_up();
            self.working = self.working.map(|of| if of == current.key { key } else { of });
            current.key = key;
            current.incarnation = chunk.incarnation;
            (current.began, current.told) = (now, now);
            tracing::info!(
                offset = current.written,
                "the snapshot goes on where it broke off"
            );
            return;
        }
        self.drop_current();
        // The part that it goes on with, or that gives way to it.
        self.left = None;
        self.current = Some(Transfer {
            key,
            identity: chunk.identity(),
            term: Term(chunk.term),
            incarnation: chunk.incarnation,
            began: now,
            heard: now,
            told: now,
            stage: Stage::Receiving(None),
            opened: false,
            written: 0,
            queue: VecDeque::new(),
            queued_to: 0,
            gap: false,
        });
    }

    /// Ends a transfer of which nobody will hear again. What has arrived of the file stays, in case somebody sends it.
    fn drop_current(&mut self) {
        let Some(transfer) = self.current.take() else {
            return;
        };
        match transfer.stage {
            // Counted as received.
            Stage::Deciding => return,
            Stage::Receiving(_) => {
                self.left = Some(Left {
                    identity: transfer.identity,
                    since: None,
                });
            }
            Stage::Checking => {}
        }
        let numbers = &self.shared.published.snapshots_received;
        numbers.with(transfer.key.from).give_up();
    }

    /// Hands out the next piece of work, unless one is under way.
    fn work_on(&mut self, out: &mut Vec<Action>) {
        if self.working.is_some() {
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
                identity: transfer.identity,
            },
            Some(copy) if transfer.written == transfer.identity.bytes => {
                transfer.stage = Stage::Checking;
                let announced = SnapshotMeta {
                    index: transfer.identity.index,
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
            Done::Cleaned(Err(error)) => {
                tracing::warn!(%error, "what is left of a snapshot cannot be removed; the next start does it");
            }
            Done::Cleaned(Ok(())) => {}
            _ if stale => {}
            Done::Written(Ok(copy)) => {
                if let Some(transfer) = &mut self.current {
                    transfer.wrote(copy.bytes());
                    transfer.stage = Stage::Receiving(Some(copy));
                    transfer.tell(now, out);
                }
            }
            Done::Written(Err(error)) => self.fail(&error, now, out),
            Done::Finished(Err(error)) => self.fail(&error, now, out),
            Done::Finished(Ok(state)) => self.received(state, now, out),
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
        tracing::info!(from = %transfer.key.from, index = transfer.identity.index.0, "a snapshot has arrived whole");
        out.push(Action::Received(Box::new(Received {
            from: transfer.key.from,
            transfer: transfer.key.number,
            leader_term: transfer.key.leader_term,
            index: transfer.identity.index,
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
        tracing::error!(%error, from = %transfer.key.from, index = transfer.identity.index.0, "a snapshot did not arrive");
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
        self.clean(now, out);
        let Some(transfer) = &mut self.current else { return };
        match transfer.stage {
            Stage::Receiving(_) if now.since(transfer.heard) >= SILENCE_MAX => {
                let from = transfer.key.from;
                tracing::warn!(%from, "a snapshot is given up for now: its sender is silent");
                self.drop_current();
                self.shared.published.snapshots_received.with(from).fail();
            }
            Stage::Receiving(_) if transfer.opened => {}
            // That takes as long as it takes; the sender must not take it for silence.
            Stage::Receiving(_) | Stage::Checking | Stage::Deciding => {
                if now.since(transfer.told) >= TELL_INTERVAL {
                    transfer.tell(now, out);
                }
            }
        }
    }

    /// Removes what was left of a transfer once nobody can want it, or nobody has for long.
    fn clean(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(left) = &mut self.left else { return };
        let since = *left.since.get_or_insert(now);
        let applied = self.shared.published.applied.load(Ordering::Relaxed);
        let of_use = left.identity.index.0 > applied && now.since(since) < LEFT_MAX;
        if of_use || self.working.is_some() {
            return;
        }
        tracing::info!(
            index = left.identity.index.0,
            "what has arrived of a snapshot is removed: nobody sends the rest"
        );
        self.left = None;
        self.working = Some(NOBODY);
        out.push(work(Work::Clean {
            disk: Arc::clone(&self.disk),
            dir: self.dir.clone(),
        }));
    }
}

impl Transfer {
    /// Whether a chunk of another transfer is of the same file, which this one has in part, or is looking at.
    fn goes_on_with(&self, chunk: &Chunk) -> bool {
        let same = self.identity == chunk.identity() && self.term == Term(chunk.term);
        same && !matches!(self.stage, Stage::Deciding)
    }

    /// The file is written up to `bytes`; the first time that is what was there before.
    fn wrote(&mut self, bytes: u64) {
        self.written = bytes;
        if std::mem::replace(&mut self.opened, true) || bytes == 0 {
            return;
        }
        tracing::info!(
            from = %self.key.from, index = self.identity.index.0, offset = bytes,
            "the snapshot goes on where it broke off"
        );
        // What has come meanwhile begins with the file.
        let mut at = 0;
        while let Some(piece) = self.queue.pop_front() {
            let end = at + piece.len() as u64;
            if end > bytes {
                let known = usize::try_from(bytes.saturating_sub(at)).unwrap_or(usize::MAX);
                self.queue.push_front(piece.slice(known.min(piece.len())..));
                break;
            }
            at = end;
        }
        self.queued_to = self.queued_to.max(bytes);
    }

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
        if !self.opened {
            return out.push(ack(self.key, 0, Standing::Opening, false));
        }
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
        leader_term: key.leader_term.0,
    };
    Action::Send {
        to: key.from,
        message: SnapshotMessage {
            part: Some(Part::Ack(ack)),
        },
    }
}

/// Who removes what is left.
const NOBODY: Key = Key {
    leader_term: Term(0),
    number: 0,
    from: MemberId(0),
};
/// Silence of a sender after which its transfer has failed.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a part of a file is kept for somebody to send the rest.
const LEFT_MAX: Duration = Duration::from_secs(3600);
/// How often a sender hears that its snapshot is being checked or installed.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
