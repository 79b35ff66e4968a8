//! Ownership of fields, as stories and against what must always hold.
#![allow(
    clippy::needless_pass_by_value,
    reason = "values are written where they are used"
)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::resources::find;

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other}"),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

fn deployment(spec: Value) -> Object {
    object(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}))
}

fn deployments() -> &'static Resource {
    find("apps", "v1", "deployments").unwrap()
}

fn put(live: Option<&Object>, wanted: Object, manager: &str, force: bool) -> Result<Object, Status> {
    apply(deployments(), live, &wanted, manager, force, None, at(0))
}

/// Who holds what: operation, manager and fields.
fn holders(object: &Object) -> Vec<Value> {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    entries
        .iter()
        .map(|entry| json!([entry["operation"], entry["manager"], entry["fieldsV1"]]))
        .collect()
}

#[test]
fn a_creation_is_all_its_makers() {
    let mut made = deployment(json!({
        "replicas": 1,
        "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [
            {"name": "c", "image": "x", "ports": [{"containerPort": 80, "protocol": "TCP"}]},
        ]}},
    }));
    made["metadata"] = json!({"name": "d", "uid": "u", "labels": {"app": "a"}});
    track(
        "io.k8s.api.apps.v1.Deployment",
        "apps/v1",
        None,
        &mut made,
        "kubectl-create",
        None,
        at(0),
    );
    assert_eq!(
        made["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl-create",
            "operation": "Update",
            "apiVersion": "apps/v1",
            "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:template": {
                        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                        "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                            ".": {},
                            "f:image": {},
                            "f:name": {},
                            "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                                ".": {}, "f:containerPort": {}, "f:protocol": {},
                            }},
                        }}},
                    },
                },
            },
        }])
    );
}

#[test]
fn an_update_takes_what_it_changes() {
    let mut before = deployment(json!({"replicas": 1, "paused": false}));
    let name = "io.k8s.api.apps.v1.Deployment";
    track(name, "apps/v1", None, &mut before, "a", None, at(0));
    let mut after = before.clone();
    after["spec"] = json!({"replicas": 2, "minReadySeconds": 5});
    track(name, "apps/v1", Some(&before), &mut after, "b", None, at(1));
    assert_eq!(
        holders(&after),
        [json!(["Update", "b", {"f:spec": {"f:minReadySeconds": {}, "f:replicas": {}}}])]
    );
    // Nothing changed: nothing is written, not even another time.
    let mut same = after.clone();
    track(name, "apps/v1", Some(&after), &mut same, "c", None, at(2));
    assert_eq!(same, after);
    // A client that leaves the account out does not delete it.
    let mut forgetful = after.clone();
    metadata_mut(&mut forgetful).remove("managedFields");
    track(name, "apps/v1", Some(&after), &mut forgetful, "c", None, at(2));
    assert_eq!(forgetful, after);
    // One that asks for it does.
    metadata_mut(&mut forgetful).insert("managedFields".to_owned(), json!([{}]));
    track(name, "apps/v1", Some(&after), &mut forgetful, "c", None, at(2));
    assert_eq!(forgetful["metadata"].get("managedFields"), None);
    let mut later = forgetful.clone();
    later["spec"] = json!({"replicas": 7});
    track(name, "apps/v1", Some(&forgetful), &mut later, "c", None, at(3));
    assert_eq!(later["metadata"].get("managedFields"), None);
}

/// What is said of the status elsewhere than in its own place is not heard, so nobody holds it.
#[test]
fn a_status_is_nobodys_but_through_its_own_place() {
    let name = "io.k8s.api.core.v1.Node";
    let mut node = object(json!({"spec": {"providerID": "p"}, "status": {"phase": "x"}}));
    track(name, "v1", None, &mut node, "kubelet", None, at(0));
    assert_eq!(
        holders(&node),
        [json!(["Update", "kubelet", {"f:spec": {"f:providerID": {}}}])]
    );
}

#[test]
fn a_status_is_held_apart() {
    let name = "io.k8s.api.apps.v1.Deployment";
    let mut before = deployment(json!({"replicas": 1}));
    before.insert("status".to_owned(), json!({}));
    track(name, "apps/v1", None, &mut before, "a", None, at(0));
    let mut after = before.clone();
    after.insert(
        "status".to_owned(),
        json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]}),
    );
    track(
        name,
        "apps/v1",
        Some(&before),
        &mut after,
        "a",
        Some("status"),
        at(1),
    );
    let entries = after["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(
        entries[1]["fieldsV1"],
        json!({"f:status": {"f:replicas": {}, "f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {
            ".": {}, "f:type": {}, "f:status": {},
        }}}})
    );
}

