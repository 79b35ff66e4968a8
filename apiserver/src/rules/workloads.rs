//! Rules of pods and of what makes them; `validation.txt` says where each belongs.

use serde_json::{Value, json};

use super::checks::{Check, QUANTITY, field, selects, text};
use super::computed::{entries, entries_mut};
use super::defaults::{POD, apply as apply_defaults};
use super::quantity;
use super::validation::Judged;
use crate::object::{Object, at};
use crate::status::Cause;

pub(super) static CHECKS: &[(&str, Check)] = &[
    ("container_names", container_names),
    ("job_restart", job_restart),
    ("job_update", job_update),
    ("probe_handler", probe_handler),
    ("scaled_group", scaled_group),
    ("scheduled_restart", scheduled_restart),
    ("map_selects_template", map_selects_template),
    ("progress_deadline", progress_deadline),
    ("quantities", quantities),
    ("replicas_in_order", replicas_in_order),
    ("rolling_update", rolling_update),
    ("schedule", schedule),
    ("selector_selects_template", selector_selects_template),
    ("stateful_update", stateful_update),
    ("volume_mounts", volume_mounts),
];

/// No two containers of a pod have one name, whichever list they stand in.
fn container_names(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let mut seen: Vec<&str> = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in entries(judged.new, list).enumerate() {
            let name = text(container, &["name"]);
            if !name.is_empty() && seen.contains(&name) {
                let place = format!("{}[{index}].name", field(judged, list));
                causes.push(Cause::duplicate(place, &name.into()));
            }
            seen.push(name);
        }
    }
}

/// What is mounted is a volume of the pod.
fn volume_mounts(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let volumes: Vec<&str> = entries(judged.new, "volumes")
        .map(|volume| text(volume, &["name"]))
        .collect();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in entries(judged.new, list).enumerate() {
            for (number, mount) in entries(container, "volumeMounts").enumerate() {
                let name = text(mount, &["name"]);
                if !name.is_empty() && !volumes.contains(&name) {
                    let place = format!("{}[{index}].volumeMounts[{number}].name", field(judged, list));
                    causes.push(Cause {
                        reason: "FieldValueNotFound",
                        message: format!("Not found: \"{name}\""),
                        field: place,
                    });
                }
            }
        }
    }
}

/// What a container asks for is no more than it may have.
fn quantities(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let value = |what: &str| at(judged.new, &["resources", what]).and_then(Value::as_object);
    let parse = |quantity: &Value| match quantity {
        Value::String(text) => quantity::nanos(text),
        Value::Number(number) => quantity::nanos(&number.to_string()),
        _ => None,
    };
    for what in ["limits", "requests"] {
        for (name, quantity) in value(what).into_iter().flatten() {
            let place = format!("{}.{what}[{name}]", field(judged, "resources"));
            match parse(quantity) {
                None => causes.push(Cause::invalid(place, quantity, QUANTITY)),
                Some(number) if number < 0 => {
                    causes.push(Cause::invalid(
                        place,
                        quantity,
                        "must be greater than or equal to 0",
                    ));
                }
                Some(_) => {}
            }
        }
    }
    for (name, request) in value("requests").into_iter().flatten() {
        let limit = value("limits").and_then(|limits| limits.get(name));
        let Some((limit, shown)) = limit.and_then(|limit| Some((parse(limit)?, limit))) else {
            continue;
        };
        if parse(request).is_some_and(|request| request > limit) {
            let shown = shown.as_str().map_or_else(|| shown.to_string(), str::to_owned);
            let told = format!("must be less than or equal to {name} limit of {shown}");
            causes.push(Cause::invalid(
                field(judged, "resources.requests"),
                request,
                &told,
            ));
        }
    }
}

fn selector_selects_template(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    check_selector(judged, false, causes);
}

fn map_selects_template(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    check_selector(judged, true, causes);
}

fn check_selector(judged: &Judged<'_>, is_map: bool, causes: &mut Vec<Cause>) {
    let labels = at(judged.new, &["spec", "template", "metadata", "labels"]);
    let selector = at(judged.new, &["spec", "selector"]).filter(|selector| selector.is_object());
    if is_map && selector.is_none() {
        return;
    }
    if selector == Some(&json!({})) {
        let kind = text(judged.new, &["kind"]).to_lowercase();
        let told = format!("empty selector is invalid for {kind}");
        causes.push(Cause::invalid("spec.selector", &json!({}), &told));
        return;
    }
    if !selects(selector, is_map, labels.and_then(Value::as_object)) {
        let told = "`selector` does not match template `labels`";
        let labels = labels.cloned().unwrap_or_default();
        causes.push(Cause::invalid("spec.template.metadata.labels", &labels, told));
    }
}

