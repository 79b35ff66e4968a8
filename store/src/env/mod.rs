//! The outside world behind small traits, so that a simulation can stand in for it: the [`Clock`], the [`Disk`],
//! the [`Entropy`] and the [`Transport`]. [`real`] is the machine itself, [`fake`] (feature `sim`) a manual clock, a disk that loses what
//! was not synced and tears what was being written, and seeded entropy.

mod clock;
mod disk;
mod entropy;
#[cfg(any(test, feature = "sim"))]
pub mod fake;
pub mod real;
mod transport;

pub use clock::{Clock, Instant};
pub use disk::{DirLock, Disk, DiskFile, create_dir_durably};
pub use entropy::Entropy;
pub use transport::{Class, NoPeers, Transport};
