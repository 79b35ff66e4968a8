//! Reads the table of types. What it makes lives as long as the program: types refer to each other without counting.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::{Always, Field, Fields, Kind, ListKind, MapKind, Message, Patch, Shape, Types};

/// The table, from its three files, or in which line there is something wrong.
pub(super) fn read(fields: &'static str, merge: &'static str, always: &'static str) -> Result<Types, String> {
    let rules = Rules::read(merge, always)?;
    let names = lines(fields).filter_map(|(_, line)| line.strip_prefix("message "));
    let messages: Vec<Message> = names
        .map(|line| {
            let name = line.strip_suffix(" object").unwrap_or(line);
            Message {
                name,
                atomic: rules.by_field.contains_key(&(name, WHOLE)),
                is_object: name.len() < line.len(),
                fields: OnceLock::new(),
            }
        })
        .collect();
    let messages: &'static [Message] = Box::leak(messages.into_boxed_slice());
    let by_name: HashMap<&'static str, &'static Message> =
        messages.iter().map(|message| (message.name, message)).collect();

    if by_name.len() < messages.len() {
        return Err("a type is there twice".to_owned());
    }

    let mut remaining = messages.iter();
    let mut current: Option<(&'static Message, Vec<Field>)> = None;
    let mut own = Vec::with_capacity(messages.len());
    for (number, line) in lines(fields) {
        if line.starts_with("message ") {
            own.extend(current.take());
            current = remaining.next().map(|message| (message, Vec::new()));
        } else {
            let (message, fields) = current.as_mut().ok_or("a field comes before the first message")?;
            let field = read_field(line, message, &by_name, &rules);
            fields.push(field.ok_or_else(|| format!("fields, line {number}: {line}"))?);
        }
    }
    own.extend(current);
    let own: Vec<(&'static Message, &'static [Field])> = own
        .into_iter()
        .map(|(message, fields)| (message, &*Box::leak(fields.into_boxed_slice())))
        .collect();
    let fields_of: HashMap<&str, &'static [Field]> = own
        .iter()
        .map(|(message, fields)| (message.name, *fields))
        .collect();
    for (message, own) in &own {
        let fields = Fields {
            own,
            json: json_fields(own, &fields_of),
            numbers: numbers(own).ok_or_else(|| format!("the numbers of {}", message.name))?,
        };
        message
            .fields
            .set(fields)
            .map_err(|_| format!("{} has its fields already", message.name))?;
    }
    Ok(Types { by_name })
}

/// Lines with something in them, and their numbers.
fn lines(text: &'static str) -> impl Iterator<Item = (usize, &'static str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn read_field(
    line: &'static str,
    message: &Message,
    types: &HashMap<&'static str, &'static Message>,
    rules: &Rules,
) -> Option<Field> {
    let mut words = line.split(' ');
    let number = words
        .next()?
        .parse()
        .ok()
        .filter(|number| (1..=NUMBER_MAX).contains(number))?;
    let json = words.next()?;
    let rule = rules
        .by_field
        .get(&(message.name, json))
        .copied()
        .unwrap_or_default();
    let kind = words.next()?;
    let (shape, kind) = match (kind.strip_prefix("[]"), kind.strip_prefix("{}")) {
        (Some(kind), _) => (Shape::List(rule.list.unwrap_or(ListKind::Atomic)), kind),
        (_, Some(kind)) if rule.atomic => (Shape::Map(MapKind::Atomic), kind),
        (_, Some(kind)) => (Shape::Map(MapKind::Granular), kind),
        (None, None) => (Shape::One, kind),
    };
    let mut field = Field {
        json,
        number,
        kind: read_kind(kind, message.name, types)?,
        shape,
        inlined: false,
        required: false,
        zero: false,
        atomic: rule.atomic,
        always: None,
        patch: rule.patch,
    };
    field.always = always(&field, rules.always.get(&(message.name, json)).copied());
    for flag in words {
        match flag {
            "required" => field.required = true,
            "zero" => field.zero = true,
            "inline" => field.inlined = true,
            _ => return None,
        }
    }
    Some(field)
}

/// How a field stands in an object that says nothing of it: what is no single value is null anyway.
fn always(field: &Field, is_null: Option<bool>) -> Option<Always> {
    let is_single = field.shape == Shape::One
        && !matches!(
            field.kind,
            Kind::Bytes | Kind::Time | Kind::MicroTime | Kind::Raw | Kind::FieldsV1 | Kind::Json
        );
    Some(match is_null? {
        false if is_single => Always::Empty,
        _ => Always::Null,
    })
}

fn read_kind(word: &str, within: &str, types: &HashMap<&'static str, &'static Message>) -> Option<Kind> {
    let schema = || types.get(SCHEMA).copied();
    Some(match word {
        "text" => Kind::Text,
        "bytes" => Kind::Bytes,
        "bool" => Kind::Bool,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "float" => Kind::Float,
        "quantity" => Kind::Quantity,
        "int-or-string" => Kind::IntOrString,
        "time" => Kind::Time,
        "micro-time" => Kind::MicroTime,
        "raw" => Kind::Raw,
        "fields-v1" => Kind::FieldsV1,
        "json" => Kind::Json,
        "texts" => Kind::Texts,
        "schema-or-list" => Kind::SchemaOrList(schema()?),
        "schema-or-bool" => Kind::SchemaOrBool(schema()?),
        "schema-or-texts" => Kind::SchemaOrTexts(schema()?),
        name => match name.strip_prefix('.') {
            None => Kind::Message(types.get(name).copied()?),
            Some(short) => {
                let (package, _) = within.rsplit_once('.')?;
                Kind::Message(types.get(format!("{package}.{short}").as_str()).copied()?)
            }
        },
    })
}

/// The fields of the JSON by name: those of inlined messages in place of these.
fn json_fields(own: &'static [Field], fields_of: &HashMap<&str, &'static [Field]>) -> Vec<&'static Field> {
    let mut found = Vec::with_capacity(own.len());
    for field in own {
        match field.message().filter(|_| field.inlined) {
            None => found.push(field),
            Some(inlined) => {
                let inlined = fields_of.get(inlined.name).copied().unwrap_or_default();
                found.extend(json_fields(inlined, fields_of));
            }
        }
    }
    found.sort_by_key(|field| field.json);
    found
}

/// Where the field with a number stands; fails when there are more fields than a byte counts.
fn numbers(own: &[Field]) -> Option<Vec<u8>> {
    let last = own.iter().map(|field| field.number).max().unwrap_or(0);
    let mut numbers = vec![u8::MAX; usize::try_from(last).ok()?];
    for (at, field) in own.iter().enumerate() {
        let at = u8::try_from(at).ok().filter(|at| *at != u8::MAX)?;
        *numbers.get_mut(usize::try_from(field.number).ok()?.checked_sub(1)?)? = at;
    }
    Some(numbers)
}

/// What `merge.txt` and `always.txt` say, by type and field.
struct Rules {
    by_field: HashMap<(&'static str, &'static str), Rule>,
    /// Whether a field that is always there is null.
    always: HashMap<(&'static str, &'static str), bool>,
}

#[derive(Clone, Copy, Default)]
struct Rule {
    list: Option<ListKind>,
    atomic: bool,
    patch: Patch,
}

impl Rules {
    fn read(merge: &'static str, always: &'static str) -> Result<Rules, String> {
        let mut by_field = HashMap::new();
        for (number, line) in lines(merge) {
            let mut words = line.split(' ');
            let read = match (words.next(), words.next()) {
                (Some(name), Some(field)) => read_rule(words).map(|rule| ((name, field), rule)),
                _ => None,
            };
            let (place, rule) = read.ok_or_else(|| format!("merge, line {number}: {line}"))?;
            if by_field.insert(place, rule).is_some() {
                return Err(format!("merge, line {number}: once more {line}"));
            }
        }
        let mut by_name = HashMap::new();
        for (_, line) in lines(always) {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            for field in words {
                let (field, is_null) = match field.strip_prefix('!') {
                    Some(field) => (field, true),
                    None => (field, false),
                };
                by_name.insert((name, field), is_null);
            }
        }
        Ok(Rules {
            by_field,
            always: by_name,
        })
    }
}

fn read_rule(words: impl Iterator<Item = &'static str>) -> Option<Rule> {
    let mut rule = Rule::default();
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("list", "atomic") => rule.list = Some(ListKind::Atomic),
            ("list", "set") => rule.list = Some(ListKind::Set),
            ("list", keys) if !keys.is_empty() => {
                let keys: Vec<&'static str> = keys.split(',').collect();
                rule.list = Some(ListKind::Map {
                    keys: Box::leak(keys.into_boxed_slice()),
                });
            }
            ("atomic", "") | ("map" | "struct", "atomic") => rule.atomic = true,
            ("merge", "") => rule.patch.merges_primitives = true,
            ("merge", key) => rule.patch.merge_key = Some(key),
            ("retain", "") => rule.patch.retain_keys = true,
            ("replace", "") => rule.patch.replaces = true,
            _ => return None,
        }
    }
    Some(rule)
}

/// What stands for the whole type where else a field is named.
const WHOLE: &str = "-";

/// Fields are looked up in arrays by number, so these must be small.
const NUMBER_MAX: u32 = 2048;

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
