//! Who set which fields (`metadata.managedFields`), and server-side apply, which stands on it: a client says which fields it
//! wants, gets them unless somebody else holds them with another value, and what it no longer says goes unless somebody else
//! holds it.
//!
//! The rules are those of Kubernetes' structured merge: `fields.rs` are sets of fields, `shape.rs` says how a type is taken
//! apart, `merge.rs` compares and merges, `entries.rs` keeps the account. Nothing here asks the clock or the store.

mod entries;
mod fields;
mod merge;
mod shape;

use jiff::Timestamp;
use serde_json::Value;

use self::entries::Entry;
use self::fields::{Fields, field_key};
use self::merge::{Difference, compare_objects};
use self::shape::Type;
use crate::codec;
use crate::object::{Object, meta, metadata_mut};
use crate::resources::{RESOURCES, Resource, Subresource};
use crate::status::{Cause, Reason, Status};
use crate::types::Types;

/// Who held what there was when the account of an object was opened.
const BEFORE: &str = "before-first-apply";
/// What of metadata nobody holds.
const NOT_HELD: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Keeps account of an update: what `manager` changed between `before` and `after` is its from now on. An object that was
/// made without an account stays without.
pub fn track(
    type_name: &str,
    api_version: &str,
    before: Option<&Object>,
    after: &mut Object,
    manager: &str,
    operation_subresource: Option<&str>,
    now: Timestamp,
) {
    if entries::is_reset(after) {
        metadata_mut(after).remove("managedFields");
        return;
    }
    // Clients that do not know of it do not delete it by leaving it out.
    let kept = entries::read(after).filter(|entries| !entries.is_empty());
    let kept = kept
        .or_else(|| before.and_then(entries::read))
        .unwrap_or_default();
    if before.is_some() && kept.is_empty() {
        metadata_mut(after).remove("managedFields");
        return;
    }
    let mut difference = differ(type_name, before, after);
    if operation_subresource.is_none() && has_status(type_name) {
        // It is set through its own subresource only.
        for fields in [
            &mut difference.added,
            &mut difference.changed,
            &mut difference.removed,
        ] {
            fields.below.remove(&field_key("status"));
        }
    }
    let own = Entry {
        manager: manager.to_owned(),
        applied: false,
        api_version: api_version.to_owned(),
        time: Some(seconds(now)),
        subresource: operation_subresource.unwrap_or_default().to_owned(),
        fields: Fields::default(),
    };
    entries::write(after, updated(kept, own, &difference));
}

/// The entries after an update: what changed is nobody's but `own`.
fn updated(mut entries: Vec<Entry>, mut own: Entry, difference: &Difference) -> Vec<Entry> {
    let mut changed = difference.added.clone();
    changed.add(&difference.changed);
    for entry in &mut entries {
        entry.fields.subtract(&changed);
        entry.fields.subtract(&difference.removed);
    }
    if changed.is_empty() {
        return entries;
    }
    own.fields = changed;
    match entries.iter_mut().find(|entry| entry.is_like(&own)) {
        Some(entry) => {
            entry.fields.add(&own.fields);
            entry.time = own.time;
        }
        None => entries.push(own),
    }
    entries
}

