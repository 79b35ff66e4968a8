//! Answers: an object, a list, a table or a refusal, in the form in which the client wants it.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::json;

use crate::codec::{Accepted, AsKind, Media};
use crate::object::Object;
use crate::resources::Resource;
use crate::status::{Details, Status};
use crate::{codec, table};

/// A JSON answer.
pub(crate) fn json(code: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    typed(code, "application/json", bytes)
}

/// An answer of any type.
pub(crate) fn typed(code: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes.into()));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A refusal.
pub(crate) fn refusal(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, status.to_value().to_string());
    if status.details.retry_after_seconds > 0 {
        let after = status.details.retry_after_seconds.into();
        response.headers_mut().insert(header::RETRY_AFTER, after);
    }
    response
}

/// That something was done which leaves no object to show.
pub(crate) fn success(code: StatusCode, details: Option<&Details>) -> Response<Body> {
    let mut value = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
    });
    match details {
        Some(details) => value["details"] = details.to_value(),
        None => value["code"] = code.as_u16().into(),
    }
    json(code, value.to_string())
}

/// One object, which is of this resource or, below it, of another type.
pub(crate) fn object(
    code: StatusCode,
    resource: &Resource,
    object: &Object,
    accepted: &Accepted,
    query_include: &str,
) -> Result<Response<Body>, Status> {
    match accepted.as_kind {
        AsKind::None => {}
        AsKind::Table => {
            let meta = json!({ "resourceVersion": crate::object::meta(object, "resourceVersion") });
            let include = include(query_include)?;
            let shown = table::render(resource, meta, [object], include, true, Timestamp::now());
            return Ok(json(code, shown.to_string()));
        }
        _ => return Ok(json(code, table::partial(object).to_string())),
    }
    match accepted.media {
        Media::Json => encode(object).map(|bytes| json(code, bytes)),
        Media::Yaml => {
            let text = serde_yaml_ng::to_string(object).map_err(Status::internal)?;
            Ok(typed(code, "application/yaml", text))
        }
        Media::Protobuf => {
            let bytes = codec::to_protobuf(object, resource.type_name)?;
            Ok(typed(code, Media::Protobuf.name(), bytes))
        }
    }
}

/// How much of an object a row of a table has.
pub(crate) fn include(query: &str) -> Result<table::Include, Status> {
    match query {
        "" | "Metadata" => Ok(table::Include::Metadata),
        "None" => Ok(table::Include::None),
        "Object" => Ok(table::Include::Object),
        other => Err(Status::bad_request(format!(
            "unrecognized includeObject value: {other:?}"
        ))),
    }
}

/// An object as JSON.
pub(crate) fn encode(object: &Object) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(object).map_err(Status::internal)
}

/// Adds what the client should know. Where that is much it is cut, as a real server does it: the words may be a client's.
pub(crate) fn warn(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    let length: usize = warnings.iter().map(|warning| warning.chars().count()).sum();
    let one_max = match length <= WARNINGS_CHARS_MAX {
        true => WARNINGS_CHARS_MAX,
        false => WARNING_CHARS_MAX,
    };
    let mut written = 0;
    for warning in warnings {
        if written >= WARNINGS_CHARS_MAX {
            break;
        }
        let mut quoted = String::from("299 - \"");
        for char in warning.chars().take(one_max) {
            written += 1;
            match char {
                char if char.is_control() => {}
                '"' | '\\' => quoted.extend(['\\', char]),
                char => quoted.push(char),
            }
        }
        quoted.push('"');
        if let Ok(value) = HeaderValue::from_bytes(quoted.as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// A document that changes only with the program: with its tag, by which a client sees that it has it already.
pub(crate) fn document(
    asked: &http::HeaderMap,
    content_type: &'static str,
    etag: &str,
    bytes: &Arc<[u8]>,
) -> Response<Body> {
    let known = asked
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut response = match known {
        true => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        false => typed(StatusCode::OK, content_type, Bytes::from_owner(bytes.clone())),
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

/// As what one object may be had.
pub(crate) const OF_ONE: &[AsKind] = &[AsKind::Table, AsKind::PartialObjectMetadata];
/// As what a list may be had.
pub(crate) const OF_LISTS: &[AsKind] = &[AsKind::Table, AsKind::PartialObjectMetadataList];
/// Characters of all warnings in one answer.
const WARNINGS_CHARS_MAX: usize = 4096;
/// Characters of each, where all together are too long.
const WARNING_CHARS_MAX: usize = 256;
