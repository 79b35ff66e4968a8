//! Corner cases 32 to 46 of the compatibility reference: Watch.

use std::time::{Duration, Instant};

use crate::harness::*;
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{LeaseGrantRequest, PutRequest, WatchCreateRequest};
use proto::mvccpb::KeyValue;

#[tokio::test]
async fn case_32_created_comes_first() {
    let server = Server::shared();
    let client = server.client().await;
    let first = client.put("c32", "1").await;
    let second = client.put("c32", "2").await;
    let current = client.put("c32", "3").await;
    for (start_revision, events) in [(0, 0), (first, 3), (second, 2)] {
        let request = WatchCreateRequest {
            start_revision,
            ..watch_key("c32")
        };
        let mut watch = WatchStream::open(&client);
        watch.send(RequestUnion::CreateRequest(request));
        let created = watch.next().await;
        assert!(
            created.created && !created.canceled && created.events.is_empty(),
            "{created:?}"
        );
        assert_eq!((created.watch_id, created.compact_revision), (0, 0));
        assert!(header_revision(&created.header) >= current);
        assert_eq!(watch.events(events).await.len(), events);
    }
}

#[tokio::test]
async fn case_33_watch_ids() {
    let server = Server::shared();
    let client = server.client().await;
    let (mut watch, created) = WatchStream::with(&client, watch_key("c33")).await;
    assert_eq!(created.watch_id, 0);
    assert_eq!(watch.create(watch_key("c33")).await.watch_id, 1);
    let with_id = |watch_id| WatchCreateRequest {
        watch_id,
        ..watch_key("c33")
    };
    assert_eq!(watch.create(with_id(3)).await.watch_id, 3);
    assert_eq!(watch.create(with_id(-5)).await.watch_id, -5);

    let refused = watch.create(with_id(3)).await;
    assert_eq!((refused.watch_id, refused.canceled), (-1, true));
    assert_eq!(
        refused.cancel_reason,
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
    // The counter goes on and steps over the id in use.
    assert_eq!(watch.create(watch_key("c33")).await.watch_id, 2);
    assert_eq!(watch.create(watch_key("c33")).await.watch_id, 4);
    // A cancelled id is free again.
    watch.cancel(3);
    let canceled = watch.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled), (3, true));
    assert_eq!(watch.create(with_id(3)).await.watch_id, 3);
}

#[tokio::test]
async fn case_34_two_watchers_of_one_key() {
    let server = Server::shared();
    let client = server.client().await;
    let (mut watch, _) = WatchStream::with(&client, watch_key("c34")).await;
    watch.create(watch_prefix("c34")).await;
    let revision = client.put("c34", "1").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let response = watch.next().await;
        assert_eq!(showed(&response.events), ["PUT c34=1"]);
        assert_eq!(header_revision(&response.header), revision);
        ids.push(response.watch_id);
    }
    ids.sort_unstable();
    assert_eq!(ids, [0, 1]);
}

#[tokio::test]
async fn case_35_start_below_and_at_the_compacted_revision() {
    let server = Server::start();
    let client = server.client().await;
    for value in ["1", "2", "3", "4"] {
        client.put("c35", value).await;
    }
    client.compact(4).await;
    let from = |start_revision| WatchCreateRequest {
        start_revision,
        ..watch_key("c35")
    };
    let (mut below, created) = WatchStream::with(&client, from(3)).await;
    assert_eq!(
        (created.watch_id, created.canceled, created.compact_revision),
        (0, false, 0)
    );
    assert_eq!(header_revision(&created.header), 5);
    let canceled = below.next().await;
    assert_eq!(
        (canceled.watch_id, canceled.canceled, canceled.created),
        (0, true, false)
    );
    assert_eq!(
        (canceled.compact_revision, canceled.cancel_reason.as_str()),
        (4, "")
    );
    assert_eq!(header_revision(&canceled.header), 0);
    // The stream is as good as before.
    below.create(watch_key("c35")).await;

    let (mut at, _) = WatchStream::with(&client, from(4)).await;
    assert_eq!(showed(&at.events(2).await), ["PUT c35=3", "PUT c35=4"]);
    client.put("c35", "5").await;
    assert_eq!(showed(&at.events(1).await), ["PUT c35=5"]);
    assert_eq!(showed(&below.events(1).await), ["PUT c35=5"]);
}

