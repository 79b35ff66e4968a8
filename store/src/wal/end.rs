//! The mark of the log's end: a file apart from the log that says how far the log was durable at some moment.
//!
//! A log whose last batch is damaged looks like one whose last write a crash has torn, and a log without its newest
//! file like one that ended before it: nothing after the damage is left to prove that there was more. The mark is
//! that proof. It is written behind the acknowledgements, never before them: a little after the log came to rest,
//! now and then under load, and at an orderly stop. So it is a lower bound: a log that ends before it has lost what
//! was confirmed. What a crash leaves unproven is the batches of the moments since the last mark: there, damage to
//! the very last batch still looks like a torn write.
//!
//! # File
//! Two slots of 512 bytes, written in turn and in place, so that a mark costs one sync of a block that is there
//! already, and a torn write or a flipped bit loses no more than the newer one. All numbers are little-endian:
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `TAFRLEND` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | CRC-32C of bytes 0..12 and 16..64 |
//! | 16 | 8 | count of marks written: the slot with the larger one counts |
//! | 24 | 8 | cluster |
//! | 32 | 8 | member |
//! | 40 | 8 | sequence of the segment ... |
//! | 48 | 8 | ... and the offset in it up to which the log was durable |
//! | 56 | 8 | 1: the log was closed there, and there is nothing behind it; else 0 |
//! | 64 | 448 | zero |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::io_error;
use super::record::LogOffset;
use super::{Metadata, WalError};
use crate::env::{Disk, DiskFile};
use crate::types::{ClusterId, MemberId};

/// What a mark says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) metadata: Metadata,
    /// Everything below was durable.
    pub(super) at: LogOffset,
    /// There is nothing at or behind `at`.
    pub(super) closed: bool,
    count: u64,
}

/// What the file of a mark holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Found {
    /// The newest mark that is whole.
    pub(super) mark: Option<Mark>,
    /// A slot that was written is not whole.
    pub(super) damaged: bool,
}

/// Reads the marks in `path`; nothing where there is no such file.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Found, WalError> {
    let file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        opened => opened.map_err(io_error("open", path))?,
    };
    let mut bytes = [0; 2 * SLOT_BYTES];
    let len = file.read_at(0, &mut bytes).map_err(io_error("read", path))?;
    let mut found = Found {
        mark: None,
        damaged: len < bytes.len(),
    };
    for slot in bytes.chunks_exact(SLOT_BYTES) {
        match decode(slot) {
            Slot::Mark(mark) => found.mark = found.mark.max_by_count(mark),
            // The second slot, before it is written for the first time.
            Slot::Empty => {}
            Slot::Damaged => found.damaged = true,
            Slot::Newer(version) => {
                return Err(WalError::Newer {
                    path: path.to_owned(),
                    found: version,
                    known: VERSION,
                });
            }
        }
    }
    Ok(found)
}

/// Whether a mark tells of a log that a folder once held.
pub fn was_begun(disk: &dyn Disk, path: &Path) -> Result<bool, WalError> {
    let found = read(disk, path)?;
    Ok(found.mark.is_some() || found.damaged)
}

/// The writing end of a mark.
pub(super) struct EndMark {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    last: Option<Mark>,
}

impl EndMark {
    /// Opens the file, or makes it.
    pub(super) fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<EndMark, WalError> {
        let Found { mark: last, damaged } = read(disk.as_ref(), path)?;
        let mut file = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(disk.as_ref(), path)?,
            opened => opened.map_err(io_error("open", path))?,
        };
        if damaged {
            // What is whole stays as it is, and the rest goes.
            let mut slots = vec![0; 2 * SLOT_BYTES];
            if let Some(mark) = &last {
                let slot = usize::try_from(mark.count % 2).unwrap_or(0) * SLOT_BYTES;
                slots[slot..slot + SLOT_BYTES].copy_from_slice(&encode(mark));
            }
            file.write_at(0, &slots).map_err(io_error("write", path))?;
        }
        Ok(EndMark {
            path: path.to_owned(),
            file,
            last,
        })
    }

    /// The last mark written.
    pub(super) fn last(&self) -> Option<Mark> {
        self.last
    }

    /// Makes a mark durable.
    pub(super) fn write(&mut self, metadata: Metadata, at: LogOffset, closed: bool) -> Result<(), WalError> {
        let mark = Mark {
            metadata,
            at,
            closed,
            count: self.last.map_or(0, |last| last.count) + 1,
        };
        let slot = mark.count % 2 * SLOT_BYTES as u64;
        self.file
            .write_at(slot, &encode(&mark))
            .map_err(io_error("write", &self.path))?;
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        self.last = Some(mark);
        Ok(())
    }
}

trait MaxByCount {
    fn max_by_count(self, other: Mark) -> Self;
}

impl MaxByCount for Option<Mark> {
    fn max_by_count(self, other: Mark) -> Self {
        self.filter(|mark| mark.count >= other.count).or(Some(other))
    }
}

