//! Patches, as tables and against what must always hold.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

#[test]
fn strategic_patches_give_what_is_documented() {
    let text = include_str!("../../testdata/patch/strategic.txt");
    let mut count = 0;
    for case in text.split("\n== ").skip(1) {
        let mut lines = case.lines().filter(|line| !line.is_empty());
        let mut line = || lines.next().unwrap();
        let (title, type_name) = (line(), line());
        let object = |text: &str| -> Map<String, Value> { serde_json::from_str(text).expect(title) };
        let (target, patch, expected) = (object(line()), object(line()), line());
        let patched = strategic(type_name, &target, &patch);
        match expected
            .strip_prefix("refused ")
            .and_then(|refused| refused.split_once(": "))
        {
            Some((code, told)) => {
                let refused = patched.expect_err(title);
                assert_eq!(refused.code.to_string(), code, "{title}");
                assert!(refused.message.starts_with(told), "{title}: {}", refused.message);
            }
            None => {
                let patched = patched.unwrap_or_else(|refused| panic!("{title}: {refused}"));
                // As texts, so that the order of lists counts and that of fields does not.
                assert_eq!(Value::Object(patched), Value::Object(object(expected)), "{title}");
            }
        }
        count += 1;
    }
    assert!(count > 20, "{count} cases were read");
}

#[test]
fn json_patches_are_applied_or_refused() {
    let target = json!({"a": [1, 2], "b": {"c": 1}});
    let patched = json(
        &target,
        &json!([
            {"op": "test", "path": "/b/c", "value": 1},
            {"op": "add", "path": "/a/-", "value": 3},
            {"op": "remove", "path": "/a/0"},
            {"op": "copy", "from": "/b", "path": "/d"},
            {"op": "replace", "path": "/b/c", "value": 2},
        ]),
    );
    assert_eq!(
        patched.unwrap(),
        json!({"a": [2, 3], "b": {"c": 2}, "d": {"c": 1}})
    );
    for (operations, code) in [
        (json!([{"op": "remove", "path": "/x"}]), 422),
        (json!([{"op": "test", "path": "/b/c", "value": 9}]), 422),
        (json!([{"op": "explode", "path": "/b"}]), 422),
        (json!([{"path": "/b"}]), 422),
        (json!([1]), 400),
        (json!({}), 400),
        (
            Value::from(vec![
                json!({"op": "test", "path": "", "value": 1});
                OPERATIONS_MAX + 1
            ]),
            413,
        ),
    ] {
        assert_eq!(json(&target, &operations).unwrap_err().code, code);
    }
}

/// What a real server reads into operations that RFC 6902 refuses.
#[test]
fn json_patches_are_read_leniently() {
    let target = json!({"a": {"b": "1"}});
    for (operation, patched) in [
        (
            json!({"op": "replace", "path": "/a/c", "value": "2"}),
            json!({"a": {"b": "1", "c": "2"}}),
        ),
        (json!({"op": "add", "path": "/a/b"}), json!({"a": {"b": null}})),
        (
            json!({"op": "copy", "from": "/a/x", "path": "/a/c"}),
            json!({"a": {"b": "1", "c": null}}),
        ),
        (
            json!({"op": "test", "path": "/a/x", "value": null}),
            target.clone(),
        ),
    ] {
        assert_eq!(
            json(&target, &json!([operation])).unwrap(),
            patched,
            "{operation}"
        );
    }
}

/// Each copy doubles the whole: forty of them would be a terabyte.
#[test]
fn copies_cannot_blow_up() {
    let double = |n: usize| json!({"op": "copy", "from": "", "path": format!("/{n}")});
    let operations: Value = (0..40).map(double).collect();
    assert_eq!(json(&json!({"a": "b"}), &operations).unwrap_err().code, 422);
}

#[test]
fn merge_patches_follow_their_rfc() {
    let target = json!({"a": {"b": 1, "c": [1]}, "d": 1});
    assert_eq!(
        merge(
            &target,
            &json!({"a": {"b": null, "c": [2]}, "e": {"f": null, "g": 1}})
        ),
        json!({"a": {"c": [2]}, "d": 1, "e": {"g": 1}})
    );
}

/// A few containers with some fields.
fn containers() -> impl Strategy<Value = Vec<Value>> {
    let container = (
        0..5_u8,
        proptest::option::of(0..3_u8),
        proptest::option::of(0..3_u8),
    );
    proptest::collection::vec(container, 0..5).prop_map(|containers| {
        let mut seen = Vec::new();
        let mut built = Vec::new();
        for (name, image, stdin) in containers {
            if seen.contains(&name) {
                continue;
            }
            seen.push(name);
            let mut container = json!({"name": format!("c{name}")});
            if let Some(image) = image {
                container["image"] = json!(format!("i{image}"));
            }
            if let Some(stdin) = stdin {
                container["workingDir"] = json!(format!("/{stdin}"));
            }
            built.push(container);
        }
        built
    })
}

/// The patch that makes one list of containers of another, as a client computes it.
fn difference(from: &[Value], to: &[Value]) -> Value {
    let by_name = |list: &[Value], name: &Value| list.iter().find(|entry| &entry["name"] == name).cloned();
    let order: Vec<Value> = to.iter().map(|entry| json!({"name": entry["name"]})).collect();
    let mut entries = Vec::new();
    for entry in to {
        match by_name(from, &entry["name"]) {
            None => entries.push(entry.clone()),
            Some(was) => {
                let mut changed = entry.clone();
                for field in ["image", "workingDir"] {
                    if was.get(field).is_some() && entry.get(field).is_none() {
                        changed[field] = Value::Null;
                    }
                }
                entries.push(changed);
            }
        }
    }
    for entry in from.iter().filter(|entry| by_name(to, &entry["name"]).is_none()) {
        entries.push(json!({"name": entry["name"], "$patch": "delete"}));
    }
    json!({"spec": {"$setElementOrder/containers": order, "containers": entries}})
}

proptest! {
    #[test]
    fn the_patch_of_a_difference_gives_the_other(from in containers(), to in containers()) {
        let target = json!({"spec": {"containers": from}});
        let patch = difference(&from, &to);
        let patched = strategic(
            "io.k8s.api.core.v1.Pod",
            target.as_object().unwrap(),
            patch.as_object().unwrap(),
        ).unwrap();
        prop_assert_eq!(&patched["spec"]["containers"], &Value::from(to));
    }

    #[test]
    fn a_patch_of_itself_changes_nothing(list in containers()) {
        let object = json!({"spec": {"containers": list}});
        let object = object.as_object().unwrap();
        prop_assert_eq!(&strategic("io.k8s.api.core.v1.Pod", object, object).unwrap(), object);
    }
}
