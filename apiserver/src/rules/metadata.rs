//! What `metadata` must be like in every object, and the names that each kind may have.

use serde_json::{Value, json};

use crate::names;
use crate::object::{Object, is_terminating, meta, metadata};
use crate::resources::Resource;
use crate::status::Cause;

/// The most that all annotations of an object may hold.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

type Check = fn(&str) -> Vec<String>;

/// Which names a kind may have: DNS subdomains but for these.
#[rustfmt::skip]
static NAMES: &[(&str, &str, Check)] = &[
    ("", "Namespace", names::label),
    ("", "Service", names::label_1035),
    ("rbac.authorization.k8s.io", "Role", names::path_segment),
    ("rbac.authorization.k8s.io", "ClusterRole", names::path_segment),
    ("rbac.authorization.k8s.io", "RoleBinding", names::path_segment),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", names::path_segment),
    ("apiregistration.k8s.io", "APIService", names::path_segment),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", names::subdomain),
    ("networking.k8s.io", "IPAddress", ip_address),
    ("batch", "CronJob", cron_job),
];

fn ip_address(text: &str) -> Vec<String> {
    match text.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.to_string() == text => Vec::new(),
        Ok(ip) => vec![format!("must be in canonical form (\"{ip}\")")],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// Its jobs have longer names.
fn cron_job(text: &str) -> Vec<String> {
    let mut wrong = names::subdomain(text);
    if text.len() > 52 {
        wrong.push("must be no more than 52 characters".to_owned());
    }
    wrong
}

/// Judges the metadata of an object, and what has become of that of the old one.
pub(super) fn check(r: &Resource, old: Option<&Object>, new: &Object, causes: &mut Vec<Cause>) {
    match old {
        None => check_name(r, new, causes),
        Some(old) => check_kept(old, new, causes),
    }
    check_namespace(r, new, causes);
    for (place, entries) in [
        ("labels", text_map(new, "labels")),
        ("annotations", text_map(new, "annotations")),
    ] {
        let field = format!("metadata.{place}");
        for (key, value) in entries {
            // Of annotations the case of the key does not matter.
            let judged = if place == "labels" {
                key.to_owned()
            } else {
                key.to_lowercase()
            };
            for told in names::qualified(&judged) {
                causes.push(Cause::invalid(field.as_str(), &key.into(), &told));
            }
            if place == "labels" {
                for told in names::label_value(value) {
                    causes.push(Cause::invalid(field.as_str(), &value.into(), &told));
                }
            }
        }
    }
    let bytes: usize = text_map(new, "annotations")
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes"),
            field: "metadata.annotations".to_owned(),
        });
    }
    check_owners(new, causes);
    check_finalizers(old, new, causes);
}

fn check_name(r: &Resource, new: &Object, causes: &mut Vec<Cause>) {
    let name = meta(new, "name");
    if name.is_empty() {
        causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
        return;
    }
    let check = NAMES
        .iter()
        .find(|(group, kind, _)| *group == r.group && *kind == r.kind);
    let check = check.map_or(names::subdomain as Check, |(_, _, check)| *check);
    let base = meta(new, "generateName");
    if !base.is_empty() {
        // It need not end as a name does.
        let whole = base.strip_suffix('-').map(|base| format!("{base}a"));
        for told in check(whole.as_deref().unwrap_or(base)) {
            causes.push(Cause::invalid("metadata.generateName", &base.into(), &told));
        }
    }
    for told in check(name) {
        causes.push(Cause::invalid("metadata.name", &name.into(), &told));
    }
}

fn check_kept(old: &Object, new: &Object, causes: &mut Vec<Cause>) {
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let of = |object| {
            metadata(object)
                .and_then(|metadata| metadata.get(field))
                .filter(|value| !value.is_null())
        };
        if of(old) != of(new) {
            let value = of(new).cloned().unwrap_or_else(|| json!(""));
            causes.push(Cause::invalid(
                format!("metadata.{field}"),
                &value,
                "field is immutable",
            ));
        }
    }
}

fn check_namespace(r: &Resource, new: &Object, causes: &mut Vec<Cause>) {
    let namespace = meta(new, "namespace");
    match (r.namespaced, namespace.is_empty()) {
        (true, true) => causes.push(Cause::required("metadata.namespace", "")),
        (true, false) => {
            for told in names::label(namespace) {
                causes.push(Cause::invalid("metadata.namespace", &namespace.into(), &told));
            }
        }
        (false, true) => {}
        (false, false) => causes.push(Cause::forbidden("metadata.namespace", "not allowed on this type")),
    }
}

fn check_owners(new: &Object, causes: &mut Vec<Cause>) {
    let field = "metadata.ownerReferences";
    let owners = metadata(new).and_then(|metadata| metadata.get("ownerReferences"));
    let mut controller: Option<String> = None;
    for owner in owners.and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
        for name in ["apiVersion", "kind", "name", "uid"] {
            if text(name).is_empty() {
                causes.push(Cause::invalid(
                    format!("{field}.{name}"),
                    &"".into(),
                    "must not be empty",
                ));
            }
        }
        if text("apiVersion") == "v1" && text("kind") == "Event" {
            let told = "/v1, Kind=Event is disallowed from being an owner";
            causes.push(Cause::invalid(field, owner, told));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let this = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => {
                    let told = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    let all = owners.cloned().unwrap_or_default();
                    causes.push(Cause::invalid(field, &all, &told));
                }
            }
        }
    }
}

fn check_finalizers(old: Option<&Object>, new: &Object, causes: &mut Vec<Cause>) {
    let field = "metadata.finalizers";
    let finalizers: Vec<&str> = crate::object::finalizers(new).collect();
    let Some(old) = old else {
        for finalizer in &finalizers {
            for told in names::qualified(finalizer) {
                causes.push(Cause::invalid(field, &(*finalizer).into(), &told));
            }
        }
        if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
            let told = "finalizer orphan and foregroundDeletion cannot be both set";
            causes.push(Cause::invalid(field, &json!(finalizers), told));
        }
        for (index, finalizer) in finalizers.iter().enumerate() {
            let is_standard = ["orphan", "foregroundDeletion", "kubernetes"].contains(finalizer);
            if !is_standard && !finalizer.contains('/') {
                let told = "name is neither a standard finalizer name nor is it fully qualified";
                causes.push(Cause::invalid(
                    format!("{field}[{index}]"),
                    &(*finalizer).into(),
                    told,
                ));
            }
        }
        return;
    };
    let had: Vec<&str> = crate::object::finalizers(old).collect();
    let mut added: Vec<&str> = finalizers
        .iter()
        .filter(|finalizer| !had.contains(finalizer))
        .copied()
        .collect();
    if is_terminating(old) && !added.is_empty() {
        added.sort_unstable();
        let told = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added
                .iter()
                .map(|finalizer| format!("\"{finalizer}\""))
                .collect::<Vec<_>>()
                .join(", ")
        );
        causes.push(Cause::forbidden(field, &told));
    }
}

fn text_map<'a>(object: &'a Object, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map = metadata(object)
        .and_then(|metadata| metadata.get(field))
        .and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}