fn create(disk: &dyn Disk, path: &Path) -> Result<Box<dyn DiskFile>, WalError> {
    let mut file = disk.create(path).map_err(io_error("create", path))?;
    file.write_at(0, &[0; 2 * SLOT_BYTES])
        .map_err(io_error("write", path))?;
    file.sync_data().map_err(io_error("sync", path))?;
    if let Some(dir) = path.parent() {
        disk.sync_dir(dir).map_err(io_error("sync", dir))?;
    }
    Ok(file)
}

fn encode(mark: &Mark) -> Vec<u8> {
    let mut slot = vec![0; SLOT_BYTES];
    slot[..8].copy_from_slice(MAGIC);
    slot[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let numbers = [
        mark.count,
        mark.metadata.cluster.0,
        mark.metadata.member.0,
        mark.at.sequence,
        mark.at.offset,
        u64::from(mark.closed),
    ];
    for (place, number) in slot[16..].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let checksum = checksum(&slot);
    slot[12..16].copy_from_slice(&checksum.to_le_bytes());
    slot
}

enum Slot {
    Mark(Mark),
    Empty,
    Damaged,
    Newer(u32),
}

fn decode(slot: &[u8]) -> Slot {
    if slot.iter().all(|byte| *byte == 0) {
        return Slot::Empty;
    }
    let short = |at: usize| slot[at..].first_chunk().copied().map_or(0, u32::from_le_bytes);
    let long = |at: usize| slot[at..].first_chunk().copied().map_or(0, u64::from_le_bytes);
    if &slot[..8] != MAGIC || short(12) != checksum(slot) {
        return Slot::Damaged;
    }
    if short(8) != VERSION {
        return Slot::Newer(short(8));
    }
    Slot::Mark(Mark {
        count: long(16),
        metadata: Metadata {
            cluster: ClusterId(long(24)),
            member: MemberId(long(32)),
        },
        at: LogOffset {
            sequence: long(40),
            offset: long(48),
        },
        closed: long(56) == 1,
    })
}

fn checksum(slot: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&slot[..12]), &slot[16..USED_BYTES])
}

const MAGIC: &[u8; 8] = b"TAFRLEND";
const VERSION: u32 = 1;
/// A sector, which is written wholly or not at all.
const SLOT_BYTES: usize = 512;
const USED_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fake::FakeDisk;

    const METADATA: Metadata = Metadata {
        cluster: ClusterId(3),
        member: MemberId(4),
    };

    fn at(offset: u64) -> LogOffset {
        LogOffset { sequence: 7, offset }
    }

    fn mark_of(disk: &Arc<dyn Disk>) -> Option<(LogOffset, bool)> {
        let found = read(disk.as_ref(), Path::new("/m/log.end")).unwrap();
        found.mark.map(|mark| (mark.at, mark.closed))
    }

    #[test]
    fn either_slot_may_be_lost_and_a_newer_format_is_refused() {
        let disk: Arc<dyn Disk> = Arc::new(FakeDisk::new(1));
        disk.create_dir(Path::new("/m")).unwrap();
        let path = Path::new("/m/log.end");
        assert_eq!(read(disk.as_ref(), path).unwrap(), Found::default());
        let mut end = EndMark::open(&disk, path).unwrap();
        assert!(
            !was_begun(disk.as_ref(), path).unwrap(),
            "an empty file says nothing"
        );
        end.write(METADATA, at(512), false).unwrap();
        end.write(METADATA, at(600), true).unwrap();
        assert_eq!(mark_of(&disk), Some((at(600), true)));
        // What is reopened goes on in the other slot.
        drop(end);
        let mut end = EndMark::open(&disk, path).unwrap();
        end.write(METADATA, at(700), false).unwrap();
        assert_eq!(mark_of(&disk), Some((at(700), false)));
        let mut file = disk.open(path).unwrap();
        let mut whole = [0; 2 * SLOT_BYTES];
        file.read_at(0, &mut whole).unwrap();
        for place in 0..USED_BYTES {
            for slot in 0..2 {
                let mut bent = whole;
                bent[slot * SLOT_BYTES + place] ^= 4;
                file.write_at(0, &bent).unwrap();
                let found = read(disk.as_ref(), path).unwrap();
                let kept = if slot == 1 { at(600) } else { at(700) };
                assert!(found.damaged);
                assert_eq!(found.mark.map(|mark| mark.at), Some(kept), "{slot} {place}");
            }
        }
        let mut newer = whole;
        newer[SLOT_BYTES + 8] = 2;
        let sum = checksum(&newer[SLOT_BYTES..]);
        newer[SLOT_BYTES + 12..SLOT_BYTES + 16].copy_from_slice(&sum.to_le_bytes());
        file.write_at(0, &newer).unwrap();
        let refused = read(disk.as_ref(), path).unwrap_err();
        assert!(matches!(refused, WalError::Newer { found: 2, .. }), "{refused}");
    }
}
