//! Snapshot files: the whole state at one applied index, as sections whose meaning is the caller's. With the log
//! from the next index on, a snapshot is enough to rebuild a member; a segment of the log goes only when a durable
//! snapshot covers it.
//!
//! A file is written as `<index:016x>.snap.tmp`, synced, renamed to `<index:016x>.snap`, and its folder synced: a
//! name without `.tmp` is whole, unless the disk damaged it since, which is why a reader checks every byte before
//! it hands out the first. A file that comes from another member is written as a `.snap.part` (see `copy.rs`), checked
//! as a whole under that name, and only then renamed.
//!
//! # Format
//! All numbers are little-endian. A header of 64 bytes:
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `TAFRLSNP` |
//! | 8 | 4 | format version, 2; 1 is read too |
//! | 12 | 4 | CRC-32C of bytes 0..12 and 16..64 |
//! | 16 | 8 | index of the last entry the state contains |
//! | 24 | 8 | term of that entry |
//! | 32 | 8 | revision of the state |
//! | 40 | 8 | cluster |
//! | 48 | 16 | zero |
//!
//! Then frames, each: checksum of what follows in it (4), bytes of data (4), kind (1), data. The checksum is a
//! CRC-32C whose initial value is the header's checksum XOR the low 32 bits of the frame's offset. Kinds from 1
//! are sections, in the order written; the last frame has kind 0 and the data: bytes of the whole file (8), number
//! of sections (8), CRC-32C of all sections' checksums in order (4).

mod copy;
mod error;

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

pub use self::copy::{SnapshotCopy, SnapshotIdentity, keep_part};
pub use self::error::SnapshotError;
use crate::env::{Disk, DiskFile, create_dir_durably};
use crate::types::{ClusterId, Index, Term};

/// What a snapshot is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SnapshotMeta {
    /// The last entry the state contains.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The store's revision there.
    pub revision: i64,
    /// The cluster.
    pub cluster: ClusterId,
}

/// Writes one snapshot. Dropped before [`SnapshotWriter::finish`], it leaves nothing.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    meta: SnapshotMeta,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    seed: u32,
    /// Bytes on their way to the file; they begin at `flushed`.
    buffer: Vec<u8>,
    flushed: u64,
    sections: u64,
    checksums: u32,
    finished: bool,
}

impl SnapshotWriter {
    /// Begins the snapshot in a folder (made where missing), in place of an unfinished one of the same index.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path, meta: SnapshotMeta) -> Result<Self, SnapshotError> {
        create_dir_durably(disk.as_ref(), dir).map_err(io_error("create", dir))?;
        let path = unfinished_path(dir, meta.index);
        match disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path)(error));
            }
            _ => {}
        }
        let file = disk.create(&path).map_err(io_error("create", &path))?;
        let (header, seed) = encode_header(&meta);
        Ok(SnapshotWriter {
            disk,
            dir: dir.to_owned(),
            meta,
            path,
            file,
            seed,
            buffer: header,
            flushed: 0,
            sections: 0,
            checksums: 0,
            finished: false,
        })
    }

    /// Appends a section.
    ///
    /// # Panics
    /// Where `kind` is 0, or `data` is larger than [`SECTION_BYTES_MAX`].
    pub fn section(&mut self, kind: u8, data: &[u8]) -> Result<(), SnapshotError> {
        assert!(kind != KIND_END, "kind 0 ends a snapshot");
        let checksum = self.frame(kind, data)?;
        self.sections += 1;
        self.checksums = crc32c::crc32c_append(self.checksums, &checksum.to_le_bytes());
        Ok(())
    }

    /// Makes the snapshot durable under its name. Returns its size in bytes.
    pub fn finish(mut self) -> Result<u64, SnapshotError> {
        let bytes = self.flushed + (self.buffer.len() + FRAME_HEAD + END_BYTES) as u64;
        let mut end = Vec::with_capacity(END_BYTES);
        end.extend_from_slice(&bytes.to_le_bytes());
        end.extend_from_slice(&self.sections.to_le_bytes());
        end.extend_from_slice(&self.checksums.to_le_bytes());
        self.frame(KIND_END, &end)?;
        self.flush()?;
        assert_eq!(self.flushed, bytes, "a snapshot's end names its length");
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        let path = path(&self.dir, self.meta.index);
        self.disk
            .rename(&self.path, &path)
            .map_err(io_error("rename", &self.path))?;
        self.finished = true;
        self.disk
            .sync_dir(&self.dir)
            .map_err(io_error("sync", &self.dir))?;
        Ok(bytes)
    }

    fn frame(&mut self, kind: u8, data: &[u8]) -> Result<u32, SnapshotError> {
        assert!(
            data.len() <= SECTION_BYTES_MAX,
            "a section of {} bytes",
            data.len()
        );
        let at = self.buffer.len();
        let seed = frame_seed(self.seed, self.flushed + at as u64);
        let len = u32::try_from(data.len()).expect("at most SECTION_BYTES_MAX");
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&len.to_le_bytes());
        self.buffer.push(kind);
        self.buffer.extend_from_slice(data);
        let checksum = crc32c::crc32c_append(seed, &self.buffer[at + 4..]);
        self.buffer[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(checksum)
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        self.file
            .write_at(self.flushed, &self.buffer)
            .map_err(io_error("write", &self.path))?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Gives the space back, most likely to a full disk; failing that, the next cleaning does.
            self.disk.remove(&self.path).ok();
        }
    }
}

