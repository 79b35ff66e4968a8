//! How often a member has lost its disk, as it were: a number that grows with each loss (see `founding.rs`).
//!
//! It stands in two files beside the log, `incarnation` and `incarnation.copy`, each whole by itself: a member that has
//! lost this number, and whose log is still empty, would take part in elections as if nothing were lost. One that
//! founded its cluster has neither file, and the number 0.
//!
//! | at | bytes | what (little-endian) |
//! | --- | --- | --- |
//! | 0 | 8 | the number |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | CRC-32C of bytes 0..12 |
//!
//! Before this format the file was the number alone, and there was no copy. It is still read.

use std::io;
use std::path::{Path, PathBuf};

use super::bootstrap::{Folders, World};
use super::open_error::OpenError;
use crate::env::Disk;

/// Reads the number: 0 where there is none. Damage to one of the files is mended from the other.
pub(super) fn read(world: &World, folders: &Folders) -> Result<u64, OpenError> {
    let [path, copy] = paths(folders);
    let (first, second) = (one(world, &path)?, one(world, &copy)?);
    let number = match (first, second) {
        (File::Absent, File::Absent) => return Ok(0),
        (File::Whole(first), File::Whole(second)) if first == second => return Ok(first),
        // The crash of a member that joined anew came between the two.
        (File::Whole(first), File::Whole(second)) => first.max(second),
        (File::Whole(number) | File::Bare(number), _) | (_, File::Whole(number)) => number,
        (File::Damaged | File::Absent, _) => return Err(OpenError::Incarnation { path }),
    };
    tracing::warn!(
        path = %path.display(),
        "one of the two files with this member's incarnation is missing or damaged: both are written anew"
    );
    write(world, folders, number)?;
    Ok(number)
}

/// Writes the number, durably; 0 removes the files.
pub(super) fn write(world: &World, folders: &Folders, incarnation: u64) -> Result<(), OpenError> {
    for path in paths(folders) {
        let removed = match world.disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        let fill = || {
            let mut file = world.disk.create(&path)?;
            file.write_at(0, &encode(incarnation))?;
            file.sync_data()
        };
        // One after the other, so that a crash leaves one of them whole.
        removed
            .and_then(|()| if incarnation == 0 { Ok(()) } else { fill() })
            .and_then(|()| world.disk.sync_dir(&folders.member))
            .map_err(|source| OpenError::Unwritable { path, source })?;
    }
    Ok(())
}

/// Looks at the files that are there, and changes nothing.
pub(super) fn check(disk: &dyn Disk, folders: &Folders) -> Vec<(PathBuf, Result<(), String>)> {
    let checked = paths(folders).map(|path| {
        let what = match read_one(disk, &path) {
            Ok(File::Absent) => return None,
            Ok(File::Whole(_) | File::Bare(_)) => Ok(()),
            Ok(File::Damaged) => {
                Err("it does not verify: the next start writes it anew from its copy".to_owned())
            }
            Err(error) => Err(error.to_string()),
        };
        Some((path, what))
    });
    checked.into_iter().flatten().collect()
}

/// What was read from one of the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum File {
    Absent,
    Whole(u64),
    /// The number without a checksum, as it was written once, or one of ours that was cut just there.
    Bare(u64),
    Damaged,
}

fn one(world: &World, path: &Path) -> Result<File, OpenError> {
    read_one(world.disk.as_ref(), path)
}

fn read_one(disk: &dyn Disk, path: &Path) -> Result<File, OpenError> {
    let mut bytes = [0; BYTES + 1];
    let read = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::Absent),
        opened => opened.and_then(|file| file.read_at(0, &mut bytes)),
    };
    match read {
        Ok(len) => decode(&bytes[..len], path),
        Err(source) => Err(OpenError::Unwritable {
            path: path.to_owned(),
            source,
        }),
    }
}

fn decode(bytes: &[u8], path: &Path) -> Result<File, OpenError> {
    let number = bytes.first_chunk().copied().map_or(0, u64::from_le_bytes);
    let short = |at: usize| {
        let rest = bytes.get(at..).and_then(<[u8]>::first_chunk);
        rest.copied().map_or(0, u32::from_le_bytes)
    };
    match bytes.len() {
        8 => Ok(File::Bare(number)),
        BYTES if short(12) == crc32c::crc32c(&bytes[..12]) => match short(8) {
            VERSION => Ok(File::Whole(number)),
            found => Err(OpenError::NewerIncarnation {
                path: path.to_owned(),
                found,
                known: VERSION,
            }),
        },
        _ => Ok(File::Damaged),
    }
}

fn encode(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

pub(super) fn paths(folders: &Folders) -> [PathBuf; 2] {
    ["incarnation", "incarnation.copy"].map(|name| folders.member.join(name))
}

const VERSION: u32 = 1;
const BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_bare_or_damaged() {
        let path = Path::new("incarnation");
        let whole = encode(77);
        assert_eq!(decode(&whole, path).unwrap(), File::Whole(77));
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            assert_eq!(decode(&bent, path).unwrap(), File::Damaged, "{at}");
            let cut = decode(&whole[..at], path).unwrap();
            let expected = if at == 8 { File::Bare(77) } else { File::Damaged };
            assert_eq!(cut, expected, "{at}");
        }
        let mut newer = whole[..12].to_vec();
        newer[8] = 9;
        newer.extend_from_slice(&crc32c::crc32c(&newer).to_le_bytes());
        assert!(matches!(
            decode(&newer, path),
            Err(OpenError::NewerIncarnation { found: 9, .. })
        ));
    }
}
