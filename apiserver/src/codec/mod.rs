//! JSON, YAML and protobuf of objects, and which of them an answer is to have.
//!
//! Objects are JSON everywhere else. What comes as protobuf is turned into JSON by the table of types, and back for those
//! who ask for it. Nothing that a client or the store holds is trusted: nesting, lengths and texts are checked.

mod check;
mod envelope;
mod media;
mod read;
mod strict;
mod values;
mod write;
mod yaml;

use serde_json::Value;

pub use self::check::{Words, check_types, conform, fill, type_error};
pub use self::media::{Accepted, AsKind, Media, negotiate};
pub use self::strict::strict;

use crate::object::Object;
use crate::resources;
use crate::status::{Reason, Status};
use crate::types::{Message, Types};

/// Reads the body of a request. `type_name` is the type that the path asks for: of that protobuf is read when it does not
/// say what it is, and texts of errors name it.
pub fn decode(bytes: &[u8], content_type: Option<&str>, type_name: Option<&str>) -> Result<Object, Status> {
    let media = Media::of_body(content_type)?;
    match media {
        Media::Json => read_json(bytes).map_err(|error| unrecognized(type_name, &error, bytes, true)),
        Media::Yaml => {
            let is_json = bytes.first() == Some(&b'{');
            read_yaml(bytes).map_err(|error| unrecognized(type_name, &error, bytes, is_json))
        }
        Media::Protobuf => from_protobuf(bytes, type_name),
    }
}

/// Reads an object from protobuf in its envelope. What it says to be decides about the type, `type_name` only if it says
/// nothing that is known.
pub fn from_protobuf(bytes: &[u8], type_name: Option<&str>) -> Result<Object, Status> {
    let unknown = match envelope::read(bytes) {
        Some(unknown) => unknown.map_err(|error| unrecognized(type_name, &error, bytes, false))?,
        None if bytes.is_empty() => return Err(unrecognized(type_name, &"empty data", bytes, false)),
        None => {
            let text =
                "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]";
            return Err(unrecognized(type_name, &text, bytes, false));
        }
    };
    let says = type_of(unknown.api_version, unknown.kind);
    let message = message(says.or(type_name).unwrap_or_default()).ok_or_else(|| {
        let (api_version, kind) = (unknown.api_version, unknown.kind);
        let text = format!("no kind \"{kind}\" is registered for version \"{api_version}\"");
        unrecognized(type_name, &text, bytes, false)
    })?;
    let mut object = read::whole(message, unknown.raw).map_err(|error| {
        cannot_be_handled(
            unknown.api_version,
            unknown.kind,
            type_name.unwrap_or(message.name),
            &error,
        )
    })?;
    unknown.name(&mut object);
    Ok(object)
}

/// Writes an object as protobuf in its envelope.
pub fn to_protobuf(object: &Object, type_name: &str) -> Result<Vec<u8>, Status> {
    let message = message(type_name)
        .ok_or_else(|| Status::internal(format!("{type_name} cannot be written as protobuf")))?;
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let mut unfit = Ok(());
    let bytes = envelope::write(text("apiVersion"), text("kind"), |out| {
        unfit = write::whole(message, object, out);
    });
    unfit.map_err(|unfit| Status::bad_request(unfit.to_string()))?;
    Ok(bytes)
}

/// An event of a watch as protobuf, without an envelope of its own; the object has one. Goes out behind its length in four
/// bytes.
pub fn watch_event_protobuf(event: &str, object: &Object, type_name: &str) -> Result<Vec<u8>, Status> {
    let object = to_protobuf(object, type_name)?;
    let mut out = Vec::with_capacity(object.len() + 32);
    envelope::write_bytes(1, event.as_bytes(), &mut out);
    envelope::with_length(2, &mut out, |out| envelope::write_bytes(1, &object, out));
    Ok(out)
}

