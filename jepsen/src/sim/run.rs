//! One run: traffic while members are in trouble, then peace; then every call must end, the store must take a write and
//! show it on every member, every watcher must have all that it is owed, and all members must come to the same state; then the
//! checkers judge the record. Raft's invariants are looked at after every step.
//!
//! | file | what |
//! | --- | --- |
//! | `members` | their steps, what they tell, what is sent to them |
//! | `callers` | clients' calls and watches |
//! | `trouble` | what goes wrong, and its end |
//! | `operator` | members that come and go |

mod callers;
mod members;
mod operator;
mod trouble;

use bytes::Bytes;

use self::members::{Input, Slot};
use self::operator::Operator;
use super::clients::Clients;
use super::member::{Fingerprint, Member, MemberNumber, Token};
use super::network::{Network, Weather};
use super::plan::Plan;
use super::report::{Failure, Record, RunReport, judge};
use super::world::{MILLISECOND, SECOND, Time, World};
use crate::check::Truth;
use crate::invariants::Invariants;
use crate::nemesis::Trouble;
use crate::nemesis::clock::Speed;

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
    Start(MemberNumber),
    /// A member goes on, if this is still the pause that it is in.
    Resume(MemberNumber, u64),
    Deliver {
        from: MemberNumber,
        to: MemberNumber,
        message: Bytes,
    },
    Trouble(Trouble),
    /// A member's disk has room again, if it has not been filled again meanwhile.
    Room(MemberNumber, u64),
    /// The operator looks after the machines.
    Operate,
    /// The operator changes users or roles.
    Users,
    /// The process of a member that was removed ends.
    Retire(MemberNumber),
    /// The links are open again, if no other partition has come meanwhile.
    Unblock(u64),
    /// The trouble is over.
    Peace,
}

/// How far the run is behind its trouble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Trouble,
    /// Waiting for open calls to end.
    Settling,
    /// Waiting for the last write, then for the last read of each member.
    Writing,
    Reading(MemberNumber),
    /// Waiting for the watchers, and for the members that lag.
    Draining,
    /// Waiting until all leases must have expired, then for the list of them.
    Expiring,
    Listing,
    Done,
}

/// What was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counts {
    steps: u64,
    crashes: u64,
    pauses: u64,
    partitions: u64,
    empty_disks: u64,
    full_disks: u64,
    rotten: u64,
    refusals: u64,
    hand_overs: u64,
    stalls: u64,
    joins: u64,
    user_changes: u64,
}

