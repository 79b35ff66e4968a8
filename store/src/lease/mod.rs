//! Leases: time-limited ownership of keys.
//!
//! Two halves that never mix. The [`Lessor`] is replicated state: which leases exist, their granted TTL and the keys
//! attached; it knows no time. [`Expiry`] is the leader's memory of when each lease ends; it only reports what is
//! due. A revoke is always a replicated request: nobody ends a lease by himself.

mod expiry;
mod lessor;

pub use expiry::{Expiry, Renewal};
pub use lessor::{Lease, Lessor, TTL_MAX_S};
