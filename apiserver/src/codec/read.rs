//! Messages on the wire into JSON. What stands there is not trusted: lengths are checked, nesting has a limit, unknown
//! fields are left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use serde_json::{Number, Value};

use super::DEPTH_MAX;
use super::values::{micro_time_text, time_text};
use crate::object::Object;
use crate::types::{Field, Kind, Message, Shape};

/// What is wrong with a message.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Wire(#[from] DecodeError),
    #[error("unexpected EOF")]
    Short,
    #[error("{field}: wrong wireType = {wire:?}")]
    WireType { field: &'static str, wire: WireType },
    #[error("a text is not valid UTF-8")]
    Text,
    #[error("a time that no calendar has")]
    Time,
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("messages are nested too deep")]
    Depth,
}

/// Reads a message of this type into an object, beside what is there already.
pub(super) fn read_message(
    message: &'static Message,
    mut bytes: &[u8],
    object: &mut Object,
    depth: usize,
) -> Result<(), Broken> {
    let depth = depth.checked_sub(1).ok_or(Broken::Depth)?;
    while !bytes.is_empty() {
        let (number, wire) = decode_key(&mut bytes)?;
        match message.by_number(number) {
            None => skip_field(wire, number, &mut bytes, DecodeContext::default())?,
            Some(field) => read_field(field, wire, &mut bytes, object, depth)?,
        }
    }
    Ok(())
}

fn read_field(
    field: &'static Field,
    wire: WireType,
    bytes: &mut &[u8],
    object: &mut Object,
    depth: usize,
) -> Result<(), Broken> {
    let wrong = || Broken::WireType {
        field: field.json,
        wire,
    };
    match field.shape {
        Shape::One => {
            if let (Kind::Message(message), WireType::LengthDelimited) = (field.kind, wire) {
                return read_child(field, message, body(bytes)?, object, depth);
            }
            match read_value(field.kind, wire, bytes, depth)?.ok_or_else(wrong)? {
                Value::Null => {}
                value if !field.zero && is_zero(field.kind, &value) => {
                    object.remove(field.json);
                }
                value => {
                    object.insert(field.json.to_owned(), value);
                }
            }
        }
        Shape::List(_) if wire == WireType::LengthDelimited && plain_wire(field.kind) != wire => {
            let mut packed = body(bytes)?;
            while !packed.is_empty() {
                let value = read_value(field.kind, plain_wire(field.kind), &mut packed, depth)?;
                list(object, field.json).push(value.ok_or_else(wrong)?);
            }
        }
        Shape::List(_) => {
            let value = read_value(field.kind, wire, bytes, depth)?.ok_or_else(wrong)?;
            list(object, field.json).push(value);
        }
        Shape::Map(_) if wire == WireType::LengthDelimited => {
            let (key, value) = read_entry(field.kind, body(bytes)?, depth)?;
            crate::object::child_mut(object, field.json).insert(key, value);
        }
        Shape::Map(_) => return Err(wrong()),
    }
    Ok(())
}

/// A message in a message: among the fields of its parent if it is inlined. One that comes twice is read into one.
fn read_child(
    field: &'static Field,
    message: &'static Message,
    body: &[u8],
    object: &mut Object,
    depth: usize,
) -> Result<(), Broken> {
    if field.inlined {
        return read_message(message, body, object, depth);
    }
    if let Some(Value::Object(child)) = object.get_mut(field.json) {
        return read_message(message, body, child, depth);
    }
    let mut child = Object::new();
    read_message(message, body, &mut child, depth)?;
    object.insert(field.json.to_owned(), Value::Object(child));
    Ok(())
}

fn list<'a>(object: &'a mut Object, name: &str) -> &'a mut Vec<Value> {
    // Looked up first, since the name is copied for an entry.
    if !object.get(name).is_some_and(Value::is_array) {
        object.insert(name.to_owned(), Value::Array(Vec::new()));
    }
    match object.get_mut(name) {
        Some(Value::Array(list)) => list,
        _ => unreachable!("it is a list by now"),
    }
}

