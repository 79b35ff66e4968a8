//! Writes `src/types/fields.txt` and `src/types/merge.txt` anew: the shapes of all types that are served, from the sources
//! of Kubernetes' API. Those are four Go modules of one version, which Go fetches:
//!
//! ```text
//! for module in api apimachinery apiextensions-apiserver kube-aggregator; do
//!     go mod download -json k8s.io/$module@v0.36.0        # prints the folder as "Dir"
//! done
//! cargo run -p apiserver --example types -- FOLDER FOLDER FOLDER FOLDER
//! ```
//!
//! Names, numbers and types on the wire come from the `generated.proto` of each package. What JSON makes of them, what
//! may be missing and how lists merge comes from the tags and markers of the structs beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use apiserver::resources::RESOURCES;

fn main() -> ExitCode {
    let folders: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    if folders.is_empty() {
        eprintln!("usage: types FOLDER...   (folders of the Go modules of Kubernetes' API)");
        return ExitCode::from(2);
    }
    match write(&folders) {
        Ok(count) => {
            println!("{count} types");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("types: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Types that are met although no resource is of them.
const OTHERS: &[&str] = &[
    "io.k8s.api.authentication.v1.TokenRequest",
    "io.k8s.api.autoscaling.v1.Scale",
    "io.k8s.api.core.v1.Binding",
    "io.k8s.api.core.v1.RangeAllocation",
    "io.k8s.api.policy.v1.Eviction",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata",
    "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
];

/// Types that are one value rather than fields.
const VALUES: &[(&str, &str)] = &[
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "fields-v1"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "micro-time"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "time"),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", "raw"),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "int-or-string"),
    ("io.k8s.api.authentication.v1.ExtraValue", "texts"),
    ("io.k8s.api.authorization.v1.ExtraValue", "texts"),
    ("io.k8s.api.certificates.v1.ExtraValue", "texts"),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
        "json",
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        "schema-or-list",
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        "schema-or-bool",
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
        "schema-or-texts",
    ),
];

/// A field of a message as the `.proto` files have it.
struct Wire {
    number: u32,
    name: String,
    /// `[]`, `{}` or nothing.
    shape: &'static str,
    /// A word of `.proto`, or an OpenAPI name.
    of: String,
}

/// A struct as the Go files have it.
#[derive(Default)]
struct Struct {
    atomic: bool,
    /// Whether it has `apiVersion` and `kind`.
    object: bool,
    fields: BTreeMap<u32, Tags>,
}

#[derive(Default)]
struct Tags {
    json: String,
    inline: bool,
    required: bool,
    zero: bool,
    rules: Vec<String>,
}

fn write(folders: &[PathBuf]) -> Result<usize, String> {
    let mut messages = BTreeMap::new();
    let mut structs = BTreeMap::new();
    for folder in folders {
        read_folder(folder, &mut messages, &mut structs)?;
    }
    let needed = reachable(&messages)?;
    let mut fields = String::from(HEADER);
    let mut merge = String::from(HEADER);
    for name in &needed {
        let nothing = Struct::default();
        let go = structs.get(name).unwrap_or(&nothing);
        let (package, _) = name.rsplit_once('.').unwrap_or_default();
        if go.atomic {
            writeln!(merge, "{name} - atomic").map_err(|error| error.to_string())?;
        }
        let object = if go.object { " object" } else { "" };
        writeln!(fields, "message {name}{object}").map_err(|error| error.to_string())?;
        let mut wires: Vec<&Wire> = messages[name].iter().collect();
        wires.sort_by_key(|wire| wire.number);
        for wire in wires {
            let tags = go
                .fields
                .get(&wire.number)
                .ok_or_else(|| format!("{name}: no tag has the number {}", wire.number))?;
            let json = if tags.inline { &wire.name } else { &tags.json };
            let of = word(&wire.of, package);
            let mut line = format!("{} {json} {}{of}", wire.number, wire.shape);
            for (flag, set) in [
                ("required", tags.required),
                (
                    "zero",
                    tags.zero && (is_plain(&wire.of) || wire.of == "bytes") && wire.shape.is_empty(),
                ),
                ("inline", tags.inline),
            ] {
                if set {
                    line.push(' ');
                    line.push_str(flag);
                }
            }
            writeln!(fields, "{line}").map_err(|error| error.to_string())?;
            if !tags.rules.is_empty() {
                writeln!(merge, "{name} {json} {}", tags.rules.join(" "))
                    .map_err(|error| error.to_string())?;
            }
        }
    }
    let types = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/types");
    fs::write(types.join("fields.txt"), fields).map_err(|error| error.to_string())?;
    fs::write(types.join("merge.txt"), merge).map_err(|error| error.to_string())?;
    Ok(needed.len())
}

/// Values of which 0, `false` or nothing is a value too.
fn is_plain(of: &str) -> bool {
    matches!(of, "string" | "bool" | "int32" | "int64" | "double")
}

/// The word of `fields.txt` for a type.
fn word(of: &str, package: &str) -> String {
    if let Some((_, word)) = VALUES.iter().find(|(name, _)| *name == of) {
        return (*word).to_owned();
    }
    match of {
        "string" => "text".to_owned(),
        "double" => "float".to_owned(),
        "bytes" | "bool" | "int32" | "int64" => of.to_owned(),
        name => match name.rsplit_once('.') {
            Some((same, short)) if same == package => format!(".{short}"),
            _ => name.to_owned(),
        },
    }
}

/// The types that are served, and what these consist of.
fn reachable(messages: &BTreeMap<String, Vec<Wire>>) -> Result<BTreeSet<String>, String> {
    let rows = RESOURCES.iter().map(|row| row.type_name.to_owned());
    let lists = RESOURCES.iter().map(|row| format!("{}List", row.type_name));
    let lists = lists.filter(|name| messages.contains_key(name));
    let mut open: Vec<String> = rows
        .chain(lists)
        .chain(OTHERS.iter().map(|&name| name.to_owned()))
        .collect();
    let mut found = BTreeSet::new();
    while let Some(name) = open.pop() {
        let wires = messages
            .get(&name)
            .ok_or_else(|| format!("there is no message {name}"))?;
        let is_value = |of: &str| VALUES.iter().any(|(name, _)| *name == of);
        let parts = wires
            .iter()
            .map(|wire| &wire.of)
            .filter(|of| of.contains('.') && !is_value(of));
        if found.insert(name) {
            open.extend(parts.cloned());
            if let Some(schema) = wires.iter().find(|wire| wire.of.contains(".JSONSchemaProps")) {
                let (package, _) = schema.of.rsplit_once('.').unwrap_or_default();
                open.push(format!("{package}.JSONSchemaProps"));
            }
        }
    }
    Ok(found)
}

/// Reads each package below a folder that is known on the wire.
fn read_folder(
    folder: &Path,
    messages: &mut BTreeMap<String, Vec<Wire>>,
    structs: &mut BTreeMap<String, Struct>,
) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    for below in paths.iter().filter(|path| path.is_dir()) {
        read_folder(below, messages, structs)?;
    }
    let Ok(proto) = fs::read_to_string(folder.join("generated.proto")) else {
        return Ok(());
    };
    let package = read_proto(&proto, messages)?;
    for path in paths {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let written = ["generated", "zz_", "types_swagger"]
            .iter()
            .any(|start| name.starts_with(start));
        if name.ends_with(".go") && !name.ends_with("_test.go") && !written {
            let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
            read_go(&text, &package, structs);
        }
    }
    Ok(())
}

/// `k8s.io.api.core.v1` as OpenAPI has it.
fn open_api_name(package: &str) -> String {
    let package = package.replace("apiextensions_apiserver", "apiextensions-apiserver");
    let package = package.replace("kube_aggregator", "kube-aggregator");
    match package.strip_prefix("k8s.io.") {
        Some(rest) => format!("io.k8s.{rest}"),
        None => package,
    }
}

/// Reads messages; answers the package.
fn read_proto(text: &str, messages: &mut BTreeMap<String, Vec<Wire>>) -> Result<String, String> {
    let mut package = String::new();
    let mut current: Option<(String, Vec<Wire>)> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if let Some(name) = line.strip_prefix("package ") {
            package = open_api_name(name.trim_end_matches(';'));
        } else if let Some(name) = line.strip_prefix("message ") {
            let name = name.trim_end_matches(['{', ' ']);
            current = Some((format!("{package}.{name}"), Vec::new()));
        } else if line == "}" {
            messages.extend(current.take());
        } else if let Some((name, fields)) = current.as_mut().filter(|_| !line.is_empty()) {
            let field = read_wire(line, &package).ok_or_else(|| format!("{name}: {line}"))?;
            fields.push(field);
        }
    }
    Ok(package)
}

