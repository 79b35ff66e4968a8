//! The mark of the log's end: damage to the end shows, and what is not damage does not.

use super::*;
use crate::wal::segment::HEADER_BYTES;

const MARK: &str = "/m/log.end";

fn marked(segment_bytes: u64) -> Config {
    Config {
        mark: Some(MARK.into()),
        ..config(segment_bytes)
    }
}

fn first() -> std::path::PathBuf {
    segment::path(Path::new(DIR), 1)
}

fn set_len(disk: &FakeDisk, path: &Path, len: u64) {
    disk.open(path).unwrap().set_len(len).unwrap();
}

/// A log of three batches whose end is marked; the offset at which the last one begins, and its end.
fn three(disk: &FakeDisk) -> (u64, u64) {
    let mut wal = create(disk, marked(4096));
    wal.append(&[append(entries(1..=2, 1, 100))]).unwrap();
    wal.append(&[append(entries(3..=3, 1, 100))]).unwrap();
    let before = wal.bytes();
    wal.append(&[append(entries(4..=4, 1, 100))]).unwrap();
    assert!(wal.wants_mark());
    wal.mark().unwrap();
    assert!(!wal.wants_mark());
    (before, wal.bytes())
}

#[test]
fn a_marked_end_is_no_torn_tail() {
    let disk = FakeDisk::new(1);
    let (last, end) = three(&disk);
    for at in [last, last + 9, last + 50, end - 9] {
        assert!(disk.damage(&first(), at, 0x10));
        let unmarked = replay::read(&disk, Path::new(DIR), Index(1), &config(4096)).unwrap();
        assert_eq!(unmarked.last.index, Index(3), "without the mark it is torn");
        let error = open(&disk, 1, marked(4096)).err().unwrap();
        assert!(
            matches!(&error, WalError::Corrupt { path, offset, .. } if *path == first() && (last..end).contains(offset)),
            "{error}"
        );
        disk.damage(&first(), at, 0x10);
    }
    let (wal, replay) = open(&disk, 1, marked(4096)).unwrap();
    assert_eq!(replay.entries, entries(1..=4, 1, 100));
    drop(wal);
}

#[test]
fn a_marked_log_that_was_cut_short_or_lost_its_newest_segment_is_refused() {
    let disk = FakeDisk::new(1);
    let (last, end) = three(&disk);
    for len in [end - 8, last + 3, last, 700, 512, 100, 0] {
        let whole = disk.contents(&first()).unwrap();
        set_len(&disk, &first(), len);
        assert!(
            matches!(open(&disk, 1, marked(4096)), Err(WalError::Corrupt { .. })),
            "{len}"
        );
        disk.open(&first()).unwrap().write_at(0, &whole).unwrap();
    }
    // What was only made ready is no loss.
    set_len(&disk, &first(), end);
    let (mut wal, _) = open(&disk, 1, marked(4096)).unwrap();
    for index in 5..=12 {
        wal.append(&[append(entries(index..=index, 1, 1000))]).unwrap();
    }
    wal.mark().unwrap();
    drop(wal);
    let newest = segment::list(&disk, Path::new(DIR)).unwrap().segments;
    let newest = segment::path(Path::new(DIR), *newest.last().unwrap());
    assert_ne!(newest, first());
    let whole = disk.contents(&newest).unwrap();
    disk.remove(&newest).unwrap();
    let error = open(&disk, 1, marked(4096)).err().unwrap();
    assert!(
        matches!(&error, WalError::MissingSegment { path } if *path == newest),
        "{error}"
    );
    // Its first batch gone, it looks like one that was made ready and not begun.
    let mut bent = whole.clone();
    bent[600] ^= 1;
    disk.create(&newest).unwrap().write_at(0, &bent).unwrap();
    let error = open(&disk, 1, marked(4096)).err().unwrap();
    assert!(
        matches!(&error, WalError::Corrupt { path, offset: 512, .. } if *path == newest),
        "{error}"
    );
    disk.open(&newest).unwrap().write_at(0, &whole).unwrap();
    let (_, replay) = open(&disk, 1, marked(4096)).unwrap();
    assert_eq!(replay.last.index, Index(12));
}

