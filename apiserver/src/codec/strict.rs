//! What a body says that its type does not know, or says twice: `fieldValidation=Strict` refuses it, `Warn` tells of it.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::object::Object;
use crate::types::{Field, Kind, Message, Shape, Types};

/// The findings in the words of a real API server, in the order of the body: `unknown field "spec.foo"`, `duplicate field
/// "spec.replicas"`. `raw` is the body; where it is no JSON, `object` is looked at instead, which has nothing twice.
#[must_use]
pub fn strict(type_name: &str, raw: &[u8], object: &Object) -> Vec<String> {
    let Some(message) = Types::all().message(type_name) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut path = String::new();
    let walk = Walk {
        spot: Spot::Message(message),
        path: &mut path,
        found: &mut found,
    };
    // The body was read before, so that no error is new.
    if raw.trim_ascii_start().first() == Some(&b'{') {
        let mut json = serde_json::Deserializer::from_slice(raw);
        if walk.deserialize(&mut json).is_ok() {
            return found;
        }
        (found, path) = (Vec::new(), String::new());
        let walk = Walk {
            spot: Spot::Message(message),
            path: &mut path,
            found: &mut found,
        };
        let _ = walk.deserialize(object);
    } else {
        let _ = walk.deserialize(object);
    }
    found
}

/// What the table knows about a place.
#[derive(Clone, Copy)]
enum Spot {
    Message(&'static Message),
    List(Kind),
    Map(Kind),
    /// Nothing: anything may stand there.
    Any,
}

impl Spot {
    fn of_field(field: &Field) -> Spot {
        match field.shape {
            Shape::One => Spot::of_kind(field.kind),
            Shape::List(_) => Spot::List(field.kind),
            Shape::Map(_) => Spot::Map(field.kind),
        }
    }

    fn of_kind(kind: Kind) -> Spot {
        match kind {
            Kind::Message(message)
            | Kind::SchemaOrList(message)
            | Kind::SchemaOrBool(message)
            | Kind::SchemaOrTexts(message) => Spot::Message(message),
            _ => Spot::Any,
        }
    }

    /// What stands in a list here: lists may stand where a schema could.
    fn entry(self) -> Spot {
        match self {
            Spot::List(kind) => Spot::of_kind(kind),
            Spot::Message(message) => Spot::Message(message),
            Spot::Map(_) | Spot::Any => Spot::Any,
        }
    }
}

/// The walk through a body.
struct Walk<'a> {
    spot: Spot,
    path: &'a mut String,
    found: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn tell(&mut self, what: &str, key: &str) {
        if self.found.len() >= FINDINGS_MAX {
            return;
        }
        let dot = if self.path.is_empty() { "" } else { "." };
        let told = format!("{what} field \"{}{dot}{key}\"", self.path);
        if !self.found.contains(&told) {
            self.found.push(told);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.spot {
            Spot::Any => deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let spot = match self.spot {
                Spot::Message(message) => match message.field(&key) {
                    Some(field) => Some(Spot::of_field(field)),
                    None if message.is_object && matches!(key.as_str(), "apiVersion" | "kind") => {
                        Some(Spot::Any)
                    }
                    None => None,
                },
                Spot::Map(kind) => Some(Spot::of_kind(kind)),
                Spot::List(_) | Spot::Any => Some(Spot::Any),
            };
            if spot.is_none() {
                self.tell("unknown", &key);
            } else if seen.contains(&key) {
                self.tell("duplicate", &key);
            }
            let length = self.path.len();
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key);
            map.next_value_seed(Walk {
                spot: spot.unwrap_or(Spot::Any),
                path: &mut *self.path,
                found: &mut *self.found,
            })?;
            self.path.truncate(length);
            seen.insert(key);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let spot = self.spot.entry();
        let length = self.path.len();
        for at in 0_usize.. {
            self.path.push_str(&format!("[{at}]"));
            let entry = Walk {
                spot,
                path: &mut *self.path,
                found: &mut *self.found,
            };
            if list.next_element_seed(entry)?.is_none() {
                break;
            }
            self.path.truncate(length);
        }
        self.path.truncate(length);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// As many findings are told, as a real API server has it.
const FINDINGS_MAX: usize = 100;
