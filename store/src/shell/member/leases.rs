//! The leader's part in leases: deadlines, renewals, and the revokes of what has expired.

use std::sync::atomic::Ordering;

use proto::etcdserverpb::{InternalRaftRequest, LeaseRevokeRequest};

use super::{ExpiredRenewal, Member};
use crate::apply::LeaseEvent;
use crate::env::Instant;
use crate::error::Unavailable;
use crate::lease::Renewal;
use crate::shell::command::Answer;
use crate::types::{LeaseId, Term};

impl Member {
    pub(super) fn lease_changed(&mut self, event: &LeaseEvent, now: Instant) {
        let (LeaseEvent::Granted { id, .. } | LeaseEvent::Revoked { id }) = *event;
        self.changed_leases.push(id);
        match *event {
            LeaseEvent::Granted { id, ttl_s } => {
                self.shared
                    .published
                    .leases_granted
                    .fetch_add(1, Ordering::Relaxed);
                self.expiry.granted(id, ttl_s, now);
            }
            LeaseEvent::Revoked { id } => {
                self.shared
                    .published
                    .leases_revoked
                    .fetch_add(1, Ordering::Relaxed);
                self.expiry.revoked(id);
                let of_lease = |renewal: &mut ExpiredRenewal| renewal.lease == id;
                for renewal in self.expired_renewals.extract_if(.., of_lease) {
                    let _ = renewal.answer.send(Ok(0));
                }
            }
        }
    }

    pub(super) fn fail_expired_renewals(&mut self, error: Unavailable) {
        for renewal in self.expired_renewals.drain(..) {
            let _ = renewal.answer.send(Err(error.into()));
        }
    }

    pub(super) fn renew(&mut self, lease: LeaseId, since: Instant, answer: Answer<i64>, now: Instant) {
        if !self.leads_applied {
            let _ = answer.send(Err(Unavailable::NoLeader.into()));
            return;
        }
        match self.expiry.renew(lease, now) {
            Renewal::Renewed { ttl_s } => {
                self.shared
                    .published
                    .leases_renewed
                    .fetch_add(1, Ordering::Relaxed);
                let _ = answer.send(Ok(ttl_s));
            }
            // Not yet revoked: the revoke is under way and decides (etcd reference 1.3).
            Renewal::Expired => self
                .expired_renewals
                .push(ExpiredRenewal { since, lease, answer }),
            Renewal::Unknown => drop(answer.send(Ok(0))),
        }
    }

    pub(super) fn expire_leases(&mut self, now: Instant) {
        if !self.leads_applied {
            return;
        }
        let term = self.node.role().term;
        for id in self.expiry.due(now, LEASES_PER_SCAN) {
            self.shared
                .published
                .leases_expired
                .fetch_add(1, Ordering::Relaxed);
            self.propose_own(&revoke(id, term));
        }
    }

    /// By remaining life where this member leads and knows it, else by id.
    pub(super) fn leases(&self) -> Vec<LeaseId> {
        if self.leads_applied {
            return self.expiry.by_remaining();
        }
        self.shared
            .state
            .read()
            .lessor
            .iter()
            .map(|lease| lease.id)
            .collect()
    }
}

/// The leader's own revoke of an expired lease; its term lets apply refuse one from a leader of the past.
fn revoke(id: LeaseId, term: Term) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_revoke: Some(LeaseRevokeRequest { id: id.0 }),
        revoke_term: term.0,
        ..Default::default()
    }
}

/// Expired leases that one search revokes (etcd reference 1.3).
const LEASES_PER_SCAN: usize = 500;
