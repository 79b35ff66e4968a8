//! A snapshot from the leader takes the place of a member's state: who reads meanwhile, who watches, and what a start
//! finds after a crash at any moment of it.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest, WatchResponse};

use super::one::{Content, One, content, poll};
use crate::apply::State;
use crate::backend::MemoryBackend;
use crate::env::fake::{ManualClock, SeededEntropy};
use crate::env::real::RealDisk;
use crate::env::{Disk, NoPeers};
use crate::error::{Error, Unavailable};
use crate::shell::bootstrap::{self, Files, Folders, Workplace, World};
use crate::shell::maintenance::Job;
use crate::shell::shared::Offload;
use crate::shell::sim::Step;
use crate::shell::{Settings, Store, WatchResponses, install, recovery};
use crate::types::{Index, MemberId};
use crate::wal::snapshot::{SnapshotCopy, SnapshotError, SnapshotReader, path};
use crate::wal::{self, Position, WalError};

/// Revisions that both members have written.
const SHARED: usize = 30;

/// A leader that has gone on from what the follower has, in a later term, and its snapshot file.
fn leader(revisions: usize, compact: i64) -> (One, Index) {
    let mut leader = One::grown(SHARED, 8).crash(3).unwrap();
    leader.pass(Duration::from_secs(1));
    leader.grow(SHARED..revisions, 8);
    if compact > 0 {
        leader.compact(compact);
    }
    let index = leader.snapshot();
    (leader, index)
}

/// The leader's file arrives.
fn arrive(follower: &One, leader: &One, index: Index) -> Result<Box<State>, SnapshotError> {
    let disk: Arc<dyn Disk> = Arc::new(follower.disk.clone());
    arrive_at(disk, &follower.member.place.folders.snap, leader, index)
}

fn arrive_at(
    disk: Arc<dyn Disk>,
    snap: &Path,
    leader: &One,
    index: Index,
) -> Result<Box<State>, SnapshotError> {
    let reader = SnapshotReader::open(&leader.disk, &leader.member.place.folders.snap, index)?;
    let mut copy = SnapshotCopy::begin(disk, snap, reader.identity())?;
    for offset in (0..reader.bytes()).step_by(1000) {
        copy.append(&reader.bytes_at(offset, 1000)?)?;
    }
    let mut arrived = copy.finish(reader.meta())?;
    Ok(Box::new(recovery::state_of(&mut arrived).unwrap()))
}

/// The follower's log begins anew after the snapshot.
fn restart(follower: &mut One, state: &State) -> Result<(), WalError> {
    restart_log(&mut follower.member.wal, state)
}

fn restart_log(log: &mut wal::Wal, state: &State) -> Result<(), WalError> {
    let at = Position {
        index: state.applied(),
        term: state.term(),
    };
    let hard_state = wal::HardState {
        term: at.term,
        vote: MemberId(0),
        commit: at.index,
    };
    log.append(&[wal::Append {
        restart: Some(at),
        entries: Vec::new(),
        hard_state: Some(hard_state),
    }])
}

/// The state is swapped. The job that brings the working copy there is still to be done.
fn swap(follower: &mut One, state: Box<State>) -> Job {
    let member = &mut follower.member;
    install::install(&member.shared, &mut member.actors.maintenance, state)
}

/// The working copy follows.
fn replace(follower: &mut One, job: Job) {
    follower.member.jobs.push_back(job);
    work(follower);
}

fn work(follower: &mut One) {
    while follower.member.enabled(Step::Work) {
        follower.member.step(Step::Work);
    }
    while follower.member.enabled(Step::Deliver) {
        follower.member.step(Step::Deliver);
    }
    assert_eq!(follower.member.fatal(), None);
}

fn everything(revision: i64) -> RangeRequest {
    RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        revision,
        serializable: true,
        ..RangeRequest::default()
    }
}

fn content_of(one: &One) -> Content {
    content(&one.member.shared.state.read())
}

