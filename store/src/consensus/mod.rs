//! What is agreed: the Raft log and who leads, by raft-rs. Owns the [`Node`], a synchronous actor: feed it
//! [`Input`]s, then take the [`Effect`]s of the whole batch with [`Node::ready`]. It does no I/O, reads no clock and
//! never blocks; raft-rs's types stay inside this room.
//!
//! Duties of the caller, in order, for each `ready`:
//! 1. [`Effect::Append`]: hand to the log writer; when it is durable, `Input::Persisted` with its number. Appends
//!    are persisted in the order of their numbers; a number stands for all before it.
//! 2. [`Effect::Commit`]: apply the entries in order, then `Input::Applied` with the last index.
//! 3. [`Effect::ReadIndex`]: readers of that context may read once that index is applied.
//!
//! 4. [`Effect::Send`]: send at once, whatever became of the appends before it: the node hands out a message only when
//!    it may go. The leader's appends may go before its own sync (thesis section 10.2.1); a vote or the
//!    acknowledgement of an append is handed out once the append that it rests on is durable.
//! 5. [`Effect::SendSnapshot`], [`Effect::Install`]: see there.
//!
//! A proposal is at most once. One that this member could not append or pass on, for want of a leader or during a
//! transfer, waits here and is tried again; one that was passed on never is.

mod changes;
mod effect;
mod log;
mod logger;
mod node;
mod progress;
mod read_index;
mod stranded;
mod wire;

pub use effect::{Append, Change, Committed, Effect, Input, LogEntry, LogState, Part, Role, Snapshot};
pub use log::{Tail, TailLimits};
pub use node::{Node, NodeConfig, ProposalDropped};
pub use read_index::ReadRounds;
pub use wire::RaftMessage;
