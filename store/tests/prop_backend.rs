//! The working copy against a naive model, over both backends; then crashes, copies of a running directory, and
//! damage.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proto::mvccpb::KeyValue;
use store::backend::{
    Backend, Checkpoint, Import, Load, Loaded, MemoryBackend, Opened, ScanLimit, StateStore, Table,
    TableWrite, WriteBatch, guarded, is_guarded, load, open_guarded,
};
use store::types::{Change, ClusterId, CommittedRevision, Index, MemberId, Revision, SharedRevision, Term};

/// xorshift: what a case contains follows from its seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    fn bytes(&mut self, len: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes.into()
    }
}

/// What the working copy must hold.
#[derive(Clone, Default, PartialEq, Debug)]
struct Model {
    changes: BTreeMap<Revision, Change>,
    tables: BTreeMap<(Table, Bytes), Bytes>,
    applied: u64,
    revision: i64,
    compacted: i64,
}

impl Model {
    fn new() -> Self {
        Model {
            revision: 1,
            compacted: -1,
            ..Model::default()
        }
    }

    fn commit(&mut self, random: &mut Random) -> SharedRevision {
        self.revision += 1;
        let changes: Vec<Change> = (0..1 + random.below(4))
            .map(|sub| change(random, self.revision, sub as i64))
            .collect();
        for change in &changes {
            self.changes.insert(change.revision, change.clone());
        }
        let previous = vec![None; changes.len()];
        Arc::new(CommittedRevision {
            main: self.revision,
            changes,
            previous,
        })
    }

    /// A random part of what is stored dies.
    fn compact(&mut self, random: &mut Random) -> Vec<Revision> {
        let share = 1 + random.below(10);
        let dead: Vec<Revision> = self
            .changes
            .keys()
            .copied()
            .filter(|_| random.below(10) < share)
            .collect();
        for revision in &dead {
            self.changes.remove(revision);
        }
        self.compacted = self.revision;
        dead
    }

    fn write_tables(&mut self, random: &mut Random) -> Vec<TableWrite> {
        (0..random.below(5))
            .map(|_| {
                let table =
                    [Table::Lease, Table::Member, Table::Alarm, Table::Auth][random.below(4) as usize];
                let key = Bytes::from(format!("{}", random.below(20)));
                let value = (random.below(3) > 0).then(|| {
                    let len = random.below(40) as usize;
                    random.bytes(len)
                });
                match &value {
                    Some(value) => self.tables.insert((table, key.clone()), value.clone()),
                    None => self.tables.remove(&(table, key.clone())),
                };
                TableWrite { table, key, value }
            })
            .collect()
    }
}

fn change(random: &mut Random, main: i64, sub: i64) -> Change {
    let revision = Revision::new(main, sub);
    let key_len = 1 + random.below(60) as usize;
    let key = random.bytes(key_len);
    if random.below(6) == 0 {
        let kv = KeyValue {
            key,
            mod_revision: main,
            ..KeyValue::default()
        };
        return Change {
            revision,
            tombstone: true,
            kv,
        };
    }
    let value_len = match random.below(200) {
        0 => 250_000 + random.below(600_000),
        1..12 => random.below(12_000),
        _ => random.below(300),
    };
    let created = random.below(2) == 0;
    let kv = KeyValue {
        key,
        create_revision: if created {
            main
        } else {
            1 + random.below(main as u64) as i64
        },
        mod_revision: main,
        version: if created { 1 } else { 1 + random.below(9) as i64 },
        value: random.bytes(value_len as usize),
        lease: if random.below(4) == 0 {
            random.next() as i64
        } else {
            0
        },
    };
    Change {
        revision,
        tombstone: false,
        kv,
    }
}

/// The working copy under test, with what is known of it.
struct World {
    store: StateStore,
    model: Model,
    random: Random,
    /// Revisions committed and not checkpointed, and the dead to be reported with them.
    revisions: Vec<SharedRevision>,
    dead: Vec<Revision>,
    tables: Vec<TableWrite>,
    finished: bool,
}

impl World {
    fn new(store: StateStore, seed: u64) -> Self {
        World {
            store,
            model: Model::new(),
            random: Random::new(seed),
            revisions: Vec::new(),
            dead: Vec::new(),
            tables: Vec::new(),
            finished: true,
        }
    }

    fn resume(loaded: Loaded, model: Model, seed: u64) -> Self {
        World {
            model,
            ..World::new(loaded.store, seed)
        }
    }

