//! Reading a log: what is left of the entries of its segments, and where the log ends. Changes nothing on disk, so tools
//! may use it beside a stopped member.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::end::{self, Mark};
use super::error::io_error;
use super::record::{Defect, Image, LogOffset, Record, SegmentId, State};
use super::retain::{Retain, Retained};
use super::scan::{Found, scan};
use super::segment::{self, HEADER_BYTES};
use super::window::Window;
use super::{Config, Damage, Entry, HardState, Metadata, Position, WalError};
use crate::env::{Disk, DiskFile};
use crate::types::{Index, Term};

/// What a log holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    /// Whose log it is.
    pub metadata: Metadata,
    /// The last hard state; its commit index is at most `last.index`.
    pub hard_state: HardState,
    /// The entries from the index asked for, contiguous up to `last`; empty where `last` lies before it.
    pub entries: Vec<Entry>,
    /// Entries that lead up to the index asked for, as far as [`Config::retain`] wants them and the log has them at hand.
    pub retained: Vec<Entry>,
    /// The end of the log. Below the index asked for minus one, the snapshot that the caller starts from was
    /// installed just before a crash: append a restart before anything else.
    pub last: Position,
    /// The term of the entry before the index asked for, where the log reaches that far.
    pub before_term: Option<Term>,
    /// A batch that a crash cut short; nobody was told of it.
    pub torn: Option<Torn>,
    /// How many segments were skipped because nothing in them was wanted.
    pub segments_skipped: usize,
}

/// Where a torn tail begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Torn {
    /// The segment.
    pub path: PathBuf,
    /// The offset of the batch in it.
    pub offset: u64,
}

/// Reads the entries from index `from` on (at least 1), and the state of the log.
pub fn read(disk: &dyn Disk, dir: &Path, from: Index, config: &Config) -> Result<Replay, WalError> {
    scan(disk, dir, from, config).map(|scan| scan.replay)
}

/// Whose log it is, from the beginnings of its segments alone; where none can be read, as [`read`] has it.
pub fn metadata(disk: &dyn Disk, dir: &Path, config: &Config) -> Result<Metadata, WalError> {
    let reader = Reader::new(disk, dir, config)?;
    for sequence in segment::list(disk, dir)?.segments.into_iter().rev() {
        if let Some(state) = reader.peek(sequence)?.state {
            return Ok(state.metadata);
        }
    }
    read(disk, dir, Index(u64::MAX), config).map(|replay| replay.metadata)
}

/// The identity of a segment, from its header.
pub(super) fn identify(file: &dyn DiskFile, path: &Path, sequence: u64) -> Result<SegmentId, WalError> {
    let mut header = [0; HEADER_BYTES];
    let len = file.read_at(0, &mut header).map_err(io_error("read", path))?;
    segment::decode_header(&header[..len], sequence).map_err(|damage| segment::header_error(path, damage))
}

pub(super) struct Reader<'a> {
    disk: &'a dyn Disk,
    pub(super) dir: &'a Path,
    verify: bool,
    /// How far the log was durable for certain.
    mark: Option<Mark>,
    mark_path: PathBuf,
}

/// Where reading a segment stopped.
pub(super) struct Stop {
    pub(super) at: usize,
    /// What was wrong with the batch there; `None` where there is no valid head of one.
    pub(super) defect: Option<Defect>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(disk: &'a dyn Disk, dir: &'a Path, config: &Config) -> Result<Self, WalError> {
        let found = match &config.mark {
            Some(path) => end::read(disk, path)?,
            None => end::Found::default(),
        };
        if let (true, Some(path)) = (found.damaged, &config.mark) {
            tracing::warn!(
                path = %path.display(),
                "the mark of the log's end is damaged: it is written anew, and the log is read by itself"
            );
        }
        Ok(Reader {
            disk,
            dir,
            verify: config.verifies(),
            mark: found.mark.filter(|_| config.verifies()),
            mark_path: config.mark.clone().unwrap_or_default(),
        })
    }