/// Applies what a client wants to what there is, if there is something. The outcome is not yet defaulted or judged.
pub fn apply(
    resource: &Resource,
    live: Option<&Object>,
    applied: &Object,
    manager: &str,
    force: bool,
    subresource: Option<&str>,
    now: Timestamp,
) -> Result<Object, Status> {
    let api_version = resource.api_version();
    let wanted = wanted(resource, applied, subresource, &api_version)?;
    let root = root(resource.type_name);
    let wanted_value = Value::Object(wanted.clone());
    check_typed(resource, root, applied, &wanted_value)?;
    let empty = Object::new();
    let live = live.unwrap_or(&empty);
    let mut entries = entries::read(live).unwrap_or_default();
    if entries.is_empty() {
        entries.extend(before_first(resource, live, &api_version));
    }
    let own = Entry {
        manager: manager.to_owned(),
        applied: true,
        api_version,
        time: Some(seconds(now)),
        subresource: subresource.unwrap_or_default().to_owned(),
        fields: held(merge::fields_of(
            root,
            &Value::Object(conformed(resource, &wanted)),
        )),
    };
    let last = entries.iter().find(|entry| entry.is_like(&own)).cloned();
    let mut others: Vec<Entry> = entries
        .iter()
        .filter(|entry| !entry.is_like(&own))
        .cloned()
        .collect();

    let mut merged = merged(root, live, &wanted_value, &own, last.as_ref(), &others)?;
    // One amount written in two ways is one, and what means nothing is no change.
    let difference = differ(
        resource.type_name,
        Some(&conformed(resource, live)),
        &conformed(resource, &merged),
    );
    let mut changed = difference.added.clone();
    changed.add(&difference.changed);
    let conflicts = conflicts(&others, &changed);
    if !force && !conflicts.is_empty() {
        return Err(refused(&conflicts));
    }
    for entry in &mut others {
        entry.fields.subtract(&changed);
        entry.fields.subtract(&difference.removed);
    }
    // Who applies the same again has changed nothing, not even when it did.
    let is_same = last
        .as_ref()
        .is_some_and(|last| last.fields == own.fields && last.api_version == own.api_version);
    others.push(match last {
        Some(last) if is_same && difference.is_none() => last,
        _ => own,
    });
    entries::write(&mut merged, others);
    Ok(merged)
}

/// What is applied must be an object of its type, field by field.
fn check_typed(resource: &Resource, root: Type, applied: &Object, wanted: &Value) -> Result<(), Status> {
    let mut undeclared = Vec::new();
    merge::undeclared(root, &Value::Object(applied.clone()), "", &mut undeclared);
    let told = match undeclared.as_slice() {
        [] => merge::twice(root, wanted, ""),
        [one] => Some(format!("{one}: field not declared in schema")),
        many => {
            let lines: Vec<String> = many
                .iter()
                .map(|one| format!("\n  {one}: field not declared in schema"))
                .collect();
            Some(format!("errors:{}", lines.concat()))
        }
    };
    let Some(told) = told else { return Ok(()) };
    let (namespace, name) = (meta(applied, "namespace"), meta(applied, "name"));
    let Resource {
        group, version, kind, ..
    } = resource;
    Err(Status::unforeseen(format!(
        "failed to create typed patch object ({namespace}/{name}; {group}/{version}, Kind={kind}): {told}"
    )))
}

/// What there is with what is wanted, and without what `own` wanted before and nobody wants now.
fn merged(
    root: Type,
    live: &Object,
    wanted: &Value,
    own: &Entry,
    last: Option<&Entry>,
    others: &[Entry],
) -> Result<Object, Status> {
    let mut merged = merge::merge(root, Some(&Value::Object(live.clone())), wanted);
    if let Some(last) = last {
        let mut kept = own.fields.clone();
        for entry in others {
            kept.add(&entry.fields);
        }
        merge::prune(root, &mut merged, &last.fields, &kept);
    }
    match merged {
        Value::Object(merged) => Ok(merged),
        _ => Err(Status::internal("an object became something else by merging")),
    }
}