/// Reads a value of the store: JSON, or protobuf that says what it is. Anything else was written by somebody with a key.
pub fn decode_stored(bytes: &[u8]) -> Result<Object, Status> {
    if bytes.first() == Some(&b'{') {
        return read_json(bytes).map_err(|error| Status::internal(format!("a stored object: {error}")));
    }
    let Some(unknown) = envelope::read(bytes) else {
        return Err(Status::internal("a stored object is neither JSON nor protobuf"));
    };
    let unknown = unknown.map_err(|error| Status::internal(format!("a stored object: {error}")))?;
    let (api_version, kind) = (unknown.api_version, unknown.kind);
    let message = type_of(api_version, kind).and_then(message).ok_or_else(|| {
        Status::internal(format!(
            "no kind \"{kind}\" is registered for version \"{api_version}\""
        ))
    })?;
    let mut object = read::whole(message, unknown.raw)
        .map_err(|error| Status::internal(format!("a stored object: {error}")))?;
    check::fill_message(message, &mut object);
    unknown.name(&mut object);
    Ok(object)
}

/// The type of the objects of a kind: of resources, their lists, and what else goes over the wire.
#[must_use]
pub fn type_of(api_version: &str, kind: &str) -> Option<&'static str> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    if let Some(row) = resources::of_kind(group, version, kind) {
        return Some(row.type_name);
    }
    if let Some((_, _, name)) = OTHERS
        .iter()
        .find(|(known, of, _)| *of == kind && (known.is_empty() || *known == api_version))
    {
        return Some(name);
    }
    let row = resources::of_kind(group, version, kind.strip_suffix("List")?)?;
    message(&format!("{}List", row.type_name)).map(|message| message.name)
}

/// Fills in `apiVersion` and `kind` where they are missing, and refuses what is of another type than the path asks for.
pub fn expect_kind(object: &mut Object, api_version: &str, kind: &str) -> Result<(), Status> {
    for (field, expected) in [("apiVersion", api_version), ("kind", kind)] {
        let said = object.get(field).and_then(Value::as_str).unwrap_or_default();
        match field {
            _ if said == expected => {}
            _ if said.is_empty() => {
                object.insert(field.to_owned(), Value::from(expected));
            }
            _ => return Err(another_kind(object, field, said, api_version, kind)),
        }
    }
    Ok(())
}

/// The refusal of an object that says to be of another kind or version than the path asks for.
fn another_kind(object: &Object, field: &str, said: &str, api_version: &str, kind: &str) -> Status {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (said_version, said_kind) = match field {
        "apiVersion" => (
            said,
            Some(text("kind")).filter(|said| !said.is_empty()).unwrap_or(kind),
        ),
        _ => (api_version, said),
    };
    let version = version_of(said_version);
    let why = match type_of(said_version, said_kind) {
        Some(_) if said_version != api_version => {
            let told = format!(
                "the API version in the data ({said_version}) does not match the expected API version ({api_version})"
            );
            return Status::bad_request(told);
        }
        Some(_) => {
            let group = match api_version.split_once('/') {
                Some((group, _)) => group.split('.').next().unwrap_or(group),
                None => "core",
            };
            format!("converting ({version}.{said_kind}) to ({group}.{kind}): unknown conversion")
        }
        None => unregistered(said_version, said_kind),
    };
    Status::bad_request(format!(
        "{said_kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
    ))
}

/// What a real API server says of a kind that it does not know; where it looked for it is told as well.
#[must_use]
pub fn unregistered(api_version: &str, kind: &str) -> String {
    format!(
        "no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \"pkg/runtime/scheme.go:111\""
    )
}

/// The refusal of an object in which [`strict`] found something.
#[must_use]
pub fn strict_refusal(type_name: &str, object: &Object, findings: &[String]) -> Status {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let error = format!("strict decoding error: {}", findings.join(", "));
    cannot_be_handled(text("apiVersion"), text("kind"), type_name, &error)
}

/// What a value is, in the words of Go's JSON.
#[must_use]
pub fn what_is(value: &Value) -> String {
    check::what(value, "")
}

fn message(type_name: &str) -> Option<&'static Message> {
    Types::all().message(type_name)
}

fn read_json(bytes: &[u8]) -> Result<Object, String> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        // As Go has it, null is an object of which nothing is said.
        Ok(Value::Null) => Ok(Object::new()),
        Ok(other) => Err(format!(
            "json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \
             \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            check::what(&other, "")
        )),
        Err(error) => Err(json_error(&error, bytes)),
    }
}

