//! Defaults that follow from other fields; `defaults.txt` says where each belongs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::object::{Object, at, child_mut, meta, metadata_mut};

/// Something that is worked out on an object.
pub(super) type Computed = fn(&mut Object);

/// What is called so in the data.
pub(super) fn find(name: &str) -> Option<Computed> {
    let computed = COMPUTED.iter().find(|(known, _)| *known == name);
    computed.map(|(_, compute)| *compute)
}

static COMPUTED: &[(&str, Computed)] = &[
    ("allocatable", allocatable),
    ("completions", completions),
    ("definition_names", definition_names),
    ("empty_dir", empty_dir),
    ("host_ports", host_ports),
    ("labels_of_template", labels_of_template),
    ("limits", limits),
    ("name_label", name_label),
    ("pod_ranges", pod_ranges),
    ("policy_types", policy_types),
    ("pull_policy", pull_policy),
    ("requests_from_limits", requests_from_limits),
    ("selector_of_template", selector_of_template),
    ("service_account", service_account),
    ("string_data", string_data),
    ("subject_groups", subject_groups),
    ("target_ports", target_ports),
    ("template_generation", template_generation),
];

/// A node can give all that it has.
fn allocatable(node: &mut Object) {
    let Some(capacity) = at(node, &["status", "capacity"]).cloned() else {
        return;
    };
    set_missing(child_mut(node, "status"), "allocatable", capacity);
}

/// A job of which nothing is said is done after one pod.
fn completions(job: &mut Object) {
    let spec = child_mut(job, "spec");
    if !has(spec, "completions") && !has(spec, "parallelism") {
        spec.insert("completions".to_owned(), json!(1));
    }
}

fn definition_names(definition: &mut Object) {
    let Some(kind) = at(definition, &["spec", "names", "kind"]).and_then(Value::as_str) else {
        return;
    };
    let (singular, list) = (kind.to_lowercase(), format!("{kind}List"));
    let names = child_mut(child_mut(definition, "spec"), "names");
    set_missing(names, "singular", singular.into());
    set_missing(names, "listKind", list.into());
}

/// A volume without a source is an empty directory.
fn empty_dir(volume: &mut Object) {
    if volume
        .iter()
        .all(|(field, value)| field == "name" || value.is_null())
    {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
}

/// In the network of the host a container's port is the host's.
fn host_ports(spec: &mut Object) {
    if spec.get("hostNetwork") != Some(&Value::Bool(true)) {
        return;
    }
    for containers in ["initContainers", "containers"] {
        let containers = entries_mut(spec, containers);
        for port in containers.flat_map(|container| entries_mut(container, "ports")) {
            if let Some(number) = port.get("containerPort").cloned() {
                set_missing(port, "hostPort", number);
            }
        }
    }
}

/// The labels of what it makes, if it has none.
fn labels_of_template(object: &mut Object) {
    let labels = at(object, &["spec", "template", "metadata", "labels"]);
    let Some(labels) = labels.filter(|labels| !is_empty(labels)).cloned() else {
        return;
    };
    let metadata = metadata_mut(object);
    if metadata.get("labels").is_none_or(is_empty) {
        metadata.insert("labels".to_owned(), labels);
    }
}

/// The limits of containers: those of one kind follow from each other.
fn limits(range: &mut Object) {
    for item in entries_mut(child_mut(range, "spec"), "limits") {
        if item.get("type").and_then(Value::as_str) != Some("Container") {
            continue;
        }
        for (to, from) in [
            ("default", "max"),
            ("defaultRequest", "default"),
            ("defaultRequest", "min"),
        ] {
            let Some(from) = item.get(from).and_then(Value::as_object).cloned() else {
                continue;
            };
            let to = child_mut(item, to);
            for (name, quantity) in from {
                set_missing(to, &name, quantity);
            }
        }
    }
}

/// Each namespace has its name as a label.
fn name_label(namespace: &mut Object) {
    let name = meta(namespace, "name").to_owned();
    if !name.is_empty() {
        let labels = child_mut(metadata_mut(namespace), "labels");
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
}

/// The range of addresses of a node's pods stands in an old field, too.
fn pod_ranges(node: &mut Object) {
    let spec = child_mut(node, "spec");
    let first = spec.get("podCIDRs").and_then(|ranges| ranges.get(0)).cloned();
    let one = spec.get("podCIDR").filter(|range| *range != "").cloned();
    match (one, first) {
        (Some(one), None) => {
            spec.insert("podCIDRs".to_owned(), json!([one]));
        }
        (None, Some(first)) => {
            spec.insert("podCIDR".to_owned(), first);
        }
        _ => {}
    }
}

fn policy_types(policy: &mut Object) {
    let spec = child_mut(policy, "spec");
    let egress = spec.get("egress").is_some_and(|egress| !is_empty(egress));
    if spec.get("policyTypes").is_none_or(is_empty) {
        let types = if egress {
            json!(["Ingress", "Egress"])
        } else {
            json!(["Ingress"])
        };
        spec.insert("policyTypes".to_owned(), types);
    }
}

/// An image without a tag, or whose tag is `latest`, is pulled each time.
fn pull_policy(container: &mut Object) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let (image, is_pinned) = match image.split_once('@') {
        Some((image, _digest)) => (image, true),
        None => (image, false),
    };
    let last = image.rsplit('/').next().unwrap_or_default();
    let policy = match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !is_pinned => "Always",
        _ => "IfNotPresent",
    };
    set_missing(container, "imagePullPolicy", policy.into());
}

