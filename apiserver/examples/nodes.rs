//! Nodes that are not there: each is registered as a kubelet would do it and renews its lease, and a pod that is bound to
//! one is said to run, or to have succeeded if it is not to run always. Nothing is started; it is what a scheduler and
//! controllers need to be looked at without machines.
//!
//! ```text
//! cargo run -p apiserver --example nodes -- http://127.0.0.1:8080 3
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let url = words.next().unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let count = words.next().map_or(Ok(3), |count| count.parse())?;
    let client = Client::try_from(Config::new(url.parse()?))?;
    run(client, count).await?;
    Ok(())
}

/// Registers nodes `fake-0`, `fake-1`, ... and runs what is bound to any node, for ever.
pub(crate) async fn run(client: Client, count: usize) -> Result<(), kube::Error> {
    let names: Vec<String> = (0..count).map(|number| format!("fake-{number}")).collect();
    for name in &names {
        register(&client, name).await?;
    }
    let pods = Api::<Pod>::all(client.clone());
    let kubelet = Arc::new(Kubelet {
        client: client.clone(),
        addresses: AtomicU32::new(1),
    });
    let running = Controller::new(pods, watcher::Config::default().fields("spec.nodeName!="))
        .run(reconcile, retry, kubelet)
        .for_each(|_| std::future::ready(()));
    tokio::select! {
        () = running => {}
        () = stay_alive(&client, &names) => {}
    }
    Ok(())
}

/// Renews the lease of every node, for ever; a controller takes a node whose lease is old for lost.
async fn stay_alive(client: &Client, names: &[String]) {
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    let ours = PatchParams::apply(MANAGER).force();
    loop {
        for name in names {
            let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name},
                "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
            });
            if let Err(error) = leases.patch(name, &ours, &Patch::Apply(lease)).await {
                eprintln!("lease of node {name}: {error}");
            }
        }
        tokio::time::sleep(RENEWED_EACH).await;
    }
}

/// Makes a node, or takes over the one of this name, and says that it is ready.
async fn register(client: &Client, name: &str) -> Result<(), kube::Error> {
    let nodes = Api::<Node>::all(client.clone());
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
    });
    let ours = PatchParams::apply(MANAGER).force();
    nodes.patch(name, &ours, &Patch::Apply(node)).await?;
    let size = json!({"cpu": "8", "memory": "32Gi", "pods": "110"});
    let status = json!({"status": {
        "capacity": size,
        "allocatable": size,
        "nodeInfo": {"kubeletVersion": "v1.36.0-fake", "operatingSystem": "linux"},
        "conditions": [condition("Ready", "KubeletReady")],
    }});
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Strategic(status))
        .await?;
    println!("node {name} is ready");
    Ok(())
}

struct Kubelet {
    client: Client,
    /// How many addresses were given to pods.
    addresses: AtomicU32,
}

/// A pod that is to end is removed, any other one runs.
async fn reconcile(pod: Arc<Pod>, kubelet: Arc<Kubelet>) -> Result<Action, kube::Error> {
    let name = pod.name_any();
    let pods = Api::<Pod>::namespaced(kubelet.client.clone(), &pod.namespace().unwrap_or_default());
    if pod.metadata.deletion_timestamp.is_some() {
        // Another pod of this name, made meanwhile, is not meant.
        let this_one = Preconditions {
            uid: pod.uid(),
            resource_version: None,
        };
        let at_once = DeleteParams::default().grace_period(0).preconditions(this_one);
        pods.delete(&name, &at_once).await?;
        println!("pod {name} has ended");
        return Ok(Action::await_change());
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let always = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref())
        .is_none_or(|policy| policy == "Always");
    let status = match phase {
        Some("Succeeded" | "Failed") => return Ok(Action::await_change()),
        Some("Running") if always => return Ok(Action::await_change()),
        Some("Running") => json!({"phase": "Succeeded"}),
        _ => running(&pod, kubelet.addresses.fetch_add(1, Ordering::Relaxed)),
    };
    let word = status["phase"].as_str().unwrap_or_default().to_lowercase();
    let status = json!({"status": status});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status))
        .await?;
    println!("pod {name}: {word}");
    Ok(Action::await_change())
}

/// The status of a pod all of whose containers have started.
fn running(pod: &Pod, number: u32) -> Value {
    let now = Timestamp::now();
    let containers = pod.spec.as_ref().map_or(&[][..], |spec| &spec.containers);
    let containers: Vec<Value> = containers
        .iter()
        .map(|container| {
            json!({
                "name": container.name,
                "image": container.image,
                "imageID": "",
                "ready": true,
                "started": true,
                "restartCount": 0,
                "state": {"running": {"startedAt": seconds(now)}},
            })
        })
        .collect();
    let [_, high, middle, low] = number.to_be_bytes();
    let address = format!("10.{high}.{middle}.{low}");
    json!({
        "phase": "Running",
        "startTime": seconds(now),
        "podIP": address,
        "podIPs": [{"ip": address}],
        "containerStatuses": containers,
        "conditions": [
            condition("Initialized", ""),
            condition("ContainersReady", ""),
            condition("Ready", ""),
        ],
    })
}

fn condition(kind: &str, reason: &str) -> Value {
    let now = seconds(Timestamp::now());
    json!({"type": kind, "status": "True", "reason": reason, "lastTransitionTime": now})
}

/// A time as the API writes it.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A pod that was changed or removed meanwhile is looked at again.
#[expect(clippy::needless_pass_by_value, reason = "as a controller calls it")]
fn retry(pod: Arc<Pod>, error: &kube::Error, _: Arc<Kubelet>) -> Action {
    if !matches!(error, kube::Error::Api(status) if status.is_not_found()) {
        eprintln!("pod {}: {error}", pod.name_any());
    }
    Action::requeue(Duration::from_secs(1))
}

const MANAGER: &str = "fake-nodes";

/// As a kubelet renews its lease.
const RENEWED_EACH: Duration = Duration::from_secs(10);
