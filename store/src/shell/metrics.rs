//! Numbers for operators: what the driver and the callers publish, and all of it as one plain value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proto::etcdserverpb::AlarmMember;

use super::histogram::{APPLY_BUCKETS_S, Histogram, HistogramValue, TRANSFER_BUCKETS_S};
use crate::apply::RequestKind;
use crate::mvcc::Tally;
use crate::types::MemberId;

/// Numbers that many threads count at once: each has its own, and whoever reads them sums.
pub(super) struct ByThread<T>(Box<[Padded<T>]>);

/// On cache lines of its own.
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Default for ByThread<T> {
    fn default() -> Self {
        ByThread((0..THREADS_APART).map(|_| Padded(T::default())).collect())
    }
}

impl<T> ByThread<T> {
    /// The calling thread's.
    pub(super) fn own(&self) -> &T {
        &self.0[PLACE.with(|place| *place) % self.0.len()].0
    }

    /// Those of all threads.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }
}

thread_local! {
    /// Threads take their places in turn. Only which counter a thread writes depends on it.
    static PLACE: usize = NEXT_PLACE.fetch_add(1, Ordering::Relaxed);
}

static NEXT_PLACE: AtomicUsize = AtomicUsize::new(0);

/// So many threads count without sharing a cache line.
const THREADS_APART: usize = 8;

/// Two histograms: of what went well and of what failed.
#[derive(Debug)]
pub(super) struct Outcomes([Histogram; 2]);

impl Outcomes {
    fn over(bounds: &'static [f64]) -> Self {
        Outcomes([Histogram::over(bounds), Histogram::over(bounds)])
    }

    pub(super) fn observe(&self, success: bool, took: Duration) {
        self.0[usize::from(success)].observe(took);
    }

    fn add_to(&self, values: &mut OutcomeValues) {
        values.failure.merge(&self.0[0].value());
        values.success.merge(&self.0[1].value());
    }
}

/// How long something took, by its outcome.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OutcomeValues {
    /// Where it failed.
    pub failure: HistogramValue,
    /// Where it went well.
    pub success: HistogramValue,
}

/// Outcomes by kind of request.
pub(super) struct ByKind(Box<[Outcomes]>);

impl ByKind {
    fn over(bounds: &'static [f64]) -> Self {
        ByKind(RequestKind::ALL.iter().map(|_| Outcomes::over(bounds)).collect())
    }

    pub(super) fn of(&self, kind: RequestKind) -> &Outcomes {
        &self.0[kind as usize]
    }

    fn add_to(&self, values: &mut [OutcomeValues]) {
        for (outcomes, values) in self.0.iter().zip(values) {
            outcomes.add_to(values);
        }
    }
}

/// What callers count on their own threads.
pub(super) struct CallNumbers {
    /// Requests from their call to their answer, in [`DISK_BUCKETS_S`](super::DISK_BUCKETS_S).
    pub(super) requests: ByKind,
    /// Ranges without the wait before them, in [`APPLY_BUCKETS_S`].
    pub(super) ranges: Outcomes,
    tally: TallyNumbers,
}

impl Default for CallNumbers {
    fn default() -> Self {
        CallNumbers {
            requests: ByKind::over(&super::DISK_BUCKETS_S),
            ranges: Outcomes::over(&APPLY_BUCKETS_S),
            tally: TallyNumbers::default(),
        }
    }
}

impl CallNumbers {
    /// A transaction that only read.
    pub(super) fn read(&self, tally: Tally) {
        self.tally.add(tally);
    }
}

/// What the driver counts as it applies.
pub(super) struct ApplyNumbers {
    /// In [`APPLY_BUCKETS_S`].
    pub(super) took: ByKind,
    pub(super) tally: TallyNumbers,
}

impl Default for ApplyNumbers {
    fn default() -> Self {
        ApplyNumbers {
            took: ByKind::over(&APPLY_BUCKETS_S),
            tally: TallyNumbers::default(),
        }
    }
}

