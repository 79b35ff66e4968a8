//! YAML into JSON. Aliases let a short text stand for any amount of data: what is unfolded is counted while it is read,
//! and is refused when it grows out of proportion to the text.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde_json::Value;

use crate::object::Object;

/// Reads a document. Keys that are no texts become texts, as JSON has them.
pub(super) fn read(bytes: &[u8]) -> Result<Object, String> {
    let brackets = bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if bytes.len().saturating_mul(brackets) > SCAN_STEPS_MAX {
        return Err("too many brackets for a document of this size, which JSON may have".to_owned());
    }
    let left = Cell::new(bytes.len().saturating_mul(UNFOLDED_FACTOR) + UNFOLDED_BYTES_MIN);
    let node = Node { left: &left };
    match node.deserialize(serde_yaml_ng::Deserializer::from_slice(bytes)) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("the document is no mapping".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// One value, and what the rest of the document may still take.
#[derive(Clone, Copy)]
struct Node<'a> {
    left: &'a Cell<usize>,
}

impl Node<'_> {
    fn take<E: Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.left.get().checked_sub(bytes + 1);
        // As the library of a real API server has it.
        let left = left.ok_or_else(|| E::custom("document contains excessive aliasing"))?;
        self.left.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.take(0).map(|()| Value::Null)
    }

    /// An empty document.
    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.take(0).map(|()| Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.take(0).map(|()| Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.take(0).map(|()| Value::from(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "as numbers of JSON that large lose it")]
    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "as numbers of JSON that large lose it")]
    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.take(0)?;
        match serde_json::Number::from_f64(value) {
            Some(number) => Ok(Value::Number(number)),
            None => Err(E::custom(format!("{value} is no number of JSON"))),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.take(text.len()).map(|()| Value::from(text))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        self.take(text.len()).map(|()| Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.take(0)?;
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(self)? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.take(0)?;
        let mut object = Object::new();
        while let Some(key) = entries.next_key_seed(self)? {
            let key = match key {
                Value::String(key) => key,
                key @ (Value::Bool(_) | Value::Number(_)) => key.to_string(),
                _ => return Err(A::Error::custom("a key is no text")),
            };
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("key {key:?} already set in map")));
            }
            let value = entries.next_value_seed(self)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }

    /// What has a tag of its own is what it is without.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (_, value) = tagged.variant::<String>()?;
        value.newtype_variant_seed(self)
    }
}

/// The parser looks at every bracket that is open for each piece of the text, which may be all of them: a second's work.
const SCAN_STEPS_MAX: usize = 1 << 31;
/// What a document may unfold to, in bytes of texts and one for every value, for each byte of it: what has no aliases
/// takes less.
const UNFOLDED_FACTOR: usize = 3;
/// And what it may in any case, so that small ones may repeat themselves more often.
const UNFOLDED_BYTES_MIN: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_read_as_json() {
        let text = "a: 1\n2: [x, ~, true, 1.5, -3]\ntrue: !odd {b: c}\nd: &d {e: \"\\u00e9\"}\nf: *d\n\
                    big: 18446744073709551616\n";
        let expected = json!({
            "a": 1,
            "2": ["x", null, true, 1.5, -3],
            "true": {"b": "c"},
            "d": {"e": "\u{e9}"},
            "f": {"e": "\u{e9}"},
            "big": 18_446_744_073_709_551_616.0,
        });
        assert_eq!(Value::Object(read(text.as_bytes()).unwrap()), expected);
        for (text, told) in [
            ("[a]", "no mapping"),
            ("", "no mapping"),
            ("a: .inf", "no number of JSON"),
            ("{a: 1, a: 2}", "key \"a\" already set in map"),
            ("{[a]: 1}", "a key is no text"),
            ("{~: 1}", "a key is no text"),
            ("a: *b", "unknown anchor"),
            ("a: b\n---\nc: d", "more than one document"),
            ("a: \"\\xff", ""),
            ("a: \0", ""),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        let deep = format!("a: {}{}", "[".repeat(500), "]".repeat(500));
        assert!(read(deep.as_bytes()).unwrap_err().contains("recursion limit"));
    }

    /// A text of some ten kilobytes would keep the parser busy for a second, one of megabytes for an hour.
    #[test]
    fn brackets_do_not_keep_the_parser_busy() {
        for piece in ["[", "{?", "[{a: "] {
            let error = read(piece.repeat(200_000).as_bytes()).unwrap_err();
            assert!(error.contains("too many brackets"), "{error}");
        }
        let many = format!("a: [{}]", vec!["{b: [c]}"; 5000].join(", "));
        assert!(read(many.as_bytes()).is_ok());
    }

    /// Few anchors that hold much, many that hold each other, and long texts: all the same.
    #[test]
    fn bombs_are_not_unfolded() {
        let list = vec!["x"; 1000].join(",");
        let aliases = vec!["*a"; 1000].join(",");
        let wide = format!("a: &a [{list}]\nb: [{aliases}]\n");
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let below = vec![format!("*a{}", level - 1); 10].join(",");
            laughs += &format!("a{level}: &a{level} [{below}]\n");
        }
        let long = format!("a: &a {}\nb: [{aliases}]\n", "x".repeat(10_000));
        let keys = format!(
            "a: &a {}\nb: [{}]\n",
            "x".repeat(10_000),
            vec!["{*a : 1}"; 1000].join(",")
        );
        for bomb in [wide, laughs, long, keys] {
            let error = read(bomb.as_bytes()).unwrap_err();
            assert!(
                error.contains("excessive aliasing") || error.contains("repetition limit"),
                "{error}"
            );
        }
        // What a person writes is no bomb.
        let shared = format!("a: &a {{image: \"registry/app:1\", args: [one, two]}}\nb: [{aliases}]\n");
        assert!(read(shared.as_bytes()).is_ok());
    }

    /// Without aliases nothing is out of proportion, however dense it is.
    #[test]
    fn every_document_without_aliases_has_room() {
        for piece in ["?\n", ":\n", "- \n", "\"\\L\\L\\L\\L\"", "'x'"] {
            let text = format!("a: [{}]", vec!["~"; 100_000].join(","));
            assert!(read(text.as_bytes()).is_ok());
            let lines = format!("a:\n{}", format!(" - {}\n", piece.trim_end()).repeat(50_000));
            if let Err(error) = read(lines.as_bytes()) {
                assert!(!error.contains("aliasing"), "{piece:?}: {error}");
            }
        }
    }
}
