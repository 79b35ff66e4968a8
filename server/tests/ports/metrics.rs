//! The page of metrics as Prometheus, the mixin's alerts and its dashboards see it: names, types, labels, buckets and,
//! where a test can know them, values. All of it holds for etcd as well, which proves the expectations.

#![allow(clippy::unwrap_used, reason = "tests")]

mod names;
mod page;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::harness::*;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use proto::etcdserverpb::{AlarmRequest, AlarmType, DefragmentRequest, PutRequest};

use self::names::{ALWAYS, EXTENSIVE, Kind, MIXIN, NOT_AT_FIRST, Row, WITH_PEERS};
use self::page::Page;

#[tokio::test]
async fn one_member_shows_everything_that_etcd_shows() {
    let server = Server::start_with(&["--metrics=extensive"]);
    let before = scrape(&server);
    let absent = [NOT_AT_FIRST, &["etcd_debugging_server_alarms"]].concat();
    for name in absent.iter().chain(WITH_PEERS.iter().map(|row| &row.name)) {
        assert!(!before.types.contains_key(*name), "{name} of one member");
    }
    work(&server).await;
    let page = scrape(&server);
    for row in ALWAYS.iter().chain(EXTENSIVE) {
        check(&page, row);
    }
    check_counts(&page);
    check_zeros(&page);
}

#[tokio::test]
async fn three_members_show_each_other() {
    let mut cluster = Cluster::start_with(3, &["--metrics=extensive"]).await;
    let leader = cluster.leader().await;
    work(cluster.server(leader)).await;
    let lost = cluster.follower().await;
    let lost_id = format!("{:x}", cluster.id(lost));
    wait_until("the round trips are known", || {
        let page = scrape(cluster.server(leader));
        page.named("etcd_network_peer_round_trip_time_seconds_count")
            .count()
            == 2
    });
    cluster.kill(lost);
    let to_lost = [("To", lost_id.as_str())];
    let server = cluster.server(leader);
    wait_until("the loss is seen", || {
        let page = scrape(server);
        let remote = [("Remote", lost_id.as_str())];
        page.value("etcd_network_disconnected_peers_total", &remote) >= Some(1.0)
            && page.value("etcd_network_active_peers", &remote) == Some(0.0)
            && page.value("etcd_network_peer_sent_failures_total", &to_lost) >= Some(1.0)
    });
    let page = scrape(server);
    for row in ALWAYS.iter().chain(EXTENSIVE).chain(WITH_PEERS) {
        check(&page, row);
    }
    assert_eq!(page.value("etcd_server_is_leader", &[]), Some(1.0));
    assert_eq!(page.named("etcd_network_known_peers").count(), 3);
    // What was sent to a member that is lost stays on the page.
    assert!(page.value("etcd_network_peer_sent_bytes_total", &to_lost) > Some(0.0));
    for (name, labels) in MIXIN {
        let (found, _) = page.named(name).next().unwrap_or_else(|| panic!("no {name}"));
        for label in *labels {
            let has = found.iter().any(|(name, _)| name == label);
            assert!(has, "{name} without {label}");
        }
    }
}

#[tokio::test]
async fn every_member_counts_what_it_applies() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client(0);
    client.put("a", "1").await;
    client.put("b", "22").await;
    client.delete("a").await;
    for member in cluster.members() {
        wait_until("the member has applied it all", || {
            let page = scrape(cluster.server(member));
            page.value("etcd_mvcc_put_total", &[]) == Some(2.0)
                && page.value("etcd_mvcc_delete_total", &[]) == Some(1.0)
                && page.value("etcd_debugging_mvcc_total_put_size_in_bytes", &[]) == Some(5.0)
                && page.value("etcd_debugging_mvcc_current_revision", &[]) == Some(4.0)
                && applied(&page, "Put") == Some(2.0)
        });
    }
}

