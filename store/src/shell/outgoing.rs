//! The sending end of snapshot transfers: finds or asks for a file, and streams it to each member that wants it.
//!
//! One transfer per receiver at a time. The file is held open, so that it may be removed meanwhile. Reading happens
//! in [`Work`], one piece at a time per transfer: the reader travels with the work and comes back with it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::shared::Shared;
use super::transfers::{
    self, Ack, Action, CHUNK_BYTES_MAX, Chunk, Part, SnapshotMessage, Standing, WINDOW_BYTES_MAX, Wish,
};
use crate::env::{Disk, Instant};
use crate::types::{Index, MemberId, Term};
use crate::wal::snapshot::{SnapshotError, SnapshotIdentity, SnapshotReader, list};

/// What waits for the disk.
pub(super) enum Work {
    /// Open the newest whole snapshot file, of index `least` or more.
    Find {
        to: MemberId,
        transfer: u64,
        least: Index,
        disk: Arc<dyn Disk>,
        dir: PathBuf,
    },
    /// Read a piece.
    Read {
        to: MemberId,
        transfer: u64,
        reader: SnapshotReader,
        offset: u64,
        bytes_max: usize,
    },
}

/// The outcome of [`Work`].
pub(super) enum Done {
    Found {
        to: MemberId,
        transfer: u64,
        reader: Result<Option<SnapshotReader>, SnapshotError>,
    },
    Read {
        to: MemberId,
        transfer: u64,
        reader: SnapshotReader,
        offset: u64,
        data: Result<Bytes, SnapshotError>,
    },
}

impl Work {
    pub(super) fn run(self) -> Done {
        match self {
            Work::Find {
                to,
                transfer,
                least,
                disk,
                dir,
            } => Done::Found {
                to,
                transfer,
                reader: find(disk.as_ref(), &dir, least),
            },
            Work::Read {
                to,
                transfer,
                reader,
                offset,
                bytes_max,
            } => Done::Read {
                to,
                transfer,
                data: reader.bytes_at(offset, bytes_max),
                reader,
                offset,
            },
        }
    }
}

