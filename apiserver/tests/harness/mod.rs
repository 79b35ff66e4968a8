//! What the tests of the engine share: a store that runs as a process of its own on free loopback ports, and words for
//! objects.
//!
//! `TAFFRAIL_TEST_SERVER` names the program, else it is the `taffrail` that was built beside the tests. The tests must
//! pass on a real etcd just as well. Nothing sleeps to let something happen: every wait is for a condition and ends in a
//! panic after [`PATIENCE`].
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    clippy::unwrap_used,
    reason = "each test binary uses its own part of the harness, and a test that cannot go on fails"
)]

#[path = "../../../server/tests/harness/ports.rs"]
mod ports;
mod road;

use std::future::Future;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use apiserver::engine::{
    DeleteOptions, Deleted, Engine, Event, EventKind, Item, ListOptions, Settings, Updated, Watch,
    WatchOptions, WriteOptions,
};
use apiserver::etcd::Etcd;
use apiserver::object::{Object, meta};
use apiserver::resources::{Resource, find};
use apiserver::select::{Fields, Labels};
use apiserver::status::Status;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::{CompactionRequest, LeaseRevokeRequest, PutRequest, RangeRequest};
use proto::mvccpb::KeyValue;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use self::ports::Ports;
pub(crate) use self::road::Road;

/// The longest that any single wait may last. It only turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A store. Dropping it kills the process and removes its directory.
pub(crate) struct Store {
    child: Option<Child>,
    ports: Ports,
    dir: TempDir,
}

impl Store {
    /// A fresh store; nothing, after a visible line, where there is no program to run.
    pub(crate) async fn start(test: &str) -> Option<Store> {
        let program = program(test)?;
        let mut store = Store {
            child: None,
            ports: Ports::reserve(),
            dir: tempfile::Builder::new()
                .prefix("taffrail-test-")
                .tempdir()
                .unwrap(),
        };
        store.run(&program).await;
        Some(store)
    }

    /// Kills it as `kill -9` does and starts it again on the same data.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let program = program("restart").unwrap();
        self.run(&program).await;
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again.
    pub(crate) async fn revive(&mut self) {
        let program = program("revive").unwrap();
        self.run(&program).await;
    }

    async fn run(&mut self, program: &PathBuf) {
        let client = self.endpoint();
        let peer = format!("http://127.0.0.1:{}", self.ports.peer);
        let log = self.dir.path().join("log");
        let log_file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = Command::new(program)
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let start = Instant::now();
        loop {
            let request = RangeRequest {
                key: "x".into(),
                ..RangeRequest::default()
            };
            if self.kv().range(request).await.is_ok() {
                return;
            }
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!(
                    "the store ended with {status}: {}",
                    std::fs::read_to_string(&log).unwrap()
                );
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{}",
                std::fs::read_to_string(&log).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.client)
    }

    /// An engine with a connection of its own.
    pub(crate) fn engine(&self, settings: Settings) -> Engine {
        engine_at(self.endpoint(), settings)
    }

    /// A way to it that can be closed.
    pub(crate) async fn road(&self) -> Road {
        Road::to(self.ports.client).await
    }

    /// An engine whose namespaces are there.
    pub(crate) async fn ready(&self) -> Engine {
        let engine = self.engine(settings());
        engine.bootstrap().await.unwrap();
        engine
    }

