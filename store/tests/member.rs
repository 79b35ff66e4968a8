//! One member without threads, stepped by hand: what happens between two steps of its actors, which threads and
//! timing show rarely.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::response_op::Response as OpResponse;
use proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};
use store::backend::MemoryBackend;
use store::env::fake::{FakeDisk, ManualClock, SeededEntropy};
use store::error::{Error, RequestError, Unavailable};
use store::shell::sim::{Bugs, SimMember, SimWorld, Step};
use store::{Settings, Store};

struct One {
    member: SimMember,
    clock: ManualClock,
    disk: FakeDisk,
    backend: Arc<MemoryBackend>,
    settings: Settings,
}

impl One {
    /// A member that leads.
    fn new(settings: Settings) -> One {
        let mut one = One::unelected(settings);
        one.pass(Duration::from_secs(1));
        assert!(one.store().has_leader(), "a lone voter elects itself");
        one
    }

    /// A member whose first vote is not yet durable.
    fn unelected(settings: Settings) -> One {
        One::open(settings, FakeDisk::new(1), Arc::new(MemoryBackend::new()))
    }

    fn open(settings: Settings, disk: FakeDisk, backend: Arc<MemoryBackend>) -> One {
        let clock = ManualClock::new(1);
        let world = SimWorld {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SeededEntropy::new(1)),
            backend: Arc::clone(&backend) as Arc<_>,
        };
        let member = SimMember::open(settings.clone(), world, Bugs::default()).unwrap();
        One {
            member,
            clock,
            disk,
            backend,
            settings,
        }
    }

    /// The power goes off and on again.
    fn crash(self, seed: u64) -> One {
        drop(self.member);
        self.disk.crash(seed);
        self.backend.crash();
        let mut one = One::open(self.settings, self.disk, self.backend);
        one.pass(Duration::from_secs(1));
        one
    }

    fn store(&self) -> Store {
        self.member.store()
    }

    /// Does everything that is due without time passing.
    fn settle(&mut self) {
        let untimed = [
            Step::Round,
            Step::WriteLog,
            Step::Deliver,
            Step::Compact,
            Step::Work,
        ];
        while let Some(step) = untimed.into_iter().find(|step| self.member.enabled(*step)) {
            self.member.step(step);
        }
        assert_eq!(self.member.fatal(), None);
    }

    /// Lets time pass, tick by tick.
    fn pass(&mut self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let tick = left.min(TICK);
            self.clock.advance(tick);
            self.member.step(Step::Tick);
            self.member.step(Step::WatchTick);
            self.settle();
            left -= tick;
        }
    }

    /// Waits for a call, for up to ten seconds of the member's time.
    fn call<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        for _ in 0..100 {
            if let Some(done) = poll(call.as_mut()) {
                return done;
            }
            self.settle();
            if let Some(done) = poll(call.as_mut()) {
                return done;
            }
            self.pass(TICK);
        }
        panic!("a call is not answered")
    }

    fn put(&mut self, key: &str, value: &str) -> i64 {
        let store = self.store();
        let done = self.call(store.put(put(key, value))).unwrap();
        done.header.unwrap().revision
    }

    fn compact(&mut self, revision: i64) {
        let store = self.store();
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        self.call(store.compact(request)).unwrap();
    }

    /// With a checkpoint after each step.
    fn compact_slowly(&mut self, revision: i64) {
        let store = self.store();
        let mut call = pin!(store.compact(CompactionRequest {
            revision,
            physical: false,
        }));
        assert!(poll(call.as_mut()).is_none());
        for step in [Step::Round, Step::Round, Step::WriteLog, Step::Deliver] {
            self.member.step(step);
        }
        poll(call.as_mut()).expect("it is applied").unwrap();
        let mut steps = 0;
        while self.member.enabled(Step::Compact) {
            self.clock.advance(TICK * 2);
            for step in [Step::Compact, Step::Tick, Step::Work, Step::Deliver] {
                self.member.step(step);
            }
            steps += 1;
        }
        assert!(steps > 1, "a step visits a key");
    }
}

fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

fn all() -> RangeRequest {
    RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..Default::default()
    }
}

