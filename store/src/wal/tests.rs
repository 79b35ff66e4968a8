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
    let again = Wal::create(Arc::new(disk), Path::new(DIR), metadata(), config(4096));
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

#[test]
fn a_commit_beyond_the_last_entry_is_clamped() {
    let disk = FakeDisk::new(1);
    let mut wal = create(&disk, config(4096));
    wal.append(&[append(entries(1..=5, 1, 10)), hard(1, 9)]).unwrap();
    drop(wal);
    let (wal, replay) = open(&disk, 1, config(4096)).unwrap();
    assert_eq!(
        (replay.hard_state.commit, wal.hard_state().commit),
        (Index(5), Index(5))
    );
}

#[test]
#[should_panic(expected = "entry 5 of term 1 would leave a gap after 3")]
fn a_gap_is_refused_before_it_is_written() {
    let disk = FakeDisk::new(1);
    let mut wal = create(&disk, config(4096));
    wal.append(&[append(entries(1..=3, 1, 10))]).unwrap();
    wal.append(&[append(entries(5..=5, 1, 10))]).unwrap();
}

#[test]
fn a_full_disk_found_while_preparing_harms_nothing_yet() {
    let disk = FakeDisk::new(1);
    let mut wal = create(&disk, config(4096));
    wal.append(&[append(entries(1..=2, 1, 900))]).unwrap();
    wal.append(&[append(entries(3..=3, 1, 100))]).unwrap();
    assert!(wal.wants_segment());
    disk.set_capacity(Some(disk.used_bytes() + 1000));
    assert!(matches!(wal.prepare(), Err(WalError::Full { .. })));
    assert_eq!(names(&disk), ["0000000000000001.wal"]);
    wal.append(&[append(entries(4..=4, 1, 100))]).unwrap();
    disk.set_capacity(None);
    wal.prepare().unwrap();
    assert!(!wal.wants_segment());
}

#[test]
fn a_spare_is_made_elsewhere_and_released_segments_are_reused() {
    let disk = FakeDisk::new(1);
    let mut wal = create(&disk, config(4096));
    let spare = wal.spare_job().unwrap().run().unwrap();
    wal.add_spare(spare);
    assert!(wal.spare_job().is_none());
    for index in 1..=30 {
        wal.append(&[append(entries(index..=index, 1, 900))]).unwrap();
    }
    assert_eq!(wal.release(Index(3)).unwrap(), 1);
    assert_eq!(wal.release(Index(25)).unwrap(), 7);
    let held = names(&disk);
    assert_eq!(
        held.iter().filter(|name| name.ends_with(".spare")).count(),
        2,
        "{held:?}"
    );
    let used = disk.used_bytes();
    for index in 31..=36 {
        wal.append(&[append(entries(index..=index, 1, 900))]).unwrap();
    }
    assert_eq!(disk.used_bytes(), used, "the spares were not reused");
    drop(wal);
    let (wal, replay) = open(&disk, 26, config(4096)).unwrap();
    assert_eq!(replay.entries, entries(26..=36, 1, 900));
    drop(wal);
    let Some(WalError::Gap { wanted, first, .. }) = open(&disk, 2, config(4096)).err() else {
        panic!()
    };
    assert_eq!((wanted, first), (Index(2), Index(25)));
}

/// A recycled segment holds, at the very offsets where the next batches would stand, whole batches of its earlier
/// life. The same file under the same name without its new header's identity must not give them back.
#[test]
fn stale_records_of_a_recycled_segment_are_not_resurrected() {
    let disk = FakeDisk::new(1);
    let mut wal = create(&disk, config(4096));
    let mut index = 1;
    while names(&disk).len() < 4 {
        wal.append(&[append(entries(index..=index, 1, 300))]).unwrap();
        index += 1;
    }
    wal.release(wal.last().index).unwrap();
    while names(&disk)
        .iter()
        .filter(|name| name.ends_with(".spare"))
        .count()
        > 1
    {
        wal.append(&[append(entries(index..=index, 1, 300))]).unwrap();
        index += 1;
    }
    let last = wal.last();
    drop(wal);
    // The current segment is an old file: behind its one batch stand seven others, bytes of equal length.
    let sequence = segment::list(&disk, Path::new(DIR))
        .unwrap()
        .segments
        .pop()
        .unwrap();
    let path = segment::path(Path::new(DIR), sequence);
    let bytes = disk.contents(&path).unwrap();
    let stale = bytes.windows(4).filter(|window| window == b"TFB1").count();
    assert!(stale > 5, "only {stale} batches in the recycled file");
    let read = |config: &Config| replay::read(&disk, Path::new(DIR), last.index, config);
    let replay = read(&config(4096)).unwrap();
    assert_eq!((replay.last, replay.entries.len(), replay.torn), (last, 1, None));
    // The check itself: a reader without checksums does fall for them.
    let blind = read(&Config {
        verify_checksums: false,
        ..config(4096)
    });
    assert!(
        blind.as_ref().is_err() || blind.as_ref().unwrap().last != last,
        "{blind:?} {sequence} {last:?}"
    );
}

