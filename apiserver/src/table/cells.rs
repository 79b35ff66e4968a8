//! Cells that are more than a field: nodes, volumes, rights and the rest.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{Cell, ages};
use crate::object::{Object, at, is_terminating, meta};
use crate::select::Labels;

pub(super) static CELLS: &[(&str, Cell)] = &[
    ("api_available", api_available),
    ("api_service", api_service),
    ("bound_accounts", |binding, _| subjects(binding, "ServiceAccount")),
    ("bound_groups", |binding, _| subjects(binding, "Group")),
    ("bound_users", |binding, _| subjects(binding, "User")),
    ("claim_capacity", claim_capacity),
    ("claim_modes", claim_modes),
    ("claim_state", claim_state),
    ("claim_status", |claim, _| {
        lost_or(claim, text(claim, &["status", "phase"]))
    }),
    ("class_name", class_name),
    ("component_error", |component, _| healthy(component, "error")),
    ("component_message", |component, _| healthy(component, "message")),
    ("component_status", component_status),
    ("config_count", config_count),
    ("controller", controller),
    ("current_replicas", current_replicas),
    ("data_count", |secret, _| fields(secret, "data").into()),
    ("driver_modes", |driver, _| {
        texts(driver, &["spec", "volumeLifecycleModes"]).join(",").into()
    }),
    ("drivers", |node, _| {
        each(node, &["spec", "drivers"]).count().into()
    }),
    ("internal_ip", |node, _| address(node, "InternalIP")),
    ("metrics", metrics),
    ("missing_level", missing_level),
    ("node_external_ip", |node, _| address(node, "ExternalIP")),
    ("node_roles", node_roles),
    ("node_status", node_status),
    ("param_kind", param_kind),
    ("pod_selector", |policy, _| {
        selector_text(at(policy, &["spec", "podSelector"])).into()
    }),
    ("quota_limits", |quota, _| quota_text(quota, true)),
    ("quota_requests", |quota, _| quota_text(quota, false)),
    ("request_condition", request_condition),
    ("requested_duration", requested_duration),
    ("role_reference", role_reference),
    ("scale_target", scale_target),
    ("selector", |object, _| {
        selector_text(at(object, &["spec", "selector"])).into()
    }),
    ("selector_map", |object, _| {
        labels_text(at(object, &["spec", "selector"])).into()
    }),
    ("storage_class", storage_class),
    ("token_requests", token_requests),
    ("validations", |policy, _| {
        each(policy, &["spec", "validations"]).count().into()
    }),
    ("volume_claim", volume_claim),
    ("volume_modes", |volume, _| {
        modes(texts(volume, &["spec", "accessModes"]))
    }),
    ("volume_status", |volume, _| {
        terminating_or(volume, text(volume, &["status", "phase"]))
    }),
    ("webhooks", |configuration, _| {
        each(configuration, &["webhooks"]).count().into()
    }),
];

/// What stands where there is nothing.
pub(super) const NONE: &str = "<none>";
pub(super) const UNSET: &str = "<unset>";
/// How many of a list are shown.
const SHOWN_MAX: usize = 3;

pub(super) fn text<'a>(object: &'a Object, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The entries of a list.
pub(super) fn each<'a>(object: &'a Object, path: &[&str]) -> impl Iterator<Item = &'a Value> {
    at(object, path).and_then(Value::as_array).into_iter().flatten()
}

/// The objects of a list.
pub(super) fn list<'a>(object: &'a Object, path: &[&str]) -> impl Iterator<Item = &'a Object> {
    each(object, path).filter_map(Value::as_object)
}

pub(super) fn texts<'a>(object: &'a Object, path: &[&str]) -> Vec<&'a str> {
    each(object, path).filter_map(Value::as_str).collect()
}

fn fields(object: &Object, field: &str) -> usize {
    object
        .get(field)
        .and_then(Value::as_object)
        .map_or(0, Object::len)
}

/// The first few of a list, and how many more there are.
pub(super) fn few(all: &[String]) -> String {
    let shown = all
        .iter()
        .take(SHOWN_MAX)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(",");
    match all.len().checked_sub(SHOWN_MAX) {
        Some(more) if more > 0 => format!("{shown} + {more} more..."),
        _ => shown,
    }
}

