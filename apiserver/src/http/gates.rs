//! What every request passes before anything is done, in this order: authentication, authorisation, admission. All three
//! are open as yet: whoever reaches the port may do everything.

use http::HeaderMap;
use serde_json::{Value, json};

use super::request::Request;
use crate::object::Object;
use crate::resources::Subresource;
use crate::status::Status;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

impl User {
    /// As the API shows it.
    pub(crate) fn to_value(&self) -> Value {
        json!({ "username": self.name, "groups": self.groups })
    }
}

/// Who asks, by what the request brings. Nothing is looked at: everybody is nobody in particular.
pub(crate) fn authenticate(_headers: &HeaderMap) -> Result<User, Status> {
    Ok(User {
        name: "system:anonymous".to_owned(),
        groups: vec!["system:unauthenticated".to_owned()],
    })
}

/// Whether this user may do that.
pub(crate) fn authorise(user: &User, request: &Request) -> Result<(), Status> {
    let below = request.subresource.map_or("", Subresource::name);
    tracing::trace!(
        user = user.name,
        verb = request.verb.name(),
        resource = request.resource.qualified(),
        subresource = below,
        namespace = request.namespace,
        name = request.name,
        "a request"
    );
    Ok(())
}

/// Whether the object may come into being, or become this, and what is added to it on the way.
pub(crate) fn admit(_user: &User, _request: &Request, _object: &mut Object) -> Result<(), Status> {
    Ok(())
}
