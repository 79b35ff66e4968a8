//! A bounded queue in which addresses take turns, so that one that asks much waits for itself.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Where a job comes from; connections without an address count as one.
type Address = Option<IpAddr>;

pub(super) struct Queue<T> {
    /// The jobs of each address that has any.
    waiting: BTreeMap<Address, VecDeque<T>>,
    /// Those addresses, in the order of their turns.
    turns: VecDeque<Address>,
    len: usize,
    max: usize,
    per_address_max: usize,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(max: usize, per_address_max: usize) -> Queue<T> {
        Queue {
            waiting: BTreeMap::new(),
            turns: VecDeque::new(),
            len: 0,
            max,
            per_address_max,
            closed: false,
        }
    }

    /// Adds a job; false where there is no room.
    pub(super) fn push(&mut self, address: Address, job: T) -> bool {
        if self.closed || self.len >= self.max {
            return false;
        }
        let jobs = self.waiting.entry(address).or_default();
        if jobs.len() >= self.per_address_max {
            return false;
        }
        if jobs.is_empty() {
            self.turns.push_back(address);
        }
        jobs.push_back(job);
        self.len += 1;
        true
    }

    /// The oldest job of the address whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let address = self.turns.pop_front()?;
        let jobs = self.waiting.get_mut(&address)?;
        let job = jobs.pop_front()?;
        self.len -= 1;
        if jobs.is_empty() {
            self.waiting.remove(&address);
        } else {
            self.turns.push_back(address);
        }
        Some(job)
    }

    /// Nothing is added any more, and what waits is given up.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.len = 0;
        self.turns.clear();
        self.waiting.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> Address {
        Some(IpAddr::from([10, 0, 0, number]))
    }

    #[test]
    fn addresses_take_turns() {
        let mut queue = Queue::new(100, 100);
        for job in 0..4 {
            assert!(queue.push(address(1), (1, job)));
        }
        assert!(queue.push(address(2), (2, 0)) && queue.push(None, (0, 0)));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(1, 0), (2, 0), (0, 0), (1, 1), (1, 2), (1, 3)]);
        assert_eq!((queue.len(), queue.waiting.len(), queue.turns.len()), (0, 0, 0));
    }

    #[test]
    fn there_is_an_end_to_it_for_one_and_for_all() {
        let mut queue = Queue::new(3, 2);
        assert!(queue.push(address(1), 0) && queue.push(address(1), 0));
        assert!(!queue.push(address(1), 0));
        assert!(queue.push(address(2), 0));
        assert!(!queue.push(address(3), 0));
        assert_eq!((queue.len(), queue.waiting.len()), (3, 2));
        assert!(queue.pop().is_some() && queue.push(address(3), 0));
        queue.close();
        assert!(queue.pop().is_none() && !queue.push(address(4), 0));
        assert_eq!(queue.len(), 0);
    }
}
