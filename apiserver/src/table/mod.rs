//! Objects as rows of a table, as kubectl asks for them: which columns a resource has and what stands in each cell. The
//! columns are data (`columns.txt`); cells that are more than a field stand in the other files. A resource of
//! which nothing is said has its name and age.

mod ages;
mod cells;
mod events;
mod services;
mod workloads;

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::object::{Object, at};
use crate::resources::Resource;

/// What stands beside the cells of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Include {
    /// Nothing.
    None,
    /// The metadata of the object.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

/// A cell that is worked out.
type Cell = fn(&Object, Timestamp) -> Value;

struct Column {
    name: &'static str,
    kind: &'static str,
    priority: u8,
    source: Source,
}

enum Source {
    Field(Vec<&'static str>, &'static str),
    Computed(Cell),
}

/// The definitions of the columns of a resource.
#[must_use]
pub fn columns(r: &Resource) -> Vec<Value> {
    let definition = |column: &Column| {
        json!({
            "name": column.name,
            "type": column.shown_kind(),
            "format": if column.name == "Name" || column.kind == "name" { "name" } else { "" },
            "description": description(column.name),
            "priority": column.priority,
        })
    };
    of(r).iter().map(definition).collect()
}

/// The cells of an object, one for each column.
#[must_use]
pub fn cells(r: &Resource, object: &Object, now: Timestamp) -> Vec<Value> {
    of(r).iter().map(|column| column.cell(object, now)).collect()
}

/// The table of some objects. `meta` is the metadata of their list (or of the one object); without columns it goes on where
/// an earlier one began, as in a watch.
#[must_use]
pub fn render<'a>(
    r: &Resource,
    meta: Value,
    objects: impl IntoIterator<Item = &'a Object>,
    include: Include,
    with_columns: bool,
    now: Timestamp,
) -> Value {
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| row(r, object, include, now))
        .collect();
    let mut table = Map::new();
    table.insert("kind".to_owned(), "Table".into());
    table.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    table.insert("metadata".to_owned(), meta);
    let columns = with_columns.then(|| columns(r));
    table.insert("columnDefinitions".to_owned(), columns.into());
    table.insert("rows".to_owned(), rows.into());
    table.into()
}

fn row(r: &Resource, object: &Object, include: Include, now: Timestamp) -> Value {
    let mut row = Map::new();
    row.insert("cells".to_owned(), cells(r, object, now).into());
    match include {
        Include::None => {
            row.insert("object".to_owned(), Value::Null);
        }
        Include::Metadata => {
            row.insert("object".to_owned(), partial(object));
        }
        Include::Object => {
            row.insert("object".to_owned(), Value::Object(object.clone()));
        }
    }
    row.into()
}

/// The metadata of an object as an object of its own.
#[must_use]
pub fn partial(object: &Object) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

impl Column {
    /// As what its values are announced, which is not always what they are.
    fn shown_kind(&self) -> &'static str {
        match self.kind {
            "count" | "number" | "flag" | "name" => "string",
            kind => kind,
        }
    }

    fn cell(&self, object: &Object, now: Timestamp) -> Value {
        match &self.source {
            Source::Computed(cell) => cell(object, now),
            Source::Field(path, missing) => {
                match at(object, path).filter(|value| !value.is_null() && *value != "") {
                    Some(value) if self.kind == "string" => match value {
                        Value::String(_) => value.clone(),
                        other => other.to_string().into(),
                    },
                    Some(value) => value.clone(),
                    None if matches!(self.kind, "integer" | "count") => 0.into(),
                    None if matches!(self.kind, "boolean" | "flag") => (*missing == "true").into(),
                    None => (*missing).into(),
                }
            }
        }
    }
}

fn of(r: &Resource) -> &'static [Column] {
    let group = if r.group.is_empty() { "core" } else { r.group };
    let columns = COLUMNS.get(format!("{group}/{}", r.plural).as_str());
    columns.map_or(&COMMON[..], Vec::as_slice)
}

static COLUMNS: LazyLock<HashMap<&'static str, Vec<Column>>> =
    LazyLock::new(|| parse(include_str!("columns.txt")));
static COMMON: LazyLock<Vec<Column>> = LazyLock::new(|| vec![name(), age()]);

fn name() -> Column {
    Column {
        name: "Name",
        kind: "string",
        priority: 0,
        source: Source::Field(vec!["metadata", "name"], ""),
    }
}

fn age() -> Column {
    Column {
        name: "Age",
        kind: "string",
        priority: 0,
        source: Source::Computed(cells::age),
    }
}

fn description(name: &str) -> &'static str {
    match name {
        "Name" => "The name of the object, which is unique among those of its kind in its namespace.",
        "Age" | "Created At" => "When the object was created.",
        _ => "",
    }
}

/// Reads the data. It is part of the program: a test reads it, and what is wrong in it ends that test.
fn parse(text: &'static str) -> HashMap<&'static str, Vec<Column>> {
    let mut columns: HashMap<&str, Vec<Column>> = HashMap::new();
    let mut resource = "";
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            resource = name;
            continue;
        }
        let column = parse_column(line).unwrap_or_else(|| panic!("a column that cannot be read: {line}"));
        columns.entry(resource).or_default().push(column);
    }
    columns
}

fn parse_column(line: &'static str) -> Option<Column> {
    match line {
        "Name" => return Some(name()),
        "Age" => return Some(age()),
        _ => {}
    }
    let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
    let &[name, kind, priority, source] = parts.as_slice() else {
        return None;
    };
    let source = match source.strip_prefix('@') {
        Some(computed) => Source::Computed(find(computed)?),
        None => {
            let (path, missing) = source.split_once(" or ").unwrap_or((source, ""));
            Source::Field(path.split('.').collect(), missing)
        }
    };
    Some(Column {
        name,
        kind,
        priority: priority.parse().ok()?,
        source,
    })
}

fn find(name: &str) -> Option<Cell> {
    let mut all = cells::CELLS
        .iter()
        .chain(services::CELLS)
        .chain(workloads::CELLS)
        .chain(events::CELLS);
    all.find(|(known, _)| *known == name).map(|(_, cell)| *cell)
}

#[cfg(test)]
mod tests;
