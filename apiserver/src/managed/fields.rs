//! Sets of fields as a tree, and their form in `managedFields`: `f:NAME` a field, `k:{...}` the entry of a list with these
//! keys, `v:VALUE` an entry that is a plain value, `.` the thing itself.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Map, Value};

use crate::types::ListKind;

/// A set of fields.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Fields {
    /// Whether the thing itself is in the set.
    pub(super) own: bool,
    /// What is in the set below it, by the words of `managedFields`. None of them is empty.
    pub(super) below: BTreeMap<String, Fields>,
}

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        !self.own && self.below.is_empty()
    }

    /// Adds a set below; an empty one adds nothing.
    pub(super) fn put(&mut self, key: String, fields: Fields) {
        if fields.is_empty() {
            return;
        }
        match self.below.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(fields);
            }
            Entry::Occupied(mut known) => known.get_mut().add(&fields),
        }
    }

    pub(super) fn add(&mut self, other: &Fields) {
        self.own |= other.own;
        for (key, fields) in &other.below {
            self.below.entry(key.clone()).or_default().add(fields);
        }
    }

    /// Takes away what is in the other set too.
    pub(super) fn subtract(&mut self, other: &Fields) {
        self.own &= !other.own;
        for (key, fields) in &other.below {
            if let Some(own) = self.below.get_mut(key) {
                own.subtract(fields);
                if own.is_empty() {
                    self.below.remove(key);
                }
            }
        }
    }

    /// What is in both.
    pub(super) fn common(&self, other: &Fields) -> Fields {
        let mut common = Fields {
            own: self.own && other.own,
            below: BTreeMap::new(),
        };
        for (key, fields) in &self.below {
            if let Some(other) = other.below.get(key) {
                common.put(key.clone(), fields.common(other));
            }
        }
        common
    }

    /// The paths of all that is in the set, as conflicts tell them.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, at: &str, paths: &mut Vec<String>) {
        if self.own {
            paths.push(at.to_owned());
        }
        for (key, fields) in &self.below {
            fields.collect_paths(&format!("{at}{}", shown(key)), paths);
        }
    }

    /// Reads `fieldsV1`. What is not understood is kept as it is.
    pub(super) fn read(value: &Value) -> Fields {
        let mut fields = Fields::default();
        for (key, value) in value.as_object().into_iter().flatten() {
            if key == "." {
                fields.own = true;
                continue;
            }
            let mut child = Fields::read(value);
            if child.is_empty() {
                child.own = true;
            }
            fields.below.insert(canonical(key), child);
        }
        fields
    }

    /// As it stands in `fieldsV1`.
    pub(super) fn write(&self) -> Value {
        let mut written = Map::new();
        if self.own && !self.below.is_empty() {
            written.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (key, fields) in &self.below {
            written.insert(key.clone(), fields.write());
        }
        Value::Object(written)
    }
}

/// The word for a field.
pub(super) fn field_key(name: &str) -> String {
    format!("f:{name}")
}

/// The word for an entry of a list that merges; none if it has none of the keys.
pub(super) fn entry_key(kind: ListKind, entry: &Value) -> Option<String> {
    match kind {
        ListKind::Atomic => None,
        ListKind::Set => Some(format!("v:{entry}")),
        ListKind::Map { keys } => {
            let mut found: BTreeMap<&str, Value> = BTreeMap::new();
            for key in keys {
                let value = entry.get(*key).filter(|value| !value.is_null()).cloned();
                if let Some(value) = value.or_else(|| default_of(key)) {
                    found.insert(key, value);
                }
            }
            let is_named = keys.iter().any(|key| entry.get(*key).is_some());
            is_named.then(|| keys_text(&found))
        }
    }
}

/// The value of a key that is not given: the only one that has any is a protocol.
fn default_of(key: &str) -> Option<Value> {
    (key == "protocol").then(|| "TCP".into())
}

fn keys_text(keys: &BTreeMap<&str, Value>) -> String {
    let pairs: Vec<String> = keys
        .iter()
        .map(|(key, value)| format!("{}:{value}", Value::from(*key)))
        .collect();
    format!("k:{{{}}}", pairs.join(","))
}

/// The same word as [`entry_key`] has it, whoever wrote it.
fn canonical(key: &str) -> String {
    let Some(text) = key.strip_prefix("k:") else {
        return key.to_owned();
    };
    match serde_json::from_str::<Map<String, Value>>(text) {
        Ok(keys) => keys_text(
            &keys
                .iter()
                .map(|(key, value)| (key.as_str(), value.clone()))
                .collect(),
        ),
        Err(_) => key.to_owned(),
    }
}

/// A step of a path: `.name`, `[name="x"]`, `[="x"]`.
pub(super) fn shown(key: &str) -> String {
    match key.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("v", value)) => format!("[={value}]"),
        Some(("k", keys)) => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        _ => format!("[{key}]"),
    }
}
