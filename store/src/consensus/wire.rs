//! Raft's messages on their way between members: raft-rs's own types mapped to a prost message of ours, since the
//! protobuf runtime that raft-rs brings decodes nested messages without a limit. Field numbers are part of the peer
//! protocol; the transport's handshake carries its version.

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};

use super::log::{kind_of, to_type};
use crate::env::Class;
#[cfg(any(test, feature = "sim"))]
use crate::types::Term;
use crate::types::{EntryKind, MemberId};

/// One Raft message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RaftMessage {
    /// raft-rs's number of the message's type.
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(uint64, tag = "3")]
    from: u64,
    #[prost(uint64, tag = "4")]
    term: u64,
    #[prost(uint64, tag = "5")]
    log_term: u64,
    #[prost(uint64, tag = "6")]
    index: u64,
    #[prost(message, repeated, tag = "7")]
    entries: Vec<WireEntry>,
    #[prost(uint64, tag = "8")]
    commit: u64,
    #[prost(uint64, tag = "9")]
    commit_term: u64,
    #[prost(bool, tag = "10")]
    reject: bool,
    #[prost(uint64, tag = "11")]
    reject_hint: u64,
    #[prost(bytes = "bytes", tag = "12")]
    context: Bytes,
    #[prost(uint64, tag = "13")]
    request_snapshot: u64,
}

/// An entry in a message.
#[derive(Clone, PartialEq, prost::Message)]
struct WireEntry {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
    /// The number of its kind.
    #[prost(uint32, tag = "4")]
    kind: u32,
}

impl RaftMessage {
    /// The member that it is for.
    #[must_use]
    pub fn to(&self) -> MemberId {
        MemberId(self.to)
    }

    /// The stream that it travels by.
    #[must_use]
    pub fn class(&self) -> Class {
        match sent_type(self.kind) {
            Some(MessageType::MsgAppend | MessageType::MsgAppendResponse | MessageType::MsgPropose) => {
                Class::Log
            }
            _ => Class::Control,
        }
    }

    /// Whether a message from `sender` may say what it says: only what is passed on to the leader comes from a third.
    #[must_use]
    pub fn is_of(&self, sender: MemberId) -> bool {
        let passed_on = [
            MessageType::MsgPropose,
            MessageType::MsgReadIndex,
            MessageType::MsgTransferLeader,
        ];
        self.from == sender.0 || passed_on.iter().any(|kind| *kind as i32 == self.kind)
    }

    /// Whether it is the leader's sign of life.
    #[must_use]
    pub fn is_heartbeat(&self) -> bool {
        self.kind == MessageType::MsgHeartbeat as i32
    }

    /// Whether it brings new entries from the leader.
    #[must_use]
    pub fn brings_entries(&self) -> bool {
        self.kind == MessageType::MsgAppend as i32 && !self.entries.is_empty()
    }

    /// The entries that are to go into the log, as far as their kind is known. (What a read index carries is none.)
    pub fn log_entries(&self) -> impl Iterator<Item = (EntryKind, &Bytes)> {
        let log = [MessageType::MsgPropose, MessageType::MsgAppend];
        let log = log.iter().any(|kind| *kind as i32 == self.kind);
        let known = |entry: &WireEntry| u8::try_from(entry.kind).ok().and_then(EntryKind::of);
        let entries = if log { &self.entries[..] } else { &[] };
        entries
            .iter()
            .filter_map(move |entry| Some((known(entry)?, &entry.data)))
    }

    /// Whether it carries proposals, which must not be delivered twice.
    #[must_use]
    pub fn is_proposal(&self) -> bool {
        self.kind == MessageType::MsgPropose as i32
    }