#[test]
fn behind_an_end_that_was_closed_nothing_counts() {
    let disk = FakeDisk::new(1);
    for close in [true, false] {
        let disk = FakeDisk::new(u64::from(close));
        let mut wal = create(&disk, marked(4096));
        wal.append(&[append(entries(1..=2, 1, 900))]).unwrap();
        wal.prepare().unwrap();
        if close {
            wal.close().unwrap();
        } else {
            wal.mark().unwrap();
            drop(wal);
        }
        assert!(disk.damage(&segment::path(Path::new(DIR), 2), 100, 1));
        match open(&disk, 1, marked(4096)) {
            Ok((mut wal, replay)) => {
                assert!(close);
                assert_eq!(replay.entries, entries(1..=2, 1, 900));
                // It goes on where the damaged file stood, and is not taken for closed any more.
                wal.append(&[append(entries(3..=6, 1, 900))]).unwrap();
                drop(wal);
                let (_, replay) = open(&disk, 1, marked(4096)).unwrap();
                assert_eq!(replay.entries, entries(1..=6, 1, 900));
            }
            Err(error) => assert!(
                !close && matches!(error, WalError::Corrupt { offset: 0, .. }),
                "{error}"
            ),
        }
    }
    assert!(!was_begun(&disk, Path::new(MARK)).unwrap());
}

#[test]
fn a_log_without_mark_gets_one_and_a_mark_that_is_lost_comes_back() {
    let disk = FakeDisk::new(1);
    let mut wal = create(&disk, config(4096));
    wal.append(&[append(entries(1..=2, 1, 100))]).unwrap();
    drop(wal);
    let (wal, _) = open(&disk, 1, marked(4096)).unwrap();
    assert!(wal.wants_mark());
    wal.close().unwrap();
    assert!(was_begun(&disk, Path::new(MARK)).unwrap());
    for damage in ["bent", "cut", "gone"] {
        match damage {
            "bent" => assert!(disk.damage(Path::new(MARK), 512 + 20, 1)),
            "cut" => set_len(&disk, Path::new(MARK), 3),
            _ => disk.remove(Path::new(MARK)).unwrap(),
        }
        let (wal, replay) = open(&disk, 1, marked(4096)).unwrap();
        assert_eq!(replay.entries, entries(1..=2, 1, 100), "{damage}");
        wal.close().unwrap();
    }
    // Of another log.
    let other = FakeDisk::new(2);
    let theirs = Metadata {
        member: MemberId(9),
        ..metadata()
    };
    drop(Wal::create(Arc::new(other.clone()), Path::new(DIR), theirs, marked(4096)).unwrap());
    let mark = other.contents(Path::new(MARK)).unwrap();
    disk.open(Path::new(MARK)).unwrap().write_at(0, &mark).unwrap();
    assert!(matches!(
        open(&disk, 1, marked(4096)),
        Err(WalError::OtherMark { .. })
    ));
}

#[test]
fn a_newer_format_is_refused_by_its_name() {
    let disk = FakeDisk::new(1);
    drop(create(&disk, config(4096)));
    let mut header = disk.contents(&first()).unwrap()[..HEADER_BYTES].to_vec();
    header[8] = 3;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..]);
    header[12..16].copy_from_slice(&sum.to_le_bytes());
    disk.open(&first()).unwrap().write_at(0, &header).unwrap();
    let error = open(&disk, 1, config(4096)).err().unwrap();
    assert!(
        matches!(
            error,
            WalError::Newer {
                found: 3,
                known: 2,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("written by a newer one"), "{error}");
}

#[test]
fn a_snapshot_of_a_newer_format_is_refused_and_not_taken_for_damage() {
    use crate::wal::snapshot::{SnapshotError, SnapshotMeta, SnapshotWriter, newest_valid, path};
    let disk = FakeDisk::new(1);
    let dir = Path::new("/m/snap");
    for index in [4, 9] {
        let meta = SnapshotMeta {
            index: Index(index),
            ..SnapshotMeta::default()
        };
        let writer = SnapshotWriter::create(Arc::new(disk.clone()), dir, meta).unwrap();
        writer.finish().unwrap();
    }
    let newest = path(dir, Index(9));
    let mut header = disk.contents(&newest).unwrap()[..64].to_vec();
    header[8] = 3;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..]);
    header[12..16].copy_from_slice(&sum.to_le_bytes());
    disk.open(&newest).unwrap().write_at(0, &header).unwrap();
    let error = newest_valid(&disk, dir).err().unwrap();
    assert!(
        matches!(
            error,
            SnapshotError::Newer {
                found: 3,
                known: 2,
                ..
            }
        ),
        "{error}"
    );
    // Where it is damage, the one before it is taken.
    assert!(disk.damage(&newest, 8, 1));
    let found = newest_valid(&disk, dir).unwrap();
    assert_eq!(
        (found.reader.unwrap().meta().index, found.damaged.len()),
        (Index(4), 1)
    );
}
