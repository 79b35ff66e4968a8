//! Kubernetes' own scheduler and controller manager on the adapter, with nodes that are not there: what kubectl sees of
//! their work is written down in `control_plane/session.txt`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};

use crate::harness::*;
use crate::kubectl::Sessions;
use crate::{client_of, nodes};

/// Building both programs takes a 2-core machine some ten minutes and 3 GB of Go's cache.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "builds Kubernetes' scheduler and controllers"]
async fn kubernetes_own_scheduler_and_controllers() {
    let test = "control_plane::kubernetes_own_scheduler_and_controllers";
    let (Some(kubectl), Some(program)) = (needs_newest_kubectl(test), needs_control_plane(test)) else {
        return;
    };
    let kubernetes = Kubernetes::start().await;
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let config = scratch.path().join("kubeconfig");
    fs::write(&config, kubeconfig(&kubernetes)).expect("the directory is writable");

    let kubelets = tokio::spawn(nodes::run(client_of(&kubernetes), 3));
    let _scheduler = Program::start(&program, scratch.path(), "scheduler", &config, &[]);
    // Signs the tokens of service accounts.
    let authority = tls::Authority::new();
    let signing = authority.issue("service-accounts", 1, &[]);
    let key = format!(
        "--service-account-private-key-file={}",
        signing.key_file.display()
    );
    let _controllers = Program::start(&program, scratch.path(), "controllers", &config, &[&key]);

    let sessions = Sessions {
        version: "1.37",
        client: kubectl,
        directory: "tests/kubernetes/control_plane",
        patience: PATIENCE.saturating_mul(4),
    };
    sessions.run(test, &kubernetes, include_str!("control_plane/session.txt"));
    kubelets.abort();
}

/// Where the server is and who calls, as programs of Kubernetes are told.
fn kubeconfig(kubernetes: &Kubernetes) -> String {
    let url = kubernetes.url();
    format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: taffrail, cluster: {{server: '{url}'}}}}]
users: [{{name: anybody, user: {{token: any}}}}]
contexts: [{{name: taffrail, context: {{cluster: taffrail, user: anybody}}}}]
current-context: taffrail
"
    )
}

/// One of the two programs, until it is dropped.
struct Program(Child);

impl Program {
    fn start(program: &Path, scratch: &Path, name: &str, config: &Path, flags: &[&str]) -> Program {
        let log = File::create(scratch.join(format!("{name}.log"))).expect("the directory is writable");
        let child = Command::new(program)
            .arg(name)
            .arg(format!("--kubeconfig={}", config.display()))
            .args(["--secure-port=0", "--leader-elect=true"])
            .args(flags)
            .stderr(log)
            .spawn()
            .expect("the program can be run");
        Program(child)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
