//! The Kubernetes adapter beside a member (`taffrail --apiserver-listen`) and alone (`taffrail apiserver`): with programs
//! that are clients of Kubernetes (kubectl, the Python client, kube-rs, the control loops that are the adapter's examples),
//! and in trouble: without its store, killed, and with clients that mean no good.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../clients/script.rs"]
mod script;

mod alone;
mod answers;
mod asking;
mod bodies;
mod control_plane;
mod killed;
mod kube_loops;
mod kube_python;
mod kube_rs;
mod kubectl;
mod limits;
mod quorum;
mod several;
mod tls;

#[allow(dead_code, reason = "an example, whose start is not used")]
#[path = "../../../apiserver/examples/nodes.rs"]
mod nodes;
#[allow(dead_code, reason = "an example, whose start is not used")]
#[path = "../../../apiserver/examples/replicas/main.rs"]
mod replicas;
#[allow(dead_code, reason = "an example, whose start is not used")]
#[path = "../../../apiserver/examples/scheduler/main.rs"]
mod scheduler;

use kube::{Client, Config};

use harness::*;

/// kube-rs' client of a server.
fn client_of(kubernetes: &Kubernetes) -> Client {
    let url = kubernetes.url().parse().expect("a URL");
    Client::try_from(Config::new(url)).expect("a client over plain HTTP")
}

/// Asks again until there is an answer.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(LOOPS_PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("not after {LOOPS_PATIENCE:?}: {what}"),
    }
}

/// Several loops hand work to each other, on a machine that does other things too.
const LOOPS_PATIENCE: std::time::Duration = PATIENCE.saturating_mul(3);
