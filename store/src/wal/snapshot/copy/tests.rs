use super::*;
use crate::env::fake::{FakeDisk, SeededEntropy};
use crate::types::{ClusterId, Term};
use crate::wal::snapshot::{SnapshotWriter, newest_valid, remove_older_than};

const DIR: &str = "/m/snap";

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        index: Index(index),
        term: Term(3),
        revision: 77,
        cluster: ClusterId(9),
    }
}

fn sections() -> Vec<(u8, Vec<u8>)> {
    let numbered = |number: u8| (1 + number % 3, vec![number; 700 + usize::from(number)]);
    (0..9).map(numbered).collect()
}

fn write(disk: &FakeDisk, index: u64, sections: &[(u8, Vec<u8>)]) {
    let mut writer = SnapshotWriter::create(Arc::new(disk.clone()), Path::new(DIR), meta(index)).unwrap();
    for (kind, data) in sections {
        writer.section(*kind, data).unwrap();
    }
    writer.finish().unwrap();
}

/// A finished snapshot's identity and bytes.
fn sent(index: u64, sections: &[(u8, Vec<u8>)]) -> (SnapshotIdentity, Vec<u8>) {
    let from = FakeDisk::new(0);
    write(&from, index, sections);
    let reader = SnapshotReader::open(&from, Path::new(DIR), Index(index)).unwrap();
    // Removed while it is being sent: the open file stays.
    remove_older_than(&from, Path::new(DIR), Index(index + 1)).unwrap();
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < reader.bytes() {
        bytes.extend_from_slice(&reader.bytes_at(bytes.len() as u64, 600).unwrap());
    }
    assert!(reader.bytes_at(reader.bytes(), 600).unwrap().is_empty());
    (reader.identity(), bytes)
}

fn begin(disk: &FakeDisk, identity: SnapshotIdentity) -> SnapshotCopy {
    SnapshotCopy::begin(Arc::new(disk.clone()), Path::new(DIR), identity).unwrap()
}

/// A copy in pieces of 1000 bytes.
fn copy(
    disk: &FakeDisk,
    identity: SnapshotIdentity,
    bytes: &[u8],
    announced: SnapshotMeta,
) -> Result<SnapshotReader, SnapshotError> {
    let mut copy = begin(disk, identity);
    bytes.chunks(1000).try_for_each(|piece| copy.append(piece))?;
    assert_eq!(copy.bytes(), bytes.len() as u64);
    copy.finish(announced)
}

fn names(disk: &FakeDisk) -> Vec<String> {
    let names = disk.list(Path::new(DIR)).unwrap();
    names.iter().map(|name| name.display().to_string()).collect()
}

