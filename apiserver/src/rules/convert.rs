//! The same object in another version: horizontal autoscalers and events.

use serde_json::{Map, Value, json};

use super::prepare::put;
use crate::object::{Object, child_mut, metadata_mut};
use crate::resources::Resource;

/// Fields of one name in one version and another in the other.
type Renamed = &'static [(&'static str, &'static str)];

/// Of events: in the core, and in their own group.
static EVENT: Renamed = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// Where what version 1 of autoscalers has no field for is kept.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";

/// An object of one version as the other has it. It is returned as it is where both are the same.
#[must_use]
pub fn convert(mut object: Object, from: &Resource, to: &Resource) -> Object {
    if std::ptr::eq(from, to) || (from.group == to.group && from.version == to.version) {
        return object;
    }
    match (from.kind, from.group, from.version) {
        ("Event", "", _) => rename(&mut object, EVENT, false),
        ("Event", ..) => rename(&mut object, EVENT, true),
        ("HorizontalPodAutoscaler", _, "v1") => upgrade(&mut object),
        ("HorizontalPodAutoscaler", _, "v2") => downgrade(&mut object),
        _ => {}
    }
    object.insert("apiVersion".to_owned(), to.api_version().into());
    object.insert("kind".to_owned(), to.kind.into());
    object
}

fn rename(object: &mut Object, fields: Renamed, back: bool) {
    for (one, other) in fields {
        let (from, to) = if back { (other, one) } else { (one, other) };
        if let Some(value) = object.remove(*from) {
            object.insert((*to).to_owned(), value);
        }
    }
    // The count of a series has its times in both versions under the same names.
}

/// From version 1 to 2.
fn upgrade(object: &mut Object) {
    let kept = |annotation: &str, object: &mut Object| -> Option<Value> {
        let annotations = metadata_mut(object).get_mut("annotations")?.as_object_mut()?;
        let text = annotations.remove(annotation)?;
        if annotations.is_empty() {
            metadata_mut(object).remove("annotations");
        }
        serde_json::from_str(text.as_str()?).ok()
    };
    let (metrics, behavior) = (kept(METRICS, object), kept(BEHAVIOR, object));
    let (conditions, current) = (kept(CONDITIONS, object), kept(CURRENT_METRICS, object));
    let spec = child_mut(object, "spec");
    let mut all = metrics
        .and_then(|metrics| metrics.as_array().cloned())
        .unwrap_or_default();
    if let Some(percent) = spec
        .remove("targetCPUUtilizationPercentage")
        .filter(|percent| !percent.is_null())
    {
        let target = json!({ "type": "Utilization", "averageUtilization": percent });
        all.insert(
            0,
            json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } }),
        );
    }
    if !all.is_empty() {
        spec.insert("metrics".to_owned(), all.into());
    }
    put_some(spec, "behavior", behavior);
    if let Some(Value::Object(status)) = object.get_mut("status") {
        let mut all = current
            .and_then(|current| current.as_array().cloned())
            .unwrap_or_default();
        if let Some(percent) = status
            .remove("currentCPUUtilizationPercentage")
            .filter(|percent| !percent.is_null())
        {
            let current = json!({ "averageUtilization": percent, "averageValue": "0" });
            all.insert(
                0,
                json!({ "type": "Resource", "resource": { "name": "cpu", "current": current } }),
            );
        }
        if !all.is_empty() {
            status.insert("currentMetrics".to_owned(), all.into());
        }
        put_some(status, "conditions", conditions);
    }
}

/// From version 2 to 1.
fn downgrade(object: &mut Object) {
    let mut kept = Map::new();
    let mut keep = |annotation: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| !value.is_null() && value != &json!([])) {
            kept.insert(annotation.to_owned(), value.to_string().into());
        }
    };
    let spec = child_mut(object, "spec");
    let (cpu, rest) = split_cpu(spec.remove("metrics"), &["target", "averageUtilization"]);
    put_some(spec, "targetCPUUtilizationPercentage", cpu);
    keep(METRICS, Some(rest.into()));
    keep(BEHAVIOR, spec.remove("behavior"));
    if let Some(Value::Object(status)) = object.get_mut("status") {
        let (cpu, rest) = split_cpu(
            status.remove("currentMetrics"),
            &["current", "averageUtilization"],
        );
        put_some(status, "currentCPUUtilizationPercentage", cpu);
        keep(CURRENT_METRICS, Some(rest.into()));
        keep(CONDITIONS, status.remove("conditions"));
    }
    if !kept.is_empty() {
        child_mut(metadata_mut(object), "annotations").extend(kept);
    }
}

/// The share of the processor among metrics, and the rest of them.
fn split_cpu(metrics: Option<Value>, path: &[&str; 2]) -> (Option<Value>, Vec<Value>) {
    let metrics = match metrics {
        Some(Value::Array(metrics)) => metrics,
        _ => Vec::new(),
    };
    let share = |metric: &Value| {
        let resource = metric
            .get("resource")
            .filter(|resource| resource["name"] == "cpu")?;
        let share = resource.get(path[0])?.get(path[1])?;
        (!share.is_null()).then(|| share.clone())
    };
    let mut cpu = None;
    let mut rest = Vec::new();
    for metric in metrics {
        match share(&metric).filter(|_| cpu.is_none()) {
            Some(share) => cpu = Some(share),
            None => rest.push(metric),
        }
    }
    (cpu, rest)
}

fn put_some(object: &mut Object, field: &str, value: Option<Value>) {
    if value.is_some() {
        put(object, field, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::find;

    fn there_and_back(
        group: (&str, &str),
        other: (&str, &str),
        plural: &str,
        object: &Value,
        expected: &Value,
    ) {
        let from = find(group.0, group.1, plural).unwrap();
        let to = find(other.0, other.1, plural).unwrap();
        let converted = convert(object.as_object().unwrap().clone(), from, to);
        assert_eq!(&Value::Object(converted.clone()), expected);
        assert_eq!(&Value::Object(convert(converted, to, from)), object);
    }

    #[test]
    fn autoscalers_lose_nothing_on_the_way() {
        there_and_back(
            ("autoscaling", "v1"),
            ("autoscaling", "v2"),
            "horizontalpodautoscalers",
            &json!({
                "apiVersion": "autoscaling/v1",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "h"},
                "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
                "status": {"currentReplicas": 1},
            }),
            &json!({
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "h"},
                "spec": {"maxReplicas": 3, "metrics": [{
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
                }]},
                "status": {"currentReplicas": 1},
            }),
        );
        let memory = json!([{"type": "Resource", "resource": {"name": "memory"}}]);
        there_and_back(
            ("autoscaling", "v2"),
            ("autoscaling", "v1"),
            "horizontalpodautoscalers",
            &json!({
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {},
                "spec": {"metrics": memory},
            }),
            &json!({
                "apiVersion": "autoscaling/v1",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"annotations": {METRICS: memory.to_string()}},
                "spec": {},
            }),
        );
    }

    #[test]
    fn events_are_of_two_groups() {
        there_and_back(
            ("events.k8s.io", "v1"),
            ("", "v1"),
            "events",
            &json!({
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "regarding": {"name": "p"},
                "note": "text",
                "reportingController": "c",
                "deprecatedCount": 1,
            }),
            &json!({
                "apiVersion": "v1",
                "kind": "Event",
                "involvedObject": {"name": "p"},
                "message": "text",
                "reportingComponent": "c",
                "count": 1,
            }),
        );
    }
}
