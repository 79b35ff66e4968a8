//! Corner cases 11 to 18 of the compatibility reference: the options of Range.

use crate::harness::*;
use bytes::Bytes;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{PutRequest, RangeRequest};
use tonic::Code;

/// Puts `PREFIX/0` to `PREFIX/9` with the values 9 to 0 and returns the first revision of the ten.
async fn ten_keys(client: &Client, prefix: &str) -> i64 {
    let mut first = 0;
    for i in 0..10 {
        let revision = client.put(&format!("{prefix}/{i}"), &format!("{}", 9 - i)).await;
        if i == 0 {
            first = revision;
        }
    }
    first
}

#[tokio::test]
async fn case_11_count_ignores_limit_and_filters() {
    let server = Server::shared();
    let client = server.client().await;
    ten_keys(&client, "c11").await;
    let kvs = client.range(get_prefix("c11/")).await.kvs;
    let third = kvs[3].mod_revision;

    let limited = client
        .range(RangeRequest {
            limit: 4,
            ..get_prefix("c11/")
        })
        .await;
    assert_eq!((limited.count, limited.kvs.len(), limited.more), (10, 4, true));
    // Three keys lie below the third revision: two of them fit the limit, then three, then all.
    let filtered = |limit| RangeRequest {
        limit,
        max_mod_revision: third - 1,
        ..get_prefix("c11/")
    };
    let answer = client.range(filtered(2)).await;
    assert_eq!((answer.count, answer.kvs.len(), answer.more), (10, 2, true));
    let answer = client.range(filtered(3)).await;
    assert_eq!((answer.count, answer.kvs.len(), answer.more), (10, 3, false));
    let answer = client.range(filtered(0)).await;
    assert_eq!((answer.count, answer.kvs.len(), answer.more), (10, 3, false));
    let answer = client
        .range(RangeRequest {
            min_create_revision: third,
            limit: 1,
            ..get_prefix("c11/")
        })
        .await;
    assert_eq!((answer.count, answer.more), (10, true));
    assert_eq!(pairs(&answer.kvs), ["c11/3=6"]);
    // A negative limit is none.
    let answer = client
        .range(RangeRequest {
            limit: -1,
            ..get_prefix("c11/")
        })
        .await;
    assert_eq!((answer.count, answer.kvs.len(), answer.more), (10, 10, false));
}

#[tokio::test]
async fn case_12_count_only() {
    let server = Server::shared();
    let client = server.client().await;
    ten_keys(&client, "c12").await;
    let request = RangeRequest {
        count_only: true,
        limit: 1,
        ..get_prefix("c12/")
    };
    let answer = client.range(request.clone()).await;
    assert_eq!((answer.count, answer.more, answer.kvs.len()), (10, false, 0));
    let answer = client
        .range(RangeRequest {
            max_mod_revision: 1,
            sort_order: 2,
            ..request
        })
        .await;
    assert_eq!((answer.count, answer.more, answer.kvs.len()), (10, false, 0));
}

#[tokio::test]
async fn case_13_limit_of_exactly_all() {
    let server = Server::shared();
    let client = server.client().await;
    ten_keys(&client, "c13").await;
    let answer = client
        .range(RangeRequest {
            limit: 10,
            ..get_prefix("c13/")
        })
        .await;
    assert_eq!((answer.count, answer.kvs.len(), answer.more), (10, 10, false));
    let answer = client
        .range(RangeRequest {
            limit: 9,
            ..get_prefix("c13/")
        })
        .await;
    assert_eq!((answer.count, answer.kvs.len(), answer.more), (10, 9, true));
}

#[tokio::test]
async fn case_14_whole_space_and_reversed_range() {
    let server = Server::start();
    let client = server.client().await;
    for key in ["\u{0}", "a", "b", "\u{7f}"] {
        client.put(key, "v").await;
    }
    client
        .put_with(PutRequest {
            key: Bytes::from_static(&[0xff, 0xff]),
            ..put("", "v")
        })
        .await;
    let whole = RangeRequest {
        key: ZERO,
        range_end: ZERO,
        ..Default::default()
    };
    let answer = client.range(whole).await;
    let keys: Vec<&[u8]> = answer.kvs.iter().map(|kv| &kv.key[..]).collect();
    assert_eq!(keys, [&b"\0"[..], b"a", b"b", b"\x7f", b"\xff\xff"]);
    let from_b = client
        .range(RangeRequest {
            key: bytes("b"),
            range_end: ZERO,
            ..Default::default()
        })
        .await;
    assert_eq!(from_b.count, 3);

    for (key, end) in [("b", "a"), ("b", "b")] {
        let answer = client
            .range(RangeRequest {
                range_end: bytes(end),
                ..get(key)
            })
            .await;
        assert_eq!((answer.count, answer.kvs.len(), answer.more), (0, 0, false));
    }
}

