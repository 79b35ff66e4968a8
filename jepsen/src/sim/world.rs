//! Time and order. Things happen when their time comes; things of one time happen in an order drawn from the seed,
//! so that no accident of insertion hides a race.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::{self, Write};

use crate::rng::Rng;

/// A moment, in nanoseconds since the run began.
pub type Time = u64;

/// One microsecond.
pub const MICROSECOND: Time = 1_000;
/// One millisecond.
pub const MILLISECOND: Time = 1_000 * MICROSECOND;
/// One second.
pub const SECOND: Time = 1_000 * MILLISECOND;

/// The queue of what happens next, the randomness and the trace of one run.
#[derive(Debug)]
pub struct World<E> {
    now: Time,
    queue: BinaryHeap<Reverse<Due<E>>>,
    scheduled: u64,
    /// What chance decides in this run.
    pub rng: Rng,
    /// What has happened in this run.
    pub trace: Trace,
}

#[derive(Debug)]
struct Due<E> {
    at: Time,
    tiebreak: u64,
    /// Makes the order total where even the tiebreaks tie.
    number: u64,
    event: E,
}

impl<E> World<E> {
    /// The world of a seed, at time 0. The trace keeps its last `lines` lines for a report.
    #[must_use]
    pub fn new(seed: u64, lines: usize) -> Self {
        World {
            now: 0,
            queue: BinaryHeap::new(),
            scheduled: 0,
            rng: Rng::new(seed),
            trace: Trace::new(lines),
        }
    }

    /// The time of what happens now.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Lets something happen after a while.
    pub fn after(&mut self, delay: Time, event: E) {
        self.scheduled += 1;
        let (at, tiebreak) = (self.now + delay, self.rng.next_u64());
        self.queue.push(Reverse(Due {
            at,
            tiebreak,
            number: self.scheduled,
            event,
        }));
    }

    /// Lets something happen after a while drawn from an interval.
    pub fn within(&mut self, from: Time, upto: Time, event: E) {
        let delay = self.rng.between(from, upto);
        self.after(delay, event);
    }

    /// Goes on to what happens next.
    pub fn next_event(&mut self) -> Option<E> {
        let Reverse(due) = self.queue.pop()?;
        self.now = due.at;
        Some(due.event)
    }

    /// Notes that something happened now.
    pub fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.note(self.now, what);
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E> Eq for Due<E> {}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tiebreak, self.number).cmp(&(other.at, other.tiebreak, other.number))
    }
}

/// Everything that happened, as a hash that two equal runs share, and the end of it as text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    hash: u64,
    notes: u64,
    lines: std::collections::VecDeque<String>,
    lines_max: usize,
}

impl Trace {
    fn new(lines_max: usize) -> Self {
        Trace {
            hash: FNV_OFFSET,
            notes: 0,
            lines: std::collections::VecDeque::new(),
            lines_max,
        }
    }

    /// The hash of everything noted so far (FNV-1a over the lines, times included).
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many things were noted.
    #[must_use]
    pub const fn notes(&self) -> u64 {
        self.notes
    }

    /// The last lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    fn note(&mut self, now: Time, what: fmt::Arguments<'_>) {
        self.notes += 1;
        let mut hasher = Hasher(self.hash);
        writeln!(hasher, "{now} {what}").expect("hashing cannot fail");
        self.hash = hasher.0;
        if self.lines_max > 0 {
            if self.lines.len() == self.lines_max {
                self.lines.pop_front();
            }
            self.lines.push_back(format!(
                "{:>6}.{:06} ms  {what}",
                now / MILLISECOND,
                now % MILLISECOND
            ));
        }
    }
}

struct Hasher(u64);

impl Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        Ok(())
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64) -> (Vec<u32>, u64) {
        let mut world = World::new(seed, 0);
        for event in 0..20 {
            world.after(5, event);
        }
        world.after(1, 100);
        let mut order = Vec::new();
        while let Some(event) = world.next_event() {
            world.note(format_args!("{event}"));
            order.push(event);
        }
        (order, world.trace.hash())
    }

    #[test]
    fn one_time_is_shuffled_by_the_seed_and_by_nothing_else() {
        let (order, hash) = run(1);
        assert_eq!(order[0], 100);
        assert_eq!((order.clone(), hash), run(1));
        let (other, other_hash) = run(2);
        assert_ne!(order, other);
        assert_ne!(hash, other_hash);
        let mut sorted = other;
        sorted.sort_unstable();
        assert_eq!(sorted[..20], (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn the_trace_keeps_its_end() {
        let mut world = World::<()>::new(0, 2);
        for what in ["a", "b", "c"] {
            world.note(format_args!("{what}"));
        }
        let lines: Vec<_> = world.trace.lines().collect();
        assert_eq!(lines, ["     0.000000 ms  b", "     0.000000 ms  c"]);
        assert_eq!(world.trace.notes(), 3);
    }
}
