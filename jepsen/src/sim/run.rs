//! One run: traffic while members crash, then peace; then every call must end, the store must take a write and show it,
//! and every watcher must have all that it is owed; then the checkers judge the record.

use bytes::Bytes;
use proto::etcdserverpb::{PutRequest, RangeRequest};

use super::clients::Clients;
use super::member::{Member, MemberNumber, Output, Step, Token};
use super::plan::Plan;
use super::report::{Failure, Record, RunReport, judge};
use super::world::{MICROSECOND, MILLISECOND, SECOND, Time, World};
use crate::check::Truth;
use crate::history::Outcome;
use crate::model::{Answer, Request};

/// Runs a plan on these members, none of which has been started.
#[must_use]
pub fn run(plan: &Plan, members: Vec<Box<dyn Member>>) -> RunReport {
    record(plan, members).0
}

/// Runs a plan and keeps the record.
#[must_use]
pub fn record(plan: &Plan, members: Vec<Box<dyn Member>>) -> (RunReport, Record) {
    assert!(!members.is_empty(), "a run needs a member");
    let mut run = Run::new(plan, members);
    run.begin();
    while !run.over() {
        let Some(event) = run.world.next_event() else {
            break;
        };
        run.handle(event);
    }
    run.report()
}

/// What happens in a run.
#[derive(Debug)]
enum Happening {
    /// A caller sends its next request.
    Call(usize),
    /// A caller has waited long enough.
    GiveUp(Token),
    /// A watcher opens its next stream.
    Connect(usize),
    /// A watcher asks for progress, or its stream breaks.
    Fiddle(usize),
    Step(MemberNumber),
    Tick(MemberNumber),
    Crash(MemberNumber),
    Start(MemberNumber),
    Deliver {
        from: MemberNumber,
        to: MemberNumber,
        message: Bytes,
    },
    /// The trouble is over.
    Peace,
}

struct Slot {
    member: Box<dyn Member>,
    up: bool,
    /// A step of it is already due.
    stepping: bool,
}

/// How far the run is behind its trouble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Trouble,
    /// Waiting for open calls to end.
    Settling,
    /// Waiting for the last write, then for the last read.
    Writing,
    Reading,
    /// Waiting for the watchers.
    Draining,
}