/// A rolling update has somewhere to begin.
fn rolling_update(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let place = "spec.strategy.rollingUpdate";
    let strategy = at(judged.new, &["spec", "strategy"]);
    let Some(rolling) = strategy
        .and_then(|strategy| strategy.get("rollingUpdate"))
        .and_then(Value::as_object)
    else {
        return;
    };
    if strategy.is_some_and(|strategy| strategy["type"] == "Recreate") {
        let told = "may not be specified when strategy `type` is 'Recreate'";
        causes.push(Cause::forbidden(place, told));
        return;
    }
    for name in ["maxUnavailable", "maxSurge"] {
        let Some(value) = rolling.get(name) else { continue };
        let is_right = match value {
            Value::Number(number) => number.as_i64().is_some_and(|number| number >= 0),
            Value::String(text) => percent(text).is_some(),
            _ => false,
        };
        if !is_right {
            let told = match value {
                Value::Number(_) => "must be greater than or equal to 0",
                _ => {
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                     regex used for validation is '[0-9]+%')"
                }
            };
            causes.push(Cause::invalid(format!("{place}.{name}"), value, told));
        }
    }
    let is_zero = |name: &str| match rolling.get(name) {
        Some(Value::String(text)) => percent(text) == Some(0),
        Some(value) => value == &json!(0),
        None => false,
    };
    if is_zero("maxUnavailable") && is_zero("maxSurge") {
        let value = rolling.get("maxUnavailable").cloned().unwrap_or_default();
        let told = "may not be 0 when `maxSurge` is 0";
        causes.push(Cause::invalid(format!("{place}.maxUnavailable"), &value, told));
    }
}

