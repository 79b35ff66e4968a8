//! What a request is refused with: the `Status` object of the Kubernetes API, with the codes, reasons and words of a real
//! API server. In answers that succeed without an object (a binding, a deletion) it stands for success.

use serde_json::{Value, json};

use crate::resources::Resource;

/// A refusal. Boxed where it matters: it is large, and errors are rare.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The code of the HTTP answer.
    pub code: u16,
    /// The reason that programs go by.
    pub reason: Reason,
    /// The text for people.
    pub message: String,
    /// Of what, and why in detail.
    pub details: Box<Details>,
}

/// Why a request was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "they are the words of the API")]
pub enum Reason {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    UnsupportedMediaType,
    AlreadyExists,
    Conflict,
    Expired,
    Invalid,
    RequestEntityTooLarge,
    TooManyRequests,
    InternalError,
    ServiceUnavailable,
    Timeout,
    /// Something failed that a real server has no word for: only the text tells what.
    Unknown,
}

/// What a refusal is about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Details {
    /// The name of the object.
    pub name: String,
    /// The group of the resource.
    pub group: String,
    /// The resource by its plural; of an invalid object its kind.
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// What is wrong, piece by piece.
    pub causes: Vec<Cause>,
    /// After how many seconds it is worth another try; 0 for nothing said.
    pub retry_after_seconds: u32,
    /// With what a list goes on whose token is too old; empty for nothing. It stands in the metadata.
    pub continue_token: String,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldManagerConflict` and the like; may be empty.
    pub reason: &'static str,
    /// The text.
    pub message: String,
    /// The path of the field, as in `spec.containers[0].name`; may be empty.
    pub field: String,
}

impl Status {
    /// A refusal with nothing but a text.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Status {
            code: reason.code(),
            reason,
            message: message.into(),
            details: Box::default(),
        }
    }

    /// A malformed body, selector, token or parameter.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Status::new(Reason::BadRequest, message)
    }

    /// Something is wrong here, not with the request.
    #[must_use]
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Status::new(
            Reason::InternalError,
            format!("Internal error occurred: {message}"),
        )
    }

    /// Something that a real server does not foresee: code 500 and a text, whoever is to blame.
    #[must_use]
    pub fn unforeseen(message: impl Into<String>) -> Self {
        Status::new(Reason::Unknown, message)
    }

    /// Options of a request that it may not have, which are invalid as objects are.
    #[must_use]
    pub fn invalid_options(kind: &str, causes: Vec<Cause>) -> Self {
        Status::invalid_kind("meta.k8s.io", kind, "", causes)
    }

    /// The path leads to nothing that is served.
    #[must_use]
    pub fn no_such_resource() -> Self {
        Status::new(
            Reason::NotFound,
            "the server could not find the requested resource",
        )
    }

    /// There is no such object.
    #[must_use]
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let text = format!("{} \"{name}\" not found", resource.qualified());
        Status::new(Reason::NotFound, text).about(resource, name)
    }

    /// There is one already.
    #[must_use]
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let text = format!("{} \"{name}\" already exists", resource.qualified());
        Status::new(Reason::AlreadyExists, text).about(resource, name)
    }

    /// Somebody else was faster.
    #[must_use]
    pub fn modified(resource: &Resource, name: &str) -> Self {
        let text =
            "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(resource, name, text)
    }

    /// It cannot be done to what is there.
    #[must_use]
    pub fn conflict(resource: &Resource, name: &str, text: &str) -> Self {
        let resource_name = resource.qualified();
        let text = format!("Operation cannot be fulfilled on {resource_name} \"{name}\": {text}");
        Status::new(Reason::Conflict, text).about(resource, name)
    }

    /// It is not allowed.
    #[must_use]
    pub fn forbidden(resource: &Resource, name: &str, text: &str) -> Self {
        let subject = match name {
            "" => resource.qualified(),
            name => format!("{} \"{name}\"", resource.qualified()),
        };
        Status::new(Reason::Forbidden, format!("{subject} is forbidden: {text}")).about(resource, name)
    }

    /// The object is not as it must be. There is at least one cause.
    #[must_use]
    pub fn invalid(resource: &Resource, name: &str, causes: Vec<Cause>) -> Self {
        Status::invalid_kind(resource.group, resource.kind, name, causes)
    }

    /// The same of what is named by hand.
    #[must_use]
    pub fn invalid_kind(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let qualified = match group {
            "" => kind.to_owned(),
            group => format!("{kind}.{group}"),
        };
        let told: Vec<String> = causes
            .iter()
            .map(|cause| match cause.field.as_str() {
                "" => cause.message.clone(),
                field => format!("{field}: {}", cause.message),
            })
            .collect();
        let told = match told.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let told = format!("{qualified} \"{name}\" is invalid: {told}");
        let mut status = Status::new(Reason::Invalid, told);
        status.details = Box::new(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            causes,
            ..Details::default()
        });
        status
    }

    /// The revision that was asked for is gone.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Status::new(Reason::Expired, message)
    }

    /// The verb is none for this resource.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Status::new(
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        )
    }

    /// The refusal, and that another try in so many seconds is worth it.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.retry_after_seconds = seconds;
        self
    }

    /// The refusal with one more cause.
    #[must_use]
    pub fn because(mut self, reason: &'static str, field: &str, message: impl Into<String>) -> Self {
        self.details.causes.push(Cause {
            reason,
            message: message.into(),
            field: field.to_owned(),
        });
        self
    }

    /// The refusal with what it is about.
    #[must_use]
    pub fn about(mut self, resource: &Resource, name: &str) -> Self {
        self.details.name = name.to_owned();
        self.details.group = resource.group.to_owned();
        self.details.kind = resource.plural.to_owned();
        self
    }

    /// The object that a client gets.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if self.reason != Reason::Unknown {
            value["reason"] = self.reason.name().into();
        }
        let details = self.details.to_value();
        // Where nothing of the kind is served there is nothing to tell, and that is told.
        let is_told = matches!(self.reason, Reason::NotFound | Reason::MethodNotAllowed);
        if is_told || details != json!({}) {
            value["details"] = details;
        }
        if !self.details.continue_token.is_empty() {
            value["metadata"]["continue"] = self.details.continue_token.as_str().into();
        }
        value
    }
}

impl Details {
    /// Only what there is to say.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let texts = [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ];
        let mut value = json!({});
        for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            value[field] = text.as_str().into();
        }
        if !self.causes.is_empty() {
            value["causes"] = self.causes.iter().map(Cause::to_value).collect();
        }
        if self.retry_after_seconds > 0 {
            value["retryAfterSeconds"] = self.retry_after_seconds.into();
        }
        value
    }
}

impl Cause {
    /// A field whose value is none that it may have. `value` is shown as a real server shows it: texts in quotes.
    #[must_use]
    pub fn invalid(field: impl Into<String>, value: &Value, text: &str) -> Self {
        Cause {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value}: {text}"),
            field: field.into(),
        }
    }

    /// A field that is missing.
    #[must_use]
    pub fn required(field: impl Into<String>, text: &str) -> Self {
        let message = match text {
            "" => "Required value".to_owned(),
            text => format!("Required value: {text}"),
        };
        Cause {
            reason: "FieldValueRequired",
            message,
            field: field.into(),
        }
    }

    /// A field whose value is none of those that are known.
    #[must_use]
    pub fn not_supported(field: impl Into<String>, value: &Value, known: &[&str]) -> Self {
        let known: Vec<String> = known.iter().map(|known| format!("\"{known}\"")).collect();
        Cause {
            reason: "FieldValueNotSupported",
            message: format!(
                "Unsupported value: {value}: supported values: {}",
                known.join(", ")
            ),
            field: field.into(),
        }
    }

    /// An entry that is there twice.
    #[must_use]
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Cause {
            reason: "FieldValueDuplicate",
            message: format!("Duplicate value: {value}"),
            field: field.into(),
        }
    }

    /// A field that may not be set, or not be changed.
    #[must_use]
    pub fn forbidden(field: impl Into<String>, text: &str) -> Self {
        Cause {
            reason: "FieldValueForbidden",
            message: format!("Forbidden: {text}"),
            field: field.into(),
        }
    }

    fn to_value(&self) -> Value {
        let mut value = json!({ "message": self.message });
        if !self.reason.is_empty() {
            value["reason"] = self.reason.into();
        }
        if !self.field.is_empty() {
            value["field"] = self.field.as_str().into();
        }
        value
    }
}

impl Reason {
    /// The code of the HTTP answer.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Reason::BadRequest => 400,
            Reason::Unauthorized => 401,
            Reason::Forbidden => 403,
            Reason::NotFound => 404,
            Reason::MethodNotAllowed => 405,
            Reason::NotAcceptable => 406,
            Reason::AlreadyExists | Reason::Conflict => 409,
            Reason::Expired => 410,
            Reason::RequestEntityTooLarge => 413,
            Reason::UnsupportedMediaType => 415,
            Reason::Invalid => 422,
            Reason::TooManyRequests => 429,
            Reason::InternalError | Reason::Unknown => 500,
            Reason::ServiceUnavailable => 503,
            Reason::Timeout => 504,
        }
    }

    /// The word of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::BadRequest => "BadRequest",
            Reason::Unauthorized => "Unauthorized",
            Reason::Forbidden => "Forbidden",
            Reason::NotFound => "NotFound",
            Reason::MethodNotAllowed => "MethodNotAllowed",
            Reason::NotAcceptable => "NotAcceptable",
            Reason::AlreadyExists => "AlreadyExists",
            Reason::Conflict => "Conflict",
            Reason::Expired => "Expired",
            Reason::RequestEntityTooLarge => "RequestEntityTooLarge",
            Reason::UnsupportedMediaType => "UnsupportedMediaType",
            Reason::Invalid => "Invalid",
            Reason::TooManyRequests => "TooManyRequests",
            Reason::InternalError => "InternalError",
            Reason::ServiceUnavailable => "ServiceUnavailable",
            Reason::Timeout => "Timeout",
            Reason::Unknown => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::find;

    #[test]
    fn texts_are_those_of_a_real_server() {
        let configmaps = find("", "v1", "configmaps").unwrap();
        let deployments = find("apps", "v1", "deployments").unwrap();
        for (status, text) in [
            (Status::not_found(configmaps, "x"), "configmaps \"x\" not found"),
            (
                Status::already_exists(deployments, "x"),
                "deployments.apps \"x\" already exists",
            ),
            (
                Status::modified(configmaps, "x"),
                "Operation cannot be fulfilled on configmaps \"x\": the object has been modified; please apply your \
                 changes to the latest version and try again",
            ),
        ] {
            assert_eq!(status.message, text);
            assert_eq!(status.to_value()["details"]["name"], "x");
        }
        let causes = vec![Cause::invalid("metadata.name", &json!("BAD_"), "no")];
        let invalid = Status::invalid(configmaps, "BAD_", causes);
        assert_eq!(
            invalid.message,
            "ConfigMap \"BAD_\" is invalid: metadata.name: Invalid value: \"BAD_\": no"
        );
        assert_eq!(
            invalid.to_value()["details"],
            json!({
                "name": "BAD_",
                "kind": "ConfigMap",
                "causes": [{
                    "reason": "FieldValueInvalid",
                    "message": "Invalid value: \"BAD_\": no",
                    "field": "metadata.name",
                }],
            })
        );
    }
}
