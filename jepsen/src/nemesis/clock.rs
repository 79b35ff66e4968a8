//! Clocks: each member's runs at a speed of its own, the same for its ticks and for all that it times.

use crate::rng::Rng;
use crate::sim::world::Time;

/// How fast a clock runs, in percent of true time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Speed(u64);

impl Speed {
    /// A speed between that of true time and `percent_max` of it.
    #[must_use]
    pub fn draw(percent_max: u64, rng: &mut Rng) -> Self {
        Speed(rng.between(100, percent_max.max(100)))
    }

    /// What the clock shows at a true time.
    #[must_use]
    pub const fn shown(self, now: Time) -> Time {
        now / 100 * self.0 + now % 100 * self.0 / 100
    }

    /// How much true time passes while the clock shows that so much has.
    #[must_use]
    pub const fn truly(self, shown: Time) -> Time {
        shown / self.0 * 100 + shown % self.0 * 100 / self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_shows_more_than_passes() {
        let double = Speed(200);
        assert_eq!((double.shown(50), double.truly(100)), (100, 50));
        assert_eq!(Speed::draw(100, &mut Rng::new(1)).shown(12_345), 12_345);
    }
}
