//! kube-rs as a client: single calls, watches, the runtime's watcher, reflector and controller, and an election.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams,
    WatchEvent, WatchParams,
};
use kube::core::{GroupVersionKind, Status};
use kube::discovery::{Discovery, Scope};
use kube::runtime::controller::Action;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{Controller, WatchStreamExt as _};
use kube::{Api, Error, Resource as _, ResourceExt};
use proto::etcdserverpb::CompactionRequest;
use serde_json::json;

use crate::harness::*;
use crate::scheduler::election::Election;
use crate::{client_of, until};

#[tokio::test]
async fn objects_of_a_type() {
    let kubernetes = Kubernetes::start().await;
    let maps = Api::<ConfigMap>::default_namespaced(client_of(&kubernetes));
    let created = maps.create(&POST, &map("a", "1")).await.unwrap();
    assert_eq!(created.data, map("a", "1").data);
    assert!(created.uid().is_some() && created.creation_timestamp().is_some());
    assert_eq!(maps.get("a").await.unwrap(), created);
    assert_eq!(maps.get_opt("none").await.unwrap(), None);
    assert_refused(
        maps.get("none").await,
        404,
        "NotFound",
        r#"configmaps "none" not found"#,
    );
    assert_refused(
        maps.create(&POST, &map("a", "1")).await,
        409,
        "AlreadyExists",
        r#"configmaps "a" already exists"#,
    );

    let mut changed = created.clone();
    changed.data = map("a", "2").data;
    let replaced = maps.replace("a", &POST, &changed).await.unwrap();
    assert_eq!(replaced.data, changed.data);
    assert_refused(
        maps.replace("a", &POST, &changed).await,
        409,
        "Conflict",
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to \
         the latest version and try again",
    );
    let metadata = maps.get_metadata("a").await.unwrap();
    assert_eq!(metadata.metadata, replaced.metadata);

    for number in 0..7 {
        let mut map = map(&format!("paged-{number}"), "0");
        map.labels_mut().insert("paged".to_owned(), "yes".to_owned());
        maps.create(&POST, &map).await.unwrap();
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = ListParams::default()
            .labels("paged=yes")
            .limit(3)
            .continue_token(&token);
        let page = maps.list(&page).await.unwrap();
        assert!(page.items.len() <= 3);
        names.extend(page.items.iter().map(ResourceExt::name_any));
        token = page.metadata.continue_.unwrap_or_default();
        if token.is_empty() {
            break;
        }
    }
    let expected: Vec<String> = (0..7).map(|number| format!("paged-{number}")).collect();
    assert_eq!(names, expected);

    let paged = ListParams::default().labels("paged");
    maps.delete_collection(&DeleteParams::default(), &paged)
        .await
        .unwrap();
    let deleted = maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(deleted.right().is_some_and(|status: Status| status.is_success()));
    let left = maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.items, []);
}

