//! What is served, in documents: groups, versions and resources, as old clients walk them and as new ones take them all at
//! once. They are made of the table of resources when they are first asked for, and do not change after that: a client that
//! names the tag of one that it has is told so.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::codec::{AsKind, Media, negotiate};
use crate::resources::{RESOURCES, Resource, Subresource, groups};

/// A document that changes only with the program.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it is written as.
    pub content_type: &'static str,
    /// A tag of its content, in quotes.
    pub etag: String,
    /// The content.
    pub bytes: Arc<[u8]>,
}

impl Document {
    /// A document of JSON with its tag.
    #[must_use]
    pub fn of_json(value: &Value, content_type: &'static str) -> Document {
        Document::of_bytes(value.to_string().into_bytes(), content_type)
    }

    /// A document of any form with its tag.
    #[must_use]
    pub fn of_bytes(bytes: Vec<u8>, content_type: &'static str) -> Document {
        Document {
            content_type,
            etag: format!("\"{}\"", hash(&bytes)),
            bytes: Arc::from(bytes),
        }
    }
}

/// The hash of a content as upper-case hexadecimal digits.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// What stands at `/api` (the core) or at `/apis` (all other groups), in the form that the `Accept` header asks for.
#[must_use]
pub fn root(core: bool, accept: &str) -> Document {
    let kinds = &[AsKind::ApiGroupDiscoveryList];
    let accepted = negotiate(Some(accept), &[Media::Json], kinds);
    let version = match accepted {
        Ok(accepted) if accepted.as_kind == AsKind::ApiGroupDiscoveryList => accepted.version,
        // Who can read nothing of this gets what everybody got once.
        _ => String::new(),
    };
    let roots = &DOCUMENTS.roots;
    let form = AGGREGATED.iter().position(|(known, _)| *known == version);
    let place = form.map_or(0, |form| form + 1) * 2 + usize::from(!core);
    roots[place].clone()
}

/// What stands at `/apis/GROUP`.
#[must_use]
pub fn group(group: &str) -> Option<Document> {
    DOCUMENTS.groups.get(group).cloned()
}

/// What stands at `/api/VERSION` or `/apis/GROUP/VERSION`.
#[must_use]
pub fn resources(group: &str, version: &str) -> Option<Document> {
    DOCUMENTS.versions.get(&api_version(group, version)).cloned()
}

/// What stands at `/version`: the version of Kubernetes whose API this is.
#[must_use]
pub fn version() -> Value {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let arch = match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1",
        "minor": KUBERNETES_MINOR,
        "gitVersion": format!("v1.{KUBERNETES_MINOR}.0+taffrail-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{os}/{arch}"),
    })
}

/// All documents, made once.
struct Documents {
    /// Plain, then each aggregated form: of the core, of the others.
    roots: Vec<Document>,
    groups: HashMap<&'static str, Document>,
    versions: HashMap<String, Document>,
}

static DOCUMENTS: LazyLock<Documents> = LazyLock::new(|| {
    let mut roots = vec![
        Document::of_json(&api_versions(), JSON),
        Document::of_json(&api_groups(), JSON),
    ];
    for (version, content_type) in AGGREGATED {
        for core in [true, false] {
            roots.push(Document::of_json(&aggregated(core, version), content_type));
        }
    }
    let of_group = |(group, versions): (&'static str, Vec<&str>)| {
        let mut value = api_group(group, &versions);
        value["kind"] = "APIGroup".into();
        value["apiVersion"] = "v1".into();
        (group, Document::of_json(&value, JSON))
    };
    let of_version = |(group, versions): (&'static str, Vec<&'static str>)| {
        versions.into_iter().map(move |version| {
            let list = resource_list(group, version);
            (api_version(group, version), Document::of_json(&list, JSON))
        })
    };
    Documents {
        roots,
        groups: named_groups().map(of_group).collect(),
        versions: groups().into_iter().flat_map(of_version).collect(),
    }
});

/// Groups other than the core, which has no name.
fn named_groups() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    groups().into_iter().filter(|(group, _)| !group.is_empty())
}

fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

fn of_version(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    RESOURCES
        .iter()
        .filter(move |row| row.group == group && row.version == version)
}

/// Which versions the core has. Which addresses this server is reached at is known to whoever asks.
fn api_versions() -> Value {
    let versions: Vec<&str> = groups()
        .into_iter()
        .filter(|(group, _)| group.is_empty())
        .flat_map(|(_, versions)| versions)
        .collect();
    json!({ "kind": "APIVersions", "versions": versions, "serverAddressByClientCIDRs": [] })
}

fn api_groups() -> Value {
    let groups: Vec<Value> = named_groups()
        .map(|(group, versions)| api_group(group, &versions))
        .collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// A group with its versions, the preferred one first.
fn api_group(group: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({ "groupVersion": api_version(group, version), "version": version }))
        .collect();
    json!({ "name": group, "preferredVersion": versions.first(), "versions": versions })
}

/// The resources of a version of a group, each followed by what is below it.
fn resource_list(group: &str, version: &str) -> Value {
    let mut list = Vec::new();
    for row in of_version(group, version) {
        let mut entry = json!({
            "name": row.plural,
            "singularName": row.singular,
            "namespaced": row.namespaced,
            "kind": row.kind,
            "verbs": verbs(row),
        });
        add_names(&mut entry, row);
        if !row.question {
            entry["storageVersionHash"] = storage_version_hash(row.stored()).into();
        }
        list.push(entry);
        for &subresource in row.subresources {
            let served = Served::of(row, subresource);
            let mut entry = json!({
                "name": format!("{}/{}", row.plural, subresource.name()),
                "singularName": "",
                "namespaced": row.namespaced,
                "kind": served.kind,
                "verbs": served.verbs,
            });
            if (served.group, served.version) != (group, version) {
                entry["group"] = served.group.into();
                entry["version"] = served.version.into();
            }
            list.push(entry);
        }
    }
    let mut value = json!({
        "kind": "APIResourceList",
        "groupVersion": api_version(group, version),
        "resources": list,
    });
    if !group.is_empty() {
        value["apiVersion"] = "v1".into();
    }
    value
}

/// Short names and categories, where there are any.
fn add_names(entry: &mut Value, row: &Resource) {
    if !row.short_names.is_empty() {
        entry["shortNames"] = row.short_names.into();
    }
    if !row.categories.is_empty() {
        entry["categories"] = row.categories.into();
    }
}

/// All groups (the core alone, or all others) with all they have.
fn aggregated(core: bool, form: &str) -> Value {
    let served = groups().into_iter().filter(|(group, _)| group.is_empty() == core);
    let items: Vec<Value> = served
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|version| {
                    let resources: Vec<Value> = of_version(group, version).map(aggregated_resource).collect();
                    json!({ "version": version, "freshness": "Current", "resources": resources })
                })
                .collect();
            let metadata = match group {
                "" => json!({ "creationTimestamp": null }),
                group => json!({ "name": group, "creationTimestamp": null }),
            };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{form}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(row: &'static Resource) -> Value {
    let mut entry = json!({
        "resource": row.plural,
        "responseKind": { "group": row.group, "version": row.version, "kind": row.kind },
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": verbs(row),
    });
    add_names(&mut entry, row);
    if !row.subresources.is_empty() {
        entry["subresources"] = row
            .subresources
            .iter()
            .map(|&subresource| {
                let served = Served::of(row, subresource);
                json!({
                    "subresource": subresource.name(),
                    "responseKind": {
                        "group": served.group,
                        "version": served.version,
                        "kind": served.kind,
                    },
                    "verbs": served.verbs,
                })
            })
            .collect();
    }
    entry
}

/// What can be done to a resource.
#[must_use]
pub fn verbs(row: &Resource) -> &'static [&'static str] {
    let special = SPECIAL_VERBS.iter().find(|(plural, _)| *plural == row.plural);
    match special {
        _ if row.question => CREATED,
        Some((_, verbs)) => verbs,
        None => STORED,
    }
}

