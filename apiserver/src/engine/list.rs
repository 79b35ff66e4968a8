//! Lists: all objects of a directory at one revision, page by page.
//!
//! A token that continues a list is what a real server makes of it: base64 of the revision and the key to go on from.
//! All pages are of the revision of the first one. When that is compacted, the refusal carries a token that goes on from
//! the same key with what is there now (revision -1).

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use proto::mvccpb::KeyValue;
use serde::{Deserialize, Serialize};

use super::Engine;
use super::item::Item;
use super::keys::Place;
use super::options::{ListOptions, parse_version};
use super::storage::item_of;
use crate::etcd::{Failure, Page};
use crate::resources::Resource;
use crate::select::{Fields, Labels};
use crate::status::{Reason, Status};

/// A list, or a page of it.
#[derive(Debug, Default)]
pub struct Listed {
    /// The objects, in the order of their namespaces and names.
    pub items: Vec<Arc<Item>>,
    /// The revision at which they were read.
    pub revision: i64,
    /// The token for the next page, if there is one.
    pub continue_: Option<String>,
    /// How many are left, if that is known: not where objects are selected.
    pub remaining: Option<i64>,
}

/// Where a list begins.
#[derive(PartialEq, Eq, Debug)]
struct Start {
    key: String,
    /// 0 for now.
    revision: i64,
    /// It must be as new as this.
    at_least: i64,
    /// Any state will do: one member answers for itself, even without the others.
    any: bool,
    /// It is not the first page.
    continued: bool,
}

/// What a token says.
#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

impl Engine {
    /// The objects of a resource, in a namespace or everywhere.
    pub async fn list(
        &self,
        r: &'static Resource,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<Listed, Status> {
        options.check()?;
        let place = self.place(r, namespace, &options.fields)?;
        let start = Start::of(options, &place)?;
        let limit = usize::try_from(options.limit).unwrap_or(0);
        let everything = selects_everything(options, &place);
        let mut found = Listed {
            revision: start.revision,
            ..Listed::default()
        };
        let mut key = start.key.clone();
        let mut keys = self.shared.settings.list_page_keys;
        if options.limit > 0 {
            keys = keys.min(options.limit);
        }
        loop {
            let page = match found.revision {
                _ if start.any => self.page_of_any(&key, &place, keys, found.revision).await,
                0 => self.first_page(&key, &place.end, keys, start.at_least).await,
                revision => self.page_at(&key, &place, keys, revision, start.continued).await,
            }?;
            found.revision = page.revision;
            let more = page.more;
            let last = page.kvs.last().map(|kv| kv.key.clone());
            if let Some(at) = take(r, options, &page, limit, &mut found.items)? {
                let read = i64::try_from(at + 1).unwrap_or(i64::MAX);
                if page.more || at + 1 < page.kvs.len() {
                    found.continue_ = Some(token(found.revision, &place, &page.kvs[at]));
                    found.remaining = everything.then(|| page.count.saturating_sub(read));
                }
                return Ok(found);
            }
            let Some(last) = last.filter(|_| more) else {
                return Ok(found);
            };
            key = behind(&last);
            // Where few are selected, small pages would be many.
            keys = (keys * PAGE_GROWTH).min(self.shared.settings.list_page_keys);
        }
    }

    pub(super) fn place(
        &self,
        r: &'static Resource,
        namespace: Option<&str>,
        fields: &Fields,
    ) -> Result<Place, Status> {
        if r.question {
            return Err(Status::method_not_allowed());
        }
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        Place::of(&self.shared.settings.prefix, r, namespace, fields.single_name())
    }

    /// The first page of a list of what is there now, or at least as new as a client has seen it elsewhere.
    pub(super) async fn first_page(
        &self,
        key: &str,
        end: &str,
        keys: i64,
        at_least: i64,
    ) -> Result<Page, Status> {
        let deadline = Instant::now() + NEWER_WAIT;
        loop {
            let page = self.etcd().page(key, end, keys, 0).await?;
            if page.revision >= at_least {
                return Ok(page);
            }
            if Instant::now() >= deadline {
                return Err(too_large(at_least, page.revision));
            }
            tokio::time::sleep(NEWER_POLL).await;
        }
    }

    /// A page of what one member has, all of them of one revision.
    async fn page_of_any(&self, key: &str, place: &Place, keys: i64, revision: i64) -> Result<Page, Status> {
        match self.etcd().page_of_any(key, &place.end, keys, revision).await {
            // The member that answered first is gone, and this one is behind it.
            Err(Failure::FutureRevision) => self.page_at(key, place, keys, revision, false).await,
            page => Ok(page?),
        }
    }

