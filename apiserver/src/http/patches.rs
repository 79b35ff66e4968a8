//! Patches of all four kinds, of objects and of what is below them.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::Value;

use super::answer;
use super::body::{self, Sent};
use super::gates;
use super::verbs::{SCALE_TYPE, Work, scale_of};
use crate::codec::Words;
use crate::object::{Object, meta, metadata_mut};
use crate::resources::{Resource, Subresource};
use crate::status::{Cause, Reason, Status};
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
        let cause = Cause::forbidden("force", "may not be specified for non-apply patch");
        return Err(Status::invalid_options("PatchOptions", vec![cause]));
    }
    let mut options = work.write_options()?;
    if let Patch::Apply(_) = patch {
        options.field_manager = match request.query.get("fieldManager") {
            "" => {
                let cause = Cause::required("fieldManager", "is required for apply patch");
                return Err(Status::invalid_options("PatchOptions", vec![cause]));
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
                expect_type(&applied, resource)?;
                codec::expect_kind(&mut applied, &resource.api_version(), resource.kind)?;
                let metadata = metadata_mut(&mut applied);
                metadata
                    .entry("name")
                    .or_insert_with(|| request.name.as_str().into());
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
        patch.is_still(resource, &patched)?;
        codec::expect_kind(&mut patched, &resource.api_version(), resource.kind)?;
        place(&mut patched, request)?;
        if let Some(current) = current {
            keep_uid(resource, current, &patched)?;
        }
        let words = match patch {
            Patch::Strategic(_) => Words::Converter,
            _ => Words::Json,
        };
        let judged = body::judge_patched(&request.query, resource.type_name, &patched, words);
        warnings = judged.map_err(|unfit| match unfit {
            body::Unfit::Refused(status) => status,
            body::Unfit::Told(told) => patch.unfit(&patched, &told),
        })?;
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
    if name.is_empty() {
        return Err(body::nameless(&request.name));
    }
    if name != request.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            request.name
        )));
    }
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

/// A patch makes no other object of an object.
fn keep_uid(resource: &Resource, current: &Object, patched: &Object) -> Result<(), Status> {
    let uid = meta(patched, "uid");
    if uid.is_empty() || uid == meta(current, "uid") {
        return Ok(());
    }
    let cause = Cause::invalid("metadata.uid", &uid.into(), "field is immutable");
    Err(Status::invalid(resource, meta(current, "name"), vec![cause]))
}

/// What is applied has to say what it is.
fn expect_type(applied: &Object, resource: &Resource) -> Result<(), Status> {
    let text = |field: &str| applied.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if kind == resource.kind && !api_version.is_empty() {
        return Ok(());
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Err(Status::bad_request(format!(
        "invalid object type: {group}/{version}, Kind={kind}"
    )))
}

impl Patch {
    /// A patch makes no object of another kind or version of an object.
    fn is_still(&self, resource: &Resource, patched: &Object) -> Result<(), Status> {
        if !matches!(self, Patch::Json(_) | Patch::Merge(_)) {
            return Ok(());
        }
        let mut judged = patched.clone();
        codec::expect_kind(&mut judged, &resource.api_version(), resource.kind).map_err(|status| {
            let told = status.message;
            let told = told.split_once(": ").map_or(told.as_str(), |(_, told)| told);
            self.unfit(patched, told)
        })
    }

    /// The refusal of what has become of an object by it.
    fn unfit(&self, patched: &Object, told: &str) -> Status {
        let shown = match self {
            Patch::Strategic(patch) => patching::go_text(&Value::Object(patch.clone())),
            _ => Value::Object(patched.clone()).to_string(),
        };
        Status::invalid_kind("", "", "", vec![Cause::invalid("patch", &shown.into(), told)])
    }

    fn read(sent: &Sent) -> Result<Patch, Status> {
        let object = |value: Value, prefix: &str| match value {
            Value::Object(object) => Ok(object),
            // As Go has it, null says nothing.
            Value::Null => Ok(Object::new()),
            other => Err(Status::bad_request(format!(
                "{prefix}json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                codec::what_is(&other)
            ))),
        };
        match sent.media_type() {
            "application/json-patch+json" => Ok(Patch::Json(read_json(&sent.bytes, DECODING)?)),
            "application/merge-patch+json" => {
                let patch = read_json(&sent.bytes, DECODING)?;
                Ok(Patch::Merge(Value::Object(object(patch, DECODING)?)))
            }
            "application/strategic-merge-patch+json" => {
                Ok(Patch::Strategic(object(read_json(&sent.bytes, "")?, "")?))
            }
            "application/apply-patch+yaml" => {
                let applied = codec::decode(&sent.bytes, Some("application/yaml"), None)?;
                Ok(Patch::Apply(applied))
            }
            _ => Err(Status::new(
                Reason::UnsupportedMediaType,
                "415: Unsupported Media Type",
            )),
        }
    }

    /// The patched object.
    fn of(&self, type_name: &str, target: &Object) -> Result<Object, Status> {
        let value = || Value::Object(target.clone());
        let patched = match self {
            Patch::Json(operations) => patching::json(&value(), operations)?,
            Patch::Merge(patch) => patching::merge(&value(), patch),
            Patch::Strategic(patch) => {
                let mut patched = patching::strategic(type_name, target, patch)?;
                // Of what type it is, is no matter of such a patch.
                for field in ["apiVersion", "kind"] {
                    if let Some(kept) = target.get(field) {
                        patched.insert(field.to_owned(), kept.clone());
                    }
                }
                return Ok(patched);
            }
            // Below an object nothing is owned field by field.
            Patch::Apply(applied) => patching::merge(&value(), &Value::Object(applied.clone())),
        };
        match patched {
            Value::Object(patched) => Ok(patched),
            _ => Err(Status::bad_request("the patched object is no object")),
        }
    }
}

fn read_json(bytes: &[u8], prefix: &str) -> Result<Value, Status> {
    serde_json::from_slice(bytes).map_err(|error| {
        let told = codec::json_error(&error, bytes);
        Status::bad_request(format!("{prefix}{told}"))
    })
}

const DECODING: &str = "error decoding patch: ";
