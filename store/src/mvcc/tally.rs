//! What transactions did to the history, counted as etcd counts it: each read, put and delete that one asks for,
//! however many keys it meets, and each transaction that asked for more than one of them.

use std::ops::AddAssign;

/// The counts of one transaction, or of several together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Reads of a key or a range, those for a compare or a previous state included.
    pub ranges: u64,
    /// Puts.
    pub puts: u64,
    /// Deletes of a key or a range.
    pub deletes: u64,
    /// Bytes of the keys and values put.
    pub put_bytes: u64,
    /// Transactions of several operations.
    pub txns: u64,
}

impl Tally {
    /// A transaction of so many reads.
    #[must_use]
    pub fn of_reads(ranges: u64) -> Self {
        Tally {
            ranges,
            ..Tally::default()
        }
        .ended()
    }

    /// The counts of a transaction that has ended.
    #[must_use]
    pub fn ended(mut self) -> Self {
        self.txns = u64::from(self.ranges + self.puts + self.deletes > 1);
        self
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.ranges += other.ranges;
        self.puts += other.puts;
        self.deletes += other.deletes;
        self.put_bytes += other.put_bytes;
        self.txns += other.txns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_counts_from_its_second_operation_on() {
        let mut sum = Tally::of_reads(1);
        assert_eq!((sum.ranges, sum.txns), (1, 0));
        sum += Tally::of_reads(2);
        let mixed = Tally {
            puts: 1,
            deletes: 1,
            ..Tally::default()
        };
        sum += mixed.ended();
        assert_eq!((sum.ranges, sum.puts, sum.deletes, sum.txns), (3, 1, 1, 2));
    }
}