/// Nothing that is in the working copy stays in memory, but for newest values.
fn forgetful() -> Settings {
    let mut settings = Settings::new("/data");
    settings.limits.recent_bytes = 0;
    settings.limits.checkpoint_interval = TICK;
    settings
}

/// The answer of a write with a read of the past in it is completed from the working copy after it was applied; what
/// it needs must still be there then, whatever was compacted meanwhile.
#[test]
fn a_compaction_waits_for_the_reads_of_a_transaction_that_was_applied() {
    let mut one = One::new(forgetful());
    let old = one.put("k", "old");
    one.put("k", "new");
    one.pass(Duration::from_secs(1));
    let op = |request| RequestOp {
        request: Some(request),
    };
    let store = one.store();
    let read = RangeRequest {
        revision: old,
        ..get("k")
    };
    let txn = TxnRequest {
        success: vec![op(Op::RequestRange(read)), op(Op::RequestPut(put("other", "x")))],
        ..Default::default()
    };
    let mut txn = pin!(store.txn(txn));
    assert!(poll(txn.as_mut()).is_none());
    one.settle();
    one.compact(old + 1);
    one.pass(Duration::from_secs(5));
    let answer = poll(txn.as_mut()).expect("it was applied").unwrap();
    let Some(OpResponse::ResponseRange(range)) = &answer.responses[0].response else {
        panic!("{answer:?}");
    };
    assert_eq!(range.kvs[0].value, "old");
}

#[test]
fn a_watch_stream_dropped_while_the_mailbox_is_full_is_closed() {
    let mut settings = Settings::new("/data");
    settings.limits.mailbox_commands = 4;
    let mut one = One::new(settings);
    let store = one.store();
    let (requests, responses) = one.call(store.watch()).unwrap();
    one.call(requests.create(WatchCreateRequest {
        key: "k".into(),
        ..Default::default()
    }))
    .unwrap();
    one.pass(Duration::from_secs(1));
    assert_eq!((store.metrics().watch_streams, store.metrics().watchers), (1, 1));
    let mut reads: Vec<_> = (0..8).map(|_| Box::pin(store.range(get("k")))).collect();
    for read in &mut reads {
        assert!(poll(read.as_mut()).is_none());
    }
    drop((requests, responses));
    drop(reads);
    one.pass(Duration::from_secs(1));
    assert_eq!((store.metrics().watch_streams, store.metrics().watchers), (0, 0));
}

/// A revoke may be refused (CORRUPT), or its leader may be gone: whoever renews the lease meanwhile is not left alone
/// for good.
#[test]
fn a_renewal_of_an_expired_lease_that_nobody_revokes_is_answered_in_time() {
    let mut one = One::new(Settings::new("/data"));
    let store = one.store();
    let lease = one.call(store.lease_grant(LeaseGrantRequest { ttl: 2, id: 7 }));
    assert_eq!(lease.unwrap().ttl, 2);
    let corrupt = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: 1,
        alarm: AlarmType::Corrupt.into(),
    };
    one.call(store.alarm(corrupt)).unwrap();
    one.pass(Duration::from_secs(4));
    let answer = one.call(store.lease_keep_alive(7));
    assert!(
        matches!(answer, Err(Error::Unavailable(Unavailable::Timeout))),
        "{answer:?}"
    );
}

/// A client that stops taking chunks must not keep history from being removed: it is told when it comes back.
#[test]
fn a_stalled_range_stream_does_not_hold_a_compaction_up() {
    let mut one = One::new(Settings::new("/data"));
    for number in 0..40 {
        one.put(&format!("k{number:02}"), "x");
    }
    let store = one.store();
    let mut stream = store.range_stream(all());
    let first = one.call(stream.next()).unwrap().unwrap();
    assert_eq!(first.kvs.len(), 10);
    let delete = DeleteRangeRequest {
        key: "k3".into(),
        range_end: "k4".into(),
        ..Default::default()
    };
    assert_eq!(one.call(store.delete_range(delete)).unwrap().deleted, 10);
    let last = one.put("k00", "y");
    one.compact(last);
    one.pass(Duration::from_secs(1));
    assert_eq!(store.metrics().keys, 30, "the dead keys are out of the index");
    let next = one.call(stream.next()).unwrap();
    assert!(
        matches!(next, Err(Error::Request(RequestError::Compacted { .. }))),
        "{next:?}"
    );
    assert!(one.call(stream.next()).is_none());
}

