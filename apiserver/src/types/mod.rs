//! The shapes of all objects: the fields of each type, their numbers in protobuf, and how lists and maps of them merge.
//! Facts about Kubernetes 1.36, kept as data: `fields.txt` and `merge.txt`, which `examples/types.rs` writes from
//! the sources of Kubernetes' API (its header says how to run it). The table is read once, when it is first asked for.
//!
//! `fields.txt`: a line `message NAME` opens a type by its OpenAPI name, `message NAME object` one that has
//! `apiVersion` and `kind` too; a line for each of its fields follows: `NUMBER JSON-NAME TYPE FLAG...`.
//! - TYPE is a word of [`Kind`], or `.Name` for a type beside this one, or a whole OpenAPI name; `[]` before it makes a
//!   list of it, `{}` a map from texts.
//! - `required`: an object without it is refused, or is given an empty value.
//! - `zero`: 0, `false` or an empty text there differs from nothing, or is written all the same.
//! - `inline`: a message on the wire whose fields stand among those of its parent in JSON; the name is none of JSON's.
//!
//! `merge.txt`: how server-side apply and strategic merge patches take lists, maps and structs apart. A line
//! `NAME FIELD RULE...` for a field and `NAME - atomic` for a struct that is only ever replaced whole.
//! - `list=atomic`, `list=set`, `list=KEY,KEY`: server-side apply; a list without such a rule is atomic.
//! - `map=atomic`, `struct=atomic`: a map or message that server-side apply replaces whole.
//! - `merge`: a strategic merge patch adds to a list of plain values; `merge=KEY`: it merges a list of objects by that key.
//! - `retain`: `$retainKeys` is understood there; `replace`: the patch replaces the whole.
//!
//! `always.txt`: which fields stand in an object even if nothing is said of them. A line `NAME FIELD...` for a type; the field
//! is then 0, `false`, an empty text or an empty object, and a list, map or time is null; behind `!` others are null, too.
//! It was read off the Go types of `k8s.io/api` 0.36 (what their JSON does not leave out), which no crate tells.

pub(crate) mod every;
mod load;

use std::collections::HashMap;
use std::fmt;
use std::sync::{LazyLock, OnceLock};

/// The table of types.
#[derive(Debug)]
pub struct Types {
    by_name: HashMap<&'static str, &'static Message>,
}

impl Types {
    /// The one table there is.
    #[must_use]
    pub fn all() -> &'static Types {
        static ALL: LazyLock<Types> = LazyLock::new(|| {
            load::read(FIELDS, MERGE, ALWAYS).expect("the table is part of this program, and a test reads it")
        });
        &ALL
    }

    /// A type by its OpenAPI name, such as `io.k8s.api.core.v1.Pod`.
    #[must_use]
    pub fn message(&self, type_name: &str) -> Option<&'static Message> {
        self.by_name.get(type_name).copied()
    }

    /// All types, in no order.
    pub fn messages(&self) -> impl Iterator<Item = &'static Message> {
        self.by_name.values().copied()
    }
}

/// A type of objects or of parts of them. `apiVersion` and `kind` of whole objects are none of its
/// fields: on the wire they stand outside.
pub struct Message {
    /// Its OpenAPI name.
    pub name: &'static str,
    /// Whether server-side apply only ever replaces it whole.
    pub atomic: bool,
    /// Whether `apiVersion` and `kind` stand in its JSON as well.
    pub is_object: bool,
    fields: OnceLock<Fields>,
}

#[derive(Default)]
struct Fields {
    own: &'static [Field],
    /// What stands in its JSON, inlined fields too, by name.
    json: Vec<&'static Field>,
    /// Positions in `own` by number less one; wire numbers are small.
    numbers: Vec<u8>,
}

impl Message {
    /// The field of its JSON by this name, also one of an inlined message.
    #[must_use]
    pub fn field(&self, json: &str) -> Option<&'static Field> {
        let fields = &self.fields.get()?.json;
        let found = fields.binary_search_by(|field| field.json.cmp(json)).ok()?;
        fields.get(found).copied()
    }

    /// Its own field with this number on the wire.
    #[must_use]
    pub fn by_number(&self, number: u32) -> Option<&'static Field> {
        let fields = self.fields.get()?;
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        fields.own.get(usize::from(*fields.numbers.get(place)?))
    }

    /// Its own fields as on the wire, by number: an inlined message is one field.
    #[must_use]
    pub fn fields(&self) -> &'static [Field] {
        self.fields.get().map_or(&[], |fields| fields.own)
    }

    /// The fields of its JSON, inlined ones too, by name.
    #[must_use]
    pub fn json_fields(&self) -> &[&'static Field] {
        self.fields.get().map_or(&[], |fields| &fields.json)
    }

    /// The last part of its name, as `Pod`.
    #[must_use]
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

