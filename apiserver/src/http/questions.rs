//! Questions: resources that are answered when they are created, and stored nowhere. Whoever asks may do everything, so
//! the answers are short.

use axum::body::Body;
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::answer;
use super::body::Sent;
use super::verbs::Work;
use crate::object::{Object, at, child_mut};
use crate::status::Status;

/// Answers a review.
pub(crate) fn answer(work: &Work<'_>, sent: &Sent) -> Result<Response<Body>, Status> {
    let mut object = sent.object(work.request)?.object;
    let status = match work.request.resource.kind {
        "SelfSubjectReview" => json!({ "userInfo": work.user.to_value() }),
        "TokenReview" => token_review(&object),
        "SelfSubjectRulesReview" => json!({
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            "incomplete": false,
        }),
        _ => json!({ "allowed": true, "reason": "authorization is not enabled" }),
    };
    object.insert("status".to_owned(), status);
    work.answer(StatusCode::CREATED, &object)
}

/// Nobody's token is known.
fn token_review(review: &Object) -> Value {
    let token = at(review, &["spec", "token"]).and_then(Value::as_str);
    match token.unwrap_or_default() {
        "" => json!({ "error": "no token was given" }),
        _ => json!({ "error": "tokens are not authenticated by this server" }),
    }
}

/// A token for a service account. Nothing checks it: it is random, so that nobody takes it for one that proves anything.
pub(crate) async fn token(work: &Work<'_>, sent: &Sent) -> Result<Response<Body>, Status> {
    let request = work.request;
    // There must be such an account.
    work.engine
        .get(request.resource, &request.namespace, &request.name)
        .await?;
    let mut review = sent.decode(TOKEN_REQUEST_TYPE, &request.query)?.object;
    let asked = at(&review, &["spec", "expirationSeconds"]).and_then(Value::as_i64);
    let lifetime_s = asked.unwrap_or(TOKEN_LIFETIME_S);
    if lifetime_s < TOKEN_LIFETIME_MIN_S {
        return Err(Status::bad_request(format!(
            "spec.expirationSeconds: Invalid value: {lifetime_s}: may not specify a duration less than 10 minutes"
        )));
    }
    let expires = Timestamp::now()
        .checked_add(SignedDuration::from_secs(lifetime_s))
        .map_err(|_| Status::bad_request("spec.expirationSeconds: Invalid value: too large"))?;
    child_mut(&mut review, "spec").insert("expirationSeconds".to_owned(), lifetime_s.into());
    let token = format!(
        "unsigned.{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    );
    review.insert(
        "status".to_owned(),
        json!({ "token": token, "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string() }),
    );
    for (field, value) in [
        ("apiVersion", "authentication.k8s.io/v1"),
        ("kind", "TokenRequest"),
    ] {
        review.insert(field.to_owned(), value.into());
    }
    Ok(answer::json(StatusCode::CREATED, answer::encode(&review)?))
}

const TOKEN_REQUEST_TYPE: &str = "io.k8s.api.authentication.v1.TokenRequest";
/// As a real server has them.
const TOKEN_LIFETIME_S: i64 = 3600;
const TOKEN_LIFETIME_MIN_S: i64 = 600;
