//! What the server decides about an object before it is judged and stored: what a client may set only in one place, and
//! what it may not set at all.

use serde_json::{Map, Value, json};

use super::computed::TEMPLATE_GENERATION;
use super::{jobs, pods, services};
use crate::object::{Object, at, child_mut, meta, metadata_mut};
use crate::resources::{Resource, Subresource, Way};

/// Makes a new object what the server has it: no status, the first generation. Its name, namespace, uid and time are set
/// already, its defaults filled in.
pub fn prepare_create(r: &Resource, object: &mut Object) {
    let metadata = metadata_mut(object);
    for field in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        metadata.remove(field);
    }
    if r.generation {
        metadata.insert("generation".to_owned(), 1.into());
    } else {
        metadata.remove("generation");
    }
    match (r.group, r.kind) {
        ("", "Pod") => pods::admit(object),
        ("", "Namespace") => {
            add_finalizer(object);
            object.insert("status".to_owned(), json!({ "phase": "Active" }));
        }
        ("", "PersistentVolumeClaim") => {
            object.insert("status".to_owned(), json!({ "phase": "Pending" }));
        }
        ("", "PersistentVolume") => {
            let since = meta(object, "creationTimestamp").to_owned();
            let status = json!({ "phase": "Pending", "lastPhaseTransitionTime": since });
            object.insert("status".to_owned(), status);
        }
        ("", "Service") => {
            services::drop_unused(object);
            object.insert("status".to_owned(), json!({ "loadBalancer": {} }));
        }
        // A kubelet registers its node with what it knows of it.
        ("", "Node") => {}
        ("batch", "Job") => {
            jobs::select_own_pods(object);
            object.insert("status".to_owned(), json!({}));
        }
        // Unlike elsewhere the names that were asked for are granted by the server itself, which the engine's caller does.
        _ if r.has(Subresource::Status) => {
            object.insert("status".to_owned(), json!({}));
        }
        _ => {}
    }
}

/// Makes an object that is to replace another what the server has it: of what stands in `new` only that remains which may
/// be changed in this place. Its defaults are filled in already.
pub fn prepare_update(r: &Resource, subresource: Option<Subresource>, old: &Object, new: &mut Object) {
    keep_metadata(old, new);
    match subresource {
        None => main(r, old, new),
        Some(Subresource::Status) => {
            let status = new.remove("status");
            keep_all_but_metadata(old, new);
            put(new, "status", status);
            keep_metadata_of_status(r, old, new);
            if r.kind == "CertificateSigningRequest" {
                keep_conditions(old, new, &["Approved", "Denied", "Failed"], false);
            }
        }
        Some(Subresource::Finalize) => {
            let finalizers = new.get("spec").and_then(|spec| spec.get("finalizers")).cloned();
            keep_all_but_metadata(old, new);
            put(child_mut(new, "spec"), "finalizers", finalizers);
        }
        Some(Subresource::EphemeralContainers) => {
            let containers = new
                .get("spec")
                .and_then(|spec| spec.get("ephemeralContainers"))
                .cloned();
            keep_all_but_metadata(old, new);
            put(child_mut(new, "spec"), "ephemeralContainers", containers);
        }
        Some(Subresource::Resize) => pods::keep_all_but_resources(old, new),
        Some(Subresource::Approval) => {
            let conditions = new
                .get("status")
                .and_then(|status| status.get("conditions"))
                .cloned();
            keep_all_but_metadata(old, new);
            put(child_mut(new, "status"), "conditions", conditions);
            keep_conditions(old, new, &["Approved", "Denied"], true);
        }
        // These are no replacements of the object: scaling sets its spec, the rest goes other ways.
        Some(Subresource::Scale | Subresource::Eviction | Subresource::Token) => {}
        // Where a pod runs is not what is asked for.
        Some(Subresource::Binding) => return,
    }
    count(r, old, new);
}

/// What the server alone writes in `metadata`, and what never changes.
fn keep_metadata(old: &Object, new: &mut Object) {
    let empty = Map::new();
    let old = old.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let new = metadata_mut(new);
    new.remove("selfLink");
    for field in [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        put(new, field, old.get(field).cloned());
    }
    // What is given and differs is refused later, as a change of what cannot be changed.
    for field in ["name", "namespace", "uid"] {
        if new.get(field).is_none_or(|value| value.is_null() || value == "") {
            put(new, field, old.get(field).cloned());
        }
    }
}

fn main(r: &Resource, old: &Object, new: &mut Object) {
    if r.has(Subresource::Status) {
        put(new, "status", old.get("status").cloned());
    }
    match (r.group, r.kind) {
        ("", "Namespace") => {
            let finalizers = old.get("spec").and_then(|spec| spec.get("finalizers")).cloned();
            put(child_mut(new, "spec"), "finalizers", finalizers);
        }
        ("", "Service") => {
            services::keep_allocated(old, new);
            services::drop_outgrown(old, new);
            services::drop_unused(new);
        }
        ("", "Pod") => {
            let containers = old
                .get("spec")
                .and_then(|spec| spec.get("ephemeralContainers"))
                .cloned();
            put(child_mut(new, "spec"), "ephemeralContainers", containers);
            pods::admit_again(old, new);
        }
        ("apps", "DaemonSet") => count_templates(old, new),
        ("certificates.k8s.io", _) => put(new, "spec", old.get("spec").cloned()),
        _ => {}
    }
}

