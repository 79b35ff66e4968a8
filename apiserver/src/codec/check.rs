//! Whether what an object says fits its type, and the one form in which the API keeps it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::read::is_zero;
use super::values::{
    Finest, canonical_quantity, floor_micro, floor_second, micro_time_text, read_time, time_text,
};
use super::write::read_base64;
use super::{DEPTH_MAX, cannot_be_handled, message};
use crate::object::Object;
use crate::status::Status;
use crate::types::{Always, Field, Kind, Message, Shape};

/// Refuses an object with a value that its field cannot hold, in the words of Go's JSON. Fields that its type does not know
/// are none of it, and neither are types that are not known.
pub fn check_types(type_name: &str, object: &Object) -> Result<(), Status> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    match type_error(type_name, object, Words::Json) {
        None => Ok(()),
        Some(error) => Err(cannot_be_handled(
            text("apiVersion"),
            text("kind"),
            type_name,
            &error,
        )),
    }
}

/// In whose words it is told that a value does not fit its field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Words {
    /// Those of Go's JSON.
    Json,
    /// Those of the converter that a strategic merge patch goes through.
    Converter,
}

/// The first value of an object that its field cannot hold, if there is one.
#[must_use]
pub fn type_error(type_name: &str, object: &Object, words: Words) -> Option<String> {
    let check = Check {
        path: Vec::new(),
        words,
    };
    message(type_name).and_then(|message| check.of(message, object).err())
}

/// Brings an object into the form in which a typed server has it after reading: without fields that its type does not know,
/// without nulls and empty values that mean nothing, amounts and times in their one form. It passed [`check_types`].
pub fn conform(type_name: &str, object: &mut Object) {
    if let Some(message) = message(type_name) {
        conform_message(message, object);
    }
}

fn conform_message(message: &'static Message, object: &mut Object) {
    object.retain(|key, value| match message.field(key) {
        Some(field) => conform_field(field, value),
        None => message.is_object && matches!(key.as_str(), "apiVersion" | "kind"),
    });
}

/// Whether anything is left of it.
fn conform_field(field: &Field, value: &mut Value) -> bool {
    match (field.shape, value) {
        (_, Value::Null) => false,
        (Shape::List(_), Value::Array(entries)) => {
            entries
                .iter_mut()
                .for_each(|entry| conform_value(field.kind, entry));
            field.required || !entries.is_empty()
        }
        (Shape::Map(_), Value::Object(entries)) => {
            for value in entries.values_mut() {
                conform_value(field.kind, value);
                // Amounts of resources are rounded, too.
                if let (Kind::Quantity, Value::String(text)) = (field.kind, &*value)
                    && let Some(rounded) = canonical_quantity(text, Finest::Thousandth)
                {
                    *value = Value::String(rounded);
                }
            }
            field.required || !entries.is_empty()
        }
        (_, value) => {
            conform_value(field.kind, value);
            field.zero || !is_zero(field.kind, value)
        }
    }
}

fn conform_value(kind: Kind, value: &mut Value) {
    let text = match (kind, &mut *value) {
        (
            Kind::Message(message)
            | Kind::SchemaOrList(message)
            | Kind::SchemaOrBool(message)
            | Kind::SchemaOrTexts(message),
            Value::Object(object),
        ) => {
            conform_message(message, object);
            return;
        }
        (Kind::SchemaOrList(message), Value::Array(entries)) => {
            entries
                .iter_mut()
                .for_each(|entry| conform_value(Kind::Message(message), entry));
            return;
        }
        (Kind::Quantity, Value::String(text)) => canonical_quantity(text, Finest::Billionth),
        (Kind::Quantity, Value::Number(number)) => canonical_quantity(&number.to_string(), Finest::Billionth),
        (Kind::Time, Value::String(text)) => read_time(text).and_then(|time| time_text(floor_second(time))),
        (Kind::MicroTime, Value::String(text)) => read_time(text).and_then(|time| {
            let (seconds, nanos) = floor_micro(time);
            micro_time_text(seconds, nanos)
        }),
        (Kind::Bytes, Value::String(text)) if text.contains(['\n', '\r']) => {
            read_base64(text).ok().map(|bytes| BASE64.encode(bytes))
        }
        (Kind::Quantity, Value::Null) => Some("0".to_owned()),
        // Elsewhere null is the empty value.
        (Kind::Text, Value::Null) => Some(String::new()),
        _ => None,
    };
    if let Some(text) = text {
        *value = Value::String(text);
    }
}

