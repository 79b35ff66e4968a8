//! One block of history: its payload, and the records it is stored as. The format stands in the room's module.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{decode_varint, encode_varint};
use proto::mvccpb::KeyValue;

use super::record::{self, CHECKSUM_BYTES};
use super::{BackendError, Table};
use crate::types::{Change, Revision};

/// A block grows to about this many bytes of payload; one revision alone may make it longer.
pub(super) const TARGET_BYTES: usize = 4096 - 64;
/// The longest piece of a payload in one record.
pub(super) const PART_BYTES_MAX: usize = 256 << 10;

const TOMBSTONE: u8 = 1;
const CREATED: u8 = 2;
const LEASED: u8 = 4;
const SAME_MAIN: u8 = 8;

/// A block in memory, complete.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// The first main revision covered; names the block.
    pub(super) from: i64,
    /// The last main revision covered.
    pub(super) to: i64,
    /// Number of changes in the payload.
    pub(super) count: u32,
    payload: Vec<u8>,
    /// The last change of the payload; what the next one is coded relative to.
    last: Revision,
}

impl Block {
    /// An empty block that begins at `from`.
    pub(super) fn new(from: i64) -> Self {
        Block {
            from,
            to: from,
            count: 0,
            payload: Vec::new(),
            last: before(from),
        }
    }

    /// Bytes of payload.
    pub(super) fn len(&self) -> usize {
        self.payload.len()
    }

    /// An upper estimate of what [`Block::push`] adds for a change.
    pub(super) fn estimate(change: &Change) -> usize {
        change.kv.key.len() + change.kv.value.len() + 24
    }

    /// Appends a change; its revision must lie above the last one's.
    pub(super) fn push(&mut self, change: &Change) {
        let Change {
            revision,
            tombstone,
            kv,
        } = change;
        assert!(
            *revision > self.last && revision.main >= self.from,
            "change {revision} does not follow {} in block {}",
            self.last,
            self.from
        );
        debug_assert_eq!(revision.main, kv.mod_revision);
        let created = kv.create_revision == kv.mod_revision && kv.version == 1;
        let same_main = self.count > 0 && revision.main == self.last.main;
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let payload = &mut self.payload;
        payload.put_u8(
            flag(*tombstone, TOMBSTONE)
                | flag(!tombstone && created, CREATED)
                | flag(!tombstone && kv.lease != 0, LEASED)
                | flag(same_main, SAME_MAIN),
        );
        if same_main {
            put_difference(payload, revision.sub, self.last.sub);
        } else {
            put_difference(payload, revision.main, self.last.main);
            put_difference(payload, revision.sub, 0);
        }
        put_bytes(payload, &kv.key);
        if !tombstone {
            if !created {
                put_difference(payload, kv.mod_revision, kv.create_revision);
                put_difference(payload, kv.version, 0);
            }
            if kv.lease != 0 {
                payload.put_i64_le(kv.lease);
            }
            put_bytes(payload, &kv.value);
        }
        self.last = *revision;
        self.count += 1;
    }

    /// The changes, in order.
    pub(super) fn changes(&self) -> Changes {
        Changes {
            rest: Bytes::copy_from_slice(&self.payload),
            last: before(self.from),
            left: self.count,
            to: self.to,
        }
    }

    /// The block's records: key and sealed value, and its share of the digest.
    pub(super) fn records(&self) -> (Vec<SealedPart>, u64) {
        assert!(self.to >= self.from, "block {} ends at {}", self.from, self.to);
        let mut records = Vec::with_capacity(parts(self.len()) as usize);
        let mut share = 0_u64;
        for part in 0..parts(self.len()) {
            let start = part as usize * PART_BYTES_MAX;
            let piece = &self.payload[start..self.len().min(start + PART_BYTES_MAX)];
            let mut value = Vec::with_capacity(CHECKSUM_BYTES + 30 + piece.len());
            value.put_bytes(0, CHECKSUM_BYTES);
            if part == 0 {
                put_difference(&mut value, self.to, self.from);
                encode_varint(u64::from(self.count), &mut value);
                encode_varint(self.len() as u64, &mut value);
            }
            value.extend_from_slice(piece);
            let key = key(self.from, part);
            share = share.wrapping_add(record::seal_in_place(Table::Block, &key, &mut value));
            records.push((key.to_vec(), value));
        }
        (records, share)
    }
}

/// The key of a part and its sealed value.
pub(super) type SealedPart = (Vec<u8>, Vec<u8>);

/// A block as read: its span, and the payload still coded.
#[derive(Clone, Debug)]
pub(super) struct StoredBlock {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) count: u32,
    pub(super) payload: Bytes,
    pub(super) digest: u64,
}

