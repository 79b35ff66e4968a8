//! What an object has where its author said nothing. The values are data (`defaults.txt`); what must be worked out is
//! named there and stands in `computed.rs`.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::computed::{self, Computed};
use super::path::Path;
use crate::object::Object;
use crate::resources::Resource;

/// Fills in what an object of this resource has by default. What is there is never changed, so that doing it again
/// changes nothing.
pub fn default(r: &Resource, object: &mut Object) {
    apply(&section_of(r), object);
}

/// The section of a resource: its group, the version where it has several, and its kind.
pub(super) fn section_of(r: &Resource) -> String {
    let group = if r.group.is_empty() { "core" } else { r.group };
    format!("{group}/{}/{}", r.version, r.kind)
}

struct Row {
    what: What,
    condition: Condition,
}

enum What {
    /// The value of a field that is missing.
    Value(Path, Value),
    /// Something that is worked out.
    Computed(Computed),
    /// The objects there have the defaults of a section.
    Section(Path, String),
}

enum Condition {
    Always,
    /// A field has one of these values.
    Is(Path, Vec<Value>),
    /// A field is there, or is not.
    Present(Path, bool),
}

static SECTIONS: LazyLock<HashMap<String, Vec<Row>>> = LazyLock::new(|| parse(include_str!("defaults.txt")));

/// The section of pods.
pub(super) const POD: &str = "core/v1/Pod";

pub(super) fn apply(section: &str, object: &mut Object) {
    for row in SECTIONS.get(section).into_iter().flatten() {
        if !row.condition.is_met(object) {
            continue;
        }
        match &row.what {
            What::Value(path, value) => path.holders_mut(object, &mut |holder| {
                let field = path.field();
                if holder.get(field).is_none_or(Value::is_null) {
                    holder.insert(field.to_owned(), value.clone());
                }
            }),
            What::Computed(compute) => compute(object),
            What::Section(path, section) => path.objects_mut(object, &mut |child| apply(section, child)),
        }
    }
}

impl Condition {
    fn is_met(&self, object: &Object) -> bool {
        match self {
            Condition::Always => true,
            Condition::Is(path, values) => path.first(object).is_some_and(|value| values.contains(value)),
            Condition::Present(path, expected) => path.first(object).is_some() == *expected,
        }
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
        let row = parse_row(line).unwrap_or_else(|| panic!("a row of defaults that cannot be read: {line}"));
        sections.entry(section.clone()).or_default().push(row);
    }
    sections
}

fn parse_row(line: &str) -> Option<Row> {
    let (row, condition) = if let Some((row, condition)) = line.split_once(" if ") {
        let condition = match condition.split_once(" is ") {
            Some((path, values)) => {
                let values: Option<Vec<Value>> = values.split(" or ").map(json).collect();
                Condition::Is(Path::parse(path.trim()), values?)
            }
            None => Condition::Present(Path::parse(condition.trim()), true),
        };
        (row, condition)
    } else if let Some((row, path)) = line.split_once(" unless ") {
        (row, Condition::Present(Path::parse(path.trim()), false))
    } else {
        (line, Condition::Always)
    };
    let what = if let Some(name) = row.trim().strip_prefix('@') {
        What::Computed(computed::find(name)?)
    } else if let Some((path, section)) = row.split_once(" -> ") {
        What::Section(Path::parse(path.trim()), section.trim().to_owned())
    } else {
        let (path, value) = row.split_once(" = ")?;
        What::Value(Path::parse(path.trim()), json(value)?)
    };
    Some(Row { what, condition })
}

fn json(text: &str) -> Option<Value> {
    serde_json::from_str(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::RESOURCES;

    /// Every row can be read, every section is that of a resource or is led to by a row.
    #[test]
    fn the_data_is_whole() {
        let led_to: Vec<&str> = SECTIONS
            .values()
            .flatten()
            .filter_map(|row| match &row.what {
                What::Section(_, section) => Some(section.as_str()),
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