/// A section as read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// Its kind, from 1.
    pub kind: u8,
    /// Its content.
    pub data: Bytes,
}

/// Reads a snapshot that has been checked as a whole.
pub struct SnapshotReader {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    meta: SnapshotMeta,
    seed: u32,
    bytes: u64,
    offset: u64,
    /// The checksum of all sections' checksums.
    checksums: u32,
}

impl SnapshotReader {
    /// Opens the snapshot of `index`, and checks all of it.
    pub fn open(disk: &dyn Disk, dir: &Path, index: Index) -> Result<Self, SnapshotError> {
        Self::open_at(disk, path(dir, index), index)
    }

    /// Opens the file `path`, which is to be the snapshot of `index`, and checks all of it.
    fn open_at(disk: &dyn Disk, path: PathBuf, index: Index) -> Result<Self, SnapshotError> {
        let file = disk.open(&path).map_err(io_error("open", &path))?;
        let bytes = file.len().map_err(io_error("read", &path))?;
        let mut header = [0; HEADER_BYTES];
        file.read_at(0, &mut header).map_err(io_error("read", &path))?;
        let mut reader = SnapshotReader {
            path,
            file,
            meta: SnapshotMeta::default(),
            seed: 0,
            bytes,
            offset: 0,
            checksums: 0,
        };
        let (meta, seed) = match decode_header(&header) {
            Ok(header) => header,
            Err(HeaderError::Damaged) => return Err(reader.corrupt("its header does not verify")),
            Err(HeaderError::Newer(found)) => {
                return Err(SnapshotError::Newer {
                    path: reader.path,
                    found,
                    known: *VERSIONS.end(),
                });
            }
        };
        if meta.index != index {
            return Err(reader.corrupt("the index is not that of its name"));
        }
        (reader.meta, reader.seed) = (meta, seed);
        reader.check()?;
        reader.rewind();
        Ok(reader)
    }

