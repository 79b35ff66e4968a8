//! The deterministic simulator: members, clients, disk, network and time on one thread, in an order drawn from a seed.
//!
//! | file | what |
//! | --- | --- |
//! | [`world`] | time, the queue of what happens next, randomness, the trace |
//! | [`member`] | what a member is to the simulator: the seam that the store's actors are bound to |
//! | [`engine`] | the engine as a member |
//! | [`network`] | delays, losses and partitions between members |
//! | [`clients`] | calling and watching clients, and the record of what they saw |
//! | [`users`] | users and roles that change meanwhile |
//! | [`plan`], [`report`] | what a run does, and what came of it |
//! | [`run`](mod@run) | one run: traffic under trouble, then peace and the demand for progress, then the checks |
//!
//! A run is (commit, seed, plan): the same three give the same trace, to the last bit. So nothing in here reads a clock, draws
//! from anything but [`crate::rng`], or iterates in hash order.

pub mod clients;
pub mod engine;
pub mod member;
pub mod network;
pub mod plan;
pub mod report;
pub mod run;
pub mod users;
pub mod world;

pub use member::Member;
pub use plan::Plan;
pub use report::{Failure, Record, RunReport};
pub use run::{record, run};
