//! HashKV gives the same numbers as etcd 3.7: the expected values were computed by a real one over the same writes.

use crate::harness::*;
use proto::etcdserverpb::{LeaseGrantRequest, PutRequest};

/// Makes the revisions 2 to 16, each of another kind.
async fn write_history(client: &Client) {
    client
        .lease
        .clone()
        .lease_grant(LeaseGrantRequest { ttl: 3600, id: 1234 })
        .await
        .expect("grant succeeds");
    client.put("a", "1").await;
    client.put("b", "").await;
    client.put("a", "2").await;
    client
        .put_with(PutRequest {
            lease: 1234,
            ..put("leased", "value")
        })
        .await;
    client.delete("b").await;
    client.put("b", "again").await;
    client
        .txn(then(vec![
            op(put("t/1", "x")),
            op(put("t/2", "y")),
            op(put("t/3", "z")),
        ]))
        .await;
    client.delete_with(delete_prefix("t/")).await;
    client
        .put_with(PutRequest {
            ignore_lease: true,
            ..put("leased", "changed")
        })
        .await;
    client
        .put_with(PutRequest {
            ignore_value: true,
            ..put("a", "")
        })
        .await;
    client.txn(then(vec![op(delete("a")), op(put("c", "3"))])).await;
    client.put("zero\u{0}byte", &"long".repeat(1000)).await;
    client.put("c", "4").await;
    client.put("c", "5").await;
    assert_eq!(client.put("last", "6").await, 16);
}

/// The hash, the compacted revision and the revision hashed.
async fn hash_at(client: &Client, revision: i64) -> (u32, i64, i64) {
    let answer = client.hash_kv(revision).await;
    (answer.hash, answer.compact_revision, answer.hash_revision)
}

#[tokio::test]
async fn hashes_of_a_fixed_history() {
    let mut server = Server::start();
    let client = server.client().await;
    let mut got = vec![hash_at(&client, 0).await];
    write_history(&client).await;
    for revision in 1..=16 {
        got.push(hash_at(&client, revision).await);
    }
    assert_eq!(
        hash_at(&client, 0).await,
        got[16],
        "revision 0 is the current one"
    );

    client.compact(6).await;
    for revision in 7..=16 {
        got.push(hash_at(&client, revision).await);
    }
    client.compact(12).await;
    for revision in [13, 16] {
        got.push(hash_at(&client, revision).await);
    }
    // The rest does not depend on what a compaction has kept in memory.
    server.kill();
    server.run();
    let client = server.client().await;
    for revision in 13..=16 {
        got.push(hash_at(&client, revision).await);
    }
    // At the compacted revision itself it does: a compaction that the start has to finish leaves its hash again.
    let at_compacted = hash_at(&client, 12).await;
    let computed = (3_379_616_926, 12, 12);
    assert!([computed, got[22]].contains(&at_compacted), "{at_compacted:?}");
    client.compact(16).await;
    client.put("after", "7").await;
    got.push(hash_at(&client, 0).await);
    assert_eq!(got, EXPECTED);
}

/// In the order in which the test asks.
const EXPECTED: [(u32, i64, i64); 34] = [
    (1_084_519_789, -1, 1),
    (1_084_519_789, -1, 1),
    (2_587_454_935, -1, 2),
    (2_496_657_716, -1, 3),
    (1_543_627_925, -1, 4),
    (1_943_513_226, -1, 5),
    (1_416_054_704, -1, 6),
    (1_144_966_875, -1, 7),
    (627_106_601, -1, 8),
    (3_758_087_317, -1, 9),
    (2_198_018_325, -1, 10),
    (2_235_906_211, -1, 11),
    (3_099_669_204, -1, 12),
    (1_165_022_449, -1, 13),
    (1_109_891_497, -1, 14),
    (1_208_157_943, -1, 15),
    (195_267_183, -1, 16),
    (3_550_074_070, 6, 7),
    (3_353_605_527, 6, 8),
    (130_565_497, 6, 9),
    (1_768_047_788, 6, 10),
    (784_325_982, 6, 11),
    (3_572_897_047, 6, 12),
    (1_987_885_747, 6, 13),
    (3_682_431_320, 6, 14),
    (1_425_412_831, 6, 15),
    (601_270_997, 6, 16),
    (309_645_806, 12, 13),
    (3_431_901_330, 12, 16),
    (309_645_806, 12, 13),
    (613_314_541, 12, 14),
    (2_466_927_770, 12, 15),
    (3_431_901_330, 12, 16),
    (2_814_897_246, 16, 17),
];
