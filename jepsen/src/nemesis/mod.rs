//! What goes wrong in a run, decided by the seed: data only, which the run carries out.
//!
//! | file | what |
//! | --- | --- |
//! | [`power`] | a member loses its power, between two steps or in the middle of a disk operation; or all do at once |
//! | [`pause`] | a member stands still, as by SIGSTOP, and then finds that time has passed |
//! | [`partition`] | members cannot reach each other, both ways or one way |
//! | [`disk`] | a disk fails a sync or a write, is full, or changes what is on it; a member comes back with an empty disk |
//! | [`stall`] | a disk stands still for a while |
//! | [`clock`] | members' clocks run at speeds of their own |
//! | [`change`] | members come, go, and become voters |
//!
//! Beside these a leader is asked now and then to hand over. The network's own weather is in [`crate::sim::network`]. Nothing here may take from a cluster what it needs to keep
//! its promises: only a disk's loss does that, so no more than one member is ever without its data.

pub mod change;
pub mod clock;
pub mod disk;
pub mod partition;
pub mod pause;
pub mod power;
pub mod stall;

use std::collections::BTreeSet;

use crate::rng::Rng;
use crate::sim::member::MemberNumber;
use crate::sim::network::{Link, Weather};
use crate::sim::world::{MILLISECOND, Time};

/// How much goes wrong: mean times between two troubles of a kind in the whole cluster, none for never.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intensities {
    /// One member loses its power, now or within its next disk operations.
    pub crash_every: Option<Time>,
    /// All members lose their power at once.
    pub blackout_every: Option<Time>,
    /// The longest time that a member without power stays away.
    pub away_max: Time,
    /// A member's disk fails a sync.
    pub failed_sync_every: Option<Time>,
    /// The leader is asked to hand over.
    pub hand_over_every: Option<Time>,
    /// Members notice that they cannot reach each other, as by a broken connection.
    pub breaks_noticed: bool,
    /// One member stands still.
    pub pause_every: Option<Time>,
    /// The longest time that it does.
    pub pause_max: Time,
    /// Members cannot reach each other.
    pub partition_every: Option<Time>,
    /// The longest time that they cannot.
    pub partition_max: Time,
    /// One member comes back with an empty disk.
    pub empty_disk_every: Option<Time>,
    /// One member's disk stands still.
    pub stall_every: Option<Time>,
    /// The longest time that it does.
    pub stall_max: Time,
    /// What else disks do.
    pub disks: disk::Faults,
    /// An operator changes the membership.
    pub change_every: Option<Time>,
    /// How fast the fastest clock may run, in percent of true time; the slowest one is right.
    pub clock_percent_max: u64,
    /// The network.
    pub weather: Weather,
}

impl Intensities {
    /// Nothing goes wrong.
    pub const NONE: Intensities = Intensities {
        crash_every: None,
        blackout_every: None,
        failed_sync_every: None,
        hand_over_every: None,
        breaks_noticed: false,
        away_max: 30 * MILLISECOND,
        pause_every: None,
        pause_max: 0,
        partition_every: None,
        partition_max: 0,
        empty_disk_every: None,
        stall_every: None,
        stall_max: 0,
        disks: disk::Faults::NONE,
        change_every: None,
        clock_percent_max: 100,
        weather: Weather::CALM,
    };

    /// What a seed has in store for so many members.
    #[must_use]
    pub fn draw(seed: u64, members: usize) -> Self {
        if members == 1 {
            return Intensities {
                crash_every: Some(150 * MILLISECOND),
                ..Intensities::NONE
            };
        }
        let mut rng = Rng::stream(seed, STREAM);
        let ms = |rng: &mut Rng, choices: &[u64]| match *rng.pick(choices) {
            0 => None,
            mean => Some(mean * MILLISECOND),
        };
        Intensities {
            crash_every: ms(&mut rng, &[0, 200, 500, 1500]),
            blackout_every: ms(&mut rng, &[0, 0, 2000]),
            failed_sync_every: ms(&mut rng, &[0, 1000]),
            hand_over_every: ms(&mut rng, &[0, 0, 400]),
            breaks_noticed: rng.once_in(2),
            away_max: *rng.pick(&[30, 100, 800]) * MILLISECOND,
            pause_every: ms(&mut rng, &[0, 500, 1500]),
            pause_max: *rng.pick(&[50, 300, 1500]) * MILLISECOND,
            partition_every: ms(&mut rng, &[0, 400, 1200]),
            partition_max: *rng.pick(&[100, 400, 1000]) * MILLISECOND,
            empty_disk_every: ms(&mut rng, &[0, 0, 1000]),
            disks: disk::Faults::draw(seed),
            change_every: None,
            clock_percent_max: *rng.pick(&[100, 120, 200]),
            weather: Weather::draw(&mut rng),
            stall_every: ms(&mut rng, &[0, 0, 700]),
            stall_max: *rng.pick(&[50, 400, 1500]) * MILLISECOND,
        }
    }