    /// Reads a segment's beginning only.
    pub(super) fn peek(&self, sequence: u64) -> Result<Found, WalError> {
        let path = segment::path(self.dir, sequence);
        let file = self.disk.open(&path).map_err(io_error("open", &path))?;
        let mut bytes = vec![0; PEEK_BYTES];
        let len = file.read_at(0, &mut bytes).map_err(io_error("read", &path))?;
        let state = segment::decode_header(&bytes[..len], sequence)
            .ok()
            .and_then(|segment| {
                let image = Image {
                    base: 0,
                    bytes: &bytes[..len],
                    segment,
                    verify: self.verify,
                };
                image.state(HEADER_BYTES)
            });
        Ok(Found {
            sequence,
            bytes: file.len().map_err(io_error("read", &path))?,
            state,
        })
    }

    pub(super) fn window(&self, sequence: u64) -> Result<Window, WalError> {
        Window::open(
            self.disk,
            segment::path(self.dir, sequence),
            sequence,
            self.verify,
        )
    }

    /// Reads the segments to the end of the log, and makes sure that it is the end. Returns where the next batch
    /// goes, and a torn batch there.
    pub(super) fn follow(
        &self,
        segments: &[Found],
        log: &mut Log<'_>,
    ) -> Result<(LogOffset, SegmentId, Option<Torn>), WalError> {
        let mut ended: Option<(LogOffset, Window, Stop)> = None;
        for found in segments {
            let sequence = found.sequence;
            if let Some((end, ..)) = &ended
                && end.sequence + 1 != sequence
            {
                return Err(WalError::MissingSegment {
                    path: segment::path(self.dir, end.sequence + 1),
                });
            }
            let mut window = match self.window(sequence) {
                Err(WalError::Corrupt { .. })
                    if ended.as_ref().is_some_and(|(end, ..)| self.closed_at(*end)) =>
                {
                    break;
                }
                opened => opened?,
            };
            let first = window.head(HEADER_BYTES)?;
            let first = first.filter(|head| head.generation >= log.generation);
            let continues = match first {
                Some(head) => {
                    let image = window.batch(HEADER_BYTES, &head)?;
                    image.records(HEADER_BYTES, &head).is_ok().then_some(head)
                }
                None => None,
            };
            match (&ended, continues) {
                // Made ready but not begun: the log ends before it.
                (Some(_), None) => break,
                (Some((end, ..)), Some(head)) if head.synced != *end && self.has_grown(log, *end)? => break,
                (Some((end, _, stop)), Some(head)) if self.verify && head.synced != *end => {
                    let damage = stop.defect.map_or(Damage::BatchHead, |defect| defect.damage);
                    return Err(self.corrupt(end.sequence, end.offset, damage));
                }
                _ => {}
            }
            let stop = self.segment(&mut window, log)?;
            let end = LogOffset {
                sequence,
                offset: stop.at as u64,
            };
            ended = Some((end, window, stop));
            if log.is_enough() {
                break;
            }
        }
        let (end, mut window, stop) = ended.expect("there is at least one segment");
        if log.is_enough() {
            return Ok((end, window.segment(), None));
        }
        self.check_mark(segments, end, &stop, log)?;
        if !self.closed_at(end) {
            match self.prove_end(segments, &mut window, end, &stop, log.generation) {
                Err(WalError::Corrupt { .. }) if self.has_grown(log, end)? => {
                    return Ok((end, window.segment(), None));
                }
                proven => proven?,
            }
        }
        let torn = stop.defect.map(|_| Torn {
            path: segment::path(self.dir, end.sequence),
            offset: end.offset,
        });
        Ok((end, window.segment(), torn))
    }

    /// Whether a batch that did not verify does so now: for whoever reads beside a running member, that was the end of
    /// the log a moment ago, and what was found behind it came later.
    fn has_grown(&self, log: &Log<'_>, end: LogOffset) -> Result<bool, WalError> {
        if log.observer.is_none() {
            return Ok(false);
        }
        let at = usize::try_from(end.offset).unwrap_or(usize::MAX);
        let mut window = self.window(end.sequence)?;
        let head = window.head(at)?.filter(|head| head.generation >= log.generation);
        let Some(head) = head else { return Ok(false) };
        Ok(window.batch(at, &head)?.records(at, &head).is_ok())
    }

