//! Keeps a ReplicaSet for the newest template of a Deployment, and takes the older ones down as its pods get ready.

use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

pub(crate) async fn run(client: Client) {
    Controller::new(Api::<Deployment>::all(client.clone()), watcher::Config::default())
        .owns(Api::<ReplicaSet>::all(client.clone()), watcher::Config::default())
        .run(reconcile, super::retry, Arc::new(client))
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn reconcile(deployment: Arc<Deployment>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let namespace = deployment.namespace().unwrap_or_default();
    let deployments = Api::<Deployment>::namespaced(client.as_ref().clone(), &namespace);
    let Some(deployment) = deployments.get_opt(&deployment.name_any()).await? else {
        return Ok(Action::await_change());
    };
    let is_going = deployment.metadata.deletion_timestamp.is_some();
    let Some(spec) = deployment
        .spec
        .as_ref()
        .filter(|spec| !is_going && spec.paused != Some(true))
    else {
        return Ok(Action::await_change());
    };
    let sets = Api::<ReplicaSet>::namespaced(client.as_ref().clone(), &namespace);
    let mut owned = super::controlled(&sets, &deployment, &spec.selector).await?;
    owned.sort_by_key(|set| std::cmp::Reverse(revision(set)));

    let newest = set_of(&deployment, spec, owned.first().map_or(0, revision));
    let name = newest.name_any();
    let current = match owned.iter().position(|set| set.name_any() == name) {
        Some(place) => owned.remove(place),
        None => {
            println!("created ReplicaSet {name}");
            sets.create(&PostParams::default(), &newest).await?
        }
    };
    let wanted = spec.replicas.unwrap_or(1);
    let recreates = spec
        .strategy
        .as_ref()
        .and_then(|strategy| strategy.type_.as_deref())
        == Some("Recreate");
    let have_ended = owned.iter().all(|set| status_of(set).0 == 0);
    let current = match recreates && !have_ended {
        true => current,
        false => scale(&sets, current, wanted).await?,
    };
    // A pod of an older template may stay for each that the newest one still lacks.
    let (_, ready) = status_of(&current);
    let mut spare = if recreates { 0 } else { (wanted - ready).max(0) };
    let mut all = vec![current];
    for set in owned {
        let keep = spare.min(replicas(&set));
        spare -= keep;
        all.push(scale(&sets, set, keep).await?);
    }
    let status = json!({"status": status(&deployment, &all, wanted)});
    deployments
        .patch_status(
            &deployment.name_any(),
            &PatchParams::default(),
            &Patch::Strategic(status),
        )
        .await?;
    Ok(Action::await_change())
}

async fn scale(sets: &Api<ReplicaSet>, set: ReplicaSet, wanted: i32) -> Result<ReplicaSet, kube::Error> {
    if replicas(&set) == wanted {
        return Ok(set);
    }
    let name = set.name_any();
    println!("scaled ReplicaSet {name} to {wanted}");
    let patch = Patch::Merge(json!({"spec": {"replicas": wanted}}));
    sets.patch(&name, &PatchParams::default(), &patch).await
}

/// The ReplicaSet for the newest template. Its name comes from the template: a template that comes back finds its set.
fn set_of(deployment: &Deployment, spec: &DeploymentSpec, newest_revision: i64) -> ReplicaSet {
    let hash = hash_of(&spec.template);
    let mut template = spec.template.clone();
    let labels = &mut template.metadata.get_or_insert_default().labels;
    let labels = labels.get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    // Two sets of one Deployment must not select each other's pods.
    let mut selector = spec.selector.clone();
    let exact = selector.match_labels.get_or_insert_default();
    exact.insert(HASH.to_owned(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            labels: Some(labels),
            annotations: Some([(REVISION.to_owned(), (newest_revision + 1).to_string())].into()),
            owner_references: Some(deployment.controller_owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            selector,
            template: Some(template),
            min_ready_seconds: None,
        }),
        status: None,
    }
}

/// Ten letters that stand for a template (FNV-1a; letters as in generated names).
fn hash_of(template: &PodTemplateSpec) -> String {
    let text = serde_json::to_vec(template).expect("a template has only texts as keys");
    let mut hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let letters = b"bcdfghjklmnpqrstvwxz2456789";
    let mut word = String::new();
    for _ in 0..10 {
        word.push(char::from(letters[(hash % letters.len() as u64) as usize]));
        hash /= letters.len() as u64;
    }
    word
}

/// The status of a Deployment whose newest set is the first of `sets`.
fn status(deployment: &Deployment, sets: &[ReplicaSet], wanted: i32) -> Value {
    let updated = status_of(&sets[0]).0;
    let all: i32 = sets.iter().map(|set| status_of(set).0).sum();
    let ready: i32 = sets.iter().map(|set| status_of(set).1).sum();
    let is_complete = updated == wanted && all == wanted && ready == wanted;
    let available = match ready >= wanted {
        true => ("True", "MinimumReplicasAvailable"),
        false => ("False", "MinimumReplicasUnavailable"),
    };
    let progress = match is_complete {
        true => ("True", "NewReplicaSetAvailable"),
        false => ("True", "ReplicaSetUpdated"),
    };
    json!({
        "observedGeneration": deployment.metadata.generation,
        "replicas": all,
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": (wanted - ready).max(0),
        "conditions": [
            condition(deployment, "Available", available),
            condition(deployment, "Progressing", progress),
        ],
    })
}

/// A condition, with the times of the one that stands if it says the same.
fn condition(deployment: &Deployment, kind: &str, (status, reason): (&str, &str)) -> Value {
    let stands = deployment
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let mut stands = stands.into_iter().flatten();
    if let Some(same) = stands.find(|condition| {
        condition.type_ == kind && condition.status == status && condition.reason.as_deref() == Some(reason)
    }) {
        return json!(same);
    }
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({"type": kind, "status": status, "reason": reason, "lastUpdateTime": now, "lastTransitionTime": now})
}

/// How many pods a set has, and how many of them are ready.
fn status_of(set: &ReplicaSet) -> (i32, i32) {
    let status = set.status.clone().unwrap_or_default();
    (status.replicas, status.ready_replicas.unwrap_or_default())
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn revision(set: &ReplicaSet) -> i64 {
    let revision = set.annotations().get(REVISION);
    revision
        .and_then(|revision| revision.parse().ok())
        .unwrap_or_default()
}

const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
