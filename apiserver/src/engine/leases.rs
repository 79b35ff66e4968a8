//! Leases of objects that go by themselves. One is shared by many keys that are written within a minute: the store has
//! few leases to keep, and a key lives at most that minute longer than it should.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::etcd::{Etcd, Failure};

/// The leases that are in use, by the seconds that their keys live.
#[derive(Default)]
pub(super) struct Leases {
    current: Mutex<BTreeMap<u32, Lease>>,
}

#[derive(Clone, Copy)]
struct Lease {
    id: i64,
    /// Until when keys are put on it.
    until: Instant,
    keys: u32,
}

impl Leases {
    /// The lease for a key that is written now and lives so many seconds; 0 for one that stays.
    pub(super) async fn of(&self, etcd: &Etcd, ttl_s: u32) -> Result<i64, Failure> {
        if ttl_s == 0 {
            return Ok(0);
        }
        if let Some(lease) = self.current.lock().get_mut(&ttl_s)
            && lease.keys < LEASE_KEYS_MAX
            && Instant::now() < lease.until
        {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let shared_s = (ttl_s / TTL_PART).max(SHARED_S_MIN);
        let until = Instant::now() + Duration::from_secs(u64::from(shared_s));
        let id = etcd.grant(i64::from(ttl_s) + i64::from(shared_s)).await?;
        let lease = Lease { id, until, keys: 1 };
        self.current.lock().insert(ttl_s, lease);
        Ok(id)
    }

    /// A lease is over: the store was restored, perhaps, or the clock was set.
    pub(super) fn forget(&self, id: i64) {
        self.current.lock().retain(|_, lease| lease.id != id);
    }
}

/// How many keys share a lease at most: they are deleted at one revision.
const LEASE_KEYS_MAX: u32 = 1000;
/// For how many seconds keys are put on the same lease, at least.
const SHARED_S_MIN: u32 = 60;
/// And for which part of their life, if that is longer.
const TTL_PART: u32 = 20;