    fn commit(&mut self, count: u64) {
        for _ in 0..count {
            let revision = self.model.commit(&mut self.random);
            self.revisions.push(revision);
        }
        self.tables.extend(self.model.write_tables(&mut self.random));
        self.model.applied += count;
    }

    fn compact(&mut self) {
        self.dead.extend(self.model.compact(&mut self.random));
        self.finished = self.random.below(2) == 0;
    }

    fn checkpoint(&mut self) {
        let checkpoint = Checkpoint {
            revisions: std::mem::take(&mut self.revisions),
            dead: std::mem::take(&mut self.dead),
            tables: std::mem::take(&mut self.tables),
            applied: Index(self.model.applied),
            term: Term(3),
            revision: self.model.revision,
            compacted: self.model.compacted,
            compaction_finished: self.finished,
        };
        self.store.checkpoint(&checkpoint).unwrap();
    }

    /// Checkpoints until every dead revision is gone.
    fn settle(&mut self) {
        self.finished = true;
        self.checkpoint();
        let mut steps = 0;
        while self.store.dead_pending() > 0 {
            self.checkpoint();
            steps += 1;
            assert!(steps < 1000, "pruning does not end");
        }
    }

    fn check_reads(&mut self) {
        let revisions = self.store.revisions();
        let stored: Vec<&Change> = self.model.changes.values().collect();
        let count = stored.len().min(12);
        let picked: Vec<&Change> = (0..count)
            .map(|_| stored[self.random.below(stored.len() as u64) as usize])
            .collect();
        let wanted: Vec<Revision> = picked.iter().map(|change| change.revision).collect();
        let fetched = revisions.fetch(&wanted).unwrap();
        assert_eq!(fetched.iter().collect::<Vec<_>>(), picked);
        let end = self.model.revision as u64 + 2;
        let from = self.random.below(end) as i64;
        let to = from + self.random.below(end) as i64;
        let limit = ScanLimit {
            revisions: 1 + self.random.below(30) as usize,
            bytes: 1 + self.random.below(100_000) as usize,
        };
        let mut scanned = Vec::new();
        let mut next = Some(from);
        while let Some(from) = next {
            let part = revisions.scan(from, to, limit).unwrap();
            assert!(!part.changes.is_empty() || part.next.is_none());
            scanned.extend(part.changes);
            next = part.next;
        }
        if self.store.dead_pending() > 0 {
            scanned.retain(|change| self.model.changes.contains_key(&change.revision));
        }
        let range = Revision::new(from, 0)..=Revision::new(to, i64::MAX);
        let expected: Vec<&Change> = self
            .model
            .changes
            .range(range)
            .map(|(_, change)| change)
            .collect();
        assert_eq!(scanned.iter().collect::<Vec<_>>(), expected);
    }
}

/// Compares what a load handed out with the model.
fn assert_loaded(loaded: &Loaded, changes: &[Change], model: &Model) {
    assert!(changes.is_sorted_by_key(|change| change.revision));
    assert_eq!(
        changes.iter().collect::<Vec<_>>(),
        model.changes.values().collect::<Vec<_>>()
    );
    let tables: Vec<(Table, Bytes, Bytes)> = model
        .tables
        .iter()
        .map(|((table, key), value)| (*table, key.clone(), value.clone()))
        .collect();
    assert_eq!(loaded.tables, tables);
    assert_eq!(loaded.meta.applied, Index(model.applied));
    assert_eq!(loaded.meta.revision, model.revision);
    assert_eq!(loaded.meta.compacted, model.compacted);
    assert_eq!((loaded.meta.cluster, loaded.meta.member), (CLUSTER, MEMBER));
}

fn collect(changes: &mut Vec<Change>) -> impl FnMut(Load) {
    |load| match load {
        Load::Begin(_) => changes.clear(),
        Load::Change(change) => changes.push(change),
    }
}

fn load_memory(backend: &Arc<MemoryBackend>) -> Option<(Loaded, Vec<Change>)> {
    let mut changes = Vec::new();
    let backend: Arc<dyn Backend> = backend.clone();
    let loaded = load(backend, &mut collect(&mut changes)).unwrap();
    loaded.map(|loaded| (loaded, changes))
}

fn open(dir: &Path) -> (Opened, Vec<Change>) {
    let mut changes = Vec::new();
    let opened = open_guarded(dir, &mut collect(&mut changes)).unwrap();
    (opened, changes)
}