    /// Reads batches until one does not verify.
    pub(super) fn segment(&self, window: &mut Window, log: &mut Log<'_>) -> Result<Stop, WalError> {
        let sequence = window.segment().sequence;
        let mut at = HEADER_BYTES;
        loop {
            let head = window.head(at)?.filter(|head| head.generation >= log.generation);
            let Some(head) = head else {
                return Ok(Stop { at, defect: None });
            };
            let image = window.batch(at, &head)?;
            let records = match image.records(at, &head) {
                Ok(records) => records,
                // It verifies, so it is as written: by a later version, or by a bug. No crash does that.
                Err(Defect {
                    at,
                    damage: Damage::Form(kind),
                }) if self.verify => {
                    return Err(WalError::UnknownRecord {
                        path: segment::path(self.dir, sequence),
                        offset: at as u64,
                        kind,
                    });
                }
                Err(defect) => {
                    return Ok(Stop {
                        at,
                        defect: Some(defect),
                    });
                }
            };
            if self.verify
                && head.synced
                    > (LogOffset {
                        sequence,
                        offset: at as u64,
                    })
            {
                return Err(self.corrupt(sequence, at as u64, Damage::Discontinuity));
            }
            for record in &records {
                log.take(record)
                    .map_err(|damage| self.corrupt(sequence, at as u64, damage))?;
            }
            log.generation = head.generation;
            at += head.len();
            if log.is_enough() {
                return Ok(Stop { at, defect: None });
            }
        }
    }

    /// Whether the log was closed at `end`: what lies behind it was never part of it.
    pub(super) fn closed_at(&self, end: LogOffset) -> bool {
        self.mark.is_some_and(|mark| mark.closed && mark.at == end)
    }

    /// Compares the end found with how far the log was durable for certain.
    pub(super) fn check_mark(
        &self,
        segments: &[Found],
        end: LogOffset,
        stop: &Stop,
        log: &Log<'_>,
    ) -> Result<(), WalError> {
        let Some(mark) = self.mark else { return Ok(()) };
        if log.state.is_some_and(|state| state.metadata != mark.metadata) {
            return Err(WalError::OtherMark {
                mark: self.mark_path.clone(),
                path: self.dir.to_owned(),
            });
        }
        if end >= mark.at {
            return Ok(());
        }
        if mark.at.sequence == end.sequence {
            let defect = stop.defect.unwrap_or(Defect {
                at: stop.at,
                damage: Damage::Short(mark.at.offset, mark.at.sequence),
            });
            return Err(self.corrupt(end.sequence, defect.at as u64, defect.damage));
        }
        // The log went on in the next segment, of which nothing can be read, or which is not there.
        let next = end.sequence + 1;
        if segments.iter().any(|found| found.sequence == next) {
            return Err(self.corrupt(next, HEADER_BYTES as u64, Damage::BatchHead));
        }
        Err(WalError::MissingSegment {
            path: segment::path(self.dir, next),
        })
    }

    /// Corruption or a torn tail: looks for anything behind the end that was written after it was durable. `tail`
    /// is the window on the segment that the log ends in: it goes on from where reading stopped.
    pub(super) fn prove_end(
        &self,
        segments: &[Found],
        tail: &mut Window,
        end: LogOffset,
        stop: &Stop,
        generation: u64,
    ) -> Result<(), WalError> {
        if !self.verify {
            return Ok(());
        }
        let mut proven = tail.proof_beyond(stop.at, end, generation)?;
        for found in segments.iter().filter(|found| found.sequence > end.sequence) {
            if proven {
                break;
            }
            proven = self
                .window(found.sequence)?
                .proof_beyond(HEADER_BYTES, end, generation)?;
        }
        if proven {
            let defect = stop.defect.unwrap_or(Defect {
                at: stop.at,
                damage: Damage::BatchHead,
            });
            return Err(self.corrupt(end.sequence, defect.at as u64, defect.damage));
        }
        Ok(())
    }

    pub(super) fn corrupt(&self, sequence: u64, offset: u64, damage: Damage) -> WalError {
        WalError::Corrupt {
            path: segment::path(self.dir, sequence),
            offset,
            damage,
        }
    }
}

/// Is shown the records one by one; false when it wants no more.
pub(super) type Observer<'a> = &'a mut dyn FnMut(&Record<'_>) -> bool;

/// The log as its records make it, one by one.
pub(super) struct Log<'a> {
    from: Index,
    /// The entries above this index and up to `last` are in the log that was read.
    base: Index,
    last: Position,
    /// The term of the entry before `from`, once seen.
    before_term: Option<Term>,
    entries: Vec<Entry>,
    retained: Retained,
    hard_state: HardState,
    /// The newest state record.
    pub(super) state: Option<State>,
    pub(super) generation: u64,
    /// For whoever wants to see all records; such a reader may stand beside a running member.
    observer: Option<Observer<'a>>,
    enough: bool,
}

