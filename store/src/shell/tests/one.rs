//! A lone member, stepped by hand, that makes the snapshot files for the tests beside this.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest,
};
use proto::mvccpb::KeyValue;

use crate::apply::State;
use crate::backend::MemoryBackend;
use crate::env::Clock;
use crate::env::fake::{FakeDisk, ManualClock, SeededEntropy};
use crate::shell::sim::{Bugs, SimMember, SimWorld, Step};
use crate::shell::{Settings, Store};
use crate::types::Index;
use crate::wal::snapshot::list;

/// See the module's description. All of them found the same cluster, and the first writes of all are the same.
pub(super) struct One {
    pub(super) member: SimMember,
    pub(super) clock: ManualClock,
    pub(super) disk: FakeDisk,
    pub(super) backend: Arc<MemoryBackend>,
}

impl One {
    /// A new member that leads.
    pub(super) fn new() -> One {
        let mut one = One::open(FakeDisk::new(1), &Arc::new(MemoryBackend::new())).unwrap();
        one.pass(Duration::from_secs(1));
        assert!(one.store().has_leader(), "a lone voter elects itself");
        one
    }

    /// The member of a disk, which has not done anything yet.
    pub(super) fn open(disk: FakeDisk, backend: &Arc<MemoryBackend>) -> Result<One, crate::shell::OpenError> {
        let clock = ManualClock::new(1);
        let world = SimWorld {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SeededEntropy::new(1)),
            backend: Arc::clone(backend) as Arc<_>,
        };
        let mut settings = Settings::new("/data");
        settings.limits.wal_segment_bytes = 1 << 16;
        settings.disk_reserve_bytes = 1 << 16;
        // Nothing of the past stays in memory once it is in the working copy.
        settings.limits.recent_bytes = 0;
        // A scan of more keys than that takes several steps.
        settings.limits.scan_step_keys = 3;
        Ok(One {
            member: SimMember::open(settings, world, Bugs::default())?,
            clock,
            disk,
            backend: Arc::clone(backend),
        })
    }

    /// One that has written `revisions` revisions: the same for all, as far as they go.
    pub(super) fn grown(revisions: usize, value_bytes: usize) -> One {
        let mut one = One::new();
        one.grow(0..revisions, value_bytes);
        one
    }

    pub(super) fn grow(&mut self, numbers: std::ops::Range<usize>, value_bytes: usize) {
        for number in numbers {
            self.write(number, value_bytes);
        }
    }

    /// The power goes off and on again.
    pub(super) fn crash(self, seed: u64) -> Result<One, crate::shell::OpenError> {
        let One {
            member,
            disk,
            backend,
            ..
        } = self;
        drop(member);
        disk.crash(seed);
        backend.crash();
        One::open(disk, &backend)
    }

    fn write(&mut self, number: usize, value_bytes: usize) {
        let store = self.store();
        let key = format!("k{}", number % 7);
        if number % 11 == 10 {
            let delete = DeleteRangeRequest {
                key: key.into(),
                ..DeleteRangeRequest::default()
            };
            self.call(store.delete_range(delete)).unwrap();
            return;
        }
        let lease = if number % 5 == 4 {
            let grant = LeaseGrantRequest {
                ttl: 1000,
                id: 100 + number as i64,
            };
            self.call(store.lease_grant(grant)).unwrap().id
        } else {
            0
        };
        let put = PutRequest {
            key: key.into(),
            value: format!("{number:<4}").repeat(value_bytes / 4).into(),
            lease,
            ..PutRequest::default()
        };
        self.call(store.put(put)).unwrap();
    }

    pub(super) fn compact(&mut self, revision: i64) {
        let store = self.store();
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        self.call(store.compact(request)).unwrap();
        self.pass(Duration::from_secs(3));
    }

    pub(super) fn store(&self) -> Store {
        self.member.store()
    }

    /// A snapshot file of the state as it is.
    pub(super) fn snapshot(&mut self) -> Index {
        let applied = self.member.shared.state.read().applied();
        self.member.actors.maintenance.snapshot_wanted();
        for _ in 0..50 {
            self.pass(TICK);
            if let Some(newest) = list(&self.disk, &self.member.place.folders.snap).unwrap().pop()
                && newest >= applied
            {
                return newest;
            }
        }
        panic!("no snapshot file is written");
    }

    pub(super) fn now(&self) -> crate::env::Instant {
        self.clock.now()
    }

    /// Does everything that is due without time passing.
    pub(super) fn settle(&mut self) {
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
    }

    /// Lets time pass, tick by tick.
    pub(super) fn pass(&mut self, time: Duration) {
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
    pub(super) fn call<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        for _ in 0..100 {
            if let Poll::Ready(done) = poll(call.as_mut()) {
                return done;
            }
            self.settle();
            if let Poll::Ready(done) = poll(call.as_mut()) {
                return done;
            }
            self.pass(TICK);
        }
        panic!("a call is not answered")
    }
}

/// Polls a call once.
pub(super) fn poll<T>(call: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    call.poll(&mut Context::from_waker(Waker::noop()))
}

/// What a state holds, for comparisons: the keys, the leases, the revision and what is compacted.
pub(super) type Content = (Vec<KeyValue>, Vec<(bytes::Bytes, bytes::Bytes)>, i64, i64);

pub(super) fn content(state: &State) -> Content {
    let everything = RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..RangeRequest::default()
    };
    let plan = state.mvcc.range(&everything).unwrap();
    assert!(plan.missing().is_empty(), "newest values are in memory");
    let keys = plan.finish(&std::collections::BTreeMap::new()).kvs;
    (
        keys,
        state.lessor.encode(),
        state.mvcc.current(),
        state.mvcc.compacted(),
    )
}

pub(super) const TICK: Duration = Duration::from_millis(100);
