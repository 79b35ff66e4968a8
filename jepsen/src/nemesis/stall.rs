//! Disks that stand still: what is written to the log waits, nothing fails, and all the rest of the member goes on. A
//! leader with such a disk must let another one lead, if there is one.

use super::{Intensities, Order, Sight};
use crate::rng::Rng;

/// One member's.
pub(super) fn stall(intensities: &Intensities, sight: &Sight, rng: &mut Rng) -> Order {
    Order::Stall {
        member: sight.target(rng),
        away: rng.between(1, intensities.stall_max),
    }
}
