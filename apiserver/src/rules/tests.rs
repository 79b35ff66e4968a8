//! Defaults and validation of whole objects, as tables.
#![allow(
    clippy::needless_pass_by_value,
    reason = "values are written where they are used"
)]

use serde_json::{Value, json};

use super::*;
use crate::object::Object;
use crate::resources::{Resource, Subresource, find};

fn resource(name: &str) -> &'static Resource {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [version, plural] => find("", version, plural).unwrap(),
        [group, version, plural] => find(group, version, plural).unwrap(),
        _ => panic!("{name}"),
    }
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other}"),
    }
}

fn told(r: &str, old: Option<Value>, new: Value) -> Vec<String> {
    let old = old.map(object);
    validate(resource(r), old.as_ref(), &object(new))
        .into_iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect()
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})
}

fn made(r: &str, value: Value) -> Value {
    let mut made = object(value);
    default(resource(r), &mut made);
    let once = made.clone();
    default(resource(r), &mut made);
    assert_eq!(made, once, "defaults of defaults change nothing");
    Value::Object(made)
}

#[test]
fn a_pod_gets_its_defaults() {
    let made = made(
        "v1/pods",
        pod(json!({
            "containers": [
                {"name": "a", "image": "x", "resources": {"limits": {"cpu": "1"}}, "livenessProbe": {"httpGet": {"port": 1}}},
                {"name": "b", "image": "h:5000/x:1", "ports": [{"containerPort": 80}]},
                {"name": "c", "image": "x@sha256:0"},
            ],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "s"}}],
        })),
    );
    let container = |name: &str, image: &str, policy: &str, resources: Value| {
        json!({
            "name": name, "image": image, "imagePullPolicy": policy, "resources": resources,
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        })
    };
    let mut a = container(
        "a",
        "x",
        "Always",
        json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}),
    );
    a["livenessProbe"] = json!({
        "httpGet": {"port": 1, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
    });
    let mut b = container("b", "h:5000/x:1", "IfNotPresent", json!({}));
    b["ports"] = json!([{"containerPort": 80, "protocol": "TCP"}]);
    assert_eq!(
        made["spec"],
        json!({
            "containers": [a, b, container("c", "x@sha256:0", "IfNotPresent", json!({}))],
            "volumes": [
                {"name": "v", "emptyDir": {}},
                {"name": "s", "secret": {"secretName": "s", "defaultMode": 420}},
            ],
            "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
            "enableServiceLinks": true,
            "serviceAccountName": "default",
            "serviceAccount": "default",
        })
    );
}

#[test]
fn workloads_and_services_get_their_defaults() {
    let deployment = made(
        "apps/v1/deployments",
        json!({"spec": {"template": {"spec": {"containers": []}}}}),
    );
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(
        deployment["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
    assert_eq!(deployment["spec"]["template"]["spec"]["restartPolicy"], "Always");
    let recreate = made(
        "apps/v1/deployments",
        json!({"spec": {"strategy": {"type": "Recreate"}}}),
    );
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
    let service = made("v1/services", json!({"spec": {"ports": [{"port": 80}]}}));
    assert_eq!(
        service["spec"],
        json!({
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}],
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        })
    );
    let job = made(
        "batch/v1/jobs",
        json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {}}}}),
    );
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(
        (
            &job["spec"]["completions"],
            &job["spec"]["parallelism"],
            &job["spec"]["backoffLimit"]
        ),
        (&json!(1), &json!(1), &json!(6))
    );
    let parallel = made("batch/v1/jobs", json!({"spec": {"parallelism": 3}}));
    assert_eq!(parallel["spec"].get("completions"), None);
    let secret = made(
        "v1/secrets",
        json!({"data": {"a": "MQ==", "b": "Mg=="}, "stringData": {"b": "3"}}),
    );
    assert_eq!(
        secret,
        json!({"type": "Opaque", "data": {"a": "MQ==", "b": "Mw=="}})
    );

    let namespace = made("v1/namespaces", json!({"metadata": {"name": "x"}}));
    assert_eq!(
        namespace["metadata"]["labels"],
        json!({"kubernetes.io/metadata.name": "x"})
    );
    let binding = made(
        "rbac.authorization.k8s.io/v1/rolebindings",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount"}]}),
    );
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][1].get("apiGroup"), None);
}

