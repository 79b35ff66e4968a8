//! The number of replicas of an object as an object of its own, `autoscaling/v1` `Scale`.

use serde_json::{Map, Value, json};

use crate::object::{Object, at, child_mut, metadata};
use crate::resources::{Resource, Subresource};
use crate::select::Labels;
use crate::status::{Cause, Status};

/// Where the numbers of a resource stand.
struct Paths {
    spec: &'static [&'static str],
    status: &'static [&'static str],
    selector: &'static [&'static str],
}

const PATHS: Paths = Paths {
    spec: &["spec", "replicas"],
    status: &["status", "replicas"],
    selector: &["spec", "selector"],
};

/// What of an object's metadata its scale has too.
const METADATA: &[&str] = &["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];

/// The scale of an object, if it has one.
#[must_use]
pub fn scale_of(r: &Resource, object: &Object) -> Option<Object> {
    if !r.has(Subresource::Scale) {
        return None;
    }
    let number = |path: &[&str]| at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let empty = Map::new();
    let kept: Map<String, Value> = metadata(object)
        .unwrap_or(&empty)
        .iter()
        .filter(|(field, _)| METADATA.contains(&field.as_str()))
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    let selector = at(object, PATHS.selector);
    // That of a replication controller is a map of labels.
    let labels = match r.kind {
        "ReplicationController" => Some(Labels::of_map(selector)),
        _ => Labels::of_selector(selector).ok(),
    };
    let mut status = json!({ "replicas": number(PATHS.status) });
    if let Some(labels) = labels
        .map(|labels| labels.to_string())
        .filter(|text| !text.is_empty())
    {
        status["selector"] = labels.into();
    }
    let mut spec = Map::new();
    if number(PATHS.spec) != 0 {
        spec.insert("replicas".to_owned(), number(PATHS.spec).into());
    }
    let mut scale = Map::new();
    scale.insert("kind".to_owned(), "Scale".into());
    scale.insert("apiVersion".to_owned(), "autoscaling/v1".into());
    scale.insert("metadata".to_owned(), kept.into());
    scale.insert("spec".to_owned(), spec.into());
    scale.insert("status".to_owned(), status);
    Some(scale)
}

/// Sets the replicas of an object to those of a scale. Its resource version, if the scale has one, becomes the object's, so
/// that the usual check of it holds.
pub fn set_scale(r: &Resource, object: &mut Object, scale: &Object) -> Result<(), Status> {
    let replicas = match at(scale, &["spec", "replicas"]) {
        None | Some(Value::Null) => 0,
        Some(value) => match value.as_i64().filter(|replicas| i32::try_from(*replicas).is_ok()) {
            Some(replicas) => replicas,
            None => return Err(Status::bad_request("spec.replicas: must be a whole number")),
        },
    };
    let name = crate::object::meta(object, "name").to_owned();
    let told = crate::object::meta(scale, "name");
    if !told.is_empty() && told != name {
        let told = format!("the name of the object ({told}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(told));
    }
    if replicas < 0 {
        let cause = Cause::invalid(
            "spec.replicas",
            &replicas.into(),
            "must be greater than or equal to 0",
        );
        let mut refused = Status::invalid(r, &name, vec![cause]);
        refused.message =
            refused
                .message
                .replacen(&format!("{}.{}", r.kind, r.group), "Scale.autoscaling", 1);
        "autoscaling".clone_into(&mut refused.details.group);
        "Scale".clone_into(&mut refused.details.kind);
        return Err(refused);
    }
    if let Some(version) = at(scale, &["metadata", "resourceVersion"]).filter(|version| *version != "") {
        crate::object::metadata_mut(object).insert("resourceVersion".to_owned(), version.clone());
    }
    child_mut(object, "spec").insert("replicas".to_owned(), replicas.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::find;

    #[test]
    fn a_scale_is_read_and_set() {
        let deployments = find("apps", "v1", "deployments").unwrap();
        let mut object = json!({
            "metadata": {"name": "d", "namespace": "n", "uid": "u", "labels": {"a": "b"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}},
            "status": {"replicas": 2},
        });
        let object = object.as_object_mut().unwrap();
        let scale = scale_of(deployments, object).unwrap();
        assert_eq!(
            Value::Object(scale.clone()),
            json!({
                "kind": "Scale",
                "apiVersion": "autoscaling/v1",
                "metadata": {"name": "d", "namespace": "n", "uid": "u"},
                "spec": {"replicas": 3},
                "status": {"replicas": 2, "selector": "app=web"},
            })
        );
        let mut asked = scale;
        asked.insert("spec".to_owned(), json!({"replicas": 5}));
        set_scale(deployments, object, &asked).unwrap();
        assert_eq!(at(object, &["spec", "replicas"]), Some(&json!(5)));
        asked.insert("spec".to_owned(), json!({"replicas": -1}));
        let refused = set_scale(deployments, object, &asked).unwrap_err();
        assert_eq!(
            refused.message,
            "Scale.autoscaling \"d\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
        assert!(scale_of(find("", "v1", "pods").unwrap(), object).is_none());
    }
}