/// What a subresource takes and gives, and what can be done to it.
#[derive(Debug)]
pub struct Served {
    /// The group of what it takes.
    pub group: &'static str,
    /// The version of that.
    pub version: &'static str,
    /// The kind of that.
    pub kind: &'static str,
    /// What can be done.
    pub verbs: &'static [&'static str],
}

impl Served {
    /// That of a resource.
    #[must_use]
    pub fn of(row: &Resource, subresource: Subresource) -> Served {
        let own = |verbs| Served {
            group: row.group,
            version: row.version,
            kind: row.kind,
            verbs,
        };
        let other = |group, version, kind, verbs| Served {
            group,
            version,
            kind,
            verbs,
        };
        match subresource {
            Subresource::Status
            | Subresource::EphemeralContainers
            | Subresource::Resize
            | Subresource::Approval => own(CHANGED),
            Subresource::Finalize => own(UPDATED),
            Subresource::Scale => other("autoscaling", "v1", "Scale", CHANGED),
            Subresource::Binding => other("", "v1", "Binding", CREATED),
            Subresource::Eviction => other("policy", "v1", "Eviction", CREATED),
            Subresource::Token => other("authentication.k8s.io", "v1", "TokenRequest", CREATED),
        }
    }
}

/// By which clients see that a resource is stored in another version than before: as a real API server makes it.
fn storage_version_hash(row: &Resource) -> String {
    let digest = Sha256::digest(format!("{}/{}/{}", row.group, row.version, row.kind));
    BASE64.encode(&digest[..STORAGE_HASH_BYTES])
}

const STORED: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const CHANGED: &[&str] = &["get", "patch", "update"];
const UPDATED: &[&str] = &["update"];
const CREATED: &[&str] = &["create"];

/// Resources with other verbs than most.
const SPECIAL_VERBS: &[(&str, &[&str])] = &[
    ("componentstatuses", &["get", "list"]),
    (
        "namespaces",
        &["create", "delete", "get", "list", "patch", "update", "watch"],
    ),
];

const JSON: &str = "application/json";

/// The versions in which all is had at once, and how that is announced.
const AGGREGATED: &[(&str, &str)] = &[
    (
        "v2",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    ),
    (
        "v2beta1",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    ),
];

/// The API is that of this version of Kubernetes.
const KUBERNETES_MINOR: &str = "36";