fn keep_all_but_metadata(old: &Object, new: &mut Object) {
    let metadata = new.remove("metadata");
    *new = old.clone();
    put(new, "metadata", metadata);
}

/// What an update of the status may not change of the metadata.
fn keep_metadata_of_status(r: &Resource, old: &Object, new: &mut Object) {
    let kept = |field: &str| {
        old.get("metadata")
            .and_then(|metadata| metadata.get(field))
            .cloned()
    };
    if r.is(Way::StatusAlone) {
        let account = metadata_mut(new).remove("managedFields");
        put(new, "metadata", old.get("metadata").cloned());
        put(metadata_mut(new), "managedFields", account);
    } else if r.is(Way::StatusWithoutLabels) {
        put(metadata_mut(new), "labels", kept("labels"));
    }
}

/// Of the conditions that only one of two places may write: those of `types` from `new` and the rest from `old` if `only`
/// they may be written here, else those of `types` from `old`.
fn keep_conditions(old: &Object, new: &mut Object, types: &[&str], only: bool) {
    let of = |object: &Object| -> Vec<Value> {
        let conditions = object.get("status").and_then(|status| status.get("conditions"));
        conditions.and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let is_one = |condition: &Value| {
        condition["type"]
            .as_str()
            .is_some_and(|kind| types.contains(&kind))
    };
    let mut kept: Vec<Value> = of(old)
        .into_iter()
        .filter(|condition| is_one(condition) != only)
        .collect();
    kept.extend(of(new).into_iter().filter(|condition| is_one(condition) == only));
    if !kept.is_empty() {
        child_mut(new, "status").insert("conditions".to_owned(), kept.into());
    }
}

/// Counts changes of a daemon set's template.
fn count_templates(old: &Object, new: &mut Object) {
    let counted = |object: &Object| {
        let count = at(object, &["metadata", "annotations", TEMPLATE_GENERATION]);
        count.and_then(Value::as_str).and_then(|count| count.parse().ok())
    };
    let template = |object: &Object| at(object, &["spec", "template"]).cloned();
    let had: i64 = counted(old).unwrap_or(1);
    let count = had.saturating_add(i64::from(template(old) != template(new)));
    let annotations = child_mut(metadata_mut(new), "annotations");
    annotations.insert(TEMPLATE_GENERATION.to_owned(), count.to_string().into());
}

/// Counts a change of what is asked for.
fn count(r: &Resource, old: &Object, new: &mut Object) {
    if !r.generation {
        return;
    }
    const NOT_ASKED: &[&str] = &["apiVersion", "kind", "metadata", "status"];
    fn asked(object: &Object) -> impl Iterator<Item = (&String, &Value)> {
        object
            .iter()
            .filter(|(field, _)| !NOT_ASKED.contains(&field.as_str()))
    }
    let generation = |object: &Object| {
        let metadata = object.get("metadata");
        metadata
            .and_then(|metadata| metadata.get("generation"))
            .and_then(Value::as_i64)
    };
    // Of these the labels say to whom they belong.
    let labels = |object: &Object| at(object, &["metadata", "labels"]).cloned();
    let is_changed = (r.kind == "EndpointSlice" && labels(old) != labels(new))
        || asked(old).count() != asked(new).count()
        || asked(old).any(|(field, value)| new.get(field) != Some(value));
    if is_changed {
        let next = generation(old).unwrap_or(0).saturating_add(1);
        metadata_mut(new).insert("generation".to_owned(), next.into());
    }
}

fn add_finalizer(namespace: &mut Object) {
    let spec = child_mut(namespace, "spec");
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if !finalizers.is_array() {
        *finalizers = json!([]);
    }
    if let Value::Array(finalizers) = finalizers {
        let kubernetes = json!("kubernetes");
        if !finalizers.contains(&kubernetes) {
            finalizers.push(kubernetes);
        }
    }
}

/// Whether a namespace that is on its way out is empty in the eyes of all who watch over it.
#[must_use]
pub fn is_finalized(namespace: &Object) -> bool {
    let finalizers = namespace.get("spec").and_then(|spec| spec.get("finalizers"));
    !meta(namespace, "deletionTimestamp").is_empty()
        && finalizers.and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// Sets a field, or removes it for none.
pub(super) fn put(object: &mut Object, field: &str, value: Option<Value>) {
    match value {
        Some(value) => object.insert(field.to_owned(), value),
        None => object.remove(field),
    };
}
