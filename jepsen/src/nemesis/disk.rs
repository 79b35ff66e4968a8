//! Empty disks. A member that has lost its disk has lost what the quorums it was part of rest on, so there is at most
//! one such member at a time, until it has caught up again.

use super::{Intensities, Order, Sight};
use crate::rng::Rng;

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
