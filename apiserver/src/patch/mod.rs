//! Patches: the three ways in which a client says what is to change (JSON patch, RFC 6902; JSON merge patch, RFC 7386;
//! Kubernetes' strategic merge patch) as functions from an object to an object. Who owns what is no matter here, and whether
//! the outcome is right is judged elsewhere.

mod order;
mod strategic;

use json_patch::PatchOperation;
use serde_json::Value;

pub use self::strategic::strategic;
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
    let operations: Vec<PatchOperation> = serde_json::from_value(operations.clone())
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let mut patched = target.clone();
    let mut copied_bytes = 0_usize;
    for operation in operations {
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