/// What is wrong with a text that is no JSON, in the words of Go for what happens most.
#[must_use]
pub fn json_error(error: &serde_json::Error, bytes: &[u8]) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let told = error.to_string();
    // Columns count bytes from one.
    let lines = bytes
        .split(|byte| *byte == b'\n')
        .nth(error.line().saturating_sub(1));
    let odd = lines.and_then(|line| line.get(error.column().saturating_sub(1)));
    match odd {
        Some(odd) if told.starts_with("trailing characters") => {
            format!("invalid character '{}' after top-level value", char::from(*odd))
        }
        Some(odd) if told.starts_with("expected value") => {
            format!(
                "invalid character '{}' looking for beginning of value",
                char::from(*odd)
            )
        }
        _ => told,
    }
}

/// YAML, or the JSON that it may be.
fn read_yaml(bytes: &[u8]) -> Result<Object, String> {
    // What clients send as YAML mostly is JSON, which is read many times faster.
    if bytes.trim_ascii_start().first() == Some(&b'{')
        && let Ok(object) = read_json(bytes)
    {
        return Ok(object);
    }
    yaml::read(bytes).map_err(|error| format!("error converting YAML to JSON: yaml: {error}"))
}

/// What is no object at all, in the words of a real API server.
fn unrecognized(
    type_name: Option<&str>,
    error: &dyn std::fmt::Display,
    body: &[u8],
    is_json: bool,
) -> Status {
    let summary = match body {
        [] => "<empty>".to_owned(),
        [b'{', ..] if body.len() <= SUMMARY_BYTES => String::from_utf8_lossy(body).into_owned(),
        [b'{', ..] => format!("{} ...", String::from_utf8_lossy(&body[..SUMMARY_BYTES])),
        body => {
            let hex: String = body
                .iter()
                .take(SUMMARY_BYTES)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("{hex}{}", if body.len() > SUMMARY_BYTES { " ..." } else { "" })
        }
    };
    let error = match is_json {
        true => format!("couldn't get version/kind; json parse error: {error}"),
        false => error.to_string(),
    };
    let of = match type_name {
        None => String::new(),
        Some(name) => format!(" (must be of type {})", name.rsplit('.').next().unwrap_or(name)),
    };
    Status::new(
        Reason::BadRequest,
        format!("the object provided is unrecognized{of}: {error} ({summary})"),
    )
}

/// What is an object, but not one of the type that is wanted.
fn cannot_be_handled(
    api_version: &str,
    kind: &str,
    type_name: &str,
    error: &dyn std::fmt::Display,
) -> Status {
    let mut names = type_name.rsplit('.');
    let wanted = names.next().unwrap_or(type_name);
    let kind = if kind.is_empty() { wanted } else { kind };
    let version = match version_of(api_version) {
        "" => names.next().unwrap_or_default(),
        version => version,
    };
    Status::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {wanted}: {error}"
    ))
}

fn version_of(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or(api_version)
}

/// Kinds that are no resources: their version (any, if empty), the kind and the type.
const OTHERS: &[(&str, &str, &str)] = &[
    (
        "",
        "DeleteOptions",
        "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    ),
    (
        "",
        "WatchEvent",
        "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
    ),
    ("v1", "Status", "io.k8s.apimachinery.pkg.apis.meta.v1.Status"),
    ("v1", "Binding", "io.k8s.api.core.v1.Binding"),
    ("v1", "RangeAllocation", "io.k8s.api.core.v1.RangeAllocation"),
    ("policy/v1", "Eviction", "io.k8s.api.policy.v1.Eviction"),
    ("autoscaling/v1", "Scale", "io.k8s.api.autoscaling.v1.Scale"),
    (
        "authentication.k8s.io/v1",
        "TokenRequest",
        "io.k8s.api.authentication.v1.TokenRequest",
    ),
    (
        "meta.k8s.io/v1",
        "PartialObjectMetadata",
        "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata",
    ),
    (
        "meta.k8s.io/v1",
        "PartialObjectMetadataList",
        "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList",
    ),
];

/// How deep objects may be nested, as serde_json has it.
const DEPTH_MAX: usize = 128;

/// How much of a body that is no object an error shows.
const SUMMARY_BYTES: usize = 30;

#[cfg(test)]
mod tests;
