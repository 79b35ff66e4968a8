//! Which segments of a log are read: those with the entries asked for, and perhaps the one before them, for members that
//! lag.

use std::path::Path;

use super::record::{LogOffset, SegmentId, State};
use super::replay::{Log, Reader, Replay};
use super::{Config, Damage, WalError, segment};
use crate::env::Disk;
use crate::types::Index;

/// A replay with what the writer needs to go on.
pub(super) struct Scan {
    pub(super) replay: Replay,
    /// The newest generation seen.
    pub(super) generation: u64,
    /// Where the next batch goes.
    pub(super) tail: LogOffset,
    pub(super) tail_id: SegmentId,
    /// All segments with their length and what stood before them, where known.
    pub(super) segments: Vec<Found>,
}

/// A segment of the folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) sequence: u64,
    pub(super) bytes: u64,
    /// The state record of its first batch; `None` where none verifies.
    pub(super) state: Option<State>,
}

impl Found {
    /// The log's last index before the segment.
    pub(super) fn before(&self) -> Option<Index> {
        self.state.map(|state| state.last.index)
    }
}

pub(super) fn scan(disk: &dyn Disk, dir: &Path, from: Index, config: &Config) -> Result<Scan, WalError> {
    let sequences = segment::list(disk, dir)?.segments;
    let reader = Reader::new(disk, dir, config)?;
    let segments = sequences
        .iter()
        .map(|s| reader.peek(*s))
        .collect::<Result<Vec<_>, _>>()?;
    let Some(newest) = segments.len().checked_sub(1) else {
        return Err(WalError::Missing { path: dir.to_owned() });
    };
    // The last segment before which the log ended below `from`: all live entries from there on lie in it or later.
    // Where there is none, the first one that can be read at all; the log may have been overwritten from below.
    let wanted = |found: &Found| found.before().is_some_and(|before| before < from);
    let start = segments
        .iter()
        .rposition(wanted)
        .or_else(|| segments.iter().position(|f| f.state.is_some()));
    let start = start.unwrap_or(newest);
    if wants_earlier(&segments, start, from, config) {
        match scan_from(&reader, &segments, start - 1, from, config) {
            Ok(scan) => return Ok(scan),
            // Nothing in there is needed.
            Err(error) => {
                tracing::warn!(%error, "an older part of the log cannot be read; members that lag do without")
            }
        }
    }
    scan_from(&reader, &segments, start, from, config)
}

/// Whether the segment before `start` has entries that are to be retained, and is there.
fn wants_earlier(segments: &[Found], start: usize, from: Index, config: &Config) -> bool {
    let first = Index(from.0.saturating_sub(config.retain.entries_max as u64).max(1));
    let Some(earlier) = start.checked_sub(1).and_then(|earlier| segments.get(earlier)) else {
        return false;
    };
    let Some(found) = segments.get(start) else {
        return false;
    };
    let follows = earlier.state.is_some() && earlier.sequence + 1 == found.sequence;
    follows
        && found
            .before()
            .is_some_and(|before| before >= first && before < from)
}

fn scan_from(
    reader: &Reader<'_>,
    segments: &[Found],
    mut start: usize,
    from: Index,
    config: &Config,
) -> Result<Scan, WalError> {
    loop {
        let mut log = Log::new(from, config.retain);
        let (tail, tail_id, torn) = reader.follow(&segments[start..], &mut log)?;
        if log.state.is_some() {
            let (generation, replay) = (log.generation, log.finish(reader.dir, torn, start)?);
            return Ok(Scan {
                replay,
                generation,
                tail,
                tail_id,
                segments: segments.to_vec(),
            });
        }
        // The first batch of the newest segment may be torn behind its first kilobyte: then the log ends in the
        // segment before it.
        let damage = Damage::BatchHead;
        start = start
            .checked_sub(1)
            .ok_or_else(|| reader.corrupt(tail.sequence, tail.offset, damage))?;
    }
}
