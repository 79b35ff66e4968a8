//! A full disk, at every write in turn: nothing acknowledged is lost, and the member goes on by itself once there is
//! space, or has stopped and is well after a restart.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};

use super::one::{One, TICK, poll};
use crate::backend::MemoryBackend;
use crate::env::fake::FakeDisk;
use crate::error::{Error, RequestError};

/// What a client knows.
#[derive(Default)]
struct Known {
    /// Puts that were acknowledged and whose key nobody tried to delete since.
    present: Vec<usize>,
    /// Deletes that were acknowledged.
    absent: Vec<usize>,
}

fn key(number: usize) -> String {
    format!("key/{number:04}")
}

fn value(number: usize) -> String {
    format!("{number:<8}").repeat(VALUE_BYTES / 8)
}

/// Waits for a call for as long as a member takes that goes on; `None` where it does not answer.
fn try_call<T>(one: &mut One, call: impl Future<Output = Result<T, Error>>) -> Option<Result<T, Error>> {
    let mut call = pin!(call);
    for _ in 0..PATIENCE_TICKS {
        if let Poll::Ready(done) = poll(call.as_mut()) {
            return Some(done);
        }
        if one.member.fatal().is_some() {
            return None;
        }
        one.settle();
        if let Poll::Ready(done) = poll(call.as_mut()) {
            return Some(done);
        }
        one.pass(TICK);
    }
    None
}

fn put(one: &mut One, number: usize) -> Option<Result<(), Error>> {
    let store = one.store();
    let request = PutRequest {
        key: key(number).into(),
        value: value(number).into(),
        ..PutRequest::default()
    };
    try_call(one, store.put(request)).map(|done| done.map(drop))
}

/// Writes, deletes, compactions, checkpoints and snapshots, until something is not answered.
fn live(one: &mut One, numbers: std::ops::Range<usize>, known: &mut Known) {
    for number in numbers {
        match put(one, number) {
            Some(Ok(())) => known.present.push(number),
            Some(Err(_)) => {}
            None => return,
        }
        if number % 5 == 4 && number >= 8 {
            let victim = number - 8;
            known.present.retain(|present| *present != victim);
            let store = one.store();
            let delete = DeleteRangeRequest {
                key: key(victim).into(),
                ..DeleteRangeRequest::default()
            };
            match try_call(one, store.delete_range(delete)) {
                Some(Ok(_)) => known.absent.push(victim),
                Some(Err(_)) => {}
                None => return,
            }
        }
        if number % 16 == 15 {
            let store = one.store();
            let revision = store.status().header.revision;
            let compact = CompactionRequest {
                revision,
                physical: false,
            };
            if try_call(one, store.compact(compact)).is_none() {
                return;
            }
            one.member.actors.maintenance.snapshot_wanted();
            one.pass(Duration::from_secs(2));
        }
    }
}

/// Compares what is there with what a client knows.
fn check(one: &mut One, known: &Known, when: &str) {
    let store = one.store();
    let all = RangeRequest {
        key: "key/".into(),
        range_end: "key0".into(),
        ..RangeRequest::default()
    };
    let kvs = one.call(store.range(all)).unwrap().kvs;
    let found = |number: usize| kvs.iter().find(|kv| kv.key == key(number).as_bytes());
    for number in &known.present {
        let kv =
            found(*number).unwrap_or_else(|| panic!("{when}: key {number} was acknowledged and is lost"));
        assert_eq!(kv.value, value(*number).as_bytes(), "{when}: key {number}");
    }
    for number in &known.absent {
        assert!(
            found(*number).is_none(),
            "{when}: key {number} was deleted and is back"
        );
    }
}

/// Whether it goes on by itself: within a while a write is taken.
fn goes_on(one: &mut One) -> bool {
    for attempt in 0..RESUME_TRIES {
        match put(one, 5000 + attempt) {
            Some(Ok(())) => return true,
            Some(Err(Error::Request(RequestError::NoSpace))) => one.pass(Duration::from_secs(1)),
            Some(Err(_)) => one.pass(TICK),
            None => return false,
        }
    }
    false
}

/// What came of a life with a full disk.
#[derive(Default, Debug)]
struct Outcomes {
    went_on: usize,
    stopped: usize,
    did_not_start: usize,
}

/// Two lives of a member, in the second of which the disk is full for some changes from the `nth` on.
fn lives(nth: u64, changes: u64, outcomes: &mut Outcomes) -> u64 {
    let when = format!("full for {changes} from change {nth}");
    let (disk, backend) = (FakeDisk::new(nth), Arc::new(MemoryBackend::new()));
    let mut known = Known::default();
    let mut one = One::open(disk.clone(), &backend).unwrap();
    one.pass(Duration::from_secs(1));
    live(&mut one, 0..FIRST_LIFE, &mut known);
    assert_eq!(known.absent.len(), 3, "the first life is untroubled");
    drop(one);
    disk.crash(nth);
    backend.crash();

    let before = disk.operations().changes;
    disk.fill_at(nth, changes);
    let begun = One::open(disk.clone(), &backend);
    let mut one = match begun {
        Ok(mut one) => {
            one.pass(Duration::from_secs(1));
            live(&mut one, FIRST_LIFE..SECOND_LIFE, &mut known);
            one
        }
        Err(_) => {
            outcomes.did_not_start += 1;
            disk.crash(nth);
            backend.crash();
            One::open(disk.clone(), &backend).unwrap_or_else(|error| panic!("{when}: {error}"))
        }
    };
    let made = disk.operations().changes - before;
    // There is space again.
    disk.fill_at(0, 0);
    if one.member.fatal().is_some() {
        outcomes.stopped += 1;
    } else {
        assert!(goes_on(&mut one), "{when}: it neither stops nor goes on");
        outcomes.went_on += 1;
        check(&mut one, &known, &when);
    }
    let mut again = one.crash(nth).unwrap_or_else(|error| panic!("{when}: {error}"));
    again.pass(Duration::from_secs(1));
    check(&mut again, &known, &when);
    assert!(goes_on(&mut again), "{when}: no write is taken after the restart");
    made
}

#[test]
fn a_full_disk_at_any_write_loses_nothing() {
    let changes = lives(u64::MAX >> 1, 1, &mut Outcomes::default());
    assert!(changes > 100, "only {changes} changes of the disk");
    let mut once = Outcomes::default();
    let mut long = Outcomes::default();
    for nth in 1..=changes {
        lives(nth, 1, &mut once);
        lives(nth, u64::MAX >> 1, &mut long);
    }
    println!("{changes} changes; full for one: {once:?}; until somebody made room: {long:?}");
    assert!(
        long.went_on > once.stopped,
        "most of them are no reason to stop: {long:?}"
    );
}

const VALUE_BYTES: usize = 2048;
const FIRST_LIFE: usize = 20;
const SECOND_LIFE: usize = 60;
/// Longer than a call may take: 7 s.
const PATIENCE_TICKS: usize = 90;
const RESUME_TRIES: usize = 20;
