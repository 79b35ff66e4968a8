//! A scheduler: binds each pod that has no node to the node with the fewest pods among those where it fits, and says of a
//! pod that fits nowhere why. Of several schedulers that run, the one that holds the Lease works.
//!
//! ```text
//! cargo run -p apiserver --example scheduler -- http://127.0.0.1:8080
//! ```

pub(crate) mod election;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Taint, Toleration};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{Controller, WatchStreamExt as _, watcher};
use kube::{Api, Client, Config, Resource as _, ResourceExt as _};
use serde_json::json;

use election::Election;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let client = Client::try_from(Config::new(url.parse()?))?;
    let identity = format!("scheduler-{}", std::process::id());
    let mut election = Election::new(client.clone(), "kube-system", "example-scheduler", &identity);
    match election.lead(run(client)).await? {
        Some(()) => Ok(()),
        None => Err("another scheduler has the lease".into()),
    }
}

struct Scheduler {
    client: Client,
    pods: Store<Pod>,
    nodes: Store<Node>,
    /// Pods (by uid) that were bound to a node, which is not yet seen in `pods`. Without it a burst of pods would all go
    /// to the node that was the emptiest before.
    assumed: Mutex<BTreeMap<String, String>>,
    recorder: Recorder,
}

/// Schedules pods, for ever.
pub(crate) async fn run(client: Client) {
    let (nodes, writer) = reflector::store();
    let node_events = watcher(Api::<Node>::all(client.clone()), watcher::Config::default()).default_backoff();
    // What did not fit may fit after any change of a node.
    let node_changes = reflector::reflector(writer, node_events)
        .touched_objects()
        .filter_map(|change| std::future::ready(change.ok().map(drop)));
    let unfinished = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let controller = Controller::new(Api::<Pod>::all(client.clone()), unfinished);
    let scheduler = Arc::new(Scheduler {
        pods: controller.store(),
        nodes,
        assumed: Mutex::default(),
        recorder: Recorder::new(client.clone(), NAME.into()),
        client,
    });
    controller
        .reconcile_all_on(node_changes)
        .run(schedule, retry, scheduler)
        .for_each(|_| std::future::ready(()))
        .await;
}

/// Finds a node for a pod that has none.
async fn schedule(pod: Arc<Pod>, scheduler: Arc<Scheduler>) -> Result<Action, kube::Error> {
    let Some(spec) = &pod.spec else {
        return Ok(Action::await_change());
    };
    let ours = spec.scheduler_name.as_deref().is_none_or(|name| name == NAME);
    if spec.node_name.is_some() || pod.metadata.deletion_timestamp.is_some() || !ours {
        return Ok(Action::await_change());
    }
    // Without nodes at all every pod would be called unschedulable at the start. The store is only dropped at the end.
    if scheduler.nodes.wait_until_ready().await.is_err() {
        return Ok(Action::await_change());
    }
    match scheduler.choose(&pod, spec) {
        Ok(node) => scheduler.bind(&pod, &node).await?,
        Err(why) => scheduler.refuse(&pod, &why).await?,
    }
    Ok(Action::await_change())
}

