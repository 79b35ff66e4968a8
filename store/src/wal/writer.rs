//! The writing end of the log.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::end::EndMark;
use super::error::io_error;
use super::record::{
    BATCH_BYTES_MAX, Encoder, HARD_STATE_BYTES, LogOffset, RESTART_BYTES, STATE_BYTES, SegmentId, State,
    batch_bytes, entry_bytes,
};
use super::replay::{self, Replay};
use super::scan::{self, Scan};
use super::segment::{self, HEADER_BYTES, SpareJob};
use super::{Append, Config, HardState, Metadata, Position, WalError};
use crate::env::{Disk, DiskFile, create_dir_durably};
use crate::types::Index;

/// An open log.
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    config: Config,
    metadata: Metadata,
    hard_state: HardState,
    last: Position,
    generation: u64,
    /// The segments in use, oldest first; the last one is written to.
    segments: VecDeque<Held>,
    file: Box<dyn DiskFile>,
    segment: SegmentId,
    /// Where the next batch goes.
    offset: u64,
    /// Everything below is durable.
    synced: LogOffset,
    /// The segment after the current one, made ready.
    next: Option<(SegmentId, Box<dyn DiskFile>)>,
    spares: Vec<PathBuf>,
    /// The number of the next spare to be made; above every number in the folder.
    next_number: u64,
    buffer: Vec<u8>,
    poisoned: bool,
    mark: Option<EndMark>,
}

/// A segment in use.
struct Held {
    sequence: u64,
    /// The log's last index when it was begun.
    before: Index,
    /// Its length; of the current one, see `Wal::offset`.
    bytes: u64,
}

impl Wal {
    /// Whether the folder holds a log; one whose creation a crash interrupted is none.
    pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, WalError> {
        match disk.list(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            _ => Ok(!segment::list(disk, dir)?.segments.is_empty()),
        }
    }