    /// What a seed has in store for a cluster whose members come and go. No disk is lost besides those of members that
    /// are replaced: whoever removes another while one has nothing on its disk may take the last that has.
    #[must_use]
    pub fn draw_changing(seed: u64) -> Self {
        let every = Rng::stream(seed, CHANGES_STREAM).pick(&[100, 300, 800]) * MILLISECOND;
        Intensities {
            change_every: Some(every),
            empty_disk_every: None,
            disks: disk::Faults {
                rot_every: None,
                ..disk::Faults::draw(seed)
            },
            ..Intensities::draw(seed, 3)
        }
    }
}

/// A kind of trouble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// See [`Intensities::crash_every`].
    Crash,
    /// See [`Intensities::blackout_every`].
    Blackout,
    /// See [`Intensities::failed_sync_every`].
    FailedSync,
    /// See [`Intensities::hand_over_every`].
    HandOver,
    /// See [`Intensities::pause_every`].
    Pause,
    /// See [`Intensities::partition_every`].
    Partition,
    /// See [`Intensities::empty_disk_every`].
    EmptyDisk,
    /// See [`Intensities::stall_every`].
    StalledDisk,
    /// See [`disk::Faults::failed_write_every`].
    FailedWrite,
    /// See [`disk::Faults::full_every`].
    FullDisk,
    /// See [`disk::Faults::rot_every`].
    Rot,
    /// See [`Intensities::change_every`].
    Change,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Trouble; 12] = [
        Trouble::Crash,
        Trouble::Blackout,
        Trouble::FailedSync,
        Trouble::HandOver,
        Trouble::Pause,
        Trouble::Partition,
        Trouble::EmptyDisk,
        Trouble::StalledDisk,
        Trouble::FailedWrite,
        Trouble::FullDisk,
        Trouble::Rot,
        Trouble::Change,
    ];
}

/// What the nemesis sees of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Which members have power.
    pub up: Vec<bool>,
    /// Who leads in the highest term.
    pub leader: Option<MemberNumber>,
    /// Whether a member has not yet won back what its disk has lost.
    pub recovering: bool,
}

impl Sight {
    fn members(&self) -> impl Iterator<Item = MemberNumber> + use<> {
        (0..self.up.len()).map(MemberNumber)
    }

    fn any(&self, rng: &mut Rng) -> MemberNumber {
        MemberNumber(rng.index(self.up.len()))
    }

    /// A member: the leader half of the time, where there is one, since that hurts most.
    fn target(&self, rng: &mut Rng) -> MemberNumber {
        match self.leader {
            Some(leader) if rng.once_in(2) => leader,
            _ => self.any(rng),
        }
    }
}

/// What the run is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Takes a member's power for a while.
    Crash {
        /// Whose.
        member: MemberNumber,
        /// How long.
        away: Time,
    },
    /// Takes a member's power in the middle of the disk operation of this number from now.
    Arm {
        /// Whose.
        member: MemberNumber,
        /// The operation, from 1.
        disk_operations: u64,
    },
    /// Fails the sync of this number from now on a member's disk.
    FailSync {
        /// Whose.
        member: MemberNumber,
        /// The sync, from 1.
        syncs: u64,
    },
    /// Fails the write of this number from now on a member's disk.
    FailWrite {
        /// Whose.
        member: MemberNumber,
        /// The write, from 1.
        writes: u64,
    },
    /// Leaves so much of a member's disk, for a while.
    Fill {
        /// Whose.
        member: MemberNumber,
        /// Bytes.
        room: u64,
        /// How long.
        away: Time,
    },
    /// Takes a member's power, and changes what is on its disk.
    Rot {
        /// Whose.
        member: MemberNumber,
        /// How long it is away.
        away: Time,
    },
    /// Asks a member to hand over the leadership.
    HandOver(MemberNumber),
    /// Lets a member stand still for a while.
    Pause {
        /// Which.
        member: MemberNumber,
        /// How long.
        away: Time,
    },
    /// Lets a member's disk stand still for a while.
    Stall {
        /// Whose.
        member: MemberNumber,
        /// How long.
        away: Time,
    },
    /// Blocks these links, instead of those blocked before, for a while.
    Block {
        /// Which.
        links: BTreeSet<Link>,
        /// How long.
        away: Time,
    },
    /// Takes a member's power and disk; it comes back after a while.
    Wipe {
        /// Whose.
        member: MemberNumber,
        /// How long.
        away: Time,
    },
    /// Lets the operator ask who the members are, and change something.
    Change,
}

