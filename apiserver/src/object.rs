//! An object of the API as JSON, and its metadata.

use serde_json::{Map, Value};

/// The fields of an object.
pub type Object = Map<String, Value>;

/// A text of `metadata`, empty where it is missing or no text.
#[must_use]
pub fn meta<'a>(object: &'a Object, field: &str) -> &'a str {
    metadata(object)
        .and_then(|metadata| metadata.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `metadata`, if there is one.
#[must_use]
pub fn metadata(object: &Object) -> Option<&Object> {
    object.get("metadata").and_then(Value::as_object)
}

/// `metadata`, made where it is missing or no object.
pub fn metadata_mut(object: &mut Object) -> &mut Object {
    child_mut(object, "metadata")
}

/// The object in a field, made where it is missing or something else.
pub fn child_mut<'a>(object: &'a mut Object, field: &str) -> &'a mut Object {
    let child = object.entry(field).or_insert(Value::Null);
    if !child.is_object() {
        *child = Value::Object(Map::new());
    }
    match child {
        Value::Object(child) => child,
        // It was made one just now.
        _ => unreachable!("an object"),
    }
}

/// Whether objects and lists stand within each other more than `levels` deep. It looks no deeper than that itself.
#[must_use]
pub fn is_nested_deeper(value: &Value, levels: usize) -> bool {
    let is_plain = !(value.is_object() || value.is_array());
    let Some(below) = levels.checked_sub(1) else {
        return !is_plain;
    };
    match value {
        Value::Object(object) => object.values().any(|value| is_nested_deeper(value, below)),
        Value::Array(list) => list.iter().any(|value| is_nested_deeper(value, below)),
        _ => false,
    }
}

/// Whether an object is nested deeper than it may be, [`NESTING_MAX`].
#[must_use]
pub fn is_too_deep(object: &Object) -> bool {
    object
        .values()
        .any(|value| is_nested_deeper(value, NESTING_MAX - 1))
}

/// How many objects and lists may stand within each other, the object itself counted: as many as serde_json reads, so
/// that all that is written can be read again. Whatever walks through an object is as deep in calls.
pub const NESTING_MAX: usize = 127;

/// What stands at the end of a path of fields.
#[must_use]
pub fn at<'a>(object: &'a Object, path: &[&str]) -> Option<&'a Value> {
    let (last, path) = path.split_last()?;
    let mut object = object;
    for field in path {
        object = object.get(*field)?.as_object()?;
    }
    object.get(*last)
}

/// The resource version that an object carries, 0 where there is none or no number.
#[must_use]
pub fn resource_version(object: &Object) -> i64 {
    meta(object, "resourceVersion").parse().unwrap_or(0)
}

/// Sets `metadata.resourceVersion`, or removes it for 0: objects are stored without.
pub fn set_resource_version(object: &mut Object, revision: i64) {
    let metadata = metadata_mut(object);
    match revision {
        0 => metadata.remove("resourceVersion"),
        revision => metadata.insert("resourceVersion".to_owned(), revision.to_string().into()),
    };
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Object) -> impl Iterator<Item = &str> {
    metadata(object)
        .and_then(|metadata| metadata.get("finalizers"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Whether it is on its way out.
#[must_use]
pub fn is_terminating(object: &Object) -> bool {
    !meta(object, "deletionTimestamp").is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        match value {
            Value::Object(object) => object,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_missing_or_odd_reads_as_empty() {
        for odd in [
            json!({}),
            json!({"metadata": 1}),
            json!({"metadata": {"name": 2}}),
        ] {
            assert_eq!(meta(&object(odd), "name"), "");
        }
        let mut made = object(json!({"metadata": []}));
        set_resource_version(&mut made, 7);
        assert_eq!(
            (resource_version(&made), meta(&made, "resourceVersion")),
            (7, "7")
        );
        set_resource_version(&mut made, 0);
        assert_eq!(made, object(json!({"metadata": {}})));
    }

    #[test]
    fn what_is_as_deep_as_it_may_be_can_be_read() {
        let nested = |levels: usize| {
            let text = format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
            serde_json::from_str::<Object>(&text)
        };
        assert!(!is_too_deep(&nested(NESTING_MAX).unwrap()));
        assert!(nested(NESTING_MAX + 1).is_err());
        let deepest = Value::Object(nested(NESTING_MAX).unwrap());
        assert!(is_too_deep(&object(json!({"a": deepest}))));
        assert!(is_too_deep(&object(json!({"a": [deepest]}))));
        assert!(is_nested_deeper(&json!([]), 0) && !is_nested_deeper(&json!([1, "a"]), 1));
        assert!(!is_nested_deeper(&json!(1), 0));
    }

    #[test]
    fn paths_end_where_there_is_nothing() {
        let pod = object(json!({"spec": {"nodeName": "n"}}));
        assert_eq!(at(&pod, &["spec", "nodeName"]), Some(&json!("n")));
        assert_eq!(at(&pod, &["spec", "nodeName", "x"]), None);
        assert_eq!(at(&pod, &[]), None);
    }
}
