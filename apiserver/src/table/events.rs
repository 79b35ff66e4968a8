//! Cells of events, which are stored in the words of the core and may be asked for in those of their own group.

use jiff::Timestamp;
use serde_json::Value;

use super::{Cell, ages};
use crate::object::{Object, at};

pub(super) static CELLS: &[(&str, Cell)] = &[
    ("event_count", event_count),
    ("event_message", event_message),
    ("event_object", event_object),
    ("event_source", event_source),
    ("event_subobject", event_subobject),
    ("first_seen", first_seen),
    ("last_seen", last_seen),
];

/// The first of some fields that is there.
fn any<'a>(event: &'a Object, paths: &[&[&str]]) -> Option<&'a Value> {
    paths
        .iter()
        .find_map(|path| at(event, path).filter(|value| !value.is_null() && *value != ""))
}

fn text<'a>(event: &'a Object, paths: &[&[&str]]) -> &'a str {
    any(event, paths).and_then(Value::as_str).unwrap_or_default()
}

fn first(event: &Object) -> Option<&Value> {
    any(
        event,
        &[&["firstTimestamp"], &["deprecatedFirstTimestamp"], &["eventTime"]],
    )
}

fn first_seen(event: &Object, now: Timestamp) -> Value {
    ages::since(first(event), now).into()
}

fn last_seen(event: &Object, now: Timestamp) -> Value {
    let series = at(event, &["series", "lastObservedTime"]);
    let last = any(event, &[&["lastTimestamp"], &["deprecatedLastTimestamp"]]);
    ages::since(series.or(last).or_else(|| first(event)), now).into()
}

fn event_count(event: &Object, _: Timestamp) -> Value {
    let count = any(event, &[&["series", "count"], &["count"], &["deprecatedCount"]]);
    let count = count.and_then(Value::as_i64).filter(|count| *count != 0);
    count.unwrap_or(1).into()
}

fn event_object(event: &Object, _: Timestamp) -> Value {
    let kind = text(event, &[&["involvedObject", "kind"], &["regarding", "kind"]]).to_lowercase();
    let name = text(event, &[&["involvedObject", "name"], &["regarding", "name"]]);
    match name {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

fn event_subobject(event: &Object, _: Timestamp) -> Value {
    text(
        event,
        &[&["involvedObject", "fieldPath"], &["regarding", "fieldPath"]],
    )
    .into()
}

fn event_source(event: &Object, _: Timestamp) -> Value {
    let component = text(
        event,
        &[
            &["source", "component"],
            &["deprecatedSource", "component"],
            &["reportingComponent"],
            &["reportingController"],
        ],
    );
    let host = text(
        event,
        &[
            &["source", "host"],
            &["deprecatedSource", "host"],
            &["reportingInstance"],
        ],
    );
    match host {
        "" => component.into(),
        host => format!("{component}, {host}").into(),
    }
}

fn event_message(event: &Object, _: Timestamp) -> Value {
    text(event, &[&["message"], &["note"]]).trim().into()
}