/// What a first crash left behind a torn tail must not verify after the log has gone on to just before it.
#[test]
fn what_stood_behind_a_torn_tail_stays_dead() {
    let disk = FakeDisk::new(1);
    let path = segment::path(Path::new(DIR), 1);
    let mut wal = create(&disk, config(8192));
    let start = wal.bytes();
    wal.append(&[append(entries(1..=1, 1, 600))]).unwrap();
    let second = wal.bytes();
    let image = disk.contents(&path).unwrap();
    drop(wal);
    // A twin that lost the first batch's start to a tear, and then writes other entries of the same lengths.
    for (generation, kept) in [(2, 100), (3, 300)] {
        let mut file = disk.open(&path).unwrap();
        let mut torn = image.clone();
        torn[usize::try_from(start).unwrap() + 40 + kept] ^= 1;
        file.write_at(0, &torn).unwrap();
        let (mut wal, replay) = open(&disk, 1, config(8192)).unwrap();
        assert!(
            replay.entries.is_empty() && replay.torn.is_some(),
            "generation {generation}"
        );
        assert!(wal.bytes() < second);
        wal.append(&[append(entries(1..=1, 2, 20))]).unwrap();
        drop(wal);
        let (_, replay) = open(&disk, 1, config(8192)).unwrap();
        assert_eq!(replay.entries, entries(1..=1, 2, 20));
    }
}

/// Two torn batches on top of each other: a record of the first, at an offset where the second has one of the same
/// length, must not pass for part of the second. Only the generation, begun durably in between, tells them apart.
#[test]
fn a_record_of_an_older_torn_batch_does_not_complete_a_newer_one() {
    let disk = FakeDisk::new(1);
    let path = segment::path(Path::new(DIR), 1);
    let mut wal = create(&disk, config(8192));
    let start = usize::try_from(wal.bytes()).unwrap();
    // Records of 112 bytes, as long as the batch that opening writes; index 1 twice, so that they meet their like.
    let of = |term, range| append(entries(range, term, 86));
    wal.append(&[of(1, 1..=1), of(1, 1..=9)]).unwrap();
    let first = disk.contents(&path).unwrap();
    disk.damage(&path, start as u64, 1);
    drop(wal);
    let (mut wal, _) = open(&disk, 1, config(8192)).unwrap();
    assert_eq!(wal.bytes(), start as u64 + 112);
    wal.append(&[of(2, 1..=9)]).unwrap();
    drop(wal);
    let read = || replay::read(&disk, Path::new(DIR), Index(1), &config(8192)).unwrap();
    assert_eq!(read().entries, entries(1..=9, 2, 86));
    let at = start + 112 + 40 + 3 * 112;
    disk.open(&path)
        .unwrap()
        .write_at(at as u64, &first[at..at + 112])
        .unwrap();
    assert!(read().entries.is_empty() && read().torn.is_some(), "{:?}", read());
}

/// Every byte of a log whose last batch was followed by another is either proven damaged or does not matter.
#[test]
fn damage_below_a_synced_offset_is_corruption_and_above_it_a_torn_tail() {
    let disk = FakeDisk::new(1);
    let path = segment::path(Path::new(DIR), 1);
    let mut wal = create(&disk, config(4096));
    wal.append(&[append(entries(1..=3, 1, 50))]).unwrap();
    let tail = wal.bytes();
    wal.append(&[append(entries(4..=4, 1, 50))]).unwrap();
    let end = wal.bytes();
    drop(wal);
    // What fills each of the three batches up to a multiple of 8.
    let padding =
        |at| (617..624).contains(&at) || (tail - 4..tail).contains(&at) || (end - 4..end).contains(&at);
    for offset in 0..end {
        assert!(disk.damage(&path, offset, 0x40));
        let outcome = replay::read(&disk, Path::new(DIR), Index(1), &config(4096));
        match outcome {
            Err(WalError::Corrupt {
                path: named,
                offset: at,
                ..
            }) => {
                assert!(
                    offset < tail && named == path && at <= offset,
                    "byte {offset}: reported at {at}"
                );
            }
            Ok(replay) if offset >= tail => {
                let lost = replay.last.index == Index(3);
                assert!(lost != padding(offset), "byte {offset} changed nothing");
            }
            Ok(replay) => assert!(padding(offset) && replay.entries.len() == 4, "byte {offset}"),
            Err(error) => panic!("byte {offset}: {error}"),
        }
        disk.damage(&path, offset, 0x40);
    }
}

