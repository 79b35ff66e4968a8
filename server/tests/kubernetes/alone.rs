//! `taffrail apiserver`, the adapter as a process of its own: over one member and over several, through TLS, beside a
//! store that is not there yet, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;
use std::time::{Duration, Instant};

use proto::authpb::permission::Type;

use crate::asking::{Asker, MAPS, Watching, config_map};
use crate::harness::tls::{Authority, Hello};
use crate::harness::*;

#[tokio::test]
async fn it_waits_for_its_store() {
    let mut store = Server::prepared(&[]);
    let mut adapter = Adapter::prepared(&[store.endpoint()], &["--etcd-prefix=ships/"]);
    adapter.spawn();
    wait_until("it tells that it waits", || {
        adapter.log().contains("are not there yet") && !adapter.log().contains("serving the Kubernetes API")
    });
    store.run();
    wait_until("it serves", || {
        adapter.log().contains("serving the Kubernetes API")
    });
    let asker = Asker::at(&adapter.url());
    assert_eq!(asker.get("/readyz").await.text(), "ok");
    asker.post(MAPS, &config_map("a", "1")).await.expect(201);
    // As a real server reads the prefix.
    let stored = store
        .client()
        .await
        .range(get("/ships/configmaps/default/a"))
        .await;
    assert_eq!(stored.count, 1);
    let (status, _) = adapter.terminate();
    assert!(status.success(), "{status}");
}

/// What the store could not do is known within seconds, and what it did is told once.
#[tokio::test]
async fn a_member_that_is_killed_is_left() {
    let mut cluster = Cluster::start(3).await;
    let endpoints: Vec<String> = cluster
        .members()
        .map(|member| cluster.server(member).endpoint())
        .collect();
    let adapter = Adapter::over(&endpoints);
    let asker = Asker::at(&adapter.url());
    let watches: Vec<Watching> = ["", "&allowWatchBookmarks=true&labelSelector=!none"]
        .iter()
        .map(|more| Watching::open(adapter.address(), &format!("{MAPS}?watch=true{more}")))
        .collect();
    for number in 0..30 {
        match number {
            10 => cluster.kill(0),
            20 => {
                cluster.run(0);
                cluster.kill(1);
            }
            _ => {}
        }
        let name = format!("a{number}");
        let began = Instant::now();
        make(&asker, &name).await;
        until_answered(&asker, &format!("{MAPS}/{name}")).await;
        assert!(began.elapsed() < FAILOVER_MAX, "{name}: {:?}", began.elapsed());
    }
    for watch in &watches {
        for number in 0..30 {
            assert_eq!(watch.next_change(), Some(format!("ADDED a{number}")));
        }
    }
    let list = asker.get(MAPS).await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(30));
}

/// Makes an object, again and again where it is not known whether it was made.
async fn make(asker: &Asker, name: &str) {
    let began = Instant::now();
    let mut doubt = false;
    loop {
        let answer = asker.post(MAPS, &config_map(name, "1")).await;
        match answer.code {
            201 => return,
            409 if doubt => return,
            500 | 504 => doubt = true,
            _ => panic!("{}", answer.text()),
        }
        assert!(began.elapsed() < PATIENCE, "{}", answer.text());
        tokio::time::sleep(PAUSE).await;
    }
}

async fn until_answered(asker: &Asker, path: &str) {
    let began = Instant::now();
    loop {
        let answer = asker.get(path).await;
        if answer.code == 200 {
            return;
        }
        assert!(matches!(answer.code, 500 | 504), "{}", answer.text());
        assert!(began.elapsed() < PATIENCE, "{}", answer.text());
        tokio::time::sleep(PAUSE).await;
    }
}

