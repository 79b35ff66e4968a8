//! The table of types and the codec against two crates that know the same types in their own way: `k8s-pb` has the messages
//! on the wire, `k8s-openapi` the JSON. Every field of every type that is served is filled, written as protobuf, read and
//! written again by the one, and read and written as JSON by the other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![recursion_limit = "256"]

#[path = "../src/types/every.rs"]
mod every;

use std::collections::BTreeSet;

use apiserver::codec::{check_types, conform, from_protobuf, strict, to_protobuf};
use apiserver::object::Object;
use apiserver::resources::RESOURCES;
use apiserver::types::{Field, Kind, Message, Shape, Types};
use prost::Message as _;
use serde_json::{Value, json};

use self::every::every_type;

/// A type as both crates have it.
struct Known {
    path: &'static str,
    /// Reads a message and writes it again.
    wire: fn(&[u8]) -> Vec<u8>,
    /// Reads JSON and writes it again.
    json: fn(Value) -> Value,
}

fn wire<T: prost::Message + Default>(bytes: &[u8]) -> Vec<u8> {
    T::decode(bytes).unwrap().encode_to_vec()
}

fn json<T: serde::Serialize + serde::de::DeserializeOwned>(value: Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(value).unwrap()).unwrap()
}

macro_rules! known {
    ($($first:ident $(:: $part:ident)*,)*) => {
        &[$(Known {
            path: stringify!($first $(:: $part)*),
            wire: wire::<k8s_pb::$first $(:: $part)*>,
            json: json::<k8s_openapi::$first $(:: $part)*>,
        },)*]
    };
}

const KNOWN: &[Known] = every_type!(known);

/// Fields that Kubernetes got after the version that `k8s-pb` is made of.
const UNKNOWN_TO_K8S_PB: &[&str] = &[
    ".metadata.shardInfo",
    ".spec.devices.attributes.key-a.bools",
    ".spec.devices.attributes.key-a.ints",
    ".spec.devices.attributes.key-a.strings",
    ".spec.devices.attributes.key-a.versions",
    ".spec.devices.attributes.key.example.com/b.bools",
    ".spec.devices.attributes.key.example.com/b.ints",
    ".spec.devices.attributes.key.example.com/b.strings",
    ".spec.devices.attributes.key.example.com/b.versions",
    ".spec.devices.nodeAllocatableResourceMappings",
    ".spec.jobTemplate.spec.template.spec.schedulingGroup",
    ".spec.preventPodSchedulingIfMissing",
    ".spec.schedulingGroup",
    ".spec.template.spec.schedulingGroup",
    ".status.containerStatuses.allocatedResourcesStatus.resources.message",
    ".status.containerStatuses.volumeMounts.volumeStatus",
    ".status.ephemeralContainerStatuses.allocatedResourcesStatus.resources.message",
    ".status.ephemeralContainerStatuses.volumeMounts.volumeStatus",
    ".status.initContainerStatuses.allocatedResourcesStatus.resources.message",
    ".status.initContainerStatuses.volumeMounts.volumeStatus",
    ".status.nodeAllocatableResourceClaimStatuses",
    ".template.spec.schedulingGroup",
];

impl Known {
    fn type_name(&self) -> String {
        let path: String = self.path.split_whitespace().collect();
        let name = path.replace("::", ".");
        let name = name.replace("apiextensions_apiserver", "apiextensions-apiserver");
        format!("io.k8s.{}", name.replace("kube_aggregator", "kube-aggregator"))
    }

    fn message(&self) -> &'static Message {
        let name = self.type_name();
        Types::all().message(&name).unwrap_or_else(|| panic!("{name}"))
    }
}

/// `apps/v1` of `io.k8s.api.apps.v1.Deployment`.
fn api_version(message: &Message) -> String {
    let row = RESOURCES.iter().find(|row| row.type_name == message.name);
    let others = [
        ("TokenRequest", "authentication.k8s.io/v1"),
        ("Scale", "autoscaling/v1"),
        ("Eviction", "policy/v1"),
    ];
    let other = others.iter().find(|(kind, _)| *kind == message.short_name());
    row.map_or_else(
        || other.map_or("v1", |(_, api)| *api).to_owned(),
        apiserver::resources::Resource::api_version,
    )
}

