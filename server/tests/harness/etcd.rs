//! A real etcd, where one is on the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Ports, http_get, wait_until};

/// A real etcd of one member, on the folder `etcd` of a scratch folder; killed when dropped.
pub(crate) struct Etcd {
    child: Child,
    pub(crate) endpoint: String,
    pub(crate) dir: PathBuf,
}

impl Etcd {
    pub(crate) fn start(program: &Path, scratch: &Path, ports: &Ports) -> Etcd {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let dir = scratch.join("etcd");
        let log = fs::File::create(scratch.join("etcd.log")).expect("a log file can be made");
        let (client, peer) = (url(ports.client), url(ports.peer));
        let child = Command::new(program)
            .args(["--data-dir", dir.to_str().expect("a path of text")])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd can be run");
        let etcd = Etcd {
            child,
            endpoint: client,
            dir,
        };
        let address = ([127, 0, 0, 1], ports.client).into();
        wait_until("etcd serves", || {
            http_get(address, "/health").is_some_and(|answer| answer.status == 200)
        });
        etcd
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}