    /// A page at a revision.
    pub(super) async fn page_at(
        &self,
        key: &str,
        place: &Place,
        keys: i64,
        revision: i64,
        continued: bool,
    ) -> Result<Page, Status> {
        let failure = match self.etcd().page(key, &place.end, keys, revision).await {
            Ok(page) => return Ok(page),
            Err(failure) => failure,
        };
        match failure {
            Failure::Compacted { .. } if continued => Err(continue_expired(key, place)),
            Failure::FutureRevision => {
                let current = self.etcd().revision(&place.prefix).await?;
                Err(too_large(revision, current))
            }
            failure => Err(failure.into()),
        }
    }
}

impl Start {
    fn of(options: &ListOptions, place: &Place) -> Result<Start, Status> {
        let version = parse_version(options.resource_version.as_deref())
            .map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))?;
        let mut start = Start {
            key: place.start.clone(),
            revision: 0,
            at_least: 0,
            any: false,
            continued: false,
        };
        if let Some(text) = options.continue_.as_deref().filter(|text| !text.is_empty()) {
            if version > 0 {
                let text = "specifying resource version is not allowed when using continue";
                return Err(Status::bad_request(text));
            }
            let token = read_token(text)?;
            start.key = format!("{}{}", place.prefix, token.start);
            if !place.holds(start.key.as_bytes()) && start.key != place.end {
                return Err(Status::bad_request(format!(
                    "continue key is not valid: {:?} is not in the list",
                    token.start
                )));
            }
            start.revision = token.rv.max(0);
            start.continued = true;
            return Ok(start);
        }
        let exact = match options.version_match.as_deref() {
            Some("Exact") => true,
            Some("NotOlderThan") => false,
            // As it was before one could say what is meant.
            _ => options.limit > 0,
        };
        if exact {
            start.revision = version;
        } else {
            start.at_least = version;
        }
        start.any = version == 0
            && options
                .resource_version
                .as_deref()
                .is_some_and(|text| !text.is_empty());
        Ok(start)
    }
}