fn read(reader: &mut SnapshotReader) -> Vec<(u8, Vec<u8>)> {
    let next = || {
        let section = reader.next_section().unwrap()?;
        Some((section.kind, section.data.to_vec()))
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn a_copy_is_the_same_snapshot_or_nothing() {
    let (identity, bytes) = sent(20, &sections());
    let to = FakeDisk::new(0);
    let mut arrived = copy(&to, identity, &bytes, meta(20)).unwrap();
    assert_eq!((read(&mut arrived), arrived.identity()), (sections(), identity));
    assert_eq!(names(&to), ["0000000000000014.snap"]);
    let foreign = SnapshotMeta {
        cluster: ClusterId(8),
        ..meta(20)
    };
    let other_term = SnapshotMeta {
        term: Term(4),
        ..meta(20)
    };
    for announced in [foreign, other_term, meta(21)] {
        let refused = copy(&to, identity, &bytes, announced);
        assert!(matches!(refused, Err(SnapshotError::Corrupt { .. })));
    }
    let another = SnapshotIdentity {
        fingerprint: identity.fingerprint ^ 1,
        ..identity
    };
    assert!(copy(&to, another, &bytes, meta(20)).is_err());
    for at in (0..bytes.len()).step_by(37) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        assert!(copy(&to, identity, &damaged, meta(20)).is_err(), "byte {at}");
        assert!(
            copy(&to, identity, &bytes[..at], meta(20)).is_err(),
            "length {at}"
        );
    }
    assert_eq!(names(&to), ["0000000000000014.snap"]);
    let newest = newest_valid(&to, Path::new(DIR)).unwrap();
    assert_eq!(newest.reader.unwrap().meta(), meta(20));
}

#[test]
fn a_copy_goes_on_where_it_broke_off() {
    let (identity, bytes) = sent(20, &sections());
    let mut kept = 0;
    for cut in (0..=bytes.len()).step_by(61).chain([bytes.len()]) {
        let disk = FakeDisk::new(0);
        let mut first = begin(&disk, identity);
        first.append(&bytes[..cut]).unwrap();
        drop(first);
        assert_eq!(
            keep_part(&disk, Path::new(DIR), |_| true).unwrap(),
            Some(identity)
        );
        let mut second = begin(&disk, identity);
        let from = second.bytes() as usize;
        assert!(
            from <= cut && cut - from < 800,
            "{from} of {cut}: less than a frame is lost"
        );
        kept += from;
        second.append(&bytes[from..]).unwrap();
        let mut arrived = second.finish(meta(20)).unwrap();
        assert_eq!(read(&mut arrived), sections());
        assert_eq!(names(&disk), ["0000000000000014.snap"]);
    }
    assert!(kept > 0);
}

#[test]
fn damage_and_a_crash_only_cost_what_they_touch() {
    let (identity, bytes) = sent(20, &sections());
    let cut = bytes.len() * 2 / 3;
    for at in (0..cut).step_by(29) {
        let disk = FakeDisk::new(0);
        begin(&disk, identity).append(&bytes[..cut]).unwrap();
        assert!(disk.damage(&identity.part(Path::new(DIR)), at as u64, 0x10));
        let mut again = begin(&disk, identity);
        let from = again.bytes() as usize;
        assert!(from <= at && at - from < 800, "{from}, with byte {at} damaged");
        again.append(&bytes[from..]).unwrap();
        again.finish(meta(20)).unwrap();
    }
    let seeds = SeededEntropy::new(7);
    for _ in 0..40 {
        let disk = FakeDisk::new(0);
        begin(&disk, identity).append(&bytes[..cut]).unwrap();
        disk.crash(seeds.below(u64::MAX));
        let mut again = begin(&disk, identity);
        let from = again.bytes() as usize;
        again.append(&bytes[from..]).unwrap();
        again.finish(meta(20)).unwrap();
    }
}

#[test]
fn there_is_one_part_and_none_of_another_file() {
    let (identity, bytes) = sent(20, &sections());
    let (later, _) = sent(30, &sections());
    let (other, _) = sent(20, &sections()[1..]);
    assert_ne!(identity, other, "of the same index, but not the same file");
    let disk = FakeDisk::new(0);
    write(&disk, 10, &sections());
    begin(&disk, identity).append(&bytes[..2000]).unwrap();
    for next in [other, later, identity] {
        assert_eq!(begin(&disk, next).bytes(), 0);
        assert_eq!(names(&disk).len(), 2, "a finished file and a part");
    }
    assert_eq!(
        newest_valid(&disk, Path::new(DIR))
            .unwrap()
            .reader
            .unwrap()
            .meta(),
        meta(10)
    );
    assert_eq!(
        keep_part(&disk, Path::new(DIR), |part| part.index > Index(20)).unwrap(),
        None
    );
    assert_eq!(names(&disk), ["000000000000000a.snap"]);
    assert_eq!(keep_part(&disk, Path::new("/none"), |_| true).unwrap(), None);
    let discarded = begin(&disk, identity);
    discarded.discard();
    assert_eq!(names(&disk), ["000000000000000a.snap"]);
}
