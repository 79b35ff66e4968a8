//! The log under crashes: a random life of appends, overwrites, restarts, releases and reopenings against a naive
//! model, with the power going off at every change of the disk in turn. Whatever was acknowledged must be there
//! afterwards; of the one batch in flight, all or nothing; and nothing that was never written, or was replaced,
//! may come back out of a recycled segment or from behind a torn tail.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use store::env::fake::{FakeDisk, SeededEntropy};
use store::types::{ClusterId, Index, MemberId, Term};
use store::wal::{Append, Config, Entry, HardState, Metadata, Position, Replay, Wal, WalError};

const DIR: &str = "/m/wal";
const METADATA: Metadata = Metadata {
    cluster: ClusterId(3),
    member: MemberId(4),
};

/// What a log should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    entries: Vec<Entry>,
    last: Position,
    hard_state: HardState,
}

impl Model {
    fn apply(&mut self, part: &Append) {
        if let Some(restart) = part.restart {
            self.entries.clear();
            self.last = restart;
        }
        for entry in &part.entries {
            self.entries.retain(|kept| kept.index < entry.index);
            self.entries.push(entry.clone());
            self.last = Position {
                index: entry.index,
                term: entry.term,
            };
        }
        if let Some(hard_state) = part.hard_state {
            self.hard_state = hard_state;
        }
    }

    fn from(&self, from: Index) -> Model {
        let mut model = self.clone();
        model.entries.retain(|entry| entry.index >= from);
        model
    }
}

fn observed(replay: &Replay) -> Model {
    assert_eq!(replay.metadata, METADATA);
    Model {
        entries: replay.entries.clone(),
        last: replay.last,
        hard_state: replay.hard_state,
    }
}

/// One member's log and what is known about it.
struct Life {
    disk: FakeDisk,
    entropy: SeededEntropy,
    config: Config,
    wal: Option<Wal>,
    /// What was acknowledged.
    acknowledged: Model,
    /// What was being appended when the power went off.
    in_flight: Option<Model>,
    /// A snapshot up to here is durable.
    covered: Index,
    seen: Seen,
}

/// What happened, so that a test can tell that it tested something.
#[derive(Default, Debug, PartialEq, Clone)]
struct Seen {
    appends: u64,
    overwrites: u64,
    restarts: u64,
    released: usize,
    reopened: u64,
    crashes: u64,
    torn: u64,
    in_flight_kept: u64,
    in_flight_lost: u64,
    skipped: usize,
}

impl Life {
    fn new(seed: u64) -> Life {
        let entropy = SeededEntropy::new(seed);
        let segment_bytes = [1024, 4096, 16384][usize::try_from(entropy.below(3)).unwrap()];
        let spares_max = usize::try_from(entropy.below(3)).unwrap();
        let config = Config {
            segment_bytes,
            spares_max,
            mark: seed.is_multiple_of(2).then(|| "/m/log.end".into()),
            ..Config::default()
        };
        Life {
            disk: FakeDisk::new(seed),
            entropy,
            config,
            wal: None,
            acknowledged: Model::default(),
            in_flight: None,
            covered: Index(0),
            seen: Seen::default(),
        }
    }

    /// Creates or opens the log; what it holds must be what was acknowledged, or that and what was in flight.
    fn start(&mut self) -> Result<(), WalError> {
        let dir = Path::new(DIR);
        let disk: Arc<FakeDisk> = Arc::new(self.disk.clone());
        // A salt that repeats now and then must do no harm: it is not what keeps lives of a file apart.
        self.config.salt = self.entropy.below(2);
        if !Wal::exists(&self.disk, dir)? {
            assert_eq!(self.acknowledged, Model::default(), "the log is gone");
            self.wal = Some(Wal::create(disk, dir, METADATA, self.config.clone())?);
            return Ok(());
        }
        let from = self.covered.next();
        let (wal, replay) = Wal::open(disk, dir, from, self.config.clone())?;
        let found = observed(&replay);
        self.seen.torn += u64::from(replay.torn.is_some());
        self.seen.skipped += replay.segments_skipped;
        match self.in_flight.take() {
            Some(in_flight) if found == in_flight.from(from) => {
                self.seen.in_flight_kept += 1;
                self.acknowledged = in_flight;
            }
            in_flight => {
                self.seen.in_flight_lost += u64::from(in_flight.is_some());
                assert_eq!(
                    found,
                    self.acknowledged.from(from),
                    "from {from}, torn {:?}",
                    replay.torn
                );
            }
        }
        assert_eq!((wal.last(), wal.hard_state()), (replay.last, replay.hard_state));
        self.wal = Some(wal);
        Ok(())
    }