#[test]
fn reads_of_the_past_wait_for_the_working_copy() {
    let (mut leader, index) = leader(90, 40);
    let mut follower = One::grown(SHARED, 8);
    let state = arrive(&follower, &leader, index).unwrap();
    restart(&mut follower, &state).unwrap();
    let job = swap(&mut follower, state);
    assert_eq!(content_of(&follower), content_of(&leader));
    let store = follower.store();
    let (source, current) = (leader.store(), leader.member.shared.state.read().mvcc.current());
    // The newest state is there at once.
    let newest = follower.call(store.range(everything(0))).unwrap();
    assert_eq!(newest.kvs, leader.call(source.range(everything(0))).unwrap().kvs);
    // What is older waits.
    let mut past = pin!(store.range(everything(45)));
    let mut hash = pin!(store.hash_kv(current));
    for _ in 0..10 {
        assert!(poll(past.as_mut()).is_pending() && poll(hash.as_mut()).is_pending());
    }
    replace(&mut follower, job);
    assert_eq!(
        follower.call(past).unwrap().kvs,
        leader.call(source.range(everything(45))).unwrap().kvs
    );
    for revision in 40..=current {
        let here = follower.call(store.range(everything(revision))).unwrap();
        let there = leader.call(source.range(everything(revision))).unwrap();
        assert_eq!(here.kvs, there.kvs, "at revision {revision}");
    }
    let compacted = follower.call(store.range(everything(39)));
    assert!(matches!(compacted, Err(Error::Request(_))), "{compacted:?}");
    let (here, there) = (
        follower.call(hash).unwrap(),
        leader.call(source.hash_kv(current)).unwrap(),
    );
    assert_eq!(
        (here.hash, here.compact_revision, here.hash_revision),
        (there.hash, there.compact_revision, there.hash_revision)
    );
}

#[test]
fn a_read_that_began_in_the_old_state_does_not_end_in_the_new_one() {
    let (leader, index) = leader(90, 60);
    let mut follower = One::grown(SHARED, 8);
    let store = follower.store();
    let mut scan = pin!(store.range(everything(10)));
    assert!(
        poll(scan.as_mut()).is_pending(),
        "there are more keys than one step takes"
    );
    let state = arrive(&follower, &leader, index).unwrap();
    restart(&mut follower, &state).unwrap();
    let first = swap(&mut follower, state);
    expect_changed(&poll(scan.as_mut()));
    // So does one that waits for a working copy when yet another snapshot comes.
    let mut past = pin!(store.range(everything(70)));
    for _ in 0..10 {
        assert!(poll(past.as_mut()).is_pending());
    }
    let file = SnapshotReader::open(&follower.disk, &follower.member.place.folders.snap, index);
    let again = recovery::state_of(&mut file.unwrap()).unwrap();
    let second = swap(&mut follower, Box::new(again));
    expect_changed(&poll(past.as_mut()));
    // Only the last installation counts.
    replace(&mut follower, first);
    let mut past = pin!(store.range(everything(70)));
    for _ in 0..10 {
        assert!(poll(past.as_mut()).is_pending());
    }
    replace(&mut follower, second);
    follower.call(past).unwrap();
}

fn expect_changed<T: std::fmt::Debug>(ended: &Poll<Result<T, Error>>) {
    assert!(
        matches!(
            ended,
            Poll::Ready(Err(Error::Unavailable(Unavailable::LeaderChanged)))
        ),
        "{ended:?}"
    );
}

struct Watching {
    responses: WatchResponses,
}

impl Watching {
    fn new(one: &mut One, key: &str, start: i64) -> Watching {
        let store = one.store();
        let (requests, responses) = one.call(store.watch()).unwrap();
        let request = WatchCreateRequest {
            key: key.to_owned().into(),
            start_revision: start,
            prev_kv: true,
            ..WatchCreateRequest::default()
        };
        one.call(requests.create(request)).unwrap();
        one.settle();
        // The stream lives as long as its responses are read.
        std::mem::forget(requests);
        Watching { responses }
    }

