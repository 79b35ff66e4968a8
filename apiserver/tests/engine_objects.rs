//! Objects one by one: what is stored, what is refused, who wins, what stays until something lets it go.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use apiserver::engine::{DeleteOptions, Deleted, ListOptions, Propagation, WriteOptions};
use apiserver::object::{is_terminating, meta};
use apiserver::resources::Subresource;
use apiserver::status::{Reason, Status};
use serde_json::{Value, json};

use harness::*;

#[tokio::test]
async fn an_object_lives_and_goes() {
    let Some(store) = Store::start("an_object_lives_and_goes").await else {
        return;
    };
    let engine = store.ready().await;
    let configmaps = resource("configmaps");

    let made = create(&engine, "default", configmap("a", "x", "1")).await;
    assert_eq!(meta(&made, "uid").len(), 36);
    assert_eq!(meta(&made, "namespace"), "default");
    assert!(meta(&made, "creationTimestamp").ends_with('Z'));
    let stored = store.get("/registry/configmaps/default/a").await.unwrap();
    assert_eq!(stored.mod_revision, revision_of(&made));
    let text = String::from_utf8(stored.value.to_vec()).unwrap();
    assert!(
        text.starts_with('{') && !text.contains("resourceVersion"),
        "{text}"
    );

    let found = engine.get(configmaps, "default", "a").await.unwrap();
    assert_eq!(found.revision(), stored.mod_revision);
    let parsed: Value = serde_json::from_slice(found.json()).unwrap();
    assert_eq!(parsed, Value::Object(made.clone()));

    let again = engine
        .create(configmaps, "default", configmap("a", "x", "1"), &write())
        .await;
    assert_eq!(again.unwrap_err().message, "configmaps \"a\" already exists");

    let entries = made["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!((entries.len(), entries[0]["manager"].as_str()), (1, Some("test")));
    assert_eq!(entries[0]["operation"], "Update");

    let updated = set(&engine, "default", "a", "2").await.unwrap();
    assert!(revision_of(&updated.object) > revision_of(&made) && !updated.created);
    // What changes nothing writes nothing.
    let before = store.revision().await;
    let same = set(&engine, "default", "a", "2").await.unwrap();
    assert_eq!(same.object, updated.object);
    assert_eq!(store.revision().await, before);

    let Deleted::Gone(gone) = delete(&engine, "default", "a").await.unwrap() else {
        panic!("marked")
    };
    assert_eq!(revision_of(&gone), before + 1);
    assert_eq!(meta(&gone, "uid"), meta(&made, "uid"));
    let missing = Status::not_found(configmaps, "a");
    assert_eq!(engine.get(configmaps, "default", "a").await.unwrap_err(), missing);
    assert_eq!(delete(&engine, "default", "a").await.unwrap_err(), missing);
    assert_eq!(set(&engine, "default", "a", "3").await.unwrap_err(), missing);
}

#[tokio::test]
async fn who_names_a_version_changes_that_one_only() {
    let Some(store) = Store::start("who_names_a_version").await else {
        return;
    };
    let engine = store.ready().await;
    let configmaps = resource("configmaps");
    let first = create(&engine, "default", configmap("a", "x", "1")).await;
    let second = set(&engine, "default", "a", "2").await.unwrap().object;

    let put = |object: apiserver::object::Object| {
        let engine = engine.clone();
        async move {
            let options = write();
            let put = engine.update(configmaps, "default", "a", None, &options, |_| Ok(object.clone()));
            put.await
        }
    };
    let mut stale = first.clone();
    stale["data"] = json!({"k": "3"});
    let refused = put(stale.clone()).await.unwrap_err();
    assert_eq!(refused, Status::modified(configmaps, "a"));
    // Without a version it holds for whatever is there.
    stale["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    let third = put(stale.clone()).await.unwrap().object;
    assert_eq!(third["data"]["k"], "3");
    assert!(revision_of(&third) > revision_of(&second));
    assert_eq!(meta(&third, "uid"), meta(&first, "uid"));

    stale["metadata"]["uid"] = json!("other");
    let refused = put(stale.clone()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::Conflict);
    assert!(
        refused
            .message
            .contains("Precondition failed: UID in precondition: other"),
        "{refused}"
    );
    stale["metadata"]["name"] = json!("b");
    let refused = put(stale).await.unwrap_err();
    assert_eq!(
        refused.message,
        "the name of the object (b) does not match the name on the URL (a)"
    );
}

#[tokio::test]
async fn nothing_is_lost_when_many_change_the_same() {
    let Some(store) = Store::start("nothing_is_lost").await else {
        return;
    };
    let engine = store.ready().await;
    create(&engine, "default", configmap("a", "x", "0")).await;
    let writers = (0..8).map(|_| {
        let engine = store.engine(settings());
        tokio::spawn(async move {
            for _ in 0..10 {
                let counted = change(&engine, "default", "a", |new| {
                    let count: u32 = new["data"]["k"].as_str().unwrap().parse().unwrap();
                    new["data"]["k"] = json!((count + 1).to_string());
                });
                counted.await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        soon("a writer's end", writer).await.unwrap();
    }
    let found = engine.get(resource("configmaps"), "default", "a").await.unwrap();
    assert_eq!(found.object().unwrap()["data"]["k"], "80");
}

/// Clients send nulls and empty values that mean nothing: they are not stored, and are no change.
#[tokio::test]
async fn what_means_nothing_is_not_stored() {
    let Some(store) = Store::start("what_means_nothing").await else {
        return;
    };
    let engine = store.ready().await;
    let mut sent = configmap("a", "x", "1");
    sent["metadata"]["creationTimestamp"] = Value::Null;
    sent["metadata"]["annotations"] = Value::Null;
    sent.insert("binaryData".to_owned(), Value::Null);
    let made = create(&engine, "default", sent).await;
    assert!(
        made.get("binaryData").is_none() && made["metadata"].get("annotations").is_none(),
        "{made:?}"
    );
    let before = store.revision().await;
    let same = change(&engine, "default", "a", |new| {
        new["metadata"]["creationTimestamp"] = Value::Null;
        new["binaryData"] = Value::Null;
    });
    assert_eq!(same.await.unwrap().object, made);
    assert_eq!(store.revision().await, before);
    // Nothing is not the same as none: no replicas are not the one of those who say nothing.
    let deployment = object(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {
            "replicas": 0, "paused": false, "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    }));
    let deployments = resource("deployments");
    let made = engine
        .create(deployments, "default", deployment, &write())
        .await
        .unwrap();
    assert_eq!(made["spec"]["replicas"], 0);
    assert!(made["spec"].get("paused").is_none(), "{made:?}");
}

#[tokio::test]
async fn an_update_may_create() {
    let Some(store) = Store::start("an_update_may_create").await else {
        return;
    };
    let engine = store.ready().await;
    let configmaps = resource("configmaps");
    let made = engine
        .update(configmaps, "default", "a", None, &write(), |old| {
            assert!(old.is_none());
            Ok(configmap("a", "x", "1"))
        })
        .await
        .unwrap();
    assert!(made.created);
    assert_eq!(meta(&made.object, "uid").len(), 36);
    let mut known = configmap("b", "x", "1");
    known["metadata"]["uid"] = json!("u");
    let refused = engine
        .update(configmaps, "default", "b", None, &write(), |_| Ok(known.clone()))
        .await;
    assert_eq!(refused.unwrap_err().reason, Reason::Conflict);
    // Of what version it was does not matter for what is not there.
    let mut versioned = configmap("b", "x", "1");
    versioned["metadata"]["resourceVersion"] = json!("5");
    let made = engine
        .update(configmaps, "default", "b", None, &write(), |_| {
            Ok(versioned.clone())
        })
        .await;
    assert!(made.unwrap().created);
    let refused = engine
        .create(configmaps, "default", versioned.clone(), &write())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (500, "resourceVersion should not be set on objects to be created")
    );
}

#[tokio::test]
async fn names_are_generated() {
    let Some(store) = Store::start("names_are_generated").await else {
        return;
    };
    let engine = store.ready().await;
    let mut unnamed = configmap("", "x", "1");
    unnamed["metadata"] = json!({"generateName": "some-"});
    let first = create(&engine, "default", unnamed.clone()).await;
    let second = create(&engine, "default", unnamed.clone()).await;
    assert!(meta(&first, "name").starts_with("some-"));
    assert_eq!(meta(&first, "name").len(), 10);
    assert_ne!(meta(&first, "name"), meta(&second, "name"));
    unnamed["metadata"] = json!({});
    let refused = engine
        .create(resource("configmaps"), "default", unnamed, &write())
        .await;
    assert_eq!(refused.unwrap_err().reason, Reason::Invalid);
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let Some(store) = Store::start("a_dry_run_writes_nothing").await else {
        return;
    };
    let engine = store.ready().await;
    let configmaps = resource("configmaps");
    create(&engine, "default", configmap("a", "x", "1")).await;
    let before = store.revision().await;
    let dry = WriteOptions {
        dry_run: true,
        ..write()
    };
    let made = engine
        .create(configmaps, "default", configmap("b", "x", "1"), &dry)
        .await
        .unwrap();
    assert_eq!(meta(&made, "resourceVersion"), "");
    let there = engine
        .create(configmaps, "default", configmap("a", "x", "1"), &dry)
        .await;
    assert_eq!(there.unwrap_err().reason, Reason::AlreadyExists);
    let updated = engine
        .update(configmaps, "default", "a", None, &dry, |_| {
            Ok(configmap("a", "x", "2"))
        })
        .await
        .unwrap();
    assert_eq!(updated.object["data"]["k"], "2");
    let options = DeleteOptions::default();
    let gone = engine
        .delete(configmaps, "default", "a", &options, &dry)
        .await
        .unwrap();
    assert!(matches!(gone, Deleted::Gone(_)));
    assert_eq!(store.revision().await, before);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let Some(store) = Store::start("finalizers_hold_an_object").await else {
        return;
    };
    let engine = store.ready().await;
    let mut held = configmap("a", "x", "1");
    held["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    create(&engine, "default", held).await;
    let Deleted::Marked(marked) = delete(&engine, "default", "a").await.unwrap() else {
        panic!("gone")
    };
    assert!(is_terminating(&marked));
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    // A second deletion changes nothing.
    let Deleted::Marked(again) = delete(&engine, "default", "a").await.unwrap() else {
        panic!("gone")
    };
    assert_eq!(again, marked);

    let finalizers = |list: Value| {
        change(&engine, "default", "a", move |new| {
            new["metadata"]["finalizers"] = list.clone()
        })
    };
    let refused = finalizers(json!(["example.com/a", "example.com/c"]))
        .await
        .unwrap_err();
    assert_eq!(refused.reason, Reason::Invalid);
    assert!(
        refused.message.contains("no new finalizers can be added"),
        "{refused}"
    );
    let fewer = finalizers(json!(["example.com/b"])).await.unwrap().object;
    assert!(is_terminating(&fewer));
    finalizers(json!([])).await.unwrap();
    assert_eq!(store.get("/registry/configmaps/default/a").await, None);
}

#[tokio::test]
async fn what_is_owned_is_the_business_of_finalizers() {
    let Some(store) = Store::start("what_is_owned").await else {
        return;
    };
    let engine = store.ready().await;
    let configmaps = resource("configmaps");
    for (propagation, finalizer) in [
        (Propagation::Foreground, Some("foregroundDeletion")),
        (Propagation::Orphan, Some("orphan")),
        (Propagation::Background, None),
    ] {
        create(&engine, "default", configmap("a", "x", "1")).await;
        let options = DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        let deleted = engine
            .delete(configmaps, "default", "a", &options, &write())
            .await
            .unwrap();
        match (finalizer, deleted) {
            (None, Deleted::Gone(_)) => {}
            (Some(finalizer), Deleted::Marked(marked)) => {
                assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
                let done = change(&engine, "default", "a", |new| {
                    new["metadata"].as_object_mut().unwrap().remove("finalizers");
                });
                done.await.unwrap();
            }
            (_, other) => panic!("{propagation:?}: {other:?}"),
        }
        assert_eq!(store.get("/registry/configmaps/default/a").await, None);
    }
}

#[tokio::test]
async fn deletions_name_what_they_mean() {
    let Some(store) = Store::start("deletions_name_what_they_mean").await else {
        return;
    };
    let engine = store.ready().await;
    let configmaps = resource("configmaps");
    let made = create(&engine, "default", configmap("a", "x", "1")).await;
    let uid = meta(&made, "uid").to_owned();
    let version = meta(&made, "resourceVersion").to_owned();
    let options = |uid: &str, version: &str| DeleteOptions {
        uid: Some(uid.to_owned()),
        resource_version: Some(version.to_owned()),
        ..DeleteOptions::default()
    };
    for (wrong, what) in [
        (options("u", &version), "UID"),
        (options(&uid, "1"), "ResourceVersion"),
    ] {
        let refused = engine
            .delete(configmaps, "default", "a", &wrong, &write())
            .await
            .unwrap_err();
        assert_eq!(refused.reason, Reason::Conflict);
        assert!(
            refused
                .message
                .contains(&format!("the {what} in the precondition")),
            "{refused}"
        );
    }
    let right = options(&uid, &version);
    engine
        .delete(configmaps, "default", "a", &right, &write())
        .await
        .unwrap();
}

#[tokio::test]
async fn pods_are_given_time() {
    let Some(store) = Store::start("pods_are_given_time").await else {
        return;
    };
    let engine = store.ready().await;
    let pods = resource("pods");
    let pod = |name: &str, node: &str| {
        object(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        }))
    };
    engine
        .create(pods, "default", pod("a", "n"), &write())
        .await
        .unwrap();
    engine
        .create(pods, "default", pod("b", ""), &write())
        .await
        .unwrap();
    let options = |grace_period_s| DeleteOptions {
        grace_period_s,
        ..DeleteOptions::default()
    };
    // Nobody runs it: nobody has to end it.
    let gone = engine
        .delete(pods, "default", "b", &options(None), &write())
        .await
        .unwrap();
    assert!(matches!(gone, Deleted::Gone(_)), "{gone:?}");
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let at_once = WriteOptions { now, ..write() };
    let marked = engine
        .delete(pods, "default", "a", &options(None), &at_once)
        .await
        .unwrap();
    let Deleted::Marked(marked) = marked else {
        panic!("{marked:?}")
    };
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(meta(&marked, "deletionTimestamp"), "2026-01-01T00:00:30Z");
    // The status of a pod that ends can still be told.
    let status = engine
        .update(pods, "default", "a", Some(Subresource::Status), &write(), |old| {
            let mut new = old.unwrap().clone();
            new["status"]["phase"] = json!("Failed");
            Ok(new)
        })
        .await
        .unwrap();
    assert_eq!(status.object["status"]["phase"], "Failed");
    let gone = engine
        .delete(pods, "default", "a", &options(Some(0)), &write())
        .await
        .unwrap();
    assert!(matches!(gone, Deleted::Gone(_)), "{gone:?}");
    assert_eq!(store.get("/registry/pods/default/a").await, None);
}

#[tokio::test]
async fn a_namespace_ends_when_it_is_finalized() {
    let Some(store) = Store::start("a_namespace_ends").await else {
        return;
    };
    let engine = store.ready().await;
    let namespaces = resource("namespaces");
    let configmaps = resource("configmaps");
    let nowhere = engine
        .create(configmaps, "n", configmap("a", "x", "1"), &write())
        .await;
    assert_eq!(nowhere.unwrap_err(), Status::not_found(namespaces, "n"));

    let namespace = object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}));
    let made = engine.create(namespaces, "", namespace, &write()).await.unwrap();
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["status"]["phase"], "Active");
    create(&engine, "n", configmap("a", "x", "1")).await;

    let options = DeleteOptions::default();
    let marked = engine
        .delete(namespaces, "", "n", &options, &write())
        .await
        .unwrap();
    let Deleted::Marked(marked) = marked else {
        panic!("{marked:?}")
    };
    assert_eq!(marked["status"]["phase"], "Terminating");
    let refused = engine
        .create(configmaps, "n", configmap("b", "x", "1"), &write())
        .await
        .unwrap_err();
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message,
        "configmaps \"b\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    assert_eq!(refused.details.causes[0].reason, "NamespaceTerminating");
    // What is there can be changed and deleted.
    set(&engine, "n", "a", "2").await.unwrap();
    delete(&engine, "n", "a").await.unwrap();

    let finalized = engine
        .update(
            namespaces,
            "",
            "n",
            Some(Subresource::Finalize),
            &write(),
            |old| {
                let mut new = old.unwrap().clone();
                new["spec"]["finalizers"] = json!([]);
                Ok(new)
            },
        )
        .await
        .unwrap();
    assert!(is_terminating(&finalized.object));
    assert_eq!(store.get("/registry/namespaces/n").await, None);

    let refused = engine
        .delete(namespaces, "", "default", &options, &write())
        .await
        .unwrap_err();
    assert_eq!(
        refused.message,
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}

#[tokio::test]
async fn several_may_begin_at_the_same_time() {
    let Some(store) = Store::start("several_may_begin").await else {
        return;
    };
    let engines: Vec<_> = (0..4).map(|_| store.engine(settings())).collect();
    let begun = engines.iter().map(apiserver::engine::Engine::bootstrap);
    for done in futures_util::future::join_all(begun).await {
        done.unwrap();
    }
    let found = engines[0]
        .list(resource("namespaces"), None, &ListOptions::default())
        .await
        .unwrap();
    let names: Vec<_> = found
        .items
        .iter()
        .map(|item| meta(&item.object().unwrap(), "name").to_owned())
        .collect();
    assert_eq!(
        names,
        ["default", "kube-node-lease", "kube-public", "kube-system"]
    );
    let service = engines[0]
        .get(resource("services"), "default", "kubernetes")
        .await
        .unwrap();
    assert_eq!(service.object().unwrap()["spec"]["clusterIP"], "10.96.0.1");
    let before = store.revision().await;
    engines[1].bootstrap().await.unwrap();
    assert_eq!(store.revision().await, before);
}

#[tokio::test]
async fn events_share_a_lease_and_have_two_versions() {
    let Some(store) = Store::start("events_share_a_lease").await else {
        return;
    };
    let engine = store.ready().await;
    let events = resource("events");
    for name in ["a", "b"] {
        let event = object(json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
            "reason": "Tested", "message": "m", "type": "Normal",
        }));
        engine.create(events, "default", event, &write()).await.unwrap();
    }
    let a = store.get("/registry/events/default/a").await.unwrap();
    let b = store.get("/registry/events/default/b").await.unwrap();
    assert!(a.lease != 0 && a.lease == b.lease, "{a:?} {b:?}");
    // A lease that is gone before its time is replaced.
    store.revoke(a.lease).await;
    assert_eq!(store.get("/registry/events/default/a").await, None);
    let event = object(json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Tested", "message": "m", "type": "Normal",
    }));
    engine.create(events, "default", event, &write()).await.unwrap();
    let a = store.get("/registry/events/default/a").await.unwrap();
    assert!(a.lease != 0 && a.lease != b.lease);
    let newer = apiserver::resources::find("events.k8s.io", "v1", "events").unwrap();
    let found = engine.get(newer, "default", "a").await.unwrap();
    assert_eq!(found.revision(), a.mod_revision);
    let found = found.object().unwrap();
    assert_eq!(found["apiVersion"], "events.k8s.io/v1");
    assert_eq!(found["note"], "m");
    assert_eq!(found["regarding"]["name"], "p");
}