impl StoredBlock {
    /// Reads a block through `part`, which gives the value of one of its records.
    pub(super) fn read(
        from: i64,
        mut part: impl FnMut(&[u8]) -> Result<Option<Bytes>, BackendError>,
    ) -> Result<StoredBlock, BackendError> {
        let mut fetch = |number: u32| {
            let key = key(from, number);
            let value = part(&key)?.ok_or(BackendError::Absent {
                table: Table::Block,
                main: from,
            })?;
            record::open(Table::Block, &key, &value)
        };
        let (mut head, mut digest) = fetch(0)?;
        let span = take_number(&mut head)?;
        let to = from.checked_add(span).ok_or(malformed("span"))?;
        let count = u32::try_from(take_number(&mut head)?).map_err(|_| malformed("number of changes"))?;
        let length = usize::try_from(take_number(&mut head)?).map_err(|_| malformed("payload length"))?;
        let payload = if length <= PART_BYTES_MAX {
            head
        } else {
            let mut whole = head.to_vec();
            for number in 1..parts(length) {
                let (piece, share) = fetch(number)?;
                whole.extend_from_slice(&piece);
                digest = digest.wrapping_add(share);
            }
            Bytes::from(whole)
        };
        if payload.len() != length {
            return Err(malformed("payload length"));
        }
        Ok(StoredBlock {
            from,
            to,
            count,
            payload,
            digest,
        })
    }

    /// The changes, in order; keys and values are slices of the payload. Ends after the first error.
    pub(super) fn changes(&self) -> Changes {
        Changes {
            rest: self.payload.clone(),
            last: before(self.from),
            left: self.count,
            to: self.to,
        }
    }

    /// The block, ready to be appended to.
    pub(super) fn reopen(&self) -> Result<Block, BackendError> {
        let mut last = before(self.from);
        for change in self.changes() {
            last = change?.revision;
        }
        Ok(Block {
            from: self.from,
            to: self.to,
            count: self.count,
            payload: self.payload.to_vec(),
            last,
        })
    }
}

/// Iterates over a payload.
pub(super) struct Changes {
    rest: Bytes,
    last: Revision,
    left: u32,
    to: i64,
}

impl Iterator for Changes {
    type Item = Result<Change, BackendError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.rest.is_empty() {
                return None;
            }
            self.rest.clear();
            return Some(Err(malformed("bytes after the last change")));
        }
        self.left -= 1;
        let change = self.take();
        if change.is_err() {
            self.left = 0;
            self.rest.clear();
        }
        Some(change)
    }
}

impl Changes {
    fn take(&mut self) -> Result<Change, BackendError> {
        let rest = &mut self.rest;
        let flags = rest.try_get_u8().map_err(|_| malformed("payload too short"))?;
        let add = |base: i64, more: i64| base.checked_add(more).ok_or(malformed("revision"));
        let revision = if flags & SAME_MAIN != 0 {
            Revision::new(self.last.main, add(self.last.sub, take_number(rest)?)?)
        } else {
            Revision::new(add(self.last.main, take_number(rest)?)?, take_number(rest)?)
        };
        if revision <= self.last || revision.main > self.to {
            return Err(malformed("revision out of order"));
        }
        let mut kv = KeyValue {
            key: take_bytes(rest)?,
            mod_revision: revision.main,
            ..KeyValue::default()
        };
        let tombstone = flags & TOMBSTONE != 0;
        if !tombstone {
            if flags & CREATED != 0 {
                kv.create_revision = revision.main;
                kv.version = 1;
            } else {
                kv.create_revision = revision.main - take_number(rest)?;
                kv.version = take_number(rest)?;
            }
            if flags & LEASED != 0 {
                kv.lease = rest
                    .try_get_i64_le()
                    .map_err(|_| malformed("payload too short"))?;
            }
            kv.value = take_bytes(rest)?;
        }
        self.last = revision;
        Ok(Change {
            revision,
            tombstone,
            kv,
        })
    }
}

/// The key of a part within its table.
pub(super) fn key(from: i64, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&from.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// The inverse of [`key`].
pub(super) fn parse_key(key: &[u8]) -> Result<(i64, u32), BackendError> {
    let (Some(from), Some(part), 12) = (key.first_chunk::<8>(), key.last_chunk::<4>(), key.len()) else {
        return Err(malformed("key"));
    };
    Ok((i64::from_be_bytes(*from), u32::from_be_bytes(*part)))
}

/// How many records a payload takes.
pub(super) fn parts(payload_len: usize) -> u32 {
    u32::try_from(payload_len.div_ceil(PART_BYTES_MAX))
        .unwrap_or(u32::MAX)
        .max(1)
}

/// What the first change of a block is coded relative to: no revision has a negative sub.
fn before(from: i64) -> Revision {
    Revision::new(from, -1)
}

fn malformed(reason: &'static str) -> BackendError {
    BackendError::Malformed {
        table: Table::Block,
        reason,
    }
}

fn put_difference(buf: &mut Vec<u8>, a: i64, b: i64) {
    let difference = u64::try_from(a - b);
    encode_varint(difference.expect("revisions and versions only grow"), buf);
}

fn put_bytes(buf: &mut Vec<u8>, bytes: &[u8]) {
    encode_varint(bytes.len() as u64, buf);
    buf.extend_from_slice(bytes);
}

fn take_number(buf: &mut Bytes) -> Result<i64, BackendError> {
    let number = decode_varint(buf).map_err(|_| malformed("number"))?;
    i64::try_from(number).map_err(|_| malformed("number too large"))
}

fn take_bytes(buf: &mut Bytes) -> Result<Bytes, BackendError> {
    let len = usize::try_from(take_number(buf)?).map_err(|_| malformed("length"))?;
    if len > buf.len() {
        return Err(malformed("payload too short"));
    }
    Ok(buf.split_to(len))
}
