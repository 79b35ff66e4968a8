//! Messages of other members, in any order and any shape: the member that gets them goes on, or stops and says why, as
//! it does when a leader counts on what it does not have. It never panics for another reason, and what it had
//! acknowledged before is still there.
//!
//! An input is a list of pieces: the first byte says who sends it and what the member does next, the rest is the message.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Once, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
use store::backend::MemoryBackend;
use store::env::fake::{FakeDisk, ManualClock, SeededEntropy};
use store::shell::sim::{Bugs, SimMember, SimWorld, Step};
use store::types::MemberId;
use store::{Settings, Store};

use super::input::{Input, push_piece};

/// Gives a member messages.
///
/// # Panics
/// Where the member does, for a reason that is not in the list.
pub fn one_input(data: &[u8]) {
    quiet();
    let machine = Machine::new(0);
    let mut input = Input::new(data);
    STOPS.set(true);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut member = machine.start();
        machine.settle(&mut member);
        for _ in 0..MESSAGES_MAX {
            let Some(piece) = input.piece() else { break };
            let mut piece = Input::new(piece);
            let flags = piece.byte();
            let from = ids()[1 + usize::from(flags & 1)];
            member.receive(from, Bytes::copy_from_slice(piece.rest()));
            if flags & LATER == 0 {
                machine.settle(&mut member);
            }
            if flags & TICK != 0 {
                machine.tick(&mut member);
            }
            let _ = member.take_sends();
        }
        machine.settle(&mut member);
        let _ = member.raft();
    }));
    STOPS.set(false);
    if let Err(panic) = ran {
        let text = text(panic.as_ref());
        assert!(KNOWN_STOPS.iter().any(|known| text.contains(known)), "{text}");
    }
    // Whatever it was, the member starts again from what it has.
    let mut member = machine.start();
    machine.settle(&mut member);
}

thread_local! {
    /// The panics of this thread are looked at by [`one_input`].
    static STOPS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Panics that are caught and judged print nothing, and do not end the process under libFuzzer.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !STOPS.get() {
                before(panic);
            }
        }));
    });
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default()
}

/// A machine of one of three members.
struct Machine {
    world: SimWorld,
    clock: ManualClock,
    settings: Settings,
}

impl Machine {
    fn new(number: usize) -> Machine {
        let clock = ManualClock::new(1);
        let mut settings = Settings::new("/data");
        settings.initial_cluster = (0..3).map(|number| (name(number), vec![url(number)])).collect();
        settings.name = name(number);
        settings.initial_advertise_peer_urls = vec![url(number)];
        settings.limits.wal_segment_bytes = 64 << 10;
        settings.disk_reserve_bytes = 0;
        let world = SimWorld {
            disk: Arc::new(FakeDisk::new(number as u64)),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SeededEntropy::new(number as u64)),
            backend: Arc::new(MemoryBackend::new()),
        };
        Machine {
            world,
            clock,
            settings,
        }
    }

    fn start(&self) -> SimMember {
        let opened = SimMember::open(self.settings.clone(), self.world.clone(), Bugs::default());
        opened.unwrap_or_else(|error| panic!("the member does not start: {error}"))
    }

    fn settle(&self, member: &mut SimMember) {
        let untimed = [
            Step::Round,
            Step::WriteLog,
            Step::Deliver,
            Step::Compact,
            Step::Work,
        ];
        for _ in 0..STEPS_MAX {
            let Some(step) = untimed.into_iter().find(|step| member.enabled(*step)) else {
                return;
            };
            member.step(step);
        }
        panic!("the member does not come to rest");
    }

    fn tick(&self, member: &mut SimMember) {
        self.clock.advance(Duration::from_millis(100));
        member.step(Step::Tick);
        member.step(Step::WatchTick);
        self.settle(member);
    }
}

fn name(number: usize) -> String {
    format!("m{number}")
}

fn url(number: usize) -> String {
    format!("http://m{number}:2380")
}