    /// What it is of.
    #[must_use]
    pub fn meta(&self) -> SnapshotMeta {
        self.meta
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Which file it is. The fingerprint is the header's checksum and that of all sections' checksums.
    #[must_use]
    pub fn identity(&self) -> SnapshotIdentity {
        SnapshotIdentity {
            index: self.meta.index,
            bytes: self.bytes,
            fingerprint: u64::from(self.seed) << 32 | u64::from(self.checksums),
        }
    }

    /// The file as it is, from `offset` on: `bytes_max` bytes, or fewer where it ends. To be sent to another member.
    pub fn bytes_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes, SnapshotError> {
        let rest = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut data = vec![0; rest.min(bytes_max)];
        let got = self
            .file
            .read_at(offset, &mut data)
            .map_err(io_error("read", &self.path))?;
        if got < data.len() {
            return Err(self.corrupt("it is cut short"));
        }
        Ok(data.into())
    }

    /// The next section; `None` after the last.
    pub fn next_section(&mut self) -> Result<Option<Section>, SnapshotError> {
        let frame = self.frame()?;
        if frame.kind == KIND_END {
            return Ok(None);
        }
        self.offset += (FRAME_HEAD + frame.data.len()) as u64;
        Ok(Some(Section {
            kind: frame.kind,
            data: frame.data,
        }))
    }

    /// Goes back to the first section.
    pub fn rewind(&mut self) {
        self.offset = HEADER_BYTES as u64;
    }

    fn check(&mut self) -> Result<(), SnapshotError> {
        self.rewind();
        let (mut sections, mut checksums) = (0u64, 0);
        loop {
            let frame = self.frame()?;
            if frame.kind != KIND_END {
                sections += 1;
                checksums = crc32c::crc32c_append(checksums, &frame.checksum.to_le_bytes());
                self.offset += (FRAME_HEAD + frame.data.len()) as u64;
                continue;
            }
            let mut end = Vec::with_capacity(END_BYTES);
            end.extend_from_slice(&self.bytes.to_le_bytes());
            end.extend_from_slice(&sections.to_le_bytes());
            end.extend_from_slice(&checksums.to_le_bytes());
            let last = self.offset + (FRAME_HEAD + END_BYTES) as u64 == self.bytes;
            self.checksums = checksums;
            return if last && frame.data == end {
                Ok(())
            } else {
                Err(self.corrupt("its end does not fit"))
            };
        }
    }

    /// The frame at the present offset, verified.
    fn frame(&self) -> Result<Frame, SnapshotError> {
        let mut head = [0; FRAME_HEAD];
        let got = self
            .file
            .read_at(self.offset, &mut head)
            .map_err(io_error("read", &self.path))?;
        if got < FRAME_HEAD {
            return Err(self.corrupt("it is cut short"));
        }
        let [c0, c1, c2, c3, l0, l1, l2, l3, kind] = head;
        let checksum = u32::from_le_bytes([c0, c1, c2, c3]);
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if len > SECTION_BYTES_MAX || self.offset + (FRAME_HEAD + len) as u64 > self.bytes {
            return Err(self.corrupt("a length is impossible"));
        }
        let mut data = vec![0; len];
        let got = self
            .file
            .read_at(self.offset + FRAME_HEAD as u64, &mut data)
            .map_err(io_error("read", &self.path))?;
        let seed = frame_seed(self.seed, self.offset);
        if got < len || crc32c::crc32c_append(crc32c::crc32c_append(seed, &head[4..]), &data) != checksum {
            return Err(self.corrupt("a checksum does not fit"));
        }
        Ok(Frame {
            checksum,
            kind,
            data: data.into(),
        })
    }

    fn corrupt(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Corrupt {
            path: self.path.clone(),
            offset: self.offset,
            what,
        }
    }
}

struct Frame {
    checksum: u32,
    kind: u8,
    data: Bytes,
}

/// The outcome of looking for a snapshot to start from.
pub struct Newest {
    /// The newest whole snapshot.
    pub reader: Option<SnapshotReader>,
    /// Newer ones that are damaged; to be reported, loudly.
    pub damaged: Vec<SnapshotError>,
}

/// Finds the newest snapshot that is whole. A folder that does not exist holds none.
pub fn newest_valid(disk: &dyn Disk, dir: &Path) -> Result<Newest, SnapshotError> {
    let mut damaged = Vec::new();
    for index in list(disk, dir)?.into_iter().rev() {
        match SnapshotReader::open(disk, dir, index) {
            Ok(reader) => {
                return Ok(Newest {
                    reader: Some(reader),
                    damaged,
                });
            }
            Err(error @ SnapshotError::Corrupt { .. }) => damaged.push(error),
            // Not damage: what is in it is whole, and newer than anything older than it.
            Err(error @ (SnapshotError::Io { .. } | SnapshotError::Newer { .. })) => return Err(error),
        }
    }
    Ok(Newest {
        reader: None,
        damaged,
    })
}

/// The indexes of the finished snapshots in a folder, ascending; whole or not.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<Index>, SnapshotError> {
    let names = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(io_error("list", dir))?,
    };
    let index = |name: &PathBuf| {
        let stem = name.to_str()?.strip_suffix(FINISHED)?;
        (stem.len() == 16)
            .then(|| u64::from_str_radix(stem, 16).ok().map(Index))
            .flatten()
    };
    Ok(names.iter().filter_map(index).collect())
}

