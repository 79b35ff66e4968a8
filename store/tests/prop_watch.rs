//! Properties of the watch hub: against a naive store, every watcher hears of every matching change exactly once, in
//! order, whole revisions at a time, and progress is never claimed early; and the interval index finds what a scan
//! finds.

mod watch_model;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use proto::mvccpb::Event;
use store::env::Instant;
use store::types::{Change, KeyRange, SharedRevision, WatchId};
use store::watch::{Config, Effect, HistoryView as _, Hub, Input, IntervalIndex, ReadToken, Sink, StreamId};
use watch_model::{Queue, Store, Write};

const STREAMS: u64 = 3;
const BATCH_REVISIONS_MAX: usize = 2;

#[derive(Clone, Debug)]
enum Op {
    Write(Vec<Write>),
    /// Applied, but the hub is told later or never.
    Unseen(Vec<Write>),
    Create(u64, WatchCreateRequest, Start),
    Cancel(u64, usize),
    Progress(u64),
    Take(u64, usize),
    Compact(i64),
    Trim(i64),
    Tick(u64),
    Answer,
    Install(Install),
}

/// A snapshot of the leader takes the place of the state: revisions that nobody was told of, none of them in memory,
/// perhaps compacted up to somewhere near the newest.
#[derive(Clone, Debug)]
struct Install {
    revisions: Vec<Vec<Write>>,
    compact_back: Option<i64>,
    /// Reads under way are answered from the state before it; otherwise from the one after it.
    reads_of_before: bool,
    /// The hub is told at once; otherwise it finds out.
    told: bool,
}

/// Where a watcher starts, seen from the revision at which it is created.
#[derive(Clone, Debug)]
enum Start {
    Now,
    Back(i64),
    Ahead(i64),
    Compacted,
}

fn key() -> impl Strategy<Value = String> {
    "[a-e]"
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let write = prop_oneof![
        3 => (key(), "[0-9]{1,30}").prop_map(|(key, value)| Write::Put(key, value)),
        1 => key().prop_map(Write::Delete),
    ];
    vec(write, 1..4)
}

