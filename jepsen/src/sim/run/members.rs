//! The members of a run: starts, steps, ticks, what is sent to them and what they tell.

use bytes::Bytes;
use proto::etcdserverpb::WatchRequest;
use proto::mvccpb::Event;

use super::{Happening, Run, TICK_EVERY};
use crate::check::Violation;
use crate::history::Outcome;
use crate::model::Request;
use crate::nemesis::clock::Speed;
use crate::sim::clients::Server;
use crate::sim::member::{Fingerprint, Member, MemberNumber, Output, Step, StreamId, Token};
use crate::sim::report::Failure;
use crate::sim::world::{MICROSECOND, MILLISECOND, Time};

/// A member and what the run knows of it.
pub(super) struct Slot {
    pub(super) member: Box<dyn Member>,
    pub(super) up: bool,
    /// No member is on this machine.
    pub(super) free: bool,
    /// Counts the members that were to be on it.
    pub(super) generation: u64,
    /// One was added, or perhaps was, that has not been started yet.
    pub(super) awaited: bool,
    /// When the member on it joined.
    pub(super) joined: Time,
    /// Counts its starts.
    pub(super) life: u64,
    speed: Speed,
    /// A step of it is already due.
    stepping: bool,
    /// The number of the pause that it is in.
    pub(super) paused: Option<u64>,
    /// Something on its disk has changed since it ran.
    pub(super) rotten: bool,
    /// What has come for it meanwhile.
    held: Vec<Input>,
}

/// What can be sent to a member.
#[derive(Debug)]
pub(super) enum Input {
    Message { from: MemberNumber, message: Bytes },
    Call(Token, Request),
    Abandon(Token),
    Watch(StreamId, WatchRequest),
    Close(StreamId),
}

impl Slot {
    pub(super) fn new(member: Box<dyn Member>, speed: Speed) -> Self {
        Slot {
            member,
            up: false,
            free: false,
            generation: 0,
            awaited: false,
            joined: 0,
            life: 0,
            speed,
            stepping: false,
            paused: None,
            rotten: false,
            held: Vec::new(),
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.up && self.paused.is_none()
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Message { from, message } => self.member.receive(from, message),
            Input::Call(token, request) => self.member.call(token, request),
            Input::Abandon(token) => self.member.abandon(token),
            Input::Watch(stream, request) => self.member.watch(stream, request),
            Input::Close(stream) => self.member.close(stream),
        }
    }
}