fn create(dir: &Path, seed: u64) -> World {
    let (opened, _) = open(dir);
    assert!(opened.loaded.is_none() && opened.aside.is_none());
    World::new(StateStore::create(opened.backend, CLUSTER, MEMBER), seed)
}

const CLUSTER: ClusterId = ClusterId(0xc1);
const MEMBER: MemberId = MemberId(0x3e);

#[derive(Clone, Debug)]
enum Step {
    Commit(u64),
    Compact,
    Checkpoint,
    Settle,
    Read,
    Flush,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..60_u64).prop_map(Step::Commit),
        1 => Just(Step::Compact),
        4 => Just(Step::Checkpoint),
        1 => Just(Step::Settle),
        2 => Just(Step::Read),
        2 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn memory_holds_what_the_model_holds_and_falls_back_to_the_last_flush(seed: u64, steps in steps()) {
        let backend = Arc::new(MemoryBackend::new());
        let mut world = World::new(StateStore::create(backend.clone(), CLUSTER, MEMBER), seed);
        // What a crash falls back to; `None` before the first flush of a checkpoint.
        let mut flushed: Option<Model> = None;
        let mut written: Option<Model> = None;
        for step in steps {
            match step {
                Step::Commit(count) => world.commit(count),
                Step::Compact => world.compact(),
                Step::Checkpoint | Step::Settle | Step::Read => {
                    world.checkpoint();
                    world.check_reads();
                    // A crash during a sweep brings dead revisions back; the model has none.
                    world.settle();
                    written = Some(world.model.clone());
                    world.check_reads();
                }
                Step::Flush => {
                    world.store.flush().unwrap();
                    flushed = written.clone();
                }
                Step::Restart => {
                    backend.crash();
                    let seed = world.random.next();
                    world = match (load_memory(&backend), &flushed) {
                        (None, None) => {
                            World::new(StateStore::create(backend.clone(), CLUSTER, MEMBER), seed)
                        }
                        (Some((loaded, changes)), Some(model)) => {
                            assert_loaded(&loaded, &changes, model);
                            World::resume(loaded, model.clone(), seed)
                        }
                        (loaded, model) => {
                            panic!("loaded {}, expected {}", loaded.is_some(), model.is_some());
                        }
                    };
                    written = flushed.clone();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn sled_holds_what_the_model_holds(seed: u64, steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = create(dir.path(), seed);
        for step in steps {
            match step {
                Step::Commit(count) => world.commit(count),
                Step::Compact => world.compact(),
                Step::Checkpoint => world.checkpoint(),
                Step::Settle => world.settle(),
                Step::Read => {
                    world.checkpoint();
                    world.check_reads();
                }
                Step::Flush => world.store.flush().unwrap(),
                Step::Restart => {
                    world.settle();
                    world.store.flush().unwrap();
                    let World { store, model, mut random, .. } = world;
                    drop(store);
                    let (opened, changes) = open(dir.path());
                    prop_assert!(opened.aside.is_none(), "{:?}", opened.aside);
                    let loaded = opened.loaded.expect("a checkpoint was made");
                    drop(opened.backend);
                    assert_loaded(&loaded, &changes, &model);
                    world = World::resume(loaded, model, random.next());
                }
            }
        }
    }
}

#[test]
fn an_absent_or_older_record_shows() {
    let backend = Arc::new(MemoryBackend::new());
    let mut world = World::new(StateStore::create(backend.clone(), CLUSTER, MEMBER), 5);
    world.commit(150);
    world.checkpoint();
    let older = backend.dump();
    world.commit(5);
    world.compact();
    world.settle();
    let newer = backend.dump();
    assert!(load_memory(&backend).is_some());
    let fill = |records: &[(Vec<u8>, Bytes)]| {
        let backend = Arc::new(MemoryBackend::new());
        let mut batch = WriteBatch::default();
        for (key, value) in records {
            let table = Table::from_prefix(key[0]).unwrap();
            batch.put(table, &key[1..], value.to_vec());
        }
        backend.write(batch).unwrap();
        load(backend, &mut |_| {})
    };
    assert!(fill(&newer).unwrap().is_some());
    let mut stale = 0;
    for at in 0..newer.len() {
        let mut records = newer.clone();
        records.remove(at);
        assert!(fill(&records).is_err(), "record {:?} is not missed", newer[at].0);
        if let Ok(old) = older.binary_search_by(|(key, _)| key.cmp(&newer[at].0))
            && older[old].1 != newer[at].1
        {
            let mut records = newer.clone();
            records[at].1 = older[old].1.clone();
            assert!(
                fill(&records).is_err(),
                "an older record {:?} is taken",
                newer[at].0
            );
            stale += 1;
        }
    }
    assert!(stale > 10, "only {stale} records changed");
}

#[test]
fn dead_revisions_go_in_ascending_order_in_bounded_steps() {
    let backend = Arc::new(MemoryBackend::new());
    let mut world = World::new(StateStore::create(backend.clone(), CLUSTER, MEMBER), 9);
    for _ in 0..40 {
        world.commit(300);
        world.checkpoint();
    }
    let mut dead = world.model.compact(&mut world.random);
    let sorted = dead.clone();
    // As a compaction reports them: in the order of keys.
    dead.sort_by_key(|revision| revision.main.wrapping_mul(0x1e37_79b9_7f4a_7c15));
    world.dead = dead;
    world.finished = true;
    let (mut steps, mut left) = (0, sorted.len());
    while left > 0 {
        world.checkpoint();
        steps += 1;
        assert!(world.store.dead_pending() < left, "no progress");
        left = world.store.dead_pending();
        let (loaded, changes) = load_memory(&backend).unwrap();
        assert_eq!(loaded.meta.compaction_finished, left == 0);
        let stored: Vec<Revision> = changes.iter().map(|change| change.revision).collect();
        let (gone, kept) = sorted.split_at(sorted.len() - left);
        assert!(
            gone.iter()
                .all(|revision| stored.binary_search(revision).is_err())
        );
        assert!(kept.iter().all(|revision| stored.binary_search(revision).is_ok()));
    }
    assert!(steps > 2, "{steps} steps for {} blocks", world.store.blocks());
    let (loaded, changes) = load_memory(&backend).unwrap();
    assert_loaded(&loaded, &changes, &world.model);
}

#[test]
fn small_neighbours_are_merged() {
    let backend = Arc::new(MemoryBackend::new());
    let mut world = World::new(StateStore::create(backend.clone(), CLUSTER, MEMBER), 10);
    world.commit(3000);
    world.checkpoint();
    let before = world.store.blocks();
    // One in fifty lives on.
    world.dead = world
        .model
        .changes
        .keys()
        .copied()
        .filter(|revision| revision.main % 50 != 0)
        .collect();
    world.model.changes.retain(|revision, _| revision.main % 50 == 0);
    world.settle();
    let (blocks, changes) = (world.store.blocks(), world.model.changes.len());
    assert!(
        blocks * 8 < before,
        "{before} blocks became {blocks} for {changes} changes"
    );
    world.check_reads();
    let (loaded, changes) = load_memory(&backend).unwrap();
    assert_loaded(&loaded, &changes, &world.model);
}

#[test]
fn replaying_what_is_stored_changes_nothing() {
    let backend = Arc::new(MemoryBackend::new());
    let mut world = World::new(StateStore::create(backend.clone(), CLUSTER, MEMBER), 11);
    world.commit(100);
    let replayed = world.revisions.clone();
    world.checkpoint();
    let (loaded, _) = load_memory(&backend).unwrap();
    let mut again = World::resume(loaded, world.model.clone(), 12);
    again.revisions = replayed;
    again.checkpoint();
    again.commit(10);
    again.checkpoint();
    let (loaded, changes) = load_memory(&backend).unwrap();
    assert_loaded(&loaded, &changes, &again.model);
}

#[test]
fn an_import_counts_only_when_it_is_finished() {
    let mut random = Random::new(13);
    let mut model = Model::new();
    for _ in 0..2000 {
        model.commit(&mut random);
    }
    model.compact(&mut random);
    let tables = model.write_tables(&mut random);
    model.applied = 77;
    let backend = Arc::new(MemoryBackend::new());
    let mut import = Import::new(backend.clone(), CLUSTER, MEMBER);
    let changes: Vec<Change> = model.changes.values().cloned().collect();
    for group in changes.chunk_by(|a, b| a.revision.main == b.revision.main) {
        import.push(group).unwrap();
    }
    assert!(!backend.dump().is_empty(), "an import is written in batches");
    assert!(
        load(backend.clone(), &mut |_| {}).is_err(),
        "half an import was opened"
    );
    let checkpoint = Checkpoint {
        tables,
        applied: Index(model.applied),
        term: Term(3),
        revision: model.revision,
        compacted: model.compacted,
        compaction_finished: true,
        ..Checkpoint::default()
    };
    let store = import.finish(&checkpoint).unwrap();
    backend.crash();
    let (loaded, changes) = load_memory(&backend).unwrap();
    assert_loaded(&loaded, &changes, &model);
    let mut world = World {
        model,
        ..World::new(store, 14)
    };
    world.commit(50);
    world.settle();
    world.check_reads();
    let (loaded, changes) = load_memory(&backend).unwrap();
    assert_loaded(&loaded, &changes, &world.model);
}

/// Readers on other threads, while the writer appends, prunes and merges.
fn readers_miss_nothing(backend: Arc<dyn Backend>) {
    let mut world = World::new(StateStore::create(backend, CLUSTER, MEMBER), 15);
    world.commit(2000);
    world.checkpoint();
    let immortal: Vec<Change> = world.model.changes.values().step_by(17).cloned().collect();
    let stop = AtomicBool::new(false);
    let revisions = world.store.revisions();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2_u64)
            .map(|number| {
                let (immortal, stop, revisions) = (&immortal, &stop, Arc::clone(&revisions));
                scope.spawn(move || {
                    let mut random = Random::new(number + 1);
                    let mut rounds = 0;
                    while !stop.load(Ordering::Acquire) || rounds < 20 {
                        rounds += 1;
                        let at = random.below(immortal.len() as u64 - 8) as usize;
                        let expected = &immortal[at..at + 8];
                        let wanted: Vec<Revision> = expected.iter().map(|change| change.revision).collect();
                        assert_eq!(revisions.fetch(&wanted).unwrap(), expected);
                        let limit = ScanLimit {
                            revisions: usize::MAX,
                            bytes: usize::MAX,
                        };
                        let (from, to) = (wanted[0].main, wanted[7].main);
                        let mut scanned = revisions.scan(from, to, limit).unwrap().changes;
                        scanned.retain(|change| wanted.contains(&change.revision));
                        assert_eq!(scanned, expected);
                    }
                })
            })
            .collect();
        for _ in 0..15 {
            let dead: Vec<Revision> = world
                .model
                .changes
                .keys()
                .copied()
                .filter(|revision| immortal.binary_search_by_key(revision, |c| c.revision).is_err())
                .filter(|revision| revision.main % 7 != 0)
                .take(600)
                .collect();
            world
                .model
                .changes
                .retain(|revision, _| dead.binary_search(revision).is_err());
            world.dead = dead;
            world.commit(100);
            world.settle();
            world.store.flush().unwrap();
        }
        stop.store(true, Ordering::Release);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    world.check_reads();
}

#[test]
fn readers_of_memory_miss_nothing_while_blocks_are_merged() {
    readers_miss_nothing(Arc::new(MemoryBackend::new()));
}

#[test]
fn readers_of_sled_miss_nothing_while_blocks_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let (opened, _) = open(dir.path());
    readers_miss_nothing(opened.backend);
}

#[test]
fn what_is_not_flushed_is_gone_after_a_crash_and_what_is_flushed_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let mut world = create(dir.path(), 21);
    let mut flushed = None;
    for round in 0..30_u32 {
        world.commit(1 + u64::from(round) * 3);
        if round % 4 == 3 {
            world.compact();
        }
        world.settle();
        // Two out of three times the crash comes before the flush.
        if round % 3 == 2 {
            world.store.flush().unwrap();
            flushed = Some(world.model.clone());
        }
        let copy = copies.path().join(round.to_string());
        copy_tree(dir.path(), &copy);
        let (opened, changes) = open(&copy);
        assert!(opened.aside.is_none(), "{:?}", opened.aside);
        match (&opened.loaded, &flushed) {
            (Some(loaded), Some(model)) => assert_loaded(loaded, &changes, model),
            (None, None) => {}
            _ => panic!("round {round}: loaded {}", opened.loaded.is_some()),
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            match fs::copy(entry.path(), &target) {
                // sled removes old metadata files in the background.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                result => {
                    result.unwrap();
                }
            }
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found.sort();
    found
}

/// Breaks something in a copy; `older` is an earlier state of the same directory. Says what.
fn damage(random: &mut Random, dir: &Path, older: &Path) -> String {
    let files: Vec<PathBuf> = files(dir)
        .into_iter()
        .filter(|path| fs::metadata(path).unwrap().len() > 0)
        .collect();
    let path = &files[random.below(files.len() as u64) as usize];
    let name = path.strip_prefix(dir).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let at = random.below(bytes.len() as u64) as usize;
    let what = match random.below(6) {
        0 | 1 => {
            bytes[at] ^= 1 << random.below(8);
            format!("flip at {at}")
        }
        2 => {
            bytes.truncate(at);
            format!("truncate to {at}")
        }
        3 => {
            let end = bytes.len().min(at + 4096);
            bytes[at..end].fill(0);
            format!("zeros {at}..{end}")
        }
        4 => {
            fs::remove_file(path).unwrap();
            return format!("remove {}", name.display());
        }
        _ => {
            let Ok(old) = fs::read(older.join(name)) else {
                return "nothing".into();
            };
            bytes = old;
            "an older file".into()
        }
    };
    fs::write(path, bytes).unwrap();
    format!("{what} in {}", name.display())
}

#[test]
fn damage_is_set_aside_or_harmless_and_never_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = create(dir.path(), 31);
    let mut states = Vec::new();
    let older = dir.path().join("older");
    let base = dir.path().join("base");
    for round in 0..12 {
        world.commit(100);
        if round % 3 == 2 {
            world.compact();
        }
        world.settle();
        world.store.flush().unwrap();
        states.push(world.model.clone());
        if round == 6 {
            copy_tree(&dir.path().join("sled"), &older);
        }
    }
    copy_tree(&dir.path().join("sled"), &base.join("sled"));
    fs::copy(dir.path().join("sled.marker"), base.join("sled.marker")).unwrap();
    drop(world);
    let mut random = Random::new(32);
    let (mut same, mut earlier, mut aside) = (0, 0, 0);
    for case in 0..damage_cases() {
        let copy = dir.path().join(format!("case-{case}"));
        copy_tree(&base, &copy);
        let what: Vec<String> = (0..1 + random.below(2))
            .map(|_| damage(&mut random, &copy.join("sled"), &older))
            .collect();
        let (done, result) = mpsc::channel();
        let opening = copy.clone();
        std::thread::spawn(move || {
            let mut changes = Vec::new();
            let opened = open_guarded(&opening, &mut collect(&mut changes));
            let _ = done.send((opened, changes));
        });
        let (opened, changes) = result
            .recv_timeout(Duration::from_secs(60))
            .unwrap_or_else(|_| panic!("hangs after {what:?}"));
        let opened = opened.unwrap_or_else(|error| panic!("not opened after {what:?}: {error}"));
        match (&opened.loaded, &opened.aside) {
            (Some(loaded), None) => {
                // An earlier checkpoint is no wrong content: the log goes on from its applied index.
                let model = states
                    .iter()
                    .find(|model| Index(model.applied) == loaded.meta.applied);
                assert_loaded(loaded, &changes, model.unwrap_or_else(|| panic!("{what:?}")));
                if model == states.last() {
                    same += 1
                } else {
                    earlier += 1
                }
            }
            (None, Some(_)) => {
                aside += 1;
                assert!(copy.join("sled.damaged-1").is_dir());
                let mut world = World::new(StateStore::create(opened.backend, CLUSTER, MEMBER), case);
                world.commit(10);
                world.checkpoint();
                world.store.flush().unwrap();
            }
            (loaded, reason) => panic!("loaded {}, {reason:?} after {what:?}", loaded.is_some()),
        }
        drop(opened.loaded);
        fs::remove_dir_all(&copy).unwrap();
    }
    println!("same {same}, an earlier checkpoint {earlier}, set aside {aside}");
    assert!(
        aside > same / 4 && same > 0,
        "same {same}, earlier {earlier}, aside {aside}"
    );
}

