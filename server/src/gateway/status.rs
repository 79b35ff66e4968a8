//! Errors as the gateway shows them.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use tonic::{Code, Status};

/// What is empty is left out, as everywhere in these answers.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    code: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(code: &i32) -> bool {
    *code == 0
}

/// The object that stands for a failed call.
pub(super) fn object(status: &Status) -> String {
    let shown = Shown {
        code: i32::from(status.code()),
        message: status.message(),
    };
    serde_json::to_string(&shown).unwrap_or_else(|_| FALLBACK.to_owned())
}

/// The last line of a stream that failed.
pub(super) fn line(status: &Status) -> Bytes {
    format!("{{\"error\":{}}}\n", object(status)).into()
}

/// The HTTP status of a failed call.
pub(super) fn http_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // The client is gone: a number that has no name in HTTP.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

const FALLBACK: &str = r#"{"code":13,"message":"failed to marshal error message"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_shown_as_etcds() {
        let status = Status::not_found("etcdserver: \"x\"");
        assert_eq!(object(&status), r#"{"code":5,"message":"etcdserver: \"x\""}"#);
        assert_eq!(object(&Status::unknown("")), r#"{"code":2}"#);
        assert_eq!(
            line(&Status::deadline_exceeded("late")),
            "{\"error\":{\"code\":4,\"message\":\"late\"}}\n"
        );
    }

    #[test]
    fn codes_have_etcds_http_status() {
        let expected = [
            200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
        ];
        for (code, expected) in (0..).zip(expected) {
            assert_eq!(http_code(Code::from(code)).as_u16(), expected, "code {code}");
        }
    }
}
