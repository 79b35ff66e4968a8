//! Proposals that were not answered in time.

use std::sync::atomic::Ordering;

use super::Member;
use crate::consensus::Role;
use crate::env::Instant;
use crate::error::Unavailable;
use crate::shell::pending::Overdue;
use crate::shell::shared::Shared;

impl Member {
    pub(super) fn expire_callers(&mut self, now: Instant) {
        let deadline = now - self.shared.settings.request_timeout();
        let expired = {
            let (shared, role, led_since) = (&self.shared, self.node.role(), self.led_since);
            let quorum_lost = |since| self.peers.quorum_lost(shared, since);
            self.pending.expire(deadline, |overdue| {
                why_overdue(shared, role, led_since, overdue, &quorum_lost)
            })
        };
        self.shared
            .published
            .failed
            .fetch_add(expired as u64, Ordering::Relaxed);
        if expired > 0 {
            self.forget_expired_proposals();
            self.forget_expired_changes();
        }
        self.expire_lease_calls(deadline);
        self.expire_readers(deadline);
    }

    /// Who was told that no leader was found in time must not see the proposal made later; and without a leader the
    /// queue would grow for as long as clients try again.
    fn forget_expired_proposals(&mut self) {
        let counters = std::mem::take(&mut self.counters);
        let queued = counters.into_iter().zip(std::mem::take(&mut self.proposals));
        let waits = |counter: u64| counter == 0 || self.pending.waits(counter);
        (self.counters, self.proposals) = queued.filter(|(counter, _)| waits(*counter)).unzip();
    }
}

/// Why a proposal was not answered in time, as etcd tells it (reference, section 2).
fn why_overdue(
    shared: &Shared,
    role: Role,
    led_since: Instant,
    overdue: Overdue,
    quorum_lost: &dyn Fn(Instant) -> bool,
) -> Unavailable {
    if !overdue.handed {
        return Unavailable::DeadlineExceeded;
    }
    let lost_from = led_since - 2 * shared.settings.election;
    if role.leader.0 != 0 && overdue.since > lost_from && overdue.since < led_since {
        return Unavailable::TimeoutDueToLeaderFail;
    }
    let connection_lost = if role.is_leader {
        quorum_lost(overdue.since)
    } else {
        let connected = shared.transport.connected_since(role.leader);
        role.leader.0 != 0 && connected.is_none_or(|at| at >= overdue.since)
    };
    if connection_lost {
        Unavailable::TimeoutDueToConnectionLost
    } else {
        Unavailable::Timeout
    }
}
