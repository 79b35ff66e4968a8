//! The operator of a run: asks who the members are, starts those that were added on machines that are free, takes
//! away the machines of those that were removed, and changes something now and then. It cannot know what became of a
//! change that nobody answered, and so goes by the lists alone.

use std::collections::BTreeMap;

use store::membership::Member;
use store::shell::Join;
use store::types::{Index, MemberId};

use super::{Happening, Phase, Run};
use crate::nemesis::change::{self, Change};
use crate::sim::member::{Administered, Administration, MemberNumber, Token};
use crate::sim::users::{self, UserChange};
use crate::sim::world::{MILLISECOND, Time};

/// What it waits for.
#[derive(Debug, Default)]
pub(super) struct Operator {
    asked: BTreeMap<Token, Asked>,
    questions: u64,
    /// How often users or roles were to change.
    user_changes: usize,
}

#[derive(Debug)]
struct Asked {
    at: Time,
    what: Administration,
    /// The machine of a member to be added.
    machine: Option<MemberNumber>,
    /// Something is to be changed once the members are known.
    change: bool,
}

impl Run<'_> {
    /// Asks who the members are, and perhaps changes something then. After the trouble it goes on looking after the
    /// machines: whoever was added is needed.
    pub(super) fn operate(&mut self, change: bool) {
        if self.phase == Phase::Done {
            return;
        }
        for linearizable in [true, false] {
            let what = Administration::List { linearizable };
            self.ask(what, None, change && linearizable);
        }
        if self.phase != Phase::Trouble {
            self.world.after(OPERATE_EVERY, Happening::Operate);
        }
    }

    /// Changes users or roles: first what has to be there for anybody to be judged, over and over until it is on, which it
    /// need not stay.
    pub(super) fn change_users(&mut self) {
        if self.phase != Phase::Trouble {
            return;
        }
        let change = match users::FIRST.get(self.operator.user_changes % (2 * users::FIRST.len())) {
            Some(first) => *first,
            None => UserChange::draw(&mut self.world.rng),
        };
        self.operator.user_changes += 1;
        self.ask(Administration::Users(change), None, false);
        self.world.within(1, CHANGE_USERS_EVERY, Happening::Users);
    }

    fn ask(&mut self, what: Administration, machine: Option<MemberNumber>, change: bool) {
        let running: Vec<MemberNumber> = (0..self.members.len())
            .map(MemberNumber)
            .filter(|number| self.members[number.0].runs())
            .collect();
        if running.is_empty() {
            return;
        }
        let through = match (&what, self.invariants.leader()) {
            // Nobody else can judge it.
            (Administration::Promote(_), Some(leader)) if running.contains(&leader) => leader,
            _ => *self.world.rng.pick(&running),
        };
        self.operator.questions += 1;
        let token = Token(self.operator.questions);
        self.world.note(format_args!(
            "the operator asks m{} {token:?}: {what:?}",
            through.0
        ));
        let asked = Asked {
            at: self.world.now(),
            what: what.clone(),
            machine,
            change,
        };
        self.operator.asked.insert(token, asked);
        self.members[through.0].member.administer(token, what);
        self.outputs(through);
        self.wake(through);
    }

    /// A member answers the operator.
    pub(super) fn administered(&mut self, token: Token, answer: Administered) {
        let Some(asked) = self.operator.asked.remove(&token) else {
            return;
        };
        let members = match answer {
            Administered::Members(members) => members,
            Administered::Refused(_) => {
                if let Some(machine) = asked.machine {
                    self.members[machine.0].awaited = false;
                }
                return;
            }
            Administered::Done => {
                self.counts.user_changes += 1;
                return;
            }
            Administered::Unknown => return,
        };
        self.start_added(&members);
        if asked.what == (Administration::List { linearizable: true }) {
            self.take_removed(&members, asked.at);
            if asked.change && self.phase == Phase::Trouble {
                self.change(&members.members);
            }
        }
    }

    fn change(&mut self, members: &[Member]) {
        let free = |number: &MemberNumber| {
            let slot = &self.members[number.0];
            slot.free && !slot.awaited
        };
        let machine = (0..self.members.len()).map(MemberNumber).find(free);
        let drawn = change::draw(members, usize::from(machine.is_some()), &mut self.world.rng);
        match (drawn, machine) {
            (Some(Change::Add { learner }), Some(machine)) => {
                let slot = &mut self.members[machine.0];
                slot.awaited = true;
                slot.generation += 1;
                let url = url(machine, slot.generation);
                self.ask(Administration::Add { url, learner }, Some(machine), false);
            }
            (Some(Change::Promote(id)), _) => self.ask(Administration::Promote(id), None, false),
            (Some(Change::Remove(id)), _) => self.ask(Administration::Remove(id), None, false),
            (Some(Change::Add { .. }) | None, _) => {}
        }
    }

    /// Starts members that were added, once they are heard of.
    fn start_added(&mut self, list: &Join) {
        for machine in (0..self.members.len()).map(MemberNumber) {
            let slot = &mut self.members[machine.0];
            if !slot.free || !slot.awaited {
                continue;
            }
            let url = url(machine, slot.generation);
            let here = |member: &&Member| member.peer_urls.contains(&url);
            let Some(added) = list.members.iter().find(here) else {
                continue;
            };
            let id = added.id;
            slot.free = false;
            slot.awaited = false;
            slot.joined = self.world.now();
            slot.member.join(list.clone(), url);
            self.counts.joins += 1;
            self.world.note(format_args!("m{} is to be {id}", machine.0));
            self.invariants.wiped(machine);
            self.introduce(id, machine);
            let away_max = if self.phase == Phase::Trouble {
                START_WITHIN
            } else {
                MILLISECOND
            };
            self.world.within(0, away_max, Happening::Start(machine));
        }
    }

    fn introduce(&mut self, id: MemberId, machine: MemberNumber) {
        let known: Vec<_> = (0..self.members.len())
            .map(MemberNumber)
            .filter_map(|number| Some((self.members[number.0].member.id()?, number)))
            .collect();
        for slot in &mut self.members {
            slot.member.introduce(id, machine);
        }
        // The newcomer knows nobody.
        for (other, number) in known {
            self.members[machine.0].member.introduce(other, number);
        }
    }

    /// Takes away the machines of members that are none any more, by a list as of `at` or later, and have never got as far
    /// as to know of any. The others stop by themselves, once they are not needed any more.
    fn take_removed(&mut self, list: &Join, at: Time) {
        for machine in (0..self.members.len()).map(MemberNumber) {
            let slot = &self.members[machine.0];
            let listed = |id: MemberId| list.members.iter().any(|member| member.id == id);
            let gone = slot.member.id().is_some_and(|id| !listed(id));
            let view = self.invariants.seen(machine);
            let new = view.is_some_and(|view| view.applied == Index(0));
            if !slot.free && slot.up && slot.joined < at && gone && new {
                self.retire(machine);
            }
        }
    }

    /// A machine is free again.
    pub(super) fn retire(&mut self, machine: MemberNumber) {
        if self.members[machine.0].free {
            return;
        }
        self.world.note(format_args!("m{} is free", machine.0));
        self.crash(machine, MILLISECOND);
        let slot = &mut self.members[machine.0];
        slot.free = true;
        slot.up = false;
    }
}

/// Where the member of a machine is that is to be the next one on it.
fn url(machine: MemberNumber, generation: u64) -> String {
    format!("http://m{}-{generation}:2380", machine.0)
}

/// How often the operator looks after the machines once the trouble is over.
const OPERATE_EVERY: Time = 100 * MILLISECOND;
/// The longest time between two changes of users or roles.
const CHANGE_USERS_EVERY: Time = 60 * MILLISECOND;
/// How long the start of a member that was added may take.
const START_WITHIN: Time = 500 * MILLISECOND;