/// An entry of a map: a message of key and value, either of which may be missing.
fn read_entry(kind: Kind, mut bytes: &[u8], depth: usize) -> Result<(String, Value), Broken> {
    let mut key = String::new();
    let mut value = None;
    while !bytes.is_empty() {
        match decode_key(&mut bytes)? {
            (1, WireType::LengthDelimited) => key = text(body(&mut bytes)?)?.to_owned(),
            (2, wire) => {
                let read = read_value(kind, wire, &mut bytes, depth)?;
                value = Some(read.ok_or(Broken::WireType { field: "value", wire })?);
            }
            (number, wire) => skip_field(wire, number, &mut bytes, DecodeContext::default())?,
        }
    }
    let value = match value {
        Some(value) => value,
        None => {
            let mut nothing: &[u8] = &[0; 8];
            read_value(kind, plain_wire(kind), &mut nothing, depth)?.unwrap_or_default()
        }
    };
    Ok((key, value))
}

/// How a value of its own stands on the wire.
fn plain_wire(kind: Kind) -> WireType {
    match kind {
        Kind::Bool | Kind::Int32 | Kind::Int64 => WireType::Varint,
        Kind::Float => WireType::SixtyFourBit,
        _ => WireType::LengthDelimited,
    }
}

/// One value; `None` if it stands there in a wrong way, null if there is nothing in it.
fn read_value(kind: Kind, wire: WireType, bytes: &mut &[u8], depth: usize) -> Result<Option<Value>, Broken> {
    if wire != plain_wire(kind) {
        return Ok(None);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "more bits than 32 are dropped, as protobuf has it"
    )]
    #[expect(
        clippy::cast_possible_wrap,
        reason = "negative numbers stand there as large ones"
    )]
    let value = match kind {
        Kind::Bool => Value::Bool(decode_varint(bytes)? != 0),
        Kind::Int32 => Value::from(decode_varint(bytes)? as i32),
        Kind::Int64 => Value::from(decode_varint(bytes)? as i64),
        Kind::Float => {
            let (number, rest) = bytes.split_first_chunk().ok_or(Broken::Short)?;
            *bytes = rest;
            Number::from_f64(f64::from_le_bytes(*number)).map_or(Value::Null, Value::Number)
        }
        kind => read_body(kind, body(bytes)?, depth)?,
    };
    Ok(Some(value))
}

/// A value that stands there with its length.
fn read_body(kind: Kind, bytes: &[u8], depth: usize) -> Result<Value, Broken> {
    Ok(match kind {
        Kind::Bytes => Value::String(BASE64.encode(bytes)),
        Kind::Message(message) => {
            let mut object = Object::new();
            read_message(message, bytes, &mut object, depth)?;
            Value::Object(object)
        }
        Kind::Quantity => match text(parts(bytes)?.first)? {
            "" => Value::from("0"),
            amount => Value::from(amount),
        },
        Kind::IntOrString => {
            let parts = parts(bytes)?;
            match parts.number {
                1 => Value::from(text(parts.third)?),
                _ => Value::from(parts.second_number),
            }
        }
        Kind::Time if bytes.is_empty() => Value::Null,
        Kind::Time => Value::from(time_text(parts(bytes)?.number_64).ok_or(Broken::Time)?),
        Kind::MicroTime if bytes.is_empty() => Value::Null,
        Kind::MicroTime => {
            let parts = parts(bytes)?;
            let text = micro_time_text(parts.number_64, parts.second_number);
            Value::from(text.ok_or(Broken::Time)?)
        }
        Kind::Raw => read_raw(parts(bytes)?.first, depth)?,
        Kind::FieldsV1 | Kind::Json => match parts(bytes)?.first {
            [] => Value::Null,
            json => serde_json::from_slice(json)?,
        },
        Kind::Texts => Value::Array(read_texts(bytes, 1)?),
        Kind::SchemaOrList(schema) => {
            let mut list = Vec::new();
            for body in bodies(bytes, 2)? {
                list.push(read_body(Kind::Message(schema), body, depth)?);
            }
            match bodies(bytes, 1)?.last() {
                Some(body) if list.is_empty() => read_body(Kind::Message(schema), body, depth)?,
                _ => Value::Array(list),
            }
        }
        Kind::SchemaOrBool(schema) => match bodies(bytes, 2)?.last() {
            Some(body) => read_body(Kind::Message(schema), body, depth)?,
            None => Value::Bool(parts(bytes)?.number != 0),
        },
        Kind::SchemaOrTexts(schema) => match bodies(bytes, 1)?.last() {
            Some(body) => read_body(Kind::Message(schema), body, depth)?,
            None => Value::Array(read_texts(bytes, 2)?),
        },
        // Numbers have no length before them; callers ask for the right kind of wire.
        Kind::Text | Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Float => Value::from(text(bytes)?),
    })
}