    fn step(&mut self) -> Result<(), WalError> {
        if self.wal.is_none() {
            return self.start();
        }
        let behind = self.acknowledged.last.index < self.covered;
        match self.entropy.below(100) {
            _ if behind => self.restart(self.covered),
            0..70 => self.append(),
            70..73 => {
                let to = Index(self.acknowledged.last.index.0 + self.entropy.below(9));
                self.restart(to)
            }
            73..83 => {
                let span = self
                    .acknowledged
                    .hard_state
                    .commit
                    .0
                    .saturating_sub(self.covered.0);
                self.covered = Index(self.covered.0 + self.entropy.below(span + 1));
                let released = self.wal.as_mut().unwrap().release(self.covered)?;
                self.seen.released += released;
                Ok(())
            }
            83..90 => self.wal.as_mut().unwrap().prepare(),
            90..93 => self.wal.as_mut().unwrap().mark(),
            _ => {
                self.seen.reopened += 1;
                let wal = self.wal.take().unwrap();
                if self.entropy.chance(50) {
                    wal.close()?;
                }
                self.start()
            }
        }
    }

    fn append(&mut self) -> Result<(), WalError> {
        let mut after = self.acknowledged.clone();
        let mut parts = Vec::new();
        for _ in 0..=self.entropy.below(2) {
            let part = self.part(&after);
            after.apply(&part);
            parts.push(part);
        }
        self.commit(&parts, after)
    }

    /// Some entries at the end or over it, never below what is committed, and perhaps a hard state.
    fn part(&mut self, model: &Model) -> Append {
        let floor = model.hard_state.commit.max(self.covered);
        let room = model.last.index.0 - floor.0;
        let back = if self.entropy.chance(25) {
            self.entropy.below(room + 1)
        } else {
            0
        };
        self.seen.overwrites += u64::from(back > 0);
        let first = model.last.index.0 + 1 - back;
        let term = Term(model.hard_state.term.0.max(1) + u64::from(back > 0));
        let count = self.entropy.below(5);
        let entry = |index| Entry {
            term,
            index: Index(index),
            kind: u8::try_from(self.entropy.below(3)).unwrap(),
            data: self.data(),
        };
        let entries: Vec<Entry> = (first..first + count).map(entry).collect();
        let last = entries.last().map_or(model.last.index, |entry| entry.index);
        let with_state = term > model.hard_state.term || self.entropy.chance(40);
        let commit = Index(floor.0 + self.entropy.below(last.0 - floor.0 + 1));
        let state = HardState {
            term,
            vote: MemberId(self.entropy.below(3)),
            commit,
        };
        Append {
            restart: None,
            entries,
            hard_state: with_state.then_some(state),
        }
    }

    fn data(&self) -> Bytes {
        let len = if self.entropy.chance(10) {
            self.entropy.below(3000)
        } else {
            self.entropy.below(200)
        };
        (0..len)
            .map(|_| u8::try_from(self.entropy.below(256)).unwrap())
            .collect()
    }

    /// A snapshot from the leader, durable already, replaces the log.
    fn restart(&mut self, to: Index) -> Result<(), WalError> {
        self.seen.restarts += 1;
        self.covered = self.covered.max(to);
        let mut state = self.acknowledged.hard_state;
        state.commit = state.commit.max(to);
        let at = Position {
            index: to,
            term: state.term,
        };
        let part = Append {
            restart: Some(at),
            hard_state: Some(state),
            ..Append::default()
        };
        let mut after = self.acknowledged.clone();
        after.apply(&part);
        self.commit(&[part], after)
    }

    fn commit(&mut self, parts: &[Append], after: Model) -> Result<(), WalError> {
        self.seen.appends += 1;
        self.in_flight = Some(after);
        self.wal.as_mut().unwrap().append(parts)?;
        self.acknowledged = self.in_flight.take().unwrap();
        Ok(())
    }

    fn crash(&mut self) {
        self.seen.crashes += 1;
        self.wal = None;
        self.disk.crash(self.entropy.below(u64::MAX));
    }

