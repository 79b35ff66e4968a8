//! Taffrail's engine: a Raft-replicated MVCC key-value store with watches and leases, without gRPC, flags or
//! global state.
//!
//! The rooms, from the words at the bottom to the shell at the top; a room imports only from rooms on lower rows,
//! and `tests/tidy.rs` holds that:
//!
//! | row | rooms |
//! | --- | --- |
//! | 5 | [`shell`]: threads, channels, locks, the public async handle [`Store`] |
//! | 4 | [`consensus`] what is agreed, [`apply`] what it means, [`watch`] who hears of it |
//! | 3 | [`mvcc`] history of keys, [`lease`] time-limited ownership, [`membership`], [`alarm`], [`auth`] |
//! | 2 | [`wal`] the durable log, [`backend`] the durable working copy of the state |
//! | 1 | [`env`](mod@env) clock, disk, entropy |
//! | 0 | [`types`], [`error`] the words |
//!
//! Only `shell` names tokio, only `consensus` names raft-rs, only `backend/sled.rs` names sled.

pub mod alarm;
pub mod apply;
pub mod auth;
pub mod backend;
pub mod consensus;
pub mod env;
pub mod error;
pub mod lease;
pub mod membership;
pub mod mvcc;
pub mod shell;
pub mod types;
pub mod wal;
pub mod watch;

pub use shell::{OpenError, Settings, Store};
