//! Looking at every byte of a log, segment by segment, for whoever wants to know whether it is whole. Changes nothing.

use std::path::{Path, PathBuf};

use super::record::{LogOffset, Record};
use super::replay::{Log, Reader, Stop};
use super::scan::Found;
use super::segment::{self, HEADER_BYTES};
use super::window::Window;
use super::{Config, Metadata, Position, WalError, end};
use crate::env::Disk;
use crate::types::Index;

/// What a log's folder holds.
#[derive(Debug)]
pub struct LogCheck {
    /// Each segment in order, and those that are missing between them.
    pub segments: Vec<SegmentCheck>,
    /// Files that wait for their use, or that were not finished; what is in them does not matter.
    pub others: Vec<PathBuf>,
    /// What the segments hold together; `None` where the newest of them do not say.
    pub range: Option<LogRange>,
}

/// One segment.
#[derive(Debug)]
pub struct SegmentCheck {
    /// The file.
    pub path: PathBuf,
    /// What it holds, or what is wrong with it.
    pub outcome: Result<SegmentContent, WalError>,
}

/// What a segment holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SegmentContent {
    /// Bytes up to the end of its last batch.
    pub bytes: u64,
    /// Entries in it.
    pub entries: u64,
    /// The indexes of the first and last of them.
    pub indexes: Option<(Index, Index)>,
    /// Where a batch begins that a crash has cut short.
    pub torn: Option<u64>,
}

/// The log as its segments make it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogRange {
    /// Whose it is.
    pub metadata: Metadata,
    /// The index before the first entry.
    pub before: Index,
    /// The end.
    pub last: Position,
}

impl LogCheck {
    /// What is wrong with segments behind which the log goes on. Beside a running member only these are at rest.
    pub fn at_rest(&self) -> impl Iterator<Item = &WalError> {
        let begun = |segment: &SegmentCheck| matches!(&segment.outcome, Ok(content) if content.bytes > HEADER_BYTES as u64);
        let newest = self.segments.iter().rposition(begun).unwrap_or(0);
        let before = self.segments.iter().take(newest);
        before.filter_map(|segment| segment.outcome.as_ref().err())
    }
}

/// Checks every segment of the log in `dir`. After each of them `read` is told how many bytes it has.
///
/// # Errors
/// Those of listing the folder, and of a mark in a format of the future.
pub fn check(
    disk: &dyn Disk,
    dir: &Path,
    config: &Config,
    read: &mut dyn FnMut(u64),
) -> Result<LogCheck, WalError> {
    let listing = segment::list(disk, dir)?;
    let reader = Reader::new(disk, dir, config)?;
    let found: Vec<Found> = listing
        .segments
        .iter()
        .map(|sequence| reader.peek(*sequence))
        .collect::<Result<_, _>>()?;
    let mut segments: Vec<SegmentCheck> = Vec::with_capacity(found.len());
    let mut range: Option<LogRange> = None;
    let mut closed = false;
    for (number, here) in found.iter().enumerate() {
        let before = number.checked_sub(1).and_then(|number| found.get(number));
        if let Some(missing) = before.map(|found| found.sequence + 1)
            && missing < here.sequence
        {
            let path = segment::path(dir, missing);
            segments.push(SegmentCheck {
                outcome: Err(WalError::MissingSegment { path: path.clone() }),
                path,
            });
            range = None;
        }
        read(here.bytes);
        let path = segment::path(dir, here.sequence);
        if closed {
            // The log was closed before it: whatever is in it was never part of the log.
            let outcome = Ok(SegmentContent::default());
            segments.push(SegmentCheck { path, outcome });
            continue;
        }
        let outcome = one(&reader, &found[number..]);
        let outcome = outcome.map(|seen| {
            closed = reader.closed_at(seen.end);
            range = seen.range(range);
            seen.content
        });
        segments.push(SegmentCheck { path, outcome });
    }
    // Not one batch is left that says whose log it is: whatever the files hold, it is no log that a member starts from.
    if let (None, Some(last), Some(found)) = (range, segments.last_mut(), found.last())
        && last.outcome.is_ok()
    {
        last.outcome = Err(reader.corrupt(found.sequence, HEADER_BYTES as u64, super::Damage::BatchHead));
    }
    let mut others = listing.spares;
    others.extend(listing.unfinished);
    Ok(LogCheck {
        segments,
        others,
        range,
    })
}

