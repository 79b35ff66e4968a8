//! The adapter's examples together: nodes that are not there, a scheduler, and the loops that make pods of Deployments.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{Condition as _, conditions};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::*;
use crate::{client_of, nodes, replicas, scheduler, until};

/// A server on which all loops run, until it is dropped.
struct Plane {
    client: Client,
    pods: Api<Pod>,
    deployments: Api<Deployment>,
    sets: Api<ReplicaSet>,
    _loops: JoinSet<()>,
    _kubernetes: Kubernetes,
}

impl Plane {
    async fn start() -> Plane {
        let kubernetes = Kubernetes::start().await;
        let client = client_of(&kubernetes);
        let mut loops = JoinSet::new();
        let kubelet = client.clone();
        loops.spawn(async { nodes::run(kubelet, 3).await.expect("the nodes are registered") });
        loops.spawn(scheduler::run(client.clone()));
        loops.spawn(replicas::run(client.clone()));
        Plane {
            pods: Api::default_namespaced(client.clone()),
            deployments: Api::default_namespaced(client.clone()),
            sets: Api::default_namespaced(client.clone()),
            client,
            _loops: loops,
            _kubernetes: kubernetes,
        }
    }

    async fn deploy(&self, name: &str, replicas: i32) {
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "app", "image": "app:1"}]},
                },
            },
        });
        let deployment = serde_json::from_value(deployment).unwrap();
        self.deployments
            .create(&PostParams::default(), &deployment)
            .await
            .unwrap();
    }

    async fn pods_of(&self, name: &str) -> Vec<Pod> {
        let of_this = ListParams::default().labels(&format!("app={name}"));
        self.pods.list(&of_this).await.unwrap().items
    }

    /// Waits until the Deployment says that all is done, and exactly so many pods run, of this image.
    async fn wait_for(&self, name: &str, replicas: usize, image: &str) -> Vec<Pod> {
        until(&format!("{replicas} pods of {name} run {image}"), async || {
            let deployment = self.deployments.get(name).await.unwrap();
            let pods = self.pods_of(name).await;
            let status = deployment.status.clone().unwrap_or_default();
            let is_done = conditions::is_deployment_completed().matches_object(Some(&deployment))
                && status.observed_generation == deployment.metadata.generation
                && status.available_replicas.unwrap_or_default() as usize == replicas;
            let run = pods.len() == replicas
                && pods.iter().all(|pod| {
                    let spec = pod.spec.as_ref().unwrap();
                    spec.containers[0].image.as_deref() == Some(image)
                        && conditions::is_pod_running().matches_object(Some(pod))
                });
            (is_done && run).then_some(pods)
        })
        .await
    }
}

