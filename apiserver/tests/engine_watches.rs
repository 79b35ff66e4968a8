//! Watches: every change once and in order, wherever they begin and whatever happens to the ring, the history and the
//! store meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::time::Duration;

use apiserver::engine::{Engine, EventKind, ListOptions, Settings, Watch, WatchOptions};
use apiserver::etcd::Etcd;
use apiserver::select::{Fields, Labels};
use apiserver::status::Reason;
use serde_json::json;

use harness::*;

async fn watch(engine: &Engine, namespace: Option<&str>, options: WatchOptions) -> Watch {
    let opened = engine.watch(resource("configmaps"), namespace, options);
    soon("a watch", opened).await.unwrap()
}

fn from(revision: i64) -> WatchOptions {
    WatchOptions {
        resource_version: Some(revision.to_string()),
        ..WatchOptions::default()
    }
}

async fn expect(watch: &mut Watch, expected: &[(&str, &str)]) {
    for (kind, name) in expected {
        let event = next_change(watch).await;
        let (was, of, revision) = told(&event);
        assert_eq!((was, of.as_str()), (*kind, *name));
        let object = event.object.object().unwrap();
        assert_eq!(revision_of(&object), revision);
        let parsed: serde_json::Value = serde_json::from_slice(event.object.json()).unwrap();
        assert_eq!(parsed.as_object().unwrap(), &*object);
    }
}

#[tokio::test]
async fn a_watch_begins_behind_its_revision() {
    let Some(store) = Store::start("a_watch_begins_behind_its_revision").await else {
        return;
    };
    let engine = store.ready().await;
    create(&engine, "default", configmap("a", "x", "1")).await;
    let listed = engine
        .list(resource("configmaps"), None, &ListOptions::default())
        .await
        .unwrap();
    // The ring begins with this watch: what was between the list and it comes from the history.
    set(&engine, "default", "a", "2").await.unwrap();
    create(&engine, "kube-system", configmap("other", "x", "1")).await;
    create(&engine, "default", configmap("b", "x", "1")).await;
    delete(&engine, "default", "b").await.unwrap();
    let mut all = watch(&engine, None, from(listed.revision)).await;
    let mut own = watch(&engine, Some("default"), from(listed.revision)).await;
    let both = [
        ("MODIFIED", "a"),
        ("ADDED", "other"),
        ("ADDED", "b"),
        ("DELETED", "b"),
    ];
    expect(&mut all, &both).await;
    expect(&mut own, &[both[0], both[2], both[3]]).await;
    // And then from the ring.
    set(&engine, "kube-system", "other", "2").await.unwrap();
    set(&engine, "default", "a", "3").await.unwrap();
    expect(&mut all, &[("MODIFIED", "other"), ("MODIFIED", "a")]).await;
    expect(&mut own, &[("MODIFIED", "a")]).await;
    // A later client begins within the ring.
    let mut late = watch(&engine, Some("default"), from(listed.revision + 2)).await;
    expect(&mut late, &[("ADDED", "b"), ("DELETED", "b"), ("MODIFIED", "a")]).await;
    // One of a future that comes.
    let soonest = store.revision().await + 1;
    let mut future = watch(&engine, Some("default"), from(soonest)).await;
    set(&engine, "default", "a", "4").await.unwrap();
    set(&engine, "default", "a", "5").await.unwrap();
    let event = next(&mut future).await;
    assert_eq!(event.revision, soonest + 1);
}