/// What the mark of the log's end says of itself: `Some(true)` where it is whole, `None` where there is none.
///
/// # Errors
/// Those of reading it.
pub fn check_mark(disk: &dyn Disk, path: &Path) -> Result<Option<bool>, WalError> {
    let found = end::read(disk, path)?;
    Ok(match (found.mark, found.damaged) {
        (None, false) => None,
        (_, damaged) => Some(!damaged),
    })
}

/// What was seen of a segment.
struct Seen {
    content: SegmentContent,
    end: LogOffset,
    /// Whose log it is and the position before it, from its first batch.
    begins: Option<(Metadata, Position)>,
    last: Position,
    /// The log was emptied here, up to this index.
    restarted: Option<Index>,
}

impl Seen {
    /// The range of the log up to and with this segment.
    fn range(&self, before: Option<LogRange>) -> Option<LogRange> {
        let Some((metadata, at)) = self.begins else {
            return before;
        };
        let first = before.map_or(at.index, |range| range.before);
        Some(LogRange {
            metadata,
            before: self.restarted.unwrap_or(first),
            last: self.last,
        })
    }
}

/// Reads the first of these segments, and makes sure that it goes on in the next, or ends where the log does.
fn one(reader: &Reader<'_>, segments: &[Found]) -> Result<Seen, WalError> {
    let sequence = segments[0].sequence;
    let mut window = reader.window(sequence)?;
    let mut content = SegmentContent::default();
    let (mut begins, mut last, mut restarted) = (None, Position::default(), None);
    let mut observe = |record: &Record<'_>| {
        match *record {
            Record::State(state) => {
                begins.get_or_insert((state.metadata, state.last));
                last = state.last;
            }
            Record::Entry { index, term, .. } => {
                content.entries += 1;
                let first = content.indexes.map_or(index, |(first, _)| first.min(index));
                content.indexes = Some((first, index));
                last = Position { index, term };
            }
            Record::Restart(at) => {
                restarted = Some(at.index);
                last = at;
            }
            Record::HardState(_) => {}
        }
        true
    };
    let mut log = Log::observed(&mut observe);
    let stop = reader.segment(&mut window, &mut log)?;
    let end = LogOffset {
        sequence,
        offset: stop.at as u64,
    };
    if !goes_on(reader, segments.get(1), end, &stop)? {
        reader.check_mark(segments, end, &stop, &log)?;
        if !reader.closed_at(end) {
            reader.prove_end(segments, &mut window, end, &stop, log.generation)?;
        }
        content.torn = stop.defect.map(|_| end.offset);
    }
    content.bytes = end.offset;
    Ok(Seen {
        content,
        end,
        begins,
        last,
        restarted,
    })
}

/// Whether the next segment goes on where this one ends; an error where it says that this one was longer.
fn goes_on(reader: &Reader<'_>, next: Option<&Found>, end: LogOffset, stop: &Stop) -> Result<bool, WalError> {
    let Some(next) = next.filter(|next| next.sequence == end.sequence + 1) else {
        return Ok(false);
    };
    let Ok(mut window) = reader.window(next.sequence) else {
        // It is told of by itself.
        return Ok(false);
    };
    match first_synced(&mut window)? {
        Some(synced) if synced == end => Ok(true),
        Some(_) => {
            let damage = stop
                .defect
                .map_or(super::Damage::BatchHead, |defect| defect.damage);
            Err(reader.corrupt(end.sequence, end.offset, damage))
        }
        None => Ok(false),
    }
}

/// How far the log was durable when the first batch of a segment was written; `None` where there is no whole one.
fn first_synced(window: &mut Window) -> Result<Option<LogOffset>, WalError> {
    let Some(head) = window.head(HEADER_BYTES)? else {
        return Ok(None);
    };
    let whole = window
        .batch(HEADER_BYTES, &head)?
        .records(HEADER_BYTES, &head)
        .is_ok();
    Ok(whole.then_some(head.synced))
}
