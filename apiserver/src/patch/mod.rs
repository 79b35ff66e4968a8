//! Patches: the three ways in which a client says what is to change (JSON patch, RFC 6902; JSON merge patch, RFC 7386;
//! Kubernetes' strategic merge patch) as functions from an object to an object. Who owns what is no matter here, and whether
//! the outcome is right is judged elsewhere.

mod order;
mod shown;
mod strategic;

use json_patch::PatchOperation;
use json_patch::jsonptr::Pointer;
use serde_json::Value;

pub use self::shown::go_text;
pub use self::strategic::strategic;
use crate::object::{NESTING_MAX, is_nested_deeper};
use crate::status::{Reason, Status};

/// The most operations that a JSON patch may have.
const OPERATIONS_MAX: usize = 10_000;
/// The most that all copies of a JSON patch together may copy: they can double what is there again and again.
const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Applies a JSON patch.
pub fn json(target: &Value, operations: &Value) -> Result<Value, Status> {
    let count = operations.as_array().map_or(0, Vec::len);
    if count > OPERATIONS_MAX {
        let told = format!("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}");
        return Err(Status::new(Reason::RequestEntityTooLarge, told));
    }
    let Value::Array(operations) = operations else {
        return Err(undecodable(operations, "[]handlers.jsonPatchOp"));
    };
    if let Some(odd) = operations.iter().find(|operation| !operation.is_object()) {
        return Err(undecodable(odd, "handlers.jsonPatchOp"));
    }
    let mut patched = target.clone();
    let mut copied_bytes = 0_usize;
    for operation in operations {
        let operation = lenient(operation, &patched);
        let operation: PatchOperation = serde_json::from_value(operation).map_err(|_| rejected())?;
        if is_too_deep(&patched, &operation) {
            return Err(rejected());
        }
        if let PatchOperation::Copy(copy) = &operation {
            let source = copy.from.resolve(&patched).map(|source| source.to_string().len());
            copied_bytes = copied_bytes.saturating_add(source.unwrap_or(0));
            if copied_bytes > COPIED_BYTES_MAX {
                return Err(rejected());
            }
        }
        json_patch::patch(&mut patched, &[operation]).map_err(|_| rejected())?;
    }
    Ok(patched)
}

/// A JSON patch that is none.
fn undecodable(given: &Value, go_type: &str) -> Status {
    let what = crate::codec::what_is(given);
    Status::bad_request(format!(
        "error decoding patch: json: cannot unmarshal {what} into Go value of type {go_type}"
    ))
}

/// An operation with what a real server reads into it beyond the letter of RFC 6902: a value that is not given is null,
/// what is not there is replaced by adding it, is null when it is tested and when it is copied.
fn lenient(operation: &Value, target: &Value) -> Value {
    let mut operation = operation.clone();
    let text = |operation: &Value, field: &str| operation[field].as_str().unwrap_or_default().to_owned();
    let (what, path) = (text(&operation, "op"), text(&operation, "path"));
    let is_missing = |path: &str| {
        let parent = path
            .rsplit_once('/')
            .and_then(|(parent, _)| target.pointer(parent));
        parent.is_some_and(Value::is_object) && target.pointer(path).is_none()
    };
    let Some(fields) = operation.as_object_mut() else {
        return operation;
    };
    if matches!(what.as_str(), "add" | "replace" | "test") && !fields.contains_key("value") {
        fields.insert("value".to_owned(), Value::Null);
    }
    let tests_nothing = what == "test" && fields.get("value").is_some_and(Value::is_null);
    let from = fields
        .get("from")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    match what.as_str() {
        "replace" if is_missing(&path) => {
            fields.insert("op".to_owned(), "add".into());
        }
        "test" if tests_nothing && is_missing(&path) => {
            // The whole is what it is.
            fields.insert("path".to_owned(), "".into());
            fields.insert("value".to_owned(), target.clone());
        }
        "copy" if is_missing(&from) => {
            fields.insert("op".to_owned(), "add".into());
            fields.insert("value".to_owned(), Value::Null);
        }
        _ => {}
    }
    operation
}

/// Whether an operation would nest what it is applied to deeper than an object may be: copies alone can double the depth
/// again and again, until whatever walks through the object has no stack left.
fn is_too_deep(target: &Value, operation: &PatchOperation) -> bool {
    let place = |path: &Pointer, value: Option<&Value>| {
        let left = NESTING_MAX.checked_sub(path.count());
        value.is_some_and(|value| left.is_none_or(|left| is_nested_deeper(value, left)))
    };
    match operation {
        PatchOperation::Add(add) => place(&add.path, Some(&add.value)),
        PatchOperation::Replace(replace) => place(&replace.path, Some(&replace.value)),
        PatchOperation::Copy(copy) => place(&copy.path, copy.from.resolve(target).ok()),
        PatchOperation::Move(moved) => place(&moved.path, moved.from.resolve(target).ok()),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => false,
    }
}

/// Applies a JSON merge patch.
#[must_use]
pub fn merge(target: &Value, patch: &Value) -> Value {
    let mut patched = target.clone();
    json_patch::merge(&mut patched, patch);
    patched
}

/// The refusal of a patch that does not fit what it is applied to.
fn rejected() -> Status {
    Status::new(
        Reason::Invalid,
        "the server rejected our request due to an error in our request",
    )
}

#[cfg(test)]
mod tests;
