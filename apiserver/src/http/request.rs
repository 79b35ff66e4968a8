//! What a request asks for: the path and the query, read by the rules of the Kubernetes API.

use std::num::{IntErrorKind, ParseIntError};

use http::Method;

use crate::resources::{self, Resource, Subresource};
use crate::status::Status;

/// A request to a resource.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) resource: &'static Resource,
    /// Empty for resources of the cluster, and for all namespaces.
    pub(crate) namespace: String,
    /// Empty where it is about a collection.
    pub(crate) name: String,
    pub(crate) subresource: Option<Subresource>,
    pub(crate) verb: Verb,
    pub(crate) query: Query,
}

/// What is done, in the words of authorisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

/// The parameters, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Verb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Query {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        // Some clients begin with a stray `&`.
        let pairs = pairs.filter(|(name, _)| !name.is_empty());
        Query(
            pairs
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        )
    }

    /// The first value of a parameter, empty where there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        let mut pairs = self.0.iter();
        pairs
            .find(|(found, _)| found == name)
            .map_or("", |(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().filter(move |(found, _)| found == name);
        pairs.map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on: by Go's reading of booleans, and by its mere presence.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        let mut pairs = self.0.iter();
        let value = pairs.find(|(found, _)| found == name).map(|(_, value)| value);
        value.is_some_and(|value| !matches!(value.as_str(), "0" | "false" | "False" | "FALSE" | "f" | "F"))
    }

    /// A whole number, where one is given.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|error: ParseIntError| {
            let why = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
        })
    }
}

impl Request {
    /// Reads the path behind `/api/v1/` or `/apis/GROUP/VERSION/`.
    ///
    /// # Errors
    /// NotFound where nothing is served, MethodNotAllowed where something is, but not this.
    pub(crate) fn parse(
        method: &Method,
        group: &str,
        version: &str,
        path: &str,
        query: Option<&str>,
    ) -> Result<Request, Status> {
        let parts = decoded(path)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (namespace, parts) = match parts.as_slice() {
            // What is below a namespace, unless it is of the namespace itself.
            ["namespaces", namespace, rest @ ..]
                if rest.first().is_some_and(|first| !OF_NAMESPACES.contains(first)) =>
            {
                (*namespace, rest)
            }
            all => ("", all),
        };
        let (plural, name, subresource) = match *parts {
            [plural] => (plural, "", None),
            [plural, name] => (plural, name, None),
            [plural, name, subresource] => (plural, name, Some(subresource)),
            _ => return Err(Status::no_such_resource()),
        };
        let resource = resources::find(group, version, plural).ok_or_else(Status::no_such_resource)?;
        if !namespace.is_empty() && !resource.namespaced {
            return Err(Status::no_such_resource());
        }
        let subresource = match subresource {
            None => None,
            Some(word) => {
                let mut known = resource.subresources.iter();
                let known = known.find(|known| known.name() == word);
                Some(*known.ok_or_else(Status::no_such_resource)?)
            }
        };
        // One object of a namespace is never addressed without it.
        if resource.namespaced && namespace.is_empty() && !name.is_empty() {
            return Err(Status::no_such_resource());
        }
        let query = Query::parse(query);
        let verb = verb(method, resource, namespace, name, subresource, &query)?;
        Ok(Request {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource,
            verb,
            query,
        })
    }
}

fn verb(
    method: &Method,
    resource: &Resource,
    namespace: &str,
    name: &str,
    subresource: Option<Subresource>,
    query: &Query,
) -> Result<Verb, Status> {
    let one = !name.is_empty();
    if one && resource.question {
        return Err(Status::no_such_resource());
    }
    let verb = match *method {
        Method::GET if query.is_on("watch") && subresource.is_none() => Verb::Watch,
        Method::GET if one => Verb::Get,
        Method::GET => Verb::List,
        Method::POST if !one || subresource.is_some() => Verb::Create,
        Method::PUT if one => Verb::Update,
        Method::PATCH if one => Verb::Patch,
        Method::DELETE if one => Verb::Delete,
        Method::DELETE => Verb::DeleteCollection,
        _ => return Err(Status::method_not_allowed()),
    };
    let everywhere = resource.namespaced && namespace.is_empty();
    let allowed = match (subresource, verb) {
        _ if resource.question => verb == Verb::Create && subresource.is_none(),
        // They are made, and removed, in one namespace.
        (None, Verb::Create | Verb::DeleteCollection) => {
            !(everywhere || verb == Verb::DeleteCollection && resource.plural == "namespaces")
        }
        (None, _) => true,
        (Some(Subresource::Binding | Subresource::Eviction | Subresource::Token), verb) => {
            verb == Verb::Create
        }
        (Some(Subresource::Finalize), verb) => verb == Verb::Update,
        (Some(_), verb) => matches!(verb, Verb::Get | Verb::Update | Verb::Patch),
    };
    match allowed {
        true => Ok(verb),
        false => Err(Status::method_not_allowed()),
    }
}

