//! The schemas of all types.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::SCHEMAS;
use crate::resources::RESOURCES;
use crate::types::every::every_type;
use crate::types::{Field, ListKind, MapKind, Message, Shape, Types};

/// The schemas by their names.
pub(super) fn all() -> BTreeMap<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        // That of references; the generator adds the last slash itself.
        settings.definitions_path = SCHEMAS.trim_start_matches('#').trim_end_matches('/').into();
    });
    let mut generator = settings.into_generator();
    add_roots(&mut generator);
    let mut schemas: BTreeMap<String, Value> = generator.take_definitions(false).into_iter().collect();
    for schema in schemas.values_mut() {
        wrap_references(schema);
    }
    for (name, schema) in &mut schemas {
        if let Some(message) = Types::all().message(name) {
            annotate(message, schema);
        }
    }
    for row in RESOURCES {
        let (group, version) = (row.group, row.version);
        let kind = |kind: &str| json!([{ "group": group, "version": version, "kind": kind }]);
        if !row.question {
            let mut list = list_of(row.type_name, row.kind);
            list[KIND] = kind(&row.list_kind());
            schemas.insert(format!("{}List", row.type_name), list);
        }
        if let Some(schema) = schemas.get_mut(row.type_name) {
            schema[KIND] = kind(row.kind);
        }
    }
    for (name, group, version, kind) in OTHERS {
        if let Some(schema) = schemas.get_mut(*name) {
            schema[KIND] = json!([{ "group": group, "version": version, "kind": kind }]);
        }
    }
    schemas
}

/// In OpenAPI 3.0 nothing may stand beside a reference, so that a described one is wrapped.
fn wrap_references(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(wrap_references);
            // A property may have that name, too; then it is no text.
            if fields.len() > 1 && fields.get("$ref").is_some_and(Value::is_string) {
                let reference = fields.remove("$ref");
                fields.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(wrap_references),
        _ => {}
    }
}

/// Adds what the table of types knows: what is required, and how lists and maps merge.
fn annotate(message: &'static Message, schema: &mut Value) {
    let required: Vec<&str> = message
        .json_fields()
        .iter()
        .filter(|field| field.required)
        .map(|field| field.json)
        .collect();
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    match required.as_slice() {
        [] => schema.remove("required"),
        required => schema.insert("required".to_owned(), json!(required)),
    };
    if message.atomic {
        schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        if let (Some(field), Some(property)) = (message.field(name), property.as_object_mut()) {
            annotate_field(field, property);
        }
    }
}

fn annotate_field(field: &Field, property: &mut Map<String, Value>) {
    let mut add = |name: &str, value: Value| {
        property.insert(format!("x-kubernetes-{name}"), value);
    };
    match field.shape {
        Shape::List(ListKind::Atomic) => add("list-type", "atomic".into()),
        Shape::List(ListKind::Set) => add("list-type", "set".into()),
        Shape::List(ListKind::Map { keys }) => {
            add("list-type", "map".into());
            add("list-map-keys", json!(keys));
        }
        Shape::Map(MapKind::Atomic) => add("map-type", "atomic".into()),
        Shape::One if field.atomic => add("map-type", "atomic".into()),
        _ => {}
    }
    let merges = field.patch_merge_key().is_some() || field.patch_merges_primitives();
    let strategy: Vec<&str> = [
        ("merge", merges),
        ("retainKeys", field.patch_retains_keys()),
        ("replace", field.patch_replaces()),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
    .collect();
    if !strategy.is_empty() {
        add("patch-strategy", strategy.join(",").into());
    }
    if let Some(key) = field.patch_merge_key() {
        add("patch-merge-key", key.into());
    }
}

fn list_of(type_name: &str, kind: &str) -> Value {
    json!({
        "description": format!("{kind}List is a list of {kind} objects."),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "$ref": format!("{SCHEMAS}{LIST_META}") },
            "items": { "type": "array", "items": { "$ref": format!("{SCHEMAS}{type_name}") } },
        },
    })
}

/// Has the generator make the schemas of some types, and with them those of all that they consist of.
macro_rules! add {
    ($generator:ident: $($($part:ident)::+,)*) => {
        $($generator.subschema_for::<k8s_openapi::$($part)::+>();)*
    };
}

fn add_roots(generator: &mut SchemaGenerator) {
    every_type!(add generator:);
    add!(generator: apimachinery::pkg::apis::meta::v1::ListMeta, apimachinery::pkg::apis::meta::v1::Patch,);
}

const KIND: &str = "x-kubernetes-group-version-kind";

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// Kinds that are no resources.
const OTHERS: &[(&str, &str, &str, &str)] = &[
    (
        "io.k8s.api.authentication.v1.TokenRequest",
        "authentication.k8s.io",
        "v1",
        "TokenRequest",
    ),
    ("io.k8s.api.autoscaling.v1.Scale", "autoscaling", "v1", "Scale"),
    ("io.k8s.api.core.v1.Binding", "", "v1", "Binding"),
    ("io.k8s.api.policy.v1.Eviction", "policy", "v1", "Eviction"),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        "",
        "v1",
        "DeleteOptions",
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Status", "", "v1", "Status"),
];
