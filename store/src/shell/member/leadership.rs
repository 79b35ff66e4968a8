//! The leadership handed to another member: to one that a caller chose, or to the best there is where the disk of this
//! member's log stands still, so that the cluster need not wait for it.
//!
//! Raft gives such a transfer up by itself after an election timeout; its caller hears of that, or of a leader that
//! nobody asked for, at the latest after [`ELECTIONS_MAX`] of them.

use std::sync::atomic::Ordering;

use super::{Input, Member};
use crate::env::Instant;
use crate::error::{Error, RequestError, Unavailable};
use crate::shell::command::Answer;
use crate::shell::slow;
use crate::types::MemberId;

/// A caller who waits for another leader.
pub(super) struct Move {
    target: MemberId,
    until: Instant,
    answer: Answer<()>,
}

/// What a member knows of the disk of its log.
#[derive(Default)]
pub(super) struct DiskWatch {
    stalled: bool,
    /// That nobody else can lead was said since it stalled.
    alone_told: bool,
    /// Before this the leadership is not handed over again.
    rests_until: Instant,
}

impl Member {
    /// Looks after the disk of the log. A leader whose disk stands still can apply nothing and answer nobody, and yet its
    /// heartbeats would keep others from leading.
    pub(super) fn watch_disk(&mut self, now: Instant) {
        let published = &self.shared.published;
        let waiting = published.disk.wal_busy.waiting(now);
        let stalled = waiting >= self.shared.settings.stalled_sync();
        if stalled != self.disk.stalled {
            self.disk.stalled = stalled;
            self.disk.alone_told = false;
            self.node.set_stalled(stalled);
            if stalled {
                published.stalled_syncs.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    waiting = slow::go_duration(waiting),
                    "the disk of the log stands still"
                );
            } else {
                tracing::info!("the disk of the log works again");
            }
        }
        let due = stalled && self.node.role().is_leader && now >= self.disk.rests_until;
        if due && !self.node.transferring() {
            self.hand_over_stalled(now);
        }
    }

    fn hand_over_stalled(&mut self, now: Instant) {
        let Some(to) = self.node.able_successor() else {
            if !std::mem::replace(&mut self.disk.alone_told, true) {
                tracing::warn!(
                    "the disk of the log stands still, and no other member can take the leadership over"
                );
            }
            return;
        };
        tracing::warn!(%to, "leadership transfer starting: the disk of the log stands still");
        let published = &self.shared.published;
        published.stall_hand_overs.fetch_add(1, Ordering::Relaxed);
        self.disk.rests_until = now + HAND_OVERS_APART * self.shared.settings.election;
        self.node.step(Input::Transfer(to));
    }

    /// Hands the leadership to `target`, and answers once this member hears that it leads.
    pub(super) fn move_leader(&mut self, target: MemberId, now: Instant, answer: Answer<()>) {
        let judged = match self.judge_move(target) {
            Ok(true) => Ok(()),
            Ok(false) if self.moves.len() >= MOVES_MAX => Err(Unavailable::TooManyRequests.into()),
            Ok(false) => {
                tracing::info!(to = %target, "leadership transfer starting");
                self.node.step(Input::Transfer(target));
                self.moves.push(Move {
                    target,
                    until: now + ELECTIONS_MAX * self.shared.settings.election,
                    answer,
                });
                return;
            }
            Err(error) => Err(error),
        };
        // A caller that has gone away does not want it.
        let _ = answer.send(judged);
    }

    /// Whether the member leads already; else whether it may be asked to, in etcd's order of checks.
    fn judge_move(&self, target: MemberId) -> Result<bool, Error> {
        if !self.node.role().is_leader {
            return Err(Unavailable::NotLeader.into());
        }
        let state = self.shared.state.read();
        let votes = state
            .membership
            .get(target)
            .is_some_and(|member| !member.is_learner);
        if !votes {
            return Err(RequestError::BadLeaderTransferee.into());
        }
        Ok(target == self.shared.member)
    }

    /// Answers those whose leader leads, and those who have waited too long.
    pub(super) fn settle_moves(&mut self, now: Instant) {
        let role = self.node.role();
        let given_up = role.is_leader && !self.node.transferring();
        for asked in std::mem::take(&mut self.moves) {
            let outcome = if role.leader == asked.target {
                tracing::info!(to = %asked.target, "leadership transfer finished");
                Ok(())
            } else if given_up || now >= asked.until {
                Err(Unavailable::LeaderTransferTimeout.into())
            } else {
                self.moves.push(asked);
                continue;
            };
            let _ = asked.answer.send(outcome);
        }
    }

    pub(super) fn fail_moves(&mut self, error: Unavailable) {
        for asked in std::mem::take(&mut self.moves) {
            let _ = asked.answer.send(Err(error.into()));
        }
    }
}

/// How many election timeouts a caller waits: one for the transfer, one for its outcome to get around.
const ELECTIONS_MAX: u32 = 2;
/// How many election timeouts lie between two times that a stalled disk makes this member hand over its leadership: where
/// all disks stall now and then, the leadership must not go round all the time.
const HAND_OVERS_APART: u32 = 5;
/// Callers that wait at once.
const MOVES_MAX: usize = 64;