    fn take(&mut self) -> Vec<WatchResponse> {
        let mut context = Context::from_waker(Waker::noop());
        let mut taken = Vec::new();
        while let Poll::Ready(Some(response)) = self.responses.poll_recv(&mut context) {
            taken.push(response);
        }
        taken
    }

    fn revisions(&mut self) -> Vec<i64> {
        let events = self.take().into_iter().flat_map(|response| response.events);
        events.map(|event| event.kv.unwrap().mod_revision).collect()
    }
}

#[test]
fn watchers_hear_of_what_the_snapshot_brought_once_and_in_order() {
    // Compacted below what the follower has: nobody misses anything.
    let (mut leader, index) = leader(90, 20);
    let mut all = Watching::new(&mut leader, "k3", 20);
    leader.pass(Duration::from_secs(1));
    let expected = all.revisions();
    let mut follower = One::grown(SHARED, 8);
    let before = follower.member.shared.state.read().mvcc.current();
    assert!(expected.iter().any(|revision| *revision > before) && expected[0] < before);
    let mut synced = Watching::new(&mut follower, "k3", 20);
    follower.pass(Duration::from_secs(1));
    let mut heard = synced.revisions();
    assert!(!heard.is_empty());
    let state = arrive(&follower, &leader, index).unwrap();
    restart(&mut follower, &state).unwrap();
    let job = swap(&mut follower, state);
    follower.member.step(Step::WatchTick);
    let mut late = Watching::new(&mut follower, "k3", 25);
    assert!(
        synced.revisions().is_empty() && late.revisions().is_empty(),
        "its history is not there yet"
    );
    replace(&mut follower, job);
    for _ in 0..20 {
        follower.member.step(Step::WatchTick);
        work(&mut follower);
    }
    heard.extend(synced.revisions());
    assert_eq!(heard, expected);
    let expected: Vec<i64> = expected.into_iter().filter(|revision| *revision >= 25).collect();
    assert_eq!(late.revisions(), expected);
}

#[test]
fn watchers_that_the_snapshot_has_compacted_away_are_cancelled() {
    let (leader, index) = leader(90, 60);
    let mut follower = One::grown(SHARED, 8);
    let mut watching = Watching::new(&mut follower, "k3", 0);
    let mut ahead = Watching::new(&mut follower, "k3", 70);
    follower.pass(Duration::from_secs(1));
    watching.take();
    ahead.take();
    let state = arrive(&follower, &leader, index).unwrap();
    restart(&mut follower, &state).unwrap();
    let job = swap(&mut follower, state);
    replace(&mut follower, job);
    for _ in 0..20 {
        follower.member.step(Step::WatchTick);
        work(&mut follower);
    }
    let [cancelled] = &watching.take()[..] else {
        panic!("one answer")
    };
    assert!(
        cancelled.canceled && cancelled.compact_revision == 60,
        "{cancelled:?}"
    );
    let heard = ahead.revisions();
    assert!(
        !heard.is_empty() && heard.iter().all(|revision| *revision >= 70),
        "{heard:?}"
    );
}

/// What a crash leaves besides the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Copy {
    /// The working copy as of its last flush.
    Kept,
    /// Nothing.
    Gone,
}

/// Installs, as far as the disk lets it. Returns how far that was.
fn try_install(follower: &mut One, leader: &One, index: Index) -> usize {
    let Ok(state) = arrive(follower, leader, index) else {
        return 0;
    };
    if restart(follower, &state).is_err() {
        return 1;
    }
    let job = swap(follower, state);
    follower.member.jobs.push_back(job);
    while follower.member.enabled(Step::Work) {
        follower.member.step(Step::Work);
    }
    if follower.member.fatal().is_some() { 2 } else { 3 }
}

