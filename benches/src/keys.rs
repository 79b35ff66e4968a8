//! Keys, values and the randomness behind them: repeatable from the seed.

use bytes::Bytes;

use crate::spec::KeySpace;

/// Splitmix64: small, and good enough to pick keys with.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Streams of one seed differ by `stream`, the number of the client.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        mixed.next();
        mixed
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, by multiplication: its bias is far below anything measured here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// `size` random bytes: a value that a compressing server cannot shrink.
    pub(crate) fn bytes(&mut self, size: usize) -> Bytes {
        let mut value = Vec::with_capacity(size + 8);
        while value.len() < size {
            value.extend_from_slice(&self.next().to_le_bytes());
        }
        value.truncate(size);
        value.into()
    }
}

/// The key of a number. The number fits because the arguments were checked against [`digits`].
pub(crate) fn key(space: &KeySpace, number: u64) -> Bytes {
    let mut key = vec![b'0'; space.size];
    let mut rest = number;
    for byte in key.iter_mut().rev() {
        *byte = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key.into()
}

/// The whole key space as key and range end.
pub(crate) fn whole_range(space: &KeySpace) -> (Bytes, Bytes) {
    let mut end = key(space, space.count - 1).to_vec();
    end.push(0);
    (key(space, 0), end.into())
}

/// Decimal digits of the largest number in a space of `count` keys.
pub(crate) fn digits(count: u64) -> usize {
    count.saturating_sub(1).checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(size: usize, count: u64) -> KeySpace {
        KeySpace {
            size,
            count,
            sequential: false,
        }
    }

    #[test]
    fn keys_are_padded_and_ordered() {
        let space = space(6, 1000);
        assert_eq!(key(&space, 0), "000000");
        assert_eq!(key(&space, 42), "000042");
        assert!(key(&space, 99) < key(&space, 100));
    }

    #[test]
    fn the_whole_range_holds_the_last_key_and_no_more() {
        let space = space(3, 1000);
        let (first, end) = whole_range(&space);
        assert_eq!(first, "000");
        assert!(key(&space, 999) < end);
        assert_eq!(&end[..3], b"999");
    }

    #[test]
    fn digits_of_the_largest_number() {
        let counts = [1, 10, 11, 100, 101, u64::MAX];
        assert_eq!(counts.map(digits), [1, 1, 2, 2, 3, 20]);
    }

    #[test]
    fn the_same_seed_draws_the_same_numbers_and_streams_differ() {
        let draw = |seed, stream| {
            let mut random = Random::new(seed, stream);
            [0; 8].map(|_| random.below(1000))
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert!(draw(3, 3).iter().all(|&number| number < 1000));
    }

    #[test]
    fn values_have_their_size() {
        let mut random = Random::new(0, 0);
        assert_eq!(
            [0, 1, 8, 1023].map(|size| random.bytes(size).len()),
            [0, 1, 8, 1023]
        );
    }
}
