//! An object as it came from the store: its JSON with the resource version in it, ready to be sent, and its fields for
//! whoever has to look into it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::codec::decode_stored;
use crate::object::{Object, set_resource_version};
use crate::status::Status;

/// An object at one revision. What is stored as JSON is not parsed before somebody asks for a field.
pub struct Item {
    json: Bytes,
    revision: i64,
    /// Its fields, once somebody asked.
    parsed: Mutex<Option<Arc<Object>>>,
}

impl Item {
    /// The object in a value of the store that was written at `revision`.
    pub(super) fn stored(value: &[u8], revision: i64) -> Result<Item, Status> {
        if let Some(json) = with_resource_version(value, revision) {
            return Ok(Item {
                json: json.into(),
                revision,
                parsed: Mutex::new(None),
            });
        }
        Item::of(decode_stored(value)?, revision)
    }

    /// An object that is at hand. It gets the resource version.
    pub(super) fn of(mut object: Object, revision: i64) -> Result<Item, Status> {
        set_resource_version(&mut object, revision);
        let json = serde_json::to_vec(&object).map_err(Status::internal)?;
        Ok(Item {
            json: json.into(),
            revision,
            parsed: Mutex::new(Some(Arc::new(object))),
        })
    }

    /// The same object with another resource version, as in the event that says it is gone.
    pub(super) fn at(&self, revision: i64) -> Result<Item, Status> {
        Item::of((*self.object()?).clone(), revision)
    }

    /// A refusal, as the last event of a watch has it.
    pub(super) fn refusal(status: &Status) -> Item {
        Item {
            json: status.to_value().to_string().into(),
            revision: 0,
            parsed: Mutex::new(None),
        }
    }

    /// The JSON, with the resource version in it.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The revision at which it was written, or for an object that is gone, deleted.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Its fields. Parsed once for all who ask about the same time.
    pub fn object(&self) -> Result<Arc<Object>, Status> {
        if let Some(object) = &*self.parsed.lock() {
            return Ok(Arc::clone(object));
        }
        let object: Object = serde_json::from_slice(&self.json).map_err(Status::internal)?;
        let object = Arc::new(object);
        *self.parsed.lock() = Some(Arc::clone(&object));
        Ok(object)
    }

    /// Its fields, for who wants to change them.
    pub fn into_object(self) -> Result<Object, Status> {
        match self.parsed.into_inner() {
            Some(object) => Ok(Arc::unwrap_or_clone(object)),
            None => serde_json::from_slice(&self.json).map_err(Status::internal),
        }
    }

    /// Frees what was parsed: the JSON alone is kept for those who come late.
    pub(super) fn forget(&self) {
        *self.parsed.lock() = None;
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("revision", &self.revision)
            .field("json", &String::from_utf8_lossy(&self.json))
            .finish_non_exhaustive()
    }
}

/// JSON of an object with the resource version put into its metadata. Nothing where the value is no JSON object with
/// metadata, or where there is a resource version in it, which nobody of the trade stores: then it has to be parsed.
fn with_resource_version(value: &[u8], revision: i64) -> Option<Vec<u8>> {
    /// The metadata as text.
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(rename = "resourceVersion")]
        resource_version: Option<IgnoredAny>,
    }
    if value.first() != Some(&b'{') {
        return None;
    }
    let outer: Outer<'_> = serde_json::from_slice(value).ok()?;
    let metadata = outer.metadata.get();
    let inner: Inner = serde_json::from_str(metadata).ok()?;
    let fields = metadata.strip_prefix('{')?;
    if inner.resource_version.is_some() {
        return None;
    }
    // The text is a part of the value: where it begins is how far it is from the value's own beginning.
    let start = metadata.as_ptr().addr().checked_sub(value.as_ptr().addr())? + 1;
    let (before, after) = value.split_at_checked(start)?;
    let comma = if fields.trim_start().starts_with('}') {
        ""
    } else {
        ","
    };
    let version = format!("\"resourceVersion\":\"{revision}\"{comma}");
    let mut json = Vec::with_capacity(value.len() + version.len());
    json.extend_from_slice(before);
    json.extend_from_slice(version.as_bytes());
    json.extend_from_slice(after);
    Some(json)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_resource_version_is_put_in_without_parsing() {
        for (stored, sent) in [
            (r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"7"}}"#),
            (
                r#"{"kind":"X","metadata": { "name":"a}" } ,"spec":1}"#,
                r#"{"kind":"X","metadata": {"resourceVersion":"7", "name":"a}" } ,"spec":1}"#,
            ),
        ] {
            let item = Item::stored(stored.as_bytes(), 7).unwrap();
            assert_eq!(item.json(), sent.as_bytes());
            assert!(item.parsed.lock().is_none());
            let parsed = item.object().unwrap();
            let mut expected: Object = serde_json::from_str(stored).unwrap();
            set_resource_version(&mut expected, 7);
            assert_eq!(*parsed, expected);
        }
    }

    /// Values that others wrote by hand.
    #[test]
    fn what_cannot_be_cut_is_parsed() {
        for odd in [
            r#"{"metadata":{"resourceVersion":"3","name":"a"}}"#,
            r#"{"metadata":{"name":"b"},"metadata":{"name":"a"}}"#,
        ] {
            let item = Item::stored(odd.as_bytes(), 7).unwrap();
            let expected = json!({"metadata": {"name": "a", "resourceVersion": "7"}});
            assert_eq!(Value::Object(item.into_object().unwrap()), expected);
        }
        for broken in ["", "[]", "{", r#"{"metadata":{}"#, "k8s:enc:aescbc", " {}"] {
            assert!(Item::stored(broken.as_bytes(), 7).is_err(), "{broken}");
        }
    }
}
