//! The client port of a member in this process: what is decided between the wire and the store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    AlarmRequest, AlarmType, LeaseKeepAliveRequest, PutRequest, PutResponse, RangeRequest, RangeResponse,
    WatchCreateRequest, WatchRequest,
};
use store::auth::Caller;
use store::{Settings, Store};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::auth::{Auth, TokenKind};
use crate::backup::Backups;
use crate::config::{AuthSettings, ConnectionSettings, HttpSettings};
use crate::connection::Role;
use crate::core::Core;
use crate::defences::Defences;
use crate::grpc::backlog::Backlog;
use crate::grpc::meter::{Shard, Totals};
use crate::grpc::rpc::Rpc;
use crate::listen::{Listening, Port, Security};
use crate::metrics::HealthCounts;
use crate::peer::Peers;
use crate::placement::Placement;

/// A member on a port of its own, gone with this value.
struct Member {
    address: SocketAddr,
    store: Store,
    core: Arc<Core>,
    stopping: watch::Sender<bool>,
    _leaderless: watch::Sender<u64>,
    _data: TempDir,
}

impl Member {
    async fn start() -> Member {
        Member::with_answers(Backlog::of_answers()).await
    }

    async fn with_answers(answers: Arc<Backlog>) -> Member {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(Settings::new(data.path().join("data")))
            .await
            .unwrap();
        store.ready().await.unwrap();
        // The leader decides it after the member is known.
        soon(async {
            while store.status().cluster_version.is_none() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let (stopping, stopping_seen) = watch::channel(false);
        let (leaderless, leaderless_seen) = watch::channel(0);
        let shard = Shard::new(false);
        let auth = AuthSettings {
            tokens: TokenKind::Simple,
            token_ttl: Duration::from_secs(300),
            bcrypt_cost: 4,
        };
        let core = Arc::new(Core {
            store: store.clone(),
            nobody: store.acting_as(Caller::Nobody),
            auth: Auth::start(&auth, &store).unwrap(),
            limits: ConnectionSettings {
                streams_max: 1000,
                message_bytes_max: 2 << 20,
                ping_min_interval: Duration::from_secs(5),
                keepalive: None,
            },
            http: Arc::new(HttpSettings {
                gateway: true,
                pprof: false,
                debug: false,
                cors: vec!["*".to_owned()],
                host_whitelist: vec!["*".to_owned()],
            }),
            shard: shard.clone(),
            shards: [shard].into(),
            requests: Backlog::of_requests(),
            answers,
            health: Arc::new(HealthCounts::default()),
            features: Arc::new([]),
            slow_request: std::time::Duration::from_secs(1),
            backups: Backups::new(data.path(), Arc::default()),
            peers: Peers::new(2 << 20, None, Duration::from_secs(7)),
            leaderless: leaderless_seen,
            audit: None,
            defences: Defences::new(4096),
            kubernetes: Default::default(),
            stopping: stopping_seen.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let placement = Placement::start(vec![core.clone()]).unwrap();
        let port = Arc::new(Port {
            role: Role::Client,
            security: Security::Plain,
        });
        let listener = Listening::Tcp(listener);
        tokio::spawn(async move { placement.accept(listener, port, stopping_seen).await });
        Member {
            address,
            store,
            core,
            stopping,
            _leaderless: leaderless,
            _data: data,
        }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    /// One HTTP/1.1 request; the answer's head and body.
    async fn http(&self, method: &str, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (String, String) {
        let (head, body) = self.http("GET", path).await;
        let status = head.split_whitespace().nth(1).unwrap().to_owned();
        (status, body)
    }

    async fn alarm(&self, action: AlarmAction, alarm: AlarmType) {
        let member_id = self.store.member_id().0;
        let request = AlarmRequest {
            action: action as i32,
            member_id,
            alarm: alarm as i32,
        };
        self.store.alarm(request).await.unwrap();
    }
}

fn put(value_bytes: usize) -> PutRequest {
    PutRequest {
        key: "k".into(),
        value: Bytes::from(vec![b'x'; value_bytes]),
        ..PutRequest::default()
    }
}

/// Waits for something that must come soon.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what)
        .await
        .expect("it comes before the deadline")
}

#[tokio::test]
async fn probes_answer_as_etcds() {
    let member = Member::start().await;
    let answers = |status: &str, body: &str| (status.to_owned(), body.to_owned());
    let cases = [
        ("/health", "200", "{\"health\":\"true\",\"reason\":\"\"}"),
        (
            "/health?serializable=true",
            "200",
            "{\"health\":\"true\",\"reason\":\"\"}",
        ),
        ("/livez", "200", "ok\n"),
        ("/livez?verbose", "200", "[+]serializable_read ok\nok\n"),
        ("/readyz", "200", "ok\n"),
        ("/readyz/linearizable_read", "200", "ok\n"),
        (
            "/readyz?verbose&exclude=non_learner&exclude=data_corruption",
            "200",
            "[+]serializable_read ok\n[+]linearizable_read ok\nok\n",
        ),
        ("/livez/linearizable_read", "404", "404 page not found\n"),
        ("/nope", "404", "404 page not found\n"),
        (
            "/version",
            "200",
            "{\"etcdserver\":\"3.7.1\",\"etcdcluster\":\"3.7.0\",\"storage\":\"3.7.0\"}",
        ),
    ];
    for (path, status, body) in cases {
        assert_eq!(soon(member.get(path)).await, answers(status, body), "{path}");
    }
    for path in ["/health", "/livez", "/readyz", "/version"] {
        let (head, _) = soon(member.http("POST", path)).await;
        assert!(
            head.starts_with("http/1.1 405 ") && head.contains("\r\nallow: get"),
            "{path}: {head}"
        );
    }
}

#[tokio::test]
async fn alarms_fail_the_probes_they_should() {
    let member = Member::start().await;
    member.alarm(AlarmAction::Activate, AlarmType::Nospace).await;
    let sick = |reason: &str| {
        (
            "503".to_owned(),
            format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"),
        )
    };
    assert_eq!(soon(member.get("/health")).await, sick("ALARM NOSPACE"));
    assert_eq!(soon(member.get("/health?exclude=NOSPACE")).await.0, "200");
    assert_eq!(soon(member.get("/readyz")).await.0, "200");
    member.alarm(AlarmAction::Deactivate, AlarmType::Nospace).await;
    member.alarm(AlarmAction::Activate, AlarmType::Corrupt).await;
    assert_eq!(
        soon(member.get("/health?exclude=NOSPACE")).await,
        sick("ALARM CORRUPT")
    );
    let (status, body) = soon(member.get("/readyz")).await;
    assert_eq!(status, "503");
    assert!(
        body.starts_with("[-]data_corruption failed: alarm activated: CORRUPT\n"),
        "{body}"
    );
    assert!(body.ends_with("[+]non_learner ok\n\n"), "{body}");
    assert_eq!(soon(member.get("/livez")).await.0, "200");
}

#[tokio::test]
async fn the_metrics_that_dashboards_need_are_there() {
    let member = Member::start().await;
    let mut kv = KvClient::new(member.channel().await);
    soon(kv.put(put(1))).await.unwrap();
    let (head, body) = soon(member.http("GET", "/metrics")).await;
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
        "{head}"
    );
    let needed = "etcd_server_has_leader 1|etcd_server_is_leader 1|etcd_server_leader_changes_seen_total 1|\
         etcd_server_proposals_committed_total |etcd_server_proposals_applied_total |etcd_server_proposals_pending 0|\
         etcd_server_proposals_failed_total 0|etcd_server_quota_backend_bytes 2147483648|\
         etcd_mvcc_db_total_size_in_bytes |etcd_mvcc_db_total_size_in_use_in_bytes |\
         etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} |etcd_disk_backend_commit_duration_seconds_count |\
         etcd_network_client_grpc_sent_bytes_total |etcd_network_client_grpc_received_bytes_total |\
         process_resident_memory_bytes |process_open_fds |process_max_fds |process_cpu_seconds_total |\
         process_start_time_seconds |etcd_cluster_version{cluster_version=\"3.7\"} 1|\
         grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1|\
         grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1|\
         grpc_server_handled_total{grpc_code=\"Unavailable\",grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"} 0|\
         grpc_server_msg_received_total{grpc_method=\"Check\",grpc_service=\"grpc.health.v1.Health\",grpc_type=\"unary\"} 0|\
         grpc_server_msg_sent_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1";
    for line in needed.split('|') {
        assert!(
            body.lines().any(|known| known.starts_with(line.trim_start())),
            "{line} is missing"
        );
    }
    assert!(body.contains("# TYPE etcd_server_proposals_committed_total gauge\n"));
    assert!(body.contains("# TYPE grpc_server_handled_total counter\n"));
}

#[tokio::test]
async fn messages_above_the_limits_are_refused_in_gos_words() {
    let member = Member::start().await;
    let mut kv = KvClient::new(member.channel().await);
    let status = soon(kv.put(put(2_200_000))).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::ResourceExhausted,
            "grpc: received message larger than max (2200008 vs. 2097152)"
        )
    );
    let status = soon(kv.put(put(1_600_000))).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "etcdserver: request is too large")
    );
    soon(kv.put(put(1_500_000))).await.unwrap();
}

