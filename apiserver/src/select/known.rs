//! Which fields of which resource a field selector may name, and where they stand.

use crate::resources::Resource;

/// A field that can be selected by.
#[derive(Debug)]
pub(super) struct Known {
    /// The name in the selector.
    pub(super) label: &'static str,
    /// Where its value stands; the first that is not empty counts. An event is looked at in the words of either of its
    /// groups, as it is stored in one and may be asked for in the other.
    pub(super) paths: &'static [&'static [&'static str]],
    /// The value where there is none.
    pub(super) default: &'static str,
}

const fn known(label: &'static str, paths: &'static [&'static [&'static str]]) -> Known {
    Known {
        label,
        paths,
        default: "",
    }
}

const fn or(label: &'static str, paths: &'static [&'static [&'static str]], default: &'static str) -> Known {
    Known {
        label,
        paths,
        default,
    }
}

/// What all have.
static EVERYWHERE: &[Known] = &[
    known("metadata.name", &[&["metadata", "name"]]),
    known("metadata.namespace", &[&["metadata", "namespace"]]),
];

/// Group, plural, and the fields that these have besides. Facts about Kubernetes 1.36.
#[rustfmt::skip]
static BY_RESOURCE: &[(&str, &str, &[Known])] = &[
    ("", "pods", &[
        known("spec.nodeName", &[&["spec", "nodeName"]]),
        known("spec.restartPolicy", &[&["spec", "restartPolicy"]]),
        known("spec.schedulerName", &[&["spec", "schedulerName"]]),
        known("spec.serviceAccountName", &[&["spec", "serviceAccountName"]]),
        or("spec.hostNetwork", &[&["spec", "hostNetwork"]], "false"),
        known("status.phase", &[&["status", "phase"]]),
        known("status.podIP", &[&["status", "podIP"]]),
        known("status.podIPs", &[&["status", "podIP"]]),
        known("status.nominatedNodeName", &[&["status", "nominatedNodeName"]]),
    ]),
    ("", "events", &[
        known("involvedObject.kind", &[&["involvedObject", "kind"], &["regarding", "kind"]]),
        known("involvedObject.namespace", &[&["involvedObject", "namespace"], &["regarding", "namespace"]]),
        known("involvedObject.name", &[&["involvedObject", "name"], &["regarding", "name"]]),
        known("involvedObject.uid", &[&["involvedObject", "uid"], &["regarding", "uid"]]),
        known("involvedObject.apiVersion", &[&["involvedObject", "apiVersion"], &["regarding", "apiVersion"]]),
        known("involvedObject.resourceVersion", &[&["involvedObject", "resourceVersion"], &["regarding", "resourceVersion"]]),
        known("involvedObject.fieldPath", &[&["involvedObject", "fieldPath"], &["regarding", "fieldPath"]]),
        known("reason", &[&["reason"]]),
        known("reportingComponent", &[&["reportingComponent"], &["reportingController"]]),
        known("source", &[&["source", "component"], &["deprecatedSource", "component"], &["reportingComponent"], &["reportingController"]]),
        known("type", &[&["type"]]),
    ]),
    ("events.k8s.io", "events", &[
        known("regarding.kind", &[&["regarding", "kind"], &["involvedObject", "kind"]]),
        known("regarding.namespace", &[&["regarding", "namespace"], &["involvedObject", "namespace"]]),
        known("regarding.name", &[&["regarding", "name"], &["involvedObject", "name"]]),
        known("regarding.uid", &[&["regarding", "uid"], &["involvedObject", "uid"]]),
        known("regarding.apiVersion", &[&["regarding", "apiVersion"], &["involvedObject", "apiVersion"]]),
        known("regarding.resourceVersion", &[&["regarding", "resourceVersion"], &["involvedObject", "resourceVersion"]]),
        known("regarding.fieldPath", &[&["regarding", "fieldPath"], &["involvedObject", "fieldPath"]]),
        known("reason", &[&["reason"]]),
        known("reportingController", &[&["reportingController"], &["reportingComponent"]]),
        known("type", &[&["type"]]),
    ]),
    ("", "nodes", &[or("spec.unschedulable", &[&["spec", "unschedulable"]], "false")]),
    ("", "namespaces", &[known("status.phase", &[&["status", "phase"]])]),
    ("", "secrets", &[known("type", &[&["type"]])]),
    ("", "services", &[
        known("spec.clusterIP", &[&["spec", "clusterIP"]]),
        known("spec.type", &[&["spec", "type"]]),
    ]),
    ("", "replicationcontrollers", &[or("status.replicas", &[&["status", "replicas"]], "0")]),
    ("apps", "replicasets", &[or("status.replicas", &[&["status", "replicas"]], "0")]),
    ("batch", "jobs", &[or("status.successful", &[&["status", "succeeded"]], "0")]),
    ("certificates.k8s.io", "certificatesigningrequests", &[known("spec.signerName", &[&["spec", "signerName"]])]),
    ("resource.k8s.io", "resourceslices", &[
        known("spec.nodeName", &[&["spec", "nodeName"]]),
        known("spec.driver", &[&["spec", "driver"]]),
    ]),
];

/// The field that a selector names so.
pub(super) fn find(r: &Resource, label: &str) -> Option<&'static Known> {
    EVERYWHERE
        .iter()
        .chain(of(r).into_iter().flatten())
        .find(|known| known.label == label)
}

/// With which words a real server refuses a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Words {
    /// That it is unknown.
    Unknown,
    /// That it is not supported.
    Bare,
    /// The same, with the kind.
    OfKind,
    /// The same, with the version and the kind.
    OfVersion,
}

/// The words that are used for a resource.
pub(super) fn words(r: &Resource) -> Words {
    match (r.group, r.plural) {
        ("batch", "jobs") => Words::OfKind,
        ("resource.k8s.io", "resourceslices") => Words::OfVersion,
        ("apps", "replicasets") => Words::Unknown,
        _ if of(r).is_some() => Words::Bare,
        _ => Words::Unknown,
    }
}

fn of(r: &Resource) -> Option<&'static [Known]> {
    BY_RESOURCE
        .iter()
        .find(|(group, plural, _)| *group == r.group && *plural == r.plural)
        .map(|(_, _, known)| *known)
}
