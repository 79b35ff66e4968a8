//! Rows as kubectl prints them.

use serde_json::json;

use super::*;
use crate::resources::{RESOURCES, find};

const NOW: &str = "2026-01-02T00:00:00Z";

/// The cells of an object that was made an hour ago, those only for `-o wide` behind a bar.
fn printed(group: &str, plural: &str, mut object: Value) -> String {
    let r = RESOURCES
        .iter()
        .find(|r| r.group == group && r.plural == plural)
        .unwrap();
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T23:00:00Z");
    if object["metadata"]["name"].is_null() {
        object["metadata"]["name"] = json!("x");
    }
    let cells = cells(r, object.as_object().unwrap(), NOW.parse().unwrap());
    let columns = columns(r);
    assert_eq!(cells.len(), columns.len());
    let mut printed = String::new();
    for (cell, column) in cells.iter().zip(&columns) {
        let mark = if column["priority"] == 1 { "~" } else { "" };
        let text = cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        printed.push_str(&format!("{mark}{text} | "));
    }
    printed.trim_end_matches(" | ").to_owned()
}

/// Each resource has a row for an object of which nothing is known.
#[test]
fn nothing_is_shown_as_nothing() {
    for r in RESOURCES {
        let cells = cells(r, &Object::new(), NOW.parse().unwrap());
        assert_eq!(cells.len(), columns(r).len(), "{}", r.plural);
    }
    for resource in COLUMNS.keys() {
        let (group, plural) = resource.split_once('/').unwrap();
        let group = if group == "core" { "" } else { group };
        assert!(
            RESOURCES.iter().any(|r| r.group == group && r.plural == plural),
            "{resource}"
        );
    }
}