#[test]
fn a_crash_at_any_change_of_an_installation_leaves_one_state_or_the_other() {
    let (leader, index) = leader(90, 40);
    let new = content_of(&leader);
    let mut stages = [0; 4];
    for (copy, divergent) in [
        (Copy::Kept, false),
        (Copy::Gone, false),
        (Copy::Kept, true),
        (Copy::Gone, true),
    ] {
        for change in 1.. {
            let mut follower = One::grown(SHARED, 8);
            if change % 2 == 0 {
                follower.member.step(Step::Flush);
            }
            if divergent {
                diverge(&mut follower, index);
            }
            follower.disk.crash_at(change);
            let stage = try_install(&mut follower, &leader, index);
            stages[stage] += 1;
            if copy == Copy::Gone {
                follower.backend = Arc::new(MemoryBackend::new());
            }
            let mut follower = follower.crash(change).unwrap_or_else(|error| {
                panic!("{copy:?}, divergent {divergent}, change {change}, stage {stage}: {error}")
            });
            let last = follower.member.wal.last().index;
            if stage >= 2 || (stage == 1 && copy == Copy::Gone) {
                assert_eq!(last, index, "the log begins after the snapshot");
            }
            if last == index {
                assert_eq!(content_of(&follower), new, "change {change}, stage {stage}");
            } else {
                // Its own log leads on; what is not committed there is, since it votes alone.
                assert!(last < index || divergent, "{copy:?} {change}: {last}");
            }
            lives_on(&mut follower);
            if stage == 3 {
                break;
            }
        }
    }
    assert!(stages.iter().all(|times| *times > 0), "{stages:?}");
}

/// Entries beyond the snapshot's index that another leader of an earlier term has sent, and nobody has committed.
fn diverge(follower: &mut One, index: Index) {
    let last = follower.member.wal.last();
    let entries = (last.index.0 + 1..index.0 + 5).map(|at| wal::Entry {
        term: last.term,
        index: Index(at),
        kind: 0,
        data: bytes::Bytes::new(),
    });
    let entries = entries.collect();
    follower
        .member
        .wal
        .append(&[wal::Append {
            entries,
            ..wal::Append::default()
        }])
        .unwrap();
}

/// It takes writes, snapshots and another start.
fn lives_on(follower: &mut One) {
    follower.pass(Duration::from_secs(1));
    let store = follower.store();
    let put = PutRequest {
        key: "after".into(),
        value: "x".into(),
        ..PutRequest::default()
    };
    follower.call(store.put(put)).unwrap();
    let written = follower.snapshot();
    let file = path(&follower.member.place.folders.snap, written);
    assert!(follower.disk.contents(&file).is_some());
    assert_eq!(follower.member.fatal(), None);
}

/// The snapshot whose installation a crash has prevented stays what it is: a file. A working copy that is whole leads
/// on with the member's own log.
#[test]
fn a_snapshot_that_was_only_received_is_ignored_by_a_whole_working_copy() {
    let (leader, index) = leader(90, 40);
    let mut follower = One::grown(SHARED, 8);
    follower.member.step(Step::Flush);
    let (old, last) = (content_of(&follower), follower.member.wal.last().index);
    drop(arrive(&follower, &leader, index).unwrap());
    let mut follower = follower.crash(1).unwrap();
    assert_eq!(follower.member.wal.last().index, last);
    follower.pass(Duration::from_secs(1));
    assert_eq!(content_of(&follower), old);
    // Without it, the file is the best there is.
    follower.backend = Arc::new(MemoryBackend::new());
    let follower = follower.crash(2).unwrap();
    assert_eq!(follower.member.wal.last().index, index);
    assert_eq!(content_of(&follower), content_of(&leader));
}

/// A member on a real disk, with its working copy in sled.
struct Real {
    shared: Arc<crate::shell::shared::Shared>,
    actors: bootstrap::Actors,
    files: Files,
    place: Workplace,
}

