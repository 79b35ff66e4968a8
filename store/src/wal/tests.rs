use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::env::Disk;
use crate::env::fake::FakeDisk;

const DIR: &str = "/m/wal";

fn config(segment_bytes: u64) -> Config {
    Config {
        segment_bytes,
        salt: 7,
        ..Config::default()
    }
}

fn metadata() -> Metadata {
    Metadata {
        cluster: ClusterId(0xc1),
        member: MemberId(0xa1),
    }
}

fn entries(range: std::ops::RangeInclusive<u64>, term: u64, bytes: usize) -> Vec<Entry> {
    let entry = |index| Entry {
        term: Term(term),
        index: Index(index),
        kind: 0,
        data: Bytes::from(vec![u8::try_from(index % 251).unwrap(); bytes]),
    };
    range.map(entry).collect()
}

fn append(entries: Vec<Entry>) -> Append {
    Append {
        entries,
        ..Append::default()
    }
}

fn hard(term: u64, commit: u64) -> Append {
    let hard_state = HardState {
        term: Term(term),
        vote: MemberId(0xa1),
        commit: Index(commit),
    };
    Append {
        hard_state: Some(hard_state),
        ..Append::default()
    }
}

fn create(disk: &FakeDisk, config: Config) -> Wal {
    Wal::create(Arc::new(disk.clone()), Path::new(DIR), metadata(), config).unwrap()
}

fn open(disk: &FakeDisk, from: u64, config: Config) -> Result<(Wal, Replay), WalError> {
    Wal::open(Arc::new(disk.clone()), Path::new(DIR), Index(from), config)
}

fn names(disk: &FakeDisk) -> Vec<String> {
    disk.list(Path::new(DIR))
        .unwrap()
        .iter()
        .map(|name| name.display().to_string())
        .collect()
}

#[test]
fn what_was_appended_is_read_back() {
    let disk = FakeDisk::new(1);
    let mut wal = create(&disk, config(4096));
    wal.append(&[append(entries(1..=3, 1, 10)), hard(1, 2)]).unwrap();
    wal.append(&[append(entries(3..=40, 2, 300))]).unwrap();
    drop(wal);
    let (wal, replay) = open(&disk, 1, config(4096)).unwrap();
    let mut expected = entries(1..=2, 1, 10);
    expected.extend(entries(3..=40, 2, 300));
    assert_eq!(replay.entries, expected);
    assert_eq!(
        replay.hard_state,
        HardState {
            term: Term(1),
            vote: MemberId(0xa1),
            commit: Index(2)
        }
    );
    assert_eq!(
        (replay.metadata, wal.last()),
        (
            metadata(),
            Position {
                index: Index(40),
                term: Term(2)
            }
        )
    );
    assert!(replay.torn.is_none());
}

#[test]
fn a_log_is_created_once() {
    let disk = FakeDisk::new(1);
    assert!(!Wal::exists(&disk, Path::new(DIR)).unwrap());
    assert!(matches!(
        open(&disk, 1, config(4096)).err(),
        Some(WalError::Io {
            operation: "list",
            ..
        })
    ));
    drop(create(&disk, config(4096)));
    assert!(Wal::exists(&disk, Path::new(DIR)).unwrap());
    let again = Wal::create(Arc::new(disk.clone()), Path::new(DIR), metadata(), config(4096));
    assert!(matches!(again.err(), Some(WalError::Exists { .. })));
}

#[test]
fn one_append_is_one_write_and_one_sync_also_across_a_cut() {
    let disk = FakeDisk::new(1);
    let mut wal = create(&disk, config(4096));
    let mut index = 1;
    for _ in 0..40 {
        if wal.wants_segment() {
            wal.prepare().unwrap();
        }
        let before = disk.operations();
        wal.append(&[append(entries(index..=index + 1, 1, 300)), hard(1, index)])
            .unwrap();
        let after = disk.operations();
        assert_eq!(
            (after.changes - before.changes, after.syncs - before.syncs),
            (2, 1)
        );
        index += 2;
    }
    assert!(names(&disk).len() > 5);
}
