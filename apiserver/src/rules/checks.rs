//! Rules that follow from several fields; `validation.txt` says where each belongs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::computed::entries;
use super::quantity;
use super::validation::Judged;
use super::workloads;
use crate::names;
use crate::object::{Object, at, is_terminating, meta};
use crate::select::Labels;
use crate::status::Cause;

/// A rule that is worked out.
pub(super) type Check = fn(&Judged<'_>, &mut Vec<Cause>);

/// The most that a config map or a secret may hold.
const DATA_BYTES_MAX: usize = 1024 * 1024;

/// What is called so in the data.
pub(super) fn find(name: &str) -> Option<Check> {
    let check = CHECKS
        .iter()
        .chain(workloads::CHECKS)
        .find(|(known, _)| *known == name);
    check.map(|(_, check)| *check)
}

/// What texts may look like, as the data calls it.
pub(super) fn name(name: &str) -> Option<fn(&str) -> Vec<String>> {
    Some(match name {
        "subdomain" => names::subdomain,
        "label" => names::label,
        "port_name" => names::port_name,
        "environment" => names::environment,
        "quantity" => |text| match quantity::nanos(text) {
            Some(_) => Vec::new(),
            None => vec![QUANTITY.to_owned()],
        },
        _ => return None,
    })
}

/// What is told of a text that is no quantity.
pub(super) const QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

static CHECKS: &[(&str, Check)] = &[
    ("attached_volume", attached_volume),
    ("claim_storage", claim_storage),
    ("claim_update", claim_update),
    ("cluster_ip", cluster_ip),
    ("config_keys", config_keys),
    ("definition_name", definition_name),
    ("event_namespace", event_namespace),
    ("event_of_series", event_of_series),
    ("immutable_data", immutable_data),
    ("ingress_rules", ingress_rules),
    ("lease", lease),
    ("node_update", node_update),
    ("one_of_two_limits", one_of_two_limits),
    ("policy_rules", policy_rules),
    ("role_reference", role_reference),
    ("secret_data", secret_data),
    ("service_ports", service_ports),
    ("system_priority", system_priority),
    ("volume_capacity", volume_capacity),
    ("volume_source", volume_source),
];

/// The field of a part: its place and the name.
pub(super) fn field(judged: &Judged<'_>, name: &str) -> String {
    super::path::join(judged.at, name)
}

pub(super) fn text<'a>(object: &'a Object, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// What is attached is a volume that is there or is described, and not both.
fn attached_volume(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let has = |name: &str| at(judged.new, &["spec", "source", name]).is_some_and(|value| !value.is_null());
    if has("inlineVolumeSpec") == has("persistentVolumeName") {
        let told = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        causes.push(Cause::required("spec.source", told));
    }
}

fn claim_storage(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    if at(judged.new, &["spec", "resources", "requests", "storage"]).is_none_or(Value::is_null) {
        causes.push(Cause::required("spec.resources[storage]", ""));
    }
}

/// Of a claim that is bound only the size may change, and it never shrinks.
fn claim_update(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let Some(old) = judged.old else { return };
    let storage = |claim: &Object| {
        let size = at(claim, &["spec", "resources", "requests", "storage"]).and_then(Value::as_str);
        size.and_then(quantity::nanos)
    };
    let rest = |claim: &Object| {
        let mut spec = claim
            .get("spec")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        spec.remove("resources");
        spec.remove("volumeAttributesClassName");
        // A claim is bound to its volume once.
        if text(old, &["spec", "volumeName"]).is_empty() {
            spec.remove("volumeName");
        }
        spec
    };
    if rest(old) != rest(judged.new) {
        let told = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                    claims";
        causes.push(Cause::forbidden("spec", told));
    } else if storage(judged.new) < storage(old) {
        let told = "field can not be less than status.capacity";
        causes.push(Cause::forbidden("spec.resources.requests.storage", told));
    }
}

/// The address of a service stays, unless it becomes a name or was one.
fn cluster_ip(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let service = judged.new;
    if text(service, &["spec", "type"]) == "ExternalName" {
        let name = text(service, &["spec", "externalName"]).trim_end_matches('.');
        if name.is_empty() {
            causes.push(Cause::required("spec.externalName", ""));
        }
        for told in names::subdomain(name).into_iter().filter(|_| !name.is_empty()) {
            causes.push(Cause::invalid("spec.externalName", &name.into(), &told));
        }
        return;
    }
    let Some(old) = judged.old else { return };
    if text(old, &["spec", "type"]) == "ExternalName" {
        return;
    }
    let (was, is) = (
        text(old, &["spec", "clusterIP"]),
        text(service, &["spec", "clusterIP"]),
    );
    if !was.is_empty() && was != is {
        let told = "may not change once set";
        causes.push(Cause::invalid("spec.clusterIPs[0]", &is.into(), told));
    }
}

fn config_keys(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let mut bytes = 0;
    for place in ["data", "binaryData"] {
        let data = judged.new.get(place).and_then(Value::as_object);
        for (key, value) in data.into_iter().flatten() {
            for told in names::config_key(key) {
                causes.push(Cause::invalid(
                    format!("{place}[{key}]"),
                    &key.as_str().into(),
                    &told,
                ));
            }
            let value = value.as_str().unwrap_or_default();
            let is_encoded = place == "binaryData" || judged.new.get("kind") == Some(&json!("Secret"));
            bytes += if is_encoded {
                value.len() / 4 * 3
            } else {
                value.len()
            };
            let other = if place == "data" { "binaryData" } else { "data" };
            let is_twice = place == "binaryData" && at(judged.new, &[other, key]).is_some();
            if is_twice {
                causes.push(Cause::invalid(
                    format!("data[{key}]"),
                    &key.as_str().into(),
                    "duplicate of key present in binaryData",
                ));
            }
        }
    }
    if bytes > DATA_BYTES_MAX {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {DATA_BYTES_MAX} bytes"),
            field: if judged.new.get("kind") == Some(&json!("Secret")) {
                "data"
            } else {
                "[]"
            }
            .to_owned(),
        });
    }
}

