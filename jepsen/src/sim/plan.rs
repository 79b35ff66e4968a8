//! What a run does: data only, so that a failure is a commit and a plan.

use super::world::{MILLISECOND, SECOND, Time};
use crate::traffic::Mix;

/// What a run does. Together with the commit it is the run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything that chance decides.
    pub seed: u64,
    /// Clients that call.
    pub callers: usize,
    /// Clients that watch.
    pub watchers: usize,
    /// What the clients ask.
    pub mix: Mix,
    /// How long there is traffic and trouble.
    pub trouble: Time,
    /// The mean time between two crashes.
    pub crash_every: Option<Time>,
    /// Crash a member right after this many steps of the run, whatever else happens.
    pub crash_at_step: Option<u64>,
    /// How long everything may take to be well again.
    pub settle_within: Time,
    /// How many of the last lines of the trace to keep.
    pub trace_lines: usize,
}

impl Plan {
    /// The usual run of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Plan {
            seed,
            callers: 5,
            watchers: 4,
            mix: Mix {
                lease_ttl_max: 3,
                ..Mix::default()
            },
            trouble: 2 * SECOND,
            crash_every: Some(150 * MILLISECOND),
            crash_at_step: None,
            settle_within: 20 * SECOND,
            trace_lines: 0,
        }
    }
}