impl Run<'_> {
    pub(super) fn all_run(&self) -> bool {
        self.members.iter().all(|slot| slot.free || slot.runs())
    }

    pub(super) fn server(&self, member: MemberNumber) -> Server {
        Server {
            member,
            life: self.members[member.0].life,
        }
    }

    pub(super) fn start(&mut self, number: MemberNumber) {
        let slot = &mut self.members[number.0];
        if slot.up || slot.free {
            return;
        }
        let now = slot.speed.shown(self.world.now());
        self.world.note(format_args!("m{} starts", number.0));
        let mut started = slot.member.start(now);
        if std::mem::take(&mut slot.rotten) {
            match &started {
                // Healed, or never to be read again.
                Ok(()) => self.recovering = None,
                Err(reason) => {
                    let reason = reason.clone();
                    self.world
                        .note(format_args!("m{} refuses its disk: {reason}", number.0));
                    self.counts.refusals += 1;
                    let slot = &mut self.members[number.0];
                    slot.member.wipe();
                    started = slot.member.start(now);
                    self.invariants.wiped(number);
                }
            }
        }
        let slot = &mut self.members[number.0];
        match started {
            Ok(()) => slot.up = true,
            Err(reason) => return self.failures.push(Failure::CannotStart(number, reason)),
        }
        slot.life += 1;
        self.tell_connections();
        self.outputs(number);
        self.wake(number);
    }

    /// Tells the members which connections stand, where they notice.
    pub(super) fn tell_connections(&mut self) {
        if !self.plan.nemesis.breaks_noticed {
            return;
        }
        let up: Vec<bool> = self.members.iter().map(|slot| slot.up).collect();
        for from in 0..up.len() {
            for to in (0..up.len()).filter(|to| *to != from) {
                let link = (MemberNumber(from), MemberNumber(to));
                let connected = up[to] && self.network.connects(link);
                self.members[from].member.connect(link.1, connected);
            }
        }
    }

    pub(super) fn stall(&mut self, number: MemberNumber, away: Time) {
        let until = self.world.now() + away;
        let slot = &mut self.members[number.0];
        if slot.up {
            self.counts.stalls += 1;
            self.world.note(format_args!("m{}'s disk stands still", number.0));
            slot.member.stall(slot.speed.shown(until));
        }
    }

    pub(super) fn hand_over(&mut self, number: MemberNumber) {
        let slot = &mut self.members[number.0];
        if slot.runs() {
            self.world.note(format_args!("m{} is to hand over", number.0));
            slot.member.hand_over(slot.speed.shown(self.world.now()));
            self.counts.hand_overs += 1;
            self.outputs(number);
            self.observe(number);
            self.wake(number);
        }
    }

    /// Sends something to a member. To one without power nothing comes; for one that stands still it waits.
    pub(super) fn input(&mut self, number: MemberNumber, input: Input) {
        if let Input::Message { from, message } = &input {
            let message = self.members[number.0].member.describe(message);
            self.world
                .note(format_args!("m{} <- m{} {message}", number.0, from.0));
        }
        let slot = &mut self.members[number.0];
        if slot.runs() {
            slot.take(input);
            self.outputs(number);
            self.wake(number);
        } else if slot.up {
            slot.held.push(input);
        }
    }

    pub(super) fn resume(&mut self, number: MemberNumber, pause: u64) {
        let slot = &mut self.members[number.0];
        if slot.paused != Some(pause) {
            return;
        }
        slot.paused = None;
        self.world.note(format_args!("m{} goes on", number.0));
        for input in std::mem::take(&mut self.members[number.0].held) {
            self.input(number, input);
        }
        self.wake(number);
    }

    pub(super) fn wake(&mut self, number: MemberNumber) {
        let slot = &mut self.members[number.0];
        if slot.runs() && !slot.stepping {
            slot.stepping = true;
            self.world.within(MICROSECOND, STEP_MAX, Happening::Step(number));
        }
    }

    pub(super) fn tick(&mut self, number: MemberNumber) {
        let slot = &mut self.members[number.0];
        let next = slot.speed.truly(TICK_EVERY);
        if slot.runs() {
            slot.member.tick(slot.speed.shown(self.world.now()));
            self.wake(number);
        }
        self.world.after(next, Happening::Tick(number));
    }

    pub(super) fn step(&mut self, number: MemberNumber) {
        let slot = &mut self.members[number.0];
        slot.stepping = false;
        if !slot.runs() {
            return;
        }
        let now = slot.speed.shown(self.world.now());
        let stepped = slot.member.step(now, &mut self.world.rng);
        self.outputs(number);
        match stepped {
            Step::Idle => return,
            Step::Worked => {
                self.observe(number);
                self.wake(number);
            }
            Step::Died { reason, expected } => {
                self.world.note(format_args!("m{} died: {reason}", number.0));
                if !expected {
                    self.failures.push(Failure::Died(number, reason));
                }
                self.crash(number, self.plan.nemesis.away_max);
            }
        }
        self.counts.steps += 1;
        if self.plan.crash_at_step == Some(self.counts.steps) {
            self.crash(number, self.plan.nemesis.away_max);
        }
    }

    /// Takes a member's power; it comes back within a while.
    pub(super) fn crash(&mut self, number: MemberNumber, away_max: Time) {
        let slot = &mut self.members[number.0];
        if !slot.up {
            return;
        }
        slot.up = false;
        slot.paused = None;
        slot.held.clear();
        self.counts.crashes += 1;
        self.world.note(format_args!("m{} crashes", number.0));
        slot.member.crash(&mut self.world.rng);
        // What it had not told yet, nobody will hear.
        drop(slot.member.take_outputs());
        self.invariants.restarted(number);
        self.tell_connections();
        for token in self.clients.open_on(number) {
            self.end_call(token, Outcome::Unknown);
        }
        for watcher in self.clients.watching(number) {
            self.clients.disconnect(watcher);
            self.reconnect(watcher);
        }
        let away_max = away_max.max(MILLISECOND);
        self.world.within(MILLISECOND, away_max, Happening::Start(number));
    }

    /// Looks at where the member stands after a step.
    fn observe(&mut self, number: MemberNumber) {
        let Some(seen) = self.members[number.0].member.raft() else {
            return;
        };
        if let Some((member, upto)) = self.recovering
            && member == number
            && seen.view.applied >= upto
        {
            self.recovering = None;
            self.world.note(format_args!("m{} has caught up", number.0));
        }
        for breach in self.invariants.observe(number, seen) {
            self.failures.push(Failure::Breach(breach));
        }
    }

    pub(super) fn outputs(&mut self, from: MemberNumber) {
        for output in self.members[from.0].member.take_outputs() {
            match &output {
                Output::Send {
                    to, class, message, ..
                } => {
                    let message = self.members[from.0].member.describe(message);
                    self.world
                        .note(format_args!("m{} -> m{} {class:?} {message}", from.0, to.0));
                }
                other => self.world.note(format_args!("m{} {other:?}", from.0)),
            }
            match output {
                Output::Answer { call, outcome } => self.end_call(call, outcome),
                Output::Watch { stream, response } => {
                    let now = self.world.now();
                    if let Some(watcher) = self.clients.heard(stream, response, now) {
                        self.clients.disconnect(watcher);
                        self.reconnect(watcher);
                    }
                }
                Output::Applied { events } => self.applied(from, &events),
                Output::Administered { asked, answer } => self.administered(asked, answer),
                Output::Removed => self.world.after(MILLISECOND, Happening::Retire(from)),
                Output::Send {
                    to,
                    message,
                    once,
                    told,
                    ..
                } => {
                    if let Some(told) = told
                        && let Some(breach) = self.invariants.told(from, told)
                    {
                        self.failures.push(Failure::Breach(breach));
                    }
                    for after in self.network.send((from, to), once, &mut self.world.rng) {
                        let message = message.clone();
                        self.world.after(after, Happening::Deliver { from, to, message });
                    }
                }
            }
        }
    }

    /// Every member that applies a revision must apply the same one.
    fn applied(&mut self, member: MemberNumber, events: &[Event]) {
        let known = self.truth.last();
        match self.truth.push(events) {
            Ok(()) if self.truth.last() > known => self.applied.push((self.world.now(), member)),
            Ok(()) => {}
            Err(Violation::ImpossibleEvents {
                revision,
                found,
                expected,
            }) => {
                let first = usize::try_from(revision - 2)
                    .ok()
                    .and_then(|at| self.applied.get(at));
                self.failures.push(Failure::Diverged {
                    revision,
                    first: first.map_or(member, |(_, first)| *first),
                    second: member,
                    was: expected,
                    is: found,
                });
            }
            Err(violation) => self.failures.push(Failure::Violation(violation)),
        }
    }

    /// Whether all members have applied all that anybody has committed; where they have, they must be equal.
    pub(super) fn converged(&mut self) -> bool {
        let committed = self.invariants.committed();
        let behind = |number| {
            let seen = self.invariants.seen(number);
            seen.is_some_and(|view| view.applied < committed)
        };
        !(0..self.members.len()).map(MemberNumber).any(behind)
    }

    /// Two members whose histories differ, though all have applied everything.
    pub(super) fn difference(&mut self) -> Option<[(MemberNumber, Fingerprint); 2]> {
        let revision = self.truth.last();
        let mut known: Vec<(MemberNumber, Fingerprint)> = Vec::new();
        for (number, slot) in self.members.iter_mut().enumerate() {
            let Some(print) = slot.member.fingerprint(revision) else {
                continue;
            };
            let this = (MemberNumber(number), print);
            match known.iter().find(|(_, other)| other.compacted == print.compacted) {
                Some(other) if other.1 != print => return Some([*other, this]),
                Some(_) => {}
                None => known.push(this),
            }
        }
        None
    }

    /// Where every member stands, for a report.
    pub(super) fn stands(&self) -> Vec<String> {
        let stand = |(number, slot): (usize, &Slot)| {
            let view = self.invariants.seen(MemberNumber(number));
            format!("m{number} up {} paused {:?}: {view:?}", slot.up, slot.paused)
        };
        self.members.iter().enumerate().map(stand).collect()
    }
}

/// The longest time between an event and the step of an actor that takes it.
const STEP_MAX: Time = 200 * MICROSECOND;