    /// The term that its sender is in, and whom it votes for in that term, as far as the message tells.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn tells(&self) -> Option<(Term, Option<MemberId>)> {
        let vote = match sent_type(self.kind)? {
            // About a term that nobody is in yet.
            MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse => return None,
            MessageType::MsgRequestVote => Some(MemberId(self.from)),
            MessageType::MsgRequestVoteResponse if !self.reject => Some(MemberId(self.to)),
            _ => None,
        };
        // A proposal passed on belongs to no term.
        (self.term != 0).then_some((Term(self.term), vote))
    }

    /// The message in one short line, for traces.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn describe(&self) -> String {
        let kind = sent_type(self.kind).map_or_else(|| self.kind.to_string(), |kind| format!("{kind:?}"));
        let entries: Vec<_> = self
            .entries
            .iter()
            .map(|entry| format!("{}@{}", entry.index, entry.term))
            .collect();
        let refused = if self.reject {
            format!(" refused, hint {}", self.reject_hint)
        } else {
            String::new()
        };
        format!(
            "{kind} term {} after {}@{} commit {} entries {entries:?}{refused}",
            self.term, self.index, self.log_term, self.commit
        )
    }
}

/// Takes a message of raft-rs apart. Snapshots go another way.
pub(super) fn from_raft(mut message: Message) -> RaftMessage {
    RaftMessage {
        kind: message.get_msg_type() as i32,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message
            .take_entries()
            .into_iter()
            .map(|entry| WireEntry {
                kind: kind_of(&entry) as u32,
                term: entry.term,
                index: entry.index,
                data: entry.data,
            })
            .collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.take_context(),
        request_snapshot: message.request_snapshot,
    }
}

/// Puts a message for raft-rs together; `None` for what no member sends: raft-rs takes much for granted, and would panic.
pub(super) fn to_raft(message: RaftMessage) -> Option<Message> {
    let kind = sent_type(message.kind)?;
    let needs_entries = matches!(
        kind,
        MessageType::MsgPropose | MessageType::MsgReadIndex | MessageType::MsgReadIndexResp
    );
    if needs_entries && message.entries.is_empty() || kind == MessageType::MsgAppend && !follows(&message) {
        return None;
    }
    // What is passed on to the leader belongs to no term, anything else to one; and there is always a next one.
    let passed_on = matches!(kind, MessageType::MsgPropose | MessageType::MsgReadIndex);
    if passed_on != (message.term == 0) || message.term > TERM_MAX {
        return None;
    }
    let mut raft = Message::default();
    raft.set_msg_type(kind);
    raft.to = message.to;
    raft.from = message.from;
    raft.term = message.term;
    raft.log_term = message.log_term;
    raft.index = message.index;
    let entries: Option<Vec<_>> = message.entries.iter().map(to_entry).collect();
    raft.set_entries(entries?.into());
    raft.commit = message.commit;
    raft.commit_term = message.commit_term;
    raft.reject = message.reject;
    raft.reject_hint = message.reject_hint;
    raft.context = message.context;
    raft.request_snapshot = message.request_snapshot;
    Some(raft)
}

/// Whether the entries of an append stand in their order after the one that it names, none of a term to come. Only before
/// the first entry is there no term: raft-rs would find it wherever its log has no entry.
fn follows(message: &RaftMessage) -> bool {
    if (message.index == 0) != (message.log_term == 0) || message.log_term > message.term {
        return false;
    }
    let mut before = (message.index, message.log_term);
    message.entries.iter().all(|entry| {
        let (index, term) = std::mem::replace(&mut before, (entry.index, entry.term));
        index.checked_add(1) == Some(entry.index) && (term..=message.term).contains(&entry.term)
    })
}

/// The type of a number, if members send it. Snapshots go another way, and the rest is what a member says to itself.
fn sent_type(number: i32) -> Option<MessageType> {
    SENT_TYPES.into_iter().find(|kind| *kind as i32 == number)
}

fn to_entry(entry: &WireEntry) -> Option<Entry> {
    let mut raft = Entry::default();
    let kind = u8::try_from(entry.kind).ok().and_then(EntryKind::of)?;
    raft.set_entry_type(to_type(kind));
    raft.term = entry.term;
    raft.index = entry.index;
    // A copy of its own: a slice would keep the whole message in memory for as long as one value of it lives.
    raft.data = Bytes::copy_from_slice(&entry.data);
    Some(raft)
}

/// No cluster gets there; beyond it counting elections would overflow.
const TERM_MAX: u64 = u64::MAX / 2;
const SENT_TYPES: [MessageType; 13] = [
    MessageType::MsgPropose,
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTransferLeader,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];
