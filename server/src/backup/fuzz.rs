//! Backup files, for fuzzing: whatever is in a file, it is refused, or handed out in order.

use std::io::{Cursor, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use prost::Message as _;
use proto::mvccpb::KeyValue;
use store::types::Revision;

use super::bolt::Writer;
use super::file::{BackupFile, FileError};

/// The first byte of an input says what the rest is: damages to a whole file, each an offset of two bytes and a byte
/// (whose sums of meta pages are made right again), or records of a file that is written rightly.
pub(crate) fn one_input(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let bytes = if first & 1 == 0 {
        let mut bytes = whole();
        for edit in rest.chunks_exact(3).take(DAMAGES_MAX) {
            let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
            bytes[at] = edit[2];
        }
        if first & 2 != 0 {
            super::bolt::read::resign(&mut bytes);
        }
        bytes
    } else {
        written(rest)
    };
    let file = rustix::fs::memfd_create("backup", rustix::fs::MemfdFlags::CLOEXEC).expect("memory is there");
    let mut file = std::fs::File::from(file);
    file.write_all(&bytes).expect("memory is there");
    read(&PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
}

fn read(path: &std::path::Path) {
    let Ok(file) = BackupFile::open(path, true) else {
        return;
    };
    let Ok(tables) = file.tables() else { return };
    let mut last = Revision::new(1, i64::MAX);
    let shown = file.changes(tables.revision, &mut |changes| -> Result<(), FileError> {
        for change in changes {
            assert!(
                change.revision > last && !change.kv.key.is_empty(),
                "{} after {last}",
                change.revision
            );
            last = change.revision;
        }
        Ok(())
    });
    assert!(shown.is_ok(), "all of it was checked: {shown:?}");
}

/// A file of these records: each a byte for the bucket and how long the key is, a length, key and value. They are put in
/// order first.
fn written(mut rest: &[u8]) -> Vec<u8> {
    let mut buckets =
        std::collections::BTreeMap::<&[u8], std::collections::BTreeMap<Vec<u8>, Vec<u8>>>::new();
    buckets.entry(b"key").or_default();
    while let Some((&[bucket, length], more)) = rest.split_first_chunk::<2>() {
        let record = more.get(..usize::from(length)).unwrap_or(more);
        rest = more.get(usize::from(length)..).unwrap_or_default();
        let (key, value) = record.split_at(record.len().min(usize::from(bucket >> 3)));
        if !key.is_empty() {
            let records = buckets.entry(BUCKETS[usize::from(bucket & 7)]).or_default();
            records.insert(key.to_vec(), value.to_vec());
        }
    }
    let mut writer = Writer::new(Cursor::new(Vec::new())).expect("memory is there");
    for (name, records) in buckets {
        writer.bucket(name).expect("in order");
        for (key, value) in records {
            writer.put(&key, &value).expect("in order");
        }
    }
    writer.finish().expect("memory is there").0.into_inner()
}

fn whole() -> Vec<u8> {
    written(&records())
}

fn records() -> Vec<u8> {
    let mut records = Vec::new();
    let mut push = |bucket: u8, key: &[u8], value: &[u8]| {
        let length = u8::try_from(key.len() + value.len()).unwrap_or(u8::MAX);
        records.extend_from_slice(&[bucket | u8::try_from(key.len()).unwrap_or(0) << 3, length]);
        records.extend_from_slice(key);
        records.extend_from_slice(value);
    };
    for main in 2..6_i64 {
        let kv = KeyValue {
            key: format!("k{main}").into(),
            value: "v".repeat(40).into(),
            create_revision: main,
            mod_revision: main,
            version: 1,
            lease: 0,
        };
        let key = [&main.to_be_bytes()[..], b"_", &0_i64.to_be_bytes()].concat();
        push(0, &key, &kv.encode_to_vec());
    }
    push(1, &7_i64.to_be_bytes(), &[8, 7, 16, 60]);
    push(2, &[8, 7, 16, 1], b"");
    push(3, b"clusterVersion", b"3.7.0");
    push(4, b"consistent_index", &9_u64.to_be_bytes());
    push(5, b"authEnabled", &[1]);
    push(5, b"authRevision", &9_u64.to_be_bytes());
    push(6, b"root", &[0x0a, 4, b'r', b'o', b'o', b't']);
    push(7, b"r", &[0x0a, 1, b'r']);
    records
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0], [&[1], &records()[..]].concat()];
    for place in [
        0_u16, 16, 20, 24, 0x1000, 0x1010, 0x2000, 0x2008, 0x200a, 0x2014, 0x3010,
    ] {
        let [low, high] = place.to_le_bytes();
        seeds.push(vec![2, low, high, 0xff, low, high.wrapping_add(1), 7]);
    }
    seeds
}

const BUCKETS: [&[u8]; 8] = [
    b"key",
    b"lease",
    b"alarm",
    b"cluster",
    b"meta",
    b"auth",
    b"authUsers",
    b"authRoles",
];
/// Damages of an input.
const DAMAGES_MAX: usize = 32;