#[tokio::test]
async fn case_36_start_in_the_future() {
    let server = Server::start();
    let client = server.client().await;
    let request = WatchCreateRequest {
        start_revision: 4,
        ..watch_prefix("c36/")
    };
    let (mut watch, created) = WatchStream::with(&client, request).await;
    assert_eq!(header_revision(&created.header), 1);
    for key in ["c36/2", "c36/3", "c36/4", "c36/5"] {
        client.put(key, "v").await;
    }
    let events = watch.events(2).await;
    assert_eq!(showed(&events), ["PUT c36/4=v", "PUT c36/5=v"]);
}

#[tokio::test]
async fn case_37_progress_on_request() {
    let server = Server::start();
    let client = server.client().await;
    // Without a watcher: nothing, so the next response is the creation.
    let mut watch = WatchStream::open(&client);
    watch.request_progress();
    assert_eq!(watch.create(watch_key("c37")).await.watch_id, 0);

    let revision = client.put("elsewhere", "1").await;
    watch.request_progress();
    let progress = watch.next().await;
    assert_eq!(
        (progress.watch_id, header_revision(&progress.header)),
        (-1, revision)
    );
    assert!(
        progress.events.is_empty() && !progress.created && !progress.canceled,
        "{progress:?}"
    );

    // With a watcher that waits for the future: nothing, so the next response is its end.
    let future = WatchCreateRequest {
        start_revision: revision + 100,
        ..watch_key("c37")
    };
    assert_eq!(watch.create(future).await.watch_id, 1);
    watch.request_progress();
    watch.cancel(1);
    let canceled = watch.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled), (1, true));
    watch.request_progress();
    assert_eq!(watch.next().await.watch_id, -1);
}

#[tokio::test]
async fn case_38_no_event_behind_a_progress_response() {
    let server = Server::shared();
    let client = server.client().await;
    let (mut watch, created) = WatchStream::with(&client, watch_prefix("c38/")).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut last = 0;
                for i in 0..50 {
                    last = client.put(&format!("c38/{writer}"), &i.to_string()).await;
                }
                last
            })
        })
        .collect();

    let (mut seen, mut told, mut notified) = (0, header_revision(&created.header), 0);
    while seen < 400 {
        watch.request_progress();
        let response = watch.next().await;
        for event in &response.events {
            let revision = event.kv.as_ref().unwrap().mod_revision;
            assert!(
                revision > told,
                "event of revision {revision} after progress at {told}"
            );
            seen += 1;
        }
        if response.events.is_empty() {
            assert_eq!(response.watch_id, -1);
            assert!(header_revision(&response.header) >= told);
            told = header_revision(&response.header);
            notified += 1;
        }
    }
    let mut last = 0;
    for writer in writers {
        last = last.max(writer.await.unwrap());
    }
    // Requests are dropped while events are on their way, so one more is sent until one is answered in full.
    let start = Instant::now();
    while told < last {
        assert!(
            start.elapsed() < PATIENCE,
            "no progress to {last} after {notified} notifications"
        );
        watch.request_progress();
        if let Ok(response) = tokio::time::timeout(Duration::from_millis(100), watch.next()).await {
            assert!(response.events.is_empty(), "{response:?}");
            told = header_revision(&response.header);
        }
    }
}

#[tokio::test]
async fn case_39_prev_kv() {
    let server = Server::start();
    let client = server.client().await;
    let request = WatchCreateRequest {
        prev_kv: true,
        ..watch_key("c39")
    };
    let (mut watch, _) = WatchStream::with(&client, request.clone()).await;
    client.put("c39", "1").await;
    client.put("c39", "2").await;
    let deleted = client.delete("c39").await;
    let events = watch.events(3).await;
    assert_eq!(showed(&events), ["PUT c39=1", "PUT c39=2", "DELETE c39"]);
    assert_eq!(events[0].prev_kv, None);
    assert_eq!(pairs(&[events[1].prev_kv.clone().unwrap()]), ["c39=1"]);
    let last = events[2].prev_kv.clone().unwrap();
    assert_eq!(
        (pairs(std::slice::from_ref(&last)), revisions(&last)),
        (vec!["c39=2".to_owned()], (2, 3, 2))
    );

    // Compaction takes what the deletion refers to.
    client.compact(deleted).await;
    client.put("other", "1").await;
    let late = WatchCreateRequest {
        start_revision: deleted,
        ..request
    };
    let (mut watch, _) = WatchStream::with(&client, late).await;
    let events = watch.events(1).await;
    assert_eq!(showed(&events), ["DELETE c39"]);
    assert_eq!(events[0].prev_kv, None);
}