/// A new log's first segment is short: it grows while the next one is not made, and gives way once it is.
#[test]
fn a_short_first_segment_grows_until_the_next_is_ready() {
    let disk = FakeDisk::new(1);
    let short = || Config {
        first_segment_bytes: 2048,
        ..config(16384)
    };
    let first = segment::path(Path::new(DIR), 1);
    let mut wal = create(&disk, short());
    assert_eq!(disk.contents(&first).unwrap().len(), 2048);
    assert!(!wal.wants_segment());
    for index in 1..=4 {
        wal.append(&[append(entries(index..=index, 1, 900))]).unwrap();
    }
    assert!(wal.wants_segment());
    assert!(disk.contents(&first).unwrap().len() > 4096);
    // Opened again, it is a segment like another.
    drop(wal);
    let (mut wal, replay) = open(&disk, 1, short()).unwrap();
    assert_eq!(replay.entries, entries(1..=4, 1, 900));
    let spare = wal.spare_job().unwrap().run().unwrap();
    wal.add_spare(spare);
    wal.prepare().unwrap();
    assert!(!wal.wants_segment());
    let grown = disk.contents(&first).unwrap().len();
    for index in 5..=6 {
        wal.append(&[append(entries(index..=index, 1, 900))]).unwrap();
    }
    assert_eq!(names(&disk), ["0000000000000001.wal", "0000000000000002.wal"]);
    assert!(disk.contents(&first).unwrap().len() < grown + 1024);
    drop(wal);
    let (wal, replay) = open(&disk, 1, short()).unwrap();
    assert_eq!(replay.entries, entries(1..=6, 1, 900));
    drop(wal);
    // Not made in time, it takes up to the full size and no more.
    let disk = FakeDisk::new(1);
    let mut wal = create(&disk, short());
    for index in 1..=40 {
        wal.append(&[append(entries(index..=index, 1, 900))]).unwrap();
    }
    assert!(disk.contents(&first).unwrap().len() <= 16384);
    assert_eq!(names(&disk).len(), 3);
    drop(wal);
    let (_, replay) = open(&disk, 1, short()).unwrap();
    assert_eq!(replay.entries, entries(1..=40, 1, 900));
}

/// Segments, batches and proofs of corruption larger than what is read at once.
#[test]
fn a_log_is_read_through_a_small_window() {
    let disk = FakeDisk::new(1);
    let first = segment::path(Path::new(DIR), 1);
    let mut wal = create(&disk, config(3 << 20));
    let sizes = [10, 200_000, 70_000, 900_000, 1, 262_100, 300, 100_000, 261_000];
    let mut all = Vec::new();
    let mut ends = Vec::new();
    for (index, size) in (1..).zip(sizes) {
        wal.append(&[append(entries(index..=index, 1, size))]).unwrap();
        all.extend(entries(index..=index, 1, size));
        ends.push(wal.bytes());
    }
    drop(wal);
    let read = || replay::read(&disk, Path::new(DIR), Index(1), &config(3 << 20));
    assert_eq!(read().unwrap().entries, all);
    // Whatever batch but the last is broken, a later one proves it, however far behind it stands.
    for (number, end) in ends.iter().enumerate() {
        assert!(disk.damage(&first, end - 8, 0x40));
        match read() {
            Err(WalError::Corrupt { .. }) => assert!(number + 1 < ends.len()),
            Ok(replay) => {
                assert_eq!(number + 1, ends.len());
                assert_eq!(replay.entries, all[..number]);
                assert!(replay.torn.is_some());
            }
            Err(error) => panic!("batch {number}: {error}"),
        }
        disk.damage(&first, end - 8, 0x40);
    }
    // All between the first batch and the last is gone: the last one's head still proves it, wherever it stands.
    let zeros = vec![0; usize::try_from(ends[7] - ends[0]).unwrap()];
    disk.open(&first).unwrap().write_at(ends[0], &zeros).unwrap();
    assert!(matches!(read(), Err(WalError::Corrupt { offset, .. }) if offset == ends[0]));
}

