//! The leader's half: when each lease ends.
//!
//! Lives in the memory of the leader only and is rebuilt, with an extension, by each new one. It reports what is due
//! and changes nothing: a lease stays here until the replicated revoke is applied. A lease that is due is reported
//! again after a while, since a proposal may be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Lessor;
use crate::env::Instant;
use crate::types::LeaseId;

/// The deadlines of all leases; empty on a member that does not lead.
#[derive(Clone, Debug, Default)]
pub struct Expiry {
    leading: bool,
    leases: BTreeMap<LeaseId, Deadline>,
    /// When each lease is to be looked at next: at its end, or at the next report after that.
    order: BTreeSet<(Instant, LeaseId)>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    ends: Instant,
    /// Its place in the order.
    next: Instant,
    ttl_s: i64,
}

/// What became of a renewal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewal {
    /// The lease lives on, for its granted TTL.
    Renewed {
        /// The granted TTL in seconds.
        ttl_s: i64,
    },
    /// The lease has ended but is not revoked yet: wait for the revoke, then answer TTL 0.
    Expired,
    /// There is no such lease, or this member does not lead.
    Unknown,
}

impl Expiry {
    /// Of a member that does not lead.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Becomes the leader's: every lease gets its full TTL, or what its last checkpoint left of it, and `extend` on
    /// top, for the time that renewals may have been lost between two leaders.
    pub fn promote(&mut self, lessor: &Lessor, now: Instant, extend: Duration) {
        self.demote();
        self.leading = true;
        for lease in lessor.iter() {
            let left_s = if lease.remaining_s > 0 {
                lease.remaining_s
            } else {
                lease.ttl_s
            };
            self.set(lease.id, lease.ttl_s, now + seconds(left_s) + extend);
        }
    }

    /// Leads no longer: forgets everything.
    pub fn demote(&mut self) {
        *self = Self::default();
    }

    /// Whether this is a leader's.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// A grant was applied.
    pub fn granted(&mut self, id: LeaseId, ttl_s: i64, now: Instant) {
        if self.leading {
            self.set(id, ttl_s, now + seconds(ttl_s));
        }
    }

    /// A revoke was applied.
    pub fn revoked(&mut self, id: LeaseId) {
        if let Some(old) = self.leases.remove(&id) {
            self.order.remove(&(old.next, id));
        }
    }

    /// Renews a lease for its granted TTL.
    pub fn renew(&mut self, id: LeaseId, now: Instant) -> Renewal {
        match self.leases.get(&id) {
            None => Renewal::Unknown,
            Some(lease) if lease.ends <= now => Renewal::Expired,
            Some(lease) => {
                let ttl_s = lease.ttl_s;
                self.set(id, ttl_s, now + seconds(ttl_s));
                Renewal::Renewed { ttl_s }
            }
        }
    }

    /// Up to `max` leases that are due, those that ended first at the front. Each is reported again only
    /// a retry interval later, should its revoke not be applied by then.
    pub fn due(&mut self, now: Instant, max: usize) -> Vec<LeaseId> {
        let due: Vec<_> = self
            .order
            .iter()
            .take_while(|(at, _)| *at <= now)
            .take(max)
            .copied()
            .collect();
        for entry @ (_, id) in &due {
            self.order.remove(entry);
            if let Some(lease) = self.leases.get_mut(id) {
                lease.next = now + RETRY;
                self.order.insert((lease.next, *id));
            }
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// When `due` will have something to report next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// How long a lease has left; zero where it has ended and is not revoked yet.
    #[must_use]
    pub fn remaining(&self, id: LeaseId, now: Instant) -> Option<Duration> {
        self.leases.get(&id).map(|lease| lease.ends.since(now))
    }

    /// All leases by remaining life, then id.
    #[must_use]
    pub fn by_remaining(&self) -> Vec<LeaseId> {
        let mut ids: Vec<_> = self.leases.iter().map(|(id, lease)| (lease.ends, *id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    fn set(&mut self, id: LeaseId, ttl_s: i64, ends: Instant) {
        if let Some(old) = self.leases.insert(
            id,
            Deadline {
                ends,
                next: ends,
                ttl_s,
            },
        ) {
            self.order.remove(&(old.next, id));
        }
        self.order.insert((ends, id));
    }
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

/// After what time a lease that is due is reported once more.
const RETRY: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant(s * 1_000_000_000)
    }

    fn leading(leases: &[(i64, i64)]) -> Expiry {
        let mut lessor = Lessor::new();
        for (id, ttl_s) in leases {
            lessor.grant(LeaseId(*id), *ttl_s).unwrap();
        }
        let mut expiry = Expiry::new();
        expiry.promote(&lessor, at(100), Duration::from_secs(1));
        expiry
    }

    #[test]
    fn a_new_leader_extends_every_lease() {
        let mut expiry = leading(&[(1, 5), (2, 3)]);
        assert_eq!(expiry.next_deadline(), Some(at(104)));
        assert!(expiry.due(Instant(at(104).0 - 1), 10).is_empty());
        assert_eq!(expiry.due(at(104), 10), [LeaseId(2)]);
        assert_eq!(expiry.by_remaining(), [LeaseId(2), LeaseId(1)]);
    }

    #[test]
    fn the_checkpointed_rest_counts_for_a_new_leader() {
        let mut lessor = Lessor::new();
        lessor.grant(LeaseId(1), 600).unwrap();
        lessor.checkpoint(LeaseId(1), 20);
        let mut expiry = Expiry::new();
        expiry.promote(&lessor, at(0), Duration::ZERO);
        assert_eq!(expiry.remaining(LeaseId(1), at(5)), Some(Duration::from_secs(15)));
        assert_eq!(expiry.renew(LeaseId(1), at(5)), Renewal::Renewed { ttl_s: 600 });
        assert_eq!(expiry.next_deadline(), Some(at(605)));
    }

    #[test]
    fn what_is_due_is_reported_again_until_revoked() {
        let mut expiry = leading(&[(1, 4), (2, 4), (3, 4)]);
        assert_eq!(expiry.due(at(105), 2), [LeaseId(1), LeaseId(2)]);
        assert_eq!(expiry.due(at(105), 2), [LeaseId(3)]);
        assert!(expiry.due(at(107), 2).is_empty());
        expiry.revoked(LeaseId(2));
        assert_eq!(expiry.due(at(108), 9), [LeaseId(1), LeaseId(3)]);
    }

    #[test]
    fn an_ended_lease_is_not_renewed() {
        let mut expiry = leading(&[(1, 4)]);
        assert_eq!(expiry.renew(LeaseId(1), at(105)), Renewal::Expired);
        assert_eq!(expiry.remaining(LeaseId(1), at(106)), Some(Duration::ZERO));
        expiry.revoked(LeaseId(1));
        assert_eq!(expiry.renew(LeaseId(1), at(106)), Renewal::Unknown);
        assert_eq!(expiry.next_deadline(), None);
    }

    #[test]
    fn who_does_not_lead_knows_no_deadline() {
        let mut expiry = leading(&[(1, 4)]);
        expiry.demote();
        expiry.granted(LeaseId(2), 5, at(100));
        assert_eq!(expiry.renew(LeaseId(2), at(101)), Renewal::Unknown);
        assert!(expiry.due(at(1000), 10).is_empty() && !expiry.is_leading());
    }
}
