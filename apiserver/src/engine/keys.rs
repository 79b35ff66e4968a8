//! Where objects are stored: `<prefix>/<directory>/[<namespace>/]<name>`, as a real API server has it.

use crate::etcd::prefix_end;
use crate::resources::Resource;
use crate::status::Status;

/// A range of keys that is listed or watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// What all keys begin with: the directory, and the namespace if it is one.
    pub(super) prefix: String,
    /// The first key that may be there.
    pub(super) start: String,
    /// The first key behind.
    pub(super) end: String,
}

impl Place {
    /// All objects of a resource, or those in a namespace, or the one of a name if it is clear where that is.
    pub(super) fn of(
        prefix: &str,
        r: &Resource,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<Place, Status> {
        let mut place = directory(prefix, r);
        let namespace = namespace.filter(|namespace| r.namespaced && !namespace.is_empty());
        if let Some(namespace) = namespace {
            place.push_str(checked(namespace)?);
            place.push('/');
        }
        let mut found = Place {
            start: place.clone(),
            end: prefix_end(&place),
            prefix: place,
        };
        // A selector may name what no object can be called: then there is none of it, which the filter finds out.
        let name = name.and_then(|name| checked(name).ok());
        if let Some(name) = name.filter(|_| namespace.is_some() || !r.namespaced) {
            found.start = format!("{}{name}", found.prefix);
            found.end = format!("{}\0", found.start);
        }
        Ok(found)
    }

    pub(super) fn holds(&self, key: &[u8]) -> bool {
        key >= self.start.as_bytes() && key < self.end.as_bytes()
    }
}

/// A prefix as a real API server reads it: with a slash in front, none at the end, none twice.
pub(super) fn clean_prefix(prefix: &str) -> String {
    let parts = prefix.split('/').filter(|part| !part.is_empty());
    parts.fold(String::new(), |clean, part| clean + "/" + part)
}

/// The directory of a resource, with the slash at its end.
pub(super) fn directory(prefix: &str, r: &Resource) -> String {
    format!("{prefix}/{}/", r.directory)
}

/// The key of an object.
pub(super) fn key(prefix: &str, r: &Resource, namespace: &str, name: &str) -> Result<String, Status> {
    let mut key = directory(prefix, r);
    if r.namespaced {
        if namespace.is_empty() {
            return Err(Status::bad_request("Namespace parameter required.".to_owned()));
        }
        key.push_str(checked(namespace)?);
        key.push('/');
    }
    if name.is_empty() {
        return Err(Status::bad_request("Name parameter required.".to_owned()));
    }
    key.push_str(checked(name)?);
    Ok(key)
}

/// A part of a key must be one: no other directory is reached by it.
fn checked(name: &str) -> Result<&str, Status> {
    let refused = |why: &str| Status::bad_request(format!("Name parameter invalid: {name:?}: {why}"));
    match name {
        "." | ".." => Err(refused(&format!("may not be '{name}'"))),
        name if name.contains('/') => Err(refused("may not contain '/'")),
        name if name.contains('%') => Err(refused("may not contain '%'")),
        name => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::find;

    #[test]
    fn keys_are_those_of_a_real_server() {
        let services = find("", "v1", "services").unwrap();
        let nodes = find("", "v1", "nodes").unwrap();
        assert_eq!(
            key("/registry", services, "n", "s").unwrap(),
            "/registry/services/specs/n/s"
        );
        assert_eq!(key("/registry", nodes, "n", "s").unwrap(), "/registry/minions/s");
        for odd in ["", ".", "..", "a/b", "%2e"] {
            assert_eq!(key("/registry", services, odd, "s").unwrap_err().code, 400);
            assert_eq!(key("/registry", services, "n", odd).unwrap_err().code, 400);
        }
    }

    #[test]
    fn prefixes_are_read_as_a_real_server_reads_them() {
        for (given, clean) in [
            ("/registry", "/registry"),
            ("registry", "/registry"),
            ("/registry/", "/registry"),
            ("//a//b/", "/a/b"),
            ("/", ""),
            ("", ""),
        ] {
            assert_eq!(clean_prefix(given), clean, "{given}");
        }
    }

    #[test]
    fn places_hold_what_they_should() {
        let pods = find("", "v1", "pods").unwrap();
        let of = |namespace, name| Place::of("/r", pods, namespace, name).unwrap();
        assert!(of(None, None).holds(b"/r/pods/a/b"));
        assert!(!of(None, None).holds(b"/r/podtemplates/a/b"));
        assert!(!of(Some("a"), None).holds(b"/r/pods/ab/b"));
        assert!(of(Some("a"), Some("b")).holds(b"/r/pods/a/b"));
        assert!(!of(Some("a"), Some("b")).holds(b"/r/pods/a/bc"));
        assert_eq!(of(None, Some("b")), of(None, None));
        assert_eq!(of(Some("a"), Some("b/c")), of(Some("a"), None));
    }
}