/// Labels as `a=b,c=d`.
pub(super) fn labels_text(labels: Option<&Value>) -> String {
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    let mut all: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    all.sort();
    if all.is_empty() {
        NONE.to_owned()
    } else {
        all.join(",")
    }
}

/// A selector object as text.
pub(super) fn selector_text(selector: Option<&Value>) -> String {
    let labels = Labels::of_selector(selector).map(|labels| labels.to_string());
    labels
        .ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| NONE.to_owned())
}

pub(super) fn age(object: &Object, now: Timestamp) -> Value {
    ages::since(at(object, &["metadata", "creationTimestamp"]), now).into()
}

fn terminating_or(object: &Object, otherwise: &str) -> Value {
    if is_terminating(object) {
        "Terminating".into()
    } else {
        otherwise.into()
    }
}

// Nodes.

fn node_status(node: &Object, _: Timestamp) -> Value {
    let mut ready =
        list(node, &["status", "conditions"]).filter(|condition| text(condition, &["type"]) == "Ready");
    let status = match ready.next().map(|condition| text(condition, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    match at(node, &["spec", "unschedulable"]) {
        Some(Value::Bool(true)) => format!("{status},SchedulingDisabled").into(),
        _ => status.into(),
    }
}

fn node_roles(node: &Object, _: Timestamp) -> Value {
    let labels = at(node, &["metadata", "labels"]).and_then(Value::as_object);
    let mut roles: BTreeSet<&str> = BTreeSet::new();
    for (key, value) in labels.into_iter().flatten() {
        if let Some(role) = key.strip_prefix("node-role.kubernetes.io/") {
            roles.insert(role);
        } else if key == "kubernetes.io/role" {
            roles.insert(value.as_str().unwrap_or_default());
        }
    }
    let roles: Vec<&str> = roles.into_iter().filter(|role| !role.is_empty()).collect();
    if roles.is_empty() {
        NONE.into()
    } else {
        roles.join(",").into()
    }
}

fn address(node: &Object, kind: &str) -> Value {
    let mut found = list(node, &["status", "addresses"]).filter(|address| text(address, &["type"]) == kind);
    found
        .next()
        .map_or(NONE, |address| text(address, &["address"]))
        .into()
}

// Volumes.

fn lost_or(claim: &Object, phase: &str) -> Value {
    terminating_or(claim, phase)
}

fn modes(modes: Vec<&str>) -> Value {
    let short = |mode: &str| match mode {
        "ReadWriteOnce" => Some("RWO"),
        "ReadOnlyMany" => Some("ROX"),
        "ReadWriteMany" => Some("RWX"),
        "ReadWriteOncePod" => Some("RWOP"),
        _ => None,
    };
    const ORDER: [&str; 4] = ["RWO", "ROX", "RWX", "RWOP"];
    let has: Vec<&str> = modes.into_iter().filter_map(short).collect();
    let shown: Vec<&str> = ORDER.into_iter().filter(|mode| has.contains(mode)).collect();
    shown.join(",").into()
}

fn is_bound(claim: &Object) -> bool {
    !text(claim, &["spec", "volumeName"]).is_empty()
}

fn claim_modes(claim: &Object, _: Timestamp) -> Value {
    match is_bound(claim) {
        true => modes(texts(claim, &["status", "accessModes"])),
        false => "".into(),
    }
}

fn claim_capacity(claim: &Object, _: Timestamp) -> Value {
    match is_bound(claim) {
        true => text(claim, &["status", "capacity", "storage"]).into(),
        false => "".into(),
    }
}

fn storage_class(object: &Object, _: Timestamp) -> Value {
    let old = at(
        object,
        &[
            "metadata",
            "annotations",
            "volume.beta.kubernetes.io/storage-class",
        ],
    );
    match old.and_then(Value::as_str) {
        Some(class) => class.into(),
        None => text(object, &["spec", "storageClassName"]).into(),
    }
}

fn volume_claim(volume: &Object, _: Timestamp) -> Value {
    let part = |field: &str| text(volume, &["spec", "claimRef", field]);
    match (part("namespace"), part("name")) {
        ("", "") => "".into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    }
}

fn class_name(class: &Object, _: Timestamp) -> Value {
    let annotation = |name: &str| at(class, &["metadata", "annotations", name]) == Some(&Value::from("true"));
    let is_default = annotation("storageclass.kubernetes.io/is-default-class")
        || annotation("storageclass.beta.kubernetes.io/is-default-class");
    let name = meta(class, "name");
    if is_default {
        format!("{name} (default)").into()
    } else {
        name.into()
    }
}

fn token_requests(driver: &Object, _: Timestamp) -> Value {
    let audiences = list(driver, &["spec", "tokenRequests"]).map(|request| text(request, &["audience"]));
    let audiences: Vec<&str> = audiences.collect();
    if audiences.is_empty() {
        UNSET.into()
    } else {
        audiences.join(",").into()
    }
}

fn claim_state(claim: &Object, _: Timestamp) -> Value {
    let is_allocated = at(claim, &["status", "allocation"]).is_some_and(Value::is_object);
    let mut states = Vec::new();
    if is_terminating(claim) {
        states.push("deleted");
    }
    states.push(if is_allocated { "allocated" } else { "pending" });
    if each(claim, &["status", "reservedFor"]).next().is_some() {
        states.push("reserved");
    }
    states.retain(|state| *state != "pending" || !is_terminating(claim));
    states.join(",").into()
}

// Settings, rights, budgets and the rest.

fn config_count(map: &Object, _: Timestamp) -> Value {
    (fields(map, "data") + fields(map, "binaryData")).into()
}

fn controller(revision: &Object, _: Timestamp) -> Value {
    let mut owners = list(revision, &["metadata", "ownerReferences"]);
    let owner = owners.find(|owner| owner.get("controller") == Some(&Value::Bool(true)));
    let Some(owner) = owner else {
        return NONE.into();
    };
    let kind = text(owner, &["kind"]).to_lowercase();
    let name = text(owner, &["name"]);
    match text(owner, &["apiVersion"]).split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}").into(),
        None => format!("{kind}/{name}").into(),
    }
}