/// Puts into an object what always stands in one of its type: a typed server writes fields that must be there, and parts
/// that are no pointers, even if they are empty.
pub fn fill(type_name: &str, object: &mut Object) {
    if let Some(message) = message(type_name) {
        fill_message(message, object);
    }
}

pub(super) fn fill_message(message: &'static Message, object: &mut Object) {
    for field in message.json_fields() {
        match (object.get_mut(field.json), field.always) {
            (None | Some(Value::Null), Some(always)) => {
                object.insert(field.json.to_owned(), empty(field, always));
            }
            (Some(value), _) => fill_field(field, value),
            (None, None) => {}
        }
    }
}

fn fill_field(field: &Field, value: &mut Value) {
    match (field.shape, value) {
        (Shape::One, value) => fill_value(field.kind, value),
        (Shape::List(_), Value::Array(entries)) => {
            entries.iter_mut().for_each(|entry| fill_value(field.kind, entry));
        }
        (Shape::Map(_), Value::Object(entries)) => {
            entries
                .values_mut()
                .for_each(|entry| fill_value(field.kind, entry));
        }
        _ => {}
    }
}

fn fill_value(kind: Kind, value: &mut Value) {
    if let (Kind::Message(message), Value::Object(object)) = (kind, value) {
        fill_message(message, object);
    }
}

/// What stands in a field of which nothing is said.
fn empty(field: &Field, always: Always) -> Value {
    if always == Always::Null {
        return Value::Null;
    }
    match field.kind {
        Kind::Message(message) => {
            let mut object = Object::new();
            fill_message(message, &mut object);
            Value::Object(object)
        }
        Kind::Bool => Value::Bool(false),
        Kind::Int32 | Kind::Int64 | Kind::Float | Kind::IntOrString => Value::from(0),
        Kind::Quantity => Value::from("0"),
        _ => Value::from(""),
    }
}

/// The walk through an object, with the names of the fields that lead to where it is.
struct Check {
    path: Vec<&'static str>,
    words: Words,
}

impl Check {
    fn of(mut self, message: &'static Message, object: &Object) -> Result<(), String> {
        self.message(message, object)
    }

