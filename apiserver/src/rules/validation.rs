//! What an object must be like. The plain rules are data (`validation.txt`), what must be worked out is named there and
//! stands in `checks.rs`.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::checks::{self, Check};
use super::defaults::section_of;
use super::metadata;
use super::path::{Path, join};
use super::workloads;
use crate::object::Object;
use crate::resources::{Resource, Subresource};
use crate::status::Cause;

/// All that is wrong with an object that is to be created, or to replace `old`; nothing where it is right.
#[must_use]
pub fn validate(r: &Resource, old: Option<&Object>, new: &Object) -> Vec<Cause> {
    validate_in(r, None, old, new)
}

/// The same where the object comes through a subresource, which may change what is else forbidden.
#[must_use]
pub fn validate_in(
    r: &Resource,
    subresource: Option<Subresource>,
    old: Option<&Object>,
    new: &Object,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    metadata::check(r, old, new, &mut causes);
    let judged = Judged { old, new, at: "" };
    apply(&section_of(r), &judged, &mut causes);
    if let (None | Some(Subresource::Status), Some(_), "Pod") = (subresource, old, r.kind) {
        workloads::pod_update(&judged, &mut causes);
    }
    causes
}

/// An object or a part of one, and the same part of the old object if there is one.
pub(super) struct Judged<'a> {
    pub(super) old: Option<&'a Object>,
    pub(super) new: &'a Object,
    /// Where it stands.
    pub(super) at: &'a str,
}

enum Row {
    Plain(Path, Plain),
    Check(Check),
    Section(Path, String),
}

enum Plain {
    /// It must be there; the text that is told beside.
    Required(String),
    /// It may not change.
    Immutable,
    Min(i64),
    Max(i64),
    /// A number from the one to the other.
    Range(i64, i64),
    /// A number that is not 0; the text that is told beside.
    Given(String),
    OneOf(Vec<String>),
    /// The entries of the list differ in this field.
    Unique(String),
    /// A text that is one of these, if there is one.
    Named(fn(&str) -> Vec<String>),
    /// The same, and there is one.
    MustBe(fn(&str) -> Vec<String>),
}

static SECTIONS: LazyLock<HashMap<String, Vec<Row>>> =
    LazyLock::new(|| parse(include_str!("validation.txt")));

fn apply(section: &str, judged: &Judged<'_>, causes: &mut Vec<Cause>) {
    for row in SECTIONS.get(section).into_iter().flatten() {
        match row {
            Row::Check(check) => check(judged, causes),
            Row::Plain(path, plain) => plain.judge(path, judged, causes),
            Row::Section(path, section) => {
                let empty = Object::new();
                path.values(judged.new, judged.at, &mut |at, value| {
                    // What must be there and is not lacks all that it must have.
                    let new = match value {
                        None if path.is_plain() => Some(&empty),
                        value => value.and_then(Value::as_object),
                    };
                    if let Some(new) = new {
                        // Entries of lists are not followed from the old object to the new one.
                        let part = Judged {
                            old: None,
                            new,
                            at: &at,
                        };
                        apply(section, &part, causes);
                    }
                });
            }
        }
    }
}

impl Plain {
    fn judge(&self, path: &Path, judged: &Judged<'_>, causes: &mut Vec<Cause>) {
        if let Plain::Immutable = self {
            let Some(old) = judged.old else { return };
            let (was, is) = (path.first(old), path.first(judged.new));
            if was != is {
                path.values(judged.new, judged.at, &mut |at, value| {
                    let value = value.cloned().unwrap_or_default();
                    causes.push(Cause::invalid(at, &value, "field is immutable"));
                });
            }
            return;
        }
        path.values(judged.new, judged.at, &mut |at, value| {
            self.judge_value(at, value, causes)
        });
    }

