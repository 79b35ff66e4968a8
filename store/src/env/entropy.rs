//! Randomness, as the rooms see it.

/// Where randomness comes from.
pub trait Entropy: Send + Sync {
    /// 64 random bits.
    fn next_u64(&self) -> u64;
}
