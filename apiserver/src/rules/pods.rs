//! Pods: what the server adds to them, to which node they are bound, when they may go.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::computed::{entries, entries_mut, set_missing};
use super::prepare::put;
use super::quantity;
use crate::object::{Object, at, child_mut, is_terminating, meta, metadata_mut};
use crate::resources::Resource;
use crate::select::Labels;
use crate::status::{Reason, Status};

/// How long a pod may take to end if nobody says otherwise.
const GRACE_S: i64 = 30;
/// How long a pod stays on a node that is gone.
const TOLERATION_S: i64 = 300;

/// Whether the objects of a resource are given time to end.
#[must_use]
pub fn ends_in_its_time(r: &Resource) -> bool {
    r.group.is_empty() && r.kind == "Pod"
}

/// For how long an object that is to be deleted stays for its keeper to end it; none if it goes at once. Only pods stay,
/// and only those that run somewhere.
#[must_use]
pub fn terminating_grace_s(r: &Resource, object: &Object, asked: Option<i64>) -> Option<i64> {
    if !ends_in_its_time(r) {
        return None;
    }
    let text = |path: &[&str]| at(object, path).and_then(Value::as_str).unwrap_or_default();
    let is_done = matches!(text(&["status", "phase"]), "Succeeded" | "Failed");
    if text(&["spec", "nodeName"]).is_empty() || is_done {
        return None;
    }
    let own = at(object, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    match asked.or(own).unwrap_or(GRACE_S) {
        0 => None,
        // What was meant to be "at once" is a second, so that the keeper hears of it.
        seconds => Some(seconds.max(1)),
    }
}

/// What a new pod is given: its first status, its priority and how long it stays on nodes that are gone.
pub(super) fn admit(pod: &mut Object) {
    let qos = qos_class(pod);
    pod.insert(
        "status".to_owned(),
        json!({ "phase": "Pending", "qosClass": qos }),
    );
    let spec = child_mut(pod, "spec");
    let class = spec
        .get("priorityClassName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let priority = match class {
        "system-node-critical" => Some(2_000_001_000_i64),
        "system-cluster-critical" => Some(2_000_000_000),
        "" => Some(0),
        _ => None,
    };
    if let Some(priority) = priority {
        set_missing(spec, "priority", priority.into());
    }
    set_missing(spec, "preemptionPolicy", "PreemptLowerPriority".into());
    tolerate(spec);
}

/// What a pod that is to replace another is given again, where it says nothing of it.
pub(super) fn admit_again(old: &Object, pod: &mut Object) {
    let spec = child_mut(pod, "spec");
    for field in ["priority", "preemptionPolicy"] {
        if let Some(value) = at(old, &["spec", field]) {
            set_missing(spec, field, value.clone());
        }
    }
    tolerate(spec);
}

/// Lets a pod stay for a while on a node that is gone, unless it says itself for how long.
fn tolerate(spec: &mut Object) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let is_tolerated = entries(spec, "tolerations").any(|toleration| tolerates(toleration, key));
        if !is_tolerated {
            let added = json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_S,
            });
            match spec.get_mut("tolerations") {
                Some(Value::Array(tolerations)) => tolerations.push(added),
                _ => {
                    spec.insert("tolerations".to_owned(), json!([added]));
                }
            }
        }
    }
}

fn tolerates(toleration: &Object, key: &str) -> bool {
    let text = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or_default();
    let is_key = text("key") == key || (text("key").is_empty() && text("operator") == "Exists");
    is_key && matches!(text("effect"), "" | "NoExecute")
}

/// How firmly a pod holds what it asks for.
fn qos_class(pod: &Object) -> &'static str {
    let empty = Object::new();
    let spec = pod.get("spec").and_then(Value::as_object).unwrap_or(&empty);
    let containers: Vec<&Object> = match spec.get("resources").and_then(Value::as_object) {
        Some(resources) if !resources.is_empty() => vec![spec],
        _ => entries(spec, "initContainers")
            .chain(entries(spec, "containers"))
            .collect(),
    };
    let of = |container: &Object, what: &str, name: &str| -> i128 {
        let quantity = at(container, &["resources", what, name]);
        match quantity {
            Some(Value::String(text)) => quantity::nanos(text).unwrap_or(0),
            Some(Value::Number(number)) => quantity::nanos(&number.to_string()).unwrap_or(0),
            _ => 0,
        }
    };
    let pairs = |container: &&Object| {
        ["cpu", "memory"].map(|name| (of(container, "requests", name), of(container, "limits", name)))
    };
    let all: Vec<(i128, i128)> = containers.iter().flat_map(pairs).collect();
    let asks = |(request, limit): &(i128, i128)| *request > 0 || *limit > 0;
    let is_sure = |(request, limit): &(i128, i128)| *limit > 0 && request == limit;
    match (all.iter().any(asks), all.iter().all(is_sure)) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Of a pod whose resources are to be changed, all but these and the metadata stays as it was.
pub(super) fn keep_all_but_resources(old: &Object, new: &mut Object) {
    let given = new
        .get("spec")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let metadata = new.remove("metadata");
    *new = old.clone();
    put(new, "metadata", metadata);
    let spec = child_mut(new, "spec");
    for list in ["initContainers", "containers"] {
        for container in entries_mut(spec, list) {
            let named = |given: &&Object| given.get("name") == container.get("name");
            let Some(given) = entries(&given, list).find(named) else {
                continue;
            };
            for field in ["resources", "resizePolicy"] {
                put(container, field, given.get(field).cloned());
            }
        }
    }
}

