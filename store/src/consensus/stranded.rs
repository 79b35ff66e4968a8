//! Proposals that found no leader to take them, and reads that came before the first commit of a term: they wait here
//! and are tried again. What was appended, or handed to the transport, never comes here: a proposal is at most once.

use raft::StateRole;
use raft::eraftpb::Message;

use super::node::Node;
use super::wire::{self, RaftMessage};

/// A message with proposals that nobody could take.
pub(super) struct Stranded {
    message: Message,
    bytes: usize,
    /// When it is thrown away.
    until_tick: u64,
}

impl Node {
    /// A message with proposals could not be sent.
    pub(super) fn undelivered(&mut self, message: RaftMessage) {
        if let Some(message) = wire::to_raft(message) {
            self.lost_leader = self.raw.raft.leader_id;
            self.strand(message);
        }
    }

    /// Keeps proposals for a leader to come. How long, it remembers in a field that such messages do not use
    /// otherwise, so that trying again does not make it longer.
    pub(super) fn strand(&mut self, message: Message) {
        let bytes = message.get_entries().iter().map(|entry| entry.data.len()).sum();
        let waiting: usize = self.stranded.iter().map(|stranded| stranded.bytes).sum();
        if self.stranded.len() >= STRANDED_MAX || waiting + bytes > STRANDED_BYTES_MAX {
            return;
        }
        let until_tick = match message.request_snapshot {
            0 => self.ticks + ELECTIONS_MAX * self.election_ticks() as u64,
            until => until,
        };
        self.stranded.push_back(Stranded {
            message,
            bytes,
            until_tick,
        });
    }

    /// Throws away what has waited too long.
    pub(super) fn expire_stranded(&mut self) {
        let now = self.ticks;
        self.stranded.retain(|stranded| stranded.until_tick >= now);
    }

    /// Tries again what had to wait.
    pub(super) fn retry(&mut self) {
        let raft = &self.raw.raft;
        if !self.early_reads.is_empty() && (raft.state != StateRole::Leader || raft.commit_to_current_term())
        {
            for message in std::mem::take(&mut self.early_reads) {
                self.message(message);
            }
        }
        let reachable = self.raw.raft.leader_id != self.lost_leader;
        if !self.stranded.is_empty() && reachable && self.takes_proposals() {
            for mut stranded in std::mem::take(&mut self.stranded) {
                stranded.message.request_snapshot = stranded.until_tick;
                self.message(stranded.message);
            }
        }
    }
}

/// How many election timeouts a proposal waits for a leader: about as long as its caller.
const ELECTIONS_MAX: u64 = 5;
/// Messages with proposals that wait for a leader, and their bytes.
const STRANDED_MAX: usize = 1024;
const STRANDED_BYTES_MAX: usize = 64 << 20;
