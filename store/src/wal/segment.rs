//! Segment files: their names and headers, and how one comes into being so that a crash at any point leaves either
//! nothing, or a spare, or a whole segment.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::io_error;
use super::record::SegmentId;
use super::{Damage, WalError};
use crate::env::{Disk, DiskFile};

/// What lies in a log's folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Sequences of the segments, ascending.
    pub(super) segments: Vec<u64>,
    /// Files waiting for reuse.
    pub(super) spares: Vec<PathBuf>,
    /// Files whose making a crash interrupted.
    pub(super) unfinished: Vec<PathBuf>,
    /// Above every number that a segment or spare is named by.
    pub(super) next_number: u64,
}

pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Listing, WalError> {
    let mut listing = Listing {
        next_number: 1,
        ..Listing::default()
    };
    for name in disk.list(dir).map_err(io_error("list", dir))? {
        let extension = name.extension().and_then(|extension| extension.to_str());
        let stem = name
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let sequence = (stem.len() == 16)
            .then(|| u64::from_str_radix(stem, 16).ok())
            .flatten();
        match (extension, sequence) {
            (Some(SEGMENT), Some(sequence)) => listing.segments.push(sequence),
            (Some(SPARE), Some(_)) => listing.spares.push(dir.join(&name)),
            (Some(UNFINISHED), Some(_)) => listing.unfinished.push(dir.join(&name)),
            _ => continue,
        }
        let after = sequence.unwrap_or(0).saturating_add(1);
        listing.next_number = listing.next_number.max(after);
    }
    listing.segments.sort_unstable();
    Ok(listing)
}

/// The path of a segment.
pub(super) fn path(dir: &Path, sequence: u64) -> PathBuf {
    named(dir, sequence, SEGMENT)
}

/// The path of a spare.
pub(super) fn spare_path(dir: &Path, number: u64) -> PathBuf {
    named(dir, number, SPARE)
}

fn named(dir: &Path, number: u64, extension: &str) -> PathBuf {
    dir.join(format!("{number:016x}.{extension}"))
}

pub(super) fn encode_header(id: SegmentId) -> Vec<u8> {
    let mut header = vec![0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSIONS.end().to_le_bytes());
    header[16..24].copy_from_slice(&id.sequence.to_le_bytes());
    header[24..32].copy_from_slice(&id.salt.to_le_bytes());
    let checksum = header_checksum(&header);
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Reads a header, which must be that of segment `sequence`.
pub(super) fn decode_header(bytes: &[u8], sequence: u64) -> Result<SegmentId, Damage> {
    let header = bytes.get(..HEADER_BYTES).ok_or(Damage::Header)?;
    let short = |at: usize| header[at..].first_chunk().copied().map_or(0, u32::from_le_bytes);
    let long = |at: usize| header[at..].first_chunk().copied().map_or(0, u64::from_le_bytes);
    if &header[..8] != MAGIC || short(12) != header_checksum(header) || long(16) != sequence {
        return Err(Damage::Header);
    }
    if !VERSIONS.contains(&short(8)) {
        return Err(Damage::Version(short(8)));
    }
    Ok(SegmentId {
        sequence,
        salt: long(24),
    })
}

/// What is wrong with a segment whose header shows `damage`.
pub(super) fn header_error(path: &Path, damage: Damage) -> WalError {
    match damage {
        Damage::Version(found) => WalError::Newer {
            path: path.to_owned(),
            found,
            known: *VERSIONS.end(),
        },
        damage => WalError::Corrupt {
            path: path.to_owned(),
            offset: 0,
            damage,
        },
    }
}

fn header_checksum(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

/// The making of a zeroed spare: all that is slow about a new segment, so that it can run on another thread than
/// the log's. Hand the result to [`Wal::add_spare`](super::Wal::add_spare).
pub struct SpareJob {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) number: u64,
    pub(super) bytes: u64,
}

impl SpareJob {
    /// Makes the file, durable with its name. A failure leaves nothing behind and harms no log.
    pub fn run(self) -> Result<PathBuf, WalError> {
        // Rather than fill the disk to see that it is too small: others need what is left.
        let available = self.disk.available_bytes(&self.dir);
        if available.map_err(io_error("measure", &self.dir))? < self.bytes {
            return Err(io_error("make a segment in", &self.dir)(
                std::io::ErrorKind::StorageFull.into(),
            ));
        }
        let unfinished = named(&self.dir, self.number, UNFINISHED);
        let made = self.fill(&unfinished);
        if made.is_err() {
            // Most likely the disk is full: give the space back. If that fails too, opening the log removes it.
            self.disk.remove(&unfinished).ok();
        }
        made?;
        let path = spare_path(&self.dir, self.number);
        self.disk
            .rename(&unfinished, &path)
            .map_err(io_error("rename", &unfinished))?;
        self.disk
            .sync_dir(&self.dir)
            .map_err(io_error("sync", &self.dir))?;
        Ok(path)
    }

    fn fill(&self, path: &Path) -> Result<(), WalError> {
        let mut file = self.disk.create(path).map_err(io_error("create", path))?;
        let zeros = vec![0; usize::try_from(self.bytes).unwrap_or(usize::MAX).min(ZEROS_BYTES)];
        let mut offset = 0;
        while offset < self.bytes {
            let len = usize::try_from(self.bytes - offset)
                .unwrap_or(usize::MAX)
                .min(zeros.len());
            file.write_at(offset, &zeros[..len])
                .map_err(io_error("write", path))?;
            offset += len as u64;
        }
        file.sync_data().map_err(io_error("sync", path))
    }
}

/// Turns a spare into the segment `id`, durable under its name; `first` is what follows the header.
pub(super) fn activate(
    disk: &dyn Disk,
    dir: &Path,
    spare: &Path,
    id: SegmentId,
    first: &[u8],
) -> Result<Box<dyn DiskFile>, WalError> {
    let mut file = disk.open(spare).map_err(io_error("open", spare))?;
    let mut bytes = encode_header(id);
    bytes.extend_from_slice(first);
    file.write_at(0, &bytes).map_err(io_error("write", spare))?;
    file.sync_data().map_err(io_error("sync", spare))?;
    disk.rename(spare, &path(dir, id.sequence))
        .map_err(io_error("rename", spare))?;
    disk.sync_dir(dir).map_err(io_error("sync", dir))?;
    Ok(file)
}

/// Where the first batch stands: the header has a sector to itself, so that no batch's write touches it.
pub(super) const HEADER_BYTES: usize = 512;
const MAGIC: &[u8; 8] = b"TAFRLWAL";
/// Those that are read; the last is written. The first had no entries about users, which a member from before them
/// would skip.
const VERSIONS: RangeInclusive<u32> = 1..=2;
const SEGMENT: &str = "wal";
const SPARE: &str = "spare";
const UNFINISHED: &str = "tmp";
/// How much of a new file is zeroed by one write.
const ZEROS_BYTES: usize = 1 << 20;
