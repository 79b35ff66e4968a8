//! OpenAPI v2: one document of all groups, for clients older than 1.27. kubectl 1.20 asks for it before it creates, applies,
//! compares or explains anything, and only as protobuf. It is made of the same schemas and paths as the documents of v3:
//!
//! | v3 | v2 |
//! | --- | --- |
//! | `#/components/schemas/NAME` | `#/definitions/NAME` |
//! | a described reference in `allOf` | the description beside the reference |
//! | `x-kubernetes-int-or-string` | a string with the format `int-or-string` |
//! | `requestBody` | a parameter in `body`, and `consumes` |
//! | `content` of responses | `schema`, and `produces` |
//! | `schema` of parameters | its fields stand in the parameter |

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::{JSON, SCHEMAS, gnostic, paths, schemas};
use crate::http::discovery::{Document, version};
use crate::resources::groups;

/// What stands at `/openapi/v2`, in the first form that the `Accept` header names and that there is.
#[must_use]
pub fn v2(accept: &str) -> Option<Document> {
    let mut wanted = accept.split(',').map(|media| {
        let name = media.split(';').next().unwrap_or_default();
        name.trim()
    });
    wanted.find_map(|media| match media {
        "" | "*/*" | "application/*" | JSON => Some(AS_JSON.clone()),
        PROTOBUF | PROTOBUF_ASKED => Some(AS_PROTOBUF.clone()),
        _ => None,
    })
}

static AS_JSON: LazyLock<Document> = LazyLock::new(|| Document::of_json(&make(), JSON));

static AS_PROTOBUF: LazyLock<Document> =
    LazyLock::new(|| Document::of_bytes(gnostic::encode(&make()), PROTOBUF));

/// The document.
fn make() -> Value {
    let mut all = Map::new();
    for (group, versions) in groups() {
        for version in versions {
            let root = match group {
                "" => format!("api/{version}"),
                group => format!("apis/{group}/{version}"),
            };
            if let Value::Object(paths) = paths::of_version(&root, group, version) {
                all.extend(paths.iter().map(|(path, item)| (path.clone(), path_item(item))));
            }
        }
    }
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": version()["gitVersion"] },
        "paths": all,
        "definitions": definitions(&schemas::all()),
    })
}

fn definitions(schemas: &BTreeMap<String, Value>) -> Map<String, Value> {
    let schemas = schemas.iter();
    schemas
        .map(|(name, value)| (name.clone(), schema(value)))
        .collect()
}

fn path_item(item: &Value) -> Value {
    let fields = item.as_object().into_iter().flatten();
    let fields = fields.map(|(name, value)| {
        let made = match name.as_str() {
            "parameters" => parameters(value).collect(),
            _ => operation(value),
        };
        (name.clone(), made)
    });
    Value::Object(fields.collect())
}

fn operation(v3: &Value) -> Value {
    let mut made = Map::new();
    let mut all: Vec<Value> = parameters(&v3["parameters"]).collect();
    for (name, value) in v3.as_object().into_iter().flatten() {
        match name.as_str() {
            "parameters" => {}
            "requestBody" => {
                let (media, schema) = content(value);
                made.insert("consumes".to_owned(), media);
                // What a deletion says is left to it.
                let required = v3["x-kubernetes-action"]
                    .as_str()
                    .is_some_and(|action| !action.starts_with("delete"));
                let mut body = json!({ "in": "body", "name": "body", "schema": schema });
                if required {
                    body["required"] = true.into();
                }
                all.insert(0, body);
            }
            "responses" => {
                let mut responses = Map::new();
                for (code, response) in value.as_object().into_iter().flatten() {
                    let (media, schema) = content(response);
                    made.insert("produces".to_owned(), media);
                    let description = &response["description"];
                    let response = json!({ "description": description, "schema": schema });
                    responses.insert(code.clone(), response);
                }
                made.insert(name.clone(), Value::Object(responses));
            }
            _ => {
                made.insert(name.clone(), value.clone());
            }
        }
    }
    made.insert("parameters".to_owned(), Value::Array(all));
    Value::Object(made)
}

/// The media types of a body, and its schema, which is the same in all.
fn content(body: &Value) -> (Value, Value) {
    let content = body["content"].as_object();
    let media: Vec<&String> = content.into_iter().flat_map(Map::keys).collect();
    let first = content.and_then(|content| content.values().next());
    let of_first = first.map_or(Value::Null, |first| schema(&first["schema"]));
    (json!(media), of_first)
}

fn parameters(v3: &Value) -> impl Iterator<Item = Value> {
    v3.as_array().into_iter().flatten().map(|parameter| {
        let mut made = Map::new();
        for (name, value) in parameter.as_object().into_iter().flatten() {
            match (name.as_str(), value) {
                ("schema", Value::Object(schema)) => made.extend(schema.clone()),
                _ => {
                    made.insert(name.clone(), value.clone());
                }
            }
        }
        Value::Object(made)
    })
}

/// A schema of v3 as one of v2.
fn schema(v3: &Value) -> Value {
    let mut made = Map::new();
    // One that is a boolean has no fields, and lets everything pass.
    for (name, value) in v3.as_object().into_iter().flatten() {
        let (name, value) = match (name.as_str(), value) {
            ("$ref", Value::String(reference)) => ("$ref", moved(reference)),
            ("allOf", Value::Array(parts)) if parts.len() == 1 => ("$ref", schema(&parts[0])["$ref"].clone()),
            // Choices are not known there: what has no type lets everything pass.
            ("oneOf" | "anyOf" | "allOf", _) => continue,
            ("properties", Value::Object(properties)) => {
                let properties = properties.iter();
                let properties = properties.map(|(name, value)| (name.clone(), schema(value)));
                ("properties", Value::Object(properties.collect()))
            }
            ("items", items) => ("items", schema(items)),
            ("additionalProperties", additional @ Value::Object(_)) => {
                ("additionalProperties", schema(additional))
            }
            ("x-kubernetes-int-or-string", Value::Bool(true)) => {
                made.insert("format".to_owned(), "int-or-string".into());
                ("type", "string".into())
            }
            (name, value) => (name, value.clone()),
        };
        made.insert(name.to_owned(), value);
    }
    Value::Object(made)
}

fn moved(reference: &str) -> Value {
    match reference.strip_prefix(SCHEMAS) {
        Some(name) => format!("{DEFINITIONS}{name}").into(),
        None => reference.into(),
    }
}

/// Where the document keeps its schemas.
const DEFINITIONS: &str = "#/definitions/";

/// The media type of the form in protobuf, by a name that media types may have.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The name by which clients ask for it.
const PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

#[cfg(test)]
mod tests;
