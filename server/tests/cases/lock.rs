//! The service v3lockpb.Lock, against etcd's behaviour to the letter of its errors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use crate::harness::*;
use proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
use proto::v3lockpb::lock_client::LockClient;
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

#[tokio::test]
async fn a_free_lock_is_had_at_once() {
    let server = Server::shared();
    let (client, locks) = clients(&server).await;
    let before = client.revision().await;
    let locked = locks.lock("free", 0).await.unwrap();
    assert!(header_revision(&locked.header) > before);
    let key = text(&locked.key);
    let lease = i64::from_str_radix(key.strip_prefix("free/").unwrap(), 16).unwrap();
    assert_eq!(key, format!("free/{lease:x}"));
    let life = client.time_to_live(lease).await;
    assert_eq!((life.granted_ttl, life.keys), (60, vec![locked.key.clone()]));
    let owner = client.range(get(&key)).await.kvs.remove(0);
    assert_eq!((text(&owner.value).as_str(), owner.lease), ("", lease));
    assert_eq!(owner.create_revision, header_revision(&locked.header));

    let unlocked = locks.unlock(&key).await.unwrap();
    assert!(unlocked > owner.create_revision);
    assert_eq!(client.range(get(&key)).await.count, 0);
    // It is a plain deletion: once more is no error, and changes nothing.
    assert_eq!(keys(&client, "free/").await.len(), 0);
    locks.unlock(&key).await.unwrap();
}

#[tokio::test]
async fn keys_are_named_after_name_and_lease() {
    let server = Server::shared();
    let (client, locks) = clients(&server).await;
    for (name, lease, key) in [
        ("named", 0x4d77, "named/4d77"),
        ("named/deeper", 0x4d78, "named/deeper/4d78"),
        ("named-below", -77, "named-below/-4d"),
        ("", 0x4d79, "/4d79"),
    ] {
        grant(&client, lease).await;
        let locked = locks.lock(name, lease).await.unwrap();
        assert_eq!(text(&locked.key), key);
        assert_eq!(client.range(get(key)).await.kvs[0].lease, lease);
        locks.unlock(key).await.unwrap();
    }
}

#[tokio::test]
async fn the_same_lease_has_the_lock_already() {
    let server = Server::shared();
    let (client, locks) = clients(&server).await;
    let lease = client.grant(100).await;
    let first = locks.lock("again", lease).await.unwrap();
    let second = locks.lock("again", lease).await.unwrap();
    assert_eq!(first.key, second.key);
    let owner = client.range(get(&text(&first.key))).await.kvs.remove(0);
    assert_eq!(owner.version, 1);
}

#[tokio::test]
async fn waiters_come_in_the_order_they_asked() {
    let server = Server::shared();
    let (client, locks) = clients(&server).await;
    let mut owner = text(&locks.lock("queue", 0).await.unwrap().key);
    let mut waiting = Vec::new();
    for waiters in 1..=4 {
        waiting.push(locks.start("queue", client.grant(100).await));
        wait_for_keys(&client, "queue/", waiters + 1).await;
    }
    for next in waiting {
        let released = locks.unlock(&owner).await.unwrap();
        let locked = done(next).await.unwrap();
        // The header tells of the moment the lock was won.
        assert!(header_revision(&locked.header) >= released);
        let oldest = keys(&client, "queue/").await.remove(0);
        assert_eq!(text(&locked.key), oldest);
        owner = oldest;
    }
    assert_eq!(keys(&client, "queue/").await.len(), 1);
}

#[tokio::test]
async fn a_waiter_that_leaves_takes_its_key_along() {
    let server = Server::shared();
    let (client, locks) = clients(&server).await;
    let owner = text(&locks.lock("leave", 0).await.unwrap().key);
    let (leaving, staying) = (client.grant(100).await, client.grant(100).await);
    let first = locks.start("leave", leaving);
    wait_for_keys(&client, "leave/", 2).await;
    let second = locks.start("leave", staying);
    wait_for_keys(&client, "leave/", 3).await;
    first.abort();
    wait_for_keys(&client, "leave/", 2).await;
    assert_eq!(
        keys(&client, "leave/").await,
        [owner.clone(), format!("leave/{staying:x}")]
    );
    assert_eq!(
        client.time_to_live(leaving).await.granted_ttl,
        100,
        "the lease stays"
    );
    // Whoever waited for the one that left still waits for the owner.
    let marked = client.put("a write that every watch passes", "").await;
    assert!(!second.is_finished());
    let released = locks.unlock(&owner).await.unwrap();
    assert!(released > marked);
    let locked = done(second).await.unwrap();
    assert!(header_revision(&locked.header) >= released);
}