/// Types refer to each other in circles, so only the name is shown.
impl fmt::Debug for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// A field of a type.
#[derive(Debug)]
pub struct Field {
    /// Its name in JSON; of an inlined message only a name to tell it by.
    pub json: &'static str,
    /// Its number on the wire.
    pub number: u32,
    /// What it holds, or what each entry of it holds.
    pub kind: Kind,
    /// Whether there is one of it, or a list or map.
    pub shape: Shape,
    /// Whether it is a message on the wire whose fields stand in the parent's JSON.
    pub inlined: bool,
    /// Whether an object must have it.
    pub required: bool,
    /// Whether 0, `false` or an empty text is something else than nothing, or written all the same.
    pub zero: bool,
    /// Whether server-side apply replaces it whole although its type could be merged.
    pub atomic: bool,
    /// Whether it stands in an object even if nothing is said of it, and how.
    pub always: Option<Always>,
    patch: Patch,
}

/// How a field stands in an object that says nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Always {
    /// As the empty value of its kind; an object with what always stands in it.
    Empty,
    /// As null.
    Null,
}

/// How a strategic merge patch takes the field.
#[derive(Clone, Copy, Default, Debug)]
struct Patch {
    merge_key: Option<&'static str>,
    merges_primitives: bool,
    retain_keys: bool,
    replaces: bool,
}

impl Field {
    /// By which field of its entries a strategic merge patch merges this list.
    #[must_use]
    pub fn patch_merge_key(&self) -> Option<&'static str> {
        self.patch.merge_key
    }

    /// Whether a strategic merge patch adds to this list of plain values.
    #[must_use]
    pub fn patch_merges_primitives(&self) -> bool {
        self.patch.merges_primitives
    }

    /// Whether a strategic merge patch may say with `$retainKeys` which fields stay.
    #[must_use]
    pub fn patch_retains_keys(&self) -> bool {
        self.patch.retain_keys
    }

    /// Whether a strategic merge patch replaces the whole.
    #[must_use]
    pub fn patch_replaces(&self) -> bool {
        self.patch.replaces
    }

    /// The type of what it holds, if that is one with fields.
    #[must_use]
    pub fn message(&self) -> Option<&'static Message> {
        match self.kind {
            Kind::Message(message) => Some(message),
            _ => None,
        }
    }
}

/// What a field holds, and with that how it looks in JSON and on the wire.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A text.
    Text,
    /// Bytes; base64 in JSON.
    Bytes,
    /// `true` or `false`.
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A number with a fraction.
    Float,
    /// An object of this type.
    Message(&'static Message),
    /// An amount such as `100m` or `2Gi`; in JSON a text, numbers are taken too.
    Quantity,
    /// A number or a text.
    IntOrString,
    /// A point in time, to the second; RFC 3339 in JSON.
    Time,
    /// A point in time, to the microsecond; RFC 3339 in JSON.
    MicroTime,
    /// Any JSON object; on the wire bytes that hold it.
    Raw,
    /// Sets of fields that somebody manages: JSON, on the wire in bytes.
    FieldsV1,
    /// Any JSON; on the wire in bytes.
    Json,
    /// A list of texts that is a message of its own on the wire.
    Texts,
    /// A schema (this type) or a list of schemas.
    SchemaOrList(&'static Message),
    /// A schema (this type), or whether anything is allowed.
    SchemaOrBool(&'static Message),
    /// A schema (this type) or a list of texts.
    SchemaOrTexts(&'static Message),
}

/// How many of it there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// One.
    One,
    /// A list.
    List(ListKind),
    /// A map from texts.
    Map(MapKind),
}

/// How server-side apply takes a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListKind {
    /// As one value.
    Atomic,
    /// As a set of plain values.
    Set,
    /// As a map, by some fields of its entries.
    Map {
        /// Those fields.
        keys: &'static [&'static str],
    },
}

/// How server-side apply takes a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// Entry by entry.
    Granular,
    /// As one value.
    Atomic,
}

const FIELDS: &str = include_str!("fields.txt");
const MERGE: &str = include_str!("merge.txt");
const ALWAYS: &str = include_str!("always.txt");

#[cfg(test)]
mod tests;
