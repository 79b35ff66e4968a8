#![allow(clippy::unwrap_used, reason = "a test may panic")]
//! `taffrail gateway start`: a client that knows one address reaches whichever member works.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use crate::harness::*;

/// A gateway process, ended with the test.
struct Gateway {
    child: Child,
    address: String,
    log: std::path::PathBuf,
    _ports: Ports,
    _dir: tempfile::TempDir,
}

impl Gateway {
    fn start(endpoints: &[String]) -> Gateway {
        let (ports, dir) = (Ports::reserve(), tempfile::tempdir().unwrap());
        let address = format!("127.0.0.1:{}", ports.client);
        let log = dir.path().join("log");
        // As etcd's own tests write it: a flag before the subcommand.
        let child = Command::new(program())
            .args([
                "gateway",
                &format!("--endpoints={}", endpoints.join(",")),
                "start",
            ])
            .arg(format!("--listen-addr={address}"))
            .args(["--retry-delay", "100ms"])
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let gateway = Gateway {
            child,
            address,
            log,
            _ports: ports,
            _dir: dir,
        };
        gateway.wait_for("ready to proxy client requests", 1);
        gateway
    }

    fn wait_for(&self, line: &str, times: usize) {
        wait_until(line, || {
            let log = std::fs::read_to_string(&self.log).unwrap();
            log.matches(line).count() >= times
        });
    }

    async fn client(&self) -> Client {
        Client::connect(&format!("http://{}", self.address)).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_gateway_forwards_to_whichever_member_works() {
    let mut first = Server::start();
    let second = Server::start();
    let gateway = Gateway::start(&[first.endpoint(), second.endpoint()]);
    // Taking turns: the first two connections go to different members.
    let (one, two) = (gateway.client().await, gateway.client().await);
    one.put("who", "first").await;
    two.put("who", "second").await;
    assert_eq!(first.client().await.range(get("who")).await.kvs[0].value, "first");
    assert_eq!(
        second.client().await.range(get("who")).await.kvs[0].value,
        "second"
    );

    first.kill();
    drop((one, two));
    for _ in 0..4 {
        let client = gateway.client().await;
        assert_eq!(client.range(get("who")).await.kvs[0].value, "second");
    }
    gateway.wait_for("deactivated endpoint", 1);

    first.run();
    gateway.wait_for("\"activated\"", 1);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let client = gateway.client().await;
        seen.insert(client.range(get("who")).await.kvs[0].value.clone());
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}