/// An object with every field of its type.
fn filled(message: &'static Message, api_version: &str, kind: &str) -> Object {
    let mut object = fill(message, &mut vec![message.name], 0);
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    object
}

fn fill(message: &'static Message, within: &mut Vec<&'static str>, turn: usize) -> Object {
    let mut object = Object::new();
    for field in message.json_fields() {
        if let Some(value) = fill_field(field, within, turn) {
            object.insert(field.json.to_owned(), value);
        }
    }
    object
}

fn fill_field(field: &Field, within: &mut Vec<&'static str>, turn: usize) -> Option<Value> {
    let mut fill = |turn: usize| fill_value(field, within, turn);
    Some(match field.shape {
        Shape::One => fill(turn)?,
        Shape::List(_) => Value::Array(vec![fill(turn)?, fill(turn + 1)?]),
        Shape::Map(_) => json!({ "key-a": fill(turn)?, "key.example.com/b": fill(turn + 1)? }),
    })
}

fn fill_value(field: &Field, within: &mut Vec<&'static str>, turn: usize) -> Option<Value> {
    let number = i64::from(field.number);
    Some(match field.kind {
        Kind::Text => json!(format!("{} {turn}", field.json)),
        Kind::Bytes => json!("AP/+aGVsbG8="),
        Kind::Bool => json!(true),
        Kind::Int32 if turn.is_multiple_of(2) => json!(i64::from(i32::MIN) + number),
        Kind::Int32 => json!(number),
        Kind::Int64 => json!(i64::MAX - number),
        Kind::Float => json!(0.25),
        Kind::Quantity => json!("1500m"),
        Kind::IntOrString if turn.is_multiple_of(2) => json!(number),
        Kind::IntOrString => json!("25%"),
        Kind::Time => json!("2024-05-06T07:08:09Z"),
        Kind::MicroTime => json!("2024-05-06T07:08:09.123456Z"),
        Kind::Raw => json!({ "kind": "Any", "of": [1, null, "x"] }),
        Kind::FieldsV1 => json!({ "f:metadata": { ".": {} } }),
        Kind::Json => json!(["x", { "y": 1 }]),
        Kind::Texts => json!(["one", "two"]),
        Kind::Message(message) => child(message, within, turn)?,
        Kind::SchemaOrList(schema) if turn.is_multiple_of(2) => json!([child(schema, within, turn + 1)?]),
        Kind::SchemaOrTexts(_) if turn.is_multiple_of(2) => json!(["a", "b"]),
        Kind::SchemaOrBool(_) if turn.is_multiple_of(2) => json!(true),
        Kind::SchemaOrList(schema) | Kind::SchemaOrTexts(schema) | Kind::SchemaOrBool(schema) => {
            child(schema, within, turn)?
        }
    })
}

/// Types that hold themselves are filled twice.
fn child(message: &'static Message, within: &mut Vec<&'static str>, turn: usize) -> Option<Value> {
    if within.iter().filter(|name| **name == message.name).count() > 1 {
        return None;
    }
    within.push(message.name);
    let filled = fill(message, within, turn + within.len());
    within.pop();
    Some(Value::Object(filled))
}

/// What is in the one and not in the other, as paths without positions; differing values are shown.
fn missing(whole: &Value, part: &Value, path: &str, found: &mut BTreeSet<String>) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (key, value) in whole {
                match part.get(key) {
                    None => {
                        found.insert(format!("{path}.{key}"));
                    }
                    Some(other) => missing(value, other, &format!("{path}.{key}"), found),
                }
            }
            for key in part.keys().filter(|key| !whole.contains_key(*key)) {
                found.insert(format!("{path}.{key} is too much"));
            }
        }
        (Value::Array(whole), Value::Array(part)) if whole.len() == part.len() => {
            for (value, other) in whole.iter().zip(part) {
                missing(value, other, path, found);
            }
        }
        (whole, part) if whole == part => {}
        (whole, part) => {
            found.insert(format!("{path}: {whole} became {part}"));
        }
    }
}

