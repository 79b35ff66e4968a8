//! Paths of fields in the data of this room: `spec.template.spec`, `containers[]` for each entry of a list, `data{}` for
//! each value of a map, and `probe?` for a field below which nothing is made where it is missing.

use serde_json::Value;

use crate::object::Object;

/// One step down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    field: String,
    kind: StepKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StepKind {
    /// A field, made where it is missing if something below it is to be set.
    Field,
    /// A field that is never made.
    Maybe,
    /// Each entry of the list in a field.
    Entries,
    /// Each value of the map in a field.
    Values,
}

/// A field below some steps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Path {
    parents: Vec<Step>,
    last: Step,
}

impl Path {
    /// Reads a path. There is always at least one step: the text of an empty one is an empty field.
    pub(super) fn parse(text: &str) -> Path {
        let mut steps: Vec<Step> = text.split('.').map(Step::parse).collect();
        let last = steps.pop().unwrap_or_else(|| Step::parse(""));
        Path { parents: steps, last }
    }

    /// The name of the field at the end.
    pub(super) fn field(&self) -> &str {
        &self.last.field
    }

    /// Whether the field at the end is one of which there is one, and that must be there.
    pub(super) fn is_plain(&self) -> bool {
        self.last.kind == StepKind::Field
    }

    /// Shows each object that holds the field at the end; those that are missing are made.
    pub(super) fn holders_mut(&self, object: &mut Object, show: &mut dyn FnMut(&mut Object)) {
        descend_mut(object, &self.parents, show);
    }

    /// Shows each object at the end of the path; none is made.
    pub(super) fn objects_mut(&self, object: &mut Object, show: &mut dyn FnMut(&mut Object)) {
        let mut steps: Vec<Step> = self.parents.iter().map(Step::never_made).collect();
        steps.push(self.last.never_made());
        descend_mut(object, &steps, show);
    }

    /// Shows each value at the end of the path together with where it stands, below the place `at`. A field that is missing
    /// is shown as none, as long as there is an object that could have it.
    pub(super) fn values<'a>(
        &self,
        object: &'a Object,
        at: &str,
        show: &mut dyn FnMut(String, Option<&'a Value>),
    ) {
        ascend(object, &self.parents, at, &mut |holder, at| {
            let place = join(at, &self.last.field);
            let value = holder.get(&self.last.field).filter(|value| !value.is_null());
            match (self.last.kind, value) {
                (StepKind::Entries, Some(Value::Array(entries))) => {
                    for (index, entry) in entries.iter().enumerate() {
                        show(format!("{place}[{index}]"), Some(entry));
                    }
                }
                (StepKind::Values, Some(Value::Object(values))) => {
                    for (key, value) in values {
                        show(format!("{place}[{key}]"), Some(value));
                    }
                }
                (StepKind::Entries | StepKind::Values, _) => {}
                (StepKind::Field | StepKind::Maybe, value) => show(place, value),
            }
        });
    }

    /// The first value at the end of the path.
    pub(super) fn first<'a>(&self, object: &'a Object) -> Option<&'a Value> {
        let mut found = None;
        self.values(object, "", &mut |_, value| found = found.or(value));
        found
    }
}

impl Step {
    fn parse(text: &str) -> Step {
        let endings = [
            ("[]", StepKind::Entries),
            ("{}", StepKind::Values),
            ("?", StepKind::Maybe),
        ];
        for (ending, kind) in endings {
            if let Some(field) = text.strip_suffix(ending) {
                let field = field.to_owned();
                return Step { field, kind };
            }
        }
        Step {
            field: text.to_owned(),
            kind: StepKind::Field,
        }
    }

    fn never_made(&self) -> Step {
        let kind = match self.kind {
            StepKind::Field => StepKind::Maybe,
            kind => kind,
        };
        Step {
            field: self.field.clone(),
            kind,
        }
    }
}

/// `at.field`, or the field alone at the top.
pub(super) fn join(at: &str, field: &str) -> String {
    match at {
        "" => field.to_owned(),
        at => format!("{at}.{field}"),
    }
}

