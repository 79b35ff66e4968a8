//! What nobody may read in a log: passwords, their hashes, and tokens.

use bytes::Bytes;
use prost::{DecodeError, Message as _};
use proto::etcdserverpb::InternalRaftRequest;

/// A replicated request without its secrets; one that has none is returned as it is.
pub(super) fn request(data: Bytes) -> Result<Bytes, DecodeError> {
    let mut request = InternalRaftRequest::decode(data.clone())?;
    let mut hidden = false;
    let mut hide = |text: &mut String| {
        if !text.is_empty() {
            REDACTED.clone_into(text);
            hidden = true;
        }
    };
    if let Some(user) = &mut request.auth_user_add {
        hide(&mut user.password);
        hide(&mut user.hashed_password);
    }
    if let Some(user) = &mut request.auth_user_change_password {
        hide(&mut user.password);
        hide(&mut user.hashed_password);
    }
    if let Some(user) = &mut request.authenticate {
        hide(&mut user.password);
        hide(&mut user.simple_token);
    }
    Ok(if hidden {
        request.encode_to_vec().into()
    } else {
        data
    })
}

/// Stands in for a secret.
const REDACTED: &str = "<redacted>";

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::{
        AuthUserAddRequest, AuthUserChangePasswordRequest, InternalAuthenticateRequest, PutRequest,
    };

    use super::*;

    fn redacted(request: &InternalRaftRequest) -> InternalRaftRequest {
        let data = super::request(request.encode_to_vec().into()).unwrap();
        let text = String::from_utf8_lossy(&data);
        assert!(!text.contains("secret"), "{text}");
        InternalRaftRequest::decode(data).unwrap()
    }

    #[test]
    fn secrets_are_hidden_and_the_rest_is_not() {
        let add = InternalRaftRequest {
            id: 7,
            auth_user_add: Some(Box::new(AuthUserAddRequest {
                name: "user".to_owned(),
                password: "secret 1".to_owned(),
                hashed_password: "secret 2".to_owned(),
                ..AuthUserAddRequest::default()
            })),
            ..InternalRaftRequest::default()
        };
        let shown = redacted(&add);
        let user = shown.auth_user_add.unwrap();
        assert_eq!(
            (shown.id, user.name.as_str(), user.password.as_str()),
            (7, "user", REDACTED)
        );
        let change = InternalRaftRequest {
            auth_user_change_password: Some(Box::new(AuthUserChangePasswordRequest {
                hashed_password: "secret".to_owned(),
                ..AuthUserChangePasswordRequest::default()
            })),
            ..InternalRaftRequest::default()
        };
        let user = redacted(&change).auth_user_change_password.unwrap();
        // What was not there is not shown as hidden.
        assert_eq!(
            (user.password.as_str(), user.hashed_password.as_str()),
            ("", REDACTED)
        );
        let authenticate = InternalRaftRequest {
            authenticate: Some(Box::new(InternalAuthenticateRequest {
                name: "user".to_owned(),
                password: "secret".to_owned(),
                simple_token: "secret.9".to_owned(),
            })),
            ..InternalRaftRequest::default()
        };
        assert_eq!(redacted(&authenticate).authenticate.unwrap().name, "user");
    }

    #[test]
    fn other_requests_are_as_they_were() {
        let put = InternalRaftRequest {
            put: Some(PutRequest {
                key: "secret".into(),
                ..PutRequest::default()
            }),
            ..InternalRaftRequest::default()
        };
        let data = Bytes::from(put.encode_to_vec());
        assert_eq!(request(data.clone()).unwrap(), data);
        assert!(request(Bytes::from_static(b"\xff")).is_err());
    }
}