fn definition_name(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let definition = judged.new;
    let (plural, group) = (
        text(definition, &["spec", "names", "plural"]),
        text(definition, &["spec", "group"]),
    );
    let expected = format!("{plural}.{group}");
    if meta(definition, "name") != expected {
        let told = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid(
            "metadata.name",
            &meta(definition, "name").into(),
            told,
        ));
    }
    let versions = at(definition, &["spec", "versions"]).and_then(Value::as_array);
    let stored = versions
        .into_iter()
        .flatten()
        .filter(|version| version["storage"] == true)
        .count();
    if versions.is_some_and(|versions| !versions.is_empty()) && stored != 1 {
        let told = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid(
            "spec.versions",
            &versions.cloned().unwrap_or_default().into(),
            told,
        ));
    }
}

/// An event stands in the namespace of what it is about.
fn event_namespace(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let about = text(judged.new, &["involvedObject", "namespace"]);
    let own = meta(judged.new, "namespace");
    let is_right = about == own || (about.is_empty() && matches!(own, "default" | "kube-system" | ""));
    if !is_right {
        causes.push(Cause::invalid(
            "involvedObject.namespace",
            &about.into(),
            "does not match event.namespace",
        ));
    }
}

/// An event in the newer words; it is refused in the older ones where they differ.
fn event_of_series(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let event = judged.new;
    let (about, own) = (text(event, &["regarding", "namespace"]), meta(event, "namespace"));
    if about != own && !(about.is_empty() && own == "default") {
        let told = "does not match event.namespace";
        causes.push(Cause::invalid("involvedObject.namespace", &about.into(), told));
    }
    if judged.old.is_some() {
        return;
    }
    if text(event, &["eventTime"]).is_empty() {
        causes.push(Cause::required("eventTime", ""));
    } else {
        for name in ["reportingController", "reportingInstance", "action", "reason"] {
            if text(event, &[name]).is_empty() {
                causes.push(Cause::required(name, ""));
            }
        }
    }
    let kind = text(event, &["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        causes.push(Cause::invalid(
            "type",
            &"".into(),
            &format!("has invalid value: {kind}"),
        ));
    }
}

/// What is marked as immutable stays as it is.
fn immutable_data(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let Some(old) = judged
        .old
        .filter(|old| old.get("immutable") == Some(&Value::Bool(true)))
    else {
        return;
    };
    if judged.new.get("immutable") != Some(&Value::Bool(true)) {
        causes.push(Cause::forbidden(
            "immutable",
            "field is immutable when `immutable` is set",
        ));
    }
    for field in ["data", "binaryData"] {
        if old.get(field) != judged.new.get(field) {
            causes.push(Cause::forbidden(
                field,
                "field is immutable when `immutable` is set",
            ));
        }
    }
}