/// A few by default; more with `DAMAGE_CASES` in the environment.
fn damage_cases() -> u64 {
    std::env::var("DAMAGE_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(120)
}

#[test]
fn damage_under_an_open_store_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = create(dir.path(), 41);
    world.commit(2000);
    world.settle();
    world.store.flush().unwrap();
    let wanted: Vec<Revision> = world.model.changes.keys().step_by(50).copied().collect();
    drop(world);
    let (opened, _) = open(dir.path());
    let store = opened.loaded.unwrap().store;
    for file in files(&dir.path().join("sled").join("slabs")) {
        let len = fs::metadata(&file).unwrap().len() as usize;
        fs::write(&file, vec![0x5a; len]).unwrap();
    }
    assert!(store.revisions().fetch(&wanted).is_err());
}

#[test]
fn a_panic_while_loading_sets_aside_and_is_known_as_guarded() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = create(dir.path(), 51);
    world.commit(10);
    world.checkpoint();
    world.store.flush().unwrap();
    drop(world);
    assert!(!is_guarded());
    let mut seen = false;
    let opened = open_guarded(dir.path(), &mut |load| {
        if let Load::Change(change) = load {
            seen = is_guarded();
            assert!(change.revision.main < 5, "the visitor refuses");
        }
    })
    .unwrap();
    assert!(seen && !is_guarded() && guarded(is_guarded));
    assert!(opened.loaded.is_none());
    let aside = opened.aside.unwrap();
    assert!(
        matches!(aside.reason, store::backend::BackendError::Panicked { .. }),
        "{:?}",
        aside.reason
    );
    assert!(aside.path.is_dir());
}