fn creation() -> impl Strategy<Value = WatchCreateRequest> {
    let range = prop_oneof![
        key().prop_map(|key| (key, String::new())),
        (key(), "[b-f]").prop_map(|(key, end)| (key, end)),
        key().prop_map(|key| (key, "\0".to_owned())),
    ];
    (
        range,
        vec(0..2i32, 0..2),
        any::<[bool; 3]>(),
        prop_oneof![4 => Just(0), 1 => 1..6i64],
    )
        .prop_map(
            |((key, end), filters, [prev_kv, progress_notify, fragment], watch_id)| WatchCreateRequest {
                key: key.into(),
                range_end: end.into(),
                filters,
                prev_kv,
                progress_notify,
                fragment,
                watch_id,
                start_revision: 0,
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    let start = prop_oneof![
        3 => Just(Start::Now),
        4 => (0..8i64).prop_map(Start::Back),
        1 => (1..4i64).prop_map(Start::Ahead),
        1 => Just(Start::Compacted),
    ];
    prop_oneof![
        8 => writes().prop_map(Op::Write),
        2 => writes().prop_map(Op::Unseen),
        4 => (0..STREAMS, creation(), start).prop_map(|(s, request, start)| Op::Create(s, request, start)),
        1 => (0..STREAMS, 0..4usize).prop_map(|(s, nth)| Op::Cancel(s, nth)),
        2 => (0..STREAMS).prop_map(Op::Progress),
        5 => (0..STREAMS, 1..4usize).prop_map(|(s, places)| Op::Take(s, places)),
        1 => (0..6i64).prop_map(Op::Compact),
        2 => (0..4i64).prop_map(Op::Trim),
        3 => (0..60u64).prop_map(Op::Tick),
        3 => Just(Op::Answer),
        2 => install().prop_map(Op::Install),
    ]
}

fn install() -> impl Strategy<Value = Install> {
    (
        vec(writes(), 0..5),
        proptest::option::of(0..6i64),
        any::<bool>(),
        proptest::bool::weighted(0.9),
    )
        .prop_map(|(revisions, compact_back, reads_of_before, told)| Install {
            revisions,
            compact_back,
            reads_of_before,
            told,
        })
}

/// A watcher as its client knows it.
struct Watched {
    request: WatchCreateRequest,
    range: KeyRange,
    /// The first revision of which nothing was received.
    next: i64,
    /// Everything up to here is known to be received, by an event or by progress.
    known: i64,
}

impl Watched {
    fn wants(&self, change: &Change) -> bool {
        !self.request.filters.contains(&i32::from(change.tombstone)) && self.range.contains(&change.kv.key)
    }

    /// What a revision has for this watcher: the whole of it, and what remains of it once it is compacted.
    fn expected(&self, store: &Store, main: i64) -> (Vec<Event>, Vec<Event>) {
        let Some(whole) = store.revision(main) else {
            return (Vec::new(), Vec::new());
        };
        let newest = |at: usize| {
            let key = &whole.changes[at].kv.key;
            whole.changes[at + 1..].iter().all(|later| later.kv.key != key)
        };
        let wanted: Vec<usize> = (0..whole.changes.len())
            .filter(|&at| self.wants(&whole.changes[at]))
            .collect();
        let event = |at: &usize| whole.event(*at, self.request.prev_kv);
        let remains = wanted.iter().filter(|&&at| newest(at)).map(event).collect();
        (wanted.iter().map(event).collect(), remains)
    }

    /// Whether there is something to hear at `main` that must not be skipped.
    fn must_hear(&self, store: &Store, main: i64) -> bool {
        let (whole, remains) = self.expected(store, main);
        if main > store.compacted() {
            !whole.is_empty()
        } else {
            !remains.is_empty()
        }
    }

    fn receive(&mut self, store: &Store, events: &[Event]) {
        let main_of = |event: &Event| event.kv.as_ref().expect("kv").mod_revision;
        let groups: Vec<&[Event]> = events.chunk_by(|a, b| main_of(a) == main_of(b)).collect();
        assert!(groups.len() <= BATCH_REVISIONS_MAX, "{} revisions", groups.len());
        for group in groups {
            let main = main_of(&group[0]);
            assert!(
                main >= self.next,
                "revision {main} again or out of order, expected {}",
                self.next
            );
            for skipped in self.next..main {
                assert!(
                    !self.must_hear(store, skipped),
                    "revision {skipped} skipped before {main}"
                );
            }
            let (whole, remains) = self.expected(store, main);
            let compacted = main <= store.compacted();
            assert!(
                same(group, &whole, compacted) || compacted && same(group, &remains, true),
                "revision {main}: got {group:?}, expected {whole:?}"
            );
            self.next = main + 1;
            self.known = main;
        }
    }

    fn progress(&mut self, store: &Store, revision: i64) {
        assert!(
            self.request.start_revision <= revision,
            "progress before the start"
        );
        for main in self.next..=revision {
            assert!(
                !self.must_hear(store, main),
                "progress to {revision} before revision {main} was sent"
            );
        }
        self.known = self.known.max(revision);
    }
}

/// Equal events; the previous state may be missing where compaction has reached the revision.
fn same(got: &[Event], expected: &[Event], compacted: bool) -> bool {
    let alike = |got: &Event, expected: &Event| {
        let bare = |event: &Event| Event {
            prev_kv: None,
            ..event.clone()
        };
        let previous = got.prev_kv == expected.prev_kv || compacted && got.prev_kv.is_none();
        bare(got) == bare(expected) && previous
    };
    got.len() == expected.len()
        && got
            .iter()
            .zip(expected)
            .all(|(got, expected)| alike(got, expected))
}

/// A stream as its client knows it.
struct Client {
    queue: Queue,
    /// Creations to be answered, in order, with the revision at which they were asked for.
    creating: VecDeque<(WatchCreateRequest, i64)>,
    cancelling: VecDeque<i64>,
    /// `None`: cancelled by a compaction.
    watches: BTreeMap<i64, Option<Watched>>,
    /// The parts of a fragmented response so far.
    parts: Option<(i64, Vec<Event>)>,
    progress_answers: usize,
}

impl Client {
    fn receive(&mut self, store: &Store, response: WatchResponse) {
        let header = response.header.as_ref().expect("a header").revision;
        let id = response.watch_id;
        assert!(header <= store.current());
        if response.created {
            return self.created(&response, header);
        }
        if response.canceled {
            return self.canceled(&response, header);
        }
        if !response.events.is_empty() {
            return self.events(store, response, header);
        }
        assert!(self.parts.is_none(), "progress between the parts of a response");
        if id == -1 && !self.watches.contains_key(&-1) {
            self.progress_answers += 1;
            assert!(self.watches.values().any(Option::is_some), "progress for nobody");
            self.watches
                .values_mut()
                .flatten()
                .for_each(|watch| watch.progress(store, header));
        } else {
            let watch = self
                .watches
                .get_mut(&id)
                .and_then(Option::as_mut)
                .expect("progress of a live watcher");
            assert!(watch.request.progress_notify);
            watch.progress(store, header);
        }
    }

    fn created(&mut self, response: &WatchResponse, header: i64) {
        let (mut request, asked_at) = self.creating.pop_front().expect("a creation was asked for");
        assert_eq!(header, asked_at, "created at the current revision");
        if response.canceled {
            assert_eq!(response.watch_id, -1);
            return;
        }
        if request.watch_id != 0 {
            assert_eq!(response.watch_id, request.watch_id);
        }
        let next = if request.start_revision == 0 {
            header + 1
        } else {
            request.start_revision
        };
        request.watch_id = response.watch_id;
        let range = KeyRange::new(request.key.clone(), request.range_end.clone());
        let watched = Watched {
            request,
            range,
            next,
            known: next - 1,
        };
        assert!(
            self.watches.insert(response.watch_id, Some(watched)).is_none(),
            "the id was free"
        );
    }

    fn canceled(&mut self, response: &WatchResponse, header: i64) {
        let id = response.watch_id;
        if response.compact_revision == 0 {
            assert_eq!(self.cancelling.pop_front(), Some(id), "cancelled as asked");
            assert!(self.watches.remove(&id).is_some());
            return;
        }
        assert_eq!(header, 0);
        let watch = self.watches.insert(id, None).flatten().expect("a live watcher");
        let compacted = response.compact_revision;
        assert!(
            watch.known + 1 < compacted,
            "had received up to {}, cancelled for {compacted}",
            watch.known
        );
    }

    fn events(&mut self, store: &Store, response: WatchResponse, header: i64) {
        let id = response.watch_id;
        let newest = response
            .events
            .iter()
            .map(|event| event.kv.as_ref().expect("kv").mod_revision)
            .max();
        assert!(newest <= Some(header), "header {header} below its events");
        let mut events = match self.parts.take() {
            Some((whose, parts)) => {
                assert_eq!(whose, id, "a foreign response between two parts");
                parts
            }
            None => Vec::new(),
        };
        events.extend(response.events);
        let watch = self
            .watches
            .get_mut(&id)
            .and_then(Option::as_mut)
            .expect("events of a live watcher");
        if response.fragment {
            assert!(watch.request.fragment);
            self.parts = Some((id, events));
        } else {
            watch.receive(store, &events);
        }
    }
}

struct World {
    store: Store,
    hub: Hub,
    now: Instant,
    clients: Vec<Client>,
    reads: VecDeque<(ReadToken, i64, i64, bool)>,
    /// Reads that were done before a snapshot was installed, and are answered after it.
    done: VecDeque<(ReadToken, Result<Vec<SharedRevision>, i64>)>,
}

impl World {
    fn new() -> Self {
        let config = Config {
            fragment_bytes: 120,
            progress_interval: Duration::from_millis(40),
            pass_watchers_max: 2,
            batch_revisions_max: BATCH_REVISIONS_MAX,
            scan_revisions_max: 3,
            read_revisions_max: 2,
            reads_max: 2,
            kick_revisions_max: 2,
            ..Config::default()
        };
        let now = Instant::default();
        let mut world = World {
            store: Store::new(),
            hub: Hub::new(config, 1, now),
            now,
            clients: Vec::new(),
            reads: VecDeque::new(),
            done: VecDeque::new(),
        };
        for stream in 0..STREAMS {
            let queue = Queue::new(4);
            world.clients.push(Client {
                queue: queue.clone(),
                creating: VecDeque::new(),
                cancelling: VecDeque::new(),
                watches: BTreeMap::new(),
                parts: None,
                progress_answers: 0,
            });
            world.step(Input::Open {
                stream: StreamId(stream),
                sink: queue.sink(),
            });
        }
        world
    }

    fn step(&mut self, input: Input<'_>) {
        let mut effects = Vec::new();
        self.hub.step(input, &self.store, &mut effects);
        for effect in effects {
            match effect {
                Effect::ReadHistory {
                    token,
                    from,
                    to,
                    with_previous,
                } => {
                    assert!(from <= to && to - from < 2 && to <= self.store.current());
                    self.reads.push_back((token, from, to, with_previous));
                }
                Effect::Overflow { stream } => panic!("{stream:?} overflowed"),
            }
        }
        for client in &mut self.clients {
            for response in client.queue.arrived() {
                client.receive(&self.store, response);
            }
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Write(writes) => {
                let revision = self.store.write(&writes);
                self.step(Input::Committed(revision.as_slice()));
            }
            Op::Unseen(writes) => drop(self.store.write(&writes)),
            Op::Create(stream, request, start) => self.create(stream, request, &start),
            Op::Cancel(stream, nth) => {
                let client = &mut self.clients[stream as usize];
                let mut known = client
                    .watches
                    .keys()
                    .filter(|id| !client.cancelling.contains(*id));
                if let Some(&id) = known.nth(nth) {
                    client.cancelling.push_back(id);
                    self.step(Input::Cancel {
                        stream: StreamId(stream),
                        id: WatchId(id),
                    });
                }
            }
            Op::Progress(stream) => self.step(Input::Progress {
                stream: StreamId(stream),
            }),
            Op::Take(stream, places) => {
                self.clients[stream as usize].queue.free(places);
                self.step(Input::Room {
                    stream: StreamId(stream),
                });
            }
            Op::Compact(back) => self.store.compact(self.store.current() - back),
            Op::Trim(back) => self.store.trim(self.store.current() + 1 - back),
            Op::Tick(ms) => {
                self.now = self.now + Duration::from_millis(ms);
                self.step(Input::Tick(self.now));
            }
            Op::Answer => {
                if let Some((token, answer)) = self.done.pop_front() {
                    self.step(Input::History { token, answer });
                } else if let Some((token, from, to, with_previous)) = self.reads.pop_front() {
                    let answer = self.store.history(from, to, with_previous);
                    self.step(Input::History { token, answer });
                }
            }
            Op::Install(install) => self.install(&install),
        }
    }

    fn install(&mut self, install: &Install) {
        if install.reads_of_before {
            for (token, from, to, with_previous) in self.reads.drain(..) {
                self.done
                    .push_back((token, self.store.history(from, to, with_previous)));
            }
        }
        for revision in &install.revisions {
            self.store.write(revision);
        }
        self.store.trim(self.store.current() + 1);
        if let Some(back) = install.compact_back {
            self.store.compact(self.store.current() - back);
        }
        if install.told {
            self.step(Input::Installed);
            assert_eq!(self.hub.revision(), self.store.current());
        }
    }

    fn create(&mut self, stream: u64, mut request: WatchCreateRequest, start: &Start) {
        let current = self.store.current();
        request.start_revision = match start {
            Start::Now => 0,
            Start::Back(by) => (current - by).max(1),
            Start::Ahead(by) => current + by,
            Start::Compacted => self.store.compacted().max(1),
        };
        self.clients[stream as usize]
            .creating
            .push_back((request.clone(), current));
        self.step(Input::Create {
            stream: StreamId(stream),
            request,
        });
    }

    /// Lets every client read on until nothing moves; then nobody may lack anything.
    fn settle(&mut self) {
        for client in &self.clients {
            client.queue.free(1_000_000);
        }
        for _ in 0..10_000 {
            self.run(Op::Tick(10));
            self.run(Op::Answer);
            let stats = self.hub.stats();
            if (stats.slow, stats.reads, stats.events_pending) == (0, 0, 0) {
                return;
            }
        }
        panic!("never caught up: {:?}", self.hub.stats());
    }

    fn check_complete(&mut self) {
        let current = self.store.current();
        assert_eq!(self.hub.revision(), current);
        for client in &self.clients {
            assert!(client.creating.is_empty() && client.cancelling.is_empty() && client.parts.is_none());
            for watch in client.watches.values().flatten() {
                for main in watch.next..=current {
                    let (whole, _) = watch.expected(&self.store, main);
                    assert!(
                        whole.is_empty() || !watch.must_hear(&self.store, main),
                        "revision {main} was lost"
                    );
                }
            }
        }
        for stream in 0..STREAMS {
            let client = &mut self.clients[stream as usize];
            client.progress_answers = 0;
            let mut live = client.watches.values().flatten().peekable();
            let due = live.peek().is_some() && live.all(|watch| watch.request.start_revision <= current);
            self.step(Input::Progress {
                stream: StreamId(stream),
            });
            assert_eq!(
                self.clients[stream as usize].progress_answers,
                usize::from(due),
                "progress on demand"
            );
        }
        let live = self
            .clients
            .iter()
            .flat_map(|client| client.watches.values().flatten())
            .count();
        assert_eq!(self.hub.stats().watchers, live);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_hears_everything_once(ops in vec(op(), 1..150)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        world.settle();
        world.check_complete();
    }

    #[test]
    fn the_index_finds_what_a_scan_finds(
        seed in any::<u64>(),
        steps in vec((any::<bool>(), "[a-d]{1,2}", prop_oneof![Just(String::new()), Just("\0".to_owned()), "[a-e]{1,2}"], 0..4u32), 1..200),
        keys in vec("[a-e]{1,3}", 1..20),
    ) {
        let mut index = IntervalIndex::new(seed);
        let mut scan: Vec<(KeyRange, u32)> = Vec::new();
        for (remove, key, end, watcher) in steps {
            let range = KeyRange::new(key.into(), end.into());
            let known = scan.iter().position(|pair| *pair == (range.clone(), watcher));
            match (remove, known) {
                (true, known) => {
                    prop_assert_eq!(index.remove(&range, watcher), known.is_some());
                    known.map(|at| scan.swap_remove(at));
                }
                (false, known) => {
                    index.insert(&range, watcher);
                    if known.is_none() {
                        scan.push((range, watcher));
                    }
                }
            }
            prop_assert_eq!(index.len(), scan.len());
        }
        for key in keys {
            let mut found = Vec::new();
            index.stab(key.as_bytes(), &mut |watcher| found.push(watcher));
            let mut expected: Vec<u32> =
                scan.iter().filter(|(range, _)| range.contains(key.as_bytes())).map(|(_, watcher)| *watcher).collect();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}

/// A sink that only counts.
struct Discard(Arc<AtomicUsize>);

impl Sink for Discard {
    fn offer(&mut self, response: WatchResponse) -> Result<(), WatchResponse> {
        self.0.fetch_add(1, Ordering::Relaxed);
        drop(response);
        Ok(())
    }

    fn room(&self) -> usize {
        usize::MAX
    }
}

/// Prints the cost of a committed revision. `cargo test --test prop_watch -- --ignored --nocapture figures`
#[test]
#[ignore = "prints figures, asserts nothing that time decides"]
fn figures() {
    const REVISIONS: usize = 20_000;
    let watched = |count: usize, range: &dyn Fn(usize) -> KeyRange, key: &str, revisions: usize| {
        let mut store = Store::new();
        let mut hub = Hub::new(Config::default(), 1, Instant::default());
        let taken = Arc::new(AtomicUsize::new(0));
        let mut effects = Vec::new();
        let sink = Box::new(Discard(taken.clone()));
        hub.step(
            Input::Open {
                stream: StreamId(0),
                sink,
            },
            &store,
            &mut effects,
        );
        for n in 0..count {
            let KeyRange { key, range_end } = range(n);
            let request = WatchCreateRequest {
                key,
                range_end,
                ..WatchCreateRequest::default()
            };
            hub.step(
                Input::Create {
                    stream: StreamId(0),
                    request,
                },
                &store,
                &mut effects,
            );
        }
        let writes: Vec<_> = (0..revisions)
            .map(|_| {
                store
                    .write(&[Write::Put(key.to_owned(), "value".to_owned())])
                    .expect("a change")
            })
            .collect();
        taken.store(0, Ordering::Relaxed);
        let begin = std::time::Instant::now();
        for batch in writes.chunks(32) {
            hub.step(Input::Committed(batch), &store, &mut effects);
        }
        let ns = begin.elapsed().as_nanos() as f64 / revisions as f64;
        (ns, taken.load(Ordering::Relaxed))
    };
    let single = |n: usize| KeyRange::single(Bytes::from(format!("/registry/pods/{n:05}")));
    let prefix = |n: usize| {
        KeyRange::new(
            Bytes::from(format!("/registry/{n:05}/")),
            Bytes::from(format!("/registry/{n:05}0")),
        )
    };
    let same = |_: usize| {
        KeyRange::new(
            Bytes::from_static(b"/registry/"),
            Bytes::from_static(b"/registry0"),
        )
    };
    for (what, count, range, key, revisions) in [
        (
            "no watcher",
            0,
            &single as &dyn Fn(usize) -> KeyRange,
            "/registry/pods/00500",
            REVISIONS,
        ),
        ("1 watcher, hit", 1, &single, "/registry/pods/00000", REVISIONS),
        ("1 watcher, miss", 1, &single, "/registry/pods/00500", REVISIONS),
        (
            "10k key watchers, miss",
            10_000,
            &single,
            "/registry/pods/x",
            REVISIONS,
        ),
        (
            "10k key watchers, 1 hit",
            10_000,
            &single,
            "/registry/pods/04711",
            REVISIONS,
        ),
        (
            "10k range watchers, miss",
            10_000,
            &prefix,
            "/registry/04711",
            REVISIONS,
        ),
        (
            "10k range watchers, 1 hit",
            10_000,
            &prefix,
            "/registry/04711/a",
            REVISIONS,
        ),
        (
            "10k watchers of one range, 10k hits",
            10_000,
            &same,
            "/registry/x",
            50,
        ),
    ] {
        let (ns, responses) = watched(count, range, key, revisions);
        println!("{what}: {ns:.0} ns per committed revision, {responses} responses");
    }
}