fn ingress_rules(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let spec = judged.new.get("spec").and_then(Value::as_object);
    let has = |field: &str| {
        spec.and_then(|spec| spec.get(field))
            .is_some_and(|value| value != &json!([]))
    };
    if !has("rules") && !has("defaultBackend") {
        let told = "either `defaultBackend` or `rules` must be specified";
        causes.push(Cause::invalid("spec", &Value::Null, told));
    }
    let rules = spec.and_then(|spec| spec.get("rules")).and_then(Value::as_array);
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        let host = rule["host"].as_str().unwrap_or_default();
        let plain = host.strip_prefix("*.").unwrap_or(host);
        if !host.is_empty() {
            for told in names::subdomain(plain) {
                causes.push(Cause::invalid(
                    format!("spec.rules[{index}].host"),
                    &host.into(),
                    &told,
                ));
            }
        }
        let paths = rule["http"]["paths"].as_array();
        for (number, path) in paths.into_iter().flatten().enumerate() {
            let kind = path["pathType"].as_str().unwrap_or_default();
            let value = path["path"].as_str().unwrap_or_default();
            if matches!(kind, "Exact" | "Prefix") && !value.starts_with('/') {
                let field = format!("spec.rules[{index}].http.paths[{number}].path");
                causes.push(Cause::invalid(field, &value.into(), "must be an absolute path"));
            }
        }
    }
}

fn lease(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    for (name, least) in [("leaseDurationSeconds", 1), ("leaseTransitions", 0)] {
        let number = at(judged.new, &["spec", name])
            .filter(|value| value.as_i64().is_some_and(|number| number < least));
        if let Some(number) = number {
            let told = if least == 1 {
                "must be greater than 0"
            } else {
                "must be greater than or equal to 0"
            };
            causes.push(Cause::invalid(format!("spec.{name}"), number, told));
        }
    }
}

/// What a node is called by its cloud is set once.
fn node_update(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let Some(old) = judged.old else { return };
    for (name, told) in [
        (
            "providerID",
            "node updates may not change providerID except from \"\" to valid",
        ),
        (
            "podCIDR",
            "node updates may not change podCIDR except from \"\" to valid",
        ),
    ] {
        let (was, is) = (text(old, &["spec", name]), text(judged.new, &["spec", name]));
        if !was.is_empty() && was != is {
            causes.push(Cause::forbidden(format!("spec.{name}"), told));
        }
    }
}

fn one_of_two_limits(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let has = |name: &str| at(judged.new, &["spec", name]).is_some_and(|value| !value.is_null());
    if has("minAvailable") && has("maxUnavailable") {
        let spec = judged.new.get("spec").cloned().unwrap_or_default();
        causes.push(Cause::invalid(
            "spec",
            &spec,
            "minAvailable and maxUnavailable cannot be both set",
        ));
    }
}

/// A policy judges something.
fn policy_rules(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let is_empty = |name: &str| {
        let rules = at(judged.new, &["spec", name]).and_then(Value::as_array);
        rules.is_none_or(Vec::is_empty)
    };
    if is_empty("validations") && is_empty("auditAnnotations") {
        let told = "validations or auditAnnotations must contain at least one item";
        causes.push(Cause::required("spec.validations", told));
        causes.push(Cause::required("spec.auditAnnotations", told));
    }
}

fn role_reference(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let Some(old) = judged.old else { return };
    let (was, is) = (old.get("roleRef"), judged.new.get("roleRef"));
    if was != is && !is_terminating(old) {
        let is = is.cloned().unwrap_or_default();
        causes.push(Cause::invalid("roleRef", &is, "cannot change roleRef"));
    }
}

/// What kinds of secrets must hold.
static SECRETS: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/basic-auth", &["username", "password"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

