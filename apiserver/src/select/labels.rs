//! Label selectors: `app=web,tier in (a,b),!canary`.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::names;
use crate::object::{Object, metadata};
use crate::status::Status;

/// Requirements on labels, all of which an object must meet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Labels {
    requirements: Vec<Requirement>,
    nothing: bool,
}

/// One requirement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what: some values for `In` and `NotIn`, one for the comparisons of numbers, none else.
    pub values: BTreeSet<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// It is there, with one of the values.
    In,
    /// It is missing or has another value.
    NotIn,
    /// It is there.
    Exists,
    /// It is missing.
    DoesNotExist,
    /// It is a whole number above the value.
    Greater,
    /// It is a whole number below the value.
    Less,
}

impl Labels {
    /// The selector that every object meets.
    #[must_use]
    pub fn everything() -> Self {
        Labels::default()
    }

    /// The selector that no object meets.
    #[must_use]
    pub fn nothing() -> Self {
        Labels {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Reads the text of a selector; an empty one selects everything.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let mut requirements = Parser::new(text).requirements().map_err(Status::bad_request)?;
        requirements.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(Labels {
            requirements,
            nothing: false,
        })
    }

    /// Reads a `LabelSelector` object (`matchLabels`, `matchExpressions`). As the API has it, none selects nothing and an
    /// empty one everything.
    pub fn of_selector(selector: Option<&Value>) -> Result<Self, Status> {
        let Some(selector) = selector.and_then(Value::as_object) else {
            return Ok(Labels::nothing());
        };
        let mut requirements = equalities(selector.get("matchLabels"));
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default();
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let told = format!("\"{other}\" is not a valid label selector operator");
                    return Err(Status::bad_request(told));
                }
            };
            let values = expression.get("values").and_then(Value::as_array);
            let values = values.into_iter().flatten().filter_map(Value::as_str);
            requirements.push(Requirement {
                key: text("key").to_owned(),
                operator,
                values: values.map(str::to_owned).collect(),
            });
        }
        requirements.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(Labels {
            requirements,
            nothing: false,
        })
    }

    /// Reads a map of labels that must all be there (the selector of a service or replication controller); none or an
    /// empty one selects nothing.
    #[must_use]
    pub fn of_map(map: Option<&Value>) -> Self {
        let requirements = equalities(map);
        Labels {
            nothing: requirements.is_empty(),
            requirements,
        }
    }

    /// Whether every object meets it.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Whether these labels meet all requirements.
    #[must_use]
    pub fn matches(&self, labels: Option<&Object>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.is_met(labels))
    }

    /// Whether the labels of this object meet all requirements.
    #[must_use]
    pub fn matches_object(&self, object: &Object) -> bool {
        if self.is_everything() {
            return true;
        }
        let labels = metadata(object).and_then(|metadata| metadata.get("labels"));
        self.matches(labels.and_then(Value::as_object))
    }
}

impl Requirement {
    fn is_met(&self, labels: Option<&Object>) -> bool {
        let value = labels
            .and_then(|labels| labels.get(&self.key))
            .and_then(Value::as_str);
        match self.operator {
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => !value.is_some_and(|value| self.values.contains(value)),
            Operator::Greater => self.compare(value).is_some_and(|(is, than)| is > than),
            Operator::Less => self.compare(value).is_some_and(|(is, than)| is < than),
        }
    }

    fn compare(&self, value: Option<&str>) -> Option<(i64, i64)> {
        let than = self.values.first()?.parse().ok()?;
        Some((value?.parse().ok()?, than))
    }
}

fn equalities(map: Option<&Value>) -> Vec<Requirement> {
    let map = map.and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: BTreeSet::from([value.as_str().unwrap_or_default().to_owned()]),
        })
        .collect()
}

impl fmt::Display for Labels {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                out.write_str(",")?;
            }
            requirement.fmt(out)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        let values = values.join(",");
        match self.operator {
            Operator::Exists => write!(out, "{key}"),
            Operator::DoesNotExist => write!(out, "!{key}"),
            Operator::In if self.values.len() == 1 => write!(out, "{key}={values}"),
            Operator::NotIn if self.values.len() == 1 => write!(out, "{key}!={values}"),
            Operator::In => write!(out, "{key} in ({values})"),
            Operator::NotIn => write!(out, "{key} notin ({values})"),
            Operator::Greater => write!(out, "{key}>{values}"),
            Operator::Less => write!(out, "{key}<{values}"),
        }
    }
}