fn percent(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('%')?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

fn progress_deadline(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let number = |name: &str| at(judged.new, &["spec", name]).and_then(Value::as_i64);
    let Some(deadline) = number("progressDeadlineSeconds") else {
        return;
    };
    if deadline <= number("minReadySeconds").unwrap_or(0) {
        let told = "must be greater than minReadySeconds";
        causes.push(Cause::invalid(
            "spec.progressDeadlineSeconds",
            &deadline.into(),
            told,
        ));
    }
}

/// Only a part of a stateful set may change.
fn stateful_update(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    const CHANGEABLE: &[&str] = &[
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "revisionHistoryLimit",
        "ordinals",
        "persistentVolumeClaimRetentionPolicy",
    ];
    let Some(old) = judged.old else { return };
    if fixed(old, CHANGEABLE) != fixed(judged.new, CHANGEABLE) {
        let told = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                    'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                    'minReadySeconds' are forbidden";
        causes.push(Cause::forbidden("spec", told));
    }
}

/// The spec without what may change.
fn fixed(object: &Object, changeable: &[&str]) -> Object {
    let mut spec = object
        .get("spec")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    spec.retain(|field, value| !changeable.contains(&field.as_str()) && !value.is_null());
    spec
}

fn job_restart(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let policy = text(judged.new, &["spec", "template", "spec", "restartPolicy"]);
    check_restart("spec.template.spec.restartPolicy", policy, causes);
}

fn scheduled_restart(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let path = ["spec", "jobTemplate", "spec", "template", "spec", "restartPolicy"];
    check_restart(&path.join("."), text(judged.new, &path), causes);
}

/// The pods of a job end.
fn check_restart(place: &str, policy: &str, causes: &mut Vec<Cause>) {
    match policy {
        "OnFailure" | "Never" => {}
        "Always" | "" => causes.push(Cause::required(place, "valid values: \"OnFailure\", \"Never\"")),
        other => causes.push(Cause::not_supported(
            place,
            &other.into(),
            &["OnFailure", "Never"],
        )),
    }
}

/// A probe asks somehow.
fn probe_handler(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    const HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc"];
    let is_given = |name: &&str| judged.new.get(*name).is_some_and(|handler| !handler.is_null());
    if !HANDLERS.iter().any(is_given) {
        causes.push(Cause::required(judged.at, "must specify a handler type"));
    }
}

/// What is scaled is of a group, but for the one old kind that has none.
fn scaled_group(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let of = |name: &str| text(judged.new, &["spec", "scaleTargetRef", name]);
    let version = of("apiVersion");
    if judged.old.is_none() && !version.contains('/') && of("kind") != "ReplicationController" {
        let told = "apiVersion must specify API group";
        causes.push(Cause::invalid(
            "spec.scaleTargetRef.apiVersion",
            &version.into(),
            told,
        ));
    }
}

/// The template of a job stays, unless the job is suspended and has not begun.
fn job_update(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let Some(old) = judged.old else { return };
    let is_waiting = at(old, &["spec", "suspend"]) == Some(&Value::Bool(true))
        && at(old, &["status", "startTime"]).is_none_or(Value::is_null);
    let template = |job| at(job, &["spec", "template"]);
    if template(old) != template(judged.new) && !is_waiting {
        let value = template(judged.new).cloned().unwrap_or_default();
        causes.push(Cause::invalid("spec.template", &value, "field is immutable"));
    }
    let completions = |job| at(job, &["spec", "completions"]).and_then(Value::as_i64);
    let is_indexed = text(judged.new, &["spec", "completionMode"]) == "Indexed";
    if completions(old) != completions(judged.new) && !is_indexed {
        let value = completions(judged.new).map_or(Value::Null, Value::from);
        causes.push(Cause::invalid("spec.completions", &value, "field is immutable"));
    }
}

fn replicas_in_order(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let number = |name: &str| at(judged.new, &["spec", name]).and_then(Value::as_i64);
    if let (Some(least), Some(most)) = (number("minReplicas"), number("maxReplicas"))
        && most < least
    {
        let told = "must be greater than or equal to `minReplicas`";
        causes.push(Cause::invalid("spec.maxReplicas", &most.into(), told));
    }
}

/// Five fields or a name; what stands in the fields is read as the controller reads it.
fn schedule(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let schedule = text(judged.new, &["spec", "schedule"]);
    if schedule.is_empty() {
        return;
    }
    let wrong = |told: &str| Cause::invalid("spec.schedule", &schedule.into(), told);
    if schedule.contains("TZ") {
        let told = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        causes.push(wrong(told));
        return;
    }
    if let Some(name) = schedule.strip_prefix('@') {
        let is_known = matches!(
            name,
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly"
        );
        if !is_known && !name.starts_with("every ") {
            causes.push(wrong(&format!("unrecognized descriptor: {schedule}")));
        }
        return;
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        let told = format!("expected exactly 5 fields, found {}: {fields:?}", fields.len());
        causes.push(wrong(&told));
        return;
    }
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"*/,-?".contains(&byte);
    if let Some(odd) = fields.iter().find(|field| !field.bytes().all(is_fit)) {
        causes.push(wrong(&format!("failed to parse int from {odd}: invalid syntax")));
    }
}

/// Of a pod that is there only a few fields may change.
pub(super) fn pod_update(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let Some(old) = judged.old else { return };
    if old.get("spec") == judged.new.get("spec") {
        return;
    }
    // What was stored without a default is no change of it.
    let (mut old, mut new) = (old.clone(), judged.new.clone());
    apply_defaults(POD, &mut old);
    apply_defaults(POD, &mut new);
    let (Some(was), Some(is)) = (
        old.get("spec").and_then(Value::as_object),
        new.get("spec").and_then(Value::as_object),
    ) else {
        return;
    };
    for list in ["initContainers", "containers"] {
        if entries(was, list).count() != entries(is, list).count() {
            let told = "pod updates may not add or remove containers";
            causes.push(Cause::forbidden(format!("spec.{list}"), told));
            return;
        }
    }
    let kept = entries(was, "tolerations").all(|toleration| {
        let key = |toleration: &Object| {
            ["key", "operator", "value", "effect"].map(|name| toleration.get(name).cloned())
        };
        entries(is, "tolerations").any(|other| key(other) == key(toleration))
    });
    if !kept {
        let told = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(Cause::forbidden("spec.tolerations", told));
    }
    let level = |spec: &Object, other: &Object| {
        let mut spec = spec.clone();
        for field in ["activeDeadlineSeconds", "tolerations"] {
            spec.remove(field);
        }
        // Gates may be taken away, and before all are gone it may be said where the pod is to run.
        let is_gated = entries(was, "schedulingGates").next().is_some();
        let removed =
            entries(is, "schedulingGates").all(|gate| entries(was, "schedulingGates").any(|had| had == gate));
        if is_gated && removed {
            for field in ["schedulingGates", "nodeSelector", "affinity"] {
                spec.remove(field);
            }
        }
        let grace = at(other, &["terminationGracePeriodSeconds"]).and_then(Value::as_i64);
        if grace.is_some_and(|grace| grace < 0)
            || spec.get("terminationGracePeriodSeconds") == Some(&json!(1))
        {
            spec.remove("terminationGracePeriodSeconds");
        }
        for list in ["initContainers", "containers"] {
            for container in entries_mut(&mut spec, list) {
                container.remove("image");
            }
        }
        spec.retain(|_, value| !value.is_null());
        spec
    };
    if level(was, was) != level(is, was) {
        let told = "pod updates may not change fields other than \
                    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
                    (allow it to be set to 1 if it was previously negative)";
        causes.push(Cause::forbidden("spec", told));
    }
}