/// However many are made at the same time, by several servers: no two have the same.
#[tokio::test]
async fn services_have_addresses_of_their_own() {
    let Some(store) = Store::start("services_have_addresses").await else {
        return;
    };
    let engine = store.ready().await;
    let services = resource("services");
    let service = |name: &str, spec: Value| {
        object(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec,
        }))
    };
    let ports = json!([{"port": 80}]);
    let makers: Vec<_> = (0..12)
        .map(|number| {
            let engine = if number % 2 == 0 {
                engine.clone()
            } else {
                store.engine(settings())
            };
            let new = service(&format!("s{number}"), json!({"type": "NodePort", "ports": ports}));
            tokio::spawn(async move { engine.create(services, "default", new, &write()).await.unwrap() })
        })
        .collect();
    let mut seen = std::collections::BTreeSet::from(["10.96.0.1".to_owned()]);
    for maker in makers {
        let made = soon("a service", maker).await.unwrap();
        assert!(
            seen.insert(made["spec"]["clusterIP"].as_str().unwrap().to_owned()),
            "{made:?}"
        );
        assert!(
            seen.insert(made["spec"]["ports"][0]["nodePort"].to_string()),
            "{made:?}"
        );
    }
    let headless = service("h", json!({"clusterIP": "None", "ports": ports}));
    let headless = engine
        .create(services, "default", headless, &write())
        .await
        .unwrap();
    assert_eq!(headless["spec"]["clusterIP"], "None");
    let taken = service("t", json!({"clusterIP": "10.96.0.1", "ports": ports}));
    let refused = engine
        .create(services, "default", taken, &write())
        .await
        .unwrap_err();
    assert_eq!(refused.reason, Reason::Invalid);
    let there = service("s1", json!({"ports": ports}));
    let refused = engine
        .create(services, "default", there, &write())
        .await
        .unwrap_err();
    assert_eq!(refused.reason, Reason::AlreadyExists);
    // One that gets its address later, and keeps it.
    let named = service(
        "n",
        json!({"type": "ExternalName", "externalName": "example.com"}),
    );
    engine.create(services, "default", named, &write()).await.unwrap();
    let mut last = None;
    for label in ["a", "b"] {
        let updated = engine
            .update(services, "default", "n", None, &write(), |old| {
                let mut new = old.unwrap().clone();
                new["metadata"]["labels"] = json!({"l": label});
                new["spec"].as_object_mut().unwrap().remove("externalName");
                new["spec"]["type"] = json!("ClusterIP");
                new["spec"]["ports"] = ports.clone();
                Ok(new)
            })
            .await
            .unwrap();
        let address = updated.object["spec"]["clusterIP"].as_str().unwrap().to_owned();
        assert!(last.is_none_or(|last| last == address));
        last = Some(address);
    }
    assert!(seen.insert(last.unwrap()));
}

