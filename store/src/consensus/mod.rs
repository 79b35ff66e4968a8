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
//! Deliberately absent: peers. With one voter raft-rs has nobody to write to; the node asserts that.

mod effect;
mod log;
mod logger;
mod node;
mod read_index;

pub use effect::{Append, Committed, Effect, Input, LogEntry, LogState, Part, Role};
pub use log::{Tail, TailLimits};
pub use node::{Node, NodeConfig, ProposalDropped};
pub use read_index::ReadRounds;