impl<'a> Log<'a> {
    /// A log that keeps nothing and shows everything.
    pub(super) fn observed(observer: Observer<'a>) -> Self {
        Log {
            observer: Some(observer),
            ..Log::new(Index(u64::MAX), Retain::default())
        }
    }

    /// Whether its observer wants no more.
    fn is_enough(&self) -> bool {
        self.enough
    }

    pub(super) fn new(from: Index, retain: Retain) -> Self {
        Log {
            from,
            base: Index(0),
            last: Position::default(),
            before_term: None,
            entries: Vec::new(),
            retained: Retained::new(retain),
            hard_state: HardState::default(),
            state: None,
            generation: 0,
            observer: None,
            enough: false,
        }
    }

    fn take(&mut self, record: &Record<'_>) -> Result<(), Damage> {
        self.keep(record)?;
        if let Some(observer) = &mut self.observer {
            self.enough |= !observer(record);
        }
        Ok(())
    }

    fn keep(&mut self, record: &Record<'_>) -> Result<(), Damage> {
        match record {
            Record::State(state) => return self.state(state),
            Record::HardState(hard_state) => self.hard_state = *hard_state,
            Record::Restart(at) => {
                self.entries.clear();
                self.retained.clear();
                self.base = at.index;
                self.end_at(*at);
            }
            Record::Entry {
                kind,
                term,
                index,
                data,
            } => {
                if *index > self.last.index.next() || *index == Index(0) {
                    return Err(Damage::EntryGap {
                        index: *index,
                        last: self.last.index,
                    });
                }
                self.cut(*index);
                self.end_at(Position {
                    index: *index,
                    term: *term,
                });
                let entry = || Entry {
                    term: *term,
                    index: *index,
                    kind: *kind,
                    data: Bytes::copy_from_slice(data),
                };
                if *index >= self.from {
                    self.entries.push(entry());
                } else if self.retained.wants() {
                    self.retained.push(entry());
                }
            }
        }
        Ok(())
    }

    fn state(&mut self, state: &State) -> Result<(), Damage> {
        match &self.state {
            None => {
                self.base = state.last.index;
                self.end_at(state.last);
            }
            Some(before) if before.metadata == state.metadata && self.last == state.last => {}
            Some(_) => return Err(Damage::Discontinuity),
        }
        self.hard_state = state.hard_state;
        self.state = Some(*state);
        Ok(())
    }

    /// The log ends here now.
    fn end_at(&mut self, last: Position) {
        self.last = last;
        match last.index.next().cmp(&self.from) {
            Ordering::Less => self.before_term = None,
            Ordering::Equal => self.before_term = Some(last.term),
            Ordering::Greater => {}
        }
    }

    /// Drops the entries from `index` on, which the entry `index` replaces.
    fn cut(&mut self, index: Index) {
        if index <= self.base {
            self.base = Index(index.0 - 1);
        }
        self.retained.cut(index);
        if let Some(first) = self.entries.first() {
            let keep = index.0.saturating_sub(first.index.0);
            self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        }
    }

    pub(super) fn finish(self, dir: &Path, torn: Option<Torn>, skipped: usize) -> Result<Replay, WalError> {
        if self.base >= self.from {
            let first = self.base.next();
            return Err(WalError::Gap {
                path: dir.to_owned(),
                wanted: self.from,
                first,
            });
        }
        if let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) {
            let (count, span) = (self.entries.len() as u64, last.index.0 - first.index.0 + 1);
            assert!(
                first.index == self.from && last.index == self.last.index && count == span,
                "replay from {} gave {count} entries {}..={} of a log that ends at {}",
                self.from,
                first.index,
                last.index,
                self.last.index
            );
        }
        let mut hard_state = self.hard_state;
        // A crash may keep the hard state and lose the entries it commits; raft-rs aborts on such a state.
        hard_state.commit = hard_state.commit.min(self.last.index);
        Ok(Replay {
            metadata: self.state.map(|state| state.metadata).unwrap_or_default(),
            hard_state,
            retained: self.retained.up_to(self.from),
            entries: self.entries,
            last: self.last,
            before_term: self.before_term,
            torn,
            segments_skipped: skipped,
        })
    }
}

/// Enough for a segment's header and the state record of its first batch.
const PEEK_BYTES: usize = 1024;