#[test]
fn what_is_no_longer_applied_goes() {
    let containers =
        |containers: Value| deployment(json!({"template": {"spec": {"containers": containers}}}));
    let wanted = containers(json!([
        {"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]},
        {"name": "b", "image": "y"},
    ]));
    let mut live = put(None, wanted, "kubectl", false).unwrap();
    // What the server adds is nobody's and goes with what it belongs to.
    live["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] = json!("Always");
    let less = containers(json!([{"name": "a", "image": "x"}]));
    let after = put(Some(&live), less, "kubectl", false).unwrap();
    assert_eq!(
        after["spec"],
        json!({"template": {"spec": {"containers": [{"name": "a", "image": "x"}]}}})
    );
    assert_eq!(
        holders(&after),
        [
            json!(["Apply", "kubectl", {"f:spec": {"f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:image": {}},
            }}}}}])
        ]
    );
}

#[test]
fn what_others_hold_stays() {
    let live = put(
        None,
        deployment(json!({"replicas": 3, "paused": true})),
        "one",
        false,
    )
    .unwrap();
    // The same value is shared.
    let shared = put(Some(&live), deployment(json!({"replicas": 3})), "two", false).unwrap();
    assert_eq!(shared["spec"], json!({"replicas": 3, "paused": true}));
    let mut nothing = deployment(json!({}));
    nothing.remove("spec");
    let given_up = put(Some(&shared), nothing, "one", false).unwrap();
    assert_eq!(given_up["spec"], json!({"replicas": 3}));
    assert_eq!(
        holders(&given_up),
        [json!(["Apply", "two", {"f:spec": {"f:replicas": {}}}])]
    );
}

#[test]
fn conflicts_are_told_or_forced() {
    let live = put(None, deployment(json!({"replicas": 3})), "one", false).unwrap();
    let refused = put(Some(&live), deployment(json!({"replicas": 4})), "two", false).unwrap_err();
    assert_eq!((refused.code, refused.reason), (409, Reason::Conflict));
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas"
    );
    assert_eq!(
        refused.details.causes,
        [Cause {
            reason: "FieldManagerConflict",
            message: "conflict with \"one\"".to_owned(),
            field: ".spec.replicas".to_owned(),
        }]
    );
    let forced = put(Some(&live), deployment(json!({"replicas": 4})), "two", true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 4);
    assert_eq!(
        holders(&forced),
        [json!(["Apply", "two", {"f:spec": {"f:replicas": {}}}])]
    );
    // What somebody changed by an update is that one's.
    let mut scaled = forced.clone();
    scaled["spec"]["replicas"] = json!(9);
    track(
        "io.k8s.api.apps.v1.Deployment",
        "apps/v1",
        Some(&forced),
        &mut scaled,
        "kubectl",
        Some("scale"),
        at(1),
    );
    let refused = put(
        Some(&scaled),
        deployment(json!({"replicas": 4, "paused": true})),
        "two",
        false,
    )
    .unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    let image = |image: &str| {
        deployment(
            json!({"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": image}]}}}),
        )
    };
    let live = put(None, image("x"), "one", false).unwrap();
    let mut other = image("y");
    other["spec"]["replicas"] = json!(2);
    let refused = put(Some(&live), other, "two", false).unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.replicas\n- \
         .spec.template.spec.containers[name=\"a\"].image"
    );
}

#[test]
fn what_was_there_before_is_held_by_nobody_in_particular() {
    let live = deployment(json!({"replicas": 1}));
    let refused = put(Some(&live), deployment(json!({"replicas": 2})), "two", false).unwrap_err();
    assert!(
        refused
            .message
            .contains("conflict with \"before-first-apply\" using apps/v1"),
        "{refused}"
    );
    let same = put(Some(&live), deployment(json!({"replicas": 1})), "two", false).unwrap();
    assert_eq!(holders(&same).len(), 2);
}

#[test]
fn what_cannot_be_applied_is_refused() {
    let mut other = deployment(json!({}));
    other.insert("apiVersion".to_owned(), "apps/v2".into());
    assert_eq!(put(None, other, "a", false).unwrap_err().code, 400);
    let mut managed = deployment(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(
        put(None, managed, "a", false).unwrap_err().message,
        "metadata.managedFields must be nil"
    );
    let twice = deployment(json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}}));
    let refused = put(None, twice, "a", false).unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (
            500,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.template.spec.containers: \
             duplicate entries for key [name=\"a\"]"
        )
    );
    let odd = deployment(json!({"template": {"spec": {"containers": [{"name": "a", "imag": "b"}]}}}));
    let refused = put(None, odd, "a", false).unwrap_err();
    assert_eq!(
        refused.message,
        "failed to create typed patch object (/d; apps/v1, Kind=Deployment): \
         .spec.template.spec.containers[name=\"a\"].imag: field not declared in schema"
    );
    let nameless = deployment(json!({"template": {"spec": {"containers": [{"image": "a"}]}}}));
    assert_eq!(put(None, nameless, "a", false).unwrap_err().code, 500);
}

