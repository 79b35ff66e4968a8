//! The file read back by a naive reader of the format, which also demands that every page is used once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use super::*;

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn write(buckets: &Buckets) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    for (name, records) in buckets {
        writer.bucket(name).unwrap();
        for (key, value) in records {
            writer.put(key, value).unwrap();
        }
    }
    let (out, bytes) = writer.finish().unwrap();
    let file = out.into_inner();
    assert_eq!(file.len() as u64, bytes);
    file
}

struct Reader<'a> {
    file: &'a [u8],
    used: BTreeSet<u64>,
}

fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    let taken = bytes[at..at + width].iter().rev();
    taken.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Reader<'_> {
    /// The records below a page: flags, key and value.
    fn records(&mut self, page: u64) -> Vec<(u32, Vec<u8>, Vec<u8>)> {
        let at = usize::try_from(page).unwrap() * PAGE_BYTES;
        let bytes = &self.file[at..];
        assert_eq!(number(bytes, 0, 8), page);
        let overflow = number(bytes, 12, 4);
        for id in page..=page + overflow {
            assert!(self.used.insert(id), "page {id} is used twice");
        }
        let whole = (usize::try_from(overflow).unwrap() + 1) * PAGE_BYTES;
        match u16::try_from(number(bytes, 8, 2)).unwrap() {
            LEAF_FLAG => leaf_records(&bytes[..whole]),
            BRANCH_FLAG => {
                let count = usize::try_from(number(bytes, 10, 2)).unwrap();
                assert!(count >= 2, "a branch has two children at least");
                let mut found = Vec::new();
                for child in 0..count {
                    let element = HEADER_BYTES + child * ELEMENT_BYTES;
                    let key_at = element + usize::try_from(number(bytes, element, 4)).unwrap();
                    let key_bytes = usize::try_from(number(bytes, element + 4, 4)).unwrap();
                    let key = bytes[key_at..key_at + key_bytes].to_vec();
                    let below = self.records(number(bytes, element + 8, 8));
                    assert_eq!(below[0].1, key, "a branch names the first key below");
                    found.extend(below);
                }
                found
            }
            other => panic!("page {page} has flags {other}"),
        }
    }
}

fn leaf_records(bytes: &[u8]) -> Vec<(u32, Vec<u8>, Vec<u8>)> {
    let word = |at| usize::try_from(number(bytes, at, 4)).unwrap();
    let elements =
        (0..usize::try_from(number(bytes, 10, 2)).unwrap()).map(|at| HEADER_BYTES + at * ELEMENT_BYTES);
    let record = |at: usize| {
        let (key_at, key_bytes, value_bytes) = (at + word(at + 4), word(at + 8), word(at + 12));
        let value_at = key_at + key_bytes;
        let flags = u32::try_from(word(at)).unwrap();
        let value = bytes[value_at..value_at + value_bytes].to_vec();
        (flags, bytes[key_at..value_at].to_vec(), value)
    };
    elements.map(record).collect()
}

fn read(file: &[u8]) -> Buckets {
    assert_eq!(file.len() % PAGE_BYTES, 0);
    let pages = (file.len() / PAGE_BYTES) as u64;
    for page in 0..2 {
        let meta = &file[page * PAGE_BYTES..];
        assert_eq!(number(meta, 0, 8), page as u64);
        let meta = &meta[HEADER_BYTES..];
        assert_eq!(number(meta, 0, 8), 0x2_ED0C_DAED);
        assert_eq!(number(meta, 40, 8), pages);
        assert_eq!(number(meta, 48, 8) % 2, page as u64);
        assert_eq!(number(meta, 56, 8), fnv_1a(&meta[..56]));
    }
    let mut reader = Reader {
        file,
        used: BTreeSet::from([0, 1]),
    };
    let root = number(file, HEADER_BYTES + 16, 8);
    let mut buckets = Buckets::new();
    for (flags, name, value) in reader.records(root) {
        assert_eq!(flags, BUCKET_FLAG);
        let records = match number(&value, 0, 8) {
            0 => leaf_records(&value[16..]),
            page => reader.records(page),
        };
        assert!(records.iter().all(|(flags, _, _)| *flags == 0));
        assert!(records.is_sorted_by(|one, other| one.1 < other.1));
        let records = records.into_iter().map(|(_, key, value)| (key, value));
        buckets.insert(name, records.collect());
    }
    assert_eq!(reader.used.len() as u64, pages, "every page is used");
    buckets
}

/// A bucket of so many records with values of so many bytes.
fn bucket(records: usize, value_bytes: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let record = |at: usize| (format!("{at:017}").into_bytes(), vec![at as u8; value_bytes]);
    (0..records).map(record).collect()
}

#[test]
fn what_is_written_can_be_read() {
    // One leaf to three levels of branches, around the points where a node of a level is just full.
    for records in [0, 1, 2, 30, 31, 200, 9000, 9800, 20_000, 300_000] {
        let buckets = Buckets::from([
            (b"a".to_vec(), BTreeMap::new()),
            (b"key".to_vec(), bucket(records, 8)),
            (b"z".to_vec(), bucket(3, 5)),
        ]);
        assert!(read(&write(&buckets)) == buckets, "{records} records");
    }
}

#[test]
fn every_count_of_pages_makes_a_tree() {
    // Records of half a page and more: one for each leaf, so that the count of leaves is that of records.
    for records in 1..400 {
        let buckets = Buckets::from([(b"key".to_vec(), bucket(records, 3000))]);
        assert!(read(&write(&buckets)) == buckets, "{records} records");
    }
}

#[test]
fn long_records_take_several_pages() {
    let mut records = bucket(10, 100);
    records.insert(b"b".to_vec(), vec![7; 1 << 20]);
    records.insert(vec![b'c'; 9000], Vec::new());
    for name in [4_u8, 5, 6, 7, 8, 9] {
        records.insert(vec![name; 5000 + usize::from(name)], vec![1; 4096]);
    }
    let mut buckets = Buckets::from([(b"key".to_vec(), records)]);
    for at in 0..300 {
        buckets.insert(format!("small bucket {at}").into_bytes(), bucket(at % 40, 10));
    }
    assert!(read(&write(&buckets)) == buckets);
}

#[test]
#[should_panic(expected = "ascending order")]
fn disorder_is_noticed() {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    writer.bucket(b"key").unwrap();
    writer.put(b"b", b"").unwrap();
    writer.put(b"a", b"").unwrap();
}