#[tokio::test]
async fn what_is_there_comes_first_if_it_is_asked_for() {
    let Some(store) = Store::start("what_is_there_comes_first").await else {
        return;
    };
    let engine = store.engine(Settings {
        list_page_keys: 3,
        ..settings()
    });
    engine.bootstrap().await.unwrap();
    for number in 0..7 {
        create(&engine, "default", configmap(&format!("c{number}"), "x", "1")).await;
    }
    let there = store.revision().await;
    let added: Vec<_> = (0..7).map(|number| format!("c{number}")).collect();
    let added: Vec<_> = added.iter().map(|name| ("ADDED", name.as_str())).collect();
    for version in [None, Some("0")] {
        let options = WatchOptions {
            resource_version: version.map(str::to_owned),
            ..WatchOptions::default()
        };
        let mut plain = watch(&engine, Some("default"), options).await;
        expect(&mut plain, &added).await;
    }
    let initial = WatchOptions {
        version_match: Some("NotOlderThan".to_owned()),
        send_initial_events: Some(true),
        bookmarks: true,
        ..from(there)
    };
    let mut streamed = watch(&engine, Some("default"), initial).await;
    expect(&mut streamed, &added).await;
    let end = next(&mut streamed).await;
    assert_eq!((end.kind, end.revision), (EventKind::Bookmark, there));
    let object = end.object.object().unwrap();
    assert_eq!(
        object["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(
        (object["kind"].as_str(), object["apiVersion"].as_str()),
        (Some("ConfigMap"), Some("v1"))
    );
    set(&engine, "default", "c3", "2").await.unwrap();
    expect(&mut streamed, &[("MODIFIED", "c3")]).await;
    // Not from now on is from the revision on.
    let without = WatchOptions {
        version_match: Some("NotOlderThan".to_owned()),
        send_initial_events: Some(false),
        ..from(there)
    };
    let mut without = watch(&engine, Some("default"), without).await;
    expect(&mut without, &[("MODIFIED", "c3")]).await;

    for (send, how) in [
        (Some(true), None),
        (Some(true), Some("Exact")),
        (None, Some("NotOlderThan")),
    ] {
        let odd = WatchOptions {
            send_initial_events: send,
            version_match: how.map(str::to_owned),
            ..WatchOptions::default()
        };
        let refused = engine
            .watch(resource("configmaps"), None, odd)
            .await
            .err()
            .unwrap();
        assert_eq!(refused.code, 422);
    }
}

#[tokio::test]
async fn selectors_are_entered_and_left() {
    let Some(store) = Store::start("selectors_are_entered_and_left").await else {
        return;
    };
    let engine = store.ready().await;
    let start = store.revision().await;
    let selected = || WatchOptions {
        labels: Labels::parse("app=a").unwrap(),
        ..from(start)
    };
    let named = || WatchOptions {
        fields: Fields::parse(resource("configmaps"), "metadata.name=n").unwrap(),
        ..from(start)
    };
    let early = watch(&engine, None, selected()).await;
    let early_named = watch(&engine, Some("default"), named()).await;
    create(&engine, "default", configmap("n", "a", "1")).await;
    create(&engine, "default", configmap("nn", "b", "1")).await;
    let label = |name: &'static str, app: &'static str| {
        change(&engine, "default", name, move |new| {
            new["metadata"]["labels"]["app"] = json!(app)
        })
    };
    set(&engine, "default", "nn", "2").await.unwrap();
    label("nn", "a").await.unwrap();
    let left = label("n", "b").await.unwrap().object;
    set(&engine, "default", "n", "3").await.unwrap();
    label("n", "a").await.unwrap();
    delete(&engine, "default", "n").await.unwrap();
    // The same from the ring, by one who comes late, and from the history by another engine.
    let other = store.engine(settings());
    let late = watch(&engine, None, selected()).await;
    let history = watch(&other, None, selected()).await;
    for mut watch in [early, late, history] {
        expect(&mut watch, &[("ADDED", "n"), ("ADDED", "nn")]).await;
        let event = next_change(&mut watch).await;
        assert_eq!(told(&event), ("DELETED", "n".to_owned(), revision_of(&left)));
        // The last that was seen of it, at the revision at which it was seen no more.
        let object = event.object.object().unwrap();
        assert_eq!(object["metadata"]["labels"]["app"], "a");
        assert_eq!(revision_of(&object), revision_of(&left));
        expect(&mut watch, &[("ADDED", "n"), ("DELETED", "n")]).await;
    }
    let late_named = watch(&engine, Some("default"), named()).await;
    let history_named = watch(&other, Some("default"), named()).await;
    for mut watch in [early_named, late_named, history_named] {
        let modified = [("MODIFIED", "n"); 3];
        expect(&mut watch, &[("ADDED", "n")]).await;
        expect(&mut watch, &modified).await;
        expect(&mut watch, &[("DELETED", "n")]).await;
    }
}

#[tokio::test]
async fn a_deletion_shows_what_it_was() {
    let Some(store) = Store::start("a_deletion_shows_what_it_was").await else {
        return;
    };
    let engine = store.ready().await;
    let made = create(&engine, "default", configmap("a", "x", "1")).await;
    let mut watch = watch(&engine, None, from(revision_of(&made))).await;
    delete(&engine, "default", "a").await.unwrap();
    let event = next(&mut watch).await;
    assert_eq!(told(&event), ("DELETED", "a".to_owned(), store.revision().await));
    let mut expected = made.clone();
    expected["metadata"]["resourceVersion"] = json!(event.revision.to_string());
    assert_eq!(*event.object.object().unwrap(), expected);
}

#[tokio::test]
async fn what_is_compacted_is_an_error_in_the_watch() {
    let Some(store) = Store::start("what_is_compacted_is_an_error").await else {
        return;
    };
    let engine = store.ready().await;
    let made = create(&engine, "default", configmap("a", "x", "1")).await;
    for data in ["2", "3", "4"] {
        set(&engine, "default", "a", data).await.unwrap();
    }
    store.compact(store.revision().await).await;
    let mut old = watch(&engine, None, from(revision_of(&made))).await;
    let event = next(&mut old).await;
    let EventKind::Error(status) = event.kind else {
        panic!("{event:?}")
    };
    assert_eq!((status.code, status.reason), (410, Reason::Expired));
    assert!(
        status
            .message
            .starts_with(&format!("too old resource version: {} (", revision_of(&made))),
        "{status}"
    );
    let sent: serde_json::Value = serde_json::from_slice(event.object.json()).unwrap();
    assert_eq!(
        (sent["kind"].as_str(), sent["code"].as_i64()),
        (Some("Status"), Some(410))
    );
    assert!(soon("the end", old.next()).await.is_none());
    // What the ring has is no matter of compaction.
    let now = store.revision().await;
    let mut kept = watch(&engine, None, from(now)).await;
    set(&engine, "default", "a", "5").await.unwrap();
    expect(&mut kept, &[("MODIFIED", "a")]).await;
    set(&engine, "default", "a", "6").await.unwrap();
    store.compact(now + 2).await;
    let mut ring = watch(&engine, None, from(now)).await;
    expect(&mut ring, &[("MODIFIED", "a"), ("MODIFIED", "a")]).await;
}

/// Somebody who does not read is cut off, somebody to whom nothing happens is not.
#[tokio::test]
async fn the_slow_are_cut_and_the_quiet_are_not() {
    let Some(store) = Store::start("the_slow_are_cut").await else {
        return;
    };
    let engine = store.engine(Settings {
        ring_events_max: 20,
        ..settings()
    });
    engine.bootstrap().await.unwrap();
    create(&engine, "default", configmap("busy", "x", "0")).await;
    create(&engine, "kube-system", configmap("quiet", "x", "0")).await;
    let start = store.revision().await;
    let mut slow = watch(&engine, Some("default"), from(start)).await;
    let mut quiet = watch(&engine, Some("kube-system"), from(start)).await;
    set(&engine, "default", "busy", "first").await.unwrap();
    expect(&mut slow, &[("MODIFIED", "busy")]).await;
    let listening = tokio::spawn(async move {
        expect(&mut quiet, &[("MODIFIED", "quiet")]).await;
    });
    for number in 0..60 {
        set(&engine, "default", "busy", &number.to_string())
            .await
            .unwrap();
    }
    set(&engine, "kube-system", "quiet", "1").await.unwrap();
    soon("the quiet one's event", listening).await.unwrap();
    let event = next(&mut slow).await;
    let EventKind::Error(status) = event.kind else {
        panic!("{event:?}")
    };
    assert_eq!(status.code, 410);
    assert!(soon("the end", slow.next()).await.is_none());
    // It may begin again where it was: the store still knows.
    let mut again = watch(&engine, Some("default"), from(start)).await;
    expect(&mut again, &[("MODIFIED", "busy"); 61]).await;
}

#[tokio::test]
async fn bookmarks_say_how_far_it_is() {
    let Some(store) = Store::start("bookmarks_say_how_far_it_is").await else {
        return;
    };
    let engine = store.ready().await;
    let start = store.revision().await;
    let options = WatchOptions {
        bookmarks: true,
        ..from(start)
    };
    let mut told_all = watch(&engine, Some("default"), options).await;
    let mut without = watch(&engine, Some("default"), from(start)).await;
    // Nothing of this is its business, and yet the revision goes on.
    let mut last = start;
    for number in 0..3 {
        let name = format!("c{number}");
        let made = create(&engine, "kube-system", configmap(&name, "x", "1")).await;
        let event = soon("a bookmark", async {
            loop {
                let event = told_all.next().await.unwrap();
                assert_eq!(event.kind, EventKind::Bookmark);
                assert!(event.revision > last);
                last = event.revision;
                if event.revision >= revision_of(&made) {
                    return event;
                }
            }
        })
        .await;
        let object = event.object.object().unwrap();
        assert_eq!(revision_of(&object), event.revision);
        assert_eq!(object["kind"], "ConfigMap");
    }
    // One that nobody waited for yet.
    create(&engine, "kube-system", configmap("last", "x", "1")).await;
    let end = soon("a bookmark at the end", async {
        loop {
            if let Some(event) = told_all.bookmark() {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert_eq!(end.await.revision, store.revision().await);
    create(&engine, "default", configmap("mine", "x", "1")).await;
    expect(&mut without, &[("ADDED", "mine")]).await;
}

/// The revision goes on where something else is written; a client that comes back finds out at once.
#[tokio::test]
async fn bookmarks_come_without_any_change() {
    let Some(store) = Store::start("bookmarks_come_without_any_change").await else {
        return;
    };
    let engine = store.ready().await;
    let start = store.revision().await;
    let options = |revision| WatchOptions {
        bookmarks: true,
        ..from(revision)
    };
    let mut first = watch(&engine, None, options(start)).await;
    let later = store.put("/elsewhere", b"x").await;
    // From the ring, from below the ring, and from the history of another engine.
    let other = store.engine(settings());
    let mut second = watch(&engine, None, options(start - 1)).await;
    let mut third = watch(&other, None, options(start)).await;
    for watch in [&mut first, &mut second, &mut third] {
        let event = next(watch).await;
        assert_eq!((event.kind, event.revision), (EventKind::Bookmark, later));
    }
}

/// The connection breaks and the store is another process: nothing is missed and nothing comes twice.
#[tokio::test]
async fn a_store_that_comes_back_is_watched_on() {
    let Some(mut store) = Store::start("a_store_that_comes_back").await else {
        return;
    };
    let engine = store.ready().await;
    create(&engine, "default", configmap("a", "x", "0")).await;
    let mut watch = watch(&engine, None, from(store.revision().await)).await;
    for round in 0..3 {
        set(&engine, "default", "a", &format!("{round} before"))
            .await
            .unwrap();
        store.restart().await;
        let other = store.engine(settings());
        set(&other, "default", "a", &format!("{round} after"))
            .await
            .unwrap();
        for when in ["before", "after"] {
            let event = next_change(&mut watch).await;
            let object = event.object.object().unwrap();
            assert_eq!(object["data"]["k"], format!("{round} {when}"));
        }
    }
}

/// What was missed while the connection was broken is compacted: whoever watched has to list again.
#[tokio::test]
async fn a_gap_in_the_history_is_told() {
    let Some(store) = Store::start("a_gap_in_the_history").await else {
        return;
    };
    let near = store.ready().await;
    let road = store.road().await;
    let far = engine_at(road.endpoint(), settings());
    create(&near, "default", configmap("a", "x", "0")).await;
    let mut broken = watch(&far, None, from(store.revision().await)).await;
    set(&near, "default", "a", "1").await.unwrap();
    expect(&mut broken, &[("MODIFIED", "a")]).await;
    // Broken, and nothing compacted.
    road.close();
    set(&near, "default", "a", "2").await.unwrap();
    road.open();
    expect(&mut broken, &[("MODIFIED", "a")]).await;

    road.close();
    for data in ["3", "4"] {
        set(&near, "default", "a", data).await.unwrap();
    }
    store.compact(store.revision().await).await;
    road.open();
    let event = next(&mut broken).await;
    let EventKind::Error(status) = event.kind else {
        panic!("{event:?}")
    };
    assert_eq!(status.code, 410);
    assert!(soon("the end", broken.next()).await.is_none());
    let mut fresh = watch(&far, None, from(store.revision().await)).await;
    set(&near, "default", "a", "5").await.unwrap();
    expect(&mut fresh, &[("MODIFIED", "a")]).await;
}

/// A call that is dropped half-way loses nothing.
#[tokio::test]
async fn waiting_may_be_given_up_at_any_time() {
    let Some(store) = Store::start("waiting_may_be_given_up").await else {
        return;
    };
    let engine = store.engine(Settings {
        list_page_keys: 2,
        ring_events_max: 4,
        ..settings()
    });
    engine.bootstrap().await.unwrap();
    for number in 0..9 {
        create(&engine, "default", configmap(&format!("c{number}"), "x", "1")).await;
    }
    let options = WatchOptions::default();
    let mut impatient = watch(&engine, Some("default"), options).await;
    let mut got = Vec::new();
    let mut changed = 0;
    let all = soon("all events", async {
        while got.len() < 30 {
            // Polled once, or a little longer.
            let wait = Duration::from_micros(got.len() as u64 * 50);
            if let Ok(event) = tokio::time::timeout(wait, impatient.next()).await {
                got.push(told(&event.unwrap()));
            }
            if got.len() >= 9 && changed < 21 {
                set(&engine, "default", "c4", &changed.to_string()).await.unwrap();
                changed += 1;
            }
            tokio::task::yield_now().await;
        }
    });
    all.await;
    assert!(got[..9].iter().all(|(kind, ..)| *kind == "ADDED"), "{got:?}");
    assert!(
        got[9..]
            .iter()
            .all(|(kind, name, _)| *kind == "MODIFIED" && name == "c4"),
        "{got:?}"
    );
    assert!(
        got[9..].windows(2).all(|pair| pair[0].2 + 1 == pair[1].2),
        "{got:?}"
    );
}

/// A store that stays away: watches end, new ones are refused, and when it is back all is as before.
#[tokio::test]
async fn a_store_that_stays_away_ends_watches() {
    let Some(mut store) = Store::start("a_store_that_stays_away").await else {
        return;
    };
    let engine = store.engine(Settings {
        lost_after: Duration::from_millis(300),
        ..settings()
    });
    engine.bootstrap().await.unwrap();
    let start = store.revision().await;
    let mut ends = watch(&engine, None, from(start)).await;
    set_or_create(&engine, "1").await;
    expect(&mut ends, &[("ADDED", "a")]).await;
    store.kill();
    assert!(soon("the end", ends.next()).await.is_none());
    let configmaps = resource("configmaps");
    let refused = engine.watch(configmaps, None, from(start)).await.err().unwrap();
    assert!(matches!(refused.code, 500 | 504), "{refused:?}");
    store.revive().await;
    let again = soon("a watch", async {
        loop {
            if let Ok(watch) = engine.watch(configmaps, None, from(start)).await {
                return watch;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut again = again.await;
    set_or_create(&engine, "2").await;
    expect(&mut again, &[("ADDED", "a"), ("MODIFIED", "a")]).await;
}

async fn set_or_create(engine: &Engine, data: &str) {
    let options = write();
    let put = engine.update(resource("configmaps"), "default", "a", None, &options, |_| {
        Ok(configmap("a", "x", data))
    });
    put.await.unwrap();
}

/// Of several members the one that answers is asked.
#[tokio::test]
async fn another_member_takes_over() {
    let Some(store) = Store::start("another_member_takes_over").await else {
        return;
    };
    store.ready().await;
    let roads = [store.road().await, store.road().await];
    let etcd = Etcd::connect(&[roads[0].endpoint(), roads[1].endpoint()]).unwrap();
    let engine = Engine::new(etcd, settings());
    let mut watch = watch(&engine, None, from(store.revision().await)).await;
    set_or_create(&engine, "0").await;
    expect(&mut watch, &[("ADDED", "a")]).await;
    for round in 1..5 {
        roads[round % 2].open();
        roads[1 - round % 2].close();
        // A write that may have been made is not repeated: whoever asked has to look.
        let written = soon("a write", async {
            while engine.get(resource("configmaps"), "default", "a").await.is_err() {}
            let options = write();
            let put = engine.update(resource("configmaps"), "default", "a", None, &options, |_| {
                Ok(configmap("a", "x", &round.to_string()))
            });
            put.await
        });
        written.await.unwrap();
        expect(&mut watch, &[("MODIFIED", "a")]).await;
    }
}

/// The history is compacted by one of several servers, real ones among them.
#[tokio::test]
async fn history_is_compacted_in_turns() {
    let Some(store) = Store::start("history_is_compacted_in_turns").await else {
        return;
    };
    let engine = store.ready().await;
    let start = store.revision().await;
    let every = Duration::from_millis(40);
    let servers = [store.engine(settings()), store.engine(settings())];
    let compacting = servers.map(|server| tokio::spawn(async move { server.keep_compacted(every).await }));
    let options = ListOptions {
        resource_version: Some(start.to_string()),
        version_match: Some("Exact".to_owned()),
        ..ListOptions::default()
    };
    soon("the compaction", async {
        let mut number = 0;
        while engine.list(resource("configmaps"), None, &options).await.is_ok() {
            set_or_create(&engine, &number.to_string()).await;
            number += 1;
        }
    })
    .await;
    for task in compacting {
        task.abort();
    }
    let turns = store.get("compact_rev_key").await.unwrap();
    let compacted: i64 = std::str::from_utf8(&turns.value).unwrap().parse().unwrap();
    assert!(
        turns.version >= 2 && compacted >= 0 && compacted < turns.mod_revision,
        "{turns:?}"
    );
}
