//! What a message on its way between members tells, for networks, checkers and traces.

use bytes::Bytes;
use prost::Message as _;

use crate::shell::envelope::{Body, Envelope};
use crate::types::{MemberId, Term};

/// Whether a message carries proposals on their way to the leader, which no transport may deliver twice.
#[must_use]
pub fn is_proposal(message: &Bytes) -> bool {
    let envelope = Envelope::decode(message.clone());
    matches!(envelope, Ok(Envelope { body: Some(Body::Raft(raft)), .. }) if raft.is_proposal())
}

/// The term that the sender of a message is in, and whom it votes for in that term, as far as the message tells.
#[must_use]
pub fn tells(message: &Bytes) -> Option<(Term, Option<MemberId>)> {
    match Envelope::decode(message.clone()).ok()?.body? {
        Body::Raft(raft) => raft.tells(),
        _ => None,
    }
}

/// A message in one short line, for traces.
#[must_use]
pub fn describe(message: &Bytes) -> String {
    match Envelope::decode(message.clone()).map(|envelope| envelope.body) {
        Ok(Some(Body::Raft(raft))) => raft.describe(),
        Ok(Some(body)) => format!("{body:?}"),
        Ok(None) | Err(_) => "a message of no known kind".to_owned(),
    }
}