/// A working copy older than the snapshot file needs log that is being let go of. Whichever of its segments a crash
/// keeps, the snapshot leads on.
#[test]
fn a_crash_while_log_is_let_go_of_is_survived_by_an_old_working_copy() {
    let mut settings = Settings::new("/data");
    settings.limits.wal_segment_bytes = 16 << 10;
    settings.limits.snapshot_log_bytes = 128 << 10;
    let value = "v".repeat(1 << 10);
    for (seed, change) in (0..12).flat_map(|seed| (2..=6).map(move |change| (seed, change))) {
        let mut one = One::open(settings.clone(), FakeDisk::new(seed), Arc::default());
        one.pass(TICK * 2);
        for number in 0..150 {
            one.put(&format!("k{number:03}"), &value);
        }
        // A checkpoint that is not flushed, then the snapshot file, then its news.
        for _ in 0..2 {
            one.clock.advance(Duration::from_secs(2));
            for step in [Step::Tick, Step::Work, Step::Deliver] {
                one.member.step(step);
            }
        }
        one.disk.crash_at(change);
        one.member.step(Step::WriteLog);
        assert!(one.disk.crashed(), "segments were being let go of");
        let mut one = one.crash(seed);
        let store = one.store();
        assert_eq!(one.call(store.range(all())).unwrap().count, 150);
    }
}

/// The log that a restart may have to replay, and the disk it takes, stay near the limit, also after the first
/// snapshot file has let a part of it go.
#[test]
fn the_log_does_not_outgrow_its_limit_between_two_snapshots() {
    let mut settings = Settings::new("/data");
    settings.limits.wal_segment_bytes = 16 << 10;
    settings.limits.snapshot_log_bytes = 256 << 10;
    settings.limits.checkpoint_interval = TICK;
    let mut one = One::new(settings);
    let store = one.store();
    let value = "v".repeat(1 << 10);
    let mut most = 0;
    for round in 0..2000 {
        let last = one.put("k", &value);
        if round % 50 == 0 {
            one.compact(last);
            one.pass(TICK * 4);
        }
        most = most.max(store.metrics().wal_bytes);
    }
    assert!(
        (256 << 10..400 << 10).contains(&most),
        "the log grew to {most} bytes"
    );
}

/// etcd keeps the hashes of its last ten compactions (reference 1.5).
#[test]
fn a_finished_compaction_leaves_its_hash() {
    let mut settings = forgetful();
    settings.limits.compaction_step_keys = 1;
    let mut one = One::new(settings);
    let store = one.store();
    one.compact(0);
    let nothing = one.call(store.hash_kv(0)).unwrap();
    assert_eq!((nothing.compact_revision, nothing.hash_revision), (-1, 0));
    for round in 0..30 {
        one.put(&format!("k{}", round % 3), &round.to_string());
    }
    one.pass(Duration::from_secs(1));
    let mut kept = Vec::new();
    let mut previous = 0;
    for revision in [10, 13, 20] {
        // What a HashKV call computes before the compaction is what the compaction leaves, as long as no key is
        // deleted at just that revision.
        let before = one.call(store.hash_kv(revision)).unwrap();
        assert_eq!(
            (before.compact_revision, before.hash_revision),
            (previous, revision)
        );
        one.compact_slowly(revision);
        one.pass(Duration::from_secs(2));
        let after = one.call(store.hash_kv(revision)).unwrap();
        assert_eq!(
            (after.hash, after.compact_revision, after.hash_revision),
            (before.hash, previous, revision)
        );
        kept.push(after.hash);
        previous = revision;
    }
    let oldest = one.call(store.hash_kv(10)).unwrap();
    assert_eq!((oldest.hash, oldest.compact_revision), (kept[0], 0));
    let between = one.call(store.hash_kv(11));
    assert!(
        matches!(between, Err(Error::Request(RequestError::Compacted { .. }))),
        "{between:?}"
    );
    one.pass(Duration::from_secs(2));
    assert_eq!(one.call(store.range(all())).unwrap().count, 3);
}

const TICK: Duration = Duration::from_millis(100);
