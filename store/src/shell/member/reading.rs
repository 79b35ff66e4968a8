//! Who waits for a read index, and what they do with it.

use std::sync::atomic::Ordering;

use super::leases::LeaseCall;
use super::{Input, Member};
use crate::env::Instant;
use crate::error::Unavailable;
use crate::shell::command::Answer;
use crate::shell::slow;
use crate::types::{Index, MemberId};

/// Somebody waiting for a read index, and since when.
pub(super) struct Reader {
    pub(super) since: Instant,
    pub(super) goal: Goal,
}

/// What for.
pub(super) enum Goal {
    /// A read of the state.
    Read(Answer<()>),
    /// A question about a lease, answered here if this member leads.
    Lease(LeaseCall),
    /// The answer to such a question is known, and this member is not yet as far as the leader that gave it.
    Tell(Answer<i64>, i64, Index),
    /// This member is as far as this index.
    Applied(Answer<()>, Index),
    /// A member of this incarnation, without a disk, wants a snapshot.
    Recover(MemberId, u64),
}

impl Member {
    pub(super) fn ask_read_index(&mut self, now: Instant) {
        if self.node.role().leader.0 != 0
            && let Some(context) = self.reads.begin(now)
        {
            self.node.step(Input::ReadIndex(context));
        }
    }

    /// Gives up a round that nobody answers: its readers join the next.
    pub(super) fn give_up_round(&mut self, now: Instant) {
        if let Some(context) = self.reads.give_up(now - READ_ROUND_MAX) {
            tracing::warn!(
                "sent-request-id" = context,
                "retry-timeout" = slow::go_duration(READ_ROUND_MAX),
                "waiting for ReadIndex response took too long, retrying"
            );
        }
    }

    pub(super) fn serve_readers(&mut self, now: Instant) {
        let mut readers = std::mem::take(&mut self.readers);
        self.reads.take_applied(self.applied, &mut readers);
        for reader in readers.drain(..) {
            match reader.goal {
                Goal::Read(answer) | Goal::Applied(answer, _) => drop(answer.send(Ok(()))),
                Goal::Lease(call) => self.lease_confirmed(call, now),
                Goal::Tell(answer, ttl_s, _) => drop(answer.send(Ok(ttl_s))),
                Goal::Recover(member, incarnation) => {
                    if self.leads_applied {
                        self.recover(member, incarnation);
                    }
                }
            }
        }
        self.readers = readers;
    }

    /// A new leader: what a round under the old one said is no longer to be trusted.
    pub(super) fn leader_changed(&mut self, now: Instant) {
        let mut readers = std::mem::take(&mut self.readers);
        self.reads.take_all(&mut readers);
        if !readers.is_empty() {
            let failed = &self.shared.published.failed_read_indexes;
            failed.fetch_add(1, Ordering::Relaxed);
        }
        for reader in readers.drain(..) {
            match reader.goal {
                Goal::Read(answer) => drop(answer.send(Err(Unavailable::LeaderChanged.into()))),
                Goal::Lease(call) => self.lease_call(call, now),
                // It rests on an index that is committed, whoever leads.
                Goal::Tell(answer, ttl_s, index) => self.tell_at(index, reader.since, answer, ttl_s),
                Goal::Applied(answer, index) => {
                    let (since, goal) = (reader.since, Goal::Applied(answer, index));
                    self.reads.join_at(index, Reader { since, goal });
                }
                // It asks again.
                Goal::Recover(..) => {}
            }
        }
        self.readers = readers;
    }

    pub(super) fn expire_readers(&mut self, deadline: Instant) {
        let mut readers = std::mem::take(&mut self.readers);
        self.reads
            .take_expired(|reader| reader.since < deadline, &mut readers);
        if !readers.is_empty() {
            tracing::warn!(
                timeout = slow::go_duration(self.shared.settings.request_timeout()),
                "timed out waiting for read index response (local node might have slow network)"
            );
            let slow = &self.shared.published.slow_read_indexes;
            slow.fetch_add(1, Ordering::Relaxed);
        }
        for reader in readers.drain(..) {
            fail(reader.goal, Unavailable::Timeout);
        }
        self.readers = readers;
    }

    pub(super) fn fail_readers(&mut self, error: Unavailable) {
        let mut readers = std::mem::take(&mut self.readers);
        self.reads.take_all(&mut readers);
        for reader in readers.drain(..) {
            fail(reader.goal, error);
        }
        self.readers = readers;
    }

    /// Tells the caller of a question about a lease once this member is as far as the leader was.
    pub(super) fn tell_at(&mut self, index: Index, since: Instant, answer: Answer<i64>, ttl_s: i64) {
        let goal = Goal::Tell(answer, ttl_s, index);
        self.reads.join_at(index, Reader { since, goal });
    }
}

fn fail(goal: Goal, error: Unavailable) {
    match goal {
        Goal::Read(answer) | Goal::Applied(answer, _) => drop(answer.send(Err(error.into()))),
        Goal::Lease(call) => call.fail(error),
        Goal::Tell(answer, ..) => drop(answer.send(Err(error.into()))),
        Goal::Recover(..) => {}
    }
}

/// How long a read index round may go unanswered before its readers join a new one (etcd reference 1.0).
const READ_ROUND_MAX: std::time::Duration = std::time::Duration::from_millis(500);