/// A [`Tally`] that grows.
#[derive(Default)]
pub(super) struct TallyNumbers {
    ranges: AtomicU64,
    puts: AtomicU64,
    deletes: AtomicU64,
    put_bytes: AtomicU64,
    txns: AtomicU64,
}

impl TallyNumbers {
    pub(super) fn add(&self, tally: Tally) {
        for (number, by) in [
            (&self.ranges, tally.ranges),
            (&self.puts, tally.puts),
            (&self.deletes, tally.deletes),
            (&self.put_bytes, tally.put_bytes),
            (&self.txns, tally.txns),
        ] {
            if by > 0 {
                number.fetch_add(by, Ordering::Relaxed);
            }
        }
    }

    fn value(&self) -> Tally {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Tally {
            ranges: load(&self.ranges),
            puts: load(&self.puts),
            deletes: load(&self.deletes),
            put_bytes: load(&self.put_bytes),
            txns: load(&self.txns),
        }
    }
}

/// Fills in what callers and driver counted by kind of request.
pub(super) fn add_calls(metrics: &mut Metrics, calls: &ByThread<CallNumbers>, applies: &ApplyNumbers) {
    metrics.tally = applies.tally.value();
    metrics.applies = vec![OutcomeValues::default(); RequestKind::ALL.len()];
    metrics.requests = metrics.applies.clone();
    applies.took.add_to(&mut metrics.applies);
    for calls in calls.all() {
        metrics.tally += calls.tally.value();
        calls.ranges.add_to(&mut metrics.ranges);
        calls.requests.add_to(&mut metrics.requests);
    }
}

/// Transfers of snapshots by the member at the other end. The counts of members that are gone stay.
#[derive(Default)]
pub(super) struct Transferred(Mutex<BTreeMap<MemberId, Arc<TransferNumbers>>>);

impl Transferred {
    /// Those with one member.
    pub(super) fn with(&self, peer: MemberId) -> Arc<TransferNumbers> {
        self.0.lock().entry(peer).or_default().clone()
    }

    /// All of them.
    pub(super) fn values(&self) -> Vec<(MemberId, TransferValues)> {
        let numbers = self.0.lock();
        numbers
            .iter()
            .map(|(peer, numbers)| (*peer, numbers.value()))
            .collect()
    }
}

/// Snapshots sent to another member, or received from it. One thread writes.
pub(super) struct TransferNumbers {
    successes: AtomicU64,
    failures: AtomicU64,
    in_flight: AtomicU64,
    took: Histogram,
}

impl Default for TransferNumbers {
    fn default() -> Self {
        TransferNumbers {
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            took: Histogram::over(&TRANSFER_BUCKETS_S),
        }
    }
}

impl TransferNumbers {
    /// A transfer begins.
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// One that began has ended.
    pub(super) fn end(&self, success: bool, took: Duration) {
        self.give_up();
        if success {
            self.successes.fetch_add(1, Ordering::Relaxed);
            self.took.observe(took);
        } else {
            self.fail();
        }
    }

    /// One has failed that did not begin, or was given up.
    pub(super) fn fail(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// One that began is wanted no more.
    pub(super) fn give_up(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn value(&self) -> TransferValues {
        TransferValues {
            successes: self.successes.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            took: self.took.value(),
        }
    }
}

/// Snapshots sent to another member, or received from it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TransferValues {
    /// Those that ended well.
    pub successes: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those under way.
    pub in_flight: u64,
    /// How long the former took, over [`TRANSFER_BUCKETS_S`].
    pub took: HistogramValue,
}

/// An alarm that stands or stood, for as long as this process lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownAlarm {
    /// Of which member.
    pub member: u64,
    /// An `AlarmType`.
    pub kind: i32,
    /// Whether it stands.
    pub raised: bool,
}

/// Alarms that were raised at some time, by member and kind.
#[derive(Default)]
pub(super) struct AlarmsSeen(Mutex<BTreeSet<(u64, i32)>>);