#[tokio::test]
async fn a_deployment_becomes_pods_that_run_on_nodes() {
    let plane = Plane::start().await;
    plane.deploy("web", 6).await;
    let pods = plane.wait_for("web", 6, "app:1").await;
    // Two on each of the three nodes, and each has an owner and an address of its own.
    let mut on_nodes: BTreeMap<String, usize> = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for pod in &pods {
        *on_nodes
            .entry(pod.spec.as_ref().unwrap().node_name.clone().unwrap())
            .or_default() += 1;
        addresses.insert(
            pod.status.as_ref().unwrap().pod_ip.clone().unwrap(),
            pod.name_any(),
        );
        let owners = pod.owner_references();
        assert_eq!((owners.len(), owners[0].kind.as_str()), (1, "ReplicaSet"));
    }
    let expected: BTreeMap<String, usize> = (0..3).map(|node| (format!("fake-{node}"), 2)).collect();
    assert_eq!(on_nodes, expected);
    assert_eq!(addresses.len(), 6);

    for replicas in [9, 2, 0, 3] {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        plane
            .deployments
            .patch_scale("web", &PatchParams::default(), &patch)
            .await
            .unwrap();
        plane.wait_for("web", replicas, "app:1").await;
    }

    // A pod that is removed is replaced.
    let removed = plane.pods_of("web").await.remove(0);
    plane
        .pods
        .delete(&removed.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    until("another pod has its place", async || {
        let pods = plane.wait_for("web", 3, "app:1").await;
        pods.iter().all(|pod| pod.uid() != removed.uid()).then_some(())
    })
    .await;

    plane
        .deployments
        .delete("web", &DeleteParams::background())
        .await
        .unwrap();
    until("sets and pods go with their owner", async || {
        let sets = plane.sets.list(&ListParams::default()).await.unwrap().items;
        (sets.is_empty() && plane.pods_of("web").await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_template_takes_over() {
    let plane = Plane::start().await;
    plane.deploy("web", 3).await;
    plane.wait_for("web", 3, "app:1").await;
    for (image, revision) in [("app:2", "2"), ("app:3", "3")] {
        let containers = json!([{"name": "app", "image": image}]);
        let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
        plane
            .deployments
            .patch("web", &PatchParams::default(), &patch)
            .await
            .unwrap();
        plane.wait_for("web", 3, image).await;
        let sets = plane.sets.list(&ListParams::default()).await.unwrap().items;
        let wanted = |set: &ReplicaSet| set.spec.as_ref().unwrap().replicas;
        let newest: Vec<&ReplicaSet> = sets.iter().filter(|set| wanted(set) == Some(3)).collect();
        assert_eq!(newest.len(), 1);
        assert_eq!(
            newest[0].annotations()["deployment.kubernetes.io/revision"],
            revision
        );
        assert_eq!(
            sets.iter().filter(|set| wanted(set) == Some(0)).count(),
            sets.len() - 1
        );
    }
}

#[tokio::test]
async fn a_pod_goes_only_where_it_fits() {
    let plane = Plane::start().await;
    let nodes = Api::<Node>::all(plane.client.clone());
    until("three nodes are ready", async || {
        let ready = nodes.list(&ListParams::default()).await.unwrap().items;
        (ready
            .iter()
            .filter(|node| {
                node.status
                    .as_ref()
                    .is_some_and(|status| status.allocatable.is_some())
            })
            .count()
            == 3)
            .then_some(())
    })
    .await;
    let change = async |node: &str, patch: Value| {
        nodes
            .patch(node, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    };
    change("fake-0", json!({"spec": {"unschedulable": true}})).await;
    let taint = json!([{"key": "only", "value": "some", "effect": "NoSchedule"}]);
    change("fake-1", json!({"spec": {"taints": taint}})).await;
    change("fake-2", json!({"metadata": {"labels": {"disk": "slow"}}})).await;

    let make = async |name: &str, spec: Value| {
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "app", "image": "app"}]},
        });
        for (field, value) in spec.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        let pod = serde_json::from_value(pod).unwrap();
        plane.pods.create(&PostParams::default(), &pod).await.unwrap();
    };
    let cpu = |cores: &str| json!({"containers": [{"name": "app", "image": "app", "resources": {"requests": {"cpu": cores}}}]});
    let node_of = async |name: &str| {
        until(&format!("{name} has a node"), async || {
            plane.pods.get(name).await.unwrap().spec.unwrap().node_name
        })
        .await
    };
    let refusal_of = async |name: &str| {
        until(&format!("{name} is refused"), async || {
            let status = plane.pods.get(name).await.unwrap().status.unwrap();
            let mut conditions = status.conditions.unwrap_or_default().into_iter();
            let refused = conditions.find(|condition| condition.reason.as_deref() == Some("Unschedulable"));
            refused.and_then(|refused| refused.message)
        })
        .await
    };
    make("plain", json!({})).await;
    assert_eq!(node_of("plain").await, "fake-2");
    make(
        "tolerant",
        json!({"tolerations": [{"key": "only", "operator": "Exists"}]}),
    )
    .await;
    assert_eq!(node_of("tolerant").await, "fake-1");
    make("large", cpu("7500m")).await;
    assert_eq!(node_of("large").await, "fake-2");
    make("too-large", cpu("1")).await;
    assert_eq!(
        refusal_of("too-large").await,
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."
    );
    make("picky", json!({"nodeSelector": {"disk": "fast"}})).await;
    refusal_of("picky").await;
    let events = Api::<Event>::default_namespaced(plane.client.clone());
    until("an event tells of it", async || {
        let of_picky = ListParams::default().fields("involvedObject.name=picky,reason=FailedScheduling");
        events.list(&of_picky).await.unwrap().items.pop()
    })
    .await;

    // What changes at a node is heard of by those that wait.
    change(
        "fake-0",
        json!({"metadata": {"labels": {"disk": "fast"}}, "spec": {"unschedulable": null}}),
    )
    .await;
    assert_eq!(node_of("picky").await, "fake-0");
    assert_eq!(node_of("too-large").await, "fake-0");
}
