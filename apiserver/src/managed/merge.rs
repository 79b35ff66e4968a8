//! What server-side apply does with values: which fields they have, how two differ, what one makes of the other, and what of
//! it goes.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::fields::{Fields, entry_key, field_key, shown};
use super::shape::{Parts, Type};
use crate::object::Object;
use crate::types::{ListKind, Message};

/// How a value differs from another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Difference {
    pub(super) added: Fields,
    pub(super) changed: Fields,
    pub(super) removed: Fields,
}

impl Difference {
    pub(super) fn is_none(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    fn put(&mut self, key: &str, other: Difference) {
        self.added.put(key.to_owned(), other.added);
        self.changed.put(key.to_owned(), other.changed);
        self.removed.put(key.to_owned(), other.removed);
    }
}

/// All fields that a value has.
pub(super) fn fields_of(kind: Type, value: &Value) -> Fields {
    let mut fields = Fields::default();
    match (kind.parts(value), value) {
        (Parts::Fields | Parts::Keys, Value::Object(object)) => {
            for (name, value) in object {
                let mut child = fields_of(kind.field(name), value);
                if value.as_object().is_some_and(Map::is_empty) {
                    child.own = true;
                }
                fields.put(field_key(name), child);
            }
        }
        (Parts::Entries(list), Value::Array(entries)) => {
            for entry in entries {
                if let Some(key) = entry_key(list, entry) {
                    let mut child = fields_of(kind.entry(), entry);
                    child.own = true;
                    fields.put(key, child);
                }
            }
        }
        _ => fields.own = true,
    }
    fields
}

/// How `new` differs from `old`.
pub(super) fn compare(kind: Type, old: Option<&Value>, new: Option<&Value>) -> Difference {
    let mut difference = Difference::default();
    let there = |value: &Option<&Value>| value.is_some_and(|value| !value.is_null());
    let Some(any) = new.filter(|_| there(&new)).or(old).or(new) else {
        return difference;
    };
    let parts = kind.parts(any);
    // A value that is of another form than before is another value. What is null has any form.
    let is_same_form = [old, new]
        .into_iter()
        .filter(there)
        .flatten()
        .all(|value| kind.parts(value) == parts);
    match parts {
        _ if !is_same_form => difference.changed.own = true,
        Parts::Whole => {
            difference.added.own = old.is_none();
            difference.removed.own = new.is_none();
            difference.changed.own = old.is_some() && new.is_some() && old != new;
        }
        Parts::Fields | Parts::Keys => {
            let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            difference = compare_objects(kind, old, new);
        }
        Parts::Entries(list) => compare_lists(kind, list, old, new, &mut difference),
    }
    if parts != Parts::Whole {
        difference.added.own |= old.is_none();
        difference.removed.own |= new.is_none();
    }
    difference
}

/// How the fields of `new` differ from those of `old`.
pub(super) fn compare_objects(kind: Type, old: Option<&Object>, new: Option<&Object>) -> Difference {
    let mut difference = Difference::default();
    let empty = Object::new();
    let (old, new) = (old.unwrap_or(&empty), new.unwrap_or(&empty));
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    for name in new.keys().chain(gone) {
        let (was, is) = (old.get(name), new.get(name));
        if was != is {
            difference.put(&field_key(name), compare(kind.field(name), was, is));
        }
    }
    difference
}

fn compare_lists(
    kind: Type,
    list: ListKind,
    old: Option<&Value>,
    new: Option<&Value>,
    difference: &mut Difference,
) {
    let (was, is) = (by_key(list, old), by_key(list, new));
    let gone = was.order.iter().filter(|key| !is.entries.contains_key(*key));
    for key in is.order.iter().chain(gone) {
        let (was, is) = (was.entries.get(key).copied(), is.entries.get(key).copied());
        if was == is {
            continue;
        }
        let mut child = compare(kind.entry(), was, is);
        child.added.own |= was.is_none();
        child.removed.own |= is.is_none();
        difference.put(key, child);
    }
}

/// The places of fields that a type does not have.
pub(super) fn undeclared(kind: Type, value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            let message = kind.message();
            for (name, value) in object {
                let is_own = |message: &Message| {
                    message.field(name).is_some()
                        || (message.is_object && matches!(name.as_str(), "apiVersion" | "kind"))
                };
                let place = format!("{at}.{name}");
                match message {
                    Some(message) if !is_own(message) => found.push(place),
                    _ => undeclared(kind.field(name), value, &place, found),
                }
            }
        }
        Value::Array(entries) => {
            let list = match kind.parts(value) {
                Parts::Entries(list) => list,
                _ => ListKind::Atomic,
            };
            for (index, entry) in entries.iter().enumerate() {
                let step = match entry_key(list, entry) {
                    Some(key) => shown(&key),
                    None => format!("[{index}]"),
                };
                undeclared(kind.entry(), entry, &format!("{at}{step}"), found);
            }
        }
        _ => {}
    }
}