/// What is applied, without nulls and without what this place does not take.
fn wanted(
    resource: &Resource,
    applied: &Object,
    subresource: Option<&str>,
    api_version: &str,
) -> Result<Object, Status> {
    let given = applied
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if given != api_version {
        let told = format!(
            "Incorrect version specified in apply patch. Specified patch version: {given}, expected: {api_version}"
        );
        return Err(Status::bad_request(told));
    }
    let managed = applied
        .get("metadata")
        .and_then(|metadata| metadata.get("managedFields"));
    if managed.is_some_and(|managed| !managed.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let mut wanted = without_nulls(applied);
    let is_status = subresource == Some(Subresource::Status.name());
    if is_status {
        wanted.retain(|field, _| matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
    } else if subresource.is_none() && resource.has(Subresource::Status) {
        wanted.remove("status");
    }
    Ok(wanted)
}

/// An object in the form in which a typed server has it.
fn conformed(resource: &Resource, object: &Object) -> Object {
    let mut conformed = object.clone();
    codec::conform(resource.type_name, &mut conformed);
    conformed
}

fn without_nulls(object: &Object) -> Object {
    let kept = object.iter().filter(|(_, value)| !value.is_null());
    kept.map(|(field, value)| {
        let value = match value {
            Value::Object(child) => Value::Object(without_nulls(child)),
            other => other.clone(),
        };
        (field.clone(), value)
    })
    .collect()
}

/// The entry for all that there was before anybody kept account.
fn before_first(resource: &Resource, live: &Object, api_version: &str) -> Option<Entry> {
    if live.is_empty() {
        return None;
    }
    Some(Entry {
        manager: BEFORE.to_owned(),
        applied: false,
        api_version: api_version.to_owned(),
        time: None,
        subresource: String::new(),
        fields: differ(resource.type_name, None, live).added,
    })
}

/// How `after` differs from `before` in what somebody can hold. Nobody holds what stands in every object of its type.
fn differ(type_name: &str, before: Option<&Object>, after: &Object) -> Difference {
    let mut bare = Object::new();
    let before = before.unwrap_or_else(|| {
        codec::fill(type_name, &mut bare);
        &bare
    });
    let difference = compare_objects(root(type_name), Some(before), Some(after));
    Difference {
        added: held(difference.added),
        changed: held(difference.changed),
        removed: held(difference.removed),
    }
}

/// A set without what nobody holds.
fn held(mut fields: Fields) -> Fields {
    fields.own = false;
    for field in ["apiVersion", "kind"] {
        fields.below.remove(&field_key(field));
    }
    let key = field_key("metadata");
    if let Some(metadata) = fields.below.get_mut(&key) {
        metadata.own = false;
        for field in NOT_HELD {
            metadata.below.remove(&field_key(field));
        }
        if metadata.is_empty() {
            fields.below.remove(&key);
        }
    }
    fields
}

fn has_status(type_name: &str) -> bool {
    let mut rows = RESOURCES.iter().filter(|row| row.type_name == type_name);
    rows.any(|row| row.has(Subresource::Status))
}

fn root(type_name: &str) -> Type {
    Types::all().message(type_name).map_or(Type::Any, Type::Message)
}

/// What of the changes others hold, by manager.
fn conflicts(others: &[Entry], changed: &Fields) -> Vec<(String, Vec<String>)> {
    let mut conflicts: Vec<(String, Vec<String>)> = others
        .iter()
        .map(|entry| (entry.shown(), entry.fields.common(changed).paths()))
        .filter(|(_, paths)| !paths.is_empty())
        .collect();
    conflicts.sort();
    conflicts
}

fn refused(conflicts: &[(String, Vec<String>)]) -> Status {
    let count: usize = conflicts.iter().map(|(_, paths)| paths.len()).sum();
    let told = match conflicts {
        [(manager, paths)] if paths.len() == 1 => {
            format!(
                "Apply failed with 1 conflict: conflict with {manager}: {}",
                paths.concat()
            )
        }
        _ => {
            let mut lines = Vec::new();
            for (manager, paths) in conflicts {
                lines.push(format!("conflicts with {manager}:"));
                lines.extend(paths.iter().map(|path| format!("- {path}")));
            }
            format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
        }
    };
    let mut status = Status::new(Reason::Conflict, told);
    for (manager, paths) in conflicts {
        for path in paths {
            status.details.causes.push(Cause {
                reason: "FieldManagerConflict",
                message: format!("conflict with {manager}"),
                field: path.clone(),
            });
        }
    }
    status
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;
