//! Keeps as many pods as a ReplicaSet asks for.

use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;

pub(crate) async fn run(client: Client) {
    Controller::new(Api::<ReplicaSet>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Pod>::all(client.clone()), watcher::Config::default())
        .run(reconcile, super::retry, Arc::new(client))
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn reconcile(set: Arc<ReplicaSet>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let namespace = set.namespace().unwrap_or_default();
    let sets = Api::<ReplicaSet>::namespaced(client.as_ref().clone(), &namespace);
    // What the watch has told may have been scaled since.
    let Some(set) = sets.get_opt(&set.name_any()).await? else {
        return Ok(Action::await_change());
    };
    let Some(spec) = set
        .spec
        .as_ref()
        .filter(|_| set.metadata.deletion_timestamp.is_none())
    else {
        return Ok(Action::await_change());
    };
    let pods = Api::<Pod>::namespaced(client.as_ref().clone(), &namespace);
    let mut live = super::controlled(&pods, &set, &spec.selector).await?;
    live.retain(|pod| pod.metadata.deletion_timestamp.is_none() && !has_finished(pod));

    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default();
    let template = spec.template.clone().unwrap_or_default();
    for _ in live.len()..wanted {
        let pod = pods
            .create(&PostParams::default(), &pod_of(&set, &template))
            .await?;
        println!("created Pod {}", pod.name_any());
        live.push(pod);
    }
    // Those go first that serve the least: without a node, then not ready, then the youngest.
    live.sort_by_key(|pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        (node.is_none(), !is_ready(pod), pod.creation_timestamp())
    });
    for pod in live.drain(wanted..) {
        super::delete(&pods, &pod).await?;
    }

    let ready = live.iter().filter(|pod| is_ready(pod)).count();
    let status = json!({"status": {
        "replicas": live.len(),
        "fullyLabeledReplicas": live.len(),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "observedGeneration": set.metadata.generation,
    }});
    // A patch that changes nothing writes nothing, so that this does not call itself for ever.
    sets.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(status))
        .await?;
    Ok(Action::await_change())
}

fn pod_of(set: &ReplicaSet, template: &PodTemplateSpec) -> Pod {
    let metadata = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            labels: metadata.labels,
            annotations: metadata.annotations,
            owner_references: Some(set.controller_owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

fn has_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
