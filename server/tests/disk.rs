//! A full disk: the process says so and acknowledges no more, and nothing acknowledged is lost. The disk is a small
//! memory file system in a namespace of its own, which ends with the test.

mod harness;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::*;

/// A process that holds a mount namespace in which `dir` is a small file system.
struct SmallDisk {
    holder: Child,
    dir: PathBuf,
}

impl SmallDisk {
    /// Nothing where the system does not let us make namespaces.
    fn mount(dir: &Path, mebibytes: u32) -> Option<SmallDisk> {
        let mount = format!(
            "mount -t tmpfs -o size={mebibytes}m tmpfs {} && echo mounted && exec cat",
            dir.display()
        );
        let mut holder = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", &mount])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(holder.stdout.take().expect("the output is a pipe"));
        std::io::BufRead::read_line(&mut stdout, &mut line).expect("the output is text");
        if line == "mounted\n" {
            return Some(SmallDisk {
                holder,
                dir: dir.to_owned(),
            });
        }
        let _ = holder.kill();
        let _ = holder.wait();
        None
    }

    /// What runs a program inside.
    fn enter(&self) -> Vec<String> {
        let target = self.holder.id().to_string();
        [
            "nsenter",
            "--target",
            &target,
            "--user",
            "--mount",
            "--preserve-credentials",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn resize(&self, mebibytes: u32) {
        let enter = self.enter();
        let status = Command::new(&enter[0])
            .args(&enter[1..])
            .args(["mount", "-o", &format!("remount,size={mebibytes}m")])
            .arg(&self.dir)
            .status()
            .expect("nsenter can be run");
        assert!(status.success(), "the disk can be enlarged");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

const DISK_MIB: u32 = 300;
const VALUE_BYTES: usize = 256 << 10;

#[tokio::test]
async fn full_disk_loses_nothing_acknowledged() {
    let test = "full_disk_loses_nothing_acknowledged";
    if needs(test, "unshare").is_none() || needs(test, "nsenter").is_none() {
        return;
    }
    let mut server = Server::prepared(&[]);
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
