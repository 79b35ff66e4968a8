//! What a run does: data only, so that a failure is a commit and a plan.

use super::world::{MILLISECOND, SECOND, Time};
use crate::nemesis::Intensities;
use crate::rng::Rng;
use crate::traffic::Mix;

/// What a run does. Together with the commit it is the run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything that chance decides.
    pub seed: u64,
    /// How many of the machines, the last ones, are free for members that join.
    pub spares: usize,
    /// Clients that call.
    pub callers: usize,
    /// Clients that watch.
    pub watchers: usize,
    /// What the clients ask.
    pub mix: Mix,
    /// How long there is traffic and trouble.
    pub trouble: Time,
    /// What goes wrong meanwhile.
    pub nemesis: Intensities,
    /// Crash a member right after this many steps of the run, whatever else happens.
    pub crash_at_step: Option<u64>,
    /// The shortest and the longest time that a caller waits for an answer.
    pub patience: (Time, Time),
    /// How long everything may take to be well again.
    pub settle_within: Time,
    /// Wait in the end for all leases to expire.
    pub await_leases: bool,
    /// Users and roles change meanwhile, and half of the calls are a user's.
    pub users: bool,
    /// How many of the last lines of the trace to keep.
    pub trace_lines: usize,
}

impl Plan {
    /// The usual run of a seed with one member.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Plan::of(1, seed)
    }

    /// The usual run of a seed with so many members.
    #[must_use]
    pub fn of(members: usize, seed: u64) -> Self {
        let patience = if members == 1 {
            (8 * SECOND, 8 * SECOND)
        } else {
            // Shorter than the store's own: its errors come only now and then, and callers have more to ask.
            let longest = [100 * MILLISECOND, 500 * MILLISECOND, 2 * SECOND];
            (20 * MILLISECOND, *Rng::stream(seed, STREAM).pick(&longest))
        };
        Plan {
            seed,
            spares: 0,
            callers: 5,
            watchers: 4,
            mix: Mix {
                lease_ttl_max: 3,
                ..Mix::default()
            },
            trouble: if members == 1 { 2 * SECOND } else { 6 * SECOND },
            nemesis: Intensities::draw(seed, members),
            crash_at_step: None,
            patience,
            settle_within: 20 * SECOND,
            await_leases: members > 1 && seed.is_multiple_of(4),
            users: false,
            trace_lines: 0,
        }
    }

    /// The run of a seed in which users and roles change.
    #[must_use]
    pub fn with_users(members: usize, seed: u64) -> Self {
        Plan {
            users: true,
            ..Plan::of(members, seed)
        }
    }

    /// The run of a seed in which members go and others come.
    #[must_use]
    pub fn changing(seed: u64) -> Self {
        Plan {
            spares: MACHINES - founders(seed),
            nemesis: Intensities::draw_changing(seed),
            ..Plan::of(3, seed)
        }
    }
}

/// How many members found a cluster whose members come and go; the other machines are free.
#[must_use]
pub fn founders(seed: u64) -> usize {
    *Rng::stream(seed, FOUNDERS_STREAM).pick(&[1, 2, 3, 3])
}

/// Machines where members come and go.
pub const MACHINES: usize = 6;
/// Keeps the draw of their number apart from others.
const FOUNDERS_STREAM: u64 = (1 << 32) + 3;
/// Keeps the plan's draws apart from those of the clients.
const STREAM: u64 = (1 << 32) + 1;
