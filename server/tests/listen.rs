//! Where and how clients come in: endpoints with their scheme, listeners, TLS.

mod harness;

use std::process::Command;

use harness::frames::{self, Frames};
use harness::*;
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
