//! Corner cases 58 to 61 of the compatibility reference, and the rest of the service Maintenance: moving the leader,
//! downgrades, alarms.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use crate::harness::*;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::downgrade_request::DowngradeAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, DefragmentRequest, DowngradeInfo,
    DowngradeRequest, DowngradeResponse, LeaseGrantRequest, MoveLeaderRequest, MoveLeaderResponse,
    StatusRequest,
};
use tonic::{Code, Status};

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const CORRUPT: &str = "etcdserver: corrupt cluster";

async fn move_leader(client: &Client, target_id: u64) -> Result<MoveLeaderResponse, Status> {
    let request = MoveLeaderRequest { target_id };
    let answer = client.maintenance.clone().move_leader(request).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn case_58_move_leader_has_no_header() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let own = move_leader(cluster.client(leader), cluster.id(leader)).await;
    assert_eq!(own.unwrap().header, None, "the leader itself");
    assert_eq!(cluster.leader().await, leader);
    for target in cluster.others(leader) {
        let leader = cluster.leader().await;
        let answer = move_leader(cluster.client(leader), cluster.id(target))
            .await
            .unwrap();
        assert_eq!(answer.header, None);
        let status = cluster.status(leader).await.unwrap();
        assert_eq!(
            status.leader,
            cluster.id(target),
            "the member asked knows the new leader when it answers"
        );
        // Nothing is lost on the way, and every member goes on.
        for member in cluster.members() {
            cluster.client(member).put("k", "v").await;
        }
        assert_eq!(cluster.leader().await, target);
    }
}

#[tokio::test]
async fn case_59_move_leader_on_a_follower() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    for target in [cluster.id(leader), cluster.id(follower), 12345] {
        assert_status(
            move_leader(cluster.client(follower), target).await,
            Code::FailedPrecondition,
            "etcdserver: not leader",
        );
    }
    for target in [0, 12345] {
        assert_status(
            move_leader(cluster.client(leader), target).await,
            Code::FailedPrecondition,
            "etcdserver: bad leader transferee",
        );
    }
    assert_eq!(cluster.leader().await, leader);
}

/// etcd waits for as long as its client does, then has this text for nobody.
#[tokio::test]
async fn move_leader_to_a_member_that_does_not_answer() {
    if !runs_taffrail() {
        return skip(
            "move_leader_to_a_member_that_does_not_answer",
            "Taffrail's own limit",
        );
    }
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let target = cluster.others(leader)[0];
    cluster.server(target).suspend();
    let moved = move_leader(cluster.client(leader), cluster.id(target)).await;
    assert_status(
        moved,
        Code::Unknown,
        "etcdserver: request timed out, leader transfer took too long",
    );
    cluster.client(leader).put("k", "v").await;
    cluster.server(target).resume();
}

