//! What the program writes is for its own user alone, whatever umask it was started with: a life of everything, then a
//! walk over all that it left.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::tls::Hello;
use crate::harness::*;

/// Started with these, files would be everybody's, or not even their owner's.
const UMASKS: [&str; 3] = ["000", "022", "0277"];

#[tokio::test]
async fn whatever_is_written_is_private() {
    if !runs_taffrail() {
        return; // another program keeps its own rules
    }
    for umask in UMASKS {
        let mut server = Server::prepared(&[
            "--snapshot-count=20",
            "--auto-tls",
            "--peer-auto-tls",
            "--enable-log-rotation",
            "--log-rotation-config-json={\"maxsize\":1}",
        ]);
        server.wrap(with_umask(umask));
        let logs = server.scratch_dir().join("log");
        fs::create_dir(&logs).unwrap();
        server.add_flag(&format!("--log-outputs={}", logs.join("etcd.log").display()));
        let socket = server.scratch_dir().join("client.sock");
        let (plain, tls) = (server.endpoint(), Ports::reserve());
        server.add_flag(&format!(
            "--listen-client-urls={plain},https://127.0.0.1:{},unix://{}",
            tls.client,
            socket.display()
        ));
        server.run();
        let hello = Hello::offering(&["h2"]);
        hello.connect(([127, 0, 0, 1], tls.client).into()).await.unwrap();
        live(&server).await;
        let (status, _) = server.terminate();
        assert!(status.success(), "umask {umask}: {status}");
        server.run();
        let client = server.client().await;
        assert_eq!(pairs(&client.range(get("k0")).await.kvs), ["k0=v"]);
        let backup = server.scratch_dir().join("backup/whole.db");
        fs::create_dir(backup.parent().unwrap()).unwrap();
        let endpoint = server.endpoint();
        run(
            umask,
            &[
                "ctl",
                "--endpoints",
                &endpoint,
                "snapshot",
                "save",
                &text(&backup),
            ],
        );
        let restored = server.scratch_dir().join("restored");
        run(
            umask,
            &[
                "snapshot",
                "restore",
                &text(&backup),
                "--data-dir",
                &text(&restored),
            ],
        );
        server.kill();
        for directory in [&server.data_dir(), &restored] {
            assert_eq!(mode(directory), 0o700, "umask {umask}: {}", directory.display());
        }
        let seen =
            [&server.data_dir(), &restored, &logs, backup.parent().unwrap()].map(|root| judge(umask, root));
        assert!(seen.iter().all(|&files| files > 0) && seen[0] > 8, "{seen:?}");
        // How clients come in is the operator's to say, and his umask says it.
        let bits = u32::from_str_radix(umask, 8).unwrap();
        assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
        assert_eq!(mode(&socket), 0o777 & !bits, "umask {umask}");
    }
}

/// Something of everything: history, leases, a compaction, snapshot files, checkpoints.
async fn live(server: &Server) {
    let client = server.client().await;
    let lease = client.grant(3600).await;
    for round in 0..100 {
        let mut request = put(&format!("k{}", round % 10), "v");
        request.lease = lease * i64::from(round % 2 == 0);
        client.put_with(request).await;
    }
    let revision = client.revision().await;
    client.compact(revision - 10).await;
    let snapshots = server.data_dir().join("member/snap");
    wait_until("a snapshot file", || {
        fs::read_dir(&snapshots).is_ok_and(|mut entries| entries.next().is_some())
    });
}

/// Runs the program, and expects it to succeed.
fn run(umask: &str, arguments: &[&str]) {
    let wrapper = with_umask(umask);
    let (first, rest) = wrapper.split_first().unwrap();
    let output = Command::new(first)
        .args(rest)
        .arg(program())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

fn with_umask(umask: &str) -> Vec<String> {
    let script = format!("umask {umask}; exec \"$@\"");
    ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

/// The number of files below `root`, each of which is its owner's to read and to write, and nobody else's.
fn judge(umask: &str, root: &Path) -> usize {
    let mut files = 0;
    let mut directories: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let expected = if kind.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&path), expected, "umask {umask}: {}", path.display());
            if kind.is_dir() {
                directories.push(path);
            } else {
                files += 1;
            }
        }
    }
    files
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn an_open_data_directory_is_told_of() {
    let mut server = Server::prepared(&[]);
    fs::create_dir(server.data_dir()).unwrap();
    fs::set_permissions(server.data_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    server.run();
    let told =
        "exist, but the permission is \\\"drwxr-xr-x\\\". The recommended permission is \\\"-rwx------\\\"";
    assert!(server.log().contains(told), "{}", server.log());
}