    fn judge_value(&self, at: String, value: Option<&Value>, causes: &mut Vec<Cause>) {
        match (self, value) {
            (Plain::Required(told), value) if value.is_none_or(is_nothing) => {
                causes.push(Cause::required(at, told));
            }
            (Plain::Min(least), Some(value)) if value.as_i64().is_some_and(|number| number < *least) => {
                let told = format!("must be greater than or equal to {least}");
                causes.push(Cause::invalid(at, value, &told));
            }
            (Plain::Max(most), Some(value)) if value.as_i64().is_some_and(|number| number > *most) => {
                causes.push(Cause::invalid(
                    at,
                    value,
                    &format!("must be less than or equal to {most}"),
                ));
            }
            (Plain::Range(least, most), Some(value))
                if value
                    .as_i64()
                    .is_some_and(|number| number < *least || number > *most) =>
            {
                let told = format!("must be between {} and {most}, inclusive", (*least).max(1));
                causes.push(Cause::invalid(at, value, &told));
            }
            (Plain::Given(told), value)
                if value.is_none_or(|value| value.is_null() || value == &Value::from(0)) =>
            {
                causes.push(Cause::required(at, told));
            }
            (Plain::OneOf(known), Some(value)) if !is_nothing(value) && !is_one(value, known) => {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                causes.push(Cause::not_supported(at, value, &known));
            }
            (Plain::Unique(field), Some(Value::Array(entries))) => {
                let keys: Vec<Option<&Value>> = entries.iter().map(|entry| entry.get(field)).collect();
                for (index, key) in keys.iter().enumerate() {
                    let Some(key) = key.filter(|key| !is_nothing(key)) else {
                        continue;
                    };
                    if keys[..index].contains(&Some(key)) {
                        causes.push(Cause::duplicate(join(&format!("{at}[{index}]"), field), key));
                    }
                }
            }
            (Plain::MustBe(check), value) if value.is_none_or(is_nothing) => {
                for told in check("") {
                    causes.push(Cause::invalid(at.as_str(), &"".into(), &told));
                }
            }
            (Plain::Named(check) | Plain::MustBe(check), Some(value)) if !is_nothing(value) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                for told in check(&text) {
                    causes.push(Cause::invalid(at.as_str(), value, &told));
                }
            }
            _ => {}
        }
    }
}

fn is_one(value: &Value, known: &[String]) -> bool {
    value
        .as_str()
        .is_some_and(|text| known.iter().any(|known| known == text))
}

/// Whether a value is as good as missing.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        _ => false,
    }
}

/// Reads the data. It is part of the program: a test reads it, and what is wrong in it ends that test.
fn parse(text: &str) -> HashMap<String, Vec<Row>> {
    let mut sections: HashMap<String, Vec<Row>> = HashMap::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
            sections.entry(section.clone()).or_default();
            continue;
        }
        let row = parse_row(line).unwrap_or_else(|| panic!("a rule that cannot be read: {line}"));
        sections.entry(section.clone()).or_default().push(row);
    }
    sections
}

fn parse_row(line: &str) -> Option<Row> {
    if let Some(name) = line.strip_prefix('@') {
        return Some(Row::Check(checks::find(name)?));
    }
    if let Some((path, section)) = line.split_once(" -> ") {
        return Some(Row::Section(Path::parse(path.trim()), section.trim().to_owned()));
    }
    let (path, rule) = line.split_once(' ')?;
    let rule = rule.trim();
    let (verb, rest) = rule.split_once(' ').unwrap_or((rule, ""));
    let plain = match verb {
        "required" => Plain::Required(rest.to_owned()),
        "immutable" => Plain::Immutable,
        "min" => Plain::Min(rest.parse().ok()?),
        "max" => Plain::Max(rest.parse().ok()?),
        "range" => {
            let (least, most) = rest.split_once(' ')?;
            Plain::Range(least.parse().ok()?, most.parse().ok()?)
        }
        "given" => Plain::Given(rest.to_owned()),
        "must-be" => Plain::MustBe(checks::name(rest)?),
        "oneof" => Plain::OneOf(rest.split(' ').map(str::to_owned).collect()),
        "unique" => Plain::Unique(rest.to_owned()),
        "is" => Plain::Named(checks::name(rest)?),
        _ => return None,
    };
    Some(Row::Plain(Path::parse(path), plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::RESOURCES;

    /// Every rule can be read, every section is that of a resource or is led to by a row.
    #[test]
    fn the_data_is_whole() {
        let led_to: Vec<&str> = SECTIONS
            .values()
            .flatten()
            .filter_map(|row| match row {
                Row::Section(_, section) => Some(section.as_str()),
                _ => None,
            })
            .collect();
        let resources: Vec<String> = RESOURCES.iter().map(section_of).collect();
        for section in SECTIONS.keys() {
            let is_known = led_to.contains(&section.as_str()) || resources.contains(section);
            assert!(is_known, "{section} leads nowhere");
        }
        for section in led_to {
            assert!(SECTIONS.contains_key(section), "{section} is missing");
        }
    }
}
