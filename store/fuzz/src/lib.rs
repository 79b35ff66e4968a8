//! Fuzz targets of the engine. Each module has `one_input`, which panics where something is wrong, and `seeds`,
//! inputs made of valid messages to begin with. libFuzzer calls them (`fuzz_targets/`), and so does an ordinary test
//! (`store/tests/fuzz.rs`), which replays the seeds, what was found once (`found/`), and mutations of both.
//!
//! | target | input | what must hold |
//! | --- | --- | --- |
//! | [`requests`] | entries of the log | what passes the checks before a proposal applies without a panic |
//! | [`model`] | requests over a few keys | the answers are those of a naive list of all versions |
//! | [`permissions`] | changes of users and roles | what is allowed is what a naive reading of the rules allows |
//! | [`wal`] | damage to a log | an error, or a beginning of what was written; the log goes on |
//! | [`snapshot`] | damage to a snapshot, or its content | an error, or a state |
//! | [`peers`] | messages of other members | the member goes on, or stops for a reason that it names |

pub mod input;
pub mod model;
#[path = "../../tests/mvcc_model/mod.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "the property tests' model, of which this needs a part"
)]
mod mvcc_model;
pub mod peers;
pub mod permissions;
pub mod replay;
pub mod requests;
pub mod snapshot;
pub mod wal;

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// What it is called here and in `fuzz_targets/`.
    pub name: &'static str,
    /// Judges one input.
    pub one_input: fn(&[u8]),
    /// What to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "model",
        one_input: model::one_input,
        seeds: model::seeds,
    },
    Target {
        name: "peers",
        one_input: peers::one_input,
        seeds: peers::seeds,
    },
    Target {
        name: "permissions",
        one_input: permissions::one_input,
        seeds: permissions::seeds,
    },
    Target {
        name: "requests",
        one_input: requests::one_input,
        seeds: requests::seeds,
    },
    Target {
        name: "snapshot",
        one_input: snapshot::one_input,
        seeds: snapshot::seeds,
    },
    Target {
        name: "wal",
        one_input: wal::one_input,
        seeds: wal::seeds,
    },
];