    /// The store without an engine before it.
    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(Endpoint::from_shared(self.endpoint()).unwrap().connect_lazy())
    }

    pub(crate) async fn get(&self, key: &str) -> Option<KeyValue> {
        let request = RangeRequest {
            key: key.to_owned().into(),
            ..RangeRequest::default()
        };
        let answer = self.kv().range(request).await.unwrap().into_inner();
        answer.kvs.into_iter().next()
    }

    pub(crate) async fn put(&self, key: &str, value: &[u8]) -> i64 {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        };
        let answer = self.kv().put(request).await.unwrap().into_inner();
        answer.header.unwrap().revision
    }

    pub(crate) async fn revision(&self) -> i64 {
        let request = RangeRequest {
            key: "x".into(),
            ..RangeRequest::default()
        };
        let answer = self.kv().range(request).await.unwrap().into_inner();
        answer.header.unwrap().revision
    }

    pub(crate) async fn revoke(&self, lease: i64) {
        let channel = Endpoint::from_shared(self.endpoint()).unwrap().connect_lazy();
        let request = LeaseRevokeRequest { id: lease };
        LeaseClient::new(channel).lease_revoke(request).await.unwrap();
    }

    pub(crate) async fn compact(&self, revision: i64) {
        assert!(self.try_compact(revision).await, "{revision} can be compacted");
    }

    /// Whether it was not compacted further already.
    pub(crate) async fn try_compact(&self, revision: i64) -> bool {
        let request = CompactionRequest {
            revision,
            physical: true,
        };
        self.kv().compact(request).await.is_ok()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn engine_at(endpoint: String, settings: Settings) -> Engine {
    Engine::new(Etcd::connect(&[endpoint]).unwrap(), settings)
}

fn program(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("TAFFRAIL_TEST_SERVER").map(PathBuf::from);
    let beside = || {
        let tests = std::env::current_exe().ok()?;
        let program = tests.parent()?.parent()?.join("taffrail");
        program.is_file().then_some(program)
    };
    let found = named.or_else(beside);
    if found.is_none() {
        let required = std::env::var_os("TAFFRAIL_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(
            !required,
            "{test} needs a store, and TAFFRAIL_REQUIRE_TOOLS=1 forbids to skip it"
        );
        // Not a print macro: the test runner would swallow the line of a test that passes.
        writeln!(
            std::io::stderr(),
            "SKIPPED: {test}: needs a store: cargo build -p server"
        )
        .expect("stderr is open");
    }
    found
}

/// Settings under which tests need not wait a minute.
pub(crate) fn settings() -> Settings {
    Settings {
        bookmark_interval: Duration::from_millis(300),
        progress_interval: Duration::from_millis(100),
        ..Settings::default()
    }
}

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}

pub(crate) fn resource(plural: &str) -> &'static Resource {
    [
        "",
        "apps",
        "events.k8s.io",
        "autoscaling",
        "batch",
        "coordination.k8s.io",
    ]
    .into_iter()
    .find_map(|group| find(group, "v1", plural))
    .unwrap()
}

pub(crate) fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other}"),
    }
}

/// A config map with one label and one entry.
pub(crate) fn configmap(name: &str, app: &str, data: &str) -> Object {
    object(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": app}},
        "data": {"k": data},
    }))
}

pub(crate) fn write() -> WriteOptions {
    WriteOptions {
        field_manager: "test".to_owned(),
        ..WriteOptions::default()
    }
}

pub(crate) fn labelled(selector: &str) -> ListOptions {
    ListOptions {
        labels: Labels::parse(selector).unwrap(),
        ..ListOptions::default()
    }
}

pub(crate) async fn create(engine: &Engine, namespace: &str, object: Object) -> Object {
    let configmaps = resource("configmaps");
    engine
        .create(configmaps, namespace, object, &write())
        .await
        .unwrap()
}

/// Sets what is stored under `k`.
pub(crate) async fn set(engine: &Engine, namespace: &str, name: &str, data: &str) -> Result<Updated, Status> {
    change(engine, namespace, name, |new| new["data"] = json!({ "k": data })).await
}

pub(crate) async fn change(
    engine: &Engine,
    namespace: &str,
    name: &str,
    change: impl Fn(&mut Value) + Send + Sync,
) -> Result<Updated, Status> {
    let configmaps = resource("configmaps");
    let options = write();
    let updated = engine.update(configmaps, namespace, name, None, &options, |old| {
        let old = old.ok_or_else(|| Status::not_found(configmaps, name))?;
        let mut new = Value::Object(old.clone());
        change(&mut new);
        Ok(object(new))
    });
    updated.await
}

pub(crate) async fn delete(engine: &Engine, namespace: &str, name: &str) -> Result<Deleted, Status> {
    let options = DeleteOptions::default();
    engine
        .delete(resource("configmaps"), namespace, name, &options, &write())
        .await
}

/// The kind of an event, the name of its object and its revision.
pub(crate) fn told(event: &Event) -> (&'static str, String, i64) {
    let object = event.object.object().unwrap();
    (
        event.kind.name(),
        meta(&object, "name").to_owned(),
        event.revision,
    )
}

pub(crate) async fn next(watch: &mut Watch) -> Event {
    soon("an event", watch.next()).await.expect("the watch goes on")
}

/// The next event that is no bookmark.
pub(crate) async fn next_change(watch: &mut Watch) -> Event {
    loop {
        let event = next(watch).await;
        if event.kind != EventKind::Bookmark {
            return event;
        }
    }
}

pub(crate) fn revision_of(object: &Object) -> i64 {
    meta(object, "resourceVersion").parse().unwrap()
}
