//! Load generation for any etcd v3 endpoint, behind the binary `load`.
//!
//! Owns the measuring: what an operation is, how its latency is taken, what the server's processor time is divided by.
//! It must never know which server it talks to; whatever it asks is public etcd API, and both sides of a comparison get
//! the same flags and the same load. Only [`kubernetes`] knows: what it measures is Taffrail's adapter.
//!
//! - [`spec`]: one run as plain data; [`args`] makes it from the command line.
//! - [`transport`]: gRPC over `h2`, thin, because the generator shares one core with nothing and must not be the limit.
//! - [`run`]: connect, prefill, warm up, measure; `worker` is one client's operation, `watch` the one load that is
//!   not request and answer.
//! - `tally`, [`report`], [`process`]: latencies, the closing table, the server's processor time and memory.
//! - `cluster`: servers of the generator's own, one member or several.
//! - [`catch_up`]: what it costs the writers that a member comes back.
//! - [`churn`]: what changes of the cluster cost the writers.
//! - [`auth`]: what authentication costs, and what logins cost the others.
//! - [`compare`]: two servers in turns under the same loads.
//! - [`kubernetes`]: what the Kubernetes adapter costs, and whether its watchers see everything.

pub mod args;
pub mod auth;
pub mod catch_up;
pub mod churn;
pub mod cluster;
pub mod compare;
mod error;
mod interrupt;
mod keys;
pub mod kubernetes;
pub mod process;
mod progress;
pub mod report;
pub mod run;
pub mod spec;
mod tally;
pub mod transport;
mod watch;
mod worker;

pub use error::Error;
