//! A single-member store inside a program: no gRPC, no flags, no other process.
//!
//! `cargo run -p store --example embedded` keeps its data in a temporary folder and prints what happens.

use proto::etcdserverpb::{
    Compare, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};
use store::{Settings, Store};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("taffrail-embedded-{}", std::process::id()));
    let store = Store::open(Settings::new(&folder)).await?;
    store.ready().await?;

    // A watch on a prefix hears of everything below.
    let (requests, mut events) = store.watch().await?;
    requests
        .create(WatchCreateRequest {
            key: "log/".into(),
            range_end: "log0".into(),
            ..Default::default()
        })
        .await?;
    assert!(events.recv().await.is_some_and(|created| created.created));

    let put = PutRequest {
        key: "log/heading".into(),
        value: "north by east".into(),
        ..Default::default()
    };
    let answer = store.put(put.clone()).await?;
    println!(
        "put at revision {}",
        answer.header.map_or(0, |header| header.revision)
    );

    // Only where nobody has written meanwhile.
    let unchanged = Compare {
        key: "log/heading".into(),
        target: CompareTarget::Version.into(),
        result: CompareResult::Equal.into(),
        target_union: Some(TargetUnion::Version(1)),
        ..Default::default()
    };
    let update = PutRequest {
        value: "north".into(),
        ..put
    };
    let outcome = store
        .txn(TxnRequest {
            compare: vec![unchanged],
            success: vec![RequestOp {
                request: Some(Request::RequestPut(update)),
            }],
            failure: vec![],
        })
        .await?;
    println!(
        "the update {}",
        if outcome.succeeded {
            "went through"
        } else {
            "came too late"
        }
    );

    let lease = store.lease_grant(LeaseGrantRequest { ttl: 60, id: 0 }).await?;
    println!("lease {:x} for {} s", lease.id, lease.ttl);

    let found = store
        .range(RangeRequest {
            key: "log/heading".into(),
            ..Default::default()
        })
        .await?;
    for kv in found.kvs {
        println!("{} = {}, version {}", text(&kv.key), text(&kv.value), kv.version);
    }
    for _ in 0..2 {
        for event in events
            .recv()
            .await
            .map(|response| response.events)
            .unwrap_or_default()
        {
            if let Some(kv) = event.kv {
                println!("heard of {} at revision {}", text(&kv.key), kv.mod_revision);
            }
        }
    }

    store.stop().await;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
