//! Strategic merge patches: a merge patch that knows the types. Lists of objects whose type names a key merge by it, some
//! lists of plain values are sets, and directives say what a merge alone cannot:
//!
//! | directive | where | what |
//! | --- | --- | --- |
//! | `$patch: replace` | object, entry of a list | what stands beside it replaces the object, or the whole list |
//! | `$patch: delete` | object, entry of a list | the object becomes empty, the entry of that key goes |
//! | `$patch: merge` | object | as without it |
//! | `$retainKeys` | object | only the fields that are named stay |
//! | `$deleteFromPrimitiveList/f` | beside a list | the values go |
//! | `$setElementOrder/f` | beside a list | the order of its entries |
//!
//! A null removes a field, and is nothing where there is none. The rules are those of Kubernetes' documentation of its API
//! (sig-api-machinery, strategic-merge-patch).

use std::collections::HashSet;

use serde_json::Value;

use super::order::{Key, Places, arrange};
use super::shown::go_text;
use crate::object::Object;
use crate::status::Status;
use crate::types::{Field, Message, Shape, Types};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Applies a strategic merge patch to an object of this type.
pub fn strategic(type_name: &str, target: &Object, patch: &Object) -> Result<Object, Status> {
    let message = Types::all().message(type_name);
    merge_object(message, target.clone(), patch)
}

fn merge_object(
    message: Option<&'static Message>,
    mut target: Object,
    patch: &Object,
) -> Result<Object, Status> {
    match patch.get(DIRECTIVE).map(Value::as_str) {
        None | Some(Some("merge")) => {}
        Some(Some("replace")) => {
            let mut replaced = patch.clone();
            replaced.remove(DIRECTIVE);
            return Ok(replaced);
        }
        Some(Some("delete")) => return Ok(Object::new()),
        Some(other) => return Err(unknown_directive(other, patch)),
    }
    retain_keys(&mut target, patch)?;
    let mut is_arranged = HashSet::new();
    for (directive, order) in patch {
        if let Some(name) = directive.strip_prefix(SET_ORDER) {
            let field = message.and_then(|message| message.field(name));
            set_order(&mut target, patch, (name, field), order)?;
            is_arranged.insert(name);
        }
    }
    for (name, given) in patch {
        if let Some(list) = name.strip_prefix(DELETE_FROM) {
            delete_from(&mut target, list, given)?;
        } else if !is_arranged.contains(name.as_str()) && !is_directive(name) {
            let field = message.and_then(|message| message.field(name));
            merge_field(&mut target, name, field, given)?;
        }
    }
    Ok(target)
}

fn is_directive(name: &str) -> bool {
    name == DIRECTIVE || name == RETAIN_KEYS || name.starts_with(DELETE_FROM) || name.starts_with(SET_ORDER)
}

fn merge_field(
    target: &mut Object,
    name: &str,
    field: Option<&'static Field>,
    given: &Value,
) -> Result<(), Status> {
    if given.is_null() {
        target.remove(name);
        return Ok(());
    }
    // An order to replace or delete what is not there is none to make it.
    if given.get(DIRECTIVE).is_some() && !target.contains_key(name) {
        return Ok(());
    }
    let merged = match (target.remove(name), given) {
        (Some(Value::Object(was)), Value::Object(given)) if !field.is_some_and(Field::patch_replaces) => {
            Value::Object(merge_object(child_of(field), was, given)?)
        }
        (Some(Value::Array(was)), Value::Array(given)) => match key_of(field) {
            Some(key) => {
                let merged = merge_list(field, key, was.clone(), given)?;
                let plain: Vec<Value> = given
                    .iter()
                    .filter(|entry| entry.get(DIRECTIVE).is_none())
                    .cloned()
                    .collect();
                Value::Array(arrange(merged, &plain, &was, key))
            }
            None => without_directives(&Value::Array(given.clone())),
        },
        (_, given) => without_directives(given),
    };
    target.insert(name.to_owned(), merged);
    Ok(())
}

