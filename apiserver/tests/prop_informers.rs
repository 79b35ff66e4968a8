//! Informers: whoever lists and watches, and lists again on 410, has what the store has. Two views follow thousands of
//! random writes while the history is compacted, engines end and others take their place, connections break, rings
//! overflow and readers fall asleep.
//!
//! Each view is strict: what is added must be new to it, what is modified or deleted must be there, revisions never go
//! back. So a change that is missed, doubled or out of order fails at once, and not only by the view in the end.
//!
//! `TAFFRAIL_INFORMER_WRITES` sets the number of writes, `TAFFRAIL_INFORMER_SEED` the order of things.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::engine::{Engine, Event, EventKind, ListOptions, Settings, Watch, WatchOptions};
use apiserver::object::{Object, meta};
use apiserver::select::Labels;
use apiserver::status::Reason;
use serde_json::json;

use harness::*;

/// How many write at the same time.
const WRITERS: u64 = 4;

/// A repeatable source of chance.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        // Constants of the generator of Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }
}

/// What all tasks share.
struct World {
    /// The engine that is to be used, and how many there have been.
    engine: Mutex<(Engine, u64)>,
    /// How many writes there have been.
    writes: AtomicU64,
    /// The revision up to which everything must be seen, once there are no more writes.
    target: AtomicI64,
}

impl World {
    fn engine(&self) -> (Engine, u64) {
        self.engine.lock().unwrap().clone()
    }
}

/// What an informer knows: objects by namespace and name.
type View = BTreeMap<(String, String), Object>;

struct Informer {
    world: Arc<World>,
    dice: Dice,
    namespace: Option<&'static str>,
    selector: &'static str,
    /// Whether it asks for what is there by the watch itself.
    streams: bool,
    view: View,
    revision: i64,
    lists: u32,
    watches: u32,
}

impl Informer {
    fn new(world: &Arc<World>, seed: u64) -> Informer {
        Informer {
            world: Arc::clone(world),
            dice: Dice(seed),
            namespace: None,
            selector: "",
            streams: false,
            view: View::new(),
            revision: 0,
            lists: 0,
            watches: 0,
        }
    }

    async fn run(mut self) -> Informer {
        self.list().await;
        while !self.is_done() {
            self.watches += 1;
            let (engine, number) = self.world.engine();
            let options = WatchOptions {
                labels: Labels::parse(self.selector).unwrap(),
                resource_version: Some(self.revision.to_string()),
                bookmarks: true,
                ..WatchOptions::default()
            };
            match engine
                .watch(resource("configmaps"), self.namespace, options)
                .await
            {
                Ok(watch) => {
                    if !self.follow(watch, number).await {
                        self.list().await;
                    }
                }
                // The connection is broken just now.
                Err(status) => assert!(matches!(status.code, 500 | 504), "{status:?}"),
            }
        }
        self
    }

    fn is_done(&self) -> bool {
        self.revision >= self.world.target.load(Ordering::SeqCst)
    }

    /// Reads a watch for a while; false if it must list again.
    async fn follow(&mut self, mut watch: Watch, number: u64) -> bool {
        let events = 1 + self.dice.below(200);
        for _ in 0..events {
            if self.dice.below(40) == 0 {
                self.sleep().await;
            }
            let event = soon("an event or a bookmark", watch.next()).await;
            let Some(event) = event else { return true };
            if let EventKind::Error(status) = &event.kind {
                if status.reason == Reason::Expired {
                    return false;
                }
                assert!(matches!(status.code, 500 | 504), "{status:?}");
                return true;
            }
            self.take(&event);
            if self.is_done() || self.world.engine().1 != number {
                return true;
            }
        }
        true
    }

