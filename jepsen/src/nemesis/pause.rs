//! Standing still, as a process under SIGSTOP or a machine that is being moved: no steps and no ticks, what is sent
//! to it waits, and when it goes on its clock has jumped.

use super::{Intensities, Order, Sight};
use crate::rng::Rng;

/// One member.
pub(super) fn pause(intensities: &Intensities, sight: &Sight, rng: &mut Rng) -> Order {
    Order::Pause {
        member: sight.target(rng),
        away: rng.between(1, intensities.pause_max),
    }
}
