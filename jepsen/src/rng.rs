//! Randomness that a seed decides, for good: xoshiro256** seeded by SplitMix64, both written out here, so that a
//! seed found today still means the same run after any update of a dependency.

/// A stream of random numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut mix = seed;
        let state = std::array::from_fn(|_| {
            mix = mix.wrapping_add(0x9e37_79b9_7f4a_7c15);
            finalize(mix)
        });
        Rng { state }
    }

    /// A stream of its own for one user of the same seed, so that one of them drawing more often does not move the others.
    #[must_use]
    pub fn stream(seed: u64, user: u64) -> Self {
        Rng::new(finalize(seed ^ finalize(user.wrapping_add(1))))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number below `end`, which is not 0. (The bias of the multiplication is below 2^-32 for the ends in use.)
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "there is no number below 0");
        let wide = u128::from(self.next_u64()) * u128::from(end);
        u64::try_from(wide >> 64).expect("the product of two u64 has 128 bits")
    }

    /// A number from `from` to `upto`, both included.
    pub fn between(&mut self, from: u64, upto: u64) -> u64 {
        from + self.below(upto - from + 1)
    }

    /// An index into something of that length, which is not 0.
    pub fn index(&mut self, len: usize) -> usize {
        let len = u64::try_from(len).expect("a length fits 64 bits");
        usize::try_from(self.below(len)).expect("an index is below a length")
    }

    /// True once in `of` times.
    pub fn once_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// One of several, each as often as its weight says.
    pub fn weighted<T: Copy>(&mut self, from: &[(u32, T)]) -> T {
        let total: u64 = from.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let mut left = self.below(total);
        for (weight, one) in from {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return *one,
            }
        }
        unreachable!("a number below the total of all weights falls into one of them")
    }
}

/// SplitMix64's output function.
const fn finalize(mut mix: u64) -> u64 {
    mix = (mix ^ (mix >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mix = (mix ^ (mix >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mix ^ (mix >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_never_change() {
        // SplitMix64 of seed 0 begins with these, by its published reference.
        assert_eq!(
            Rng::new(0).state,
            [
                0xe220_a839_7b1d_cdaf,
                0x6e78_9e6a_a1b9_65f4,
                0x06c4_5d18_8009_454f,
                0xf88b_b8a8_724c_81ec
            ]
        );
        // xoshiro256** from the state 1, 2, 3, 4, by hand from its definition: 2*5 <<< 7 * 9.
        let mut rng = Rng { state: [1, 2, 3, 4] };
        assert_eq!((rng.next_u64(), rng.next_u64()), (11520, 0));
    }

    #[test]
    fn draws_stay_in_their_bounds_and_reach_them() {
        let mut rng = Rng::new(7);
        let mut seen = [0; 3];
        for _ in 0..300 {
            seen[rng.index(3)] += 1;
            assert!((5..=6).contains(&rng.between(5, 6)));
            assert_eq!(rng.weighted(&[(0, 'a'), (3, 'b'), (0, 'c')]), 'b');
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    }

    #[test]
    fn streams_differ() {
        let first = |mut rng: Rng| rng.next_u64();
        assert_ne!(first(Rng::stream(1, 0)), first(Rng::stream(1, 1)));
        assert_ne!(first(Rng::stream(1, 0)), first(Rng::stream(2, 0)));
    }
}
