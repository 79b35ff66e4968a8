//! The paths of a document, with what can be done at each.

use serde_json::{Map, Value, json};

use super::SCHEMAS;
use crate::codec::{Media, type_of};
use crate::http::discovery::{Served, verbs};
use crate::resources::{RESOURCES, Resource};

/// The paths of a version of a group; `root` is its own path without the first slash.
pub(super) fn of_version(root: &str, group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    let rows = RESOURCES
        .iter()
        .filter(|row| row.group == group && row.version == version);
    for row in rows {
        let scoped = match row.namespaced {
            true => format!("/{root}/namespaces/{{namespace}}/{}", row.plural),
            false => format!("/{root}/{}", row.plural),
        };
        let verbs = verbs(row);
        if row.namespaced && verbs.contains(&"list") {
            let everywhere = json!({ "get": operation(row, "list", &Taken::list(row)) });
            paths.insert(format!("/{root}/{}", row.plural), everywhere);
        }
        let item = format!("{scoped}/{{name}}");
        add(
            &mut paths,
            scoped,
            row,
            &["list", "create", "deletecollection"],
            verbs,
            &Taken::of(row),
        );
        add(
            &mut paths,
            item.clone(),
            row,
            &["get", "update", "patch", "delete"],
            verbs,
            &Taken::of(row),
        );
        for &subresource in row.subresources {
            let served = Served::of(row, subresource);
            let path = format!("{item}/{}", subresource.name());
            let taken = Taken {
                group: served.group,
                version: served.version,
                kind: served.kind,
                type_name: type_of_served(row, &served),
            };
            add(
                &mut paths,
                path,
                row,
                &["get", "create", "update", "patch"],
                served.verbs,
                &taken,
            );
        }
    }
    Value::Object(paths)
}

fn type_of_served(row: &Resource, served: &Served) -> String {
    let api_version = match served.group {
        "" => served.version.to_owned(),
        group => format!("{group}/{}", served.version),
    };
    type_of(&api_version, served.kind)
        .unwrap_or(row.type_name)
        .to_owned()
}

/// The kind that is taken and given, and its type.
struct Taken {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    type_name: String,
}

impl Taken {
    fn of(row: &Resource) -> Self {
        Taken {
            group: row.group,
            version: row.version,
            kind: row.kind,
            type_name: row.type_name.to_owned(),
        }
    }

    fn list(row: &Resource) -> Self {
        let mut list = Taken::of(row);
        list.type_name.push_str("List");
        list
    }
}

/// Adds a path with those of the verbs that are served there.
fn add(
    paths: &mut Map<String, Value>,
    path: String,
    row: &Resource,
    wanted: &[&str],
    served: &[&str],
    taken: &Taken,
) {
    let mut item = Map::new();
    for verb in wanted.iter().filter(|verb| served.contains(verb)) {
        let method = match *verb {
            "create" => "post",
            "update" => "put",
            "patch" => "patch",
            "delete" | "deletecollection" => "delete",
            _ => "get",
        };
        let made = match *verb {
            "list" => operation(row, verb, &Taken::list(row)),
            verb => operation(row, verb, taken),
        };
        item.insert(method.to_owned(), made);
    }
    if item.is_empty() {
        return;
    }
    let in_path: Vec<Value> = ["namespace", "name"]
        .into_iter()
        .filter(|name| path.contains(&format!("{{{name}}}")))
        .map(|name| parameter("path", name, "string"))
        .collect();
    if !in_path.is_empty() {
        item.insert("parameters".to_owned(), Value::Array(in_path));
    }
    paths.insert(path, Value::Object(item));
}

/// One operation. Clients look for the kind, for the parameters of writes and for the media types of patches.
fn operation(row: &Resource, verb: &str, taken: &Taken) -> Value {
    let action = match verb {
        "create" => "post",
        "update" => "put",
        verb => verb,
    };
    let answered = match verb {
        "delete" | "deletecollection" => STATUS,
        _ => &taken.type_name,
    };
    let ok = json!({ "description": "OK", "content": content(Media::ALL.iter().map(|media| media.name()), answered) });
    let mut responses = json!({ "200": ok });
    if matches!(verb, "create" | "update" | "patch") {
        responses["201"] = responses["200"].clone();
        responses["201"]["description"] = "Created".into();
    }
    let parameters: Vec<Value> = query(verb)
        .iter()
        .map(|(name, of)| parameter("query", name, of))
        .collect();
    let mut operation = json!({
        "description": format!("{verb} {}", taken.kind),
        "tags": [tag(row)],
        "parameters": parameters,
        "responses": responses,
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {
            "group": taken.group,
            "version": taken.version,
            "kind": taken.kind,
        },
    });
    let body = match verb {
        "create" | "update" => Some(content(["*/*"], &taken.type_name)),
        "patch" => Some(content(PATCHES.iter().copied(), PATCH)),
        "delete" | "deletecollection" => Some(content(["*/*"], DELETE_OPTIONS)),
        _ => None,
    };
    if let Some(content) = body {
        operation["requestBody"] = json!({ "content": content });
    }
    operation
}

/// The parameters of a verb and their types.
fn query(verb: &str) -> &'static [(&'static str, &'static str)] {
    match verb {
        "list" => &[
            ("allowWatchBookmarks", "boolean"),
            ("continue", "string"),
            ("fieldSelector", "string"),
            ("labelSelector", "string"),
            ("limit", "integer"),
            ("resourceVersion", "string"),
            ("resourceVersionMatch", "string"),
            ("sendInitialEvents", "boolean"),
            ("timeoutSeconds", "integer"),
            ("watch", "boolean"),
        ],
        "create" | "update" => &[
            ("dryRun", "string"),
            ("fieldManager", "string"),
            ("fieldValidation", "string"),
        ],
        "patch" => &[
            ("dryRun", "string"),
            ("fieldManager", "string"),
            ("fieldValidation", "string"),
            ("force", "boolean"),
        ],
        "delete" => &[
            ("dryRun", "string"),
            ("gracePeriodSeconds", "integer"),
            ("orphanDependents", "boolean"),
            ("propagationPolicy", "string"),
        ],
        "deletecollection" => &[
            ("dryRun", "string"),
            ("fieldSelector", "string"),
            ("gracePeriodSeconds", "integer"),
            ("labelSelector", "string"),
            ("propagationPolicy", "string"),
        ],
        _ => &[],
    }
}

fn parameter(place: &str, name: &str, of: &str) -> Value {
    let mut parameter = json!({
        "in": place,
        "name": name,
        "schema": { "type": of, "uniqueItems": true },
    });
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

/// The same schema in several media types.
fn content<'a>(media: impl IntoIterator<Item = &'a str>, type_name: &str) -> Value {
    let schema = json!({ "schema": { "$ref": format!("{SCHEMAS}{type_name}") } });
    let content: Map<String, Value> = media
        .into_iter()
        .map(|media| (media.to_owned(), schema.clone()))
        .collect();
    Value::Object(content)
}

/// `apps_v1` or `core_v1`.
fn tag(row: &Resource) -> String {
    let group = match row.group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    };
    format!("{group}_{}", row.version)
}

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

const PATCHES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