#[tokio::test]
async fn case_40_kv_of_a_delete_event() {
    let server = Server::shared();
    let client = server.client().await;
    let lease = client.grant(600).await;
    client
        .put_with(PutRequest {
            lease,
            ..put("c40", "1")
        })
        .await;
    let (mut watch, _) = WatchStream::with(&client, watch_key("c40")).await;
    let mod_revision = client.delete("c40").await;
    let event = watch.events(1).await.remove(0);
    assert_eq!(
        event.kv,
        Some(KeyValue {
            key: bytes("c40"),
            mod_revision,
            ..Default::default()
        })
    );
    assert_eq!(event.prev_kv, None);
    client.revoke(lease).await.unwrap();
}

#[tokio::test]
async fn case_41_no_put_with_prev_kv() {
    let server = Server::shared();
    let client = server.client().await;
    let request = WatchCreateRequest {
        prev_kv: true,
        filters: vec![FilterType::Noput as i32],
        ..watch_prefix("c41/")
    };
    let (mut watch, _) = WatchStream::with(&client, request).await;
    for round in ["1", "2"] {
        client.put("c41/a", round).await;
        client.delete("c41/a").await;
    }
    for round in ["1", "2"] {
        let response = watch.next().await;
        assert_eq!(showed(&response.events), ["DELETE c41/a"]);
        assert_eq!(
            pairs(&[response.events[0].prev_kv.clone().unwrap()]),
            [format!("c41/a={round}")]
        );
    }
}

#[tokio::test]
async fn case_42_cancel() {
    let server = Server::shared();
    let client = server.client().await;
    let (mut watch, _) = WatchStream::with(&client, watch_key("c42")).await;
    watch.create(watch_prefix("c42")).await;
    watch.cancel(99);
    watch.cancel(0);
    let canceled = watch.next().await;
    assert_eq!(
        (canceled.watch_id, canceled.canceled, canceled.created),
        (0, true, false)
    );
    assert_eq!(
        (canceled.cancel_reason.as_str(), canceled.compact_revision),
        ("", 0)
    );
    // Only the other watcher still speaks.
    for value in ["1", "2"] {
        client.put("c42", value).await;
        let response = watch.next().await;
        assert_eq!(
            (response.watch_id, showed(&response.events)),
            (1, vec![format!("PUT c42={value}")])
        );
    }
}

#[tokio::test]
async fn case_43_large_catch_up_whole_and_in_fragments() {
    let server = Server::start();
    let client = server.client().await;
    let value = "x".repeat(1 << 20);
    for key in ["c43/a", "c43/b", "c43/c"] {
        client.put(key, &value).await;
    }
    let request = WatchCreateRequest {
        start_revision: 2,
        ..watch_prefix("c43/")
    };
    let (mut whole, _) = WatchStream::with(&client, request.clone()).await;
    let response = whole.next().await;
    assert_eq!((response.events.len(), response.fragment), (3, false));

    let (mut cut, _) = WatchStream::with(
        &client,
        WatchCreateRequest {
            fragment: true,
            ..request
        },
    )
    .await;
    let mut fragments = Vec::new();
    let mut events = Vec::new();
    while events.len() < 3 {
        let response = cut.next().await;
        assert!(!response.events.is_empty());
        fragments.push(response.fragment);
        events.extend(response.events);
    }
    assert_eq!(keys_of(&events), ["c43/a", "c43/b", "c43/c"]);
    assert!(fragments.len() > 1, "the response came in one piece");
    let (last, others) = fragments.split_last().unwrap();
    assert!(!last && others.iter().all(|fragment| *fragment), "{fragments:?}");
}

#[tokio::test]
async fn case_44_half_closed_stream() {
    let server = Server::shared();
    let client = server.client().await;
    let (mut watch, _) = WatchStream::with(&client, watch_key("c44")).await;
    watch.half_close();
    for i in 0..20 {
        client.put("c44", &i.to_string()).await;
        assert_eq!(showed(&watch.next().await.events), [format!("PUT c44={i}")]);
    }
}

#[tokio::test]
async fn case_45_txn_is_never_split() {
    let server = Server::start();
    let client = server.client().await;
    // More revisions than a catch-up response holds.
    const REVISIONS: usize = 1100;
    let writers: Vec<_> = (0..50)
        .map(|writer| {
            let client = client.clone();
            tokio::spawn(async move {
                for i in 0..REVISIONS / 50 {
                    let keys = (0..3).map(|key| op(put(&format!("c45/{writer}/{key}"), &i.to_string())));
                    client.txn(then(keys.collect())).await;
                }
            })
        })
        .collect();
    let request = WatchCreateRequest {
        start_revision: 2,
        ..watch_prefix("c45/")
    };
    let (mut live, _) = WatchStream::with(&client, request.clone()).await;
    assert_whole_revisions(&mut live, REVISIONS).await;
    for writer in writers {
        writer.await.unwrap();
    }
    let (mut late, _) = WatchStream::with(&client, request).await;
    assert_whole_revisions(&mut late, REVISIONS).await;
}