#[tokio::test]
async fn objects_of_a_kind_that_is_discovered() {
    let kubernetes = Kubernetes::start().await;
    let client = client_of(&kubernetes);
    for discovery in [
        Discovery::new(client.clone()).run().await.unwrap(),
        Discovery::new(client.clone()).run_aggregated().await.unwrap(),
    ] {
        let kind = GroupVersionKind::gvk("apps", "v1", "Deployment");
        let (deployments, capabilities) = discovery.resolve_gvk(&kind).unwrap();
        assert_eq!(deployments.plural, "deployments");
        assert_eq!(capabilities.scope, Scope::Namespaced);
        let kind = GroupVersionKind::gvk("", "v1", "Namespace");
        let (_, capabilities) = discovery.resolve_gvk(&kind).unwrap();
        assert_eq!(capabilities.scope, Scope::Cluster);
    }
    let resource = ApiResource::erase::<ConfigMap>(&());
    let maps = Api::<DynamicObject>::namespaced_with(client, "default", &resource);
    let object = DynamicObject::new("dynamic", &resource).data(json!({"data": {"k": "1"}}));
    maps.create(&POST, &object).await.unwrap();
    let patch = Patch::Merge(json!({"data": {"k": null, "l": "2"}}));
    let patched = maps
        .patch("dynamic", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(patched.data["data"], json!({"l": "2"}));
    maps.delete("dynamic", &DeleteParams::default()).await.unwrap();
    assert_eq!(maps.get_opt("dynamic").await.unwrap(), None);
}

#[tokio::test]
async fn a_watch_tells_all_changes_in_order() {
    let kubernetes = Kubernetes::start().await;
    let client = client_of(&kubernetes);
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    maps.create(&POST, &map("before", "0")).await.unwrap();
    let version = maps
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version;
    maps.create(&POST, &map("a", "1")).await.unwrap();
    let elsewhere = Api::<ConfigMap>::namespaced(client, "kube-public");
    elsewhere.create(&POST, &map("elsewhere", "1")).await.unwrap();
    let params = WatchParams::default().timeout(30);
    let mut events = pin!(maps.watch(&params, &version.unwrap()).await.unwrap());
    let patch = Patch::Merge(json!({"data": {"value": "2"}}));
    maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let (what, map) = match events.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(map) => ("added", map),
            WatchEvent::Modified(map) => ("modified", map),
            WatchEvent::Deleted(map) => ("deleted", map),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => panic!("{status}"),
        };
        seen.push(format!("{what} {} {}", map.name_any(), value_of(&map)));
    }
    assert_eq!(seen, ["added a 1", "modified a 2", "deleted a 2"]);
}