/// promtool reads the page, where it is installed.
#[test]
fn promtool_finds_nothing_wrong() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let promtool = std::env::split_paths(&path).map(|dir| dir.join("promtool"));
    let Some(promtool) = promtool.into_iter().find(|file| file.is_file()) else {
        return skip("promtool_finds_nothing_wrong", "promtool");
    };
    let server = Server::start();
    let page = http_get(server.client_address(), "/metrics").unwrap().body;
    // Only what is its own: etcd's names break promtool's rules of style.
    let mut child = Command::new(promtool)
        .args(["check", "metrics", "--lint=none"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(page.as_bytes()).unwrap();
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_page_has_the_type_that_prometheus_asks_for() {
    let server = Server::start();
    let answer = http_get(server.client_address(), "/metrics").unwrap();
    let head = answer.head.to_lowercase();
    let kind = "content-type: text/plain; version=0.0.4; charset=utf-8; escaping=underscores\r\n";
    assert!(answer.status == 200 && head.contains(kind), "{head}");
}

#[tokio::test]
async fn the_times_of_calls_are_kept_only_on_demand() {
    let server = Server::start();
    server.client().await.put("a", "1").await;
    let page = scrape(&server);
    assert!(!page.types.contains_key("grpc_server_handling_seconds"));
}

#[tokio::test]
async fn what_takes_long_is_told_in_etcds_words() {
    let flags = [
        "--warning-unary-request-duration=1ns",
        "--warning-apply-duration=1ns",
    ];
    let server = Server::start_with(&flags);
    let client = server.client().await;
    client.put("told", "value").await;
    client.range(get("told")).await;
    let line = |what: &[&str]| {
        wait_until("the line is there", || {
            let log = server.log();
            log.lines()
                .any(|line| what.iter().all(|part| line.contains(part)))
        });
    };
    let content = "key:\\\"told\\\" value_size:5";
    line(&[
        "\"level\":\"warn\"",
        "\"msg\":\"request stats\"",
        "\"response type\":\"/etcdserverpb.KV/Put\"",
        "\"request count\":1,",
        "\"request size\":13,",
        content,
    ]);
    line(&[
        "\"msg\":\"request stats\"",
        "\"response type\":\"/etcdserverpb.KV/Range\"",
        "\"response count\":1,",
    ]);
    let slow = "\"msg\":\"apply request took too long\"";
    line(&[slow, "\"expected-duration\":\"1ns\"", "\"prefix\":\"\"", content]);
    line(&[
        slow,
        "\"prefix\":\"read-only range \"",
        "key:\\\"told\\\"",
        "\"response\":\"range_response_count:1 size:",
    ]);
    assert!(scrape(&server).value("etcd_server_slow_apply_total", &[]) >= Some(2.0));
}

/// Each kind of request, and of what happens, once or a few times.
async fn work(server: &Server) {
    let client = server.client().await;
    client.put("a", "1").await;
    client.put("b", "2").await;
    let request = PutRequest {
        prev_kv: true,
        ..put("b", "3")
    };
    client.put_with(request).await;
    client.range(get("a")).await;
    let compared = vec![compare("a", CompareResult::Greater, TargetUnion::ModRevision(0))];
    client
        .txn(txn(compared, vec![op(put("c", "4")), op(get("a"))], vec![]))
        .await;
    client.txn(then(vec![op(get("a")), op(get("b"))])).await;
    client.delete("a").await;
    let mut stream = WatchStream::open(&client);
    stream.create(watch_key("b")).await;
    client.put("b", "5").await;
    stream.events(1).await;
    let lease = client.grant(1000).await;
    client.keep_alive(lease).await;
    client.revoke(lease).await.unwrap();
    let revision = client.revision().await;
    client.compact(revision - 1).await;
    client.hash_kv(0).await;
    alarm(&client, AlarmAction::Activate).await;
    alarm(&client, AlarmAction::Deactivate).await;
    let mut maintenance = client.maintenance.clone();
    maintenance.defragment(DefragmentRequest {}).await.unwrap();
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(http_get(server.client_address(), path).unwrap().status, 200);
    }
    wait_until("the compaction is done", || {
        let page = scrape(server);
        page.value("etcd_debugging_mvcc_db_compaction_last", &[]) > Some(0.0)
    });
}

async fn alarm(client: &Client, action: AlarmAction) {
    let request = AlarmRequest {
        action: action.into(),
        member_id: 7,
        alarm: AlarmType::Nospace.into(),
    };
    client.maintenance.clone().alarm(request).await.unwrap();
}

fn scrape(server: &Server) -> Page {
    let answer = http_get(server.client_address(), "/metrics").expect("a page");
    let head = answer.head.to_lowercase();
    match head.contains("transfer-encoding: chunked") {
        true => Page::read(&joined(&answer.body)),
        false => Page::read(&answer.body),
    }
}

/// A body in chunks, made whole.
fn joined(mut chunks: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.push_str(&rest[..size]);
        chunks = rest[size..].strip_prefix("\r\n").expect("a chunk's end");
    }
}

fn applied(page: &Page, op: &str) -> Option<f64> {
    let labels = [("op", op), ("success", "true"), ("version", "v3")];
    page.value("etcd_server_apply_duration_seconds_count", &labels)
}

fn check(page: &Page, row: &Row) {
    let kind = page.types.get(row.name);
    let kind = kind.unwrap_or_else(|| panic!("{} is missing", row.name));
    let (wanted, bounds) = match row.kind {
        Kind::Counter => ("counter", None),
        Kind::Gauge => ("gauge", None),
        Kind::Histogram(first, count) => {
            let bounds = (0..count).map(|at| first * 2f64.powi(i32::try_from(at).unwrap()));
            ("histogram", Some(bounds.collect()))
        }
        Kind::DefaultHistogram => {
            let bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
            ("histogram", Some(bounds.to_vec()))
        }
    };
    assert_eq!(kind, wanted, "{}", row.name);
    let labels: Vec<String> = row.labels.iter().map(|label| (*label).to_owned()).collect();
    assert_eq!(page.labels(row.name), BTreeSet::from([labels]), "{}", row.name);
    if let Some(mut bounds) = bounds {
        bounds.push(f64::INFINITY);
        assert_eq!(page.bounds(row.name), bounds, "{}", row.name);
    }
}