    fn message(&mut self, message: &'static Message, object: &Object) -> Result<(), String> {
        if self.path.len() > DEPTH_MAX {
            return Err("json: exceeded max depth".to_owned());
        }
        for (key, value) in object {
            match message.field(key) {
                Some(field) => {
                    self.path.push(field.json);
                    self.field(message, field, value)?;
                    self.path.pop();
                }
                None if message.is_object
                    && matches!(key.as_str(), "apiVersion" | "kind")
                    && !(value.is_string() || value.is_null()) =>
                {
                    let (what, name) = (what(value, "string"), message.short_name());
                    return Err(format!(
                        "json: cannot unmarshal {what} into Go struct field {name}.{key} of type string"
                    ));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn field(&mut self, parent: &'static Message, field: &Field, value: &Value) -> Result<(), String> {
        match (field.shape, value) {
            (_, Value::Null) => Ok(()),
            (Shape::One, value) => self.value(parent, field.kind, value),
            (Shape::List(_), Value::Array(entries)) => entries
                .iter()
                .try_for_each(|entry| self.value(parent, field.kind, entry)),
            (Shape::Map(_), Value::Object(entries)) => entries
                .values()
                .try_for_each(|entry| self.value(parent, field.kind, entry)),
            (Shape::List(_), value) => Err(self.wrong(parent, value, &format!("[]{}", go_type(field.kind)))),
            (Shape::Map(_), value) => {
                Err(self.wrong(parent, value, &format!("map[string]{}", go_type(field.kind))))
            }
        }
    }

    fn value(&mut self, parent: &'static Message, kind: Kind, value: &Value) -> Result<(), String> {
        match (kind, value) {
            (_, Value::Null)
            | (Kind::Raw | Kind::FieldsV1 | Kind::Json, _)
            | (Kind::Text, Value::String(_))
            | (Kind::Bool | Kind::SchemaOrBool(_), Value::Bool(_))
            | (Kind::Float, Value::Number(_))
            | (Kind::IntOrString, Value::String(_)) => Ok(()),
            (Kind::Int64, Value::Number(number)) if number.is_i64() => Ok(()),
            (Kind::Int32 | Kind::IntOrString, Value::Number(number))
                if number
                    .as_i64()
                    .is_some_and(|number| i32::try_from(number).is_ok()) =>
            {
                Ok(())
            }
            (
                Kind::Message(message)
                | Kind::SchemaOrList(message)
                | Kind::SchemaOrBool(message)
                | Kind::SchemaOrTexts(message),
                Value::Object(object),
            ) => self.message(message, object),
            (Kind::SchemaOrList(message), Value::Array(entries)) => entries
                .iter()
                .try_for_each(|entry| self.value(parent, Kind::Message(message), entry)),
            (Kind::Texts | Kind::SchemaOrTexts(_), Value::Array(entries)) => entries
                .iter()
                .try_for_each(|entry| self.value(parent, Kind::Text, entry)),
            (Kind::Bytes, Value::String(text)) => match read_base64(text) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("illegal base64 data at input byte {}", at(&error))),
            },
            (Kind::Quantity, Value::String(_) | Value::Number(_)) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                canonical_quantity(&text, Finest::Billionth)
                    .map(|_| ())
                    .ok_or_else(|| QUANTITY.to_owned())
            }
            (Kind::Quantity, _) => Err(QUANTITY.to_owned()),
            (Kind::Time | Kind::MicroTime, Value::String(text)) => match read_time(text) {
                Some(_) => Ok(()),
                None => Err(format!(
                    "parsing time {value} as \"{}\": cannot parse {value} as \"2006\"",
                    layout(kind)
                )),
            },
            (kind, value) => Err(self.wrong(parent, value, &go_type(kind))),
        }
    }

    fn wrong(&self, parent: &Message, value: &Value, go_type: &str) -> String {
        if self.words == Words::Converter {
            return unconvertible(value, go_type);
        }
        let (what, path) = (what(value, go_type), self.path.join("."));
        let parent = parent.short_name();
        format!("json: cannot unmarshal {what} into Go struct field {parent}.{path} of type {go_type}")
    }
}

/// That a value cannot become one of a type, in the words of the converter.
fn unconvertible(value: &Value, go_type: &str) -> String {
    let is = match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    };
    match go_type {
        _ if go_type.starts_with("[]") => format!("cannot restore slice from {is}"),
        _ if go_type.starts_with("map[") => format!("cannot restore map from {is}"),
        _ if go_type.contains('.') => format!("cannot restore struct from: {is}"),
        "string" => format!("cannot convert {is} to string"),
        _ if is == "string" => format!("unrecognized type: {go_type}"),
        _ => format!("cannot convert {is} to {go_type}"),
    }
}

/// What a value is, in Go's words. Where another number is wanted, the number is shown.
pub(super) fn what(value: &Value, wanted: &str) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if wanted.starts_with("int") => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// The name of a type in Go.
fn go_type(kind: Kind) -> String {
    let name = match kind {
        Kind::Text | Kind::Time | Kind::MicroTime => "string",
        Kind::Bytes => "[]uint8",
        Kind::Bool => "bool",
        Kind::Int32 | Kind::IntOrString => "int32",
        Kind::Int64 => "int64",
        Kind::Float => "float64",
        Kind::Quantity => "resource.Quantity",
        Kind::Raw => "runtime.RawExtension",
        Kind::FieldsV1 => "v1.FieldsV1",
        Kind::Json => "v1.JSON",
        Kind::Texts => "v1.ExtraValue",
        Kind::Message(message)
        | Kind::SchemaOrList(message)
        | Kind::SchemaOrBool(message)
        | Kind::SchemaOrTexts(message) => {
            let mut parts = message.name.rsplit('.');
            let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            return format!("{package}.{name}");
        }
    };
    name.to_owned()
}

fn layout(kind: Kind) -> &'static str {
    match kind {
        Kind::MicroTime => "2006-01-02T15:04:05.000000Z07:00",
        _ => "2006-01-02T15:04:05Z07:00",
    }
}

/// Where base64 is none.
fn at(error: &base64::DecodeError) -> usize {
    match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        base64::DecodeError::InvalidLength(length) => *length,
        base64::DecodeError::InvalidPadding => 0,
    }
}

const QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