/// The parts of a selector's text.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Token<'a> {
    Word(&'a str),
    Sign(&'static str),
    End,
}

impl Token<'_> {
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Sign(sign) => sign,
            Token::End => "",
        }
    }
}

/// The signs, longer ones first.
const SIGNS: &[&str] = &["==", "!=", "=", "!", ",", "(", ")", ">", "<"];

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Parser { rest: text }
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        if self.peek() == Token::End {
            return Ok(requirements);
        }
        loop {
            if let Token::Sign(sign) = self.peek()
                && sign != "!"
            {
                let expected = "!, identifier, or 'end of string'";
                return Err(format!("found '{sign}', expected: {expected}"));
            }
            let requirement = self.requirement();
            requirements.push(requirement.map_err(|told| format!("unable to parse requirement: {told}"))?);
            match self.take() {
                Token::End => return Ok(requirements),
                Token::Sign(",") => match self.peek() {
                    Token::Word(_) | Token::Sign("!") => {}
                    other => {
                        return Err(format!(
                            "found '{}', expected: identifier after ','",
                            other.text()
                        ));
                    }
                },
                other => {
                    return Err(format!(
                        "found '{}', expected: ',' or 'end of string'",
                        other.text()
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        if self.peek() == Token::Sign("!") {
            self.take();
            return requirement(self.key()?, Operator::DoesNotExist, BTreeSet::new());
        }
        let key = self.key()?;
        if matches!(self.peek(), Token::End | Token::Sign(",")) {
            return requirement(key, Operator::Exists, BTreeSet::new());
        }
        let takes_set = matches!(self.peek(), Token::Word(_));
        let operator = match self.take() {
            Token::Sign("=" | "==") | Token::Word("in") => Operator::In,
            Token::Sign("!=") | Token::Word("notin") => Operator::NotIn,
            Token::Sign(">") => Operator::Greater,
            Token::Sign("<") => Operator::Less,
            other => {
                let expected = "in, notin, =, ==, !=, gt, lt";
                return Err(format!("found '{}', expected: {expected}", other.text()));
            }
        };
        let values = match self.peek() {
            Token::Sign("(") if takes_set => self.set()?,
            other if takes_set => return Err(format!("found '{}' expected: '('", other.text())),
            _ => BTreeSet::from([self.value()?]),
        };
        requirement(key, operator, values)
    }

    fn key(&mut self) -> Result<String, String> {
        match self.take() {
            Token::Word(word) => Ok(word.to_owned()),
            other => Err(format!(
                "found '{}', expected: !, identifier, or 'end of string'",
                other.text()
            )),
        }
    }

    /// One value, which may be empty.
    fn value(&mut self) -> Result<String, String> {
        match self.peek() {
            Token::Word(word) => {
                self.take();
                Ok(word.to_owned())
            }
            Token::End | Token::Sign(",") => Ok(String::new()),
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    /// Values in brackets, which may be empty.
    fn set(&mut self) -> Result<BTreeSet<String>, String> {
        self.take();
        let mut values = BTreeSet::new();
        loop {
            let value = match self.peek() {
                Token::Word(word) => {
                    self.take();
                    word.to_owned()
                }
                Token::Sign("," | ")") => String::new(),
                other => {
                    return Err(format!(
                        "found '{}', expected: ',', ')' or identifier",
                        other.text()
                    ));
                }
            };
            values.insert(value);
            match self.take() {
                Token::Sign(",") => {}
                Token::Sign(")") => return Ok(values),
                other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
            }
        }
    }

    fn peek(&self) -> Token<'a> {
        self.next().0
    }

    fn take(&mut self) -> Token<'a> {
        let (token, rest) = self.next();
        self.rest = rest;
        token
    }

    fn next(&self) -> (Token<'a>, &'a str) {
        let rest = self.rest.trim_start();
        for sign in SIGNS {
            if let Some(rest) = rest.strip_prefix(sign) {
                return (Token::Sign(sign), rest);
            }
        }
        let is_end = |character: char| character.is_whitespace() || "=!,()<>".contains(character);
        let end = rest.find(is_end).unwrap_or(rest.len());
        match rest.split_at(end) {
            ("", rest) => (Token::End, rest),
            (word, rest) => (Token::Word(word), rest),
        }
    }
}

/// A requirement whose key and values are such as labels can have.
fn requirement(key: String, operator: Operator, values: BTreeSet<String>) -> Result<Requirement, String> {
    if let Some(told) = names::qualified(&key).into_iter().next() {
        return Err(format!("key: Invalid value: {key:?}: {told}"));
    }
    for value in &values {
        if let Some(told) = names::label_value(value).into_iter().next() {
            return Err(format!("values[0][{key}]: Invalid value: {value:?}: {told}"));
        }
        if matches!(operator, Operator::Greater | Operator::Less) && value.parse::<i64>().is_err() {
            return Err(
                "values[0]: Invalid value: for 'Gt', 'Lt' operators, the value must be an integer".to_owned(),
            );
        }
    }
    Ok(Requirement {
        key,
        operator,
        values,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn selects(selector: &str, labels: &Value) -> bool {
        let parsed = Labels::parse(selector).unwrap();
        assert_eq!(Labels::parse(&parsed.to_string()).unwrap(), parsed, "{selector}");
        parsed.matches(labels.as_object())
    }

    #[test]
    fn requirements_are_met_or_not() {
        let labels = json!({"app": "web", "tier": "a", "n": "7", "empty": ""});
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=a", true),
            ("app = web , tier = a", true),
            ("app!=web", false),
            ("missing!=web", true),
            ("app in (web,db)", true),
            ("app in (db)", false),
            ("app notin (db, x)", true),
            ("missing notin (db)", true),
            ("missing in (db)", false),
            ("app", true),
            ("!app", false),
            ("!service.kubernetes.io/headless", true),
            ("n>6,n<8", true),
            ("n>7", false),
            ("app>1", false),
            ("empty=", true),
            ("empty in ()", true),
            ("empty in (,x)", true),
            ("app=", false),
        ] {
            assert_eq!(selects(selector, &labels), expected, "{selector}");
        }
        assert!(!selects("app", &Value::Null));
        assert!(selects("!app", &Value::Null));
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "=",
            "a=b,",
            "a b",
            "a in b)",
            "a in (b",
            "a in (b c)",
            "a=b=c",
            "!",
            "a=-b",
            "-a",
            "a>b",
            "a=b,,c",
            "a notin",
        ] {
            assert_eq!(Labels::parse(text).unwrap_err().code, 400, "{text}");
        }
        for (text, told) in [
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("a notin", "unable to parse requirement: found '' expected: '('"),
        ] {
            assert_eq!(Labels::parse(text).unwrap_err().message, told);
        }
    }

    #[test]
    fn selector_objects_are_read() {
        let selector = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["b", "a"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        });
        let labels = Labels::of_selector(Some(&selector)).unwrap();
        assert_eq!(labels.to_string(), "app=web,!old,tier in (a,b)");
        assert!(labels.matches(json!({"app": "web", "tier": "a"}).as_object()));
        assert!(Labels::of_selector(Some(&json!({}))).unwrap().is_everything());
        assert!(!Labels::of_selector(None).unwrap().matches(None));
        assert!(!Labels::of_map(Some(&json!({}))).matches(None));
        assert!(Labels::of_map(Some(&json!({"a": "b"}))).matches(json!({"a": "b"}).as_object()));
        let odd = json!({"matchExpressions": [{"key": "a", "operator": "Like"}]});
        assert_eq!(Labels::of_selector(Some(&odd)).unwrap_err().code, 400);
    }

    fn requirements() -> impl Strategy<Value = Labels> {
        let values = || proptest::collection::btree_set("[a-z0-9]{0,3}", 1..4);
        let requirement = ("([a-z]{1,4}/)?[a-z]{1,3}", 0..6_u8, values(), -9..99_i64);
        proptest::collection::vec(requirement, 0..4).prop_map(|requirements| {
            let build = |(key, operator, values, number): (String, u8, BTreeSet<String>, i64)| {
                let number = BTreeSet::from([number.abs().to_string()]);
                let (operator, values) = match operator {
                    0 => (Operator::In, values),
                    1 => (Operator::NotIn, values),
                    2 => (Operator::Exists, BTreeSet::new()),
                    3 => (Operator::DoesNotExist, BTreeSet::new()),
                    4 => (Operator::Greater, number),
                    _ => (Operator::Less, number),
                };
                Requirement {
                    key,
                    operator,
                    values,
                }
            };
            let mut requirements: Vec<Requirement> = requirements.into_iter().map(build).collect();
            requirements.sort_by(|one, other| one.key.cmp(&other.key));
            Labels {
                requirements,
                nothing: false,
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(labels in requirements()) {
            prop_assert_eq!(Labels::parse(&labels.to_string()).unwrap(), labels);
        }

        #[test]
        fn no_text_is_a_surprise(text in "[a-c!=(),<> intnoe/]{0,24}") {
            if let Ok(labels) = Labels::parse(&text) {
                prop_assert_eq!(Labels::parse(&labels.to_string()).unwrap(), labels);
            }
        }
    }
}