fn role_reference(binding: &Object, _: Timestamp) -> Value {
    format!(
        "{}/{}",
        text(binding, &["roleRef", "kind"]),
        text(binding, &["roleRef", "name"])
    )
    .into()
}

fn subjects(binding: &Object, kind: &str) -> Value {
    let of_kind = list(binding, &["subjects"]).filter(|subject| text(subject, &["kind"]) == kind);
    let show = |subject| match (kind, text(subject, &["namespace"]), text(subject, &["name"])) {
        ("ServiceAccount", namespace, name) => format!("{namespace}/{name}"),
        (_, _, name) => name.to_owned(),
    };
    of_kind.map(show).collect::<Vec<_>>().join(", ").into()
}

fn scale_target(autoscaler: &Object, _: Timestamp) -> Value {
    let part = |field: &str| text(autoscaler, &["spec", "scaleTargetRef", field]);
    format!("{}/{}", part("kind"), part("name")).into()
}

fn current_replicas(autoscaler: &Object, _: Timestamp) -> Value {
    let current = at(autoscaler, &["status", "currentReplicas"]).and_then(Value::as_i64);
    current.unwrap_or(0).into()
}

/// What an autoscaler measures and what it aims at, `cpu: 20%/80%`.
fn metrics(autoscaler: &Object, _: Timestamp) -> Value {
    const METRICS_SHOWN: usize = 2;
    if let Some(target) = at(autoscaler, &["spec", "targetCPUUtilizationPercentage"]).and_then(Value::as_i64)
    {
        let current = at(autoscaler, &["status", "currentCPUUtilizationPercentage"]).and_then(Value::as_i64);
        let current = current.map_or_else(|| "<unknown>".to_owned(), |current| format!("{current}%"));
        return format!("cpu: {current}/{target}%").into();
    }
    let all: Vec<&Object> = list(autoscaler, &["spec", "metrics"]).collect();
    if all.is_empty() {
        return NONE.into();
    }
    let current: Vec<&Object> = list(autoscaler, &["status", "currentMetrics"]).collect();
    let shown = all.iter().enumerate().take(METRICS_SHOWN);
    let shown: Vec<String> = shown
        .map(|(index, metric)| metric_text(metric, current.get(index).copied()))
        .collect();
    let shown = shown.join(", ");
    match all.len().checked_sub(METRICS_SHOWN) {
        Some(more) if more > 0 => format!("{shown} + {more} more...").into(),
        _ => shown.into(),
    }
}