/// `optional string name = 1;`, `repeated Volume volumes = 1;`, `map<string, Quantity> limits = 1;`
fn read_wire(line: &str, package: &str) -> Option<Wire> {
    let (left, number) = line.trim_end_matches(';').rsplit_once('=')?;
    let (left, name) = left.trim().rsplit_once(' ')?;
    let (shape, of) = if let Some(of) = left.strip_prefix("repeated ") {
        ("[]", of)
    } else if let Some(of) = left
        .strip_prefix("optional ")
        .or_else(|| left.strip_prefix("required "))
    {
        ("", of)
    } else {
        ("{}", left.strip_prefix("map<string,")?.strip_suffix('>')?.trim())
    };
    let of = match of.trim_start_matches('.') {
        plain if is_plain(plain) || plain == "bytes" => plain.to_owned(),
        whole if whole.contains('.') => open_api_name(whole),
        short => format!("{package}.{short}"),
    };
    Some(Wire {
        number: number.trim().parse().ok()?,
        name: name.to_owned(),
        shape,
        of,
    })
}

/// Reads the structs of a file, with the markers in the comments before each field.
fn read_go(text: &str, package: &str, structs: &mut BTreeMap<String, Struct>) {
    let mut markers: Vec<&str> = Vec::new();
    let mut current: Option<(String, Struct)> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(comment) = trimmed.strip_prefix("//") {
            markers.push(comment.trim());
        } else if let Some((name, _)) = trimmed
            .strip_prefix("type ")
            .and_then(|rest| rest.split_once(" struct {"))
        {
            let atomic = markers.contains(&"+structType=atomic");
            current = Some((
                format!("{package}.{name}"),
                Struct {
                    atomic,
                    ..Struct::default()
                },
            ));
            markers.clear();
        } else if line == "}" {
            structs.extend(current.take());
            markers.clear();
        } else if let Some((_, fields)) = current.as_mut() {
            fields.object |= trimmed
                .split_whitespace()
                .next()
                .is_some_and(|word| TYPE_META.contains(&word));
            if let Some((number, tags)) = read_tags(trimmed, &markers) {
                fields.fields.insert(number, tags);
            }
            markers.clear();
        } else if !trimmed.is_empty() {
            // A blank line between a type and the markers above it does not part them.
            markers.clear();
        }
    }
}

