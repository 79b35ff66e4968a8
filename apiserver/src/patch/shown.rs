//! Values as Go prints them, which is how a real server shows parts of a patch in its texts.

use serde_json::Value;

/// A value as Go's `%v` prints it: `map[a:b c:[1 2]]`.
#[must_use]
pub fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(entries) => {
            let entries: Vec<String> = entries.iter().map(go_text).collect();
            format!("[{}]", entries.join(" "))
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, String)> = fields
                .iter()
                .map(|(name, value)| (name, go_text(value)))
                .collect();
            fields.sort();
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name}:{value}"))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_look_as_in_go() {
        let value = json!({"b": [1, "x", null], "a": {"c": true}});
        assert_eq!(go_text(&value), "map[a:map[c:true] b:[1 x <nil>]]");
    }
}
