//! What goes wrong in a run, as the nemesis orders it, and the end of it.

use store::types::Index;

use super::{Happening, Phase, Run};
use crate::nemesis::{self, Order, Sight, Trouble};
use crate::sim::member::MemberNumber;

impl Run<'_> {
    pub(super) fn plan_trouble(&mut self, trouble: Trouble) {
        if let Some(after) = nemesis::next(trouble, &self.plan.nemesis, &mut self.world.rng) {
            self.world.after(after, Happening::Trouble(trouble));
        }
    }

    pub(super) fn trouble(&mut self, trouble: Trouble) {
        if self.phase != Phase::Trouble {
            return;
        }
        let sight = Sight {
            up: self.members.iter().map(|slot| slot.up).collect(),
            leader: self.invariants.leader(),
            recovering: self.recovering.is_some(),
        };
        for order in nemesis::strike(trouble, &self.plan.nemesis, &sight, &mut self.world.rng) {
            self.obey(order);
        }
        self.plan_trouble(trouble);
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Crash { member, away } => self.crash(member, away),
            Order::Arm {
                member,
                disk_operations,
            } => {
                if self.members[member.0].up {
                    self.world
                        .note(format_args!("m{} is armed: {disk_operations}", member.0));
                    self.members[member.0].member.arm_crash(disk_operations);
                }
            }
            Order::FailSync { member, syncs } => {
                if self.members[member.0].up {
                    self.world
                        .note(format_args!("m{} fails sync {syncs} from now", member.0));
                    self.members[member.0].member.fail_sync(syncs);
                }
            }
            Order::FailWrite { member, writes } => {
                if self.members[member.0].up {
                    self.world
                        .note(format_args!("m{} fails write {writes} from now", member.0));
                    self.members[member.0].member.fail_write(writes);
                }
            }
            Order::Fill { member, room, away } => {
                // One at a time, so that what one leaves is not what another has taken.
                for number in (0..self.members.len()).map(MemberNumber) {
                    self.make_room(number);
                }
                self.counts.full_disks += 1;
                self.world
                    .note(format_args!("m{} has {room} bytes left", member.0));
                self.members[member.0].member.fill(Some(room));
                let filling = self.counts.full_disks;
                self.world.after(away, Happening::Room(member, filling));
            }
            Order::Rot { member, away } => {
                if self.members[member.0].up {
                    self.crash(member, away);
                    let slot = &mut self.members[member.0];
                    slot.rotten = slot.member.rot(&mut self.world.rng);
                    if slot.rotten {
                        self.counts.rotten += 1;
                        self.world.note(format_args!("m{}'s disk changes", member.0));
                        let upto = self.invariants.committed().max(Index(1));
                        self.recovering = Some((member, upto));
                    }
                }
            }
            Order::HandOver(member) => self.hand_over(member),
            Order::Change => self.operate(true),
            Order::Pause { member, away } => {
                let slot = &mut self.members[member.0];
                if slot.up && slot.paused.is_none() {
                    self.counts.pauses += 1;
                    let pause = self.counts.pauses;
                    slot.paused = Some(pause);
                    self.world.note(format_args!("m{} stands still", member.0));
                    self.world.after(away, Happening::Resume(member, pause));
                }
            }
            Order::Stall { member, away } => self.stall(member, away),
            Order::Block { links, away } => {
                self.counts.partitions += 1;
                self.world.note(format_args!("blocked: {links:?}"));
                self.network.block(links);
                self.tell_connections();
                self.world.after(away, Happening::Unblock(self.counts.partitions));
            }
            Order::Wipe { member, away } => {
                if self.members[member.0].up {
                    self.counts.empty_disks += 1;
                    self.crash(member, away);
                    self.world.note(format_args!("m{} loses its disk", member.0));
                    self.members[member.0].member.wipe();
                    self.invariants.wiped(member);
                    // Something there must be, else an empty log would pass for a recovered one.
                    let upto = self.invariants.committed().max(Index(1));
                    self.recovering = Some((member, upto));
                }
            }
        }
    }

    pub(super) fn make_room(&mut self, number: MemberNumber) {
        self.members[number.0].member.fill(None);
    }

    pub(super) fn unblock(&mut self, partition: u64) {
        if self.counts.partitions == partition {
            self.world.note(format_args!("no link is blocked"));
            self.network.block(std::collections::BTreeSet::new());
            self.tell_connections();
        }
    }

    /// From here on nothing goes wrong, and all must become well.
    pub(super) fn peace(&mut self) {
        self.world.note(format_args!("peace"));
        self.phase = Phase::Settling;
        self.network.heal();
        for number in (0..self.members.len()).map(MemberNumber) {
            self.make_room(number);
            if let Some(pause) = self.members[number.0].paused {
                self.resume(number, pause);
            }
            self.start(number);
        }
        self.tell_connections();
        if self.plan.nemesis.change_every.is_some() {
            self.operate(false);
        }
    }
}
