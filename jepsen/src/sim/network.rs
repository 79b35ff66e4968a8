//! The network between members: each message takes its own time, some are lost, some come twice, and links may be
//! blocked one way. Rougher than the ordered streams that members really use, on purpose: Raft must not need the order.

use std::collections::BTreeSet;

use super::member::MemberNumber;
use super::world::{MICROSECOND, MILLISECOND, Time};
use crate::rng::Rng;

/// A direction between two members: from, to.
pub type Link = (MemberNumber, MemberNumber);

/// How rough the network is; once in so many messages, 0 for never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weather {
    /// The longest way of most messages.
    pub delay_max: Time,
    /// How often a message takes long.
    pub slow_in: u64,
    /// The longest way of such a message.
    pub slow_max: Time,
    /// How often a message is lost.
    pub drop_in: u64,
    /// How often a message comes twice.
    pub duplicate_in: u64,
}

impl Weather {
    /// Nothing is lost and nothing takes long.
    pub const CALM: Weather = Weather {
        delay_max: 2 * MILLISECOND,
        slow_in: 0,
        slow_max: 0,
        drop_in: 0,
        duplicate_in: 0,
    };

    /// The weather of a run: calm in some, rough in others.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        Weather {
            delay_max: *rng.pick(&[MILLISECOND, 3 * MILLISECOND, 10 * MILLISECOND]),
            slow_in: *rng.pick(&[0, 1000, 100, 20]),
            slow_max: *rng.pick(&[50 * MILLISECOND, 400 * MILLISECOND]),
            drop_in: *rng.pick(&[0, 500, 50, 10]),
            duplicate_in: *rng.pick(&[0, 100, 10]),
        }
    }
}

/// What the network did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Messages handed in.
    pub sent: u64,
    /// Messages lost, by chance or on a blocked link.
    pub dropped: u64,
    /// Messages that came twice.
    pub duplicated: u64,
}

/// The network.
#[derive(Debug)]
pub struct Network {
    weather: Weather,
    blocked: BTreeSet<Link>,
    traffic: Traffic,
}

impl Network {
    /// A network in which nothing is blocked yet.
    #[must_use]
    pub const fn new(weather: Weather) -> Self {
        Network {
            weather,
            blocked: BTreeSet::new(),
            traffic: Traffic {
                sent: 0,
                dropped: 0,
                duplicated: 0,
            },
        }
    }

    /// After which times a message arrives: none where it is lost, two where it comes twice (`once` forbids it).
    pub fn send(&mut self, link: Link, once: bool, rng: &mut Rng) -> Vec<Time> {
        self.traffic.sent += 1;
        if self.blocked.contains(&link) || strikes(rng, self.weather.drop_in) {
            self.traffic.dropped += 1;
            return Vec::new();
        }
        let mut arrivals = vec![self.way(rng)];
        if !once && strikes(rng, self.weather.duplicate_in) {
            self.traffic.duplicated += 1;
            arrivals.push(self.way(rng));
        }
        arrivals
    }

    /// Whether a message on its way still arrives; a link blocked meanwhile takes it.
    pub fn arrives(&mut self, link: Link) -> bool {
        let open = !self.blocked.contains(&link);
        self.traffic.dropped += u64::from(!open);
        open
    }

    /// Whether a connection between two members would stand.
    #[must_use]
    pub fn connects(&self, (from, to): Link) -> bool {
        !self.blocked.contains(&(from, to)) && !self.blocked.contains(&(to, from))
    }

    /// Blocks these links and no others.
    pub fn block(&mut self, links: BTreeSet<Link>) {
        self.blocked = links;
    }

    /// From now on the weather is calm and no link is blocked.
    pub fn heal(&mut self) {
        self.blocked.clear();
        self.weather = Weather::CALM;
    }

    /// What happened so far.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn way(&self, rng: &mut Rng) -> Time {
        let longest = if strikes(rng, self.weather.slow_in) {
            self.weather.slow_max
        } else {
            self.weather.delay_max
        };
        rng.between(20 * MICROSECOND, longest)
    }
}

fn strikes(rng: &mut Rng, once_in: u64) -> bool {
    once_in > 0 && rng.once_in(once_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = (MemberNumber(0), MemberNumber(1));

    #[test]
    fn a_calm_network_loses_nothing_and_repeats_nothing() {
        let (mut network, mut rng) = (Network::new(Weather::CALM), Rng::new(1));
        assert!((0..1000).all(|_| network.send(LINK, false, &mut rng).len() == 1));
        assert_eq!(network.traffic().sent, 1000);
        assert_eq!(network.traffic().dropped + network.traffic().duplicated, 0);
    }

    #[test]
    fn a_rough_one_does_both_but_repeats_no_proposal() {
        let weather = Weather {
            drop_in: 4,
            duplicate_in: 4,
            ..Weather::CALM
        };
        let (mut network, mut rng) = (Network::new(weather), Rng::new(1));
        let lengths: BTreeSet<_> = (0..100)
            .map(|_| network.send(LINK, false, &mut rng).len())
            .collect();
        assert_eq!(lengths, BTreeSet::from([0, 1, 2]));
        assert!((0..100).all(|_| network.send(LINK, true, &mut rng).len() < 2));
    }

    #[test]
    fn a_block_has_a_direction_and_takes_what_is_on_its_way() {
        let (mut network, mut rng) = (Network::new(Weather::CALM), Rng::new(1));
        network.block(BTreeSet::from([LINK]));
        assert!(network.send(LINK, false, &mut rng).is_empty() && !network.arrives(LINK));
        let back = (LINK.1, LINK.0);
        assert!(!network.send(back, false, &mut rng).is_empty() && network.arrives(back));
        network.heal();
        assert!(network.arrives(LINK));
        assert_eq!(network.traffic().dropped, 2);
    }
}
