//! A member, as the simulator sees it: the seam to which the store's actors are bound.
//!
//! A member owns its actors, its mailboxes and its disk, and no thread: it does something only inside
//! [`Member::step`], one step of one actor at a time, so that the simulator can crash it between any two. What it wants to tell the
//! outside it collects for [`Member::take_outputs`].

use bytes::Bytes;
use proto::etcdserverpb::{WatchRequest, WatchResponse};
use proto::mvccpb::Event;
use store::env::Class;
use store::shell::Join;
use store::types::MemberId;

use super::users::UserChange;
use super::world::Time;
use crate::history::Outcome;
use crate::invariants::{Seen, Told};
use crate::model::{Answer, Request};
use crate::rng::Rng;

/// A member's place in the run, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MemberNumber(pub usize);

/// Tells the calls of a run apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

/// Tells the watch streams of a run apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// What came of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// There was nothing to do; there will be when something comes in or time passes.
    Idle,
    /// An actor did one step.
    Worked,
    /// The member stopped itself, or ran into the crash it was armed with; only [`Member::crash`] and
    /// [`Member::start`] bring it back.
    Died {
        /// Why.
        reason: String,
        /// Whether the run asked for it (an armed crash, a fault of the disk); otherwise it is a finding.
        expected: bool,
    },
}

/// What a member tells the outside.
#[derive(Clone, Debug)]
pub enum Output {
    /// The answer to a call.
    Answer {
        /// Which call.
        call: Token,
        /// `Failed` only where it certainly had no effect.
        outcome: Outcome<Answer>,
    },
    /// A response on a watch stream.
    Watch {
        /// Which stream.
        stream: StreamId,
        /// The response.
        response: WatchResponse,
    },
    /// A revision was applied here: all its events, in order, with `prev_kv`. Told again after a replay.
    Applied {
        /// Its events.
        events: Vec<Event>,
    },
    /// The answer to an operator.
    Administered {
        /// Which question.
        asked: Token,
        /// The answer.
        answer: Administered,
    },
    /// It was removed from the cluster for good, and its process would end.
    Removed,
    /// A message for another member.
    Send {
        /// For whom.
        to: MemberNumber,
        /// By which stream.
        class: Class,
        /// The encoded message.
        message: Bytes,
        /// It must not be delivered twice.
        once: bool,
        /// What it tells of this member's Raft, where it does.
        told: Option<Told>,
    },
}

/// What an operator asks of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Administration {
    /// Who the members are.
    List {
        /// As of now, or as far as the member knows.
        linearizable: bool,
    },
    /// A new member with this peer URL.
    Add {
        /// Where it will be.
        url: String,
        /// Without a vote.
        learner: bool,
    },
    /// A vote for a learner.
    Promote(MemberId),
    /// One member less.
    Remove(MemberId),
    /// Other users or roles.
    Users(UserChange),
}

/// What a member answers to an operator.
#[derive(Clone, Debug)]
pub enum Administered {
    /// The members, after the change if it was one.
    Members(Join),
    /// Users or roles have changed.
    Done,
    /// It was not done.
    Refused(String),
    /// Perhaps it was done.
    Unknown,
}

/// etcd's hash of a history, which can be compared with others above the same compaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    /// The revision that the history begins after.
    pub compacted: i64,
    /// The hash.
    pub hash: u32,
    /// And one of users and roles, which have no history.
    pub users: u64,
}

/// A member.
pub trait Member {
    /// Starts it on whatever its disk holds. It is not running: fresh, or after [`Member::crash`].
    fn start(&mut self, now: Time) -> Result<(), String>;

    /// Takes its power: memory is gone, the disk keeps what was synced and, as chance decides, parts of the rest,
    /// the last write torn.
    fn crash(&mut self, rng: &mut Rng);

    /// Lets the disk take the member's power after so many more operations (writes, syncs, renames), in the middle of a
    /// step. A restart disarms it.
    fn arm_crash(&mut self, disk_operations: u64);

    /// Lets the sync of a file of this number from now (1 is the next) fail. A restart disarms it.
    fn fail_sync(&mut self, syncs: u64);

    /// Lets the write of this number from now (1 is the next) fail. A restart disarms it. A member without a disk of its
    /// own has none that fails, here and below.
    fn fail_write(&mut self, _writes: u64) {}

    /// Leaves so many bytes of its disk; none: all it wants.
    fn fill(&mut self, _room: Option<u64>) {}

    /// While it has no power: changes something that its disk had confirmed; whether there was anything.
    fn rot(&mut self, _rng: &mut Rng) -> bool {
        false
    }

    /// Takes its disk too: it comes back with an empty one, told that its cluster runs already.
    fn wipe(&mut self);

    /// Takes a client's call in.
    fn call(&mut self, call: Token, request: Request);

    /// The client of a call has gone; the call may have its effect all the same.
    fn abandon(&mut self, call: Token);

    /// Takes a message of a client's watch stream in; the first one opens the stream.
    fn watch(&mut self, stream: StreamId, request: WatchRequest);

    /// Takes note that a client's watch stream is gone.
    fn close(&mut self, stream: StreamId);

    /// Takes a message of another member in.
    fn receive(&mut self, from: MemberNumber, message: Bytes);

    /// Tells that the connection to another member stands, or is broken.
    fn connect(&mut self, peer: MemberNumber, connected: bool);

    /// Asks it to hand over the leadership, if it leads.
    fn hand_over(&mut self, now: Time);

    /// Lets the disk stand still until then: what it is given to do waits. A restart ends that.
    fn stall(&mut self, _until: Time) {}

    /// Tells that time has passed.
    fn tick(&mut self, now: Time);

    /// Lets one actor do one step; which one, where several could, is drawn.
    fn step(&mut self, now: Time, rng: &mut Rng) -> Step;

    /// Hands over what there is to tell, in order.
    fn take_outputs(&mut self) -> Vec<Output>;

    /// Its id, where members have one.
    fn id(&self) -> Option<MemberId> {
        None
    }

    /// Takes an operator's question in.
    fn administer(&mut self, _asked: Token, _what: Administration) {}

    /// Gives it an empty disk, and this peer URL, with which it is one of the members of a cluster that runs. It is not
    /// running.
    fn join(&mut self, _cluster: Join, _url: String) {}

    /// Tells which machine a member is on.
    fn introduce(&mut self, _id: MemberId, _number: MemberNumber) {}

    /// Where its Raft stands, where it runs and has one.
    fn raft(&self) -> Option<Seen> {
        None
    }

    /// A message in one short line, for traces.
    fn describe(&self, message: &Bytes) -> String {
        format!("{} bytes", message.len())
    }

    /// A fingerprint of its history up to a revision, for comparing members that have all applied it.
    fn fingerprint(&mut self, _revision: i64) -> Option<Fingerprint> {
        None
    }
}