impl Scheduler {
    /// The node with the fewest pods among those where the pod fits, or why there is none.
    fn choose(&self, pod: &Pod, spec: &PodSpec) -> Result<String, String> {
        let pods = self.pods.state();
        let nodes = self.nodes.state();
        let mut assumed = self.assumed.lock().unwrap_or_else(PoisonError::into_inner);
        assumed.retain(|uid, _| {
            let seen = pods.iter().find(|pod| pod.uid().as_ref() == Some(uid));
            seen.is_some_and(|pod| node_of(pod).is_none())
        });
        let uid = pod.uid().unwrap_or_default();
        if let Some(node) = assumed.get(&uid) {
            return Ok(node.clone());
        }
        let mut used: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for other in &pods {
            let assumed = || other.uid().and_then(|uid| assumed.get(&uid)).map(String::as_str);
            if let Some(node) = node_of(other).or_else(assumed) {
                let (count, cpu) = used.entry(node).or_default();
                *count += 1;
                *cpu += other.spec.as_ref().map_or(0, requested_cpu);
            }
        }
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        let mut best: Option<(i64, String)> = None;
        for node in &nodes {
            let name = node.name_any();
            let (count, cpu) = used.get(name.as_str()).copied().unwrap_or_default();
            match obstacle(node, spec, count, cpu) {
                Some(reason) => *reasons.entry(reason).or_default() += 1,
                None => {
                    let this = (count, name);
                    best = Some(best.map_or_else(|| this.clone(), |best| best.min(this.clone())));
                }
            }
        }
        if let Some((_, name)) = best {
            assumed.insert(uid, name.clone());
            return Ok(name);
        }
        let reasons: Vec<String> = reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        let why = format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", "));
        Err(why)
    }

    async fn bind(&self, pod: &Pod, node: &str) -> Result<(), kube::Error> {
        let name = pod.name_any();
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "uid": pod.uid()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let bound: Result<Status, _> = self
            .pods_of(pod)
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await;
        if let Err(error) = bound {
            let uid = pod.uid().unwrap_or_default();
            let mut assumed = self.assumed.lock().unwrap_or_else(PoisonError::into_inner);
            assumed.remove(&uid);
            return Err(error);
        }
        println!("pod {name} goes to {node}");
        Ok(())
    }

    /// Notes in the pod and in an event that it fits nowhere.
    async fn refuse(&self, pod: &Pod, why: &str) -> Result<(), kube::Error> {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let mut noted = conditions.into_iter().flatten();
        if noted.any(|noted| noted.type_ == "PodScheduled" && noted.message.as_deref() == Some(why)) {
            return Ok(());
        }
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": why,
            "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        let status = json!({"status": {"conditions": [condition]}});
        let name = pod.name_any();
        self.pods_of(pod)
            .patch_status(&name, &PatchParams::default(), &Patch::Strategic(status))
            .await?;
        let event = Event {
            type_: EventType::Warning,
            reason: "FailedScheduling".to_owned(),
            note: Some(why.to_owned()),
            action: "Scheduling".to_owned(),
            secondary: None,
        };
        self.recorder.publish(&event, &pod.object_ref(&())).await
    }

    fn pods_of(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default())
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Why a pod cannot go to a node that has `count` pods which ask for `cpu`, in the words of Kubernetes' scheduler.
fn obstacle(node: &Node, pod: &PodSpec, count: i64, cpu: i64) -> Option<&'static str> {
    let spec = node.spec.clone().unwrap_or_default();
    if spec.unschedulable == Some(true) {
        return Some("node(s) were unschedulable");
    }
    let labels = node.labels();
    let mut wanted = pod.node_selector.iter().flatten();
    if !wanted.all(|(label, value)| labels.get(label) == Some(value)) {
        return Some("node(s) didn't match Pod's node affinity/selector");
    }
    let tolerations = pod.tolerations.as_deref().unwrap_or_default();
    let mut taints = spec
        .taints
        .iter()
        .flatten()
        .filter(|taint| taint.effect != "PreferNoSchedule");
    if !taints.all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint))) {
        return Some("node(s) had untolerated taint(s)");
    }
    let allocatable = node
        .status
        .as_ref()
        .and_then(|status| status.allocatable.as_ref());
    let room = |what: &str| allocatable.and_then(|sizes| thousandths(&sizes.get(what)?.0));
    if room("pods").is_some_and(|pods| (count + 1) * 1000 > pods) {
        return Some("Too many pods");
    }
    if room("cpu").is_some_and(|room| cpu + requested_cpu(pod) > room) {
        return Some("Insufficient cpu");
    }
    None
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value = toleration.value.as_deref().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || (key.is_empty() && exists))
        && (exists || value == taint.value.as_deref().unwrap_or_default())
}

/// The processor time that a pod's containers ask for, in thousandths of a core.
fn requested_cpu(pod: &PodSpec) -> i64 {
    let requests = pod.containers.iter().filter_map(|container| {
        let requests = container.resources.as_ref()?.requests.as_ref()?;
        thousandths(&requests.get("cpu")?.0)
    });
    requests.sum()
}

/// `2`, `0.5` and `500m`, which is all that amounts of cores and of pods are written as.
fn thousandths(quantity: &str) -> Option<i64> {
    match quantity.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().ok(),
        None => Some((quantity.parse::<f64>().ok()? * 1000.0).ceil() as i64),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as a controller calls it")]
fn retry(pod: Arc<Pod>, error: &kube::Error, _: Arc<Scheduler>) -> Action {
    eprintln!("pod {}: {error}", pod.name_any());
    Action::requeue(Duration::from_secs(1))
}

/// The name by which pods ask for this scheduler.
const NAME: &str = "default-scheduler";