#[tokio::test]
async fn what_is_no_rpc_is_unimplemented_in_gos_words() {
    let member = Member::start().await;
    let mut client = tonic::client::Grpc::new(member.channel().await);
    for (path, text) in [
        (
            "/etcdserverpb.KV/Nope",
            "unknown method Nope for service etcdserverpb.KV",
        ),
        ("/nope.Nope/Nope", "unknown service nope.Nope"),
    ] {
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<PutRequest, PutResponse>::default();
        let call = client.unary(Request::new(put(1)), PathAndQuery::from_static(path), codec);
        let status: Status = soon(call).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, text));
    }
}

#[tokio::test]
async fn a_half_closed_watch_goes_on_until_the_server_stops() {
    let member = Member::start().await;
    let channel = member.channel().await;
    let create = WatchCreateRequest {
        key: "k".into(),
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    // The stream of requests ends with its only one.
    let requests = tokio_stream::once(request);
    let mut answers = soon(WatchClient::new(channel.clone()).watch(requests))
        .await
        .unwrap()
        .into_inner();
    assert!(soon(answers.message()).await.unwrap().unwrap().created);
    soon(KvClient::new(channel).put(put(1))).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap().unwrap().events.len(), 1);
    member.stopping.send_replace(true);
    let status = soon(answers.message()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
}

#[tokio::test]
async fn a_half_closed_keep_alive_ends_well() {
    let member = Member::start().await;
    let requests = tokio_stream::iter([5, 6].map(|id| LeaseKeepAliveRequest { id }));
    let mut client = LeaseClient::new(member.channel().await);
    let mut renewals = soon(client.lease_keep_alive(requests))
        .await
        .unwrap()
        .into_inner();
    for id in [5, 6] {
        let renewal = soon(renewals.message()).await.unwrap().unwrap();
        assert_eq!((renewal.id, renewal.ttl), (id, 0));
    }
    assert_eq!(soon(renewals.message()).await.unwrap(), None);
}

#[tokio::test]
async fn large_answers_that_nobody_reads_are_bounded() {
    let member = Member::with_answers(Backlog::new(1 << 20)).await;
    let mut kv = KvClient::new(member.channel().await);
    soon(kv.put(put(1_500_000))).await.unwrap();
    let request = || RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..RangeRequest::default()
    };
    // Taken as a stream, the answer is not read; its sender has to wait for that.
    let endpoint = Endpoint::from_shared(format!("http://{}", member.address)).unwrap();
    let narrow = endpoint.initial_stream_window_size(65_535);
    let mut client = tonic::client::Grpc::new(narrow.connect().await.unwrap());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<RangeRequest, RangeResponse>::default();
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Range");
    let unread = soon(client.server_streaming(Request::new(request()), path, codec))
        .await
        .unwrap();
    assert!(member.core.answers.is_full());
    let mut waiting = tokio::spawn(async move { kv.range(request()).await });
    soon(async {
        let mut totals = Totals::default();
        while totals.started < 2 {
            tokio::task::yield_now().await;
            totals = Totals::default();
            member.core.shard.add_to(Rpc::Range, &mut totals);
        }
    })
    .await;
    assert!(!waiting.is_finished());
    drop(unread);
    assert_eq!(
        soon(&mut waiting).await.unwrap().unwrap().into_inner().kvs.len(),
        1
    );
    soon(async {
        while member.core.answers.is_full() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