fn descend_mut(object: &mut Object, steps: &[Step], show: &mut dyn FnMut(&mut Object)) {
    let Some((step, rest)) = steps.split_first() else {
        return show(object);
    };
    let is_missing = object.get(&step.field).is_none_or(Value::is_null);
    if is_missing && step.kind == StepKind::Field {
        object.insert(step.field.clone(), Value::Object(Object::new()));
    }
    match (step.kind, object.get_mut(&step.field)) {
        (StepKind::Field | StepKind::Maybe, Some(Value::Object(child))) => descend_mut(child, rest, show),
        (StepKind::Entries, Some(Value::Array(entries))) => {
            for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
                descend_mut(entry, rest, show);
            }
        }
        (StepKind::Values, Some(Value::Object(values))) => {
            for value in values.values_mut().filter_map(Value::as_object_mut) {
                descend_mut(value, rest, show);
            }
        }
        _ => {}
    }
}

/// Shows each object at the end of some steps and its place. An object that is missing counts as empty if it is one that
/// must be there, so that what it lacks is found; below `?`, lists and maps nothing is missing.
fn ascend<'a>(object: &'a Object, steps: &[Step], at: &str, show: &mut dyn FnMut(&'a Object, &str)) {
    let Some((step, rest)) = steps.split_first() else {
        return show(object, at);
    };
    let place = join(at, &step.field);
    match (
        step.kind,
        object.get(&step.field).filter(|value| !value.is_null()),
    ) {
        (StepKind::Field | StepKind::Maybe, Some(Value::Object(child))) => ascend(child, rest, &place, show),
        (StepKind::Field, None) => ascend(&EMPTY, rest, &place, show),
        (StepKind::Entries, Some(Value::Array(entries))) => {
            for (index, entry) in entries.iter().enumerate() {
                if let Some(entry) = entry.as_object() {
                    ascend(entry, rest, &format!("{place}[{index}]"), show);
                }
            }
        }
        (StepKind::Values, Some(Value::Object(values))) => {
            for (key, value) in values {
                if let Some(value) = value.as_object() {
                    ascend(value, rest, &format!("{place}[{key}]"), show);
                }
            }
        }
        _ => {}
    }
}

static EMPTY: std::sync::LazyLock<Object> = std::sync::LazyLock::new(Object::new);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_told_as_a_real_server_tells_them() {
        let pod = json!({"spec": {"containers": [{"name": "a"}, {"ports": [{"containerPort": 1}]}], "x": {"k": 1}}});
        let told = |path: &str| {
            let mut told = Vec::new();
            Path::parse(path).values(pod.as_object().unwrap(), "", &mut |at, value| {
                told.push((at, value.cloned()));
            });
            told
        };
        let name = |at: &str, value: Option<Value>| (at.to_owned(), value);
        assert_eq!(
            told("spec.containers[].name"),
            [
                name("spec.containers[0].name", Some(json!("a"))),
                name("spec.containers[1].name", None),
            ]
        );
        assert_eq!(
            told("spec.containers[].ports[].containerPort"),
            [name("spec.containers[1].ports[0].containerPort", Some(json!(1)))]
        );
        assert_eq!(told("spec.x{}"), [name("spec.x[k]", Some(json!(1)))]);
        assert_eq!(told("a.b"), [name("a.b", None)]);
        assert_eq!(told("a?.b"), []);
    }

    #[test]
    fn only_plain_fields_are_made() {
        for (path, expected) in [
            ("a.b.c", json!({"a": {"b": {"c": 1}}})),
            ("a?.b", json!({})),
            ("a[].b", json!({})),
            ("a.b?.c", json!({"a": {}})),
        ] {
            let mut object = Object::new();
            let path = Path::parse(path);
            path.holders_mut(&mut object, &mut |holder| {
                holder.insert(path.field().to_owned(), json!(1));
            });
            assert_eq!(Value::Object(object), expected);
        }
    }
}