/// ``Name Type `json:"name,omitempty" protobuf:"bytes,1,opt,name=name"` ``
fn read_tags(line: &str, markers: &[&str]) -> Option<(u32, Tags)> {
    let (declared, tags) = line.split_once('`')?;
    let tag = |name: &str| {
        let (_, rest) = tags.split_once(&format!("{name}:\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let mut wire = tag("protobuf")?.split(',');
    let number = wire.nth(1)?.parse().ok()?;
    let mut json = tag("json").unwrap_or_default().split(',');
    let name = json.next().unwrap_or_default();
    let omitted = json.any(|option| matches!(option, "omitempty" | "omitzero"));
    let marked = |marker: &str| markers.contains(&marker);
    let value = |key: &str| markers.iter().find_map(|marker| marker.strip_prefix(key));
    let embedded = declared.split_whitespace().count() == 1;
    let is_pointer = declared
        .split_whitespace()
        .nth(1)
        .is_some_and(|of| of.starts_with('*'));

    let mut rules = Vec::new();
    let keys: Vec<&str> = markers
        .iter()
        .filter_map(|marker| marker.strip_prefix("+listMapKey="))
        .collect();
    match value("+listType=") {
        Some("map") if !keys.is_empty() => rules.push(format!("list={}", keys.join(","))),
        Some(kind @ ("set" | "atomic")) => rules.push(format!("list={kind}")),
        _ => {}
    }
    if marked("+mapType=atomic") {
        rules.push("map=atomic".to_owned());
    }
    if marked("+structType=atomic") {
        rules.push("struct=atomic".to_owned());
    }
    for strategy in tag("patchStrategy").unwrap_or_default().split(',') {
        match (strategy, tag("patchMergeKey")) {
            ("merge", Some(key)) => rules.push(format!("merge={key}")),
            ("merge", None) => rules.push("merge".to_owned()),
            ("retainKeys", _) => rules.push("retain".to_owned()),
            ("replace", _) => rules.push("replace".to_owned()),
            _ => {}
        }
    }
    let tags = Tags {
        json: name.to_owned(),
        inline: embedded && name.is_empty(),
        required: !omitted && !embedded && !marked("+optional"),
        zero: is_pointer || !omitted,
        rules,
    };
    Some((number, tags))
}

/// What a struct of whole objects begins with.
const TYPE_META: &[&str] = &["metav1.TypeMeta", "TypeMeta"];

const HEADER: &str =
    "# Facts about the API of Kubernetes 1.36, written by examples/types.rs; the format stands in mod.rs.\n";
