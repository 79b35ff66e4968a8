//! The working copy against a naive model, over both backends; then crashes, copies of a running directory, and
//! damage.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proto::mvccpb::KeyValue;
use store::backend::{
    Backend, Checkpoint, Load, Loaded, MemoryBackend, Opened, ScanLimit, StateStore, Table, TableWrite, load,
    open_guarded,
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