#[tokio::test]
async fn a_collection_is_deleted() {
    let Some(store) = Store::start("a_collection_is_deleted").await else {
        return;
    };
    let engine = store.ready().await;
    let configmaps = resource("configmaps");
    for number in 0..40 {
        let app = if number % 2 == 0 { "even" } else { "odd" };
        create(&engine, "default", configmap(&format!("c{number}"), app, "1")).await;
    }
    create(&engine, "kube-system", configmap("other", "even", "1")).await;
    let options = DeleteOptions::default();
    let deleted = engine
        .delete_collection(
            configmaps,
            Some("default"),
            &labelled("app=even"),
            &options,
            &write(),
        )
        .await
        .unwrap();
    assert_eq!(deleted.items.len(), 20);
    let left = engine
        .list(configmaps, None, &labelled("app=even"))
        .await
        .unwrap();
    assert_eq!(left.items.len(), 1);
    let left = engine.list(configmaps, None, &labelled("app=odd")).await.unwrap();
    assert_eq!(left.items.len(), 20);
}

/// Values that others wrote: by hand, or a real API server in protobuf.
#[tokio::test]
async fn values_of_others_are_read() {
    let Some(store) = Store::start("values_of_others_are_read").await else {
        return;
    };
    let engine = store.ready().await;
    let configmaps = resource("configmaps");
    let of = |name, data| {
        let mut written = configmap(name, "x", data);
        written["metadata"]["namespace"] = json!("default");
        written
    };
    let by_hand = of("a", "1");
    let protobuf = apiserver::codec::to_protobuf(&of("b", "2"), configmaps.type_name).unwrap();
    let text = serde_json::to_vec_pretty(&by_hand).unwrap();
    store.put("/registry/configmaps/default/a", &text).await;
    let revision = store.put("/registry/configmaps/default/b", &protobuf).await;
    let found = engine
        .list(configmaps, Some("default"), &labelled("app=x"))
        .await
        .unwrap();
    assert_eq!(found.items.len(), 2);
    let second = found.items[1].object().unwrap();
    assert_eq!(
        (second["data"]["k"].as_str(), second["kind"].as_str()),
        (Some("2"), Some("ConfigMap"))
    );
    assert_eq!(revision_of(&second), revision);
    set(&engine, "default", "b", "3").await.unwrap();
    let rewritten = store.get("/registry/configmaps/default/b").await.unwrap();
    assert_eq!(rewritten.value.first(), Some(&b'{'));

    store
        .put("/registry/configmaps/default/c", b"k8s:enc:aescbc:v1:x")
        .await;
    let refused = engine
        .list(configmaps, Some("default"), &ListOptions::default())
        .await;
    assert_eq!(refused.unwrap_err().code, 500);
}

#[tokio::test]
async fn a_store_that_is_away_is_not_waited_for_in_vain() {
    let Some(mut store) = Store::start("a_store_that_is_away").await else {
        return;
    };
    let engine = store.ready().await;
    let configmaps = resource("configmaps");
    create(&engine, "default", configmap("a", "x", "1")).await;
    store.kill();
    let refused = soon("a refusal", engine.get(configmaps, "default", "a"))
        .await
        .unwrap_err();
    assert!(matches!(refused.code, 500 | 504), "{refused:?}");
    let refused = soon("a refusal", set(&engine, "default", "a", "2"))
        .await
        .unwrap_err();
    assert!(matches!(refused.code, 500 | 504), "{refused:?}");
    store.revive().await;
    set(&engine, "default", "a", "2").await.unwrap();
}