fn find(
    disk: &dyn Disk,
    dir: &std::path::Path,
    least: Index,
) -> Result<Option<SnapshotReader>, SnapshotError> {
    for index in list(disk, dir)?.into_iter().rev() {
        if index < least {
            break;
        }
        match SnapshotReader::open(disk, dir, index) {
            Ok(reader) => return Ok(Some(reader)),
            Err(error @ SnapshotError::Corrupt { .. }) => {
                tracing::error!(%error, "a snapshot file is damaged");
            }
            // Removed since it was listed, because there is a newer one.
            Err(SnapshotError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// See the module's description.
pub(super) struct Outgoing {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    transfers: BTreeMap<MemberId, Transfer>,
    last_transfer: u64,
    /// Where the log in memory begins.
    first_index: Index,
    /// A snapshot file has been asked for and is not yet there.
    file_wanted: bool,
    /// Members whose last transfer failed, and when the next one may begin.
    resting: BTreeMap<MemberId, Instant>,
}

struct Transfer {
    number: u64,
    wish: Wish,
    began: Instant,
    stage: Stage,
}

enum Stage {
    /// The one before it failed a moment ago.
    Resting,
    /// A file is looked for.
    Finding,
    /// A file is being written.
    Awaiting,
    Sending(Sending),
}

struct Sending {
    identity: SnapshotIdentity,
    /// Of the snapshot's last entry.
    term: Term,
    /// `None` while a piece is read.
    reader: Option<SnapshotReader>,
    /// Everything below has arrived.
    acked: u64,
    /// What is sent next.
    next: u64,
    /// Data that may be under way; one chunk after a silence, to find out whether anybody is there.
    window: u64,
    /// Where a gap was answered by sending again; only once, since what was under way reports the same gap.
    resent_from: Option<u64>,
    /// When something was last sent or heard.
    active: Instant,
    /// When the receiver was last heard.
    heard: Instant,
}

impl Outgoing {
    pub(super) fn new(shared: Arc<Shared>, disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Outgoing {
            shared,
            disk,
            dir,
            transfers: BTreeMap::new(),
            last_transfer: 0,
            first_index: Index(0),
            file_wanted: false,
            resting: BTreeMap::new(),
        }
    }

    pub(super) fn wanted(&mut self, wish: Wish, now: Instant, out: &mut Vec<Action>) {
        if let Some(under_way) = self.transfers.get_mut(&wish.to) {
            let before = &mut under_way.wish;
            if (before.leader_term, before.incarnation) == (wish.leader_term, wish.incarnation) {
                before.least = before.least.max(wish.least);
                return;
            }
            self.forget(wish.to);
        }
        self.last_transfer += 1;
        let rests = self.resting.get(&wish.to).is_some_and(|until| *until > now);
        let transfer = Transfer {
            number: self.last_transfer,
            wish,
            began: now,
            stage: Stage::Resting,
        };
        self.transfers.insert(wish.to, transfer);
        if !rests {
            self.find(wish.to, out);
        }
    }

    fn find(&mut self, to: MemberId, out: &mut Vec<Action>) {
        let Some(transfer) = self.transfers.get_mut(&to) else {
            return;
        };
        transfer.stage = Stage::Finding;
        let before_log = Index(self.first_index.0.saturating_sub(1));
        out.push(work(Work::Find {
            to,
            transfer: transfer.number,
            least: transfer.wish.least.max(before_log),
            disk: Arc::clone(&self.disk),
            dir: self.dir.clone(),
        }));
    }

    pub(super) fn done(&mut self, done: Done, now: Instant, out: &mut Vec<Action>) {
        match done {
            Done::Found {
                to,
                transfer: number,
                reader,
            } => match reader {
                _ if self.transfer(to, number).is_none() => {}
                Ok(Some(reader)) => self.begin(to, reader, now, out),
                Ok(None) => self.await_file(to, out),
                Err(error) => {
                    tracing::error!(%error, %to, "no snapshot file can be opened to be sent");
                    self.end(to, false, now, out);
                }
            },
            Done::Read {
                to,
                transfer: number,
                reader,
                offset,
                data,
            } => {
                if self.transfer(to, number).is_none() {
                    return;
                }
                match data {
                    Ok(data) => {
                        self.send(to, offset, data, now, out);
                        if let Some(sending) = self.sending(to) {
                            sending.reader = Some(reader);
                        }
                        self.read_on(to, out);
                    }
                    Err(error) => {
                        tracing::error!(%error, %to, "a snapshot file cannot be read to be sent");
                        self.end(to, false, now, out);
                    }
                }
            }
        }
    }

    fn begin(&mut self, to: MemberId, reader: SnapshotReader, now: Instant, out: &mut Vec<Action>) {
        let window = self.window();
        let Some(transfer) = self.transfers.get_mut(&to) else {
            return;
        };
        let sending = Sending {
            identity: reader.identity(),
            term: reader.meta().term,
            reader: Some(reader),
            acked: 0,
            next: 0,
            window,
            resent_from: None,
            active: now,
            heard: now,
        };
        tracing::info!(
            %to, index = sending.identity.index.0, bytes = sending.identity.bytes, "sending a snapshot"
        );
        transfer.began = now;
        transfer.stage = Stage::Sending(sending);
        self.shared.published.snapshots_sent.with(to).begin();
        self.read_on(to, out);
    }

    fn await_file(&mut self, to: MemberId, out: &mut Vec<Action>) {
        let Some(transfer) = self.transfers.get_mut(&to) else {
            return;
        };
        transfer.stage = Stage::Awaiting;
        self.want_file(out);
    }

    fn want_file(&mut self, out: &mut Vec<Action>) {
        if !self.file_wanted {
            self.file_wanted = true;
            out.push(Action::WantSnapshotFile);
        }
    }

    pub(super) fn snapshotted(&mut self, index: Option<Index>, out: &mut Vec<Action>) {
        self.file_wanted = false;
        if index.is_none() {
            // Those who wait ask again at the next tick.
            return;
        }
        let waiting =
            |(to, transfer): (&MemberId, &Transfer)| matches!(transfer.stage, Stage::Awaiting).then_some(*to);
        let waiting: Vec<MemberId> = self.transfers.iter().filter_map(waiting).collect();
        waiting.into_iter().for_each(|to| self.find(to, out));
    }

    /// Reads what the window allows to be sent, unless a read is under way.
    fn read_on(&mut self, to: MemberId, out: &mut Vec<Action>) {
        let Some(transfer) = self.transfers.get_mut(&to) else {
            return;
        };
        let (number, Stage::Sending(sending)) = (transfer.number, &mut transfer.stage) else {
            return;
        };
        let end = sending.identity.bytes.min(sending.acked + sending.window);
        if sending.next >= end {
            return;
        }
        let Some(reader) = sending.reader.take() else {
            return;
        };
        let bytes_max = usize::try_from(end - sending.next).unwrap_or(READ_BYTES_MAX);
        out.push(work(Work::Read {
            to,
            transfer: number,
            reader,
            offset: sending.next,
            bytes_max: bytes_max.min(READ_BYTES_MAX),
        }));
    }

    /// Sends what was read at `offset`, unless sending has gone back or forward from there meanwhile.
    fn send(&mut self, to: MemberId, offset: u64, mut data: Bytes, now: Instant, out: &mut Vec<Action>) {
        let chunk_bytes = self.chunk_bytes();
        let Some(transfer) = self.transfers.get_mut(&to) else {
            return;
        };
        let (number, wish, Stage::Sending(sending)) = (transfer.number, transfer.wish, &mut transfer.stage)
        else {
            return;
        };
        if offset != sending.next {
            return;
        }
        sending.active = now;
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(chunk_bytes));
            let next = sending.next + piece.len() as u64;
            out.push(chunk(number, &wish, sending, piece));
            sending.next = next;
        }
    }

    fn chunk_bytes(&self) -> usize {
        self.shared
            .settings
            .limits
            .snapshot_chunk_bytes
            .clamp(1, CHUNK_BYTES_MAX)
    }

    /// Bytes on their way at once.
    fn window(&self) -> u64 {
        WINDOW_BYTES_MAX.min(WINDOW_CHUNKS * self.chunk_bytes() as u64)
    }

    pub(super) fn ack(&mut self, from: MemberId, ack: &Ack, now: Instant, out: &mut Vec<Action>) {
        let meant = |transfer: &mut Transfer| transfer.wish.leader_term.0 == ack.leader_term;
        if !self.transfer(from, ack.transfer).is_some_and(meant) {
            return;
        }
        let window = self.window();
        let Some(sending) = self.sending(from) else { return };
        if ack.next_offset > sending.identity.bytes {
            tracing::warn!(%from, offset = ack.next_offset, "an impossible answer to a snapshot");
            return;
        }
        sending.heard = now;
        sending.active = now;
        match ack.standing() {
            Standing::Installed | Standing::Refused => return self.end(from, true, now, out),
            Standing::Failed => {
                tracing::warn!(to = %from, "the receiver could not take a snapshot");
                return self.end(from, false, now, out);
            }
            Standing::Opening => return,
            Standing::Receiving => {}
        }
        let offset = ack.next_offset;
        if offset > sending.acked {
            sending.acked = offset;
            sending.next = sending.next.max(offset);
            sending.window = window;
            sending.resent_from = None;
        } else if offset < sending.acked {
            // The receiver has been restarted, and has less than it had written.
            sending.acked = offset;
            sending.next = offset;
        } else if ack.gap && sending.resent_from != Some(offset) {
            sending.resent_from = Some(offset);
            sending.next = offset;
        }
        self.read_on(from, out);
    }

    pub(super) fn tick(&mut self, first_index: Index, now: Instant, out: &mut Vec<Action>) {
        self.first_index = self.first_index.max(first_index);
        self.resting.retain(|_, until| *until > now);
        let members: Vec<MemberId> = self.transfers.keys().copied().collect();
        let chunk_bytes = self.chunk_bytes();
        for to in members {
            let Some(transfer) = self.transfers.get_mut(&to) else {
                continue;
            };
            let (number, wish) = (transfer.number, transfer.wish);
            match &mut transfer.stage {
                Stage::Finding => {}
                Stage::Awaiting => self.want_file(out),
                Stage::Resting => {
                    if !self.resting.contains_key(&to) {
                        self.find(to, out);
                    }
                }
                Stage::Sending(sending) => {
                    if now.since(sending.heard) >= SILENCE_MAX {
                        tracing::warn!(%to, "a snapshot is given up: its receiver is silent");
                        self.end(to, false, now, out);
                    } else if now.since(sending.active) >= RESEND_AFTER {
                        sending.active = now;
                        sending.next = sending.acked;
                        sending.window = chunk_bytes as u64;
                        if sending.acked == sending.identity.bytes {
                            // Everything has arrived: asks what has become of it.
                            out.push(chunk(number, &wish, sending, Bytes::new()));
                        }
                        self.read_on(to, out);
                    }
                }
            }
        }
    }

    pub(super) fn stop(&mut self) {
        self.file_wanted = false;
        let members: Vec<MemberId> = self.transfers.keys().copied().collect();
        members.into_iter().for_each(|to| self.forget(to));
        self.resting.clear();
    }

    pub(super) fn lowest_index(&self) -> Option<Index> {
        let index = |transfer: &Transfer| match &transfer.stage {
            Stage::Sending(sending) => Some(sending.identity.index),
            _ => None,
        };
        self.transfers.values().filter_map(index).min()
    }

    fn transfer(&mut self, to: MemberId, number: u64) -> Option<&mut Transfer> {
        self.transfers
            .get_mut(&to)
            .filter(|transfer| transfer.number == number)
    }

    fn sending(&mut self, to: MemberId) -> Option<&mut Sending> {
        match &mut self.transfers.get_mut(&to)?.stage {
            Stage::Sending(sending) => Some(sending),
            _ => None,
        }
    }

    fn end(&mut self, to: MemberId, delivered: bool, now: Instant, out: &mut Vec<Action>) {
        let Some(transfer) = self.transfers.remove(&to) else {
            return;
        };
        let numbers = self.shared.published.snapshots_sent.with(to);
        if matches!(transfer.stage, Stage::Sending(_)) {
            numbers.end(delivered, now.since(transfer.began));
        } else if !delivered {
            numbers.fail();
        }
        if !delivered {
            self.resting.insert(to, now + REST_AFTER_FAILURE);
        }
        out.push(Action::Outcome { to, delivered });
    }

    /// Ends a transfer whose outcome nobody wants.
    fn forget(&mut self, to: MemberId) {
        if let Some(transfer) = self.transfers.remove(&to)
            && matches!(transfer.stage, Stage::Sending(_))
        {
            self.shared.published.snapshots_sent.with(to).give_up();
        }
    }
}

fn work(work: Work) -> Action {
    Action::Work(transfers::Work::Outgoing(work))
}

/// A chunk at the place that is sent next.
fn chunk(number: u64, wish: &Wish, sending: &Sending, data: Bytes) -> Action {
    let chunk = Chunk {
        transfer: number,
        index: sending.identity.index.0,
        term: sending.term.0,
        leader_term: wish.leader_term.0,
        total_bytes: sending.identity.bytes,
        offset: sending.next,
        data_checksum: crc32c::crc32c(&data),
        data,
        incarnation: wish.incarnation,
        fingerprint: sending.identity.fingerprint,
    };
    Action::Send {
        to: wish.to,
        message: SnapshotMessage {
            part: Some(Part::Chunk(chunk)),
        },
    }
}

/// Read from the file at once.
const READ_BYTES_MAX: usize = 4 * CHUNK_BYTES_MAX;
/// Chunks on their way at once.
const WINDOW_CHUNKS: u64 = 8;
/// Silence after which everything that is not acknowledged is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(1);
/// Silence after which a transfer has failed.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Pause between a transfer that failed and the next one to the same member: what fails at once, as on a full disk,
/// must not be tried all the time.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(5);
