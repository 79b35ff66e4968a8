//! So many of something at once: of connections as many as there are descriptors for, less what the store needs. While
//! there are plenty, anybody has as many as it likes, since a balancer in front has all of them. When they run short,
//! whoever has half of them by itself gets no more, so that others still get in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Reason, TurnedAway};

/// The connections of one kind of port, or the calls that wait for their message.
pub(crate) struct Seats {
    max: usize,
    /// Why none is given: there are no more, or the address has its share.
    reasons: [Reason; 2],
    open: Mutex<Open>,
    away: Arc<TurnedAway>,
}

#[derive(Default)]
struct Open {
    all: usize,
    /// Entries are as many as there are seats at most.
    by_address: HashMap<Option<IpAddr>, usize>,
}

/// One of them, until it is dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    address: Option<IpAddr>,
}

impl Seats {
    pub(crate) fn new(max: usize, reasons: [Reason; 2], away: Arc<TurnedAway>) -> Arc<Seats> {
        Arc::new(Seats {
            max,
            reasons,
            open: Mutex::default(),
            away,
        })
    }

    /// A seat for `address`, if there is one.
    pub(crate) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Seat> {
        let address = address.map(network);
        let mut open = self.open.lock();
        let own = open.by_address.get(&address).copied().unwrap_or(0);
        let short = open.all >= self.max - self.max / SHORT_PART;
        let [none_left, shared_out] = self.reasons;
        let reason = if open.all >= self.max {
            Some(none_left)
        } else {
            (short && own >= self.max / 2).then_some(shared_out)
        };
        if let Some(reason) = reason {
            drop(open);
            self.away.count(reason);
            return None;
        }
        open.all += 1;
        *open.by_address.entry(address).or_default() += 1;
        Some(Seat {
            seats: self.clone(),
            address,
        })
    }

    /// How many are open, and how many may be.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.open.lock().all, self.max)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.seats.open.lock();
        open.all -= 1;
        if let Some(own) = open.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: of IPv6 the network, since a host has as many addresses in it as it likes.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// They run short when less than one in so many is left.
const SHORT_PART: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const REASONS: [Reason; 2] = [Reason::Connections, Reason::AddressShare];

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn who_has_half_of_them_leaves_the_last_quarter_to_others() {
        let away = Arc::new(TurnedAway::default());
        let seats = Seats::new(8, REASONS, away.clone());
        let mut greedy: Vec<Seat> = (0..6)
            .map(|_| seats.take(address("10.0.0.1")).expect("there are plenty"))
            .collect();
        assert!(seats.take(address("10.0.0.1")).is_none());
        let others: Vec<Seat> = ["10.0.0.2", "::1"]
            .iter()
            .filter_map(|text| seats.take(address(text)))
            .collect();
        assert_eq!((others.len(), seats.counts()), (2, (8, 8)));
        assert!(seats.take(address("10.0.0.3")).is_none());
        let turned: Vec<u64> = away.counts().map(|(_, count)| count).collect();
        assert_eq!(turned[..2], [1, 1]);
        greedy.truncate(3);
        drop(others);
        assert!(seats.take(address("10.0.0.1")).is_some());
        drop(greedy);
        assert!(seats.open.lock().by_address.is_empty());
    }

    #[test]
    fn a_network_is_one_address() {
        let seats = Seats::new(4, REASONS, Arc::default());
        let _own: Vec<Seat> = ["2001:db8::1", "2001:db8::2", "2001:db8::3"]
            .iter()
            .filter_map(|text| seats.take(address(text)))
            .collect();
        assert!(seats.take(address("2001:db8::4")).is_none());
        assert!(seats.take(address("2001:db8:0:1::4")).is_some());
        assert_eq!(
            network("::ffff:10.0.0.1".parse().unwrap()),
            address("10.0.0.1").unwrap()
        );
    }
}
