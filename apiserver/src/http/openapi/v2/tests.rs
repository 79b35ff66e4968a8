use prost::Message as _;

use super::*;
use crate::resources::RESOURCES;

fn read() -> gnostic::Document {
    let document = v2(PROTOBUF_ASKED).unwrap();
    assert_eq!(document.content_type, PROTOBUF);
    gnostic::Document::decode(&*document.bytes).unwrap()
}

fn named<'a>(document: &'a gnostic::Document, name: &str) -> &'a gnostic::Schema {
    let schemas = &document.definitions.as_ref().unwrap().schemas;
    let found = schemas.iter().find(|schema| schema.name == name);
    found.and_then(|found| found.value.as_ref()).unwrap()
}

fn property<'a>(schema: &'a gnostic::Schema, name: &str) -> &'a gnostic::Schema {
    let properties = &schema.properties.as_ref().unwrap().schemas;
    let found = properties.iter().find(|schema| schema.name == name);
    found.and_then(|found| found.value.as_ref()).unwrap()
}

fn extension(extensions: &[gnostic::NamedAny], name: &str) -> Option<serde_json::Value> {
    let found = extensions.iter().find(|extension| extension.name == name)?;
    serde_yaml_ng::from_str(&found.value.as_ref()?.yaml).unwrap()
}

#[test]
fn both_forms_are_had_by_their_names() {
    for accept in ["", "*/*", "application/json", "application/json;q=0.8, */*"] {
        assert_eq!(v2(accept).unwrap().content_type, JSON, "{accept}");
    }
    let listed = format!("text/html, {PROTOBUF}");
    for accept in [PROTOBUF_ASKED, PROTOBUF, &listed] {
        let document = v2(accept).unwrap();
        assert_eq!(document.content_type, PROTOBUF, "{accept}");
        assert_ne!(document.etag, v2(JSON).unwrap().etag);
    }
    assert!(v2("text/html").is_none());
    let json: Value = serde_json::from_slice(&v2(JSON).unwrap().bytes).unwrap();
    assert_eq!(json["swagger"], "2.0");
    assert_eq!(read().swagger, "2.0");
}

/// As kubectl 1.20 does before a dry run.
#[test]
fn every_kind_that_is_stored_has_a_patch_with_dry_runs() {
    let document = read();
    let paths = &document.paths.as_ref().unwrap().path;
    let patches: Vec<&gnostic::Operation> = paths
        .iter()
        .filter_map(|path| path.value.as_ref()?.patch.as_ref())
        .collect();
    for row in RESOURCES
        .iter()
        .filter(|row| !row.question && row.kind != "ComponentStatus")
    {
        let kind = json!({ "group": row.group, "version": row.version, "kind": row.kind });
        let mut found = patches
            .iter()
            .filter(|patch| extension(&patch.vendor_extension, KIND).as_ref() == Some(&kind));
        let patch = found.next().unwrap_or_else(|| panic!("{kind}"));
        let mut names = patch.parameters.iter().filter_map(|parameter| {
            let parameter = parameter.parameter.as_ref()?.non_body.as_ref()?;
            Some(parameter.query.as_ref()?.name.as_str())
        });
        assert!(names.any(|name| name == "dryRun"), "{kind}");
        assert_eq!(
            extension(&patch.vendor_extension, "x-kubernetes-action"),
            Some(json!("patch"))
        );
        let schema = named(&document, row.type_name);
        let kinds = extension(&schema.vendor_extension, KIND).unwrap();
        assert!(kinds.as_array().unwrap().contains(&kind), "{kind}: {kinds}");
    }
}

#[test]
fn schemas_say_what_old_clients_read() {
    let document = read();
    let pod = named(&document, "io.k8s.api.core.v1.Pod");
    let spec = property(pod, "spec");
    assert_eq!(spec.reference, "#/definitions/io.k8s.api.core.v1.PodSpec");
    assert!(!spec.description.is_empty());
    let spec = named(&document, "io.k8s.api.core.v1.PodSpec");
    assert_eq!(spec.required, ["containers"]);
    let containers = property(spec, "containers");
    let items = &containers.items.as_ref().unwrap().schema;
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].reference, "#/definitions/io.k8s.api.core.v1.Container");
    let of = |name| extension(&containers.vendor_extension, name);
    assert_eq!(of("x-kubernetes-patch-merge-key"), Some(json!("name")));
    assert_eq!(of("x-kubernetes-patch-strategy"), Some(json!("merge")));
    let map = named(&document, "io.k8s.api.core.v1.ConfigMap");
    let data = property(map, "data").additional_properties.as_ref().unwrap();
    let value = data.schema.as_ref().unwrap();
    assert_eq!(value.r#type.as_ref().unwrap().value, ["string"]);
    let port = named(&document, "io.k8s.apimachinery.pkg.util.intstr.IntOrString");
    assert_eq!(port.r#type.as_ref().unwrap().value, ["string"]);
    assert_eq!(port.format, "int-or-string");
}

/// The rules by which kubectl 1.20 refuses a whole document.
#[test]
fn every_schema_is_one_that_old_clients_can_read() {
    let document = make();
    let definitions = document["definitions"].as_object().unwrap();
    let mut open: Vec<(String, &Value)> = definitions
        .iter()
        .map(|(name, schema)| (name.clone(), schema))
        .collect();
    let mut seen = 0;
    while let Some((place, schema)) = open.pop() {
        seen += 1;
        let fields = schema.as_object().unwrap_or_else(|| panic!("{place}: {schema}"));
        for name in fields.keys() {
            let known = name.starts_with("x-kubernetes-") || KNOWN.contains(&name.as_str());
            assert!(known, "{place}: {name}");
        }
        if let Some(reference) = fields.get("$ref") {
            let name = reference.as_str().unwrap().strip_prefix(DEFINITIONS).unwrap();
            assert!(definitions.contains_key(name), "{place}: {name}");
            continue;
        }
        match fields.get("type").map(|of| of.as_str().unwrap()) {
            Some("array") => open.push((format!("{place}[]"), &fields["items"])),
            Some("object" | "string" | "integer" | "number" | "boolean") | None => {}
            Some(other) => panic!("{place}: {other}"),
        }
        if let Some(additional @ Value::Object(_)) = fields.get("additionalProperties") {
            open.push((format!("{place}{{}}"), additional));
        }
        let properties = fields.get("properties").and_then(Value::as_object);
        let properties = properties.into_iter().flatten();
        open.extend(properties.map(|(name, schema)| (format!("{place}.{name}"), schema)));
    }
    assert!(seen > definitions.len());
}

/// The fields that the messages have a place for.
const KNOWN: &[&str] = &[
    "$ref",
    "additionalProperties",
    "description",
    "format",
    "items",
    "properties",
    "required",
    "type",
];

const KIND: &str = "x-kubernetes-group-version-kind";
