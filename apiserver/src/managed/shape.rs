//! How server-side apply takes a value apart: by fields, by entries, or not at all.

use serde_json::Value;

use crate::types::{Field, Kind, ListKind, MapKind, Message, Shape};

/// The type of a value as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Type {
    /// Nothing is known: objects are taken apart by fields, lists are not.
    Any,
    /// An object of this type.
    Message(&'static Message),
    /// The value of a field.
    Field(&'static Field),
    /// An entry of the list or map in a field.
    Entry(&'static Field),
}

/// How a value is taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parts {
    /// It is one.
    Whole,
    /// By the fields of a struct, which has no being of its own beside them.
    Fields,
    /// By the keys of a map.
    Keys,
    /// By the entries of a list.
    Entries(ListKind),
}

impl Type {
    /// How a value of this type is taken apart. A value that is not of its type is one.
    pub(super) fn parts(self, value: &Value) -> Parts {
        let parts = match self {
            Type::Any => Parts::Keys,
            Type::Message(message) if message.atomic => Parts::Whole,
            Type::Message(_) => Parts::Fields,
            Type::Field(field) if field.atomic => Parts::Whole,
            Type::Field(field) => match field.shape {
                Shape::One => return of_kind(field.kind).map_or(Parts::Whole, |one| one.parts(value)),
                Shape::List(ListKind::Atomic) | Shape::Map(MapKind::Atomic) => Parts::Whole,
                Shape::List(kind) => Parts::Entries(kind),
                Shape::Map(MapKind::Granular) => Parts::Keys,
            },
            Type::Entry(field) => return of_kind(field.kind).map_or(Parts::Whole, |one| one.parts(value)),
        };
        let is_fit = match parts {
            Parts::Whole => true,
            Parts::Fields | Parts::Keys => value.is_object(),
            Parts::Entries(_) => value.is_array(),
        };
        if is_fit { parts } else { Parts::Whole }
    }

    /// The type of objects that it is, if its fields are known.
    pub(super) fn message(self) -> Option<&'static Message> {
        match self {
            Type::Any => None,
            Type::Message(message) => Some(message),
            Type::Field(field) if field.shape != Shape::One => None,
            Type::Field(field) | Type::Entry(field) => field.message(),
        }
    }

    /// The type of a field of it.
    pub(super) fn field(self, name: &str) -> Type {
        let message = match self {
            Type::Any => None,
            Type::Message(message) => Some(message),
            Type::Field(field) => match field.shape {
                Shape::One => field.message(),
                Shape::List(_) | Shape::Map(_) => return Type::Entry(field),
            },
            Type::Entry(field) => field.message(),
        };
        message
            .and_then(|message| message.field(name))
            .map_or(Type::Any, Type::Field)
    }

    /// The type of an entry of it.
    pub(super) fn entry(self) -> Type {
        match self {
            Type::Field(field) => Type::Entry(field),
            _ => Type::Any,
        }
    }
}

fn of_kind(kind: Kind) -> Option<Type> {
    match kind {
        Kind::Message(message) => Some(Type::Message(message)),
        _ => None,
    }
}