#[test]
fn metadata_is_read_from_the_newest_segment_that_has_it() {
    let disk = FakeDisk::new(1);
    let of = || replay::metadata(&disk, Path::new(DIR), &config(4096));
    let mut wal = create(&disk, config(4096));
    assert_eq!(of().unwrap(), metadata());
    wal.prepare().unwrap();
    drop(wal);
    assert_eq!(of().unwrap(), metadata());
    disk.damage(&segment::path(Path::new(DIR), 1), 600, 1);
    assert!(matches!(of(), Err(WalError::Corrupt { .. })));
}

mod ends;
mod golden;

/// Entries before the index asked for come along, within the limits, and never from further back than one segment.
#[test]
fn what_leads_up_to_the_index_asked_for_is_retained() {
    let disk = FakeDisk::new(9);
    let mut wal = create(&disk, config(4096));
    for index in 1..=100 {
        wal.append(&[append(entries(index..=index, 1, 100))]).unwrap();
    }
    drop(wal);
    let retained = |from: u64, entries_max: usize, bytes_max: usize| {
        let retain = Retain {
            entries_max,
            bytes_max,
        };
        let config = Config {
            retain,
            ..config(4096)
        };
        let replay = replay::read(&disk, Path::new(DIR), Index(from), &config).unwrap();
        assert_eq!(replay.entries.len() as u64, 101 - from);
        let indexes: Vec<u64> = replay.retained.iter().map(|entry| entry.index.0).collect();
        if let (Some(first), Some(last)) = (indexes.first(), indexes.last()) {
            assert_eq!((last + 1, last - first + 1), (from, indexes.len() as u64));
        }
        let expected = entries(1..=100, 1, 100);
        assert!(replay.retained.iter().all(|entry| expected.contains(entry)));
        indexes.len()
    };
    for from in [2, 30, 60, 99, 101] {
        assert_eq!(retained(from, 0, 1 << 20), 0);
        let before = usize::try_from(from).unwrap() - 1;
        assert_eq!(retained(from, 5, 1 << 20), before.min(5), "from {from}");
        assert_eq!(retained(from, 1000, 350), before.min(3), "from {from}");
        let all = retained(from, 1000, 1 << 20);
        assert!(
            all <= 2 * 4096 / 100,
            "from {from}: {all}, which is more than two segments hold"
        );
    }
    // Another segment is read where the index asked for is the first of its own.
    assert!((20..101).all(|from| retained(from, 10, 1 << 20) == 10));
    // What cannot be read is not needed.
    let sequences = segment::list(&disk, Path::new(DIR)).unwrap().segments;
    for sequence in &sequences[..sequences.len() - 1] {
        assert!(disk.damage(&segment::path(Path::new(DIR), *sequence), 2000, 1));
    }
    assert!(retained(101, 1000, 1 << 20) < 40);
}

/// Entries that were replaced, or that a snapshot took the place of, are not retained.
#[test]
fn only_the_present_log_is_retained() {
    let disk = FakeDisk::new(10);
    let mut wal = create(&disk, config(1 << 16));
    wal.append(&[append(entries(1..=20, 1, 10))]).unwrap();
    wal.append(&[append(entries(8..=12, 2, 10))]).unwrap();
    drop(wal);
    let retain = Retain {
        entries_max: 100,
        bytes_max: 1 << 20,
    };
    let config = Config {
        retain,
        ..config(1 << 16)
    };
    let read = |from: u64| replay::read(&disk, Path::new(DIR), Index(from), &config).unwrap();
    let terms = |replay: &Replay| {
        replay
            .retained
            .iter()
            .map(|entry| entry.term.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(terms(&read(11)), [1, 1, 1, 1, 1, 1, 1, 2, 2, 2]);
    assert_eq!(terms(&read(16)), [0; 0], "the log ends before it");
    let (mut wal, _) = open(&disk, 13, config.clone()).unwrap();
    let restart = Append {
        restart: Some(Position {
            index: Index(30),
            term: Term(2),
        }),
        ..Append::default()
    };
    wal.append(&[restart, append(entries(31..=33, 3, 10))]).unwrap();
    drop(wal);
    assert_eq!(terms(&read(31)), [0; 0]);
    assert_eq!(terms(&read(33)), [3, 3]);
}