#[tokio::test]
async fn reflectors_stay_equal_under_writes() {
    let kubernetes = Kubernetes::start().await;
    let client = client_of(&kubernetes);
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    let listing = mirror(&maps, watcher::Config::default().page_size(5));
    let streaming = mirror(&maps, watcher::Config::default().streaming_lists());
    let mut random = Random::new(8);
    for number in 0..300_u32 {
        let name = format!("m{}", random.below(20));
        let value = number.to_string();
        let known = maps.get_metadata_opt(&name).await.unwrap().is_some();
        match (known, random.below(3)) {
            (false, _) => drop(maps.create(&POST, &map(&name, &value)).await.unwrap()),
            (true, 0) => drop(maps.delete(&name, &DeleteParams::default()).await.unwrap()),
            (true, _) => {
                let patch = Patch::Merge(json!({"data": {"value": value}}));
                maps.patch(&name, &PatchParams::default(), &patch).await.unwrap();
            }
        }
    }
    let truth = maps.list(&ListParams::default()).await.unwrap().items;
    let truth: BTreeMap<String, ConfigMap> = truth.into_iter().map(|map| (map.name_any(), map)).collect();
    for view in [listing, streaming] {
        until("a reflector has caught up", async || {
            (view_of(&view) == truth).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn after_a_compaction_a_watcher_lists_again() {
    let mut kubernetes = Kubernetes::start().await;
    let client = client_of(&kubernetes);
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    maps.create(&POST, &map("old", "1")).await.unwrap();
    let mut events = pin!(watcher(maps.clone(), watcher::Config::default()).default_backoff());
    while !matches!(
        events.try_next().await.unwrap().unwrap(),
        watcher::Event::InitDone
    ) {}
    let listed_at = maps
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();

    // What it will ask for is history when it comes back.
    kubernetes.server.kill();
    kubernetes.server.run();
    until("the Kubernetes API is served again", async || {
        maps.get("old").await.ok()
    })
    .await;
    maps.delete("old", &DeleteParams::default()).await.unwrap();
    let new = maps.create(&POST, &map("new", "1")).await.unwrap();
    let request = CompactionRequest {
        revision: new.resource_version().unwrap().parse().unwrap(),
        physical: true,
    };
    let etcd = kubernetes.server.client().await;
    etcd.kv.clone().compact(request).await.unwrap();

    let mut one = pin!(maps.watch(&WatchParams::default(), &listed_at).await.unwrap());
    match one.try_next().await.unwrap().unwrap() {
        WatchEvent::Error(status) => {
            assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
            assert!(
                status.message.starts_with("too old resource version: "),
                "{status:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(
        one.try_next().await.unwrap().is_none(),
        "the watch ends with the error"
    );

    let (mut told_of_expiry, mut listed) = (false, Vec::new());
    let seeing = async {
        loop {
            match events.next().await.unwrap() {
                Err(watcher::Error::WatchError(status)) => told_of_expiry |= status.code == 410,
                // The connection broke with the server.
                Err(_) => {}
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(map)) => listed.push(map.name_any()),
                Ok(watcher::Event::InitDone) => break,
                Ok(other) => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(crate::LOOPS_PATIENCE, seeing)
        .await
        .expect("the watcher lists again");
    assert!(told_of_expiry);
    assert_eq!(listed, ["new"]);
}

#[tokio::test]
async fn server_side_apply_merges_and_refuses() {
    let kubernetes = Kubernetes::start().await;
    let maps = Api::<ConfigMap>::default_namespaced(client_of(&kubernetes));
    let apply = async |manager: &str, force: bool, data: serde_json::Value| {
        let mut params = PatchParams::apply(manager);
        params.force = force;
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data});
        maps.patch("m", &params, &Patch::Apply(object))
            .await
            .map(|map| json!(map.data))
    };
    assert_eq!(
        apply("one", false, json!({"a": "1", "b": "1"})).await.unwrap(),
        json!({"a": "1", "b": "1"})
    );
    assert_eq!(
        apply("two", false, json!({"c": "2"})).await.unwrap(),
        json!({"a": "1", "b": "1", "c": "2"})
    );
    let Err(Error::Api(refusal)) = apply("two", false, json!({"a": "2"})).await else {
        panic!("a field of another one was taken");
    };
    let causes = refusal.details.clone().unwrap().causes;
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (409, "Conflict"),
        "{refusal:?}"
    );
    assert_eq!(
        (causes[0].reason.as_str(), causes[0].field.as_str()),
        ("FieldManagerConflict", ".data.a")
    );
    assert_eq!(
        apply("two", true, json!({"a": "2"})).await.unwrap(),
        json!({"a": "2", "b": "1"})
    );
    assert_eq!(apply("one", false, json!({})).await.unwrap(), json!({"a": "2"}));
    let managers = maps.get("m").await.unwrap().metadata.managed_fields.unwrap();
    let managers: Vec<_> = managers.into_iter().filter_map(|entry| entry.manager).collect();
    assert!(managers.contains(&"two".to_owned()), "{managers:?}");
}

#[tokio::test]
async fn a_controller_keeps_what_it_owns() {
    let kubernetes = Kubernetes::start().await;
    let client = client_of(&kubernetes);
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    let secrets = Api::<Secret>::default_namespaced(client.clone());
    let controller = Controller::new(maps.clone(), watcher::Config::default())
        .owns(secrets.clone(), watcher::Config::default())
        .run(
            keep_secret,
            |_, _: &Error, _| Action::requeue(Duration::from_millis(100)),
            Arc::new(secrets.clone()),
        )
        .for_each(|_| std::future::ready(()));
    let controller = tokio::spawn(controller);

    maps.create(&POST, &map("a", "1")).await.unwrap();
    let first = until("the secret is made", async || secrets.get_opt("a").await.unwrap()).await;
    secrets.delete("a", &DeleteParams::default()).await.unwrap();
    until("the secret is made again", async || {
        let again = secrets.get_opt("a").await.unwrap();
        again.filter(|again| again.uid() != first.uid())
    })
    .await;
    let patch = Patch::Merge(json!({"data": {"value": "2"}}));
    maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
    until("the secret follows", async || {
        let data = secrets.get("a").await.unwrap().data.unwrap_or_default();
        (data["value"].0 == b"2").then_some(())
    })
    .await;
    controller.abort();
}

/// A secret that says what its owner says.
async fn keep_secret(map: Arc<ConfigMap>, secrets: Arc<Api<Secret>>) -> Result<Action, Error> {
    let texts = map.data.iter().flatten();
    let data = texts
        .map(|(name, text)| (name.clone(), ByteString(text.clone().into_bytes())))
        .collect();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(map.name_any()),
            owner_references: Some(map.controller_owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..Secret::default()
    };
    let params = PatchParams::apply("keeper").force();
    secrets
        .patch(&map.name_any(), &params, &Patch::Apply(secret))
        .await?;
    Ok(Action::await_change())
}

#[tokio::test]
async fn of_two_candidates_one_leads() {
    let kubernetes = Kubernetes::start().await;
    let client = client_of(&kubernetes);
    let candidate = |identity: &str| {
        let election = Election::new(client.clone(), "kube-system", "office", identity);
        election.holding_for(Duration::from_secs(3))
    };
    let (mut first, mut second) = (candidate("first"), candidate("second"));
    let (a, b) = tokio::join!(first.try_hold(), second.try_hold());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(a ^ b, "{a} {b}");
    let (mut leader, mut other) = if a { (first, second) } else { (second, first) };
    assert!(leader.try_hold().await.unwrap() && !other.try_hold().await.unwrap());
    leader.release().await.unwrap();
    assert!(other.try_hold().await.unwrap() && !leader.try_hold().await.unwrap());
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-system");
    let transitions = async || {
        leases
            .get("office")
            .await
            .unwrap()
            .spec
            .unwrap()
            .lease_transitions
            .unwrap()
    };
    let before = transitions().await;

    // One that is silent loses the office; one that works keeps it for as long as it works.
    let worked = tokio::time::timeout(
        crate::LOOPS_PATIENCE,
        leader.lead(async {
            assert!(!other.try_hold().await.unwrap());
            let enough = tokio::time::Instant::now() + Duration::from_secs(4);
            until(
                "it has worked for longer than a silent one would hold",
                async || {
                    assert!(!other.try_hold().await.unwrap());
                    (tokio::time::Instant::now() > enough).then_some(())
                },
            )
            .await;
            "done"
        }),
    );
    assert_eq!(worked.await.unwrap().unwrap(), Some("done"));
    assert_eq!(transitions().await, before + 1);
    assert!(
        other.try_hold().await.unwrap(),
        "who has done its work leaves the office"
    );
}

#[tokio::test]
async fn a_namespace_is_emptied_by_its_controller_and_goes() {
    let kubernetes = Kubernetes::start().await;
    let client = client_of(&kubernetes);
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    namespaces
        .create(&POST, &serde_json::from_value(namespace).unwrap())
        .await
        .unwrap();
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "n");
    maps.create(&POST, &map("a", "1")).await.unwrap();
    let going = namespaces
        .delete("n", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(going.status.unwrap().phase.as_deref(), Some("Terminating"));
    let Err(Error::Api(refusal)) = maps.create(&POST, &map("late", "1")).await else {
        panic!("something was made in a namespace that goes");
    };
    assert_eq!((refusal.code, refusal.reason.as_str()), (403, "Forbidden"));
    maps.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    let mut empty = namespaces.get("n").await.unwrap();
    empty.spec.as_mut().unwrap().finalizers = None;
    namespaces
        .replace_subresource("finalize", "n", &POST, &empty)
        .await
        .unwrap();
    assert_eq!(namespaces.get_opt("n").await.unwrap(), None);
}

/// A view that a task keeps up to date.
fn mirror(api: &Api<ConfigMap>, config: watcher::Config) -> Store<ConfigMap> {
    let (view, writer) = reflector::store();
    let events = watcher(api.clone(), config).default_backoff();
    let kept = reflector::reflector(writer, events).for_each(|_| std::future::ready(()));
    tokio::spawn(kept);
    view
}

fn view_of(view: &Store<ConfigMap>) -> BTreeMap<String, ConfigMap> {
    let maps = view.state();
    maps.iter()
        .map(|map| (map.name_any(), map.as_ref().clone()))
        .collect()
}

fn map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some([("value".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

fn value_of(map: &ConfigMap) -> &str {
    map.data
        .as_ref()
        .and_then(|data| data.get("value"))
        .map_or("", String::as_str)
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, code: u16, reason: &str, message: &str) {
    match result {
        Err(Error::Api(status)) => assert_eq!(
            (status.code, status.reason.as_str(), status.message.as_str()),
            (code, reason, message)
        ),
        other => panic!("{other:?}"),
    }
}

const POST: PostParams = PostParams {
    dry_run: false,
    field_manager: None,
};