#[test]
fn two_starts_that_died_while_opening_set_the_copy_aside_and_an_empty_one_is_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let fill = || {
        let (opened, _) = open(dir.path());
        let mut world = World::new(StateStore::create(opened.backend, CLUSTER, MEMBER), 61);
        world.commit(10);
        world.checkpoint();
        world.store.flush().unwrap();
        opened.aside
    };
    assert!(fill().is_none());
    let marker = dir.path().join("sled.marker");
    let dying = |deaths: u32| fs::write(&marker, format!("opening 1\ndeaths {deaths}\nfilled 1\n")).unwrap();
    dying(0);
    assert!(
        open(dir.path()).0.loaded.is_some(),
        "one death is not blamed on the copy"
    );
    dying(1);
    let (opened, _) = open(dir.path());
    assert!(opened.loaded.is_none());
    assert!(matches!(
        opened.aside.unwrap().reason,
        store::backend::BackendError::Deadly { deaths: 2 }
    ));
    drop(opened.backend);
    for _ in 0..3 {
        fill();
        fs::remove_dir_all(dir.path().join("sled")).unwrap();
        fs::create_dir(dir.path().join("sled")).unwrap();
        let (opened, _) = open(dir.path());
        assert!(matches!(
            opened.aside.unwrap().reason,
            store::backend::BackendError::Marker { .. }
        ));
    }
    let asides = fs::read_dir(dir.path()).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("sled.damaged-")
    });
    assert_eq!(asides.count(), 2, "only the last two are kept");
}