/// The type of the object in a field; that of a map has none of its own.
fn child_of(field: Option<&'static Field>) -> Option<&'static Message> {
    field
        .filter(|field| !matches!(field.shape, Shape::Map(_)))
        .and_then(Field::message)
}

/// By what the list in a field merges; none if it is replaced.
fn key_of(field: Option<&'static Field>) -> Option<Key<'static>> {
    let field = field.filter(|field| matches!(field.shape, Shape::List(_)))?;
    match field.patch_merge_key() {
        Some(key) => Some(Key(Some(key))),
        None => field.patch_merges_primitives().then_some(Key(None)),
    }
}

fn merge_list(
    field: Option<&'static Field>,
    key: Key<'_>,
    was: Vec<Value>,
    given: &[Value],
) -> Result<Vec<Value>, Status> {
    let Some(key_name) = key.0 else {
        return Ok(add_values(was, given));
    };
    let mut merged = was;
    let mut deleted = HashSet::new();
    let mut replaces = false;
    let mut plain = Vec::new();
    for entry in given {
        let Value::Object(entry) = entry else {
            let told = "invalid patch format: expected a list of objects";
            return Err(Status::bad_request(told));
        };
        match entry.get(DIRECTIVE).map(Value::as_str) {
            None => plain.push(entry),
            Some(Some("delete")) => {
                deleted.insert(demand_key(entry, key_name)?);
            }
            Some(Some("replace")) => replaces = true,
            Some(Some("merge")) => {
                let told = "merging lists with $patch: merge is not supported";
                return Err(Status::bad_request(told));
            }
            Some(other) => return Err(unknown_directive(other, entry)),
        }
    }
    if replaces {
        let kept = plain
            .into_iter()
            .map(|entry| without_directives(&Value::Object(entry.clone())));
        return Ok(kept.collect());
    }
    if !deleted.is_empty() {
        merged.retain(|entry| key.of(entry).is_none_or(|key| !deleted.contains(&key)));
    }
    let mut places = Places::of(&merged, key);
    for entry in plain {
        let own = demand_key(entry, key_name)?;
        let place = places.get(Some(&own));
        match place.and_then(|place| merged.get_mut(place)) {
            Some(Value::Object(was)) => {
                *was = merge_object(child_of(field), std::mem::take(was), entry)?;
            }
            _ => {
                places.add(own, merged.len());
                merged.push(without_directives(&Value::Object(entry.clone())));
            }
        }
    }
    Ok(merged)
}

fn demand_key(entry: &Object, key: &str) -> Result<String, Status> {
    entry.get(key).map(Value::to_string).ok_or_else(|| {
        let shown = go_text(&Value::Object(entry.clone()));
        Status::unforeseen(format!("map: {shown} does not contain declared merge key: {key}"))
    })
}

/// Plain values as a set.
fn add_values(was: Vec<Value>, given: &[Value]) -> Vec<Value> {
    let mut seen = HashSet::new();
    let all = was.into_iter().chain(given.iter().cloned());
    all.filter(|value| seen.insert(value.to_string())).collect()
}

fn delete_from(target: &mut Object, list: &str, given: &Value) -> Result<(), Status> {
    let Value::Array(given) = given else {
        return Err(Status::bad_request("invalid patch format of primitive list"));
    };
    if let Some(Value::Array(was)) = target.get_mut(list) {
        let gone: HashSet<String> = given.iter().map(Value::to_string).collect();
        was.retain(|value| !gone.contains(&value.to_string()));
    }
    Ok(())
}

/// Merges a list whose order is given.
fn set_order(
    target: &mut Object,
    patch: &Object,
    (name, field): (&str, Option<&'static Field>),
    order: &Value,
) -> Result<(), Status> {
    let wrong = || Status::bad_request("invalid patch format of setElementOrder list");
    let Value::Array(order) = order else {
        return Err(wrong());
    };
    let key = key_of(field).ok_or_else(wrong)?;
    // What is deleted from a list of plain values is deleted before it is put in order.
    if let Some(given) = patch.get(&format!("{DELETE_FROM}{name}")) {
        delete_from(target, name, given)?;
    }
    let was = match target.get(name) {
        Some(Value::Array(was)) => was.clone(),
        _ => Vec::new(),
    };
    let merged = match patch.get(name) {
        Some(Value::Array(given)) => {
            check_order(given, order, key)?;
            merge_list(field, key, was.clone(), given)?
        }
        Some(Value::Null) => {
            target.remove(name);
            return Ok(());
        }
        Some(_) => return Err(wrong()),
        None => was.clone(),
    };
    if merged.is_empty() && !target.contains_key(name) {
        return Ok(());
    }
    let arranged = arrange(merged, order, &was, key);
    target.insert(name.to_owned(), arranged.into());
    Ok(())
}

/// What a list of the patch holds must be in the order that is given, and stand as it does.
fn check_order(given: &[Value], order: &[Value], key: Key<'_>) -> Result<(), Status> {
    let places = Places::of(order, key);
    let mut last = 0;
    for entry in given.iter().filter(|entry| entry.get(DIRECTIVE).is_none()) {
        match places.get(key.of(entry).as_ref()) {
            Some(place) if place >= last => last = place,
            _ => {
                let shown = |entries: &[Value]| go_text(&Value::from(entries.to_vec()));
                let (given, order) = (shown(given), shown(order));
                let told = format!(
                    "The order in patch list:\n{given}\n doesn't match $setElementOrder list:\n{order}\n"
                );
                return Err(Status::unforeseen(told));
            }
        }
    }
    Ok(())
}

fn retain_keys(target: &mut Object, patch: &Object) -> Result<(), Status> {
    let Some(kept) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let wrong = || Status::bad_request("invalid patch format of retainKeys");
    let kept: Option<HashSet<&str>> = kept
        .as_array()
        .and_then(|kept| kept.iter().map(Value::as_str).collect());
    let kept = kept.ok_or_else(wrong)?;
    let is_kept = |name: &str| kept.contains(name);
    let mut given = patch
        .iter()
        .filter(|(name, value)| !is_directive(name) && !value.is_null());
    if given.any(|(name, _)| !is_kept(name)) {
        return Err(wrong());
    }
    target.retain(|name, _| is_kept(name));
    Ok(())
}

/// A value of a patch that replaces what was there: directives say nothing in it but that
/// what they stand in is not to be made, and nulls in objects are nothing.
pub(super) fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let is_kept = |name: &str, value: &Value| {
                !is_directive(name) && !value.is_null() && value.get(DIRECTIVE).is_none()
            };
            let kept = fields.iter().filter(|(name, value)| is_kept(name, value));
            Value::Object(
                kept.map(|(name, value)| (name.clone(), without_directives(value)))
                    .collect(),
            )
        }
        Value::Array(entries) => {
            let is_kept = |entry: &&Value| entry.get(DIRECTIVE).is_none_or(|directive| directive != "delete");
            let kept = entries
                .iter()
                .filter(is_kept)
                .filter(|entry| !is_only_directive(entry));
            Value::Array(kept.map(without_directives).collect())
        }
        plain => plain.clone(),
    }
}

/// `{"$patch": "replace"}` as an entry of a list is no entry.
fn is_only_directive(entry: &Value) -> bool {
    entry
        .as_object()
        .is_some_and(|entry| entry.len() == 1 && entry.contains_key(DIRECTIVE))
}

fn unknown_directive(directive: Option<&str>, patch: &Object) -> Status {
    let shown = directive.unwrap_or_default();
    let patch = go_text(&Value::Object(patch.clone()));
    Status::unforeseen(format!("unknown patch type: {shown} in map: {patch}"))
}