/// What [`work`] makes of a member that did nothing before.
fn check_counts(page: &Page) {
    let unary = |method, code| {
        let labels = [
            ("grpc_method", method),
            ("grpc_code", code),
            ("grpc_type", "unary"),
        ];
        page.value("grpc_server_handled_total", &labels)
    };
    assert_eq!(unary("Put", "OK"), Some(4.0));
    assert_eq!(unary("Txn", "OK"), Some(2.0));
    assert_eq!(unary("Compact", "OK"), Some(1.0));
    assert_eq!(applied(page, "Put"), Some(4.0));
    assert_eq!(applied(page, "Txn"), Some(1.0));
    assert_eq!(applied(page, "LeaseRevoke"), Some(1.0));
    assert_eq!(applied(page, "Alarm"), Some(2.0));
    let requests = |kind| {
        let labels = [("type", kind), ("success", "true")];
        page.value("etcd_server_request_duration_seconds_count", &labels)
    };
    assert_eq!(requests("Put"), Some(4.0));
    assert_eq!(requests("Txn"), Some(1.0));
    assert_eq!(requests("ReadonlyTxn"), Some(1.0));
    for (name, value) in [
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_is_leader", 1.0),
        ("etcd_server_is_learner", 0.0),
        ("etcd_server_proposals_pending", 0.0),
        ("etcd_server_quota_backend_bytes", 2_147_483_648.0),
        ("etcd_mvcc_put_total", 5.0),
        ("etcd_mvcc_delete_total", 1.0),
        ("etcd_debugging_mvcc_keys_total", 2.0),
        ("etcd_debugging_mvcc_current_revision", 7.0),
        ("etcd_debugging_mvcc_compact_revision", 6.0),
        ("etcd_debugging_mvcc_total_put_size_in_bytes", 10.0),
        ("etcd_debugging_mvcc_events_total", 1.0),
        ("etcd_debugging_lease_granted_total", 1.0),
        ("etcd_debugging_lease_revoked_total", 1.0),
        ("etcd_debugging_lease_renewed_total", 1.0),
        ("etcd_debugging_lease_ttl_total_sum", 1000.0),
        ("etcd_debugging_auth_revision", 1.0),
        (
            "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds_count",
            1.0,
        ),
        (
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds_count",
            1.0,
        ),
        ("etcd_mvcc_hash_rev_duration_seconds_count", 1.0),
        ("etcd_disk_backend_defrag_duration_seconds_count", 1.0),
        ("etcd_disk_defrag_inflight", 0.0),
    ] {
        assert_eq!(page.value(name, &[]), Some(value), "{name}");
    }
    // The harness may have asked as well.
    assert!(page.value("etcd_server_health_success", &[]) >= Some(1.0));
    let check = |name, probe| {
        let labels = [("name", name), ("type", probe)];
        page.value("etcd_server_healthcheck", &labels)
    };
    assert_eq!(check("serializable_read", "livez"), Some(1.0));
    assert_eq!(check("non_learner", "readyz"), Some(1.0));
    // An alarm that was disarmed.
    let alarm = [("server_id", "7"), ("alarm_type", "NOSPACE")];
    assert_eq!(page.value("etcd_debugging_server_alarms", &alarm), Some(0.0));
    let feature = [("name", "LeaseCheckpoint"), ("stage", "ALPHA")];
    assert_eq!(page.value("etcd_server_feature_enabled", &feature), Some(0.0));
    let client = [("client_api_version", "unknown"), ("type", "stream")];
    assert_eq!(
        page.value("etcd_server_client_requests_total", &client),
        Some(2.0)
    );
}

/// Series that are there before their first call, so that a rate over them has a beginning.
fn check_zeros(page: &Page) {
    let services: BTreeSet<&str> = page
        .named("grpc_server_started_total")
        .filter_map(|(labels, _)| labels.iter().find(|(name, _)| name == "grpc_service"))
        .map(|(_, service)| service.as_str())
        .collect();
    let wanted = ["Auth", "Cluster", "KV", "Lease", "Maintenance", "Watch"];
    let wanted = wanted.map(|service| format!("etcdserverpb.{service}"));
    let health = "grpc.health.v1.Health";
    let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).chain([health]).collect();
    assert_eq!(
        services, wanted,
        "those of other services appear with their first call"
    );
    let codes = |method: &str| {
        let labels = |labels: &[(String, String)]| {
            labels
                .iter()
                .any(|(name, value)| name == "grpc_method" && value == method)
        };
        let handled = page.named("grpc_server_handled_total");
        handled.filter(|(found, _)| labels(found)).count()
    };
    assert_eq!((codes("Put"), codes("AuthEnable"), codes("Watch")), (17, 17, 34));
}