/// Takes the objects of a page that are selected, up to a limit that is not 0; gives the place of the last one that was
/// looked at if the limit is reached.
fn take(
    r: &'static Resource,
    options: &ListOptions,
    page: &Page,
    limit: usize,
    items: &mut Vec<Arc<Item>>,
) -> Result<Option<usize>, Status> {
    for (at, kv) in page.kvs.iter().enumerate() {
        let item = item_of(r, &kv.value, kv.mod_revision)?;
        if !is_selected(&item, &options.labels, &options.fields)? {
            continue;
        }
        item.forget();
        items.push(Arc::new(item));
        if limit > 0 && items.len() >= limit {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Whether an object has the labels and fields. It is not parsed if it need not be.
pub(super) fn is_selected(item: &Item, labels: &Labels, fields: &Fields) -> Result<bool, Status> {
    if labels.is_everything() && fields.is_everything() {
        return Ok(true);
    }
    let object = item.object()?;
    Ok(labels.matches_object(&object) && fields.matches(&object))
}

/// Whether all that is read is wanted, so that what is left can be counted.
fn selects_everything(options: &ListOptions, _place: &Place) -> bool {
    options.labels.is_everything() && options.fields.is_everything()
}

/// The first key behind this one.
pub(super) fn behind(key: &[u8]) -> String {
    let mut key = String::from_utf8_lossy(key).into_owned();
    key.push('\0');
    key
}

fn token(revision: i64, place: &Place, last: &KeyValue) -> String {
    let tail = behind(last.key.get(place.prefix.len()..).unwrap_or_default());
    write_token(revision, tail)
}

fn write_token(revision: i64, start: String) -> String {
    let token = Token {
        v: TOKEN_VERSION.to_owned(),
        rv: revision,
        start,
    };
    // Texts and a number are always JSON.
    let json = serde_json::to_vec(&token).unwrap_or_default();
    BASE64_URL_SAFE_NO_PAD.encode(json)
}

fn read_token(text: &str) -> Result<Token, Status> {
    let refused = |why: String| {
        Status::bad_request(format!(
            "invalid continue token: continue key is not valid: {why}"
        ))
    };
    let json = BASE64_URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|error| refused(error.to_string()))?;
    let token: Token = serde_json::from_slice(&json).map_err(|error| refused(error.to_string()))?;
    if token.v != TOKEN_VERSION {
        let why = format!("server does not recognize this encoded version {}", token.v);
        return Err(refused(why));
    }
    if token.rv == 0 || token.rv < NOW || token.start.is_empty() {
        let why = "incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
        return Err(refused(why.to_owned()));
    }
    Ok(token)
}

fn continue_expired(key: &str, place: &Place) -> Status {
    let start = key.get(place.prefix.len()..).unwrap_or_default().to_owned();
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.details.continue_token = write_token(NOW, start);
    status
}

/// A revision that the store has not reached.
fn too_large(asked: i64, current: i64) -> Status {
    let text = format!("Too large resource version: {asked}, current: {current}");
    Status::new(Reason::Timeout, format!("Timeout: {text}"))
        .because("ResourceVersionTooLarge", "", "Too large resource version")
        .retry_after(1)
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";
/// The revision in a token that goes on with what is there now.
const NOW: i64 = -1;
/// How long a list waits until the store is as new as asked for.
const NEWER_WAIT: Duration = Duration::from_secs(3);
/// How often it looks.
const NEWER_POLL: Duration = Duration::from_millis(50);
/// By how much pages grow where a limit made the first one small.
const PAGE_GROWTH: i64 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::find;

    fn place() -> Place {
        Place::of("/r", find("", "v1", "pods").unwrap(), Some("n"), None).unwrap()
    }

    fn start(options: &ListOptions) -> Result<Start, Status> {
        options.check()?;
        Start::of(options, &place())
    }

    #[test]
    fn tokens_go_on_where_a_page_ended() {
        let last = KeyValue {
            key: "/r/pods/n/a".into(),
            ..KeyValue::default()
        };
        let options = ListOptions {
            continue_: Some(token(7, &place(), &last)),
            ..ListOptions::default()
        };
        let expected = Start {
            key: "/r/pods/n/a\0".to_owned(),
            revision: 7,
            at_least: 0,
            any: false,
            continued: true,
        };
        assert_eq!(start(&options).unwrap(), expected);
        let expired = continue_expired(&expected.key, &place());
        let options = ListOptions {
            continue_: Some(expired.details.continue_token),
            ..ListOptions::default()
        };
        assert_eq!(
            start(&options).unwrap(),
            Start {
                revision: 0,
                ..expected
            }
        );
    }

    #[test]
    fn damaged_tokens_are_refused() {
        let other = BASE64_URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v2","rv":5,"start":"a"}"#);
        let zero = BASE64_URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#);
        let less = BASE64_URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":-2,"start":"a"}"#);
        for odd in ["?", "abc", "e30", &other, &zero, &less] {
            let options = ListOptions {
                continue_: Some(odd.to_owned()),
                ..ListOptions::default()
            };
            assert_eq!(start(&options).unwrap_err().code, 400, "{odd}");
        }
        let options = ListOptions {
            continue_: Some(write_token(5, "a\0".to_owned())),
            resource_version: Some("5".to_owned()),
            ..ListOptions::default()
        };
        assert_eq!(start(&options).unwrap_err().code, 400);
    }

    #[test]
    fn a_version_that_is_none_is_a_bad_request() {
        for odd in ["x", "-1", "99999999999999999999"] {
            let options = ListOptions {
                resource_version: Some(odd.to_owned()),
                ..ListOptions::default()
            };
            let refusal = start(&options).unwrap_err();
            assert_eq!(refusal.code, 400, "{odd}");
            assert!(
                refusal
                    .message
                    .starts_with("invalid resource version: resourceVersion: "),
                "{odd}"
            );
        }
    }

    #[test]
    fn versions_mean_what_they_match() {
        for (version, how, limit, revision, at_least, any) in [
            ("", "", 0, 0, 0, false),
            ("0", "", 0, 0, 0, true),
            ("0", "", 5, 0, 0, true),
            ("0", "NotOlderThan", 0, 0, 0, true),
            ("7", "", 0, 0, 7, false),
            ("7", "", 5, 7, 0, false),
            ("7", "NotOlderThan", 5, 0, 7, false),
            ("7", "Exact", 0, 7, 0, false),
        ] {
            let options = ListOptions {
                limit,
                resource_version: Some(version.to_owned()),
                version_match: Some(how.to_owned()),
                ..ListOptions::default()
            };
            let start = start(&options).unwrap();
            assert_eq!(
                (start.revision, start.at_least, start.any),
                (revision, at_least, any),
                "{version} {how} {limit}"
            );
        }
        for (version, how) in [("", "Exact"), ("0", "Exact"), ("7", "Newer")] {
            let options = ListOptions {
                resource_version: Some(version.to_owned()),
                version_match: Some(how.to_owned()),
                ..ListOptions::default()
            };
            assert_eq!(start(&options).unwrap_err().code, 422, "{version} {how}");
        }
    }
}
