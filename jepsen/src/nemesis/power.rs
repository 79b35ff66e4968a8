//! Power: what was not synced is lost, and the last write may be torn.

use super::{Intensities, Order, Sight};
use crate::rng::Rng;

/// One member: between two steps, or in the middle of one of its next disk operations.
pub(super) fn crash(intensities: &Intensities, sight: &Sight, rng: &mut Rng) -> Order {
    let member = sight.target(rng);
    if rng.once_in(2) {
        return Order::Arm {
            member,
            disk_operations: rng.between(1, ARMED_OPERATIONS_MAX),
        };
    }
    Order::Crash {
        member,
        away: rng.between(1, intensities.away_max),
    }
}

/// All members at once; each comes back in its own time.
pub(super) fn blackout(intensities: &Intensities, sight: &Sight, rng: &mut Rng) -> Vec<Order> {
    let crash = |member| Order::Crash {
        member,
        away: rng.between(1, intensities.away_max),
    };
    sight.members().map(crash).collect()
}

/// The last disk operation at which an armed crash may strike.
const ARMED_OPERATIONS_MAX: u64 = 12;