#[test]
fn a_directory_in_use_is_refused_and_not_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = create(dir.path(), 71);
    world.commit(10);
    world.checkpoint();
    world.store.flush().unwrap();
    assert!(open_guarded(dir.path(), &mut |_| {}).is_err());
    drop(world);
    assert!(open(dir.path()).0.loaded.is_some());
}

/// The life of the process that [`a_killed_process_loses_nothing_it_flushed`] kills: says after each flush which
/// round is durable. Without the directory in the environment it is no test of its own.
#[test]
fn killed_process() {
    let Ok(dir) = std::env::var(KILL_DIR) else { return };
    let mut world = create(Path::new(&dir), KILL_SEED);
    for round in 0.. {
        kill_round(&mut world, round);
        world.store.flush().unwrap();
        println!("flushed {round}");
    }
}

fn kill_round(world: &mut World, round: u64) {
    world.commit(20);
    if round % 5 == 4 {
        world.compact();
    }
    world.settle();
}

#[test]
fn a_killed_process_loses_nothing_it_flushed() {
    for case in 0..6_u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_process", "--nocapture"])
            .env(KILL_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = None;
        while last.is_none_or(|round| round < 5 + case * 7) {
            let line = lines.next().expect("it runs until it is killed").unwrap();
            if let Some((_, round)) = line.split_once("flushed ") {
                last = Some(round.trim().parse::<u64>().unwrap());
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            if let Some((_, round)) = line.unwrap().split_once("flushed ") {
                last = round.trim().parse::<u64>().ok().or(last);
            }
        }
        let (opened, changes) = open(dir.path());
        assert!(opened.aside.is_none(), "{:?}", opened.aside);
        let loaded = opened.loaded.expect("flushed");
        let mut replica = World::new(
            StateStore::create(Arc::new(MemoryBackend::new()), CLUSTER, MEMBER),
            KILL_SEED,
        );
        let last = last.unwrap();
        let mut round = 0;
        while replica.model.applied < loaded.meta.applied.0 {
            kill_round(&mut replica, round);
            round += 1;
        }
        assert!(round > last, "round {last} was flushed, {round} rounds are there");
        assert_loaded(&loaded, &changes, &replica.model);
    }
}

const KILL_DIR: &str = "PROP_BACKEND_KILL_DIR";
const KILL_SEED: u64 = 81;

/// Not a test: prints what checkpointing and opening cost. Run in release, alone, with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let dir = tempfile::tempdir_in(std::env::var("MEASURE_DIR").unwrap_or_else(|_| ".".into())).unwrap();
    let puts: i64 = std::env::var("MEASURE_PUTS")
        .ok()
        .and_then(|puts| puts.parse().ok())
        .unwrap_or(1_000_000);
    let batch: i64 = std::env::var("MEASURE_BATCH")
        .ok()
        .and_then(|puts| puts.parse().ok())
        .unwrap_or(16_000);
    let mut random = Random::new(1);
    let (opened, _) = open(dir.path());
    let mut store = StateStore::create(Arc::clone(&opened.backend), CLUSTER, MEMBER);
    let entry = |random: &mut Random, main: i64, key: i64| {
        let kv = KeyValue {
            key: Bytes::copy_from_slice(&key.to_be_bytes()),
            create_revision: main,
            mod_revision: main,
            version: 1,
            value: random.bytes(256),
            lease: 0,
        };
        let changes = vec![Change {
            revision: Revision::new(main, 0),
            tombstone: false,
            kv,
        }];
        Arc::new(CommittedRevision {
            main,
            changes,
            previous: vec![None],
        })
    };
    let report = |what: &str, spent: f64, started: std::time::Instant| {
        let disk = tree_bytes(dir.path()) >> 20;
        println!(
            "{what}: {:.2} us CPU per put, {:.2} s, RSS {} MiB, disk {disk} MiB",
            spent * 1e6 / puts as f64,
            started.elapsed().as_secs_f64(),
            rss_mib()
        );
    };
    let checkpoint =
        |store: &mut StateStore, random: &mut Random, from: i64, count: i64, dead: Vec<Revision>| {
            let revisions: Vec<_> = (from..from + count)
                .map(|main| entry(random, main, main % puts))
                .collect();
            let revision = from + count - 1;
            let applied = Index(revision as u64);
            let checkpoint = Checkpoint {
                revisions,
                dead,
                applied,
                revision,
                compaction_finished: true,
                ..Checkpoint::default()
            };
            let before = cpu();
            store.checkpoint(&checkpoint).unwrap();
            store.flush().unwrap();
            cpu() - before
        };
    let started = std::time::Instant::now();
    let mut spent = 0.0;
    let end = 2 + puts / batch * batch;
    for from in (2..end).step_by(batch as usize) {
        spent += checkpoint(&mut store, &mut random, from, batch, Vec::new());
    }
    report("append", spent, started);
    println!(
        "{} blocks, {} MiB coded",
        store.blocks(),
        store.live_bytes() >> 20
    );
    let (started, before) = (std::time::Instant::now(), cpu());
    let revisions = store.revisions();
    for _ in 0..puts / 20 {
        let wanted = Revision::new(2 + random.below(end as u64 - 2) as i64, 0);
        assert_eq!(revisions.fetch(&[wanted]).unwrap().len(), 1);
    }
    println!(
        "random fetch: {:.2} us",
        (cpu() - before) * 1e6 / (puts / 20) as f64
    );
    report("after fetch", 0.0, started);
    let started = std::time::Instant::now();
    spent = 0.0;
    let dead: Vec<Revision> = (2..puts + 2)
        .filter(|main| main % 10 != 0)
        .map(|main| Revision::new(main, 0))
        .collect();
    spent += checkpoint(&mut store, &mut random, end, 1, dead);
    let mut next = end + 1;
    let mut longest = 0.0_f64;
    while store.dead_pending() > 0 {
        let step = checkpoint(&mut store, &mut random, next, 1, Vec::new());
        longest = longest.max(step);
        spent += step;
        next += 1;
    }
    report("prune 9 of 10", spent, started);
    println!(
        "{} blocks, {} steps, the longest {:.1} ms CPU",
        store.blocks(),
        next - puts,
        longest * 1e3
    );
    let from = next;
    for from in (from..from + end - 2).step_by(batch as usize) {
        checkpoint(&mut store, &mut random, from, batch, Vec::new());
    }
    drop((revisions, store, opened));
    let (started, before) = (std::time::Instant::now(), cpu());
    let mut count = 0_u64;
    let opened = open_guarded(dir.path(), &mut |load| {
        count += u64::from(matches!(load, Load::Change(_)))
    })
    .unwrap();
    assert!(opened.aside.is_none());
    report(&format!("open {count} changes"), cpu() - before, started);
}

fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn rss_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn tree_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    files(dir)
        .iter()
        .filter_map(|file| fs::metadata(file).ok())
        .map(|metadata| metadata.blocks() * 512)
        .sum()
}