    /// Begins a log in a folder without one (made where missing).
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        metadata: Metadata,
        config: Config,
    ) -> Result<Wal, WalError> {
        create_dir_durably(disk.as_ref(), dir).map_err(io_error("create", dir))?;
        let listing = segment::list(disk.as_ref(), dir)?;
        if !listing.segments.is_empty() {
            return Err(WalError::Exists { path: dir.to_owned() });
        }
        for path in listing.unfinished.iter().chain(&listing.spares) {
            disk.remove(path).map_err(io_error("remove", path))?;
        }
        let number = listing.next_number;
        let bytes = config
            .first_segment_bytes
            .clamp(SEGMENT_BYTES_MIN, segment_bytes(&config));
        let spare = SpareJob {
            disk: disk.clone(),
            dir: dir.to_owned(),
            number,
            bytes,
        }
        .run()?;

        let id = SegmentId {
            sequence: 1,
            salt: config.salt,
        };
        let start = LogOffset {
            sequence: 1,
            offset: HEADER_BYTES as u64,
        };
        let mut buffer = Vec::new();
        let mut encoder = Encoder::new(&mut buffer, id, 1, start.offset);
        encoder.state(&State {
            metadata,
            last: Position::default(),
            hard_state: HardState::default(),
        });
        encoder.finish(start);
        let file = segment::activate(disk.as_ref(), dir, &spare, id, &buffer)?;
        let offset = start.offset + buffer.len() as u64;
        let mut wal = Wal {
            mark: open_mark(&disk, &config),
            disk,
            dir: dir.to_owned(),
            config,
            metadata,
            hard_state: HardState::default(),
            last: Position::default(),
            generation: 1,
            segments: VecDeque::from([Held {
                sequence: 1,
                before: Index(0),
                bytes,
            }]),
            file,
            segment: id,
            offset,
            synced: LogOffset { sequence: 1, offset },
            next: None,
            spares: Vec::new(),
            next_number: number + 1,
            buffer,
            poisoned: false,
        };
        wal.mark()?;
        Ok(wal)
    }

    /// Opens the log and returns its entries from index `from` on (at least 1). Cuts a torn tail, and begins a new
    /// generation, so that nothing left behind by the crash can ever be read again.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        from: Index,
        config: Config,
    ) -> Result<(Wal, Replay), WalError> {
        let Scan {
            replay,
            generation,
            tail,
            tail_id,
            segments,
        } = scan::scan(disk.as_ref(), dir, from, &config)?;
        let path = segment::path(dir, tail.sequence);
        let file = disk.open(&path).map_err(io_error("open", &path))?;
        let (held, beyond): (Vec<_>, Vec<_>) = segments
            .into_iter()
            .partition(|found| found.sequence <= tail.sequence);
        let held = held.into_iter().map(|found| Held {
            sequence: found.sequence,
            before: found.before().unwrap_or_default(),
            bytes: found.bytes,
        });
        let mut wal = Wal {
            dir: dir.to_owned(),
            metadata: replay.metadata,
            hard_state: replay.hard_state,
            last: replay.last,
            generation: generation + 1,
            segments: held.collect(),
            file,
            segment: tail_id,
            offset: tail.offset,
            synced: tail,
            next: None,
            spares: Vec::new(),
            next_number: 0,
            buffer: Vec::new(),
            poisoned: false,
            mark: open_mark(&disk, &config),
            config,
            disk,
        };
        wal.reopen_mark()?;
        wal.tidy_folder(beyond.iter().map(|found| found.sequence))?;
        // A batch of its own, synced before any other of the generation: were the number used twice, records of
        // a torn batch of the first use could verify inside one of the second.
        wal.write(0, true, |_| {}, |_| {})?;
        Ok((wal, replay))
    }

    /// Makes everything given durable: one write and one sync, all of it or, after a crash, none of it. After an
    /// error the log takes no more, and nothing that rests on this batch may be told to anyone; only after
    /// [`WalError::Full`] the same batch, and no other, may be given again.
    ///
    /// # Panics
    /// Where the entries leave a gap: what would be written could not be read again.
    pub fn append(&mut self, parts: &[Append]) -> Result<(), WalError> {
        self.append_with(parts, |_| {})
    }

    /// As [`Wal::append`]; `written` is told of the bytes once they are written and before they are synced.
    ///
    /// # Panics
    /// As [`Wal::append`].
    pub fn append_with(&mut self, parts: &[Append], written: impl FnOnce(usize)) -> Result<(), WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned {
                path: self.dir.clone(),
            });
        }
        let (mut last, mut hard_state, mut body) = (self.last, self.hard_state, 0);
        for part in parts {
            if let Some(restart) = part.restart {
                last = restart;
                body += RESTART_BYTES;
            }
            for entry in &part.entries {
                assert!(
                    entry.index > Index(0) && entry.index <= last.index.next(),
                    "entry {} of term {} would leave a gap after {}",
                    entry.index,
                    entry.term,
                    last.index
                );
                last = Position {
                    index: entry.index,
                    term: entry.term,
                };
                body += entry_bytes(entry);
            }
            if let Some(new) = part.hard_state {
                assert!(
                    new.term >= hard_state.term,
                    "term falls from {} to {}",
                    hard_state.term,
                    new.term
                );
                hard_state = new;
                body += HARD_STATE_BYTES;
            }
        }
        if body == 0 {
            return Ok(());
        }
        let records = |encoder: &mut Encoder<'_>| {
            for part in parts {
                part.restart.iter().for_each(|restart| encoder.restart(*restart));
                part.hard_state.iter().for_each(|state| encoder.hard_state(state));
                part.entries.iter().for_each(|entry| encoder.entry(entry));
            }
        };
        self.write(body, false, records, written)?;
        self.last = last;
        self.hard_state = hard_state;
        Ok(())
    }

    /// Whether the current segment is half full and the next one not made yet: the time for [`Wal::prepare`], best
    /// with a spare from [`Wal::spare_job`] at hand.
    #[must_use]
    pub fn wants_segment(&self) -> bool {
        self.next.is_none() && !self.poisoned && self.offset > self.prepared_bytes() / 2
    }

    /// The making of a spare, where [`Wal::prepare`] would have to do it itself; to be run anywhere.
    pub fn spare_job(&mut self) -> Option<SpareJob> {
        if self.next.is_some() || !self.spares.is_empty() {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        let bytes = segment_bytes(&self.config);
        Some(SpareJob {
            disk: self.disk.clone(),
            dir: self.dir.clone(),
            number,
            bytes,
        })
    }

    /// Takes over a spare that was made elsewhere.
    pub fn add_spare(&mut self, spare: PathBuf) {
        self.spares.push(spare);
    }

    /// Makes the next segment ready, so that the append that needs it does not wait for that. An append does it by
    /// itself where this was not called. Failing here (a full disk) does no harm yet.
    pub fn prepare(&mut self) -> Result<(), WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned {
                path: self.dir.clone(),
            });
        }
        if self.next.is_some() {
            return Ok(());
        }
        if let Some(job) = self.spare_job() {
            match job.run() {
                Ok(spare) => self.spares.push(spare),
                Err(error) if error.is_full() => return Err(self.full(error)),
                Err(error) => return Err(error),
            }
        }
        let Some(spare) = self.spares.pop() else {
            return Ok(());
        };
        let id = SegmentId {
            sequence: self.segment.sequence + 1,
            salt: self.config.salt,
        };
        match segment::activate(self.disk.as_ref(), &self.dir, &spare, id, &[]) {
            Ok(file) => {
                self.next = Some((id, file));
                Ok(())
            }
            Err(error) => {
                // Whether the new segment has its name is unknown now.
                self.poisoned = true;
                Err(error)
            }
        }
    }

    /// Gives up the entries up to `covered`, which a durable snapshot holds: segments that nobody needs are kept
    /// as spares or removed. Returns how many there were.
    pub fn release(&mut self, covered: Index) -> Result<usize, WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned {
                path: self.dir.clone(),
            });
        }
        let first = self
            .segments
            .iter()
            .rposition(|held| held.before <= covered)
            .unwrap_or(0);
        if first == 0 {
            return Ok(0);
        }
        let mut spares = Vec::new();
        for held in self.segments.drain(..first) {
            let path = segment::path(&self.dir, held.sequence);
            let room = self.spares.len() + spares.len() < self.config.spares_max;
            if room && held.bytes == segment_bytes(&self.config) {
                let spare = segment::spare_path(&self.dir, held.sequence);
                self.disk
                    .rename(&path, &spare)
                    .map_err(io_error("rename", &path))?;
                spares.push(spare);
            } else {
                self.disk.remove(&path).map_err(io_error("remove", &path))?;
            }
            // One by one, oldest first: a crash must not leave an older segment with a hole after it, which would
            // look like a segment lost. (Found by simulation, see jepsen/README.md.)
            self.disk
                .sync_dir(&self.dir)
                .map_err(io_error("sync", &self.dir))?;
        }
        // Only now may they be written to: until the sync, a crash could bring back the old names.
        self.spares.append(&mut spares);
        Ok(first)
    }

    /// Whether the mark of the log's end is behind the log.
    #[must_use]
    pub fn wants_mark(&self) -> bool {
        let last = self.mark.as_ref().map(EndMark::last);
        !self.poisoned && last.is_some_and(|last| last.is_none_or(|mark| mark.at != self.synced))
    }

    /// Marks the log's end as durable up to here, so that damage to the end shows; see `end.rs`. No acknowledgement
    /// waits for this, and a failure harms no log.
    pub fn mark(&mut self) -> Result<(), WalError> {
        if !self.wants_mark() {
            return Ok(());
        }
        self.write_mark(false)
    }

    /// Marks the log's end for good: nothing is appended any more.
    pub fn close(mut self) -> Result<(), WalError> {
        if self.poisoned {
            return Ok(());
        }
        self.write_mark(true)
    }

    fn write_mark(&mut self, closed: bool) -> Result<(), WalError> {
        let (metadata, at) = (self.metadata, self.synced);
        match &mut self.mark {
            Some(mark) => mark.write(metadata, at, closed),
            None => Ok(()),
        }
    }

    /// Before anything is appended behind it, a mark that says that nothing is has to go.
    fn reopen_mark(&mut self) -> Result<(), WalError> {
        let last = self.mark.as_ref().and_then(EndMark::last);
        if last.is_some_and(|mark| mark.closed) {
            self.write_mark(false)?;
        }
        Ok(())
    }

    /// Whose log this is.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        self.metadata
    }

    /// The end of the log.
    #[must_use]
    pub fn last(&self) -> Position {
        self.last
    }

    /// The hard state as last appended.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Bytes of log that are kept: what has to be read, at most, to recover.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let older = self.segments.len().saturating_sub(1);
        self.segments
            .iter()
            .take(older)
            .map(|held| held.bytes)
            .sum::<u64>()
            + self.offset
    }

    /// Writes one batch of records with `body` bytes, and syncs it. `with_state`: a state record comes first, as
    /// it does by itself at the beginning of a segment.
    fn write(
        &mut self,
        body: u64,
        with_state: bool,
        records: impl FnOnce(&mut Encoder<'_>),
        written: impl FnOnce(usize),
    ) -> Result<(), WalError> {
        let bytes = batch_bytes(body + STATE_BYTES);
        if bytes > BATCH_BYTES_MAX {
            return Err(WalError::BatchTooLarge {
                bytes,
                max: BATCH_BYTES_MAX,
            });
        }
        let result = self.try_write(body, with_state, records, written);
        // Without room for it the batch never was: nothing was told of it, no sync was asked for, and the bytes of it
        // that fitted lie where the same batch will be written again.
        self.poisoned |= result
            .as_ref()
            .is_err_and(|error| !matches!(error, WalError::Full { .. }));
        result
    }

    fn try_write(
        &mut self,
        body: u64,
        with_state: bool,
        records: impl FnOnce(&mut Encoder<'_>),
        written: impl FnOnce(usize),
    ) -> Result<(), WalError> {
        let empty = self.offset == HEADER_BYTES as u64;
        let body = if with_state { body + STATE_BYTES } else { body };
        let end = self.offset + batch_bytes(body);
        // A first segment that is shorter than the others grows rather than wait for the next one to be made.
        let full = end > segment_bytes(&self.config) || (end > self.prepared_bytes() && self.next.is_some());
        if !empty && full {
            self.cut()?;
        }
        let mut encoder = Encoder::new(&mut self.buffer, self.segment, self.generation, self.offset);
        if with_state || self.offset == HEADER_BYTES as u64 {
            let (metadata, last, hard_state) = (self.metadata, self.last, self.hard_state);
            encoder.state(&State {
                metadata,
                last,
                hard_state,
            });
        }
        records(&mut encoder);
        encoder.finish(self.synced);
        let path = || segment::path(&self.dir, self.segment.sequence);
        if let Err(error) = self.file.write_at(self.offset, &self.buffer) {
            let error = io_error("write", &path())(error);
            return Err(if error.is_full() { self.full(error) } else { error });
        }
        written(self.buffer.len());
        self.file.sync_data().map_err(|e| io_error("sync", &path())(e))?;
        self.offset += self.buffer.len() as u64;
        self.synced = LogOffset {
            sequence: self.segment.sequence,
            offset: self.offset,
        };
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Goes on in the next segment.
    fn cut(&mut self) -> Result<(), WalError> {
        self.prepare()?;
        let (id, file) = self.next.take().expect("prepare made it");
        if let Some(current) = self.segments.back_mut() {
            current.bytes = current.bytes.max(self.offset);
        }
        let bytes = file.len().map_err(|e| {
            let path = segment::path(&self.dir, id.sequence);
            io_error("read", &path)(e)
        })?;
        self.segments.push_back(Held {
            sequence: id.sequence,
            before: self.last.index,
            bytes,
        });
        self.segment = id;
        self.file = file;
        self.offset = HEADER_BYTES as u64;
        Ok(())
    }

    fn full(&self, error: WalError) -> WalError {
        match error {
            WalError::Io { source, .. } => WalError::Full {
                path: self.dir.clone(),
                source,
            },
            other => other,
        }
    }

    /// How much of the current segment was made ready in advance.
    fn prepared_bytes(&self) -> u64 {
        let made = self.segments.back().map_or(0, |current| current.bytes);
        made.min(segment_bytes(&self.config))
    }

    /// Sorts out what a crash, or another configuration, left in the folder beside the log itself. `beyond` are
    /// the segments after its end.
    fn tidy_folder(&mut self, beyond: impl Iterator<Item = u64>) -> Result<(), WalError> {
        let listing = segment::list(self.disk.as_ref(), &self.dir)?;
        self.next_number = listing.next_number;
        let mut surplus = listing.unfinished;
        for sequence in beyond {
            let path = segment::path(&self.dir, sequence);
            if sequence == self.segment.sequence + 1 {
                // Made ready and not used, or used by a batch that was torn; its salt is its own.
                let file = self.disk.open(&path).map_err(io_error("open", &path))?;
                match replay::identify(file.as_ref(), &path, sequence) {
                    Ok(id) => self.next = Some((id, file)),
                    // The reader has made sure that the log was closed before it.
                    Err(WalError::Corrupt { .. }) => surplus.push(path),
                    Err(error) => return Err(error),
                }
            } else {
                surplus.push(path);
            }
        }
        for path in listing.spares {
            let file = self.disk.open(&path).map_err(io_error("open", &path))?;
            let bytes = file.len().map_err(io_error("read", &path))?;
            if bytes == segment_bytes(&self.config) && self.spares.len() < self.config.spares_max {
                self.spares.push(path);
            } else {
                surplus.push(path);
            }
        }
        for path in &surplus {
            self.disk.remove(path).map_err(io_error("remove", path))?;
        }
        if !surplus.is_empty() {
            self.disk
                .sync_dir(&self.dir)
                .map_err(io_error("sync", &self.dir))?;
        }
        Ok(())
    }
}

/// The mark of the log's end, where one is kept. A log goes on without it, as on a disk that is full.
fn open_mark(disk: &Arc<dyn Disk>, config: &Config) -> Option<EndMark> {
    let path = config.mark.as_deref()?;
    EndMark::open(disk, path)
        .inspect_err(|error| tracing::warn!(%error, "no mark of the log's end is kept"))
        .ok()
}

/// A segment's size, never too small for its header and one state record.
fn segment_bytes(config: &Config) -> u64 {
    config.segment_bytes.max(SEGMENT_BYTES_MIN)
}

const SEGMENT_BYTES_MIN: u64 = 1024;
/// A buffer that one huge batch has grown is given back down to this.
const BUFFER_BYTES_KEPT: usize = 4 << 20;