/// Reads `count` revisions of three keys each and demands that each is whole in one response, in order.
async fn assert_whole_revisions(watch: &mut WatchStream, count: usize) {
    let mut expected = 2;
    let mut seen = 0;
    while seen < count {
        let response = watch.next().await;
        for chunk in response.events.chunks(3) {
            let of: Vec<i64> = chunk
                .iter()
                .map(|event| event.kv.as_ref().expect("an event has a key").mod_revision)
                .collect();
            assert_eq!(of, [expected; 3], "a revision was split, repeated or left out");
            assert!(
                keys_of(chunk)
                    .iter()
                    .zip(0..)
                    .all(|(key, i)| key.ends_with(&format!("/{i}")))
            );
            expected += 1;
            seen += 1;
        }
    }
}

#[tokio::test]
async fn case_46_events_of_expired_leases() {
    let server = Server::shared();
    let client = server.client().await;
    let (mut watch, _) = WatchStream::with(&client, watch_prefix("c46/")).await;
    for (lease, keys) in [
        (4601, ["c46/1c", "c46/1a", "c46/1b"]),
        (4602, ["c46/2b", "c46/2c", "c46/2a"]),
    ] {
        let request = LeaseGrantRequest { ttl: 1, id: lease };
        client.lease.clone().lease_grant(request).await.unwrap();
        for key in keys {
            client
                .put_with(PutRequest {
                    lease,
                    ..put(key, "v")
                })
                .await;
        }
    }
    assert_eq!(watch.events(6).await.len(), 6);
    let mut ends = Vec::new();
    for _ in 0..2 {
        let response = watch.next().await;
        let revision = header_revision(&response.header);
        assert!(
            response
                .events
                .iter()
                .all(|event| event.kv.as_ref().unwrap().mod_revision == revision)
        );
        ends.push(showed(&response.events));
    }
    ends.sort();
    assert_eq!(ends[0], ["DELETE c46/1a", "DELETE c46/1b", "DELETE c46/1c"]);
    assert_eq!(ends[1], ["DELETE c46/2a", "DELETE c46/2b", "DELETE c46/2c"]);
}

#[tokio::test]
async fn refused_creations_leave_the_stream_alive() {
    let server = Server::start();
    let client = server.client().await;
    client.put("a", "1").await;
    let mut watch = WatchStream::open(&client);
    let reversed = WatchCreateRequest {
        range_end: bytes("a"),
        ..watch_key("b")
    };
    let same = WatchCreateRequest {
        range_end: bytes("b"),
        ..watch_key("b")
    };
    let negative = WatchCreateRequest {
        start_revision: -1,
        ..watch_key("b")
    };
    for (request, reason) in [
        (reversed, "mvcc: watcher range is empty"),
        (same, "mvcc: watcher range is empty"),
        (negative, "etcdserver: mvcc: required revision has been compacted"),
    ] {
        let refused = watch.create(request).await;
        assert_eq!(
            (refused.watch_id, refused.canceled, refused.compact_revision),
            (-1, true, 0)
        );
        assert_eq!(refused.cancel_reason, reason);
        assert_eq!(header_revision(&refused.header), 2);
    }
    // The empty key is the first key of all.
    let everything = WatchCreateRequest {
        range_end: ZERO,
        start_revision: 2,
        ..watch_key("")
    };
    assert_eq!(watch.create(everything).await.watch_id, 0);
    assert_eq!(showed(&watch.events(1).await), ["PUT a=1"]);
}

#[tokio::test]
async fn automatic_progress() {
    let server = Server::start_with(&["--watch-progress-notify-interval=200ms"]);
    let client = server.client().await;
    let request = WatchCreateRequest {
        progress_notify: true,
        ..watch_key("quiet")
    };
    let (mut watch, _) = WatchStream::with(&client, request).await;
    let revision = client.put("elsewhere", "1").await;
    let start = Instant::now();
    loop {
        let progress = watch.next().await;
        assert_eq!((progress.watch_id, progress.events.len()), (0, 0));
        if header_revision(&progress.header) == revision {
            return;
        }
        assert!(start.elapsed() < PATIENCE);
    }
}
