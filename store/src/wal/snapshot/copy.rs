//! Snapshot files that come from other members, piece by piece.
//!
//! A copy is written as `<index:016x>-<bytes:016x>-<fingerprint:016x>.snap.part`: the name says which file it is to
//! become, down to its bytes, so whoever is left with a part after a crash knows what to ask for. How much of it is
//! there the frames themselves tell, each of which has its checksum: no sync is needed, and what a crash took or a disk
//! damaged is asked for again from the frame where it begins. There is at most one part in a folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    END_BYTES, FRAME_HEAD, HEADER_BYTES, KIND_END, SnapshotError, SnapshotMeta, SnapshotReader,
    decode_header, io_error, path,
};
use crate::env::{Disk, DiskFile, create_dir_durably};
use crate::types::Index;

/// Which snapshot file, down to its bytes: two members' files of one index may differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotIdentity {
    /// The last entry that the state contains.
    pub index: Index,
    /// Bytes of the whole file.
    pub bytes: u64,
    /// See [`SnapshotReader::identity`].
    pub fingerprint: u64,
}

impl SnapshotIdentity {
    fn part(&self, dir: &Path) -> PathBuf {
        dir.join(format!(
            "{:016x}-{:016x}-{:016x}{PART}",
            self.index.0, self.bytes, self.fingerprint
        ))
    }

    fn of_part(name: &Path) -> Option<SnapshotIdentity> {
        let mut numbers = name.to_str()?.strip_suffix(PART)?.split('-');
        let mut next = || u64::from_str_radix(numbers.next()?, 16).ok();
        let identity = SnapshotIdentity {
            index: Index(next()?),
            bytes: next()?,
            fingerprint: next()?,
        };
        numbers.next().is_none().then_some(identity)
    }
}

/// A snapshot file that comes from another member, piece by piece. Dropped before [`SnapshotCopy::finish`], it leaves
/// a part from which it can go on.
pub struct SnapshotCopy {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: SnapshotIdentity,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    bytes: u64,
}

impl SnapshotCopy {
    /// Begins a copy (in a folder made where missing), or goes on with the part that is there of the same file. Parts
    /// of others are removed.
    pub fn begin(disk: Arc<dyn Disk>, dir: &Path, identity: SnapshotIdentity) -> Result<Self, SnapshotError> {
        create_dir_durably(disk.as_ref(), dir).map_err(io_error("create", dir))?;
        let found = keep_part(disk.as_ref(), dir, |part| part == identity)?;
        let path = identity.part(dir);
        let (file, bytes) = if found.is_some() {
            let whole = whole_bytes(disk.as_ref(), &path, &identity)?;
            let mut file = disk.open(&path).map_err(io_error("open", &path))?;
            file.set_len(whole).map_err(io_error("shorten", &path))?;
            (file, whole)
        } else {
            (disk.create(&path).map_err(io_error("create", &path))?, 0)
        };
        Ok(SnapshotCopy {
            disk,
            dir: dir.to_owned(),
            identity,
            path,
            file,
            bytes,
        })
    }

    /// Bytes written so far, by whomever.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a piece.
    pub fn append(&mut self, data: &[u8]) -> Result<(), SnapshotError> {
        self.file
            .write_at(self.bytes, data)
            .map_err(io_error("write", &self.path))?;
        self.bytes += data.len() as u64;
        Ok(())
    }

    /// Removes it: what is there is of no use.
    pub fn discard(self) {
        // Gives the space back; failing that, the next copy or start does.
        self.disk.remove(&self.path).ok();
    }

    /// Syncs the file, checks every byte of it and that it is what was announced, and makes it durable under the
    /// name of a finished snapshot. Only the announced revision is not compared, since none is. A file that is not
    /// what it should be is removed, and so is one that cannot be kept.
    pub fn finish(mut self, announced: SnapshotMeta) -> Result<SnapshotReader, SnapshotError> {
        let finished = self.try_finish(announced);
        if finished.is_err() {
            self.discard();
        }
        finished
    }

    fn try_finish(&mut self, announced: SnapshotMeta) -> Result<SnapshotReader, SnapshotError> {
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        let mut reader = SnapshotReader::open_at(self.disk.as_ref(), self.path.clone(), announced.index)?;
        let found = reader.meta();
        if found.cluster != announced.cluster {
            return Err(reader.corrupt("it is of another cluster"));
        }
        if found.term != announced.term {
            return Err(reader.corrupt("its term is not the one announced"));
        }
        if reader.identity() != self.identity {
            return Err(reader.corrupt("it is not the file that was announced"));
        }
        let path = path(&self.dir, announced.index);
        self.disk
            .rename(&self.path, &path)
            .map_err(io_error("rename", &self.path))?;
        self.disk
            .sync_dir(&self.dir)
            .map_err(io_error("sync", &self.dir))?;
        reader.path = path;
        Ok(reader)
    }
}

/// How much of a part is there as it was sent: the frames from the first on that verify.
fn whole_bytes(disk: &dyn Disk, path: &Path, identity: &SnapshotIdentity) -> Result<u64, SnapshotError> {
    let file = disk.open(path).map_err(io_error("open", path))?;
    let bytes = file.len().map_err(io_error("read", path))?;
    let mut header = [0; HEADER_BYTES];
    file.read_at(0, &mut header).map_err(io_error("read", path))?;
    let Ok((meta, seed)) = decode_header(&header) else {
        return Ok(0);
    };
    let fits = (HEADER_BYTES as u64..=identity.bytes).contains(&bytes);
    if !fits || meta.index != identity.index || u64::from(seed) != identity.fingerprint >> 32 {
        return Ok(0);
    }
    let mut reader = SnapshotReader {
        path: path.to_owned(),
        file,
        meta,
        seed,
        bytes,
        offset: HEADER_BYTES as u64,
        checksums: 0,
    };
    loop {
        match reader.frame() {
            Ok(frame) if frame.kind == KIND_END => {
                let end = reader.offset + (FRAME_HEAD + END_BYTES) as u64;
                return Ok(if end == identity.bytes { end } else { reader.offset });
            }
            Ok(frame) => reader.offset += (FRAME_HEAD + frame.data.len()) as u64,
            Err(SnapshotError::Corrupt { .. }) => return Ok(reader.offset),
            Err(error) => return Err(error),
        }
    }
}

/// Removes the parts of copies, but for the newest of those that are `wanted`, which is returned. A folder that does
/// not exist holds none.
pub fn keep_part(
    disk: &dyn Disk,
    dir: &Path,
    wanted: impl Fn(SnapshotIdentity) -> bool,
) -> Result<Option<SnapshotIdentity>, SnapshotError> {
    let names = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        names => names.map_err(io_error("list", dir))?,
    };
    let is_part = |name: &&PathBuf| name.to_str().is_some_and(|name| name.ends_with(PART));
    let parts: Vec<&PathBuf> = names.iter().filter(is_part).collect();
    let known = parts.iter().filter_map(|name| SnapshotIdentity::of_part(name));
    let kept = known.filter(|part| wanted(*part)).max_by_key(|part| part.index);
    let kept_path = kept.map(|part| part.part(dir));
    for name in parts {
        let path = dir.join(name);
        if Some(&path) != kept_path.as_ref() {
            disk.remove(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(kept)
}

const PART: &str = ".snap.part";

#[cfg(test)]
mod tests;
