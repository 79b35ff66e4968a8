//! Disks: a sync or a write that fails, after which the member must stop, since it cannot know what is durable; a disk
//! that is full for a while, which must stop nothing but writes; bytes that have changed, which must be noticed; and
//! empty disks.
//!
//! A member that has lost its disk has lost what the quorums it was part of rest on, so there is at most one such
//! member at a time, until it has caught up again. One whose disk has changed may have to be replaced by one with an empty
//! disk, so it counts as such.

use std::path::{Path, PathBuf};

use store::env::Disk;
use store::env::fake::FakeDisk;

use super::{Intensities, Order, Sight};
use crate::rng::Rng;
use crate::sim::world::{MILLISECOND, Time};

/// How often disks are in trouble: mean times, none for never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faults {
    /// A write fails.
    pub failed_write_every: Option<Time>,
    /// A disk is full.
    pub full_every: Option<Time>,
    /// The longest time that it is.
    pub full_max: Time,
    /// Bytes on one disk change.
    pub rot_every: Option<Time>,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults {
        failed_write_every: None,
        full_every: None,
        full_max: 0,
        rot_every: None,
    };

    /// What a seed has in store.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::stream(seed, STREAM);
        let ms = |rng: &mut Rng, choices: &[u64]| match *rng.pick(choices) {
            0 => None,
            mean => Some(mean * MILLISECOND),
        };
        Faults {
            failed_write_every: ms(&mut rng, &[0, 0, 1000]),
            full_every: ms(&mut rng, &[0, 0, 0, 1500]),
            full_max: *rng.pick(&[50, 300, 1000]) * MILLISECOND,
            rot_every: ms(&mut rng, &[0, 0, 800]),
        }
    }
}

/// One member's, soon.
pub(super) fn failed_sync(sight: &Sight, rng: &mut Rng) -> Order {
    Order::FailSync {
        member: sight.target(rng),
        syncs: rng.between(1, SYNCS_MAX),
    }
}

/// One member's, soon.
pub(super) fn failed_write(sight: &Sight, rng: &mut Rng) -> Order {
    Order::FailWrite {
        member: sight.target(rng),
        writes: rng.between(1, WRITES_MAX),
    }
}

/// One member's disk has hardly anything left, for a while.
pub(super) fn fill(intensities: &Intensities, sight: &Sight, rng: &mut Rng) -> Order {
    Order::Fill {
        member: sight.target(rng),
        room: *rng.pick(&[0, 0, 500, 20_000]),
        away: rng.between(1, intensities.disks.full_max),
    }
}

/// One member, where none is still without its data.
pub(super) fn wipe(intensities: &Intensities, sight: &Sight, rng: &mut Rng) -> Option<Order> {
    if sight.recovering || sight.up.len() < 3 {
        return None;
    }
    Some(Order::Wipe {
        member: sight.target(rng),
        away: rng.between(1, intensities.away_max),
    })
}

/// The same for one that finds its disk changed.
pub(super) fn rot(intensities: &Intensities, sight: &Sight, rng: &mut Rng) -> Option<Order> {
    if sight.recovering || sight.up.len() < 3 {
        return None;
    }
    Some(Order::Rot {
        member: sight.target(rng),
        away: rng.between(1, intensities.away_max),
    })
}

/// Flips a bit of something that a member's disk had confirmed, in its log or a snapshot file; false where there is
/// nothing.
pub(crate) fn damage(disk: &FakeDisk, rng: &mut Rng) -> bool {
    // Of the log's newest segment nobody can tell what had been confirmed.
    let mut files = files(disk, "/data/member/wal", "wal");
    files.pop();
    files.extend(self::files(disk, "/data/member/snap", "snap"));
    if files.is_empty() {
        return false;
    }
    let path = rng.pick(&files);
    let bytes = disk.contents(path).map_or(0, |contents| contents.len());
    let offset = rng.index(bytes.max(1)) as u64;
    disk.damage(path, offset, 1 << rng.index(8))
}

/// The files of a folder with an extension, in order.
fn files(disk: &FakeDisk, dir: &str, extension: &str) -> Vec<PathBuf> {
    let names = disk.list(Path::new(dir)).unwrap_or_default();
    let wanted = names
        .iter()
        .filter(|name| name.extension().is_some_and(|found| found == extension));
    wanted.map(|name| Path::new(dir).join(name)).collect()
}

/// The last sync that may fail.
const SYNCS_MAX: u64 = 5;
/// The last write that may.
const WRITES_MAX: u64 = 12;
/// Keeps these draws apart from those of other troubles.
const STREAM: u64 = (1 << 32) + 2;