impl Real {
    fn open(folder: &Path) -> Real {
        let world = World {
            disk: Arc::new(RealDisk),
            clock: Arc::new(ManualClock::new(1)),
            entropy: Arc::new(SeededEntropy::new(1)),
            transport: Arc::new(NoPeers),
            backend: None,
            verify_log: true,
        };
        let mut settings = Settings::new(folder);
        settings.limits.wal_segment_bytes = 1 << 16;
        drop(bootstrap::lock(&world, &settings).unwrap());
        let recovered = bootstrap::recover(&world, &settings).unwrap();
        let place = Workplace {
            world: world.clone(),
            folders: Folders::new(folder),
            metadata: recovered.metadata,
        };
        let mailboxes = (tokio::sync::mpsc::channel(1).0, tokio::sync::mpsc::channel(1).0);
        let (shared, actors, files) =
            bootstrap::assemble(settings, &world, mailboxes, Offload::Threads, recovered);
        Real {
            shared,
            actors,
            files,
            place,
        }
    }

    fn content(&self) -> Content {
        content(&self.shared.state.read())
    }
}

fn folders(member: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(member).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_working_copy_in_sled_is_replaced_once_nobody_reads_it_and_leaves_nothing_behind() {
    let (leader, index) = leader(90, 40);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _threads = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let mut real = Real::open(folder.path());
    let before = folders(&real.place.folders.member);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let state = arrive_at(disk, &real.place.folders.snap, &leader, index).unwrap();
    restart_log(&mut real.files.wal, &state).unwrap();
    let reader = real.shared.stored().expect("a working copy").revisions;
    let Job::Replace(job) = install::install(&real.shared, &mut real.actors.maintenance, state) else {
        panic!("the working copy has to follow")
    };
    let (shared, place, store) = (Arc::clone(&real.shared), real.place.clone(), real.files.store);
    let replacing = std::thread::spawn(move || install::replace(&shared, &place, store, job).unwrap());
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while Arc::strong_count(&reader) > 1 {
        assert!(std::time::Instant::now() < deadline, "the writer lets go of it");
        std::thread::yield_now();
    }
    assert!(!replacing.is_finished(), "somebody still reads");
    assert_eq!(folders(&real.place.folders.member), before);
    let waits = tokio::spawn({
        let store = Store::of(Arc::clone(&real.shared));
        async move { store.range(everything(45)).await }
    });
    drop(reader);
    let (store, _) = replacing.join().unwrap();
    let past = runtime.block_on(waits).unwrap().unwrap();
    assert!(!past.kvs.is_empty() && past.kvs.iter().all(|kv| kv.mod_revision <= 45));
    assert_eq!(
        folders(&real.place.folders.member),
        before,
        "no copy is set aside"
    );
    assert_eq!(content(&real.shared.state.read()), content_of(&leader));
    // Started again, from the working copy.
    real.shared.close_history();
    drop((store, real.files.wal));
    let real = Real::open(folder.path());
    assert_eq!(real.content(), content_of(&leader));
    assert_eq!(real.files.store.meta().applied, index);
}

#[test]
fn a_start_after_the_log_has_restarted_fills_the_working_copy_in_sled() {
    let (leader, index) = leader(90, 40);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _threads = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let mut real = Real::open(folder.path());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let state = arrive_at(disk, &real.place.folders.snap, &leader, index).unwrap();
    restart_log(&mut real.files.wal, &state).unwrap();
    let before = folders(&real.place.folders.member);
    real.shared.close_history();
    drop(real);
    for _ in 0..2 {
        let real = Real::open(folder.path());
        assert_eq!(real.content(), content_of(&leader));
        assert_eq!(real.files.store.meta().applied, index);
        assert_eq!(
            folders(&real.place.folders.member),
            before,
            "no copy is set aside"
        );
        real.shared.close_history();
    }
}