#[test]
fn what_is_wrong_is_told_as_a_real_server_tells_it() {
    assert_eq!(
        told("v1/configmaps", None, json!({"metadata": {"namespace": "n"}})),
        ["metadata.name: Required value: name or generateName is required"]
    );
    assert_eq!(
        told("v1/pods", None, pod(json!({}))),
        ["spec.containers: Required value"]
    );
    assert_eq!(
        told(
            "v1/pods",
            None,
            pod(json!({
                "restartPolicy": "Sometimes",
                "containers": [
                    {"name": "A", "image": "x"},
                    {"name": "b", "ports": [{"containerPort": 70000}]},
                    {"name": "b", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
                ],
            }))
        ),
        [
            "spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case \
             alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
             '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "spec.containers[1].image: Required value",
            "spec.containers[1].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[2].name: Duplicate value: \"b\"",
            "spec.containers[2].volumeMounts[0].name: Not found: \"v\"",
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ]
    );
    let deployment = |labels: Value| {
        json!({
            "metadata": {"name": "d", "namespace": "n"},
            "spec": {
                "selector": {"matchLabels": {"app": "a"}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
            },
        })
    };
    assert_eq!(
        told("apps/v1/deployments", None, deployment(json!({"app": "b"}))),
        [
            "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`"
        ]
    );
    let right = deployment(json!({"app": "a", "b": "c"}));
    assert_eq!(
        told("apps/v1/deployments", None, right.clone()),
        Vec::<String>::new()
    );
    let mut changed = right.clone();
    changed["spec"]["selector"] = json!({"matchLabels": {"b": "c"}});
    assert_eq!(
        told("apps/v1/deployments", Some(right), changed),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"b\":\"c\"}}: field is immutable"]
    );
    assert_eq!(
        told(
            "apps/v1/deployments",
            None,
            json!({"metadata": {"name": "d", "namespace": "n"}, "spec": {}})
        ),
        [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            "spec.template.spec.containers: Required value"
        ]
    );
}

#[test]
fn a_pod_that_is_there_hardly_changes() {
    let old = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let image = pod(json!({"containers": [{"name": "a", "image": "y"}]}));
    assert_eq!(told("v1/pods", Some(old.clone()), image), Vec::<String>::new());
    let bound = pod(json!({"containers": [{"name": "a", "image": "x"}], "nodeName": "n"}));
    let refused = told("v1/pods", Some(old.clone()), bound.clone());
    assert!(
        refused[0].starts_with("spec: Forbidden: pod updates may not change fields other than "),
        "{refused:?}"
    );
    let through = Some(Subresource::Binding);
    let causes = validate_in(resource("v1/pods"), through, Some(&object(old)), &object(bound));
    assert_eq!(causes, []);
}

#[test]
fn an_update_keeps_what_is_not_its_own() {
    let r = resource("apps/v1/deployments");
    let old = object(json!({
        "metadata": {"name": "d", "uid": "u", "creationTimestamp": "t", "generation": 4},
        "spec": {"replicas": 1},
        "status": {"replicas": 1},
    }));
    let mut new = object(json!({
        "metadata": {"name": "d", "labels": {"a": "b"}, "generation": 9},
        "spec": {"replicas": 2},
        "status": {"replicas": 9},
    }));
    let mut status = new.clone();
    prepare_update(r, None, &old, &mut new);
    assert_eq!(
        Value::Object(new),
        json!({
            "metadata": {"name": "d", "uid": "u", "creationTimestamp": "t", "generation": 5, "labels": {"a": "b"}},
            "spec": {"replicas": 2},
            "status": {"replicas": 1},
        })
    );
    prepare_update(r, Some(Subresource::Status), &old, &mut status);
    assert_eq!(
        Value::Object(status),
        json!({
            "metadata": {"name": "d", "uid": "u", "creationTimestamp": "t", "generation": 4},
            "spec": {"replicas": 1},
            "status": {"replicas": 9},
        })
    );
}

#[test]
fn new_objects_begin_without_a_past() {
    let mut namespace =
        object(json!({"metadata": {"name": "x", "generation": 3}, "status": {"phase": "Odd"}}));
    prepare_create(resource("v1/namespaces"), &mut namespace);
    assert_eq!(
        Value::Object(namespace.clone()),
        json!({"metadata": {"name": "x"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
    );
    assert!(!is_finalized(&namespace));
    let mut pod = object(pod(json!({"containers": [{"name": "a", "resources": {
        "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"},
    }}]})));
    prepare_create(resource("v1/pods"), &mut pod);
    let pod = Value::Object(pod);
    assert_eq!(
        pod["status"],
        json!({"phase": "Pending", "qosClass": "Guaranteed"})
    );
    assert_eq!(pod["metadata"]["generation"], 1);
    assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 2);
    let mut job = object(json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {}}}));
    prepare_create(resource("batch/v1/jobs"), &mut job);
    let job = Value::Object(job);
    assert_eq!(
        job["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
    );
    assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
}

#[test]
fn only_pods_that_run_take_their_time_to_go() {
    let pods = resource("v1/pods");
    let grace = |value: Value, asked: Option<i64>| terminating_grace_s(pods, &object(value), asked);
    let running = json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 20}});
    assert_eq!(grace(running.clone(), None), Some(20));
    assert_eq!(grace(running.clone(), Some(5)), Some(5));
    assert_eq!(grace(running.clone(), Some(-1)), Some(1));
    assert_eq!(grace(running, Some(0)), None);
    assert_eq!(grace(json!({"spec": {"nodeName": "n"}}), None), Some(30));
    assert_eq!(grace(json!({"spec": {}}), None), None);
    assert_eq!(
        grace(
            json!({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}),
            None
        ),
        None
    );
    assert_eq!(
        terminating_grace_s(resource("v1/configmaps"), &Object::new(), Some(9)),
        None
    );
}