#[test]
fn pods_are_shown_as_they_are() {
    let status = |statuses: Value| json!({"spec": {"containers": [{}, {}]}, "status": statuses});
    let running = json!({"state": {"running": {}}, "ready": true});
    let waiting = |reason: &str| json!({"state": {"waiting": {"reason": reason}}});
    let ended =
        |reason: &str, code: i64| json!({"state": {"terminated": {"reason": reason, "exitCode": code}}});
    for (pod, expected) in [
        (
            json!({"spec": {"containers": [{}]}, "status": {"phase": "Pending"}}),
            "x | 0/1 | Pending | 0 | 60m | ~<none> | ~<none> | ~<none> | ~<none>",
        ),
        (
            json!({
                "spec": {"containers": [{}, {}], "nodeName": "n"},
                "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
                    "containerStatuses": [running, {
                        "state": {"running": {}}, "ready": true, "restartCount": 2,
                        "lastState": {"terminated": {"finishedAt": "2026-01-01T23:55:00Z"}},
                    }]},
            }),
            "x | 2/2 | Running | 2 (5m ago) | 60m | ~10.0.0.1 | ~n | ~<none> | ~<none>",
        ),
        (
            status(json!({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff"), running]})),
            "x | 1/2 | CrashLoopBackOff | 0 | 60m | ~<none> | ~<none> | ~<none> | ~<none>",
        ),
        (
            status(
                json!({"phase": "Succeeded", "containerStatuses": [ended("Completed", 0), ended("Completed", 0)]}),
            ),
            "x | 0/2 | Completed | 0 | 60m | ~<none> | ~<none> | ~<none> | ~<none>",
        ),
        (
            status(json!({"phase": "Failed", "containerStatuses": [ended("", 3), ended("Error", 1)]})),
            "x | 0/2 | ExitCode:3 | 0 | 60m | ~<none> | ~<none> | ~<none> | ~<none>",
        ),
        (
            json!({
                "spec": {"containers": [{}], "initContainers": [{"name": "i"}, {"name": "j"}]},
                "status": {"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "state": {"terminated": {"exitCode": 0}}},
                    {"name": "j", "state": {"running": {}}},
                ]},
            }),
            "x | 0/1 | Init:1/2 | 0 | 60m | ~<none> | ~<none> | ~<none> | ~<none>",
        ),
        (
            json!({"metadata": {"deletionTimestamp": NOW}, "spec": {"containers": [{}]}, "status": {"phase": "Running"}}),
            "x | 0/1 | Terminating | 0 | 60m | ~<none> | ~<none> | ~<none> | ~<none>",
        ),
    ] {
        assert_eq!(printed("", "pods", pod), expected);
    }
}

#[test]
fn workloads_are_shown_as_they_are() {
    let template =
        json!({"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}});
    let selector = json!({"matchLabels": {"app": "web"}});
    for (group, plural, object, expected) in [
        (
            "apps",
            "deployments",
            json!({"spec": {"replicas": 3, "template": template, "selector": selector},
                "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2}}),
            "x | 2/3 | 3 | 2 | 60m | ~a,b | ~i,j | ~app=web",
        ),
        (
            "apps",
            "replicasets",
            json!({"spec": {"replicas": 3, "template": template, "selector": selector}, "status": {"replicas": 1}}),
            "x | 3 | 1 | 0 | 60m | ~a,b | ~i,j | ~app=web",
        ),
        (
            "apps",
            "daemonsets",
            json!({"spec": {"template": template, "selector": selector}, "status": {"desiredNumberScheduled": 2}}),
            "x | 2 | 0 | 0 | 0 | 0 | <none> | 60m | ~a,b | ~i,j | ~app=web",
        ),
        (
            "batch",
            "jobs",
            json!({"spec": {"completions": 1, "template": template, "selector": selector},
                "status": {"succeeded": 1, "startTime": "2026-01-01T23:00:00Z", "completionTime": "2026-01-01T23:00:07Z",
                    "conditions": [{"type": "Complete", "status": "True"}]}}),
            "x | Complete | 1/1 | 7s | 60m | ~a,b | ~i,j | ~app=web",
        ),
        (
            "batch",
            "cronjobs",
            json!({"spec": {"schedule": "* * * * *", "suspend": false, "jobTemplate": {"spec": {"template": template}}},
                "status": {"active": [{}], "lastScheduleTime": "2026-01-01T23:59:30Z"}}),
            "x | * * * * * | <none> | False | 1 | 30s | 60m | ~a,b | ~i,j | ~<none>",
        ),
    ] {
        assert_eq!(printed(group, plural, object), expected, "{plural}");
    }
}

#[test]
fn the_rest_is_shown_as_it_is() {
    for (group, plural, object, expected) in [
        (
            "",
            "services",
            json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.2", "selector": {"app": "web"},
                "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
            "x | NodePort | 10.96.0.2 | <none> | 80:30000/TCP,53/UDP | 60m | ~app=web",
        ),
        (
            "",
            "services",
            json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.2"}}),
            "x | LoadBalancer | 10.96.0.2 | <pending> | <none> | 60m | ~<none>",
        ),
        (
            "",
            "nodes",
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
                "status": {"conditions": [{"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}], "nodeInfo": {"kubeletVersion": "v1.36.0"}}}),
            "x | Ready,SchedulingDisabled | control-plane | 60m | v1.36.0 | ~1.2.3.4 | ~<none> | ~<unknown> | ~<unknown> | \
             ~<unknown>",
        ),
        (
            "",
            "namespaces",
            json!({"status": {"phase": "Active"}}),
            "x | Active | 60m",
        ),
        (
            "",
            "configmaps",
            json!({"data": {"a": "1"}, "binaryData": {"b": ""}}),
            "x | 2 | 60m",
        ),
        (
            "",
            "secrets",
            json!({"type": "Opaque", "data": {"a": ""}}),
            "x | Opaque | 1 | 60m",
        ),
        ("", "serviceaccounts", json!({}), "x | 60m"),
        (
            "",
            "events",
            json!({"involvedObject": {"kind": "Pod", "name": "p"}, "type": "Normal", "reason": "Pulled",
                "message": "text\n", "lastTimestamp": "2026-01-01T23:59:00Z", "count": 3,
                "source": {"component": "kubelet", "host": "n"}}),
            "60s | Normal | Pulled | pod/p | ~ | ~kubelet, n | text | ~<unknown> | ~3 | ~x",
        ),
        (
            "",
            "persistentvolumeclaims",
            json!({"spec": {"volumeName": "v", "storageClassName": "s", "volumeMode": "Filesystem"},
                "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}),
            "x | Bound | v | 1Gi | RWO | s | <unset> | 60m | ~Filesystem",
        ),
        (
            "",
            "endpoints",
            json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}], "ports": [{"port": 80}, {"port": 81}]}]}),
            "x | 1.1.1.1:80,1.1.1.2:80,1.1.1.1:81 + 1 more... | 60m",
        ),
        (
            "autoscaling",
            "horizontalpodautoscalers",
            json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 5,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}]},
                "status": {"currentReplicas": 1}}),
            "x | Deployment/d | cpu: <unknown>/80% | 1 | 5 | 1 | 60m",
        ),
        (
            "policy",
            "poddisruptionbudgets",
            json!({"spec": {"minAvailable": 1}, "status": {"disruptionsAllowed": 2}}),
            "x | 1 | N/A | 2 | 60m",
        ),
        (
            "coordination.k8s.io",
            "leases",
            json!({"spec": {"holderIdentity": "h"}}),
            "x | h | 60m",
        ),
        (
            "rbac.authorization.k8s.io",
            "roles",
            json!({}),
            "x | 2026-01-01T23:00:00Z",
        ),
        (
            "rbac.authorization.k8s.io",
            "rolebindings",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [
                {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
            "x | Role/r | 60m | ~u | ~ | ~n/s",
        ),
        (
            "networking.k8s.io",
            "ingresses",
            json!({"spec": {"rules": [{"host": "a.b"}], "tls": [{}]}}),
            "x | <none> | a.b |  | 80, 443 | 60m",
        ),
        (
            "storage.k8s.io",
            "storageclasses",
            json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
                "provisioner": "p", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
            "x (default) | p | Delete | Immediate | false | 60m",
        ),
        ("resource.k8s.io", "deviceclasses", json!({}), "x | 60m"),
    ] {
        assert_eq!(printed(group, plural, object), expected, "{plural}");
    }
}

#[test]
fn a_table_has_its_columns_once() {
    let r = find("", "v1", "configmaps").unwrap();
    let object = json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {}});
    let object = object.as_object().unwrap();
    let now = NOW.parse().unwrap();
    let table = render(
        r,
        json!({"resourceVersion": "7"}),
        [object],
        Include::Metadata,
        true,
        now,
    );
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["metadata"], json!({"resourceVersion": "7"}));
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 0, "<unknown>"]));
    let more = render(r, json!({}), [object], Include::None, false, now);
    assert_eq!(more["columnDefinitions"], Value::Null);
    assert_eq!(more["rows"][0]["object"], Value::Null);
    let whole = render(r, json!({}), [object], Include::Object, false, now);
    assert_eq!(whole["rows"][0]["object"], Value::Object(object.clone()));
}
