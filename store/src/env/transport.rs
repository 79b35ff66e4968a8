//! The way to the other members.

use bytes::Bytes;

use super::Instant;
use crate::types::MemberId;

/// Which stream a message travels by. Messages of one class to one member arrive in the order in which they were
/// sent, or not at all; between classes there is no order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// Small and urgent: votes, heartbeats, read indexes, leader transfer, leases.
    Control,
    /// Appends and their answers, and proposals on their way to the leader.
    Log,
    /// Parts of a snapshot.
    Snapshot,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 3] = [Class::Control, Class::Log, Class::Snapshot];
}

/// Sends messages to other members, none of which it understands. It may lose a message and never delivers one twice:
/// after a broken connection nothing is sent again.
pub trait Transport: Send + Sync {
    /// Queues a message. Never waits: `false` says that it was dropped, because the queue is full, the member is not
    /// connected, or it is not known.
    fn send(&self, to: MemberId, class: Class, message: Bytes) -> bool;

    /// Tells which other members there are and where: ids and peer URLs. Replaces what was told before.
    fn set_peers(&self, peers: &[(MemberId, Vec<String>)]);

    /// Since when the member has been connected, by the store's clock; `None` while it is not.
    fn connected_since(&self, peer: MemberId) -> Option<Instant>;
}

/// The transport of a member that has no peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn send(&self, _: MemberId, _: Class, _: Bytes) -> bool {
        false
    }

    fn set_peers(&self, _: &[(MemberId, Vec<String>)]) {}

    fn connected_since(&self, _: MemberId) -> Option<Instant> {
        None
    }
}