#[test]
fn a_pod_is_bound_once() {
    let now: jiff::Timestamp = "2026-01-02T03:04:05.6Z".parse().unwrap();
    let mut bound = object(pod(json!({})));
    let binding =
        object(json!({"metadata": {"annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n1"}}));
    bind(&mut bound, &binding, now).unwrap();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(
        bound["status"]["conditions"],
        json!([{"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-02T03:04:05Z"}])
    );
    let refused = bind(&mut bound, &binding, now).unwrap_err();
    assert_eq!(refused.code, 409);
    assert_eq!(
        refused.message,
        "Operation cannot be fulfilled on pods \"p\": pod p is already assigned to node \"n1\""
    );
    let nowhere = object(json!({"target": {}}));
    assert_eq!(
        bind(&mut object(pod(json!({}))), &nowhere, now).unwrap_err().code,
        400
    );
}

#[test]
fn evictions_are_charged_to_their_budget() {
    let now: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let pod = object(json!({
        "metadata": {"name": "p", "labels": {"app": "a"}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }));
    let budget = |allowed: i64| {
        object(json!({
            "metadata": {"name": "b", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "a"}}},
            "status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "desiredHealthy": 1, "currentHealthy": 1},
        }))
    };
    assert_eq!(evict(&pod, &[], now).unwrap(), Eviction::Allowed);
    match evict(&pod, &[budget(1)], now).unwrap() {
        Eviction::Charged(0, charged) => {
            assert_eq!(charged["status"]["disruptionsAllowed"], 0);
            assert_eq!(
                charged["status"]["disruptedPods"],
                json!({"p": "2026-01-02T03:04:05Z"})
            );
        }
        other => panic!("{other:?}"),
    }
    let refused = evict(&pod, &[budget(0)], now).unwrap_err();
    assert_eq!(refused.code, 429);
    assert_eq!(refused.details.causes[0].reason, "DisruptionBudget");
}

#[test]
fn services_are_allotted_what_is_free() {
    let mut used = services::Used::default();
    let service = |spec: Value| object(json!({"spec": spec}));
    let mut first = service(json!({"type": "NodePort", "ports": [{"port": 1}]}));
    services::allot(&mut first, &mut used).unwrap();
    assert_eq!(first["spec"]["clusterIP"], "10.96.0.2");
    assert_eq!(first["spec"]["ports"][0]["nodePort"], 30000);
    let mut second =
        service(json!({"type": "LoadBalancer", "ports": [{"port": 1}], "clusterIP": "10.96.0.9"}));
    services::allot(&mut second, &mut used).unwrap();
    assert_eq!(second["spec"]["ports"][0]["nodePort"], 30001);
    let mut taken = service(json!({"clusterIP": "10.96.0.9"}));
    assert_eq!(services::allot(&mut taken, &mut used).unwrap_err().len(), 1);
    let mut headless = service(json!({"clusterIP": "None", "selector": {"a": "b"}}));
    services::allot(&mut headless, &mut used).unwrap();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let mut again = services::Used::default();
    for one in [&first, &second, &headless] {
        again.add(one);
    }
    assert_eq!(
        (again.ips.clone(), again.node_ports.clone()),
        (used.ips, used.node_ports)
    );
    again.remove(&first);
    assert!(!again.node_ports.contains(&30000));
}

#[test]
fn a_service_keeps_what_it_was_allotted() {
    let r = resource("v1/services");
    let old = object(json!({"metadata": {"name": "s"}, "spec": {
        "type": "NodePort", "clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2"], "ipFamilies": ["IPv4"],
        "externalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}],
    }}));
    let again = |spec: Value| {
        let mut new = object(json!({"metadata": {"name": "s"}, "spec": spec}));
        default(r, &mut new);
        prepare_update(r, None, &old, &mut new);
        assert_eq!(
            validate(r, Some(&old), &new).len(),
            1,
            "only the namespace is missing: {new:?}"
        );
        new.remove("spec").unwrap_or_default()
    };
    let same = again(json!({"type": "NodePort", "ports": [{"port": 80}]}));
    assert_eq!(same["clusterIP"], "10.96.0.2");
    assert_eq!(same["ports"][0]["nodePort"], 30000);
    let inner = again(json!({
        "type": "ClusterIP", "externalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}],
    }));
    assert_eq!(inner["clusterIP"], "10.96.0.2");
    assert_eq!(inner["ports"][0].get("nodePort"), None);
    assert_eq!(inner.get("externalTrafficPolicy"), None);
    let named = again(json!({"type": "ExternalName", "externalName": "a.b", "clusterIP": "10.96.0.2"}));
    assert_eq!(named.get("clusterIP"), None);
}
