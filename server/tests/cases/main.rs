//! The reference's corner cases, and the services that a test can know every answer of. Tests share few binaries because
//! each takes a hundred megabytes of disk and half a minute of linking; those that want the machine for themselves have
//! one of their own.

#[path = "../harness/mod.rs"]
mod harness;

mod auth;
mod auth_holes;
mod auth_matrix;
mod auth_rules;
mod auth_tokens;
mod backup;
mod election;
mod errors;
mod hash;
mod lease;
mod lock;
mod maintenance;
mod members;
mod quorum;
mod range;
mod revisions;
mod txn;
mod watch;
mod wire;