struct Run<'a> {
    plan: &'a Plan,
    world: World<Happening>,
    members: Vec<Slot>,
    clients: Clients,
    truth: Truth,
    phase: Phase,
    failures: Vec<Failure>,
    steps: u64,
    crashes: u64,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, members: Vec<Box<dyn Member>>) -> Self {
        let members = members
            .into_iter()
            .map(|member| Slot {
                member,
                up: false,
                stepping: false,
            })
            .collect();
        Run {
            plan,
            world: World::new(plan.seed, plan.trace_lines),
            members,
            clients: Clients::new(plan.seed, plan.callers, plan.watchers, &plan.mix),
            truth: Truth::default(),
            phase: Phase::Trouble,
            failures: Vec::new(),
            steps: 0,
            crashes: 0,
        }
    }

    fn begin(&mut self) {
        for number in (0..self.members.len()).map(MemberNumber) {
            self.start(number);
            self.world.within(0, TICK_EVERY, Happening::Tick(number));
            self.plan_crash(number);
        }
        for caller in 0..self.plan.callers {
            self.world.within(0, CALL_PAUSE_MAX, Happening::Call(caller));
        }
        for watcher in 0..self.plan.watchers {
            // Some from the first revision on, some in the middle of things.
            self.world
                .within(0, self.plan.trouble, Happening::Connect(watcher));
            self.world.within(0, FIDDLE_EVERY, Happening::Fiddle(watcher));
        }
        self.world.after(self.plan.trouble, Happening::Peace);
    }

    fn handle(&mut self, event: Happening) {
        match event {
            Happening::Call(caller) => self.call(caller),
            Happening::GiveUp(token) => self.end_call(token, Outcome::Unknown),
            Happening::Connect(watcher) => self.connect(watcher),
            Happening::Fiddle(watcher) => self.fiddle(watcher),
            Happening::Step(number) => self.step(number),
            Happening::Tick(number) => {
                if self.members[number.0].up {
                    self.members[number.0].member.tick(self.world.now());
                    self.wake(number);
                }
                self.world.after(TICK_EVERY, Happening::Tick(number));
            }
            Happening::Crash(number) => self.chance_to_crash(number),
            Happening::Start(number) => self.start(number),
            Happening::Deliver { from, to, message } => {
                if self.members[to.0].up {
                    self.members[to.0].member.receive(from, message);
                    self.wake(to);
                }
            }
            Happening::Peace => {
                self.world.note(format_args!("peace"));
                self.phase = Phase::Settling;
            }
        }
        self.advance();
    }

    // Members.

    fn start(&mut self, number: MemberNumber) {
        let slot = &mut self.members[number.0];
        if slot.up {
            return;
        }
        let now = self.world.now();
        self.world.note(format_args!("m{} starts", number.0));
        match slot.member.start(now) {
            Ok(()) => slot.up = true,
            Err(reason) => return self.failures.push(Failure::CannotStart(number, reason)),
        }
        self.outputs(number);
        self.wake(number);
    }

    fn wake(&mut self, number: MemberNumber) {
        let slot = &mut self.members[number.0];
        if slot.up && !slot.stepping {
            slot.stepping = true;
            self.world.within(MICROSECOND, STEP_MAX, Happening::Step(number));
        }
    }

    fn step(&mut self, number: MemberNumber) {
        let slot = &mut self.members[number.0];
        slot.stepping = false;
        if !slot.up {
            return;
        }
        let now = self.world.now();
        let stepped = slot.member.step(now, &mut self.world.rng);
        self.outputs(number);
        match stepped {
            Step::Idle => return,
            Step::Worked => self.wake(number),
            Step::Died { reason, expected } => {
                self.world.note(format_args!("m{} died: {reason}", number.0));
                if !expected {
                    self.failures.push(Failure::Died(number, reason));
                }
                self.crash(number);
            }
        }
        self.steps += 1;
        if self.plan.crash_at_step == Some(self.steps) {
            self.crash(number);
        }
    }

    fn plan_crash(&mut self, number: MemberNumber) {
        if let Some(mean) = self.plan.crash_every {
            self.world.within(1, 2 * mean, Happening::Crash(number));
        }
    }

    /// A crash now, or one in the middle of the disk operations to come.
    fn chance_to_crash(&mut self, number: MemberNumber) {
        if self.phase != Phase::Trouble {
            return;
        }
        if self.world.rng.once_in(2) {
            self.crash(number);
        } else if self.members[number.0].up {
            let operations = self.world.rng.between(1, ARMED_OPERATIONS_MAX);
            self.world
                .note(format_args!("m{} is armed: {operations}", number.0));
            self.members[number.0].member.arm_crash(operations);
        }
        self.plan_crash(number);
    }

    fn crash(&mut self, number: MemberNumber) {
        let slot = &mut self.members[number.0];
        if !slot.up {
            return;
        }
        slot.up = false;
        self.crashes += 1;
        self.world.note(format_args!("m{} crashes", number.0));
        slot.member.crash(&mut self.world.rng);
        // What it had not told yet, nobody will hear.
        drop(slot.member.take_outputs());
        for token in self.clients.open_on(number) {
            self.end_call(token, Outcome::Unknown);
        }
        for watcher in self.clients.watching(number) {
            self.clients.disconnect(watcher);
            self.world
                .within(MILLISECOND, RECONNECT_MAX, Happening::Connect(watcher));
        }
        self.world
            .within(MILLISECOND, RESTART_MAX, Happening::Start(number));
    }

    fn outputs(&mut self, from: MemberNumber) {
        for output in self.members[from.0].member.take_outputs() {
            self.world.note(format_args!("m{} {output:?}", from.0));
            match output {
                Output::Answer { call, outcome } => self.end_call(call, outcome),
                Output::Watch { stream, response } => {
                    let now = self.world.now();
                    if let Some(watcher) = self.clients.heard(stream, response, now) {
                        self.clients.disconnect(watcher);
                        self.world
                            .within(MILLISECOND, RECONNECT_MAX, Happening::Connect(watcher));
                    }
                }
                Output::Applied { events } => {
                    if let Err(violation) = self.truth.push(&events) {
                        self.failures.push(Failure::Violation(violation));
                    }
                }
                Output::Send { to, message } => {
                    let delivery = Happening::Deliver { from, to, message };
                    self.world.within(MICROSECOND, MESSAGE_MAX, delivery);
                }
            }
        }
    }

    // Clients.

    fn call(&mut self, caller: usize) {
        if self.phase == Phase::Trouble {
            let request = self.clients.next_request(caller);
            self.send(caller, request);
        }
    }

    fn send(&mut self, caller: usize, request: Request) {
        if let Request::Compact(compaction) = &request {
            self.truth.compacted(compaction.revision);
        }
        let number = MemberNumber(self.world.rng.index(self.members.len()));
        let now = self.world.now();
        let token = self.clients.invoke(caller, request.clone(), number, now);
        self.world
            .note(format_args!("c{caller} {token:?} to m{}: {request:?}", number.0));
        if self.members[number.0].up {
            self.members[number.0].member.call(token, request);
            self.world.after(CALL_PATIENCE, Happening::GiveUp(token));
            self.wake(number);
        } else {
            // Nobody listens: the connection is refused.
            self.end_call(token, Outcome::Failed);
        }
    }

    fn end_call(&mut self, token: Token, outcome: Outcome<Answer>) {
        let now = self.world.now();
        let answered = matches!(outcome, Outcome::Ok(Ok(_)));
        let Some(caller) = self.clients.returned(token, outcome, now) else {
            return;
        };
        match self.phase {
            Phase::Trouble => self.world.within(0, CALL_PAUSE_MAX, Happening::Call(caller)),
            Phase::Writing if answered => self.phase = Phase::Reading,
            Phase::Reading if answered => self.phase = Phase::Draining,
            Phase::Settling | Phase::Writing | Phase::Reading | Phase::Draining => {}
        }
    }

    fn connect(&mut self, watcher: usize) {
        let number = MemberNumber(self.world.rng.index(self.members.len()));
        if !self.members[number.0].up {
            return self
                .world
                .within(MILLISECOND, RECONNECT_MAX, Happening::Connect(watcher));
        }
        let (stream, request) = self.clients.connect(watcher, number);
        self.world.note(format_args!(
            "w{watcher} {stream:?} to m{}: {request:?}",
            number.0
        ));
        self.members[number.0].member.watch(stream, request);
        self.wake(number);
    }

    fn fiddle(&mut self, watcher: usize) {
        if self.phase == Phase::Trouble && self.world.rng.once_in(8) {
            if let Some((stream, number)) = self.clients.disconnect(watcher) {
                self.world.note(format_args!("w{watcher} breaks {stream:?}"));
                self.members[number.0].member.close(stream);
                self.world
                    .within(MILLISECOND, RECONNECT_MAX, Happening::Connect(watcher));
            }
        } else if let Some((stream, number, request)) = self.clients.ask_progress(watcher) {
            self.members[number.0].member.watch(stream, request);
            self.wake(number);
        }
        self.world.within(1, FIDDLE_EVERY, Happening::Fiddle(watcher));
    }

    // The end.

    /// After the trouble: a write once all calls have ended, a read of everything, then the watchers.
    fn advance(&mut self) {
        let all_up = self.members.iter().all(|slot| slot.up);
        if self.phase == Phase::Trouble || !all_up || self.clients.open() > 0 {
            return;
        }
        match self.phase {
            Phase::Settling | Phase::Writing => {
                self.phase = Phase::Writing;
                let key = Bytes::from_static(b"probe");
                self.send(
                    0,
                    Request::Put(PutRequest {
                        key,
                        ..PutRequest::default()
                    }),
                );
            }
            Phase::Reading => {
                let all = Bytes::from_static(b"\0");
                let range = RangeRequest {
                    key: all.clone(),
                    range_end: all,
                    ..RangeRequest::default()
                };
                self.send(0, Request::Range(range));
            }
            Phase::Trouble | Phase::Draining => {}
        }
    }

    fn over(&self) -> bool {
        let cannot_start = self
            .failures
            .iter()
            .any(|f| matches!(f, Failure::CannotStart(..)));
        let late = self.world.now() > self.plan.trouble + self.plan.settle_within;
        let drained = self.phase == Phase::Draining && self.clients.all_caught_up(&self.truth);
        cannot_start || late || drained
    }

    fn report(mut self) -> (RunReport, Record) {
        let watchers_caught_up = self.clients.all_caught_up(&self.truth);
        let probed = self.phase == Phase::Draining;
        if !probed || !watchers_caught_up {
            let open_calls = self.clients.open();
            self.failures.push(Failure::NoProgress {
                open_calls,
                probed,
                watchers_caught_up,
            });
        }
        let answered = self.clients.answered();
        let (history, watches) = self.clients.finish(self.truth.last());
        let record = Record {
            history,
            watches,
            truth: self.truth,
        };
        self.failures.extend(judge(&record));
        let sessions = record.watches.iter().flat_map(|watch| &watch.sessions);
        let report = RunReport {
            seed: self.plan.seed,
            trace: self.world.trace.hash(),
            trace_end: self.world.trace.lines().map(str::to_owned).collect(),
            failures: self.failures,
            steps: self.steps,
            crashes: self.crashes,
            answered,
            revisions: record.truth.last(),
            watch_events: sessions.map(|session| session.events().count()).sum(),
        };
        (report, record)
    }
}

/// The heartbeat of a member's clock.
const TICK_EVERY: Time = 10 * MILLISECOND;
/// The longest time between an event and the step of an actor that takes it.
const STEP_MAX: Time = 200 * MICROSECOND;
/// The longest way of a message.
const MESSAGE_MAX: Time = 5 * MILLISECOND;
/// The longest pause of a caller between two calls.
const CALL_PAUSE_MAX: Time = 10 * MILLISECOND;
/// How long a caller waits for an answer.
const CALL_PATIENCE: Time = 8 * SECOND;
/// The longest time that a watcher takes to come back.
const RECONNECT_MAX: Time = 20 * MILLISECOND;
/// The longest time that a member takes to come back.
const RESTART_MAX: Time = 30 * MILLISECOND;
/// The longest time between two things that a watcher does.
const FIDDLE_EVERY: Time = 60 * MILLISECOND;
/// The last disk operation at which an armed crash may strike.
const ARMED_OPERATIONS_MAX: u64 = 12;