impl AlarmsSeen {
    /// These were raised or disarmed.
    pub(super) fn note(&self, alarms: &[AlarmMember]) {
        let mut seen = self.0.lock();
        for alarm in alarms {
            // A client may raise alarms of members that there never were.
            if seen.len() < ALARMS_SEEN_MAX {
                seen.insert((alarm.member_id, alarm.alarm));
            }
        }
    }

    /// All that were, and those that stand.
    pub(super) fn known(&self, standing: &[AlarmMember]) -> Vec<KnownAlarm> {
        self.note(standing);
        let stands = |(member, kind): (u64, i32)| {
            standing
                .iter()
                .any(|alarm| alarm.member_id == member && alarm.alarm == kind)
        };
        let seen = self.0.lock();
        seen.iter()
            .map(|&(member, kind)| KnownAlarm {
                member,
                kind,
                raised: stands((member, kind)),
            })
            .collect()
    }
}

/// Alarms that are remembered.
const ALARMS_SEEN_MAX: usize = 64;

/// TTLs of the leases granted.
pub(super) struct LeaseTtls(pub(super) Histogram);

impl Default for LeaseTtls {
    fn default() -> Self {
        LeaseTtls(Histogram::of_counts(&super::TTL_BUCKETS_S))
    }
}

/// What the log writer and the maintenance count.
pub(super) struct DiskNumbers {
    pub(super) wal_busy: super::busy::Busy,
    pub(super) wal_sync: Histogram,
    pub(super) wal_write: Histogram,
    /// By this process.
    pub(super) wal_written_bytes: AtomicU64,
    /// In the log's files.
    pub(super) wal_bytes: AtomicU64,
    pub(super) checkpoint: Histogram,
    pub(super) snapshot_file: Histogram,
    pub(super) hash_revision: Histogram,
    pub(super) compaction: Histogram,
    pub(super) compaction_step: Histogram,
    pub(super) compaction_apply: Histogram,
    pub(super) compacted_revisions: AtomicU64,
    /// Bytes of values that were moved together in memory.
    pub(super) packed_bytes: AtomicU64,
    /// Unix time in seconds.
    pub(super) compacted_at_s: AtomicU64,
    pub(super) reclaims: AtomicU64,
    pub(super) reclaimed_bytes: AtomicU64,
    /// What is left of the fuller one of the disks of data and log, when last looked at.
    pub(super) available_bytes: AtomicU64,
    pub(super) alarms_cleared: AtomicU64,
}

impl Default for DiskNumbers {
    fn default() -> Self {
        DiskNumbers {
            wal_busy: super::busy::Busy::default(),
            wal_sync: Histogram::default(),
            wal_write: Histogram::default(),
            wal_written_bytes: AtomicU64::new(0),
            wal_bytes: AtomicU64::new(0),
            checkpoint: Histogram::default(),
            snapshot_file: Histogram::default(),
            hash_revision: Histogram::over(&super::HASH_BUCKETS_S),
            compaction: Histogram::over(&super::COMPACTION_BUCKETS_S),
            compaction_step: Histogram::over(&super::PAUSE_BUCKETS_S),
            compaction_apply: Histogram::over(&super::INDEX_PAUSE_BUCKETS_S),
            compacted_revisions: AtomicU64::new(0),
            packed_bytes: AtomicU64::new(0),
            compacted_at_s: AtomicU64::new(0),
            reclaims: AtomicU64::new(0),
            reclaimed_bytes: AtomicU64::new(0),
            available_bytes: AtomicU64::new(0),
            alarms_cleared: AtomicU64::new(0),
        }
    }
}