fn secret_data(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let kind = text(judged.new, &["type"]);
    let data = judged.new.get("data").and_then(Value::as_object);
    let keys = SECRETS
        .iter()
        .find(|(known, _)| *known == kind)
        .map_or(&[][..], |(_, keys)| keys);
    let is_missing = |key: &&&str| data.and_then(|data| data.get(**key)).is_none();
    let missing: Vec<&&str> = keys.iter().filter(is_missing).collect();
    // Of name and password one is enough.
    let is_enough = kind == "kubernetes.io/basic-auth" && missing.len() < keys.len();
    for key in missing.into_iter().filter(|_| !is_enough) {
        causes.push(Cause::required(format!("data[{key}]"), ""));
    }
    for (key, value) in data.into_iter().flatten() {
        if value
            .as_str()
            .is_some_and(|value| STANDARD.decode(value).is_err())
        {
            causes.push(Cause::invalid(
                format!("data[{key}]"),
                &json!("<omitted>"),
                "must be valid base64",
            ));
        }
    }
    let account = at(
        judged.new,
        &["metadata", "annotations", "kubernetes.io/service-account.name"],
    );
    if kind == "kubernetes.io/service-account-token" && account.is_none_or(|account| account == "") {
        let field = "metadata.annotations[kubernetes.io/service-account.name]";
        causes.push(Cause::required(field, ""));
    }
}

/// A service with several ports names them, and no two are the same.
fn service_ports(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let Some(spec) = judged.new.get("spec").and_then(Value::as_object) else {
        causes.push(Cause::required("spec.ports", ""));
        return;
    };
    let ports: Vec<&Object> = entries(spec, "ports").collect();
    let is_headless = text(spec, &["clusterIP"]) == "None";
    if ports.is_empty() && !is_headless && text(spec, &["type"]) != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (index, port) in ports.iter().enumerate() {
        let place = format!("spec.ports[{index}]");
        if ports.len() > 1 && text(port, &["name"]).is_empty() {
            causes.push(Cause::required(format!("{place}.name"), ""));
        }
        let before = &ports[..index];
        let name = text(port, &["name"]);
        if !name.is_empty() && before.iter().any(|other| text(other, &["name"]) == name) {
            causes.push(Cause::duplicate(format!("{place}.name"), &name.into()));
        }
        let key = |port: &Object| (port.get("port").cloned(), port.get("protocol").cloned());
        if before.iter().any(|other| key(other) == key(port)) {
            let twice = json!({"port": port.get("port"), "protocol": port.get("protocol")});
            causes.push(Cause::duplicate(place, &twice));
        }
    }
}

fn system_priority(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let name = meta(judged.new, "name");
    let value = judged.new.get("value").and_then(Value::as_i64).unwrap_or(0);
    let is_system = matches!(name, "system-node-critical" | "system-cluster-critical");
    if name.starts_with("system-") && !is_system {
        let told = "priority class names with 'system-' prefix are reserved for system use only. error: \
                    is not a known system priority class";
        causes.push(Cause::forbidden("metadata.name", told));
    }
    if value > 1_000_000_000 && !is_system {
        let told = "maximum allowed value of a user defined priority is 1000000000";
        causes.push(Cause::forbidden("value", told));
    }
}

fn volume_capacity(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    let capacity = at(judged.new, &["spec", "capacity"]).cloned().unwrap_or_default();
    let is_storage = capacity
        .as_object()
        .is_some_and(|capacity| capacity.len() == 1 && capacity.contains_key("storage"));
    if !is_storage {
        causes.push(Cause::not_supported("spec.capacity", &capacity, &["storage"]));
    }
}

/// A volume comes from somewhere.
fn volume_source(judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    const SETTINGS: &[&str] = &[
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    let spec = judged.new.get("spec").and_then(Value::as_object);
    let sources = spec
        .into_iter()
        .flatten()
        .filter(|(field, value)| !SETTINGS.contains(&field.as_str()) && !value.is_null());
    match sources.count() {
        0 => causes.push(Cause::required("spec", "must specify a volume type")),
        1 => {}
        _ => causes.push(Cause::forbidden(
            "spec",
            "may not specify more than 1 volume type",
        )),
    }
}

/// Whether a selector object matches the labels of a template, and what is told if not.
pub(super) fn selects(selector: Option<&Value>, is_map: bool, labels: Option<&Object>) -> bool {
    match is_map {
        true => Labels::of_map(selector).matches(labels),
        false => Labels::of_selector(selector).is_ok_and(|selector| selector.matches(labels)),
    }
}