#[tokio::test]
async fn the_end_of_the_owners_lease_frees_the_lock() {
    let server = Server::shared();
    let (client, locks) = clients(&server).await;
    let lease = client.grant(100).await;
    locks.lock("lost owner", lease).await.unwrap();
    let waiting = locks.start("lost owner", client.grant(100).await);
    wait_for_keys(&client, "lost owner/", 2).await;
    client.revoke(lease).await.unwrap();
    let locked = done(waiting).await.unwrap();
    assert_eq!(keys(&client, "lost owner/").await, [text(&locked.key)]);
}

#[tokio::test]
async fn a_waiter_without_lease_is_refused_when_its_turn_comes() {
    let server = Server::shared();
    let (client, locks) = clients(&server).await;
    let owner = text(&locks.lock("lost waiter", 0).await.unwrap().key);
    let lease = client.grant(100).await;
    let waiting = locks.start("lost waiter", lease);
    wait_for_keys(&client, "lost waiter/", 2).await;
    client.revoke(lease).await.unwrap();
    assert_eq!(keys(&client, "lost waiter/").await, std::slice::from_ref(&owner));
    assert!(!waiting.is_finished());
    locks.unlock(&owner).await.unwrap();
    assert_status(done(waiting).await, Code::Unknown, "mutex: session is expired");
    assert_eq!(keys(&client, "lost waiter/").await.len(), 0);
}

#[tokio::test]
async fn errors_have_etcds_texts_and_no_codes() {
    let server = Server::shared();
    let (client, locks) = clients(&server).await;
    let before = client.revision().await;
    let unknown = locks.lock("refused", 480_002).await;
    assert_status(unknown, Code::Unknown, "etcdserver: requested lease not found");
    let keyless = locks.unlock("").await;
    assert_status(keyless, Code::Unknown, "etcdserver: key is not provided");
    assert!(locks.unlock("refused/0").await.unwrap() >= before);
    assert_eq!(keys(&client, "refused/").await.len(), 0);
}

#[tokio::test]
async fn who_is_in_the_way_need_not_be_a_lock() {
    let server = Server::shared();
    let (client, locks) = clients(&server).await;
    client.put("in the way/anything", "v").await;
    let waiting = locks.start("in the way", client.grant(100).await);
    wait_for_keys(&client, "in the way/", 2).await;
    // A change is no deletion.
    client.put("in the way/anything", "w").await;
    assert!(!waiting.is_finished());
    client.delete("in the way/anything").await;
    done(waiting).await.unwrap();
}

#[tokio::test]
async fn a_stopping_server_ends_the_wait() {
    let mut server = Server::start();
    let (client, locks) = clients(&server).await;
    locks.lock("stop", 0).await.unwrap();
    let waiting = locks.start("stop", client.grant(100).await);
    wait_for_keys(&client, "stop/", 2).await;
    let (status, took) = server.terminate();
    assert!(took < PATIENCE, "{took:?}");
    if runs_taffrail() {
        // etcd raises the signal again to end.
        assert!(status.success(), "{status:?}");
    }
    assert!(done(waiting).await.is_err());
}

#[tokio::test]
async fn members_share_their_locks() {
    let cluster = Cluster::start(3).await;
    let mut locks = Vec::new();
    for member in cluster.members() {
        locks.push(Locks::of(&cluster.server(member).endpoint()).await);
    }
    let mut owner = text(&locks[0].lock("shared", 0).await.unwrap().key);
    let waiting = [1, 2].map(|member| (member, locks[member].clone()));
    let mut calls = Vec::new();
    for (place, (member, locks)) in waiting.into_iter().enumerate() {
        calls.push(locks.start("shared", cluster.client(member).grant(100).await));
        wait_for_keys(cluster.client(0), "shared/", place + 2).await;
    }
    for call in calls {
        assert!(!call.is_finished());
        // By the member that no call waits at.
        locks[0].unlock(&owner).await.unwrap();
        owner = text(&done(call).await.unwrap().key);
    }
}