/// Removes the snapshots below `index`, and unfinished ones up to it. Returns how many.
pub fn remove_older_than(disk: &dyn Disk, dir: &Path, index: Index) -> Result<usize, SnapshotError> {
    let names = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        names => names.map_err(io_error("list", dir))?,
    };
    // Names have one length, so their order is that of the indexes.
    let (finished, unfinished) = (path(dir, index), unfinished_path(dir, index));
    let old = names.iter().map(|name| dir.join(name)).filter(|path| {
        let name = path.to_str().unwrap_or_default();
        (name.ends_with(FINISHED) && *path < finished) || (name.ends_with(UNFINISHED) && *path <= unfinished)
    });
    let mut removed = 0;
    for path in old {
        disk.remove(&path).map_err(io_error("remove", &path))?;
        removed += 1;
    }
    if removed > 0 {
        disk.sync_dir(dir).map_err(io_error("sync", dir))?;
    }
    Ok(removed)
}

/// The path of a finished snapshot.
#[must_use]
pub fn path(dir: &Path, index: Index) -> PathBuf {
    dir.join(format!("{:016x}{FINISHED}", index.0))
}

fn unfinished_path(dir: &Path, index: Index) -> PathBuf {
    dir.join(format!("{:016x}{UNFINISHED}", index.0))
}

/// The header, and the checksum in it that seeds the frames'.
fn encode_header(meta: &SnapshotMeta) -> (Vec<u8>, u32) {
    let mut header = vec![0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSIONS.end().to_le_bytes());
    header[16..24].copy_from_slice(&meta.index.0.to_le_bytes());
    header[24..32].copy_from_slice(&meta.term.0.to_le_bytes());
    header[32..40].copy_from_slice(&meta.revision.to_le_bytes());
    header[40..48].copy_from_slice(&meta.cluster.0.to_le_bytes());
    let checksum = header_checksum(&header);
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
    (header, checksum)
}

/// Why a header cannot be read.
enum HeaderError {
    Damaged,
    /// It verifies, and its format version is this one, which is not known here.
    Newer(u32),
}

fn decode_header(header: &[u8; HEADER_BYTES]) -> Result<(SnapshotMeta, u32), HeaderError> {
    let short = |at: usize| header[at..].first_chunk().copied().map_or(0, u32::from_le_bytes);
    let long = |at: usize| header[at..].first_chunk().copied().unwrap_or_default();
    if &header[..8] != MAGIC || short(12) != header_checksum(header) {
        return Err(HeaderError::Damaged);
    }
    if !VERSIONS.contains(&short(8)) {
        return Err(HeaderError::Newer(short(8)));
    }
    let meta = SnapshotMeta {
        index: Index(u64::from_le_bytes(long(16))),
        term: Term(u64::from_le_bytes(long(24))),
        revision: i64::from_le_bytes(long(32)),
        cluster: ClusterId(u64::from_le_bytes(long(40))),
    };
    Ok((meta, short(12)))
}