/// Any object within an object: as JSON, or with the envelope of protobuf around it.
fn read_raw(raw: &[u8], depth: usize) -> Result<Value, Broken> {
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    match super::envelope::read(raw) {
        None => Ok(serde_json::from_slice(raw)?),
        Some(unknown) => {
            let unknown = unknown?;
            let type_name = super::type_of(unknown.api_version, unknown.kind);
            let message = type_name.and_then(|name| crate::types::Types::all().message(name));
            let mut object = Object::new();
            if let Some(message) = message {
                read_message(message, unknown.raw, &mut object, depth)?;
            }
            unknown.name(&mut object);
            Ok(Value::Object(object))
        }
    }
}

/// The first fields of one of the small messages that are a single value in JSON.
#[derive(Default)]
pub(super) struct Parts<'a> {
    /// Field 1 as bytes.
    pub(super) first: &'a [u8],
    /// Field 1 as a number.
    number: u64,
    number_64: i64,
    /// Field 2 as a number.
    second_number: i32,
    /// Fields 2, 3 and 4 as bytes.
    pub(super) second: &'a [u8],
    third: &'a [u8],
}

/// Reads up to three fields of whatever kind.
#[expect(
    clippy::cast_possible_truncation,
    reason = "more bits than 32 are dropped, as protobuf has it"
)]
#[expect(
    clippy::cast_possible_wrap,
    reason = "negative numbers stand there as large ones"
)]
pub(super) fn parts(mut bytes: &[u8]) -> Result<Parts<'_>, Broken> {
    let mut parts = Parts::default();
    while !bytes.is_empty() {
        match decode_key(&mut bytes)? {
            (1, WireType::Varint) => {
                parts.number = decode_varint(&mut bytes)?;
                parts.number_64 = parts.number as i64;
            }
            (2, WireType::Varint) => parts.second_number = decode_varint(&mut bytes)? as i32,
            (1, WireType::LengthDelimited) => parts.first = body(&mut bytes)?,
            (2, WireType::LengthDelimited) => parts.second = body(&mut bytes)?,
            (3, WireType::LengthDelimited) => parts.third = body(&mut bytes)?,
            (number, wire) => skip_field(wire, number, &mut bytes, DecodeContext::default())?,
        }
    }
    Ok(parts)
}

/// All that stands in a field, in order.
fn bodies(mut bytes: &[u8], field: u32) -> Result<Vec<&[u8]>, Broken> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        match decode_key(&mut bytes)? {
            (number, WireType::LengthDelimited) if number == field => found.push(body(&mut bytes)?),
            (number, wire) => skip_field(wire, number, &mut bytes, DecodeContext::default())?,
        }
    }
    Ok(found)
}

fn read_texts(bytes: &[u8], field: u32) -> Result<Vec<Value>, Broken> {
    bodies(bytes, field)?
        .into_iter()
        .map(|body| text(body).map(Value::from))
        .collect()
}

/// Takes a length, and as many bytes.
fn body<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Broken> {
    let length = usize::try_from(decode_varint(bytes)?).map_err(|_| Broken::Short)?;
    let (body, rest) = bytes.split_at_checked(length).ok_or(Broken::Short)?;
    *bytes = rest;
    Ok(body)
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, Broken> {
    std::str::from_utf8(bytes).map_err(|_| Broken::Text)
}

/// Whether a plain value is the one that stands for none.
pub(super) fn is_zero(kind: Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Bool, Value::Bool(value)) => !value,
        (Kind::Int32 | Kind::Int64, Value::Number(number)) => number.as_i64() == Some(0),
        (Kind::Text | Kind::Bytes, Value::String(text)) => text.is_empty(),
        _ => false,
    }
}

/// A whole message.
pub(super) fn whole(message: &'static Message, bytes: &[u8]) -> Result<Object, Broken> {
    let mut object = Object::new();
    read_message(message, bytes, &mut object, DEPTH_MAX)?;
    Ok(object)
}