#[tokio::test]
async fn case_15_keys_only() {
    let server = Server::shared();
    let client = server.client().await;
    ten_keys(&client, "c15").await;
    let lease = client.grant(600).await;
    client
        .put_with(PutRequest {
            lease,
            ..put("c15/0", "9")
        })
        .await;

    let keys_only = RangeRequest {
        keys_only: true,
        ..get_prefix("c15/")
    };
    let answer = client.range(keys_only.clone()).await;
    assert_eq!(answer.kvs.len(), 10);
    assert!(
        answer.kvs.iter().all(|kv| kv.value.is_empty() && kv.lease == 0),
        "{answer:?}"
    );
    assert!(
        answer
            .kvs
            .iter()
            .all(|kv| kv.mod_revision > 0 && kv.create_revision > 0 && kv.version > 0)
    );
    assert_eq!(answer.kvs[0].version, 2);

    // Sorted by values that the answer then leaves out.
    let by_value = RangeRequest {
        sort_target: SortTarget::Value as i32,
        sort_order: SortOrder::Ascend as i32,
        ..keys_only
    };
    let answer = client.range(by_value).await;
    let keys: Vec<String> = answer.kvs.iter().map(|kv| text(&kv.key)).collect();
    assert_eq!(
        keys,
        (0..10).rev().map(|i| format!("c15/{i}")).collect::<Vec<_>>()
    );
    assert!(answer.kvs.iter().all(|kv| kv.value.is_empty()), "{answer:?}");
    client.revoke(lease).await.unwrap();
}

#[tokio::test]
async fn case_16_limit_before_sorting_without_order() {
    let server = Server::shared();
    let client = server.client().await;
    for key in ["c16/c", "c16/b", "c16/a", "c16/d"] {
        client.put(key, "v").await;
    }
    let sorted = |order: SortOrder| RangeRequest {
        sort_target: SortTarget::Mod as i32,
        sort_order: order as i32,
        limit: 2,
        ..get_prefix("c16/")
    };
    // Only the first three keys (limit + 1) in key order are sorted: a, b, c were put in the order c, b, a.
    let answer = client.range(sorted(SortOrder::None)).await;
    assert_eq!(pairs(&answer.kvs), ["c16/c=v", "c16/b=v"]);
    assert_eq!((answer.more, answer.count), (true, 4));
    let answer = client.range(sorted(SortOrder::Ascend)).await;
    assert_eq!(pairs(&answer.kvs), ["c16/c=v", "c16/b=v"]);
    let answer = client.range(sorted(SortOrder::Descend)).await;
    assert_eq!(pairs(&answer.kvs), ["c16/d=v", "c16/a=v"]);
    // Where the earliest key comes last in key order the two differ.
    client.put("c16/a", "w").await;
    client.put("c16/b", "w").await;
    client.put("c16/c", "w").await;
    let answer = client.range(sorted(SortOrder::None)).await;
    assert_eq!(pairs(&answer.kvs), ["c16/a=w", "c16/b=w"]);
    let answer = client.range(sorted(SortOrder::Ascend)).await;
    assert_eq!(pairs(&answer.kvs), ["c16/d=v", "c16/a=w"]);
}

#[tokio::test]
async fn case_17_empty_key() {
    let server = Server::shared();
    let client = server.client().await;
    assert_status(
        client.try_range(get("")).await,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let request = RangeRequest {
        range_end: bytes("z"),
        ..get("")
    };
    assert_status(
        client.try_range(request).await,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
}

#[tokio::test]
async fn case_18_unknown_sort_option() {
    let server = Server::shared();
    let client = server.client().await;
    for request in [
        RangeRequest {
            sort_order: 99,
            ..get("c18")
        },
        RangeRequest {
            sort_target: 99,
            ..get("c18")
        },
        RangeRequest {
            sort_order: -1,
            ..get("c18")
        },
    ] {
        assert_status(
            client.try_range(request).await,
            Code::InvalidArgument,
            "etcdserver: invalid sort option",
        );
    }
}