#[test]
fn all_that_is_served_is_compared() {
    let names: BTreeSet<String> = KNOWN.iter().map(Known::type_name).collect();
    for row in RESOURCES {
        assert!(names.contains(row.type_name), "{}", row.type_name);
    }
}

#[test]
fn protobuf_is_that_of_k8s_pb() {
    let mut unknown = BTreeSet::new();
    for known in KNOWN {
        let message = known.message();
        let object = filled(message, "g/v", message.short_name());
        let bytes = to_protobuf(&object, message.name).unwrap();
        let read = from_protobuf(&bytes, Some(message.name)).unwrap();
        assert_eq!(read, object, "{}", message.name);

        let envelope = k8s_pb::apimachinery::pkg::runtime::Unknown::decode(&bytes[4..]).unwrap();
        let what = envelope.type_meta.clone().unwrap();
        assert_eq!(what.api_version(), "g/v");
        assert_eq!(what.kind(), message.short_name());
        let again = k8s_pb::apimachinery::pkg::runtime::Unknown {
            raw: Some((known.wire)(envelope.raw())),
            ..envelope.clone()
        };
        let mut bytes = b"k8s\0".to_vec();
        again.encode(&mut bytes).unwrap();
        let read = from_protobuf(&bytes, Some(message.name)).unwrap();
        missing(&Value::Object(object), &Value::Object(read), "", &mut unknown);
    }
    let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
    assert_eq!(unknown, UNKNOWN_TO_K8S_PB);
}

#[test]
fn json_is_that_of_k8s_openapi() {
    for known in KNOWN {
        let message = known.message();
        let api = api_version(message);
        let object = filled(message, &api, message.short_name());
        assert_eq!(strict(message.name, b"", &object), [""; 0], "{}", message.name);
        check_types(message.name, &object).unwrap();
        let mut conformed = object.clone();
        conform(message.name, &mut conformed);
        assert_eq!(conformed, object, "{}", message.name);
        let read = (known.json)(Value::Object(object.clone()));
        let mut unknown = BTreeSet::new();
        missing(&Value::Object(object), &read, "", &mut unknown);
        // It says of each object what it is, where Kubernetes does not.
        unknown.retain(|path| {
            !path.ends_with(".apiVersion is too much") && !path.ends_with(".kind is too much")
        });
        assert_eq!(unknown, BTreeSet::new(), "{}", message.name);
    }
}

/// Names and numbers as the source of `k8s-pb` has them: that two texts have changed places would show nowhere else.
#[test]
fn numbers_are_those_of_k8s_pb() {
    let source = source_of("k8s-pb");
    let (mut compared, mut differing) = (0, BTreeSet::new());
    for message in Types::all().messages() {
        let (package, name) = message.name.rsplit_once('.').unwrap();
        let folder = package
            .trim_start_matches("io.k8s.")
            .replace('-', "_")
            .replace('.', "/");
        let text = std::fs::read_to_string(source.join("src").join(folder).join("mod.rs")).unwrap();
        for (number, theirs) in numbers_in(&text, name) {
            let ours = message.by_number(number).map_or("", |field| field.json);
            let plain = |name: &str| name.replace('_', "").to_lowercase();
            if plain(&theirs) != plain(ours) {
                differing.insert(format!("{name} {number} {theirs} {ours}"));
            }
            compared += 1;
        }
    }
    assert!(compared > 1900, "{compared}");
    let differing: Vec<&str> = differing.iter().map(String::as_str).collect();
    assert_eq!(differing, NAMED_OTHERWISE);
}

/// Fields that have another name on the wire than in JSON, or that went away with the version of the table.
const NAMED_OTHERWISE: &[&str] = &["PodSpec 42 workload_ref "];

/// The folder of a crate that this one is built with.
fn source_of(name: &str) -> std::path::PathBuf {
    let metadata = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let mut packages = metadata["packages"].as_array().unwrap().iter();
    let package = packages.find(|package| package["name"] == name).unwrap();
    let manifest = std::path::Path::new(package["manifest_path"].as_str().unwrap());
    manifest.parent().unwrap().to_owned()
}

