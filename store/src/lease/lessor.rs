//! The replicated half: grants and attachments.
//!
//! Invariants: a key is attached to at most one lease (whoever attaches it detaches it first, since only the key's
//! own record knows its lease); 0 is no lease.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use crate::error::RequestError;
use crate::types::LeaseId;

/// All leases.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Lessor {
    leases: BTreeMap<LeaseId, Lease>,
}

/// One lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Its id, never 0.
    pub id: LeaseId,
    /// The granted TTL in seconds.
    pub ttl_s: i64,
    /// The remaining TTL in seconds at the last checkpoint; 0 for none.
    pub remaining_s: i64,
    /// The attached keys.
    pub keys: BTreeSet<Bytes>,
}

/// A lease as stored: etcd's message, so without its keys, which are rebuilt from the keys themselves.
#[derive(Clone, PartialEq, Message)]
struct LeaseRecord {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
}

impl Lease {
    fn record(&self) -> LeaseRecord {
        LeaseRecord {
            id: self.id.0,
            ttl: self.ttl_s,
            remaining_ttl: self.remaining_s,
        }
    }
}

impl Lessor {
    /// Without leases.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants lease `id`. The minimum TTL is applied before proposing, by whoever chose the id.
    pub fn grant(&mut self, id: LeaseId, ttl_s: i64) -> Result<&Lease, RequestError> {
        if id == LeaseId(0) {
            return Err(RequestError::LeaseNotFound { id });
        }
        if ttl_s > TTL_MAX_S {
            return Err(RequestError::LeaseTtlTooLarge { ttl_s });
        }
        if self.leases.contains_key(&id) {
            return Err(RequestError::LeaseExists { id });
        }
        let lease = Lease {
            id,
            ttl_s,
            remaining_s: 0,
            keys: BTreeSet::new(),
        };
        Ok(self.leases.entry(id).or_insert(lease))
    }

    /// Ends lease `id` and returns the keys that were attached.
    pub fn revoke(&mut self, id: LeaseId) -> Result<BTreeSet<Bytes>, RequestError> {
        let lease = self
            .leases
            .remove(&id)
            .ok_or(RequestError::LeaseNotFound { id })?;
        Ok(lease.keys)
    }

    /// Attaches `key` to lease `id`; nothing where there is no such lease.
    pub fn attach(&mut self, id: LeaseId, key: Bytes) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key);
        }
    }

    /// Detaches `key` from lease `id`, if it is attached.
    pub fn detach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// Notes the remaining TTL that the leader reported; nothing where there is no such lease.
    pub fn checkpoint(&mut self, id: LeaseId, remaining_s: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.remaining_s = remaining_s;
        }
    }

    /// Lease `id`, if there is one.
    #[must_use]
    pub fn lookup(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// All leases, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// How many leases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// The leases as a table: the id as 8 bytes big-endian to etcd's lease message.
    #[must_use]
    pub fn encode(&self) -> Vec<(Bytes, Bytes)> {
        self.iter()
            .map(|l| {
                (
                    Bytes::copy_from_slice(&l.id.0.to_be_bytes()),
                    l.record().encode_to_vec().into(),
                )
            })
            .collect()
    }

    /// One lease's record, as in the table; `None` where there is no such lease.
    #[must_use]
    pub fn encode_one(&self, id: LeaseId) -> Option<Bytes> {
        self.lookup(id).map(|lease| lease.record().encode_to_vec().into())
    }

    /// The leases of a table that `encode` made; their keys are still to be attached.
    pub fn decode(table: &[(Bytes, Bytes)]) -> Result<Self, prost::DecodeError> {
        let mut lessor = Lessor::new();
        for (_, value) in table {
            let record = LeaseRecord::decode(value.clone())?;
            let lease = Lease {
                id: LeaseId(record.id),
                ttl_s: record.ttl,
                remaining_s: record.remaining_ttl,
                keys: BTreeSet::new(),
            };
            lessor.leases.insert(lease.id, lease);
        }
        Ok(lessor)
    }
}

/// The longest TTL, in seconds.
pub const TTL_MAX_S: i64 = 9_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_id_and_a_long_ttl_are_refused() {
        let mut lessor = Lessor::new();
        assert!(lessor.grant(LeaseId(-7), TTL_MAX_S).is_ok());
        assert_eq!(
            lessor.grant(LeaseId(-7), 5),
            Err(RequestError::LeaseExists { id: LeaseId(-7) })
        );
        let ttl_s = TTL_MAX_S + 1;
        assert_eq!(
            lessor.grant(LeaseId(1), ttl_s),
            Err(RequestError::LeaseTtlTooLarge { ttl_s })
        );
    }

    #[test]
    fn corner_52_a_granted_again_id_has_no_keys() {
        let mut lessor = Lessor::new();
        lessor.grant(LeaseId(3), 5).unwrap();
        lessor.attach(LeaseId(3), Bytes::from_static(b"k"));
        assert_eq!(lessor.revoke(LeaseId(3)).unwrap().len(), 1);
        assert_eq!(
            lessor.revoke(LeaseId(3)),
            Err(RequestError::LeaseNotFound { id: LeaseId(3) })
        );
        assert!(lessor.grant(LeaseId(3), 5).unwrap().keys.is_empty());
    }

    #[test]
    fn a_table_brings_back_all_but_the_keys() {
        let mut lessor = Lessor::new();
        lessor.grant(LeaseId(9), 60).unwrap();
        lessor.grant(LeaseId(-1), 7).unwrap();
        lessor.checkpoint(LeaseId(9), 30);
        assert_eq!(Lessor::decode(&lessor.encode()).unwrap(), lessor);
    }
}
