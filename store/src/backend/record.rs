//! The frame every record shares: a checksum over table, key and body, and the record's share of the digest.

use bytes::Bytes;

use super::{BackendError, Table};

/// Bytes before the body.
pub(super) const CHECKSUM_BYTES: usize = 4;

/// A value with its checksum in place, and its share of the digest.
pub(super) fn seal(table: Table, key: &[u8], body: &[u8]) -> (Vec<u8>, u64) {
    let checksum = checksum(table, key, body);
    let mut value = Vec::with_capacity(CHECKSUM_BYTES + body.len());
    value.extend_from_slice(&checksum.to_le_bytes());
    value.extend_from_slice(body);
    (value, digest(table, key, checksum))
}

/// As [`seal`], for a value whose first [`CHECKSUM_BYTES`] were left free for it.
pub(super) fn seal_in_place(table: Table, key: &[u8], value: &mut [u8]) -> u64 {
    let (head, body) = value.split_at_mut(CHECKSUM_BYTES);
    let checksum = checksum(table, key, body);
    head.copy_from_slice(&checksum.to_le_bytes());
    digest(table, key, checksum)
}

/// The body of a value and its share of the digest; an error where the checksum does not match.
pub(super) fn open(table: Table, key: &[u8], value: &Bytes) -> Result<(Bytes, u64), BackendError> {
    let Some(head) = value.first_chunk::<CHECKSUM_BYTES>() else {
        return Err(BackendError::Malformed {
            table,
            reason: "too short for a checksum",
        });
    };
    let recorded = u32::from_le_bytes(*head);
    let body = value.slice(CHECKSUM_BYTES..);
    if checksum(table, key, &body) != recorded {
        return Err(BackendError::Checksum { table });
    }
    Ok((body, digest(table, key, recorded)))
}

fn checksum(table: Table, key: &[u8], body: &[u8]) -> u32 {
    let sum = crc32c::crc32c_append(crc32c::crc32c(&[table.prefix()]), key);
    crc32c::crc32c_append(sum, body)
}

/// The record's share of the digest. Key and checksum go in separately, so that two records that exchange their
/// contents do not cancel out in the sum.
fn digest(table: Table, key: &[u8], checksum: u32) -> u64 {
    let position = crc32c::crc32c_append(crc32c::crc32c(&[table.prefix()]), key);
    mix(mix(u64::from(position) << 32 | u64::from(checksum)) ^ key.len() as u64)
}

/// The finalizer of splitmix64: every bit of the input moves every bit of the output.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_opens_only_under_its_own_table_and_key() {
        let (value, share) = seal(Table::Lease, b"key", b"body");
        let value = Bytes::from(value);
        let (body, read) = open(Table::Lease, b"key", &value).unwrap();
        assert_eq!((body.as_ref(), read), (b"body".as_ref(), share));
        assert!(open(Table::Lease, b"kez", &value).is_err());
        assert!(open(Table::Member, b"key", &value).is_err());
        for at in 0..value.len() {
            let mut bent = value.to_vec();
            bent[at] ^= 0x10;
            assert!(
                open(Table::Lease, b"key", &Bytes::from(bent)).is_err(),
                "flip at {at} unseen"
            );
        }
        assert!(open(Table::Lease, b"key", &Bytes::from_static(b"abc")).is_err());
    }
}
