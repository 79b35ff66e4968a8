//! A full disk that nothing was kept free of: the process says so and acknowledges no more, and nothing acknowledged is
//! lost. The disk is a small memory file system in a namespace of its own, which ends with the test.

use crate::harness::*;

const DISK_MIB: u32 = 300;
const VALUE_BYTES: usize = 256 << 10;

#[tokio::test]
async fn full_disk_loses_nothing_acknowledged() {
    let test = "full_disk_loses_nothing_acknowledged";
    if needs(test, "unshare").is_none() || needs(test, "nsenter").is_none() {
        return;
    }
    let mut server = Server::prepared(&["--disk-reserve-bytes=0"]);
    std::fs::create_dir(server.data_dir()).unwrap();
    let Some(disk) = SmallDisk::mount(&server.data_dir(), DISK_MIB) else {
        skip(test, "namespaces to mount in");
        return;
    };
    server.wrap(disk.enter());
    server.run();
    let client = server.client().await;
    let value = "x".repeat(VALUE_BYTES);
    let mut acknowledged = Vec::new();
    let refused = loop {
        let key = format!("disk/{:06}", acknowledged.len());
        match client.try_put(put(&key, &value)).await {
            Ok(answer) => acknowledged.push((key, header_revision(&answer.header))),
            Err(status) => break status,
        }
        assert!(
            acknowledged.len() * VALUE_BYTES < (DISK_MIB as usize) << 20,
            "more acknowledged than the disk holds"
        );
    };
    let told = || server.log().to_lowercase().contains("no space left");
    wait_until("the log says that the disk is full", told);
    // It may stop or stay to serve reads, but it must not acknowledge again by itself.
    if !server.has_ended() {
        client.try_put(put("disk/again", &value)).await.unwrap_err();
    }
    if !server.has_ended() {
        server.kill();
    } else {
        let status = server.wait_for_exit();
        assert!(!status.success(), "{status} after {refused}");
    }

    disk.resize(DISK_MIB * 4);
    server.run();
    let client = server.client().await;
    for (key, revision) in &acknowledged {
        let kvs = client.range(get(key)).await.kvs;
        assert_eq!(kvs.len(), 1, "{key} was acknowledged at revision {revision}");
        assert_eq!(
            (kvs[0].mod_revision, kvs[0].value.len()),
            (*revision, VALUE_BYTES)
        );
    }
    client.put("disk/after", "1").await;
}