/// The store's numbers at one moment. Totals count since the process started.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(
    missing_docs,
    reason = "the names are the metrics' own, see the etcd reference, section 5"
)]
pub struct Metrics {
    pub has_leader: bool,
    pub is_leader: bool,
    pub leader_changes: u64,
    pub committed: u64,
    pub applied: u64,
    pub pending: u64,
    pub failed: u64,
    pub quota_bytes: u64,
    pub db_size: u64,
    pub db_size_in_use: u64,
    pub open_reads: u64,
    pub current_revision: i64,
    pub compact_revision: i64,
    pub keys: u64,
    pub watchers: u64,
    pub watch_streams: u64,
    pub slow_watchers: u64,
    pub pending_events: u64,
    pub events: u64,
    /// What was read and written on this member, the entries of the log included.
    pub tally: Tally,
    /// By the places of [`RequestKind::ALL`].
    pub requests: Vec<OutcomeValues>,
    /// The same.
    pub applies: Vec<OutcomeValues>,
    pub ranges: OutcomeValues,
    pub slow_applies: u64,
    pub leases: u64,
    pub leases_granted: u64,
    pub leases_revoked: u64,
    pub leases_renewed: u64,
    pub leases_expired: u64,
    pub lease_ttls: HistogramValue,
    pub wal_fsync: HistogramValue,
    pub wal_write: HistogramValue,
    pub wal_written_bytes: u64,
    pub wal_bytes: u64,
    pub backend_commit: HistogramValue,
    pub snapshot_file: HistogramValue,
    pub hash_revision: HistogramValue,
    pub compaction: HistogramValue,
    pub compaction_step: HistogramValue,
    pub compaction_apply: HistogramValue,
    pub compacted_revisions: u64,
    pub values_bytes: u64,
    pub packed_bytes: u64,
    pub compacted_at_s: u64,
    pub reclaims: u64,
    pub reclaimed_bytes: u64,
    pub disk_available_bytes: u64,
    pub alarms_cleared: u64,
    pub slow_read_indexes: u64,
    pub failed_read_indexes: u64,
    pub late_heartbeats: u64,
    /// Times that the log's disk stood still for longer than `Limits::stalled_sync`.
    pub stalled_syncs: u64,
    /// Times that this member therefore handed its leadership over.
    pub stall_hand_overs: u64,
    pub snapshot_sends: Vec<(MemberId, TransferValues)>,
    pub snapshot_receives: Vec<(MemberId, TransferValues)>,
    pub snapshots_applying: u64,
    pub alarms: Vec<KnownAlarm>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_is_summed() {
        let calls = ByThread::<CallNumbers>::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * THREADS_APART {
                scope.spawn(|| {
                    calls.own().read(Tally::of_reads(2));
                    let requests = &calls.own().requests;
                    requests
                        .of(RequestKind::Put)
                        .observe(true, Duration::from_millis(1));
                });
            }
        });
        let mut metrics = Metrics::default();
        add_calls(&mut metrics, &calls, &ApplyNumbers::default());
        let threads = 2 * THREADS_APART as u64;
        assert_eq!((metrics.tally.ranges, metrics.tally.txns), (2 * threads, threads));
        let puts = &metrics.requests[RequestKind::Put as usize];
        assert_eq!((puts.success.count(), puts.failure.count()), (threads, 0));
    }

    #[test]
    fn an_alarm_that_was_raised_is_known_ever_after() {
        let seen = AlarmsSeen::default();
        assert!(seen.known(&[]).is_empty());
        let alarm = AlarmMember {
            member_id: 7,
            alarm: 1,
        };
        seen.note(&[alarm]);
        let known = |raised| KnownAlarm {
            member: 7,
            kind: 1,
            raised,
        };
        assert_eq!(seen.known(&[]), [known(false)]);
        assert_eq!(seen.known(&[alarm]), [known(true)]);
        let many: Vec<_> = (0..1000)
            .map(|member_id| AlarmMember { member_id, alarm: 1 })
            .collect();
        assert_eq!(seen.known(&many).len(), ALARMS_SEEN_MAX);
    }

    #[test]
    fn transfers_are_counted_by_member() {
        let sent = Transferred::default();
        sent.with(MemberId(7)).begin();
        sent.with(MemberId(7)).end(true, Duration::from_secs(1));
        sent.with(MemberId(8)).fail();
        let values = sent.values();
        assert_eq!(values.len(), 2);
        assert_eq!((values[0].1.successes, values[0].1.in_flight), (1, 0));
        assert_eq!((values[1].0, values[1].1.failures), (MemberId(8), 1));
    }
}