fn metric_text(metric: &Object, current: Option<&Object>) -> String {
    let source = match text(metric, &["type"]) {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let value = |metric: Option<&Object>, place: &str| -> Option<String> {
        let value = at(metric?, &[source, place])?.as_object()?;
        if let Some(percent) = value.get("averageUtilization").and_then(Value::as_i64) {
            return Some(format!("{percent}%"));
        }
        let average = value.get("averageValue").and_then(Value::as_str);
        let text = average.or_else(|| value.get("value").and_then(Value::as_str))?;
        let is_average = average.is_some() && matches!(source, "object" | "external");
        Some(if is_average {
            format!("{text} (avg)")
        } else {
            text.to_owned()
        })
    };
    let now = value(current, "current").unwrap_or_else(|| "<unknown>".to_owned());
    let wanted = value(Some(metric), "target").unwrap_or_else(|| "<auto>".to_owned());
    match source {
        "resource" | "containerResource" => format!("{}: {now}/{wanted}", text(metric, &[source, "name"])),
        _ => format!("{now}/{wanted}"),
    }
}

/// How much of each resource is used and allowed; either limits or what is asked for and counted.
fn quota_text(quota: &Object, limits: bool) -> Value {
    let mut all = Vec::new();
    let hard = at(quota, &["status", "hard"]).and_then(Value::as_object);
    for (name, allowed) in hard.into_iter().flatten() {
        if name.starts_with("limits") != limits {
            continue;
        }
        let used = text(quota, &["status", "used", name]);
        all.push(format!("{name}: {used}/{}", allowed.as_str().unwrap_or_default()));
    }
    all.sort();
    all.join(", ").into()
}

fn requested_duration(request: &Object, _: Timestamp) -> Value {
    match at(request, &["spec", "expirationSeconds"]).and_then(Value::as_i64) {
        Some(seconds) => ages::human(seconds).into(),
        None => NONE.into(),
    }
}

fn request_condition(request: &Object, _: Timestamp) -> Value {
    let kinds: Vec<&str> = list(request, &["status", "conditions"])
        .map(|condition| text(condition, &["type"]))
        .collect();
    let mut shown = Vec::new();
    if kinds.contains(&"Denied") {
        shown.push("Denied");
    } else if kinds.contains(&"Approved") {
        shown.push("Approved");
    } else {
        shown.push("Pending");
    }
    if kinds.contains(&"Failed") {
        shown.push("Failed");
    }
    if !text(request, &["status", "certificate"]).is_empty() {
        shown.push("Issued");
    }
    shown.join(",").into()
}

fn healthy<'a>(component: &'a Object, field: &str) -> Value {
    let mut conditions =
        list(component, &["conditions"]).filter(|condition| text(condition, &["type"]) == "Healthy");
    conditions
        .next()
        .map_or("", |condition: &'a Object| text(condition, &[field]))
        .into()
}

fn component_status(component: &Object, _: Timestamp) -> Value {
    let mut conditions =
        list(component, &["conditions"]).filter(|condition| text(condition, &["type"]) == "Healthy");
    match conditions.next().map(|condition| text(condition, &["status"])) {
        Some("True") => "Healthy".into(),
        Some("False") => "Unhealthy".into(),
        _ => "Unknown".into(),
    }
}

fn param_kind(policy: &Object, _: Timestamp) -> Value {
    let part = |field: &str| text(policy, &["spec", "paramKind", field]);
    match (part("apiVersion"), part("kind")) {
        (_, "") => UNSET.into(),
        (version, kind) => format!("{version}/{kind}").into(),
    }
}

fn api_service(service: &Object, _: Timestamp) -> Value {
    let part = |field: &str| text(service, &["spec", "service", field]);
    match (part("namespace"), part("name")) {
        (_, "") => "Local".into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    }
}

fn api_available(service: &Object, _: Timestamp) -> Value {
    let mut available =
        list(service, &["status", "conditions"]).filter(|one| text(one, &["type"]) == "Available");
    match available.next() {
        None => "Unknown".into(),
        Some(condition) if text(condition, &["status"]) == "True" => "True".into(),
        Some(condition) => format!(
            "{} ({})",
            text(condition, &["status"]),
            text(condition, &["reason"])
        )
        .into(),
    }
}

fn missing_level(schema: &Object, _: Timestamp) -> Value {
    let mut dangling =
        list(schema, &["status", "conditions"]).filter(|one| text(one, &["type"]) == "Dangling");
    dangling
        .next()
        .map_or("?", |condition| text(condition, &["status"]))
        .into()
}