/// The fields of a struct in the source that prost writes.
fn numbers_in(text: &str, name: &str) -> Vec<(u32, String)> {
    let Some((_, rest)) = text.split_once(&format!("\npub struct {name} {{\n")) else {
        // Younger than that crate, or without fields.
        return Vec::new();
    };
    let (body, _) = rest.split_once("\n}\n").unwrap();
    let mut found = Vec::new();
    let mut number = None;
    for line in body
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("///"))
    {
        if let Some((_, tag)) = line.split_once("tag = \"") {
            number = tag.split('"').next().unwrap().parse().ok();
        } else if let Some(number) = number
            && let Some((name, _)) = line.strip_prefix("pub ").and_then(|field| field.split_once(':'))
        {
            found.push((number, name.trim_start_matches("r#").to_owned()));
        }
    }
    found
}

/// Picks at random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // Xorshift; zero would stay zero.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// Some of the fields of a type, with values of any kind that they can have.
    fn object(&mut self, message: &'static Message, depth: u32) -> Object {
        let mut object = Object::new();
        for field in message.json_fields() {
            if self.roll(3) > 0 {
                continue;
            }
            let count = 1 + self.roll(2);
            let value = match field.shape {
                Shape::One => self.value(field, depth),
                Shape::List(_) => (0..count)
                    .map(|_| self.value(field, depth))
                    .collect::<Option<_>>(),
                Shape::Map(_) => {
                    let entries = (0..count).map(|at| Some((format!("k{at}"), self.value(field, depth)?)));
                    entries.collect::<Option<_>>().map(Value::Object)
                }
            };
            if let Some(value) = value {
                object.insert(field.json.to_owned(), value);
            }
        }
        object
    }

    fn value(&mut self, field: &Field, depth: u32) -> Option<Value> {
        let odd = self.roll(4);
        Some(match field.kind {
            Kind::Text => {
                json!(["", "a", "\u{1f6a2} \"\\", "x".repeat(300).as_str()][usize::try_from(odd).ok()?])
            }
            Kind::Bytes => json!(["AA==", "/+8=", "aGVsbG8=", "AP8A"][usize::try_from(odd).ok()?]),
            Kind::Bool => json!(odd > 1),
            Kind::Int32 => json!([0, 1, i32::MIN, i32::MAX][usize::try_from(odd).ok()?]),
            Kind::Int64 => json!([0, -1, i64::MIN, i64::MAX][usize::try_from(odd).ok()?]),
            Kind::Message(message) if depth > 0 => Value::Object(self.object(message, depth - 1)),
            Kind::Message(_) | Kind::SchemaOrList(_) | Kind::SchemaOrBool(_) | Kind::SchemaOrTexts(_) => {
                return None;
            }
            _ => return fill_value(field, &mut Vec::new(), usize::try_from(odd).ok()?),
        })
    }
}

proptest::proptest! {
    /// What is in its one form comes back from protobuf as it was.
    #[test]
    fn what_is_written_is_read(seed in 1_u64..u64::MAX, at in 0..KNOWN.len()) {
        let message = KNOWN[at].message();
        let mut object = Dice(seed).object(message, 6);
        check_types(message.name, &object).unwrap();
        conform(message.name, &mut object);
        let once = object.clone();
        conform(message.name, &mut object);
        assert_eq!(object, once);
        let bytes = to_protobuf(&object, message.name).unwrap();
        let read = from_protobuf(&bytes, Some(message.name)).unwrap();
        assert_eq!(Value::Object(read), Value::Object(object));
    }

    /// No bytes make the reader panic, and whatever it reads fits the type.
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, at in 0..KNOWN.len()) {
        let message = KNOWN[at].message();
        let mut whole = b"k8s\0\x12".to_vec();
        prost::encoding::encode_varint(bytes.len() as u64, &mut whole);
        whole.extend(bytes);
        if let Ok(read) = from_protobuf(&whole, Some(message.name)) {
            check_types(message.name, &read).unwrap();
            to_protobuf(&read, message.name).unwrap();
        }
    }
}
