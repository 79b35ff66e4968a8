//! The leadership handed to a member that a caller chose.
//!
//! Raft gives such a transfer up by itself after an election timeout; its caller hears of that, or of a leader that
//! nobody asked for, at the latest after [`ELECTIONS_MAX`] of them.

use super::{Input, Member};
use crate::env::Instant;
use crate::error::{Error, RequestError, Unavailable};
use crate::shell::command::Answer;
use crate::types::MemberId;

/// A caller who waits for another leader.
pub(super) struct Move {
    target: MemberId,
    until: Instant,
    answer: Answer<()>,
}

impl Member {
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
/// Callers that wait at once.
const MOVES_MAX: usize = 64;
