//! JSON into messages on the wire. Fields that the type does not have are left out; a value that its field cannot hold is
//! refused with its path.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use prost::encoding::{WireType, encode_key};
use serde_json::Value;

use super::DEPTH_MAX;
use super::envelope::{with_length, write_bytes, write_varint};
use super::values::{floor_micro, floor_second, read_time};
use crate::object::Object;
use crate::types::{Field, Kind, Message, Shape};

/// A value that its field cannot hold.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub(super) struct Unfit {
    path: String,
    what: &'static str,
}

impl Unfit {
    fn new(what: &'static str) -> Self {
        Unfit {
            path: String::new(),
            what,
        }
    }

    /// The same one level up.
    fn within(mut self, field: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => field.to_owned(),
            path => format!("{field}.{path}"),
        };
        self
    }
}

/// Writes the fields of a type from an object.
pub(super) fn write_message(
    message: &'static Message,
    object: &Object,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| Unfit::new("nested too deep"))?;
    for field in message.fields() {
        match field.kind {
            Kind::Message(inlined) if field.inlined => {
                with_length(field.number, out, |out| {
                    write_message(inlined, object, depth, out)
                })?;
            }
            _ => match object.get(field.json) {
                None | Some(Value::Null) => {}
                Some(value) => {
                    write_field(field, value, depth, out).map_err(|unfit| unfit.within(field.json))?;
                }
            },
        }
    }
    Ok(())
}

/// The whole of an object.
pub(super) fn whole(message: &'static Message, object: &Object, out: &mut Vec<u8>) -> Result<(), Unfit> {
    write_message(message, object, DEPTH_MAX, out)
}

