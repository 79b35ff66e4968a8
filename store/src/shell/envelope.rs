//! What members send each other: one message of prost around everything, opaque to the transport. Field numbers are
//! part of the peer protocol, whose version the transport's handshake carries.

use bytes::Bytes;
use prost::Message;

use super::transfers::SnapshotMessage;
use crate::consensus::RaftMessage;

/// A message from one member to another.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Envelope {
    /// Which disk of the sender: rises each time it comes back with an empty one; 0 for the first.
    #[prost(uint64, tag = "1")]
    pub(super) incarnation: u64,
    /// The incarnations that the sender knows of, of members that have lost their disk: who counts its answer also counts
    /// on its knowing them.
    #[prost(message, repeated, tag = "7")]
    pub(super) known: Vec<Known>,
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6, 8, 9")]
    pub(super) body: Option<Body>,
}

/// A member's incarnation.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Known {
    #[prost(uint64, tag = "1")]
    pub(super) member: u64,
    #[prost(uint64, tag = "2")]
    pub(super) incarnation: u64,
}

/// What is in it.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Body {
    #[prost(message, tag = "2")]
    Raft(RaftMessage),
    #[prost(message, tag = "3")]
    LeaseAsk(LeaseAsk),
    #[prost(message, tag = "4")]
    LeaseReply(LeaseReply),
    /// The sender has lost its disk and asks the leader for a snapshot; it names its incarnation.
    #[prost(message, tag = "5")]
    Recover(Recover),
    #[prost(message, tag = "6")]
    Snapshot(SnapshotMessage),
    /// The receiver was removed from the cluster for good.
    #[prost(message, tag = "8")]
    Removed(Removed),
    /// The sender asks whether it was removed: only if so it is answered.
    #[prost(message, tag = "9")]
    AmIRemoved(AmIRemoved),
}

/// A question about a lease, for the leader.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct LeaseAsk {
    /// Tells the questions of a process apart.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(int64, tag = "2")]
    pub(super) lease: i64,
    /// Renew it; otherwise only tell its remaining life.
    #[prost(bool, tag = "3")]
    pub(super) renew: bool,
}

/// The leader's answer to a [`LeaseAsk`].
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct LeaseReply {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// The member asked does not lead: ask another.
    #[prost(bool, tag = "2")]
    pub(super) not_leader: bool,
    /// Seconds; see [`LeaseQuestion`](super::command::LeaseQuestion).
    #[prost(int64, tag = "3")]
    pub(super) ttl_s: i64,
    /// What the leader had applied when it answered.
    #[prost(uint64, tag = "4")]
    pub(super) applied: u64,
}

/// See [`Body::Recover`].
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Recover {}

/// See [`Body::Removed`].
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Removed {}

/// See [`Body::AmIRemoved`].
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct AmIRemoved {}

impl Envelope {
    /// The bytes for the transport.
    pub(super) fn pack(incarnation: u64, known: Vec<Known>, body: Body) -> Bytes {
        let envelope = Envelope {
            incarnation,
            known,
            body: Some(body),
        };
        envelope.encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::transfers::{Ack, Part, Standing};

    /// What a member of a later version may add without a new version of the protocol is passed over.
    #[test]
    fn what_a_later_version_adds_is_ignored() {
        let ack = Ack {
            transfer: 3,
            next_offset: 7,
            standing: 77,
            gap: false,
            leader_term: 2,
        };
        let body = Body::Snapshot(SnapshotMessage {
            part: Some(Part::Ack(ack.clone())),
        });
        let mut bytes = Envelope::pack(5, Vec::new(), body.clone()).to_vec();
        // A field of a number that nobody knows here: a string, then a number.
        bytes.extend_from_slice(&[0xfa, 0x06, 2, b'h', b'i', 0xf8, 0x06, 1]);
        let known = Envelope::decode(&bytes[..]).unwrap();
        assert_eq!((known.incarnation, known.body), (5, Some(body)));
        assert_eq!(
            ack.standing(),
            Standing::Receiving,
            "an outcome nobody knows is none yet"
        );
        // A kind of message that nobody knows here.
        let strange = Envelope::decode(&[0x08, 5, 0xa2, 0x06, 2, 1, 2][..]).unwrap();
        assert_eq!((strange.incarnation, strange.body), (5, None));
    }
}