fn header_checksum(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

fn frame_seed(seed: u32, offset: u64) -> u32 {
    seed ^ offset as u32
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    move |source| SnapshotError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

/// The largest section.
pub const SECTION_BYTES_MAX: usize = 1 << 30;
const MAGIC: &[u8; 8] = b"TAFRLSNP";
/// Those that are read; the last is written. The first had no section of users, without which everybody may do all.
const VERSIONS: RangeInclusive<u32> = 1..=2;
const HEADER_BYTES: usize = 64;
const FRAME_HEAD: usize = 9;
const END_BYTES: usize = 20;
const KIND_END: u8 = 0;
const FINISHED: &str = ".snap";
const UNFINISHED: &str = ".snap.tmp";
/// How much is written at once.
const BUFFER_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fake::{FakeDisk, SeededEntropy};

    const DIR: &str = "/m/snap";

    fn meta(index: u64) -> SnapshotMeta {
        SnapshotMeta {
            index: Index(index),
            term: Term(3),
            revision: 77,
            cluster: ClusterId(9),
        }
    }

    fn write(disk: &FakeDisk, index: u64, sections: &[(u8, Vec<u8>)]) -> Result<u64, SnapshotError> {
        let mut writer = SnapshotWriter::create(Arc::new(disk.clone()), Path::new(DIR), meta(index))?;
        sections
            .iter()
            .try_for_each(|(kind, data)| writer.section(*kind, data))?;
        writer.finish()
    }

    fn read(reader: &mut SnapshotReader) -> Vec<(u8, Vec<u8>)> {
        let next = || {
            reader
                .next_section()
                .unwrap()
                .map(|section| (section.kind, section.data.to_vec()))
        };
        std::iter::from_fn(next).collect()
    }

    fn sections() -> Vec<(u8, Vec<u8>)> {
        vec![
            (1, vec![5; 3000]),
            (2, Vec::new()),
            (1, vec![7; 2 * BUFFER_BYTES]),
            (9, b"end".to_vec()),
        ]
    }

    #[test]
    fn sections_are_read_back_twice() {
        let disk = FakeDisk::new(0);
        let bytes = write(&disk, 12, &sections()).unwrap();
        let mut reader = SnapshotReader::open(&disk, Path::new(DIR), Index(12)).unwrap();
        assert_eq!((reader.meta(), reader.bytes()), (meta(12), bytes));
        assert_eq!(read(&mut reader), sections());
        reader.rewind();
        assert_eq!(read(&mut reader), sections());
        assert_eq!(
            disk.contents(&path(Path::new(DIR), Index(12))).unwrap().len() as u64,
            bytes
        );
    }

    #[test]
    fn every_damaged_byte_is_found_and_an_older_snapshot_taken() {
        let sections = [(1, b"some state".to_vec()), (2, b"and more".to_vec())];
        let disk = FakeDisk::new(0);
        let (dir, damaged) = (Path::new(DIR), path(Path::new(DIR), Index(20)));
        write(&disk, 10, &sections).unwrap();
        let bytes = write(&disk, 20, &sections).unwrap();
        for offset in 0..bytes {
            assert!(disk.damage(&damaged, offset, 0x10));
            let newest = newest_valid(&disk, dir).unwrap();
            assert_eq!(newest.reader.unwrap().meta().index, Index(10), "byte {offset}");
            assert!(matches!(&newest.damaged[..], [SnapshotError::Corrupt { path, .. }] if *path == damaged));
            disk.damage(&damaged, offset, 0x10);
        }
        for len in 0..bytes {
            disk.open(&damaged).unwrap().set_len(len).unwrap();
            assert_eq!(
                newest_valid(&disk, dir).unwrap().reader.unwrap().meta().index,
                Index(10),
                "len {len}"
            );
            disk.remove(&damaged).unwrap();
            write(&disk, 20, &sections).unwrap();
        }
        assert_eq!(
            newest_valid(&disk, dir).unwrap().reader.unwrap().meta().index,
            Index(20)
        );
    }

    #[test]
    fn a_crash_at_any_step_leaves_a_whole_snapshot_or_none() {
        let seeds = SeededEntropy::new(4);
        let (mut kept, mut lost) = (0, 0);
        for step in 1.. {
            let disk = FakeDisk::new(0);
            write(&disk, 10, &sections()).unwrap();
            disk.crash_at(step);
            let acknowledged = write(&disk, 20, &sections()).is_ok();
            disk.crash(seeds.below(u64::MAX));
            let newest = newest_valid(&disk, Path::new(DIR)).unwrap();
            assert!(newest.damaged.is_empty(), "step {step}: {:?}", newest.damaged);
            let mut reader = newest.reader.expect("the first one was durable");
            assert_eq!(read(&mut reader), sections());
            let found = reader.meta().index == Index(20);
            assert!(found || !acknowledged, "step {step}");
            (kept, lost) = (kept + usize::from(found), lost + usize::from(!found));
            write(&disk, 30, &sections()).unwrap();
            remove_older_than(&disk, Path::new(DIR), Index(30)).unwrap();
            assert_eq!(
                disk.list(Path::new(DIR)).unwrap(),
                [PathBuf::from("000000000000001e.snap")]
            );
            if acknowledged {
                break;
            }
        }
        assert!(kept > 0 && lost > 3, "kept {kept}, lost {lost}");
    }

    #[test]
    fn a_full_disk_gets_its_space_back() {
        let disk = FakeDisk::new(0);
        write(&disk, 10, &sections()).unwrap();
        let used = disk.used_bytes();
        disk.set_capacity(Some(used + 100_000));
        assert!(matches!(
            write(&disk, 20, &sections()),
            Err(SnapshotError::Io {
                operation: "write",
                ..
            })
        ));
        assert_eq!(disk.used_bytes(), used);
    }

    #[test]
    fn a_missing_folder_holds_no_snapshot() {
        let disk = FakeDisk::new(0);
        let newest = newest_valid(&disk, Path::new("/none")).unwrap();
        assert!(newest.reader.is_none() && newest.damaged.is_empty());
        assert_eq!(remove_older_than(&disk, Path::new("/none"), Index(9)).unwrap(), 0);
    }
}