fn write_field(field: &Field, value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Unfit> {
    match (field.shape, value) {
        (Shape::One, value) => write_value(field.kind, field.number, value, depth, out),
        (Shape::List(_), Value::Array(entries)) => entries
            .iter()
            .try_for_each(|entry| write_value(field.kind, field.number, entry, depth, out)),
        (Shape::Map(_), Value::Object(entries)) => entries.iter().try_for_each(|(key, value)| {
            with_length(field.number, out, |out| {
                write_bytes(1, key.as_bytes(), out);
                write_value(field.kind, 2, value, depth, out).map_err(|unfit| unfit.within(key))
            })
        }),
        (Shape::List(_), _) => Err(Unfit::new("a list is needed")),
        (Shape::Map(_), _) => Err(Unfit::new("an object is needed")),
    }
}

/// Writes one value with its number. Null is the empty value of its kind, as in a list.
fn write_value(kind: Kind, number: u32, value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Unfit> {
    match (kind, value) {
        (Kind::Text, Value::String(text)) => write_bytes(number, text.as_bytes(), out),
        (Kind::Bytes, Value::String(text)) => {
            let bytes = read_base64(text).map_err(|_| Unfit::new("no base64"))?;
            write_bytes(number, &bytes, out);
        }
        (Kind::Bool, Value::Bool(value)) => write_varint(number, u64::from(*value), out),
        (Kind::Int32, Value::Number(_)) => {
            let value = int32(value).ok_or_else(|| Unfit::new("no number of 32 bits"))?;
            write_varint(number, i64::from(value).cast_unsigned(), out);
        }
        (Kind::Int64, Value::Number(value)) => {
            let value = value.as_i64().ok_or_else(|| Unfit::new("no number of 64 bits"))?;
            write_varint(number, value.cast_unsigned(), out);
        }
        (Kind::Float, Value::Number(value)) => {
            let value = value.as_f64().ok_or_else(|| Unfit::new("no number"))?;
            encode_key(number, WireType::SixtyFourBit, out);
            out.extend_from_slice(&value.to_le_bytes());
        }
        (Kind::Text | Kind::Bytes, Value::Null) => write_bytes(number, b"", out),
        (Kind::Bool | Kind::Int32 | Kind::Int64, Value::Null) => write_varint(number, 0, out),
        (Kind::Text | Kind::Bytes, _) => return Err(Unfit::new("a text is needed")),
        (Kind::Bool, _) => return Err(Unfit::new("true or false is needed")),
        (Kind::Int32 | Kind::Int64 | Kind::Float, _) => return Err(Unfit::new("a number is needed")),
        (kind, value) => {
            with_length(number, out, |out| write_body(kind, value, depth, out))?;
        }
    }
    Ok(())
}

/// Writes what stands behind a length.
fn write_body(kind: Kind, value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Unfit> {
    match (kind, value) {
        (Kind::Raw | Kind::FieldsV1 | Kind::Json, Value::Null) => {}
        (Kind::Raw | Kind::FieldsV1 | Kind::Json, value) => {
            let json = serde_json::to_vec(value).map_err(|_| Unfit::new("no JSON"))?;
            write_bytes(1, &json, out);
        }
        (_, Value::Null) => {}
        (Kind::Message(message), Value::Object(object)) => write_message(message, object, depth, out)?,
        (Kind::Quantity, Value::String(text)) => write_bytes(1, text.as_bytes(), out),
        (Kind::Quantity, Value::Number(number)) => write_bytes(1, number.to_string().as_bytes(), out),
        (Kind::IntOrString, value) => write_int_or_string(value, out)?,
        (Kind::Time, Value::String(text)) => {
            let time = read_time(text).ok_or_else(|| Unfit::new("no time"))?;
            write_varint(1, floor_second(time).cast_unsigned(), out);
            write_varint(2, 0, out);
        }
        (Kind::MicroTime, Value::String(text)) => {
            let time = read_time(text).ok_or_else(|| Unfit::new("no time"))?;
            let (seconds, nanos) = floor_micro(time);
            write_varint(1, seconds.cast_unsigned(), out);
            write_varint(2, i64::from(nanos).cast_unsigned(), out);
        }
        (Kind::Texts, Value::Array(texts)) => write_each(Kind::Text, 1, texts, depth, out)?,
        (Kind::SchemaOrList(schema), Value::Array(list)) => {
            write_each(Kind::Message(schema), 2, list, depth, out)?;
        }
        (Kind::SchemaOrTexts(_), Value::Array(texts)) => write_each(Kind::Text, 2, texts, depth, out)?,
        (Kind::SchemaOrBool(_), Value::Bool(allows)) => write_varint(1, u64::from(*allows), out),
        (Kind::SchemaOrBool(schema), value @ Value::Object(_)) => {
            write_varint(1, 1, out);
            write_value(Kind::Message(schema), 2, value, depth, out)?;
        }
        (Kind::SchemaOrList(schema) | Kind::SchemaOrTexts(schema), value @ Value::Object(_)) => {
            write_value(Kind::Message(schema), 1, value, depth, out)?;
        }
        _ => return Err(Unfit::new("a value of another kind is needed")),
    }
    Ok(())
}

fn write_each(
    kind: Kind,
    number: u32,
    entries: &[Value],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    entries
        .iter()
        .try_for_each(|entry| write_value(kind, number, entry, depth, out))
}

fn write_int_or_string(value: &Value, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let (is_text, number, text) = match value {
        Value::String(text) => (1, 0, text.as_str()),
        value => (
            0,
            int32(value).ok_or_else(|| Unfit::new("a number or text is needed"))?,
            "",
        ),
    };
    write_varint(1, is_text, out);
    write_varint(2, i64::from(number).cast_unsigned(), out);
    write_bytes(3, text.as_bytes(), out);
    Ok(())
}

fn int32(value: &Value) -> Option<i32> {
    value.as_i64().and_then(|value| i32::try_from(value).ok())
}

/// Base64 as Go reads it: with its padding, lines of any length, and without caring for the last bits.
pub(super) fn read_base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    if text.contains(['\n', '\r']) {
        return BASE64.decode(text.replace(['\n', '\r'], ""));
    }
    BASE64.decode(text)
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);