/// Of a store that knows users by certificates it is what its certificate says, and says so where that is not enough.
#[tokio::test]
async fn it_is_a_user_of_its_store_by_its_certificate() {
    let own = |authority: &Authority| authority.issue("server", 1, HOSTS);
    let mut secured = Secured::prepared(own, &["--client-cert-auth", CHEAP_HASHES]);
    secured.server.run();
    let client = secured.server.client().await;
    client
        .add_user_with("adapter", Type::Readwrite, "/registry/")
        .await;
    client.add_user("stranger").await;
    client.enable_auth().await;
    let store = [format!("https://{}", secured.address())];
    let ca = format!("--etcd-cafile={}", secured.authority.ca_file().display());
    let shown = |user: &str, serial: u64| {
        let pair = secured.authority.issue_to(user, serial, &[]);
        [
            format!("--etcd-certfile={}", pair.cert_file.display()),
            format!("--etcd-keyfile={}", pair.key_file.display()),
        ]
    };

    let [cert, key] = shown("adapter", 2);
    let mut adapter = Adapter::prepared(&store, &[&ca, &cert, &key]);
    adapter.run();
    let asker = Asker::at(&adapter.url());
    let watch = Watching::open(adapter.address(), &format!("{MAPS}?watch=true"));
    asker.post(MAPS, &config_map("a", "1")).await.expect(201);
    asker.get(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(watch.next_change().as_deref(), Some("ADDED a"));
    drop(watch);

    let [cert, key] = shown("stranger", 3);
    let plain = [secured.server.endpoint()];
    let untrusted = Authority::named("nobody");
    let other_ca = format!("--etcd-cafile={}", untrusted.ca_file().display());
    for (store, flags, told) in [
        // A user that may do nothing, none at all, one without a certificate, and a store that is not believed.
        (&store, vec![&ca, &cert, &key], "etcdserver: permission denied"),
        (&plain, vec![], "etcdserver: user name is empty"),
        (&store, vec![&ca], "transport error"),
        (&store, vec![&other_ca, &cert, &key], "certificate"),
    ] {
        let flags: Vec<&str> = flags.into_iter().map(String::as_str).collect();
        let mut adapter = Adapter::prepared(store, &flags);
        adapter.spawn();
        wait_until(told, || {
            let log = adapter.log();
            let line = log.lines().find(|line| line.contains("are not there yet"));
            line.is_some_and(|line| line.contains(told))
        });
        assert!(!adapter.log().contains("serving the Kubernetes API"));
        let (status, _) = adapter.terminate();
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn its_own_port_speaks_tls() {
    let store = Server::start();
    let authority = Authority::new();
    let pair = authority.issue("adapter", 1, HOSTS);
    let (cert, key) = (
        format!("--tls-cert-file={}", pair.cert_file.display()),
        format!("--tls-private-key-file={}", pair.key_file.display()),
    );
    let mut adapter = Adapter::prepared(&[store.endpoint()], &[&cert, &key]);
    adapter.add_flag(&format!("--listen=https://{}", adapter.address()));
    adapter.run();
    let address = adapter.address();
    let trusting = Hello::offering(&["h2", "http/1.1"]).trusting(&[&authority]);
    let stream = trusting.connect(address).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let other = Authority::named("other");
    assert!(
        Hello::default()
            .trusting(&[&other])
            .connect(address)
            .await
            .is_err()
    );
    let plain = Hello::default().trusting(&[&authority]);
    let answer = plain.get(address, "/readyz").await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"),
        "{answer}"
    );
    // A new certificate is taken without a restart.
    let renewed = authority.issue("adapter", 2, HOSTS);
    let began = Instant::now();
    while plain.shown(address).await.unwrap() != renewed.cert {
        assert!(began.elapsed() < PATIENCE, "the old certificate is shown still");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whoever watches gets all there is, perhaps a bookmark, and a proper end: so of both processes.
#[tokio::test]
async fn watches_end_when_it_stops() {
    let mut kubernetes = Kubernetes::start().await;
    let mut adapter = Adapter::over(&[kubernetes.server.endpoint()]);
    let open = |address| {
        let path = |more: &str| format!("{MAPS}?watch=true&resourceVersion=1{more}");
        [
            Watching::open(address, &path("")),
            Watching::open(address, &path("&allowWatchBookmarks=true")),
            Watching::open(address, &format!("{MAPS}?watch=true")),
        ]
    };
    let (apart, within) = (open(adapter.address()), open(kubernetes.address()));
    make(&Asker::at(&adapter.url()), "a").await;
    for watch in apart.iter().chain(&within) {
        assert_eq!(watch.next_change().as_deref(), Some("ADDED a"));
    }
    let (status, took) = adapter.terminate();
    assert!(status.success() && took < STOP_MAX, "{status} after {took:?}");
    apart.iter().for_each(assert_at_its_end);
    make(&Asker::at(&kubernetes.url()), "b").await;
    for watch in &within {
        assert_eq!(watch.next_change().as_deref(), Some("ADDED b"));
    }
    let (status, took) = kubernetes.server.terminate();
    assert!(status.success() && took < STOP_MAX, "{status} after {took:?}");
    within.iter().for_each(assert_at_its_end);
}

/// Nothing is left but perhaps a bookmark.
fn assert_at_its_end(watch: &Watching) {
    let mut last = watch.next();
    if last.as_ref().is_some_and(|event| event["type"] == "BOOKMARK") {
        last = watch.next();
    }
    assert_eq!(last, None);
}

#[test]
fn odd_flags_are_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("--listen=http://{}", taken.local_addr().unwrap());
    for (flags, told) in [
        (vec!["--etcd-server=http://127.0.0.1:2379"], "--etcd-server"),
        (
            vec!["--etcd-servers=127.0.0.1:2379"],
            "--etcd-servers: \\\"127.0.0.1:2379\\\": URLs like",
        ),
        (
            vec!["--etcd-servers=http://127.0.0.1:1,"],
            "--etcd-servers: \\\"\\\": URLs like",
        ),
        (
            vec!["--etcd-servers=ftp://127.0.0.1:1"],
            "--etcd-servers: \\\"ftp://127.0.0.1:1\\\": URLs like",
        ),
        (vec!["--etcd-servers=http://a b"], "--etcd-servers: http://a b: "),
        (vec!["--listen=127.0.0.1:6443"], "--listen: "),
        (vec!["--listen=http://127.0.0.1:x"], "--listen: "),
        (
            vec!["--listen=https://127.0.0.1:0"],
            "KeyFile and CertFile must both be present",
        ),
        (
            vec![
                "--listen=https://127.0.0.1:0",
                "--tls-cert-file=/nowhere",
                "--tls-private-key-file=/nowhere",
            ],
            "open /nowhere: no such file or directory",
        ),
        (
            vec!["--etcd-servers=https://127.0.0.1:1", "--etcd-cafile=/nowhere"],
            "open /nowhere: no such file or directory",
        ),
        (
            vec!["--etcd-compaction-interval=soon"],
            "--etcd-compaction-interval: a duration like 5m is expected",
        ),
        (vec![taken.as_str()], "cannot listen on http://127.0.0.1:"),
        (vec!["more"], "more"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taffrail"));
        command.arg("apiserver").args(&flags);
        // What is given twice is refused: only those that say nothing of it get a port of their own.
        if !flags.iter().any(|flag| flag.starts_with("--listen")) {
            command.arg("--listen=http://127.0.0.1:0");
        }
        let ended = command.output().unwrap();
        let errors = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{flags:?}: {errors}");
        assert!(errors.contains(told), "{flags:?}: {errors}");
    }
    let mut help = Command::new(env!("CARGO_BIN_EXE_taffrail"));
    let help = help.args(["apiserver", "--help"]).output().unwrap();
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--etcd-servers"));
}

/// Where the servers are.
const HOSTS: &[&str] = &["localhost", "127.0.0.1"];
/// An election, and a little more.
const FAILOVER_MAX: Duration = Duration::from_secs(10);
/// Well below the time after which connections are cut off.
const STOP_MAX: Duration = Duration::from_secs(3);
/// The step between two looks.
const PAUSE: Duration = Duration::from_millis(20);
