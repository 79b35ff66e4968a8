//! OpenAPI v3: a document for each version of each group. kubectl takes from it whether the server judges fields itself, how
//! lists merge in a patch, and what `kubectl explain` tells. Descriptions come from `k8s-openapi`, how lists merge and what
//! is required from the table of types.
//!
//! | file | what |
//! | --- | --- |
//! | `paths`, `schemas` | what documents consist of |
//! | `v2`, `gnostic` | the one document that clients older than 1.27 ask for instead, and its messages |

mod gnostic;
mod paths;
mod schemas;
mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::discovery::{Document, hash};
use crate::resources::groups;

pub use self::v2::v2;

/// What stands at `/openapi/v3`: where the documents are, with hashes of their contents.
#[must_use]
pub fn index() -> Document {
    DOCUMENTS.index.clone()
}

/// The document of `api/v1` or `apis/GROUP/VERSION`.
#[must_use]
pub fn document(path: &str) -> Option<Document> {
    DOCUMENTS.by_path.get(path).cloned()
}

/// All of them, made once: the index needs the hashes of all.
struct Documents {
    index: Document,
    by_path: BTreeMap<String, Document>,
}

static DOCUMENTS: LazyLock<Documents> = LazyLock::new(|| {
    let schemas = schemas::all();
    let refers: BTreeMap<&str, BTreeSet<&str>> = schemas
        .iter()
        .map(|(name, schema)| (name.as_str(), references(schema)))
        .collect();
    let mut by_path = BTreeMap::new();
    for (group, versions) in groups() {
        for version in versions {
            let (path, document) = make(group, version, &schemas, &refers);
            by_path.insert(path, Document::of_json(&document, JSON));
        }
    }
    let paths: Map<String, Value> = by_path
        .iter()
        .map(|(path, document)| {
            let url = format!("/openapi/v3/{path}?hash={}", hash(&document.bytes));
            (path.clone(), json!({ "serverRelativeURL": url }))
        })
        .collect();
    let index = Document::of_json(&json!({ "paths": paths }), JSON);
    Documents { index, by_path }
});

/// The document of a version, and its path.
fn make(
    group: &str,
    version: &str,
    schemas: &BTreeMap<String, Value>,
    refers: &BTreeMap<&str, BTreeSet<&str>>,
) -> (String, Value) {
    let path = match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    };
    let paths = paths::of_version(&path, group, version);
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = references(&paths).into_iter().collect();
    while let Some(name) = open.pop() {
        if let Some((name, more)) = refers.get_key_value(name)
            && needed.insert(name)
        {
            open.extend(more);
        }
    }
    let needed: Map<String, Value> = needed
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), schemas.get(name)?.clone())))
        .collect();
    let document = json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "unversioned" },
        "paths": paths,
        "components": { "schemas": needed },
    });
    (path, document)
}

/// The schemas that are referred to from within.
fn references(value: &Value) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                let reference = fields.get("$ref").and_then(Value::as_str);
                found.extend(reference.and_then(|reference| reference.strip_prefix(SCHEMAS)));
                open.extend(fields.values());
            }
            Value::Array(entries) => open.extend(entries),
            _ => {}
        }
    }
    found
}

const JSON: &str = "application/json";

/// Where a document keeps its schemas.
const SCHEMAS: &str = "#/components/schemas/";

#[cfg(test)]
mod tests;