/// Binds a pod to the node that a binding names.
pub fn bind(pod: &mut Object, binding: &Object, now: Timestamp) -> Result<(), Status> {
    let refuse = |told: String| {
        let pods = crate::resources::find("", "v1", "pods");
        match pods {
            Some(pods) => Err(Status::conflict(pods, meta(pod, "name"), &told)),
            None => Err(Status::new(Reason::Conflict, told)),
        }
    };
    let target = |field: &str| {
        at(binding, &["target", field])
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (node, kind) = (target("name").to_owned(), target("kind"));
    if node.is_empty() {
        return Err(Status::bad_request("target.name: Required value"));
    }
    if !matches!(kind, "" | "Node") {
        let told =
            format!("target.kind: Unsupported value: \"{kind}\": supported values: \"Node\", \"<empty>\"");
        return Err(Status::bad_request(told));
    }
    let name = meta(pod, "name");
    if is_terminating(pod) {
        return refuse(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let bound = at(pod, &["spec", "nodeName"])
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !bound.is_empty() {
        return refuse(format!("pod {name} is already assigned to node \"{bound}\""));
    }
    let gates = at(pod, &["spec", "schedulingGates"]).and_then(Value::as_array);
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    child_mut(pod, "spec").insert("nodeName".to_owned(), node.into());
    for field in ["annotations", "labels"] {
        let added = at(binding, &["metadata", field]).and_then(Value::as_object);
        if let Some(added) = added.filter(|added| !added.is_empty()) {
            let into = child_mut(metadata_mut(pod), field);
            into.extend(added.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    }
    set_scheduled(pod, now);
    Ok(())
}

/// Says in the status of a pod that it has its node.
fn set_scheduled(pod: &mut Object, now: Timestamp) {
    let status = child_mut(pod, "status");
    let scheduled = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": super::seconds(now),
    });
    let Some(Value::Array(conditions)) = status.get_mut("conditions") else {
        status.insert("conditions".to_owned(), json!([scheduled]));
        return;
    };
    match conditions
        .iter_mut()
        .find(|condition| condition["type"] == "PodScheduled")
    {
        Some(condition) => *condition = scheduled,
        None => conditions.push(scheduled),
    }
}

/// What an eviction of a pod comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Eviction {
    /// It goes, and no budget has a say.
    Allowed,
    /// It goes, if the budget of this place among those shown can be charged with it first: it is shown with the new status.
    Charged(usize, Box<Object>),
}

/// Whether a pod may be evicted now, given all budgets of its namespace. A refusal is one that is worth another try.
pub fn evict(pod: &Object, budgets: &[Object], now: Timestamp) -> Result<Eviction, Status> {
    let phase = at(pod, &["status", "phase"])
        .and_then(Value::as_str)
        .unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed" | "Pending") || is_terminating(pod) {
        return Ok(Eviction::Allowed);
    }
    let selects = |budget: &Object| {
        let selector = Labels::of_selector(at(budget, &["spec", "selector"]));
        selector.is_ok_and(|selector| selector.matches_object(pod))
    };
    let mut found = budgets.iter().enumerate().filter(|(_, budget)| selects(budget));
    let Some((index, budget)) = found.next() else {
        return Ok(Eviction::Allowed);
    };
    if found.next().is_some() {
        let told = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::internal(told));
    }
    let healthy = at(pod, &["status", "conditions"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let is_ready = healthy
        .into_iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let number = |field: &str| {
        at(budget, &["status", field])
            .and_then(Value::as_i64)
            .unwrap_or(0)
    };
    let policy = at(budget, &["spec", "unhealthyPodEvictionPolicy"]).and_then(Value::as_str);
    let is_enough = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
    if !is_ready && (policy == Some("AlwaysAllow") || is_enough) {
        return Ok(Eviction::Allowed);
    }
    charge(pod, budget, now).map(|charged| Eviction::Charged(index, Box::new(charged)))
}

/// A budget with one disruption less to give.
fn charge(pod: &Object, budget: &Object, now: Timestamp) -> Result<Object, Status> {
    let name = meta(budget, "name");
    let refuse = |told: String, seconds: u32| {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let refused = Status::new(Reason::TooManyRequests, message).because("DisruptionBudget", "", told);
        Err(refused.retry_after(seconds))
    };
    let number = |path: &[&str]| at(budget, path).and_then(Value::as_i64).unwrap_or(0);
    if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
        return refuse(
            format!("The disruption budget {name} is still being processed by the server."),
            10,
        );
    }
    let allowed = number(&["status", "disruptionsAllowed"]);
    if allowed <= 0 {
        let (desired, current) = (
            number(&["status", "desiredHealthy"]),
            number(&["status", "currentHealthy"]),
        );
        let told =
            format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently");
        return refuse(told, 0);
    }
    let mut charged = budget.clone();
    let status = child_mut(&mut charged, "status");
    status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
    let disrupted = child_mut(status, "disruptedPods");
    disrupted.insert(meta(pod, "name").to_owned(), super::seconds(now).into());
    Ok(charged)
}
