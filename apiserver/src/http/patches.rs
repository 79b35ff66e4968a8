//! Patches of all four kinds, of objects and of what is below them.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::Value;

use super::answer;
use super::body::{self, Sent};
use super::gates;
use super::verbs::{SCALE_TYPE, Work, scale_of};
use crate::object::{Object, metadata_mut};
use crate::resources::Subresource;
use crate::status::{Reason, Status};
use crate::{codec, managed, patch as patching, rules};

/// What a patch is, read once; an object may be patched several times until nobody is faster.
enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7396.
    Merge(Value),
    Strategic(Object),
    /// What its sender wants to be so, whatever else there is.
    Apply(Object),
}

/// Patches what the request is about.
pub(crate) async fn patch(work: &Work<'_>, sent: Sent) -> Result<Response<Body>, Status> {
    let request = work.request;
    let resource = request.resource;
    let patch = Patch::read(&sent)?;
    let force = request.query.is_on("force");
    if force && !matches!(patch, Patch::Apply(_)) {
        return Err(Status::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
        ));
    }
    let mut options = work.write_options()?;
    if let Patch::Apply(_) = patch {
        options.field_manager = match request.query.get("fieldManager") {
            "" => {
                return Err(Status::bad_request(
                    "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
                ));
            }
            manager => manager.to_owned(),
        };
        options.applied = true;
    }
    let mut warnings = Vec::new();
    let change = |current: Option<&Object>| {
        let scaled = request.subresource == Some(Subresource::Scale);
        let mut patched = match (&patch, current) {
            (Patch::Apply(applied), current) if !scaled => {
                let mut applied = applied.clone();
                codec::expect_kind(&mut applied, &resource.api_version(), resource.kind)?;
                place(&mut applied, request)?;
                let below = request.subresource.map(Subresource::name);
                let manager = &options.field_manager;
                managed::apply(resource, current, &applied, manager, force, below, options.now)?
            }
            (_, None) => return Err(Status::not_found(resource, &request.name)),
            (patch, Some(current)) if scaled => {
                let scale = patch.of(SCALE_TYPE, &scale_of(resource, current)?)?;
                let mut scaled = current.clone();
                rules::set_scale(resource, &mut scaled, &scale)?;
                scaled
            }
            (patch, Some(current)) => patch.of(resource.type_name, current)?,
        };
        codec::expect_kind(&mut patched, &resource.api_version(), resource.kind)?;
        place(&mut patched, request)?;
        warnings = body::judge_patched(&request.query, resource.type_name, &patched)?;
        gates::admit(work.user, request, &mut patched)?;
        Ok(patched)
    };
    let updated = work.change(&options, change).await?;
    let code = match updated.created {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    if request.subresource == Some(Subresource::Scale) {
        return work.answer_scale(code, &updated.object);
    }
    let response = work.answer(code, &updated.object)?;
    Ok(answer::warn(response, &warnings))
}

/// An object keeps its place, whatever a patch says.
fn place(object: &mut Object, request: &super::request::Request) -> Result<(), Status> {
    let metadata = metadata_mut(object);
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    if !name.is_empty() && name != request.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            request.name
        )));
    }
    metadata.insert("name".to_owned(), request.name.as_str().into());
    if request.resource.namespaced {
        let namespace = metadata
            .get("namespace")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !namespace.is_empty() && namespace != request.namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        metadata.insert("namespace".to_owned(), request.namespace.as_str().into());
    }
    Ok(())
}

impl Patch {
    fn read(sent: &Sent) -> Result<Patch, Status> {
        let object = |value: Value| match value {
            Value::Object(object) => Ok(object),
            _ => Err(Status::bad_request("a patch must be an object")),
        };
        match sent.media_type() {
            "application/json-patch+json" => Ok(Patch::Json(read_json(&sent.bytes)?)),
            "application/merge-patch+json" => {
                Ok(Patch::Merge(Value::Object(object(read_json(&sent.bytes)?)?)))
            }
            "application/strategic-merge-patch+json" => {
                Ok(Patch::Strategic(object(read_json(&sent.bytes)?)?))
            }
            "application/apply-patch+yaml" => {
                let applied = codec::decode(&sent.bytes, Some("application/yaml"), None)?;
                Ok(Patch::Apply(applied))
            }
            _ => Err(Status::new(
                Reason::UnsupportedMediaType,
                format!(
                    "the body of the request was in an unknown format - accepted media types include: {}",
                    MEDIA_TYPES.join(", ")
                ),
            )),
        }
    }

    /// The patched object.
    fn of(&self, type_name: &str, target: &Object) -> Result<Object, Status> {
        let value = || Value::Object(target.clone());
        let patched = match self {
            Patch::Json(operations) => patching::json(&value(), operations)?,
            Patch::Merge(patch) => patching::merge(&value(), patch),
            Patch::Strategic(patch) => return patching::strategic(type_name, target, patch),
            // Below an object nothing is owned field by field.
            Patch::Apply(applied) => patching::merge(&value(), &Value::Object(applied.clone())),
        };
        match patched {
            Value::Object(patched) => Ok(patched),
            _ => Err(Status::bad_request("the patched object is no object")),
        }
    }
}

fn read_json(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))
}

const MEDIA_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