/// The entries of a list by their keys; of several of one key the first, and none that has no key.
struct ByKey<'a> {
    order: Vec<String>,
    entries: HashMap<String, &'a Value>,
}

fn by_key(list: ListKind, value: Option<&Value>) -> ByKey<'_> {
    let mut found = ByKey {
        order: Vec::new(),
        entries: HashMap::new(),
    };
    for entry in value.and_then(Value::as_array).into_iter().flatten() {
        if let Some(key) = entry_key(list, entry)
            && !found.entries.contains_key(&key)
        {
            found.order.push(key.clone());
            found.entries.insert(key, entry);
        }
    }
    found
}

/// What stands there, with all that is applied.
pub(super) fn merge(kind: Type, live: Option<&Value>, applied: &Value) -> Value {
    let Some(live) = live else {
        return applied.clone();
    };
    match (kind.parts(applied), live, applied) {
        (Parts::Fields | Parts::Keys, Value::Object(live), Value::Object(applied)) => {
            let mut merged = live.clone();
            for (name, value) in applied {
                let value = merge(kind.field(name), live.get(name), value);
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Parts::Entries(list), Value::Array(live), Value::Array(applied)) => {
            Value::Array(merge_lists(kind, list, live, applied))
        }
        _ => applied.clone(),
    }
}

/// The entries that are applied in their order, those that only stand there between them as they stood.
fn merge_lists(kind: Type, list: ListKind, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let applied_keys: HashSet<String> = applied
        .iter()
        .filter_map(|entry| entry_key(list, entry))
        .collect();
    let mut stood: HashMap<String, &Value> = HashMap::new();
    for entry in live {
        if let Some(key) = entry_key(list, entry) {
            stood.entry(key).or_insert(entry);
        }
    }
    let is_shared = |entry: &Value| entry_key(list, entry).is_some_and(|key| applied_keys.contains(&key));
    let mut rest = live.iter().peekable();
    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    for entry in applied {
        while let Some(only) = rest.next_if(|entry| !is_shared(entry)) {
            merged.push(only.clone());
        }
        match entry_key(list, entry).and_then(|key| stood.get(&key)) {
            Some(was) => {
                rest.next();
                merged.push(merge(kind.entry(), Some(was), entry));
            }
            None => merged.push(entry.clone()),
        }
    }
    merged.extend(rest.filter(|entry| !is_shared(entry)).cloned());
    merged
}

/// Removes what the set `last` holds and nobody keeps: what somebody keeps, or something below it, stays.
pub(super) fn prune(kind: Type, value: &mut Value, last: &Fields, kept: &Fields) {
    match (kind.parts(value), value) {
        (Parts::Fields | Parts::Keys, Value::Object(object)) => {
            for (key, last) in &last.below {
                let Some(name) = key.strip_prefix("f:") else {
                    continue;
                };
                match (kept.below.get(key), object.get_mut(name)) {
                    (None, _) => {
                        object.remove(name);
                    }
                    (Some(kept), Some(child)) => prune(kind.field(name), child, last, kept),
                    (Some(_), None) => {}
                }
            }
        }
        (Parts::Entries(list), Value::Array(entries)) => {
            entries.retain_mut(|entry| {
                let key = entry_key(list, entry);
                let last = key.as_ref().and_then(|key| last.below.get(key));
                let kept = key.as_ref().and_then(|key| kept.below.get(key));
                match (last, kept) {
                    (Some(_), None) => false,
                    (Some(last), Some(kept)) => {
                        prune(kind.entry(), entry, last, kept);
                        true
                    }
                    (None, _) => true,
                }
            });
        }
        _ => {}
    }
}

/// The first key that stands twice in a list that is applied, or a list that lacks one: where, and what is wrong.
pub(super) fn twice(kind: Type, value: &Value, at: &str) -> Option<String> {
    match (kind.parts(value), value) {
        (Parts::Fields | Parts::Keys, Value::Object(object)) => object
            .iter()
            .find_map(|(name, value)| twice(kind.field(name), value, &format!("{at}.{name}"))),
        (Parts::Entries(list), Value::Array(entries)) => {
            let mut seen = HashSet::new();
            entries.iter().enumerate().find_map(|(index, entry)| {
                let Some(key) = entry_key(list, entry) else {
                    let told = "associative list with keys has an element that omits key field";
                    return Some(format!("{at}: element {index}: {told}"));
                };
                let step = shown(&key);
                if !seen.insert(key) {
                    return Some(format!("{at}: duplicate entries for key {step}"));
                }
                twice(kind.entry(), entry, &format!("{at}{step}"))
            })
        }
        _ => None,
    }
}