async fn downgrade(client: &Client, action: i32, version: &str) -> Result<DowngradeResponse, Status> {
    let request = DowngradeRequest {
        action,
        version: version.to_owned(),
    };
    let answer = client.maintenance.clone().downgrade(request).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn downgrades_are_validated() {
    let server = Server::start();
    let client = server.client().await;
    let revision = client.put("k", "v").await;
    // A real etcd decides on the cluster's version some seconds after its start.
    wait_for_cluster_version(&server);
    let validate = DowngradeAction::Validate as i32;
    for good in ["3.6.0", "3.6", "3.6.7", "3.6.0-rc.1"] {
        let answer = downgrade(&client, validate, good).await.unwrap();
        assert_eq!(answer.version, "3.7", "{good}");
        assert_eq!(answer.header.unwrap().revision, revision);
    }
    for (target, text) in [
        ("", "etcdserver: wrong downgrade target version format"),
        ("v3.6.0", "etcdserver: wrong downgrade target version format"),
        ("3.6.x", "etcdserver: wrong downgrade target version format"),
        ("3.6.0.0", "etcdserver: wrong downgrade target version format"),
        ("3.7.0", "etcdserver: invalid downgrade target version"),
        ("3.5.0", "etcdserver: invalid downgrade target version"),
        ("2.6.0", "etcdserver: invalid downgrade target version"),
    ] {
        for action in [DowngradeAction::Validate, DowngradeAction::Enable] {
            let answer = downgrade(&client, action as i32, target).await;
            assert_status(answer, Code::InvalidArgument, text);
        }
    }
    // Without a job there is nothing to cancel, which is no error.
    let canceled = downgrade(&client, DowngradeAction::Cancel as i32, "")
        .await
        .unwrap();
    assert_eq!(canceled.version, "3.7");
    assert_status(
        downgrade(&client, 7, "3.6.0").await,
        Code::Unknown,
        "etcdserver: unknown method",
    );
    if runs_taffrail() {
        let enabled = downgrade(&client, DowngradeAction::Enable as i32, "3.6.0").await;
        assert_eq!(enabled.unwrap_err().code(), Code::Unimplemented);
    }
}

fn wait_for_cluster_version(server: &Server) {
    wait_until("the cluster's version is decided", || {
        let answer = http_get(server.client_address(), "/version");
        answer.is_some_and(|answer| answer.body.contains(r#""etcdcluster":"3.7.0""#))
    });
}

async fn alarm(client: &Client, action: AlarmAction, member_id: u64, alarm: AlarmType) -> Vec<AlarmMember> {
    let request = AlarmRequest {
        action: action.into(),
        member_id,
        alarm: alarm.into(),
    };
    let answer = client.maintenance.clone().alarm(request).await.unwrap();
    answer.into_inner().alarms
}

async fn all_alarms(client: &Client) -> Vec<AlarmMember> {
    let mut alarms = alarm(client, AlarmAction::Get, 0, AlarmType::None).await;
    alarms.sort_by_key(|alarm| (alarm.alarm, alarm.member_id));
    alarms
}

fn raised(member_id: u64, alarm: AlarmType) -> AlarmMember {
    AlarmMember {
        member_id,
        alarm: alarm.into(),
    }
}

async fn member_id(client: &Client) -> u64 {
    let status = client.maintenance.clone().status(StatusRequest {}).await.unwrap();
    status.into_inner().header.unwrap().member_id
}

#[tokio::test]
async fn status_names_the_effective_quota() {
    for (flags, quota) in [
        (vec![], 2 << 30),
        (vec!["--quota-backend-bytes=0"], 2 << 30),
        (vec!["--quota-backend-bytes=-1"], -1),
        (vec!["--quota-backend-bytes=123456789"], 123_456_789),
    ] {
        let server = Server::start_with(&flags);
        let client = server.client().await;
        let status = client.maintenance.clone().status(StatusRequest {}).await.unwrap();
        let status = status.into_inner();
        assert_eq!(status.db_size_quota, quota, "{flags:?}");
        assert_eq!(status.downgrade_info, Some(DowngradeInfo::default()));
        assert_eq!(status.version.rsplit_once('.').unwrap().0, "3.7");
        assert!(status.db_size_in_use > 0 && status.db_size_in_use <= status.db_size);
    }
}

/// The lines about alarms in the status; the distance between words in them is not fixed.
async fn status_errors(client: &Client) -> Vec<String> {
    let status = client.maintenance.clone().status(StatusRequest {}).await.unwrap();
    let errors = status.into_inner().errors;
    errors.iter().map(|error| error.replace("  ", " ")).collect()
}

#[tokio::test]
async fn case_60_no_space() {
    let server = Server::start_with(&["--quota-backend-bytes=16777216"]);
    let client = server.client().await;
    let me = member_id(&client).await;
    let value = "x".repeat(1 << 20);
    let mut refused = None;
    for number in 0..64 {
        match client.try_put(put(&format!("fill/{number:02}"), &value)).await {
            Ok(_) => {}
            Err(status) => {
                refused = Some(status);
                break;
            }
        }
    }
    let refused = refused.expect("the quota is reached");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, NO_SPACE)
    );
    assert_eq!(all_alarms(&client).await, [raised(me, AlarmType::Nospace)]);
    let no_space = |result: Result<(), Status>| assert_status(result, Code::ResourceExhausted, NO_SPACE);
    // Small as it is.
    no_space(client.try_put(put("k", "v")).await.map(drop));
    let untaken = txn(vec![is_absent("k")], vec![op(get("k"))], vec![op(put("k", "v"))]);
    no_space(client.try_txn(untaken).await.map(drop));
    let grant = LeaseGrantRequest { ttl: 60, id: 0 };
    no_space(client.lease.clone().lease_grant(grant).await.map(drop));

    // A txn without a put, deletes and compaction succeed, and free what there was.
    client
        .txn(then(vec![op(delete("fill/00")), op(get("fill/01"))]))
        .await;
    assert!(client.delete_with(delete_prefix("fill/")).await.deleted > 1);
    client.compact(client.revision().await).await;
    let defragment = client.maintenance.clone().defragment(DefragmentRequest {}).await;
    assert_eq!(defragment.unwrap().into_inner().header, None);
    // The alarm stays until it is disarmed.
    no_space(client.try_put(put("k", "v")).await.map(drop));
    assert_eq!(
        status_errors(&client).await,
        [format!("memberID:{me} alarm:NOSPACE")]
    );
    assert_eq!(
        alarm(&client, AlarmAction::Deactivate, me, AlarmType::Nospace).await,
        [raised(me, AlarmType::Nospace)]
    );
    assert!(status_errors(&client).await.is_empty());
    client.put("k", "v").await;
    assert!(all_alarms(&client).await.is_empty());
}

#[tokio::test]
async fn case_61_disarming_is_exact() {
    let mut server = Server::start();
    let client = server.client().await;
    let me = member_id(&client).await;
    let nospace = AlarmType::Nospace;
    assert_eq!(
        alarm(&client, AlarmAction::Activate, 77, nospace).await,
        [raised(77, nospace)]
    );
    // Whoever raises it again is told that it stands.
    assert_eq!(
        alarm(&client, AlarmAction::Activate, 77, nospace).await,
        [raised(77, nospace)]
    );
    assert!(
        alarm(&client, AlarmAction::Activate, 77, AlarmType::None)
            .await
            .is_empty()
    );
    for (member, kind) in [
        (0, nospace),
        (0, AlarmType::None),
        (77, AlarmType::None),
        (me, nospace),
        (77, AlarmType::Corrupt),
    ] {
        let changed = alarm(&client, AlarmAction::Deactivate, member, kind).await;
        assert!(changed.is_empty(), "{member} {kind:?}: {changed:?}");
        assert_eq!(all_alarms(&client).await, [raised(77, nospace)]);
    }
    // A member's id is of no matter to a listing, the type is.
    assert_eq!(
        alarm(&client, AlarmAction::Get, 5, nospace).await,
        [raised(77, nospace)]
    );
    assert!(
        alarm(&client, AlarmAction::Get, 77, AlarmType::Corrupt)
            .await
            .is_empty()
    );

    server.kill();
    server.spawn();
    // An alarm fails /health, not this.
    wait_until("the server is ready", || {
        http_get(server.client_address(), "/readyz").is_some_and(|answer| answer.status == 200)
    });
    let client = server.client().await;
    assert_eq!(
        all_alarms(&client).await,
        [raised(77, nospace)],
        "after a restart"
    );
    assert_status(
        client.try_put(put("k", "v")).await,
        Code::ResourceExhausted,
        NO_SPACE,
    );
    assert_eq!(
        alarm(&client, AlarmAction::Deactivate, 77, nospace).await,
        [raised(77, nospace)]
    );
    client.put("k", "v").await;
    assert!(
        alarm(&client, AlarmAction::Deactivate, 77, nospace)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn an_alarm_acts_on_every_member() {
    let cluster = Cluster::start(3).await;
    let (one, other) = (cluster.client(0), cluster.client(1));
    let lease = one.grant(60).await;
    one.put("k", "v").await;
    let corrupt = AlarmType::Corrupt;
    assert_eq!(
        alarm(one, AlarmAction::Activate, cluster.id(2), corrupt)
            .await
            .len(),
        1
    );
    let is_corrupt = |result: Result<(), Status>| assert_status(result, Code::DataLoss, CORRUPT);
    is_corrupt(other.try_put(put("k", "w")).await.map(drop));
    is_corrupt(other.kv.clone().delete_range(delete("k")).await.map(drop));
    is_corrupt(other.try_txn(then(vec![op(delete("k"))])).await.map(drop));
    let compaction = CompactionRequest {
        revision: 2,
        physical: false,
    };
    is_corrupt(other.kv.clone().compact(compaction).await.map(drop));
    let grant = LeaseGrantRequest { ttl: 60, id: 0 };
    is_corrupt(other.lease.clone().lease_grant(grant).await.map(drop));
    is_corrupt(other.revoke(lease).await.map(drop));
    assert_eq!(pairs(&other.range(get("k")).await.kvs), ["k=v"], "reads go on");
    assert!(other.keep_alive(lease).await.ttl > 0);
    for member in cluster.members() {
        let client = cluster.client(member);
        assert_eq!(all_alarms(client).await, [raised(cluster.id(2), corrupt)]);
        assert_eq!(
            status_errors(client).await,
            [format!("memberID:{} alarm:CORRUPT", cluster.id(2))]
        );
    }
    assert_eq!(
        alarm(other, AlarmAction::Deactivate, cluster.id(2), corrupt)
            .await
            .len(),
        1
    );
    one.put("k", "w").await;
}
