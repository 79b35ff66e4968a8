//! The process itself: flags and variables, exit codes, what it says when it cannot start, and how it stops.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::harness::*;
use tonic::Code;

/// Runs the program with these arguments only and waits for its end.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(dir.path())
        .stdin(Stdio::null());
    output_of(command)
}

/// Waits for the end of a process that must end by itself.
fn output_of(mut command: Command) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be run");
    let start = Instant::now();
    while child.try_wait().expect("the child can be waited for").is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().expect("the program can be killed");
            panic!("{command:?} did not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("the output can be read")
}

/// Demands an exit code and a word of its stderr.
#[track_caller]
fn assert_exit(output: &Output, code: i32, word: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(word), "{word:?} is not in: {stderr}");
}

#[test]
fn version_and_help() {
    let output = run(&["--version"], &[]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("etcd Version: 3.7.1\n"), "{text}");
    if runs_taffrail() {
        assert!(
            text.lines()
                .skip(1)
                .any(|line| line.to_lowercase().contains("taffrail")),
            "{text}"
        );
    }
    let output = run(&["--help"], &[]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn flags_that_do_not_parse_exit_2() {
    for arguments in [
        &["--no-such-flag"][..],
        &["--no-such-flag=1"],
        &["--heartbeat-interval=soon"],
        &["--election-timeout", "x"],
        &["--snapshot-count=-1"],
        &["--quota-backend-bytes=1.5"],
        &["--max-txn-ops=-1"],
        &["--name"],
        &["--listen-client-urls=127.0.0.1:1"],
        &["--listen-client-urls=http://127.0.0.1"],
        &["--listen-peer-urls=ftp://127.0.0.1:1"],
        &["--advertise-client-urls=somewhere"],
        &["--initial-cluster-state=old"],
    ] {
        let output = run(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let flag = arguments[0].trim_start_matches('-').split('=').next().unwrap();
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(said.contains(flag), "{arguments:?}: {said}");
    }
}

#[test]
fn bad_settings_exit_1_with_a_clear_line() {
    let url = "--listen-client-urls=http://127.0.0.1:1";
    for (argument, word) in [
        ("--election-timeout=400", "election-timeout"),
        ("--election-timeout=50001", "election-timeout"),
        ("--heartbeat-interval=0", "heartbeat-interval"),
        (
            url,
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--listen-peer-urls=http://example.com:1",
            "expected IP in URL for binding (http://example.com:1)",
        ),
        ("--initial-cluster=other=http://localhost:2380", "default"),
        ("--initial-cluster=default", "default"),
        ("--log-format=xml", "xml"),
        ("argument", "\"argument\" is not a valid flag"),
    ] {
        let output = run(&[argument], &[]);
        // etcd's log line has its quotation marks escaped.
        let output = Output {
            stderr: text(&output.stderr).replace("\\\"", "\"").into_bytes(),
            ..output
        };
        assert_exit(&output, 1, word);
    }
}

#[test]
fn flag_and_variable_of_one_setting_conflict() {
    let output = run(&["--name=a"], &[("ETCD_NAME", "b")]);
    let text = "conflicting environment variable is shadowed by corresponding command-line flag \
                (either unset environment variable or disable flag))";
    assert_exit(&output, 1, text);
}

#[tokio::test]
async fn configured_by_variables_alone() {
    let (ports, dir) = (Ports::reserve(), tempfile::tempdir().unwrap());
    let (client_url, peer_url) = (
        format!("http://127.0.0.1:{}", ports.client),
        format!("http://127.0.0.1:{}", ports.peer),
    );
    let mut child = Command::new(program())
        .current_dir(dir.path())
        .env("ETCD_NAME", "of-variables")
        .env("ETCD_DATA_DIR", dir.path().join("data"))
        .env("ETCD_LISTEN_CLIENT_URLS", &client_url)
        .env("ETCD_ADVERTISE_CLIENT_URLS", &client_url)
        .env("ETCD_LISTEN_PEER_URLS", &peer_url)
        .env("ETCD_INITIAL_ADVERTISE_PEER_URLS", &peer_url)
        .env("ETCD_INITIAL_CLUSTER", format!("of-variables={peer_url}"))
        .env("ETCD_NO_SUCH_SETTING", "is only warned about")
        .env("ETCD_LOG_LEVEL", "")
        .args(["-heartbeat-interval", "50", "--election-timeout=500"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], ports.client));
    wait_until("health", || {
        http_get(address, "/health").is_some_and(|answer| answer.status == 200)
    });
    let client = Client::connect(&client_url).await;
    let request = proto::etcdserverpb::MemberListRequest { linearizable: true };
    let members = client
        .cluster
        .clone()
        .member_list(request)
        .await
        .unwrap()
        .into_inner()
        .members;
    // The shortest life of a lease follows from the election timeout.
    let request = proto::etcdserverpb::LeaseGrantRequest { ttl: 1, id: 0 };
    let granted = client
        .lease
        .clone()
        .lease_grant(request)
        .await
        .unwrap()
        .into_inner()
        .ttl;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((members[0].name.as_str(), granted), ("of-variables", 1));
    assert!(dir.path().join("data/member").is_dir());
}

#[test]
fn port_taken() {
    for peer in [false, true] {
        let mut server = Server::start();
        server.kill();
        let port = if peer {
            server.ports().peer
        } else {
            server.ports().client
        };
        let holder = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let before = snapshot_of(&server.data_dir());
        server.spawn();
        let status = server.wait_for_exit();
        assert_eq!(status.code(), Some(1));
        let log = server.log().to_lowercase();
        assert!(
            log.contains(&port.to_string()) && log.contains("address already in use"),
            "{log}"
        );
        if runs_taffrail() {
            assert_eq!(snapshot_of(&server.data_dir()), before, "the data were touched");
        }
        drop(holder);
        server.run();
    }
}

/// Names and lengths of all files below a directory, but for the working copy: opening it may tidy it up.
fn snapshot_of(dir: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.ends_with("sled") {
            continue;
        }
        if path.is_dir() {
            found.extend(snapshot_of(&path));
        } else {
            found.push((path.display().to_string(), path.metadata().expect("a file").len()));
        }
    }
    found.sort();
    found
}

#[test]
fn directory_that_cannot_be_written() {
    let (ports, dir) = (Ports::reserve(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("file"), "not a directory").unwrap();
    let url = |port| format!("http://127.0.0.1:{port}");
    for place in [
        dir.path().join("file/data").display().to_string(),
        "/proc/no-such-place".to_owned(),
    ] {
        let output = run(
            &[
                &format!("--data-dir={place}"),
                "--listen-client-urls",
                &url(ports.client),
                "--advertise-client-urls",
                &url(ports.client),
                "--listen-peer-urls",
                &url(ports.peer),
            ],
            &[],
        );
        assert_exit(&output, 1, &place);
    }
}

#[tokio::test]
async fn directory_locked_by_another_process() {
    if !runs_taffrail() {
        return; // etcd waits for the lock
    }
    let server = Server::start();
    let client = server.client().await;
    client.put("a", "1").await;
    let ports = Ports::reserve();
    let url = |port| format!("http://127.0.0.1:{port}");
    let output = run(
        &[
            "--data-dir",
            &server.data_dir().display().to_string(),
            "--listen-client-urls",
            &url(ports.client),
            "--advertise-client-urls",
            &url(ports.client),
            "--listen-peer-urls",
            &url(ports.peer),
            "--initial-advertise-peer-urls",
            &url(server.ports().peer),
            "--initial-cluster",
            &format!("default={}", url(server.ports().peer)),
        ],
        &[],
    );
    assert_exit(&output, 1, &server.data_dir().display().to_string());
    assert_exit(&output, 1, "in use by another process");
    assert_eq!(client.put("a", "2").await, 3);
}

#[tokio::test]
async fn directory_of_another_member_or_cluster() {
    if !runs_taffrail() {
        return; // etcd goes by what the directory says
    }
    let mut server = Server::start();
    server.client().await.put("a", "1").await;
    server.terminate();
    let before = snapshot_of(&server.data_dir());
    // A name alone may change, as in etcd; the peer URLs, which the id was made from, tell another member.
    let others = Ports::reserve();
    let peer = format!("http://127.0.0.1:{}", others.peer);
    let other_member = vec![
        "--name=other".to_owned(),
        format!("--initial-cluster=other={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
    ];
    let other_token = vec!["--initial-cluster-token=other".to_owned()];
    for (flags, word) in [
        (other_member, "belongs to member"),
        (other_token, "belongs to cluster"),
    ] {
        let mut command = server.command();
        command.args(&flags);
        let output = output_of(command);
        assert_exit(&output, 1, word);
        assert_exit(&output, 1, &server.data_dir().display().to_string());
        assert_eq!(
            snapshot_of(&server.data_dir()),
            before,
            "{flags:?} touched the data"
        );
    }
    server.run();
    assert_eq!(server.client().await.put("a", "2").await, 3);
}

#[test]
fn directory_of_an_etcd() {
    if !runs_taffrail() {
        return; // it is at home there
    }
    let mut server = Server::start();
    server.kill();
    fs::remove_dir_all(server.data_dir()).unwrap();
    fs::create_dir_all(server.data_dir().join("member/snap")).unwrap();
    fs::create_dir_all(server.data_dir().join("member/wal")).unwrap();
    fs::write(server.data_dir().join("member/snap/db"), "a bbolt file").unwrap();
    fs::write(
        server
            .data_dir()
            .join("member/wal/0000000000000000-0000000000000000.wal"),
        "a log",
    )
    .unwrap();
    let before = snapshot_of(&server.data_dir());
    let output = output_of(server.command());
    assert_exit(&output, 1, "etcd");
    assert_eq!(snapshot_of(&server.data_dir()), before);
}

#[tokio::test]
async fn sigterm_tells_clients_and_ends_in_time() {
    let mut server = Server::start();
    let client = server.client().await;
    let (mut watch, _) = WatchStream::with(&client, watch_key("a")).await;
    client.put("a", "1").await;
    watch.next().await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(
            WatchStream::with(&server.client().await, watch_prefix("b"))
                .await
                .0,
        );
    }
    let start = Instant::now();
    server.signal_term();
    if !runs_taffrail() {
        // etcd keeps its streams for seven seconds and then breaks the connections without a word.
        assert_eq!(server.wait_for_exit().signal(), Some(15));
        return;
    }
    // A client is told in gRPC's words; a connection that just breaks would say Unknown.
    let told = loop {
        match watch
            .next_result()
            .await
            .expect("an error, not the end of the stream")
        {
            Ok(response) => assert!(response.events.is_empty(), "{response:?}"),
            Err(status) => break status,
        }
    };
    let status = server.wait_for_exit();
    let took = start.elapsed();
    assert!(
        matches!(told.code(), Code::Unavailable | Code::Cancelled),
        "{told:?}"
    );
    assert!(took < Duration::from_millis(1500), "stopped after {took:?}");
    assert!(status.success(), "{status}");
    server.run();
    assert_eq!(server.client().await.revision().await, 2);
}

#[tokio::test]
async fn ready_line_comes_when_it_can_serve() {
    let mut server = Server::start();
    server.client().await.put("a", "1").await;
    for round in 1..=5 {
        server.kill();
        server.spawn();
        let ready = || server.log().matches("ready to serve client requests").count() > round;
        wait_until("the line that tells readiness", ready);
        // At once, without a second try.
        let health = http_get(server.client_address(), "/health").expect("it accepts connections");
        assert_eq!(
            (health.status, health.body.as_str()),
            (200, r#"{"health":"true","reason":""}"#)
        );
        server.client().await.put("a", "2").await;
    }
}
