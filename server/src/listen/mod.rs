//! Where clients come in: what stands between a socket and the library that speaks HTTP/2.

mod authority;
mod blocks;
mod frames;
mod guarded;
mod pings;

pub(crate) use guarded::{Calls, Guarded, OpenCall};

#[cfg(test)]
mod tests;