const STORAGE_HASH_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &Document) -> Value {
        serde_json::from_slice(&document.bytes).unwrap()
    }

    fn named<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
        let mut entries = list.as_array().unwrap().iter();
        entries.find(|entry| entry[key] == name).unwrap()
    }

    #[test]
    fn old_clients_walk_from_the_root() {
        let core = read(&root(true, "application/json, */*"));
        assert_eq!(core["kind"], "APIVersions");
        assert_eq!(core["versions"], json!(["v1"]));
        let others = read(&root(false, ""));
        assert_eq!(others["kind"], "APIGroupList");
        let autoscaling = named(&others["groups"], "name", "autoscaling");
        assert_eq!(
            *autoscaling,
            json!({
                "name": "autoscaling",
                "versions": [
                    { "groupVersion": "autoscaling/v2", "version": "v2" },
                    { "groupVersion": "autoscaling/v1", "version": "v1" },
                ],
                "preferredVersion": { "groupVersion": "autoscaling/v2", "version": "v2" },
            })
        );
        let mut alone = autoscaling.clone();
        alone["kind"] = "APIGroup".into();
        alone["apiVersion"] = "v1".into();
        assert_eq!(read(&group("autoscaling").unwrap()), alone);
        assert!(group("").is_none() && group("odd").is_none());
        for group in others["groups"].as_array().unwrap() {
            for version in group["versions"].as_array().unwrap() {
                let name = (
                    group["name"].as_str().unwrap(),
                    version["version"].as_str().unwrap(),
                );
                let list = read(&resources(name.0, name.1).unwrap());
                assert_eq!(list["groupVersion"], version["groupVersion"]);
                assert_eq!(list["apiVersion"], "v1");
            }
        }
        assert!(resources("apps", "v9").is_none() && resources("odd", "v1").is_none());
    }

    /// With the hashes that a real API server gives.
    #[test]
    fn resources_are_listed_with_what_is_below_them() {
        let core = read(&resources("", "v1").unwrap());
        assert_eq!(
            *named(&core["resources"], "name", "pods"),
            json!({
                "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod",
                "verbs": STORED, "shortNames": ["po"], "categories": ["all"],
                "storageVersionHash": "xPOwRZ+Yhw8=",
            })
        );
        assert_eq!(
            *named(&core["resources"], "name", "pods/eviction"),
            json!({
                "name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy",
                "version": "v1", "kind": "Eviction", "verbs": ["create"],
            })
        );
        let apps = read(&resources("apps", "v1").unwrap());
        assert_eq!(
            named(&apps["resources"], "name", "deployments")["storageVersionHash"],
            "8aSe+NMegvE="
        );
        assert_eq!(
            *named(&apps["resources"], "name", "deployments/scale"),
            json!({
                "name": "deployments/scale", "singularName": "", "namespaced": true, "group": "autoscaling",
                "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"],
            })
        );
        let reviews = read(&resources("authorization.k8s.io", "v1").unwrap());
        let review = named(&reviews["resources"], "name", "selfsubjectaccessreviews");
        assert_eq!(review["verbs"], json!(["create"]));
        assert!(review.get("storageVersionHash").is_none());
    }

    #[test]
    fn new_clients_take_all_at_once() {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                      application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        let core = root(true, accept);
        assert_eq!(
            core.content_type,
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
        let list = read(&core);
        assert_eq!(list["apiVersion"], "apidiscovery.k8s.io/v2");
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
        let version = &list["items"][0]["versions"][0];
        assert_eq!(
            (&version["version"], &version["freshness"]),
            (&json!("v1"), &json!("Current"))
        );
        let services = named(&version["resources"], "resource", "services");
        assert_eq!(
            *services,
            json!({
                "resource": "services",
                "responseKind": { "group": "", "version": "v1", "kind": "Service" },
                "scope": "Namespaced",
                "singularResource": "service",
                "verbs": STORED,
                "shortNames": ["svc"],
                "categories": ["all"],
                "subresources": [{
                    "subresource": "status",
                    "responseKind": { "group": "", "version": "v1", "kind": "Service" },
                    "verbs": ["get", "patch", "update"],
                }],
            })
        );
        let older = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        let others = root(false, older);
        assert_eq!(others.content_type, older);
        let list = read(&others);
        assert_eq!(list["apiVersion"], "apidiscovery.k8s.io/v2beta1");
        assert_eq!(list["items"].as_array().unwrap().len(), groups().len() - 1);
        let names: usize = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|group| group["versions"].as_array().unwrap())
            .map(|version| version["resources"].as_array().unwrap().len())
            .sum();
        let core = RESOURCES.iter().filter(|row| row.group.is_empty()).count();
        assert_eq!(names, RESOURCES.len() - core);
    }

    #[test]
    fn tags_tell_contents_apart() {
        let tags: std::collections::BTreeSet<String> = DOCUMENTS
            .roots
            .iter()
            .map(|document| document.etag.clone())
            .collect();
        assert_eq!(tags.len(), DOCUMENTS.roots.len());
        assert_eq!(root(true, "").etag, root(true, "*/*").etag);
        assert!(root(true, "").etag.starts_with('"'));
        assert_eq!(Document::of_json(&api_versions(), JSON).etag, root(true, "").etag);
    }

    #[test]
    fn the_version_is_one_that_clients_understand() {
        let version = version();
        assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.36.0"));
        let info: k8s_openapi::apimachinery::pkg::version::Info = serde_json::from_value(version).unwrap();
        assert_eq!((info.major.as_str(), info.minor.as_str()), ("1", "36"));
    }
}
