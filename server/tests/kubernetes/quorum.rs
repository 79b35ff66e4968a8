//! A store without quorum: what is asked of it is refused in bounded time, nothing is told that is not so, and all goes on
//! by itself once enough members are back.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use serde_json::json;

use crate::asking::{Answer, Asker, MAPS, Watching, config_map};
use crate::harness::*;

/// One adapter beside a member and one apart, both at the member that is left alone.
#[tokio::test]
async fn without_quorum_requests_are_refused_and_go_on_with_it() {
    let mut cluster = Cluster::start(3).await;
    let within = Ports::reserve();
    let within = format!("http://127.0.0.1:{}", within.client);
    cluster.kill(0);
    cluster
        .server_mut(0)
        .add_flag(&format!("--apiserver-listen={within}"));
    cluster.run(0);
    let adapter = Adapter::over(&[cluster.server(0).endpoint()]);
    wait_until("the member serves the Kubernetes API", || {
        cluster.server(0).log().contains("serving the Kubernetes API")
    });
    let askers = [Asker::at(&within), Asker::at(&adapter.url())];
    askers[0].post(MAPS, &config_map("a", "1")).await.expect(201);
    let watch = Watching::open(
        adapter.address(),
        &format!("{MAPS}?watch=true&allowWatchBookmarks=true"),
    );
    assert_eq!(watch.next_change().as_deref(), Some("ADDED a"));

    let others = [1, 2];
    others.iter().for_each(|other| cluster.server(*other).suspend());
    let began = Instant::now();
    // All at once: each of them takes as long as the store takes to give up.
    let asked = askers.iter().map(|asker| async move {
        let one = format!("{MAPS}/a");
        let (b, labels) = (config_map("b", "1"), json!({"metadata": {"labels": {"c": "d"}}}));
        let (changed, watched) = (config_map("a", "2"), format!("{MAPS}?watch=true"));
        tokio::join!(
            asker.get(&one),
            asker.get(MAPS),
            asker.get(&watched),
            asker.post(MAPS, &b),
            asker.put(&one, &changed),
            asker.merge(&one, &labels),
            asker.delete(&one),
            asker.delete(MAPS),
            // Any state will do, and that of the member that is left is one.
            asker.get("/api/v1/namespaces/default/configmaps?resourceVersion=0"),
            asker.get("/readyz"),
        )
    });
    for answers in futures_util::future::join_all(asked).await {
        let (get, list, watched, post, put, merge, delete, collection, any, ready) = answers;
        for (what, answer) in [
            ("get", get),
            ("list", list),
            ("watch", watched),
            ("post", post),
            ("put", put),
            ("merge", merge),
            ("delete", delete),
            ("collection", collection),
        ] {
            assert_no_quorum(what, &answer);
        }
        let any = any.expect(200);
        assert_eq!(any["items"][0]["metadata"]["name"], "a");
        assert_eq!((ready.code, ready.text().contains("etcd failed")), (500, true));
    }
    assert!(began.elapsed() < REFUSED_MAX, "{:?}", began.elapsed());

    others.iter().for_each(|other| cluster.server(*other).resume());
    let began = Instant::now();
    for (asker, name) in askers.iter().zip(["c", "d"]) {
        loop {
            let answer = asker.post(MAPS, &config_map(name, "1")).await;
            match answer.code {
                201 | 409 => break,
                _ => assert_no_quorum("again", &answer),
            }
            assert!(began.elapsed() < PATIENCE, "{}", answer.text());
        }
    }
    // What was refused was done as a whole later or not at all, and the watch that stayed open tells all of it.
    let list = askers[0].get(MAPS).await.expect(200);
    let mut seen = vec![String::from("a")];
    while seen.last().is_none_or(|name| name != "d") {
        let told = watch.next_change().expect("the watch goes on");
        let (kind, name) = told.split_once(' ').unwrap();
        match kind {
            "ADDED" => seen.push(name.to_owned()),
            "DELETED" => seen.retain(|known| known != name),
            "MODIFIED" => assert!(seen.iter().any(|known| known == name), "{told}"),
            other => panic!("{other}"),
        }
    }
    seen.sort();
    let names: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    assert_eq!(seen, names);
    assert_eq!(askers[1].get("/readyz").await.code, 200);
}

/// As a real server answers when etcd cannot: 504 when it took too long, 500 when it was told so.
fn assert_no_quorum(what: &str, answer: &Answer) {
    let text = answer.text();
    let told = match answer.code {
        504 => {
            answer.reason() == "Timeout"
                && answer
                    .message()
                    .starts_with("Timeout: request did not complete within requested timeout - ")
        }
        500 => answer.reason() == "InternalError" && answer.message().starts_with("etcdserver: "),
        _ => false,
    };
    assert!(told, "{what}: {} {text}", answer.code);
}

/// The store gives up after 7 seconds; an update reads before it writes, but only one of them waits.
const REFUSED_MAX: Duration = Duration::from_secs(15);