/// After how long the next trouble of a kind comes, if any.
#[must_use]
pub fn next(trouble: Trouble, intensities: &Intensities, rng: &mut Rng) -> Option<Time> {
    let mean = match trouble {
        Trouble::Crash => intensities.crash_every,
        Trouble::Blackout => intensities.blackout_every,
        Trouble::FailedSync => intensities.failed_sync_every,
        Trouble::HandOver => intensities.hand_over_every,
        Trouble::Pause => intensities.pause_every,
        Trouble::Partition => intensities.partition_every,
        Trouble::EmptyDisk => intensities.empty_disk_every,
        Trouble::StalledDisk => intensities.stall_every,
        Trouble::FailedWrite => intensities.disks.failed_write_every,
        Trouble::FullDisk => intensities.disks.full_every,
        Trouble::Rot => intensities.disks.rot_every,
        Trouble::Change => intensities.change_every,
    }?;
    Some(rng.between(1, 2 * mean))
}

/// What a trouble is this time.
#[must_use]
pub fn strike(trouble: Trouble, intensities: &Intensities, sight: &Sight, rng: &mut Rng) -> Vec<Order> {
    match trouble {
        Trouble::Crash => vec![power::crash(intensities, sight, rng)],
        Trouble::Blackout => power::blackout(intensities, sight, rng),
        Trouble::FailedSync => vec![disk::failed_sync(sight, rng)],
        Trouble::HandOver => sight.leader.map(Order::HandOver).into_iter().collect(),
        Trouble::Pause => vec![pause::pause(intensities, sight, rng)],
        Trouble::Partition => vec![partition::partition(intensities, sight, rng)],
        Trouble::EmptyDisk => Vec::from_iter(disk::wipe(intensities, sight, rng)),
        Trouble::StalledDisk => vec![stall::stall(intensities, sight, rng)],
        Trouble::FailedWrite => vec![disk::failed_write(sight, rng)],
        Trouble::FullDisk => vec![disk::fill(intensities, sight, rng)],
        Trouble::Rot => Vec::from_iter(disk::rot(intensities, sight, rng)),
        Trouble::Change => vec![Order::Change],
    }
}

/// Keeps the nemesis's draws apart from those of the clients.
const STREAM: u64 = 1 << 32;
/// And those of the operator from both.
const CHANGES_STREAM: u64 = (1 << 32) + 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_in_what_goes_wrong() {
        let drawn: Vec<_> = (0..100).map(|seed| Intensities::draw(seed, 3)).collect();
        let some =
            |has: fn(&Intensities) -> bool| (1..100).contains(&drawn.iter().filter(|i| has(i)).count());
        assert!(some(|i| i.crash_every.is_some()));
        assert!(some(|i| i.blackout_every.is_some()));
        assert!(some(|i| i.pause_every.is_some()));
        assert!(some(|i| i.partition_every.is_some()));
        assert!(some(|i| i.empty_disk_every.is_some()));
        assert!(some(|i| i.stall_every.is_some()));
        assert!(some(|i| i.clock_percent_max > 100));
        assert!(some(|i| i.weather.drop_in > 0));
        assert_eq!(Intensities::draw(7, 3), Intensities::draw(7, 3));
    }

    #[test]
    fn every_trouble_strikes_somebody() {
        let intensities = Intensities {
            away_max: 10,
            pause_max: 10,
            partition_max: 10,
            stall_max: 10,
            disks: disk::Faults {
                full_max: 10,
                ..disk::Faults::NONE
            },
            ..Intensities::NONE
        };
        let sight = Sight {
            up: vec![true; 3],
            leader: Some(MemberNumber(1)),
            recovering: false,
        };
        let mut rng = Rng::new(3);
        for trouble in Trouble::ALL {
            assert_eq!(next(trouble, &intensities, &mut rng), None);
            assert!(!strike(trouble, &intensities, &sight, &mut rng).is_empty());
        }
    }
}
