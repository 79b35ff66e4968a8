//! What cannot be reached from outside: panics of the threads behind, and work that a stop cuts short.

mod auth;
mod full;
mod install;
mod one;
mod transfers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Settings;
use super::maintenance::SnapshotJob;
use super::shared::Vital;
use super::sim::{Bugs, SimMember, SimWorld};
use super::snapshots::{self, WriteError};
use crate::backend::MemoryBackend;
use crate::env::Disk;
use crate::env::fake::{FakeDisk, ManualClock, SeededEntropy};
use crate::types::{Index, Term};

fn member(disk: &FakeDisk) -> SimMember {
    let world = SimWorld {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(1)),
        entropy: Arc::new(SeededEntropy::new(1)),
        backend: Arc::new(MemoryBackend::new()),
    };
    SimMember::open(Settings::new("/data"), world, Bugs::default()).unwrap()
}

/// A program that embeds the store and lives on after a panic must hear of it, as of any other fatal error.
#[test]
fn the_panic_of_a_thread_behind_is_fatal() {
    let member = member(&FakeDisk::new(1));
    let shared = member.store().shared;
    let thread = std::thread::spawn(move || {
        let _vital = Vital::new(&shared, "the log writer");
        panic!("a broken invariant");
    });
    assert!(thread.join().is_err());
    assert_eq!(member.fatal().as_deref(), Some("the log writer panicked"));
}

#[test]
fn a_snapshot_file_is_given_up_when_the_store_stops() {
    let disk = FakeDisk::new(1);
    let member = member(&disk);
    let shared = member.store().shared;
    let job = SnapshotJob {
        applied: Index(1),
        term: Term(1),
        revision: 1,
        compacted: -1,
        tables: Vec::new(),
    };
    let dir = std::path::Path::new("/data/member/snap");
    let files = || {
        let names = disk.list(dir).unwrap();
        names
            .iter()
            .filter(|name| name.extension().is_some_and(|e| e == "snap"))
            .count()
    };
    assert_eq!(files(), 1, "the one of the founding");
    let outside: Arc<dyn Disk> = Arc::new(disk.clone());
    shared.stopping.store(true, Ordering::Relaxed);
    let given_up = snapshots::write(&outside, dir, &shared, &shared.stored().unwrap(), &job);
    assert!(matches!(given_up, Err(WriteError::Stopped(_))), "{given_up:?}");
    assert_eq!(files(), 1);
    shared.stopping.store(false, Ordering::Relaxed);
    snapshots::write(&outside, dir, &shared, &shared.stored().unwrap(), &job).unwrap();
    assert_eq!(files(), 1, "the new one, which replaces the older");
    assert!(
        disk.list(dir)
            .unwrap()
            .iter()
            .all(|name| !name.to_string_lossy().contains("tmp"))
    );
}

/// More than fit into what the ids once kept free for one millisecond.
#[test]
fn a_burst_of_leases_gets_ids_of_their_own() {
    let member = member(&FakeDisk::new(1));
    let store = member.store();
    let ids: BTreeSet<i64> = (0..2000).map(|_| store.lease_id()).collect();
    assert_eq!(ids.len(), 2000);
    assert!(ids.iter().all(|id| *id > 0));
}