    /// Steps until `steps` are done or the planned crash has come. True if it has.
    fn live(&mut self, steps: u64) -> bool {
        for _ in 0..steps {
            if let Err(error) = self.step() {
                assert!(self.disk.crashed(), "the log failed on a healthy disk: {error}");
                return true;
            }
        }
        false
    }
}

#[test]
fn the_log_agrees_with_a_naive_model() {
    let mut total = (0, 0, 0);
    for seed in 0..60 {
        let mut life = Life::new(seed);
        assert!(!life.live(150));
        let seen = life.seen;
        assert!(
            seen.appends > 50 && seen.overwrites > 0 && seen.torn == 0,
            "seed {seed}: {seen:?}"
        );
        total = (
            total.0 + seen.released,
            total.1 + seen.reopened,
            total.2 + seen.skipped,
        );
    }
    assert!(total.0 > 100 && total.1 > 100 && total.2 > 20, "{total:?}");
}

#[test]
fn a_crash_at_every_change_loses_nothing_acknowledged() {
    let (mut torn, mut kept, mut lost) = (0, 0, 0);
    for seed in 0..12 {
        for change in 1.. {
            let mut life = Life::new(seed);
            life.disk.crash_at(change);
            let crashed = life.live(40);
            life.crash();
            assert!(!life.live(12), "seed {seed}, change {change}");
            torn += life.seen.torn;
            kept += life.seen.in_flight_kept;
            lost += life.seen.in_flight_lost;
            if !crashed {
                break;
            }
        }
    }
    assert!(
        torn > 10 && kept > 50 && lost > 50,
        "torn {torn}, kept {kept}, lost {lost}"
    );
}

#[test]
fn crash_after_crash_brings_back_nothing_old() {
    let mut torn = 0;
    for seed in 1000..1200 {
        let mut life = Life::new(seed);
        for _ in 0..40 {
            let change = 1 + life.entropy.below(40);
            life.disk.crash_at(change);
            life.live(30);
            life.crash();
        }
        assert!(!life.live(30), "seed {seed}");
        torn += life.seen.torn;
    }
    assert!(torn > 100, "torn {torn}");
}

#[test]
fn a_failed_sync_is_not_acknowledged_and_ends_the_log() {
    for seed in 0..40 {
        let mut life = Life::new(seed);
        assert!(!life.live(20));
        life.disk.fail_sync(1 + life.entropy.below(8));
        let failed = (0..200).find_map(|_| life.step().err());
        let Some(WalError::Io {
            operation: "sync", ..
        }) = failed
        else {
            panic!("{failed:?}")
        };
        if let Some(wal) = &mut life.wal
            && life.in_flight.is_some()
        {
            let again = wal.append(&[Append {
                hard_state: Some(wal.hard_state()),
                ..Append::default()
            }]);
            assert!(matches!(again, Err(WalError::Poisoned { .. })), "{again:?}");
        }
        life.crash();
        assert!(!life.live(30), "seed {seed}");
    }
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    for seed in 0..40 {
        let mut life = Life::new(seed);
        assert!(!life.live(20));
        life.disk
            .set_capacity(Some(life.disk.used_bytes() + life.entropy.below(9000)));
        let failed = (0..2000).find_map(|_| life.step().err());
        let Some(WalError::Full { source, .. }) = failed else {
            panic!("{failed:?}")
        };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        life.disk.set_capacity(None);
        life.crash();
        assert!(!life.live(30), "seed {seed}");
    }
}

#[test]
fn one_seed_is_one_life() {
    let run = || {
        let mut life = Life::new(5);
        life.disk.crash_at(70);
        life.live(60);
        life.crash();
        life.live(20);
        (
            life.seen.clone(),
            life.acknowledged.clone(),
            life.disk.operations(),
        )
    };
    assert_eq!(run(), run());
}

/// The bug that simulations plant: without checksums, these tests must fail.
#[test]
fn a_reader_without_checksums_is_caught() {
    let caught = (1000..1030).any(|seed| {
        let outcome = std::panic::catch_unwind(|| {
            let mut life = Life::new(seed);
            life.config.verify_checksums = false;
            for _ in 0..40 {
                let change = 1 + life.entropy.below(40);
                life.disk.crash_at(change);
                life.live(30);
                life.crash();
            }
        });
        outcome.is_err()
    });
    assert!(caught, "a reader that verifies nothing passed");
}