/// What a container may have at most it also asks for, if it does not say how much.
fn requests_from_limits(pod: &mut Object) {
    let spec = child_mut(pod, "spec");
    for containers in ["initContainers", "containers"] {
        for container in entries_mut(spec, containers) {
            let Some(Value::Object(resources)) = container.get_mut("resources") else {
                continue;
            };
            let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
                continue;
            };
            let requests = child_mut(resources, "requests");
            for (name, quantity) in limits {
                set_missing(requests, &name, quantity);
            }
        }
    }
}

fn selector_of_template(object: &mut Object) {
    let labels = at(object, &["spec", "template", "metadata", "labels"]);
    let Some(labels) = labels.filter(|labels| !is_empty(labels)).cloned() else {
        return;
    };
    let spec = child_mut(object, "spec");
    if spec.get("selector").is_none_or(is_empty) {
        spec.insert("selector".to_owned(), labels);
    }
}

/// A pod runs as the account `default`; the name stands in an old field too.
fn service_account(pod: &mut Object) {
    let spec = child_mut(pod, "spec");
    let text = |field: &str| {
        spec.get(field)
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
    };
    let name = text("serviceAccountName")
        .or(text("serviceAccount"))
        .unwrap_or("default")
        .to_owned();
    spec.insert("serviceAccountName".to_owned(), name.as_str().into());
    spec.insert("serviceAccount".to_owned(), name.into());
}

/// What is given as text is only a way to write `data`, which it comes before, and is itself never kept.
fn string_data(secret: &mut Object) {
    let Some(Value::Object(texts)) = secret.remove("stringData") else {
        return;
    };
    for (name, text) in &texts {
        let encoded = STANDARD.encode(text.as_str().unwrap_or_default());
        child_mut(secret, "data").insert(name.clone(), encoded.into());
    }
}

fn subject_groups(binding: &mut Object) {
    for subject in entries_mut(binding, "subjects") {
        let is_named = matches!(
            subject.get("kind").and_then(Value::as_str),
            Some("User" | "Group")
        );
        if is_named && subject.get("apiGroup").is_none_or(|group| group == "") {
            subject.insert("apiGroup".to_owned(), "rbac.authorization.k8s.io".into());
        }
    }
}

/// Of what its pods are made is counted in an old way, too.
fn template_generation(set: &mut Object) {
    let annotations = child_mut(metadata_mut(set), "annotations");
    set_missing(annotations, TEMPLATE_GENERATION, "1".into());
}

/// Where a daemon set says how often its template was changed.
pub(super) const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// A service leads to the port of the same number.
fn target_ports(service: &mut Object) {
    for port in entries_mut(child_mut(service, "spec"), "ports") {
        let is_missing = match port.get("targetPort") {
            None | Some(Value::Null) => true,
            Some(target) => target == &json!(0) || target == "",
        };
        if let Some(number) = port.get("port").cloned().filter(|_| is_missing) {
            port.insert("targetPort".to_owned(), number);
        }
    }
}

/// The objects in a list.
pub(super) fn entries_mut<'a>(object: &'a mut Object, field: &str) -> impl Iterator<Item = &'a mut Object> {
    let entries = object.get_mut(field).and_then(Value::as_array_mut);
    entries.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// The objects in a list.
pub(super) fn entries<'a>(object: &'a Object, field: &str) -> impl Iterator<Item = &'a Object> {
    let entries = object.get(field).and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(Value::as_object)
}

pub(super) fn set_missing(object: &mut Object, field: &str, value: Value) {
    if !has(object, field) {
        object.insert(field.to_owned(), value);
    }
}

fn has(object: &Object, field: &str) -> bool {
    object.get(field).is_some_and(|value| !value.is_null())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
