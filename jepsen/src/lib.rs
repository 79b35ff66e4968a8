//! Correctness as a program: the model of etcd, the record of what clients saw, the checkers that compare the two,
//! and the deterministic simulator that produces such records.
//!
//! | room | what |
//! | --- | --- |
//! | [`history`] | calls, returns and watch responses, as clients saw them |
//! | [`model`] | etcd as a small state machine |
//! | [`check`] | linearizability, and one file per watch guarantee |
//! | [`invariants`] | Raft's properties, one file each |
//! | [`nemesis`] | what goes wrong |
//! | [`rng`] | randomness that a seed decides |
//! | [`traffic`] | what clients do |
//! | [`sim`] | the deterministic simulator |

pub mod check;
pub mod history;
pub mod invariants;
pub mod model;
pub mod nemesis;
pub mod rng;
pub mod sim;
pub mod traffic;
