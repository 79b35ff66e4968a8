//! What a request asks for beyond the object: selectors, revisions, pages, how to write and how to delete.

use jiff::Timestamp;
use serde_json::Value;

use crate::object::Object;
use crate::select::{Fields, Labels};
use crate::status::{Cause, Status};

/// Which objects are listed, at which revision, and how many at once.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Only objects with these labels.
    pub labels: Labels,
    /// Only objects with these fields.
    pub fields: Fields,
    /// At most so many; 0 for all.
    pub limit: i64,
    /// The token of the page before.
    pub continue_: Option<String>,
    /// `resourceVersion`, as given.
    pub resource_version: Option<String>,
    /// `resourceVersionMatch`, as given.
    pub version_match: Option<String>,
}

/// Which objects are watched, and from where on.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// Only objects with these labels.
    pub labels: Labels,
    /// Only objects with these fields.
    pub fields: Fields,
    /// `resourceVersion`, as given.
    pub resource_version: Option<String>,
    /// `resourceVersionMatch`, as given.
    pub version_match: Option<String>,
    /// `sendInitialEvents`, if given: all objects first, and a bookmark that says so.
    pub send_initial_events: Option<bool>,
    /// Whether the client understands bookmarks.
    pub bookmarks: bool,
}

/// How an object is written, and by whom.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Everything but the write.
    pub dry_run: bool,
    /// Who owns the fields that are set; nothing is noted where it is empty.
    pub field_manager: String,
    /// The user that asks.
    pub user: String,
    /// The time of the request.
    pub now: Timestamp,
    /// Whether the change has noted itself who owns which fields, as server-side apply does.
    pub applied: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions {
            dry_run: false,
            field_manager: String::new(),
            user: String::new(),
            now: Timestamp::now(),
            applied: false,
        }
    }
}

/// How an object is deleted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteOptions {
    /// How long it may take to end, where it has something to end.
    pub grace_period_s: Option<i64>,
    /// What becomes of what it owns.
    pub propagation: Option<Propagation>,
    /// It must have this uid.
    pub uid: Option<String>,
    /// It must have this resource version.
    pub resource_version: Option<String>,
}

/// What becomes of the objects that a deleted one owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Propagation {
    /// They stay, without an owner.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

impl Propagation {
    /// The word of the API for it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Propagation> {
        match text {
            "Orphan" => Some(Propagation::Orphan),
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            _ => None,
        }
    }
}

impl DeleteOptions {
    /// Reads the body of a deletion. `dryRun` is not looked at.
    pub fn of(body: &Object) -> Result<DeleteOptions, Status> {
        let mut options = DeleteOptions::default();
        let mut causes = Vec::new();
        match body.get("gracePeriodSeconds") {
            None | Some(Value::Null) => {}
            Some(seconds) => match seconds.as_i64() {
                Some(seconds) => options.grace_period_s = Some(seconds),
                None => return Err(unreadable("gracePeriodSeconds", "int64")),
            },
        }
        match body.get("propagationPolicy") {
            None | Some(Value::Null) => {}
            Some(policy) => {
                let text = policy
                    .as_str()
                    .ok_or_else(|| unreadable("propagationPolicy", "string"))?;
                options.propagation = Propagation::parse(text);
                if options.propagation.is_none() {
                    let known = ["Foreground", "Background", "Orphan", "nil"];
                    causes.push(Cause::not_supported("propagationPolicy", policy, &known));
                }
            }
        }
        match body.get("orphanDependents") {
            None | Some(Value::Null) => {}
            Some(Value::Bool(_))
                if body
                    .get("propagationPolicy")
                    .is_some_and(|policy| !policy.is_null()) =>
            {
                let text = "orphanDependents and deletionPropagation cannot be both set";
                causes.push(Cause::invalid(
                    "propagationPolicy",
                    &body["propagationPolicy"],
                    text,
                ));
            }
            Some(Value::Bool(true)) => options.propagation = Some(Propagation::Orphan),
            Some(Value::Bool(false)) => options.propagation = Some(Propagation::Background),
            Some(_) => return Err(unreadable("orphanDependents", "bool")),
        }
        if let Some(preconditions) = body.get("preconditions").and_then(Value::as_object) {
            let text = |field| {
                preconditions
                    .get(field)
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            };
            options.uid = text("uid");
            options.resource_version = text("resourceVersion");
        }
        if !causes.is_empty() {
            return Err(Status::invalid_options("DeleteOptions", causes));
        }
        Ok(options)
    }
}

