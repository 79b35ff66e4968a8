//! Where and how clients come in: endpoints with their scheme, unix sockets, listeners for HTTP or gRPC alone. Every
//! expectation holds for a real etcd too.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use crate::harness::frames::{self, Frames};
use crate::harness::*;
use prost::Message as _;

#[test]
fn etcdctl_names_endpoints_with_their_scheme() {
    let Some(etcdctl) = needs_etcdctl("etcdctl_names_endpoints_with_their_scheme") else {
        return;
    };
    let server = Server::start();
    // Commands that make etcdctl 3.4 send the whole URL where an authority belongs, and one that does not.
    for (arguments, printed) in [
        (&["endpoint", "status"][..], "3.7."),
        (&["endpoint", "hashkv"], "http://127.0.0.1:"),
        (&["defrag"], "Finished defragmenting"),
        (&["put", "scheme", "1"], "OK"),
    ] {
        let output = Command::new(&etcdctl)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &server.endpoint()])
            .args(arguments)
            .output()
            .expect("etcdctl can be run");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains(printed),
            "{arguments:?}: {output:?}"
        );
    }
}

#[tokio::test]
async fn every_authority_is_served() {
    let server = Server::shared();
    for authority in ["http://127.0.0.1:2379", "/tmp/etcd.sock", "localhost", "a b"] {
        let mut client = Frames::connect(server.client_address());
        let headers = frames::call_headers("/etcdserverpb.KV/Range", authority);
        let body = frames::call_body(&get("authority").encode_to_vec());
        for stream in [1, 3] {
            client.send(frames::HEADERS, frames::END_HEADERS, stream, &headers);
            client.send(frames::DATA, frames::END_STREAM, stream, &body);
            let answer = client
                .next_of(&[frames::DATA, frames::RST_STREAM, frames::GOAWAY])
                .expect("an answer");
            assert_eq!(
                (answer.kind, answer.stream),
                (frames::DATA, stream),
                "{authority}"
            );
        }
    }
}

/// A server that listens on its port and on a socket file as well.
fn with_socket(path: &Path) -> Server {
    let mut server = Server::prepared(&[]);
    let urls = format!("{},unix://{}", server.endpoint(), path.display());
    server.add_flag(&format!("--listen-client-urls={urls}"));
    server
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

async fn client_through(path: &Path) -> Client {
    let path = path.to_owned();
    let connect = move || tokio::net::UnixStream::connect(path.clone());
    Client::through(connect)
        .await
        .expect("the server accepts connections")
}

#[tokio::test]
async fn unix_sockets_carry_grpc_and_http() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("etcd.sock");
    // One that a process has left behind is in nobody's way.
    drop(UnixListener::bind(&path).unwrap());
    assert!(is_socket(&path));
    let mut server = with_socket(&path);
    server.run();
    assert!(is_socket(&path));
    let client = client_through(&path).await;
    client.put("unix", "1").await;
    assert_eq!(pairs(&client.range(get("unix")).await.kvs), ["unix=1"]);
    let mut http = UnixStream::connect(&path).unwrap();
    http.set_read_timeout(Some(PATIENCE)).unwrap();
    http.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let address = path.display().to_string();
    assert!(
        announces(&server.log(), "grpc+http", &address),
        "{}",
        server.log()
    );
    let (status, _) = server.terminate();
    assert!(status.success() || !runs_taffrail(), "{status}");
    assert!(!path.exists());
    // And after an end without warning, the next start takes it over.
    server.run();
    server.kill();
    assert!(is_socket(&path));
    server.run();
    client_through(&path).await.put("unix", "2").await;
}

#[test]
fn etcdctl_dials_unix_sockets() {
    let Some(etcdctl) = needs("etcdctl_dials_unix_sockets", "etcdctl") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    // What follows the scheme is the path: relative here, of a file with a port in its name.
    for (url, working_directory) in [
        (
            format!("unix://{}/absolute.sock", directory.path().display()),
            None,
        ),
        ("unix://localhost:23790".to_owned(), Some(directory.path())),
    ] {
        let mut server = Server::prepared(&[]);
        server.add_flag(&format!("--listen-client-urls={},{url}", server.endpoint()));
        server.add_flag(&format!("--advertise-client-urls={url}"));
        server.run_in(working_directory);
        for arguments in [&["put", "k", "v"][..], &["endpoint", "status"]] {
            let mut command = Command::new(&etcdctl);
            command
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", &url])
                .args(arguments);
            if let Some(directory) = working_directory {
                command.current_dir(directory);
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{url} {arguments:?}: {output:?}");
        }
    }
}

#[tokio::test]
async fn http_may_have_a_port_of_its_own() {
    let mut server = Server::prepared(&[]);
    let (ports, http) = (Ports::reserve(), server.client_address());
    let grpc = SocketAddr::from(([127, 0, 0, 1], ports.client));
    server.add_flag(&format!("--listen-client-urls=http://{grpc}"));
    server.add_flag(&format!("--listen-client-http-urls=http://{http}"));
    server.run();
    assert_eq!(http_get(http, "/version").expect("an answer").status, 200);
    assert!(http_get(grpc, "/version").is_none_or(|answer| answer.status != 200));
    let client = Client::connect(&format!("http://{grpc}")).await;
    client.put("split", "1").await;
    let other = Client::lazy(&server.endpoint());
    other.try_range(get("split")).await.expect_err("no gRPC there");
    for (traffic, address) in [("grpc", grpc), ("http", http)] {
        let announced = announces(&server.log(), traffic, &address.to_string());
        assert!(announced, "{traffic}: {}", server.log());
    }
}

/// Whether the log says that `traffic` is served in plaintext on `address`.
fn announces(log: &str, traffic: &str, address: &str) -> bool {
    log.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .any(|line| {
            line["msg"] == "serving client traffic insecurely; this is strongly discouraged!"
                && line["traffic"] == traffic
                && line["address"] == address
        })
}
