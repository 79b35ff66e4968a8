//! The body of a request.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::request::{Query, Request};
use crate::codec::{self, Words};
use crate::object::{Object, meta, metadata_mut};
use crate::status::{Cause, Reason, Status};

/// What a client has sent.
pub(crate) struct Sent {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: String,
}

/// What is done about fields that nobody knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// An object that was sent, and what its sender should be told of it.
pub(crate) struct Decoded {
    pub(crate) object: Object,
    pub(crate) warnings: Vec<String>,
}

impl Sent {
    /// Reads it all, up to [`BODY_BYTES_MAX`].
    pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Sent, Status> {
        let bytes = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(whole) => whole.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(Status::new(
                    Reason::RequestEntityTooLarge,
                    format!("Request entity too large: limit is {BODY_BYTES_MAX}"),
                ));
            }
            Err(error) => return Err(Status::bad_request(error.to_string())),
        };
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        Ok(Sent {
            bytes,
            content_type: content_type.to_owned(),
        })
    }

    /// The media type without its parameters.
    pub(crate) fn media_type(&self) -> &str {
        let media_type = self.content_type.split(';').next();
        media_type.unwrap_or_default().trim()
    }

    /// The object of the request's kind that it is. Its metadata are made to agree with the path.
    pub(crate) fn object(&self, request: &Request) -> Result<Decoded, Status> {
        let resource = request.resource;
        let mut decoded = self.decode(resource.type_name, &request.query)?;
        let object = &mut decoded.object;
        codec::expect_kind(object, &resource.api_version(), resource.kind)?;
        let given = meta(object, "namespace").to_owned();
        if resource.namespaced && !given.is_empty() && given != request.namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let name = meta(object, "name").to_owned();
        if !request.name.is_empty() && name.is_empty() {
            return Err(nameless(&request.name));
        }
        if !request.name.is_empty() && name != request.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                request.name
            )));
        }
        let metadata = metadata_mut(object);
        if resource.namespaced {
            metadata.insert("namespace".to_owned(), request.namespace.as_str().into());
        } else {
            metadata.remove("namespace");
        }
        Ok(decoded)
    }

    /// An object of a type, its fields judged as the query asks for.
    pub(crate) fn decode(&self, type_name: &str, query: &Query) -> Result<Decoded, Status> {
        let content_type = Some(self.content_type.as_str()).filter(|given| !given.is_empty());
        let object = codec::decode(&self.bytes, content_type, Some(type_name))?;
        let warnings = judge(query, type_name, &self.bytes, &object)?;
        Ok(Decoded { object, warnings })
    }
}

/// The refusal of an object that does not say which it is.
pub(crate) fn nameless(name: &str) -> Status {
    Status::bad_request(format!(
        "the name of the object ({name} based on URL) was undeterminable: name must be provided"
    ))
}

/// What is wrong with an object's fields, as a refusal where that was asked for.
fn judge(query: &Query, type_name: &str, raw: &[u8], object: &Object) -> Result<Vec<String>, Status> {
    let validation = field_validation(query, "CreateOptions")?;
    let findings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn | FieldValidation::Strict => codec::strict(type_name, raw, object),
    };
    if validation == FieldValidation::Strict && !findings.is_empty() {
        return Err(codec::strict_refusal(type_name, object, &findings));
    }
    codec::check_types(type_name, object)?;
    Ok(findings)
}

/// What is wrong with an object that was not sent as a whole but made of a patch: what its sender should be told, or why it
/// cannot be.
pub(crate) fn judge_patched(
    query: &Query,
    type_name: &str,
    object: &Object,
    words: Words,
) -> Result<Vec<String>, Unfit> {
    let findings = match field_validation(query, "PatchOptions").map_err(Unfit::Refused)? {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => codec::strict(type_name, b"", object),
        FieldValidation::Strict => {
            let findings = codec::strict(type_name, b"", object);
            if !findings.is_empty() {
                let told = format!("strict decoding error: {}", findings.join(", "));
                return Err(Unfit::Told(told));
            }
            findings
        }
    };
    match codec::type_error(type_name, object, words) {
        Some(told) => Err(Unfit::Told(told)),
        None => Ok(findings),
    }
}

/// Why a patched object cannot be.
pub(crate) enum Unfit {
    /// The request itself is odd.
    Refused(Status),
    /// What is wrong with it.
    Told(String),
}

fn field_validation(query: &Query, kind: &str) -> Result<FieldValidation, Status> {
    match query.get("fieldValidation") {
        "Ignore" => Ok(FieldValidation::Ignore),
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Strict" => Ok(FieldValidation::Strict),
        other => {
            let known = ["", "Ignore", "Strict", "Warn"];
            let cause = Cause::not_supported("fieldValidation", &other.into(), &known);
            Err(Status::invalid_options(kind, vec![cause]))
        }
    }
}

/// As large as a real server takes.
const BODY_BYTES_MAX: usize = 3 << 20;