impl ListOptions {
    /// What may not be asked for together.
    pub(super) fn check(&self) -> Result<(), Status> {
        let Some(how) = self.version_match.as_deref().filter(|how| !how.is_empty()) else {
            return Ok(());
        };
        let version = self.resource_version.as_deref().unwrap_or_default();
        let field = "resourceVersionMatch";
        let mut causes = Vec::new();
        if version.is_empty() {
            let text = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            causes.push(Cause::forbidden(field, text));
        }
        if self.continue_.as_deref().is_some_and(|token| !token.is_empty()) {
            let text = "resourceVersionMatch is forbidden when continue is provided";
            causes.push(Cause::forbidden(field, text));
        }
        if !matches!(how, "Exact" | "NotOlderThan") {
            let known = ["Exact", "NotOlderThan", ""];
            causes.push(Cause::not_supported(field, &how.into(), &known));
        }
        if how == "Exact" && version == "0" {
            let text = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(Cause::forbidden(field, text));
        }
        match causes.is_empty() {
            true => Ok(()),
            false => Err(Status::invalid_options("ListOptions", causes)),
        }
    }
}

impl WatchOptions {
    /// What may not be asked for together.
    pub(super) fn check(&self) -> Result<(), Status> {
        let how = self.version_match.as_deref().unwrap_or_default();
        let field = "resourceVersionMatch";
        let mut causes = Vec::new();
        match self.send_initial_events {
            None if how.is_empty() => {}
            None => {
                let text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                causes.push(Cause::forbidden(field, text));
            }
            Some(_) if how == "NotOlderThan" => {}
            Some(_) => {
                let text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                causes.push(Cause::forbidden(field, text));
                if !how.is_empty() {
                    causes.push(Cause::not_supported(field, &how.into(), &["NotOlderThan"]));
                }
            }
        }
        match causes.is_empty() {
            true => Ok(()),
            false => Err(Status::invalid_options("ListOptions", causes)),
        }
    }
}

/// A resource version that a client gives; 0 where it gives none or says that any will do. Else what is wrong with it: a
/// list and a watch refuse it in different ways, as those of a real API server do.
pub(super) fn parse_version(text: Option<&str>) -> Result<i64, String> {
    let text = text.unwrap_or_default();
    if text.is_empty() {
        return Ok(0);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(version) if digits => Ok(version),
        _ => {
            let why = if digits {
                "value out of range"
            } else {
                "invalid syntax"
            };
            Err(format!(
                "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
            ))
        }
    }
}

fn unreadable(field: &str, expected: &str) -> Status {
    Status::bad_request(format!(
        "json: cannot unmarshal into Go struct field DeleteOptions.{field} of type {expected}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(body: &Value) -> Result<DeleteOptions, Status> {
        DeleteOptions::of(body.as_object().unwrap())
    }

    #[test]
    fn bodies_of_deletions_are_read() {
        let read = options(&json!({
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": "u", "resourceVersion": "5"},
        }));
        let expected = DeleteOptions {
            grace_period_s: Some(0),
            propagation: Some(Propagation::Foreground),
            uid: Some("u".to_owned()),
            resource_version: Some("5".to_owned()),
        };
        assert_eq!(read.unwrap(), expected);
        let orphan = options(&json!({"orphanDependents": true})).unwrap();
        assert_eq!(orphan.propagation, Some(Propagation::Orphan));
        for (body, code) in [
            (json!({"gracePeriodSeconds": "x"}), 400),
            (json!({"propagationPolicy": "Later"}), 422),
            (
                json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
                422,
            ),
        ] {
            assert_eq!(options(&body).unwrap_err().code, code, "{body}");
        }
    }

    #[test]
    fn versions_are_numbers() {
        for (text, version) in [(None, 0), (Some(""), 0), (Some("0"), 0), (Some("12"), 12)] {
            assert_eq!(parse_version(text).unwrap(), version);
        }
        for odd in ["x", "-1", "+1", "1.0", "99999999999999999999"] {
            let why = parse_version(Some(odd)).unwrap_err();
            assert!(
                why.starts_with("resourceVersion: Invalid value: "),
                "{odd}: {why}"
            );
        }
    }
}
