use super::*;
use crate::resources::RESOURCES;
use crate::types::Types;

fn read(document: &Document) -> Value {
    serde_json::from_slice(&document.bytes).unwrap()
}

fn version(path: &str) -> Value {
    read(&document(path).unwrap_or_else(|| panic!("{path}")))
}

#[test]
fn the_index_leads_to_the_documents() {
    let index = read(&index());
    let paths = index["paths"].as_object().unwrap();
    assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
    for (path, place) in paths {
        let document = document(path).unwrap();
        let url = place["serverRelativeURL"].as_str().unwrap();
        let tag = document.etag.trim_matches('"');
        assert_eq!(url, format!("/openapi/v3/{path}?hash={tag}"));
        assert_eq!(read(&document)["openapi"], "3.0.0");
    }
    for odd in ["", "api", "api/v1/", "apis/apps/v2", "apis/odd/v1"] {
        assert!(document(odd).is_none(), "{odd}");
    }
}

/// As kubectl does before it leaves it to the server to judge fields.
#[test]
fn every_kind_that_is_stored_has_a_patch_that_validates() {
    for row in RESOURCES
        .iter()
        .filter(|row| !row.question && row.kind != "ComponentStatus")
    {
        let document = match row.group {
            "" => version("api/v1"),
            group => version(&format!("apis/{group}/{}", row.version)),
        };
        let kind = json!({ "group": row.group, "version": row.version, "kind": row.kind });
        let paths = document["paths"].as_object().unwrap();
        let patches = paths.values().filter_map(|path| path.get("patch"));
        let mut found = patches
            .filter(|patch| patch["x-kubernetes-group-version-kind"] == kind)
            .peekable();
        assert!(found.peek().is_some(), "{kind}");
        for patch in found {
            for wanted in ["fieldValidation", "dryRun"] {
                let mut parameters = patch["parameters"].as_array().unwrap().iter();
                assert!(
                    parameters.any(|one| one["name"] == wanted && one["in"] == "query"),
                    "{kind}"
                );
            }
            let media = patch["requestBody"]["content"].as_object().unwrap();
            assert!(media.contains_key("application/strategic-merge-patch+json"));
        }
        // And as `kubectl explain` does.
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let of_kind = schemas.values().filter(|schema| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            kinds.is_some_and(|kinds| kinds.contains(&kind))
        });
        assert_eq!(of_kind.count(), 1, "{kind}");
    }
}

#[test]
fn no_reference_leads_nowhere() {
    for path in DOCUMENTS.by_path.keys() {
        let document = version(path);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for name in references(&document) {
            let schema = schemas.get(name).unwrap_or_else(|| panic!("{path}: {name}"));
            assert!(
                schema["description"].is_string() || schema["type"].is_string(),
                "{name}"
            );
        }
    }
}

#[test]
fn schemas_say_how_lists_merge() {
    let core = version("api/v1");
    let schemas = &core["components"]["schemas"];
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(
        containers["items"],
        json!({ "$ref": "#/components/schemas/io.k8s.api.core.v1.Container" })
    );
    let volumes = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    let pod = &schemas["io.k8s.api.core.v1.Pod"];
    assert_eq!(
        pod["properties"]["spec"]["allOf"],
        json!([{ "$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec" }])
    );
    assert!(pod["properties"]["spec"]["description"].is_string());
    assert!(
        pod.get("required").is_none(),
        "no metadata are required: {}",
        pod["required"]
    );
    assert_eq!(
        schemas["io.k8s.api.core.v1.Container"]["required"],
        json!(["name"])
    );
}

/// The schemas and the table have been made in two ways; they must know the same fields.
#[test]
fn schemas_and_types_know_the_same_fields() {
    for (name, schema) in schemas::all() {
        let (Some(message), Some(properties)) =
            (Types::all().message(&name), schema["properties"].as_object())
        else {
            continue;
        };
        let mut ours: Vec<&str> = message.json_fields().iter().map(|field| field.json).collect();
        if message.is_object {
            ours.extend(["apiVersion", "kind"]);
        }
        ours.sort_unstable();
        let theirs: Vec<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(ours, theirs, "{name}");
    }
}