#[tokio::test]
async fn only_one_at_a_time_owns_a_contended_lock() {
    let server = Server::shared();
    let (client, locks) = clients(&server).await;
    let mut contenders = Vec::new();
    for _ in 0..CONTENDERS {
        let (client, locks) = (client.clone(), locks.clone());
        contenders.push(tokio::spawn(async move {
            for _ in 0..ROUNDS {
                let owned = text(&locks.lock("contended", 0).await.unwrap().key);
                // Read and write apart: whoever else does it meanwhile is lost.
                let read = client.range(get("contended count")).await;
                let count: u32 = read.kvs.first().map_or(0, |kv| text(&kv.value).parse().unwrap());
                client
                    .put_with(PutRequest {
                        ..put("contended count", &(count + 1).to_string())
                    })
                    .await;
                locks.unlock(&owned).await.unwrap();
            }
        }));
    }
    for contender in contenders {
        tokio::time::timeout(PATIENCE, contender).await.unwrap().unwrap();
    }
    let count = client.range(get("contended count")).await.kvs.remove(0);
    assert_eq!(text(&count.value), (CONTENDERS * ROUNDS).to_string());
}

#[tokio::test]
async fn metrics_show_the_service_from_its_first_call_on() {
    let server = Server::start();
    let page = || http_get(server.client_address(), "/metrics").unwrap().body;
    let first = page();
    assert!(!first.contains("v3lockpb") && !first.contains("v3electionpb"));
    assert!(
        first.contains(r#"{grpc_method="List",grpc_service="grpc.health.v1.Health",grpc_type="unary"} 0"#)
    );
    let (_, locks) = clients(&server).await;
    locks.lock("counted", 0).await.unwrap();
    let second = page();
    let labels = r#"grpc_method="Lock",grpc_service="v3lockpb.Lock",grpc_type="unary"} 1"#;
    for name in [
        "grpc_server_started_total{",
        "grpc_server_msg_received_total{",
        "grpc_server_msg_sent_total{",
        r#"grpc_server_handled_total{grpc_code="OK","#,
    ] {
        assert!(second.contains(&format!("{name}{labels}")), "{name}");
    }
    let handled = second
        .lines()
        .filter(|line| line.starts_with("grpc_server_handled_total") && line.contains("v3lockpb"));
    assert_eq!(handled.count(), 1);
    assert!(!second.contains(r#"grpc_method="Unlock""#));
}

/// The lock service of one server.
#[derive(Clone)]
struct Locks(LockClient<Channel>);

impl Locks {
    async fn of(endpoint: &str) -> Locks {
        let channel = Endpoint::from_shared(endpoint.to_owned()).unwrap();
        Locks(LockClient::new(channel.connect().await.unwrap()))
    }

    async fn lock(&self, name: &str, lease: i64) -> Result<LockResponse, Status> {
        let request = LockRequest {
            name: bytes(name),
            lease,
        };
        let response = self.0.clone().lock(request).await?;
        Ok(response.into_inner())
    }

    /// A call that goes on by itself.
    fn start(&self, name: &'static str, lease: i64) -> JoinHandle<Result<LockResponse, Status>> {
        let locks = self.clone();
        tokio::spawn(async move { locks.lock(name, lease).await })
    }

    /// Returns the revision of the answer.
    async fn unlock(&self, key: &str) -> Result<i64, Status> {
        let response = self.0.clone().unlock(UnlockRequest { key: bytes(key) }).await?;
        Ok(header_revision(&response.into_inner().header))
    }
}

async fn clients(server: &Server) -> (Client, Locks) {
    (server.client().await, Locks::of(&server.endpoint()).await)
}

async fn grant(client: &Client, id: i64) {
    let request = LeaseGrantRequest { ttl: 100, id };
    client.lease.clone().lease_grant(request).await.unwrap();
}

/// The keys of a prefix, the oldest first.
async fn keys(client: &Client, prefix: &str) -> Vec<String> {
    let mut kvs = client.range(get_prefix(prefix)).await.kvs;
    kvs.sort_by_key(|kv| kv.create_revision);
    kvs.iter().map(|kv| text(&kv.key)).collect()
}

async fn wait_for_keys(client: &Client, prefix: &str, count: usize) {
    let start = Instant::now();
    loop {
        let found = keys(client, prefix).await;
        if found.len() == count {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "not {count} keys: {found:?}");
        tokio::time::sleep(STEP).await;
    }
}

async fn done<T>(call: JoinHandle<T>) -> T {
    tokio::time::timeout(PATIENCE, call)
        .await
        .expect("the call ends")
        .expect("the call was not given up")
}

const STEP: Duration = Duration::from_millis(5);
const CONTENDERS: u32 = 8;
const ROUNDS: u32 = 5;
