//! Collections: lists, and their deletion.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer;
use super::body::Sent;
use super::request::Request;
use super::verbs::Work;
use crate::codec::{Accepted, AsKind, Media};
use crate::engine::{ListOptions, Listed};
use crate::object::Object;
use crate::select::{self, Fields, Labels};
use crate::status::{Cause, Status};
use crate::table;

/// Lists a collection.
pub(crate) async fn list(work: &Work<'_>) -> Result<Response<Body>, Status> {
    let accepted = work.accepted(LIST_MEDIA, answer::OF_LISTS)?;
    let options = list_options(work.request)?;
    let listed = work
        .engine
        .list(work.request.resource, namespace(work.request), &options)
        .await?;
    shown(work, &listed, &accepted)
}

/// Deletes a collection, and answers with what it was.
pub(crate) async fn delete(work: &Work<'_>, sent: Sent) -> Result<Response<Body>, Status> {
    let (options, write) = work.delete_options(&sent)?;
    let accepted = work.accepted(LIST_MEDIA, answer::OF_LISTS)?;
    let listed = work
        .engine
        .delete_collection(
            work.request.resource,
            namespace(work.request),
            &list_options(work.request)?,
            &options,
            &write,
        )
        .await?;
    shown(work, &listed, &accepted)
}

/// The namespace of a collection; nothing for all of them.
pub(crate) fn namespace(request: &Request) -> Option<&str> {
    Some(request.namespace.as_str()).filter(|namespace| !namespace.is_empty())
}

fn shown(work: &Work<'_>, listed: &Listed, accepted: &Accepted) -> Result<Response<Body>, Status> {
    let resource = work.request.resource;
    let mut meta = json!({ "resourceVersion": listed.revision.to_string() });
    if let Some(token) = &listed.continue_ {
        meta["continue"] = token.as_str().into();
        if let Some(remaining) = listed.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
    }
    let (kind, api_version) = match accepted.as_kind {
        AsKind::None => (resource.list_kind(), resource.api_version()),
        AsKind::Table => {
            let include = answer::include(work.request.query.get("includeObject"))?;
            let objects = objects_of(listed)?;
            let objects: Vec<&Object> = objects.iter().map(|object| &**object).collect();
            let shown = table::render(resource, meta, objects, include, true, Timestamp::now());
            return Ok(answer::json(StatusCode::OK, shown.to_string()));
        }
        _ => (
            "PartialObjectMetadataList".to_owned(),
            "meta.k8s.io/v1".to_owned(),
        ),
    };
    let head = json!({ "kind": kind, "apiVersion": api_version, "metadata": meta });
    if accepted.media == Media::Yaml && accepted.as_kind == AsKind::None {
        let mut list = head;
        let items = objects_of(listed)?;
        list["items"] = items.iter().map(|item| Value::Object((**item).clone())).collect();
        let text = serde_yaml_ng::to_string(&list).map_err(Status::internal)?;
        return Ok(answer::typed(StatusCode::OK, "application/yaml", text));
    }
    // The items are pasted in as they are.
    let mut bytes = head.to_string().into_bytes();
    bytes.pop();
    bytes.extend_from_slice(b",\"items\":[");
    let mut first = true;
    for item in &listed.items {
        if !std::mem::take(&mut first) {
            bytes.push(b',');
        }
        match accepted.as_kind {
            AsKind::None => bytes.extend_from_slice(item.json()),
            _ => bytes.extend_from_slice(table::partial(&*item.object()?).to_string().as_bytes()),
        }
    }
    bytes.extend_from_slice(b"]}");
    Ok(answer::json(StatusCode::OK, bytes))
}

fn objects_of(listed: &Listed) -> Result<Vec<Arc<Object>>, Status> {
    listed.items.iter().map(|item| item.object()).collect()
}

/// What is asked for of a collection.
pub(crate) fn list_options(request: &Request) -> Result<ListOptions, Status> {
    let query = &request.query;
    let (labels, fields) = selectors(request)?;
    let text = |name: &str| Some(query.get(name).to_owned()).filter(|text| !text.is_empty());
    // It says nothing here, but it must be a number.
    query.number("timeoutSeconds")?;
    if text("sendInitialEvents").is_some() {
        let told = "sendInitialEvents is forbidden for list";
        let cause = Cause::forbidden("sendInitialEvents", told);
        return Err(Status::invalid_options("ListOptions", vec![cause]));
    }
    Ok(ListOptions {
        labels,
        fields,
        limit: query.number("limit")?.unwrap_or(0),
        continue_: text("continue"),
        resource_version: text("resourceVersion"),
        version_match: text("resourceVersionMatch"),
    })
}

/// How a list is written. All who ask for protobuf take JSON as well.
const LIST_MEDIA: &[Media] = &[Media::Json, Media::Yaml];

/// Which objects are meant.
pub(crate) fn selectors(request: &Request) -> Result<(Labels, Fields), Status> {
    let given = request.query.get("fieldSelector");
    // The old way to watch one object has its name in the path.
    let name = select::escape(&request.name);
    let fields = match (name.as_str(), given) {
        ("", given) => given.to_owned(),
        (name, "") => format!("metadata.name={name}"),
        (name, given) => format!("metadata.name={name},{given}"),
    };
    Ok((
        Labels::parse(request.query.get("labelSelector"))?,
        Fields::parse(request.resource, &fields)?,
    ))
}