struct Run<'a> {
    plan: &'a Plan,
    world: World<Happening>,
    members: Vec<Slot>,
    network: Network,
    invariants: Invariants,
    clients: Clients,
    truth: Truth,
    /// By revision from 2 on: when it was first applied, and by whom.
    applied: Vec<(Time, MemberNumber)>,
    phase: Phase,
    failures: Vec<Failure>,
    counts: Counts,
    /// When the members are next compared, and how they differed.
    compare_at: Time,
    differs: Option<[(MemberNumber, Fingerprint); 2]>,
    /// The member that has lost its disk and has not caught up yet, and up to where it must.
    recovering: Option<(MemberNumber, store::types::Index)>,
    operator: Operator,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, members: Vec<Box<dyn Member>>) -> Self {
        let count = members.len();
        let mut world = World::new(plan.seed, plan.trace_lines);
        let percent_max = plan.nemesis.clock_percent_max;
        let mut slot = |member| Slot::new(member, Speed::draw(percent_max, &mut world.rng));
        let mut members: Vec<Slot> = members.into_iter().map(&mut slot).collect();
        for spare in members.iter_mut().rev().take(plan.spares) {
            spare.free = true;
        }
        // A member alone sends nothing.
        let weather = if count == 1 {
            Weather::CALM
        } else {
            plan.nemesis.weather
        };
        Run {
            plan,
            world,
            members,
            network: Network::new(weather),
            invariants: Invariants::new(count),
            clients: Clients::new(plan.seed, plan.callers, plan.watchers, &plan.mix),
            truth: Truth::default(),
            applied: Vec::new(),
            phase: Phase::Trouble,
            failures: Vec::new(),
            counts: Counts::default(),
            compare_at: 0,
            differs: None,
            recovering: None,
            operator: Operator::default(),
        }
    }

    fn begin(&mut self) {
        for number in (0..self.members.len()).map(MemberNumber) {
            self.start(number);
            self.world.within(0, TICK_EVERY, Happening::Tick(number));
        }
        for trouble in Trouble::ALL {
            self.plan_trouble(trouble);
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
        if self.plan.users {
            self.world.after(0, Happening::Users);
        }
        self.world.after(self.plan.trouble, Happening::Peace);
    }

    fn handle(&mut self, event: Happening) {
        match event {
            Happening::Call(caller) => self.call(caller),
            Happening::GiveUp(token) => self.give_up(token),
            Happening::Connect(watcher) => self.connect(watcher),
            Happening::Fiddle(watcher) => self.fiddle(watcher),
            Happening::Step(number) => self.step(number),
            Happening::Tick(number) => self.tick(number),
            Happening::Start(number) => self.start(number),
            Happening::Resume(number, pause) => self.resume(number, pause),
            Happening::Deliver { from, to, message } => {
                if self.network.arrives((from, to)) {
                    self.input(to, Input::Message { from, message });
                }
            }
            Happening::Trouble(trouble) => self.trouble(trouble),
            Happening::Room(number, filling) => {
                if self.counts.full_disks == filling {
                    self.make_room(number);
                }
            }
            Happening::Operate => self.operate(false),
            Happening::Users => self.change_users(),
            Happening::Retire(number) => self.retire(number),
            Happening::Unblock(partition) => self.unblock(partition),
            Happening::Peace => self.peace(),
        }
        self.advance();
    }

    fn over(&self) -> bool {
        let hopeless = self
            .failures
            .iter()
            .any(|failure| matches!(failure, Failure::CannotStart(..) | Failure::Breach(_)));
        let late = self.world.now() > self.plan.trouble + self.plan.settle_within;
        hopeless || late || self.phase == Phase::Done
    }

    fn report(mut self) -> (RunReport, Record) {
        let watchers_caught_up = self.clients.all_caught_up(&self.truth);
        let hopeless = self
            .failures
            .iter()
            .any(|failure| matches!(failure, Failure::Breach(_)));
        if let Some(states) = self.differs {
            self.failures.push(Failure::StatesDiffer(states));
        }
        if self.phase != Phase::Done && !hopeless {
            self.failures.push(Failure::NoProgress {
                open_calls: self.clients.open(),
                phase: format!("{:?}", self.phase),
                watchers_caught_up,
                stands: self.stands(),
            });
        }
        let answered = self.clients.answered();
        let drained_to = (self.phase == Phase::Done).then_some(self.truth.last());
        let (history, servers, watches) = self.clients.finish(drained_to);
        let record = Record {
            history,
            servers,
            watches,
            truth: self.truth,
            applied: self.applied,
            clock_percent_max: self.plan.nemesis.clock_percent_max,
        };
        self.failures.extend(judge(&record));
        let sessions = record.watches.iter().flat_map(|watch| &watch.sessions);
        let report = RunReport {
            seed: self.plan.seed,
            members: self.members.len(),
            trace: self.world.trace.hash(),
            trace_end: self.world.trace.lines().map(str::to_owned).collect(),
            failures: self.failures,
            steps: self.counts.steps,
            crashes: self.counts.crashes,
            pauses: self.counts.pauses,
            partitions: self.counts.partitions,
            empty_disks: self.counts.empty_disks,
            full_disks: self.counts.full_disks,
            rotten: self.counts.rotten,
            refusals: self.counts.refusals,
            hand_overs: self.counts.hand_overs,
            stalls: self.counts.stalls,
            joins: self.counts.joins,
            user_changes: self.counts.user_changes,
            changes: self.invariants.changes(),
            elections: self.invariants.elections(),
            snapshots: self.invariants.snapshots(),
            traffic: self.network.traffic(),
            answered,
            revisions: record.truth.last(),
            watch_events: sessions.map(|session| session.events().count()).sum(),
        };
        (report, record)
    }
}

/// The heartbeat of a member's clock, by that clock.
const TICK_EVERY: Time = 10 * MILLISECOND;
/// The longest pause of a caller between two calls.
const CALL_PAUSE_MAX: Time = 10 * MILLISECOND;
/// The longest time between two things that a watcher does.
const FIDDLE_EVERY: Time = 60 * MILLISECOND;
/// How long after the trouble's end every lease must be gone: none lives longer than 3 s, and the last leader may have
/// been elected, and have extended them all, some time after it.
const LEASES_GONE_AFTER: Time = 8 * SECOND;