/// The three members, the one under test first.
fn ids() -> &'static [MemberId; 3] {
    static IDS: OnceLock<[MemberId; 3]> = OnceLock::new();
    IDS.get_or_init(|| [0, 1, 2].map(|number| Machine::new(number).start().member()))
}

/// What the first of three members hears while another leads, and while it leads itself: whole conversations, and their
/// ends.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for leader in [0, 1] {
        let heard = conversation(leader);
        let list = |heard: &[(usize, Bytes)]| {
            let mut seed = Vec::new();
            for (from, message) in heard {
                let flags = u8::try_from(from - 1).unwrap_or(0) | TICK;
                push_piece(&mut seed, &[&[flags], &message[..]].concat());
            }
            seed
        };
        seeds.extend(heard.chunks(12).map(list));
        seeds.extend(
            heard
                .iter()
                .rev()
                .step_by(5)
                .map(|one| list(std::slice::from_ref(one))),
        );
    }
    seeds
}

/// What the first member hears of the others, by their numbers.
fn conversation(leader: usize) -> Vec<(usize, Bytes)> {
    let machines: Vec<Machine> = (0..3).map(Machine::new).collect();
    let mut members: Vec<SimMember> = machines.iter().map(Machine::start).collect();
    let mut heard = Vec::new();
    for round in 0..60 {
        for (number, machine) in machines.iter().enumerate() {
            // Whoever is to lead is awake first.
            if number == leader || round > 25 {
                machine.tick(&mut members[number]);
            } else {
                machine.settle(&mut members[number]);
            }
        }
        deliver(&machines, &mut members, &mut heard);
    }
    for key in ["a", "b"] {
        let store = members[2].store();
        call(&machines, &mut members, &mut heard, put(store, key));
    }
    let store = members[0].store();
    call(&machines, &mut members, &mut heard, grant(store));
    heard
}

async fn put(store: Store, key: &str) {
    let request = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..PutRequest::default()
    };
    let _ = store.put(request).await;
}

async fn grant(store: Store) {
    let _ = store.lease_grant(LeaseGrantRequest { ttl: 60, id: 5 }).await;
    let _ = store.lease_keep_alive(5).await;
}

/// Lets time pass until a call is answered.
fn call(
    machines: &[Machine],
    members: &mut [SimMember],
    heard: &mut Vec<(usize, Bytes)>,
    call: impl Future<Output = ()>,
) {
    let mut call = pin!(call);
    for _ in 0..20 {
        if let Poll::Ready(()) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return;
        }
        for (number, machine) in machines.iter().enumerate() {
            machine.tick(&mut members[number]);
        }
        deliver(machines, members, heard);
    }
}

fn deliver(machines: &[Machine], members: &mut [SimMember], heard: &mut Vec<(usize, Bytes)>) {
    for _ in 0..10 {
        let mut sent = Vec::new();
        for (from, member) in members.iter_mut().enumerate() {
            sent.extend(member.take_sends().into_iter().map(|sent| (from, sent)));
        }
        if sent.is_empty() {
            return;
        }
        for (from, sent) in sent {
            let to = ids().iter().position(|id| *id == sent.to).unwrap_or_default();
            if to == 0 {
                heard.push((from, sent.message.clone()));
            }
            members[to].receive(ids()[from], sent.message);
        }
        for (number, machine) in machines.iter().enumerate() {
            machine.settle(&mut members[number]);
        }
    }
}

/// Flags of a piece, beside the sender: what comes next is taken in together with it; time passes after it.
const LATER: u8 = 2;
const TICK: u8 = 4;
/// Messages of an input.
const MESSAGES_MAX: usize = 64;
/// Steps until a member has nothing left to do.
const STEPS_MAX: usize = 10_000;
/// Why a member may stop: a leader that was elected contradicts what a member knows to be decided, or says that it has lost
/// something. Going on would be worse.
const KNOWN_STOPS: &[&str] = &["the leader counts on entry"];