#[test]
fn entries_of_updates_do_not_pile_up() {
    let name = "io.k8s.api.core.v1.ConfigMap";
    let mut live = object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {}}));
    track(name, "v1", None, &mut live, "m0", None, at(0));
    for number in 1..30_i64 {
        let mut next = live.clone();
        next["data"][format!("k{number}")] = json!("v");
        track(
            name,
            "v1",
            Some(&live),
            &mut next,
            &format!("m{number}"),
            None,
            at(number),
        );
        live = next;
    }
    let entries = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[0]["manager"], "ancient-changes");
    let held: usize = entries
        .iter()
        .map(|entry| entry["fieldsV1"]["f:data"].as_object().unwrap().len())
        .sum();
    assert_eq!(held, 30, "29 keys and the map itself");
}

/// A server that knows types writes `1` for `1000m` and leaves `false` out: that is no change, and nobody's conflict.
#[test]
fn one_amount_is_one_however_it_is_written() {
    let limits = |cpu: &str| {
        let resources = json!({"limits": {"cpu": cpu}});
        let containers = json!([{"name": "a", "resources": resources, "stdin": false}]);
        deployment(json!({"template": {"spec": {"containers": containers}}}))
    };
    let mut live = put(None, limits("1000m"), "one", false).unwrap();
    crate::codec::conform(deployments().type_name, &mut live);
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"],
        "1"
    );
    let mut shared = put(Some(&live), limits("1000m"), "two", false).unwrap();
    crate::codec::conform(deployments().type_name, &mut shared);
    assert_eq!(holders(&shared).len(), 2);
    let mut again = put(Some(&shared), limits("1000m"), "two", false).unwrap();
    crate::codec::conform(deployments().type_name, &mut again);
    assert_eq!(again, shared);
}

/// What somebody may want of a deployment.
fn wanted() -> impl Strategy<Value = Value> {
    let containers = proptest::collection::btree_map(0..4_u8, (0..3_u8, 0..3_u8), 0..4);
    let labels = proptest::collection::btree_map("[a-c]", "[x-z]", 0..3);
    (proptest::option::of(0..3_u8), labels, containers).prop_map(|(replicas, labels, containers)| {
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(name, (image, env))| {
                let env: Vec<Value> = (0..env)
                    .map(|n| json!({"name": format!("E{n}"), "value": "1"}))
                    .collect();
                json!({"name": format!("c{name}"), "image": format!("i{image}"), "env": env})
            })
            .collect();
        let mut spec =
            json!({"template": {"metadata": {"labels": labels}, "spec": {"containers": containers}}});
        if let Some(replicas) = replicas {
            spec["replicas"] = json!(replicas);
        }
        spec
    })
}

proptest! {
    /// Who applies the same again changes nothing.
    #[test]
    fn applying_again_changes_nothing(first in wanted(), second in wanted()) {
        let live = put(None, deployment(first), "one", false).unwrap();
        let live = put(Some(&live), deployment(second.clone()), "two", true).unwrap();
        let again = apply(deployments(), Some(&live), &deployment(second), "two", false, None, at(9)).unwrap();
        prop_assert_eq!(again, live);
    }

    /// Whoever is alone has in the end what was wanted last, however it came to it.
    #[test]
    fn one_alone_gets_what_it_wants(first in wanted(), second in wanted()) {
        let live = put(None, deployment(first), "one", false).unwrap();
        let there = put(Some(&live), deployment(second.clone()), "one", false).unwrap();
        let fresh = put(None, deployment(second), "one", false).unwrap();
        let containers = |object: &Object| object["spec"]["template"]["spec"]["containers"].clone();
        let named = |object: &Object| {
            let mut all = containers(object).as_array().cloned().unwrap_or_default();
            for container in &mut all {
                if container["env"] == json!([]) {
                    container.as_object_mut().unwrap().remove("env");
                }
            }
            all.sort_by_key(|container| container["name"].to_string());
            all
        };
        prop_assert_eq!(named(&there), named(&fresh));
        prop_assert_eq!(there["spec"].get("replicas"), fresh["spec"].get("replicas"));
    }
}