    /// Lets some writes happen before it reads on.
    async fn sleep(&mut self) {
        let until = self.world.writes.load(Ordering::SeqCst) + 1 + self.dice.below(60);
        soon("writes, or their end", async {
            while self.world.writes.load(Ordering::SeqCst) < until
                && self.world.target.load(Ordering::SeqCst) == i64::MAX
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    fn take(&mut self, event: &Event) {
        let object = event.object.object().unwrap();
        assert_eq!(revision_of(&object), event.revision);
        assert!(
            event.revision >= self.revision,
            "{event:?} after {}",
            self.revision
        );
        let key = (
            meta(&object, "namespace").to_owned(),
            meta(&object, "name").to_owned(),
        );
        match event.kind {
            EventKind::Added => {
                let had = self.view.insert(key, (*object).clone());
                assert!(had.is_none(), "{event:?} is there already: {had:?}");
            }
            EventKind::Modified => {
                let had = self.view.insert(key, (*object).clone());
                let had = had.unwrap_or_else(|| panic!("{event:?} is not there"));
                assert!(revision_of(&had) < event.revision, "{event:?} is known already");
            }
            EventKind::Deleted => {
                let had = self
                    .view
                    .remove(&key)
                    .unwrap_or_else(|| panic!("{event:?} is not there"));
                assert_eq!(without_version(&had), without_version(&object), "{event:?}");
            }
            EventKind::Bookmark => {}
            EventKind::Error(_) => unreachable!("seen to before"),
        }
        self.revision = event.revision;
    }

    async fn list(&mut self) {
        self.lists += 1;
        let listed = soon("a list", async {
            loop {
                let done = if self.streams {
                    self.list_by_watch().await
                } else {
                    self.list_by_pages().await
                };
                if let Some(done) = done {
                    return done;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let (view, revision) = listed.await;
        assert!(revision >= self.revision, "the store does not go back");
        (self.view, self.revision) = (view, revision);
    }

    /// Nothing where it has to be done again.
    async fn list_by_pages(&self) -> Option<(View, i64)> {
        let (engine, _) = self.world.engine();
        let mut options = ListOptions {
            limit: 7,
            ..labelled(self.selector)
        };
        let mut view = View::new();
        let mut at = None;
        loop {
            let page = match engine
                .list(resource("configmaps"), self.namespace, &options)
                .await
            {
                Ok(page) => page,
                Err(status) => {
                    assert!(matches!(status.code, 410 | 500 | 504), "{status:?}");
                    return None;
                }
            };
            assert_eq!(
                *at.get_or_insert(page.revision),
                page.revision,
                "all pages are of one revision"
            );
            for item in &page.items {
                let object = (*item.object().unwrap()).clone();
                assert!(item.revision() <= page.revision);
                let key = (
                    meta(&object, "namespace").to_owned(),
                    meta(&object, "name").to_owned(),
                );
                assert!(view.insert(key, object).is_none());
            }
            match page.continue_ {
                Some(token) => options.continue_ = Some(token),
                None => return Some((view, page.revision)),
            }
        }
    }

    async fn list_by_watch(&self) -> Option<(View, i64)> {
        let (engine, _) = self.world.engine();
        let options = WatchOptions {
            labels: Labels::parse(self.selector).unwrap(),
            version_match: Some("NotOlderThan".to_owned()),
            send_initial_events: Some(true),
            bookmarks: true,
            ..WatchOptions::default()
        };
        let mut watch = engine
            .watch(resource("configmaps"), self.namespace, options)
            .await
            .ok()?;
        let mut view = View::new();
        loop {
            let event = watch.next().await?;
            let object = match event.kind {
                EventKind::Error(status) => {
                    assert!(matches!(status.code, 410 | 500 | 504), "{status:?}");
                    return None;
                }
                EventKind::Bookmark => return Some((view, event.revision)),
                EventKind::Added => (*event.object.object().unwrap()).clone(),
                other => panic!("{other:?} before the end of what is there"),
            };
            let key = (
                meta(&object, "namespace").to_owned(),
                meta(&object, "name").to_owned(),
            );
            assert!(view.insert(key, object).is_none());
        }
    }
}

fn without_version(object: &Object) -> Object {
    let mut object = object.clone();
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    object
}

/// One write of something to something.
async fn write_once(engine: &Engine, dice: &mut Dice) {
    let namespace = ["default", "kube-system", "kube-public"][dice.below(3) as usize];
    let name = format!("c{}", dice.below(12));
    let app = ["a", "b"][dice.below(2) as usize];
    let data = dice.below(1_000_000).to_string();
    let written = match dice.below(10) {
        0..4 => {
            let new = configmap(&name, app, &data);
            engine
                .create(resource("configmaps"), namespace, new, &write())
                .await
                .map(drop)
        }
        4..6 => set(engine, namespace, &name, &data).await.map(drop),
        6..8 => {
            let label = change(engine, namespace, &name, |new| {
                new["metadata"]["labels"]["app"] = json!(app)
            });
            label.await.map(drop)
        }
        _ => delete(engine, namespace, &name).await.map(drop),
    };
    if let Err(status) = written {
        assert!(matches!(status.code, 404 | 409 | 500 | 504), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_equal_the_store() {
    let Some(store) = Store::start("views_equal_the_store").await else {
        return;
    };
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let writes = number("TAFFRAIL_INFORMER_WRITES", 2000);
    let seed = number("TAFFRAIL_INFORMER_SEED", 8);
    let mut dice = Dice(seed);
    let near = store.ready().await;
    let road = store.road().await;
    let small = || Settings {
        ring_events_max: 24,
        list_page_keys: 5,
        bookmark_interval: Duration::from_millis(30),
        progress_interval: Duration::from_millis(20),
        ..Settings::default()
    };
    let world = Arc::new(World {
        engine: Mutex::new((engine_at(road.endpoint(), small()), 0)),
        writes: AtomicU64::new(0),
        target: AtomicI64::new(i64::MAX),
    });
    let all = Informer::new(&world, seed + 1);
    let some = Informer {
        namespace: Some("default"),
        selector: "app=a",
        streams: true,
        ..Informer::new(&world, seed + 2)
    };
    let informers = [tokio::spawn(all.run()), tokio::spawn(some.run())];

    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (world, near, mut dice) = (Arc::clone(&world), near.clone(), Dice(seed + 10 + writer));
            tokio::spawn(async move {
                for _ in 0..writes / WRITERS {
                    // Half of them beside the engine that is watched.
                    let engine = if dice.below(2) == 0 {
                        near.clone()
                    } else {
                        world.engine().0
                    };
                    write_once(&engine, &mut dice).await;
                    world.writes.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let mut engines = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let until = world.writes.load(Ordering::SeqCst) + 1 + dice.below(80);
        while world.writes.load(Ordering::SeqCst) < until
            && !writers.iter().all(tokio::task::JoinHandle::is_finished)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        match dice.below(3) {
            0 => {
                let back = i64::try_from(dice.below(20)).unwrap();
                let revision = (store.revision().await - back).max(1);
                // It may be compacted further than that already.
                store.try_compact(revision).await;
            }
            1 => {
                engines += 1;
                let fresh = engine_at(road.endpoint(), small());
                *world.engine.lock().unwrap() = (fresh, engines);
            }
            _ => road.cut(),
        }
        assert!(
            !informers.iter().any(tokio::task::JoinHandle::is_finished),
            "an informer ended early"
        );
    }
    for writer in writers {
        writer.await.unwrap();
    }
    // One more, which all will hear of: by an event or by a bookmark.
    world.target.store(store.revision().await + 1, Ordering::SeqCst);
    create(&near, "kube-node-lease", configmap("last", "a", "1")).await;
    let mut relists = 0;
    for informer in informers {
        let informer = soon("an informer", informer).await.unwrap();
        let mut expected = near
            .list(
                resource("configmaps"),
                informer.namespace,
                &labelled(informer.selector),
            )
            .await
            .unwrap();
        let expected: View = expected
            .items
            .drain(..)
            .map(|item| {
                let object = (*item.object().unwrap()).clone();
                (
                    (
                        meta(&object, "namespace").to_owned(),
                        meta(&object, "name").to_owned(),
                    ),
                    object,
                )
            })
            .collect();
        assert_eq!(informer.view, expected);
        assert!(informer.watches > 1);
        relists += informer.lists - 1;
        println!(
            "{} objects, {} lists, {} watches, {engines} engines",
            informer.view.len(),
            informer.lists,
            informer.watches
        );
    }
    assert!(writes < 2000 || relists > 0, "nobody was ever told to list again");
}