/// The parts of a path, percent signs read.
fn decoded(path: &str) -> Result<Vec<String>, Status> {
    let parts = path.trim_end_matches('/').split('/');
    parts
        .map(|part| {
            let part = percent_encoding::percent_decode_str(part).decode_utf8();
            match part {
                Ok(part) if !part.is_empty() => Ok(part.into_owned()),
                _ => Err(Status::no_such_resource()),
            }
        })
        .collect()
}

/// What stands behind the name of a namespace and is of it, not in it.
const OF_NAMESPACES: &[&str] = &["status", "finalize"];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &Method, url: &str) -> Result<Request, u16> {
        let (path, query) = match url.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (url, None),
        };
        let (group, version, rest) = match path.strip_prefix("/api/v1/") {
            Some(rest) => ("", "v1", rest),
            None => {
                let mut parts = path.strip_prefix("/apis/").unwrap().splitn(3, '/');
                let mut part = || parts.next().unwrap();
                (part(), part(), part())
            }
        };
        Request::parse(method, group, version, rest, query).map_err(|status| status.code)
    }

    fn shown(request: &Request) -> String {
        let below = request.subresource.map_or("", Subresource::name);
        format!(
            "{} {} {}/{} {below}",
            request.verb.name(),
            request.resource.qualified(),
            request.namespace,
            request.name
        )
    }

    #[test]
    fn paths_say_what_is_meant() {
        for (method, url, expected) in [
            (Method::GET, "/api/v1/pods", "list pods / "),
            (Method::GET, "/api/v1/pods?watch=true", "watch pods / "),
            (Method::GET, "/api/v1/pods?&watch=1", "watch pods / "),
            (Method::GET, "/api/v1/pods?watch=false", "list pods / "),
            (Method::GET, "/api/v1/namespaces/n/pods/p", "get pods n/p "),
            (Method::GET, "/api/v1/namespaces", "list namespaces / "),
            (Method::GET, "/api/v1/namespaces/n", "get namespaces /n "),
            (
                Method::PUT,
                "/api/v1/namespaces/n/finalize",
                "update namespaces /n finalize",
            ),
            (
                Method::PATCH,
                "/api/v1/namespaces/n/status",
                "patch namespaces /n status",
            ),
            (
                Method::POST,
                "/api/v1/namespaces/n/pods/p/binding",
                "create pods n/p binding",
            ),
            (
                Method::DELETE,
                "/api/v1/namespaces/n/pods",
                "deletecollection pods n/ ",
            ),
            (Method::GET, "/api/v1/nodes/a%2Fb", "get nodes /a/b "),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/n/deployments/d/scale",
                "patch deployments.apps n/d scale",
            ),
        ] {
            assert_eq!(shown(&read(&method, url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn what_is_not_served_is_told_from_what_may_not_be_done() {
        for (method, url, code) in [
            (Method::GET, "/api/v1/things", 404),
            (Method::GET, "/api/v1/pods/p", 404),
            (Method::GET, "/api/v1/namespaces/n/nodes", 404),
            (Method::GET, "/api/v1/namespaces/n/pods/p/things", 404),
            (Method::GET, "/api/v1/namespaces/n/pods/p/status/x", 404),
            (Method::GET, "/api/v1/namespaces//pods", 404),
            (Method::GET, "/apis/apps/v2/deployments", 404),
            (Method::POST, "/api/v1/pods", 405),
            (Method::POST, "/api/v1/namespaces/n/pods/p", 405),
            (Method::PUT, "/api/v1/namespaces/n/pods", 405),
            (Method::DELETE, "/api/v1/namespaces", 405),
            (Method::GET, "/api/v1/namespaces/n/pods/p/binding", 405),
            (Method::GET, "/apis/authentication.k8s.io/v1/tokenreviews", 405),
            (Method::OPTIONS, "/api/v1/pods", 405),
        ] {
            assert_eq!(read(&method, url).unwrap_err(), code, "{url}");
        }
    }

    #[test]
    fn numbers_are_numbers() {
        let query = Query::parse(Some("limit=5&continue=a%2Bb&x=y&x=z"));
        assert_eq!(query.number("limit"), Ok(Some(5)));
        assert_eq!(query.number("timeoutSeconds"), Ok(None));
        assert_eq!(query.get("continue"), "a+b");
        assert_eq!(query.number("x").unwrap_err().code, 400);
        assert_eq!(query.all("x").collect::<Vec<_>>(), ["y", "z"]);
    }
}
