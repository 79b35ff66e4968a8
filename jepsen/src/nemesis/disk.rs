//! Disks: a failed sync, after which the member must stop, since it cannot know what is durable; and empty disks. A member that has lost its disk has lost what the quorums it was part of rest on, so there is at most
//! one such member at a time, until it has caught up again.

use super::{Intensities, Order, Sight};
use crate::rng::Rng;

/// One member's, soon.
pub(super) fn failed_sync(sight: &Sight, rng: &mut Rng) -> Order {
    Order::FailSync {
        member: sight.target(rng),
        syncs: rng.between(1, SYNCS_MAX),
    }
}

/// One member, where none is still without its data.
pub(super) fn wipe(intensities: &Intensities, sight: &Sight, rng: &mut Rng) -> Option<Order> {
    if sight.recovering || sight.up.len() < 3 {
        return None;
    }
    Some(Order::Wipe {
        member: sight.target(rng),
        away: rng.between(1, intensities.away_max),
    })
}

/// The last sync that may fail.
const SYNCS_MAX: u64 = 5;
