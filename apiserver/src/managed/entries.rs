//! The entries of `metadata.managedFields`: who set which fields, how and when.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use crate::object::{Object, metadata_mut};

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) applied: bool,
    pub(super) api_version: String,
    pub(super) time: Option<String>,
    pub(super) subresource: String,
    pub(super) fields: Fields,
}

/// The most entries of updates that an object has; older ones are put together.
const UPDATES_MAX: usize = 10;
/// Who stands for those that were put together.
const ANCIENT: &str = "ancient-changes";

impl Entry {
    fn read(value: &Value) -> Option<Entry> {
        let text = |field: &str| {
            value
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let applied = match text("operation").as_str() {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        if text("fieldsType") != "FieldsV1" || text("apiVersion").is_empty() {
            return None;
        }
        Some(Entry {
            manager: text("manager"),
            applied,
            api_version: text("apiVersion"),
            time: Some(text("time")).filter(|time| !time.is_empty()),
            subresource: text("subresource"),
            fields: value.get("fieldsV1").map(Fields::read).unwrap_or_default(),
        })
    }

    fn operation(&self) -> &'static str {
        if self.applied { "Apply" } else { "Update" }
    }

    fn write(&self) -> Value {
        let mut entry = Map::new();
        entry.insert("manager".to_owned(), self.manager.as_str().into());
        entry.insert("operation".to_owned(), self.operation().into());
        entry.insert("apiVersion".to_owned(), self.api_version.as_str().into());
        if let Some(time) = &self.time {
            entry.insert("time".to_owned(), time.as_str().into());
        }
        entry.insert("fieldsType".to_owned(), "FieldsV1".into());
        entry.insert("fieldsV1".to_owned(), self.fields.write());
        if !self.subresource.is_empty() {
            entry.insert("subresource".to_owned(), self.subresource.as_str().into());
        }
        Value::Object(entry)
    }

    /// Whether both are of the same manager and operation: who applies is one whatever the version.
    pub(super) fn is_like(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.applied == other.applied
            && self.subresource == other.subresource
            && (self.applied || self.api_version == other.api_version)
    }

    /// The manager as conflicts name it.
    pub(super) fn shown(&self) -> String {
        let mut shown = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            shown.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if !self.applied {
            shown.push_str(&format!(" using {}", self.api_version));
        }
        shown
    }
}

/// The entries of an object; none if one of them is none.
pub(super) fn read(object: &Object) -> Option<Vec<Entry>> {
    let entries = object.get("metadata")?.get("managedFields")?.as_array()?;
    entries.iter().map(Entry::read).collect()
}

/// Whether a client asks for them to be forgotten: a list of one entry that is empty.
pub(super) fn is_reset(object: &Object) -> bool {
    let entries = object
        .get("metadata")
        .and_then(|metadata| metadata.get("managedFields"));
    entries == Some(&json!([{}]))
}

/// Writes the entries into an object, without those that are empty.
pub(super) fn write(object: &mut Object, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    put_together(&mut entries);
    entries.sort_by(|one, other| {
        let key = |entry: &Entry| {
            (
                entry.operation(),
                entry.time.clone().unwrap_or_default(),
                entry.manager.clone(),
                entry.api_version.clone(),
                entry.subresource.clone(),
            )
        };
        key(one).cmp(&key(other))
    });
    let metadata = metadata_mut(object);
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        let entries: Vec<Value> = entries.iter().map(Entry::write).collect();
        metadata.insert("managedFields".to_owned(), entries.into());
    }
}

/// Puts the oldest updates of one version together until there are few enough.
fn put_together(entries: &mut Vec<Entry>) {
    let mut updates: Vec<Entry> = Vec::new();
    entries.retain(|entry| {
        if !entry.applied {
            updates.push(entry.clone());
        }
        entry.applied
    });
    updates.sort_by(|one, other| (&one.time, &one.manager).cmp(&(&other.time, &other.manager)));
    while updates.len() > UPDATES_MAX {
        // The oldest that has another of its version behind it, and that one.
        let pair = (0..updates.len()).find_map(|first| {
            let is_like = |other: &usize| updates[*other].api_version == updates[first].api_version;
            Some((first, (first + 1..updates.len()).find(is_like)?))
        });
        let Some((first, second)) = pair else { break };
        let later = updates.remove(second);
        if let Some(merged) = updates.get_mut(first) {
            ANCIENT.clone_into(&mut merged.manager);
            merged.subresource.clear();
            merged.time = later.time;
            merged.fields.add(&later.fields);
        }
    }
    entries.append(&mut updates);
}
