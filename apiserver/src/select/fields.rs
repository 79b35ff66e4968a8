//! Field selectors: `spec.nodeName=n,status.phase!=Failed`.

use std::fmt;

use serde_json::Value;

use super::known::{self, Known, Words};
use crate::object::{Object, at};
use crate::resources::Resource;
use crate::status::Status;

/// Requirements on fields, all of which an object must meet.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    terms: Vec<Term>,
}

#[derive(Clone, Debug)]
struct Term {
    field: &'static Known,
    equal: bool,
    value: String,
}

impl Fields {
    /// The selector that every object meets.
    #[must_use]
    pub fn everything() -> Self {
        Fields::default()
    }

    /// Reads a selector of a resource's fields; an empty one selects everything.
    pub fn parse(r: &Resource, text: &str) -> Result<Self, Status> {
        let mut terms = Vec::new();
        for piece in split_terms(text) {
            if piece.is_empty() {
                continue;
            }
            let Some((label, equal, value)) = split_operator(piece) else {
                let message = format!("invalid selector: '{text}'; can't understand '{piece}'");
                return Err(Status::bad_request(message));
            };
            let value = unescape(value)
                .map_err(|what| Status::bad_request(format!("invalid field selector: {what} in {value}")))?;
            let Some(field) = known::find(r, label) else {
                return Err(unknown(r, label));
            };
            terms.push(Term { field, equal, value });
        }
        Ok(Fields { terms })
    }

    /// Whether an object meets all of them.
    #[must_use]
    pub fn matches(&self, object: &Object) -> bool {
        self.terms.iter().all(|term| {
            let equal = term.field.with_value(object, |value| value == term.value);
            equal == term.equal
        })
    }

    /// Whether every object meets it.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The only name that an object it selects can have, if there is one. Other requirements may stand beside it.
    #[must_use]
    pub fn single_name(&self) -> Option<&str> {
        self.demanded("metadata.name")
    }

    /// The only namespace that an object it selects can be in, if there is one.
    #[must_use]
    pub fn single_namespace(&self) -> Option<&str> {
        self.demanded("metadata.namespace")
    }

    fn demanded(&self, label: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|term| term.equal && term.field.label == label)
            .map(|term| term.value.as_str())
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = if term.equal { "=" } else { "!=" };
            let value = escape(&term.value);
            write!(out, "{comma}{}{operator}{value}", term.field.label)?;
        }
        Ok(())
    }
}

impl Known {
    /// Shows the value of the field as text.
    fn with_value<T>(&self, object: &Object, show: impl FnOnce(&str) -> T) -> T {
        let value = self.paths.iter().find_map(|path| match at(object, path) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            other => other,
        });
        match value {
            None => show(self.default),
            Some(Value::String(text)) => show(text),
            Some(other) => show(&other.to_string()),
        }
    }
}

/// The refusal of a field that cannot be selected by.
fn unknown(r: &Resource, label: &str) -> Status {
    Status::bad_request(match known::words(r) {
        Words::Unknown => {
            format!(
                "\"{label}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )
        }
        Words::Bare => format!("field label not supported: {label}"),
        Words::OfKind => format!("field label \"{label}\" not supported for {}", r.kind),
        Words::OfVersion => {
            let (version, kind) = (r.api_version(), r.kind);
            format!("field label not supported for {version}, Kind={kind}: {label}")
        }
    })
}

/// The pieces between commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                pieces.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    pieces.push(&text[start..]);
    pieces
}

/// The label, whether it must be equal, and the value as it stands there.
fn split_operator(piece: &str) -> Option<(&str, bool, &str)> {
    let index = piece.find(['!', '=']).filter(|index| *index > 0)?;
    let (label, rest) = piece.split_at(index);
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some(value) = rest.strip_prefix(operator) {
            return Some((label, equal, value));
        }
    }
    None
}

/// A value as it stands in the text of a selector.
#[must_use]
pub fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '\\' | ',' | '=') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

/// A value without its backslashes.
fn unescape(value: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(next @ ('\\' | ',' | '=')) => plain.push(next),
                Some(_) => return Err("invalid escape sequence"),
                None => return Err("unterminated escape sequence"),
            },
            '=' | ',' => return Err("unescaped character"),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::find;

    fn selects(r: (&str, &str, &str), selector: &str, object: &Value) -> bool {
        let resource = find(r.0, r.1, r.2).unwrap();
        let fields = Fields::parse(resource, selector).unwrap();
        let again = Fields::parse(resource, &fields.to_string()).unwrap();
        assert_eq!(again.to_string(), fields.to_string());
        fields.matches(object.as_object().unwrap())
    }

    #[test]
    fn fields_are_compared_as_texts() {
        let pods = ("", "v1", "pods");
        let pod =
            json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
        for (selector, expected) in [
            ("", true),
            ("metadata.name=a", true),
            ("metadata.name==a,spec.nodeName=n", true),
            ("spec.nodeName!=", true),
            ("spec.nodeName=", false),
            ("status.phase!=Succeeded,status.phase!=Failed", true),
            ("status.phase!=Running", false),
            ("status.podIP=", true),
            ("spec.hostNetwork=false", true),
        ] {
            assert_eq!(selects(pods, selector, &pod), expected, "{selector}");
        }
        let node = json!({"spec": {"unschedulable": true}});
        assert!(selects(("", "v1", "nodes"), "spec.unschedulable=true", &node));
        assert!(selects(
            ("", "v1", "nodes"),
            "spec.unschedulable=false",
            &json!({})
        ));
        let event = json!({"involvedObject": {"name": "p"}, "source": {}, "reportingComponent": "kubelet"});
        assert!(selects(
            ("", "v1", "events"),
            "involvedObject.name=p,source=kubelet",
            &event
        ));
        assert!(selects(
            ("events.k8s.io", "v1", "events"),
            "regarding.name=p",
            &event
        ));
    }

    #[test]
    fn a_name_is_found_among_others() {
        let pods = find("", "v1", "pods").unwrap();
        let name = |text: &str| {
            Fields::parse(pods, text)
                .unwrap()
                .single_name()
                .map(str::to_owned)
        };
        assert_eq!(name("spec.nodeName=n,metadata.name=a").as_deref(), Some("a"));
        assert_eq!(name("metadata.name!=a"), None);
        assert_eq!(name("metadata.name=a\\,b").as_deref(), Some("a,b"));
    }

    #[test]
    fn what_cannot_be_selected_by_is_refused() {
        for (plural, selector, told) in [
            ("pods", "spec.x=1", "field label not supported: spec.x"),
            (
                "configmaps",
                "data.x=1",
                "\"data.x\" is not a known field selector: only",
            ),
            (
                "configmaps",
                "metadata.name",
                "invalid selector: 'metadata.name'; can't understand 'metadata.name'",
            ),
            ("configmaps", "=a", "can't understand '=a'"),
            ("configmaps", "metadata.name=a\\b", "invalid escape sequence"),
            ("configmaps", "metadata.name=a=b", "unescaped character"),
        ] {
            let refused = Fields::parse(find("", "v1", plural).unwrap(), selector).unwrap_err();
            assert_eq!(refused.code, 400);
            assert!(refused.message.contains(told), "{}", refused.message);
        }
    }
}
