//! What the writer wrote is read back; what was damaged at random is refused or read, without a panic and without end.

use std::collections::BTreeMap;
use std::io::Cursor;

use super::super::Writer;
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
    writer.finish().unwrap().0.into_inner()
}

fn read(bytes: &[u8]) -> Result<Buckets, ReadError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let reader = Reader::open(file.path(), bytes.len() as u64)?;
    let mut found = Buckets::new();
    let mut name = Vec::new();
    reader.walk(&mut |met| {
        match met {
            Met::Bucket(bucket) => {
                name = bucket.to_vec();
                found.insert(name.clone(), BTreeMap::new());
            }
            Met::Record(key, value) => {
                found.get_mut(&name).unwrap().insert(key.to_vec(), value.to_vec());
            }
        }
        Ok::<_, ReadError>(())
    })?;
    Ok(found)
}

/// Numbers that repeat.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from((self.0 >> 33) % limit as u64).unwrap()
    }
}

/// Buckets of every shape: empty, inline, a leaf, several levels, records of several pages.
fn some_buckets(numbers: &mut Numbers) -> Buckets {
    let mut buckets = Buckets::new();
    for bucket in 0..numbers.below(8) {
        let mut records = BTreeMap::new();
        let count = [0, 1, 5, 60, 3000][numbers.below(5)];
        let bytes_max = [1, 30, 300, 20_000][numbers.below(if count > 100 { 2 } else { 4 })];
        for _ in 0..count {
            let key = (0..1 + numbers.below(20)).map(|_| u8::try_from(numbers.below(256)).unwrap());
            let key: Vec<u8> = key.collect();
            records.insert(key, vec![7; numbers.below(bytes_max)]);
        }
        buckets.insert(format!("bucket {bucket}").into_bytes(), records);
    }
    buckets
}

#[test]
fn what_was_written_is_read() {
    let mut numbers = Numbers(1);
    for round in 0..200 {
        let buckets = some_buckets(&mut numbers);
        assert!(read(&write(&buckets)).unwrap() == buckets, "round {round}");
    }
}

#[test]
fn damage_is_refused_or_does_not_matter() {
    let mut numbers = Numbers(2);
    let (mut refused, mut read_on) = (0, 0);
    for _ in 0..60 {
        let whole = write(&some_buckets(&mut numbers));
        for _ in 0..30 {
            let mut bytes = whole.clone();
            for _ in 0..=numbers.below(3) {
                // Most of a page is data, in which nothing can be wrong; its head and elements are what counts.
                let page = numbers.below(bytes.len() / 4096);
                let reach = [16, 64, 4096][numbers.below(3)];
                let at = page * 4096 + numbers.below(reach);
                bytes[at] = u8::try_from(numbers.below(256)).unwrap();
            }
            if numbers.below(10) == 0 {
                bytes.truncate(numbers.below(bytes.len()));
            }
            match read(&bytes) {
                Ok(_) => read_on += 1,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 200 && read_on > 200, "{refused} {read_on}");
}

#[test]
fn one_whole_meta_page_is_enough() {
    let buckets = some_buckets(&mut Numbers(5));
    let mut bytes = write(&buckets);
    bytes[20] ^= 1;
    assert!(read(&bytes).unwrap() == buckets);
    bytes[4096 + 40] ^= 1;
    assert!(matches!(read(&bytes), Err(ReadError::Meta)));
    let mut bytes = write(&buckets);
    bytes[4096 + 40] ^= 1;
    assert!(read(&bytes).unwrap() == buckets);
    assert!(matches!(read(b"short"), Err(ReadError::Meta)));
}

/// A file of one leaf with 3 buckets, and where its root page is.
fn small() -> (Vec<u8>, usize) {
    let record = |at: u8| (vec![at], vec![at; 2000]);
    let records: BTreeMap<_, _> = (0..60).map(record).collect();
    let bytes = write(&Buckets::from([(b"key".to_vec(), records)]));
    let root = number(&bytes, HEADER_BYTES + 16, 8).unwrap();
    (bytes, usize::try_from(root).unwrap() * 4096)
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

#[test]
fn cycles_and_lies_are_named_with_their_page() {
    let (whole, root) = small();
    // The bucket's root page is named at the beginning of its value.
    let value_at = root + HEADER_BYTES + ELEMENT_BYTES + b"key".len();
    let branch = usize::try_from(number(&whole, value_at, 8).unwrap()).unwrap();
    assert_eq!(number(&whole, branch * 4096 + 8, 2), Some(1), "it is a branch");
    let changed = |at: usize, value: u64, width: usize| {
        let mut bytes = whole.clone();
        bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        refusal(&bytes)
    };
    let child = branch * 4096 + HEADER_BYTES + 8;
    assert_eq!(
        changed(child, branch as u64, 8),
        format!("page {branch}: it is used twice")
    );
    let beyond = "no node can be there, but one refers to it";
    assert_eq!(changed(child, 1, 8), format!("page 1: {beyond}"));
    assert_eq!(
        changed(child, u64::MAX - 1, 8),
        format!("page {}: {beyond}", u64::MAX - 1)
    );
    assert_eq!(
        changed(branch * 4096, 3, 8),
        format!("page {branch}: it has the number of another page")
    );
    assert_eq!(
        changed(branch * 4096 + 8, 0x10, 2),
        format!("page {branch}: it is no node of a tree")
    );
    assert_eq!(
        changed(branch * 4096 + 12, u64::from(u32::MAX), 4),
        format!("page {branch}: it goes on behind the last page")
    );
    assert_eq!(
        changed(branch * 4096 + 10, 0, 2),
        format!("page {branch}: a branch without children")
    );
    let short = format!("page {}: {SHORT}", root / 4096);
    assert_eq!(changed(root + HEADER_BYTES + 12, u64::from(u32::MAX), 4), short);
    // Behind the one element stand bytes that make no sense as further ones.
    assert!(changed(root + 10, 0xffff, 2).starts_with(&format!("page {}: ", root / 4096)));
    assert_eq!(
        changed(root + HEADER_BYTES, 0, 4),
        format!("page {}: there is a record among the buckets", root / 4096)
    );
}
