//! One watch client: a connection, and what it sees on it.

use std::borrow::Cow;
use std::time::Instant;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::watch;

use super::judge::{Change, Deed, Event, LAST, pod_of};
use super::name_of;
use crate::Error;
use crate::kubernetes::http::{Connection, Wire};
use crate::kubernetes::pod;
use crate::transport::Endpoint;

/// A watch that has begun.
pub(super) struct Watcher {
    namespace: u16,
    body: Incoming,
}

/// What a client saw.
pub(super) struct Sight {
    pub(super) namespace: u16,
    pub(super) events: Vec<Event>,
    /// Why it did not see the last event of its namespace.
    pub(super) cut: Option<String>,
}

/// A line of a watch.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: Object<'a>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    /// Of a refusal.
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    resource_version: Cow<'a, str>,
}

/// What a line says.
enum Said {
    Event(Change),
    /// Nothing that an application is told.
    Bookmark,
    Refusal(String),
}

impl Watcher {
    /// Begins a watch behind a revision; returns once the server has taken it.
    pub(super) async fn begin(kubernetes: &Endpoint, namespace: u16, after: i64) -> Result<Self, Error> {
        let connection = Connection::open(kubernetes, Wire::Http1).await?;
        let path = format!(
            "{}?watch=true&resourceVersion={after}&allowWatchBookmarks=true&timeoutSeconds={TIMEOUT_S}",
            pod::collection(&name_of(namespace))
        );
        let body = connection.stream(&path).await.map_err(|source| Error::Call {
            what: "beginning a watch",
            source: Box::new(source),
        })?;
        Ok(Self { namespace, body })
    }

    /// Sees events until the last one of its namespace, until the watch ends, or until it is told to stop.
    pub(super) async fn watch(mut self, mut stopped: watch::Receiver<bool>) -> Sight {
        let mut events = Vec::new();
        let cut = tokio::select! {
            cut = self.see(&mut events) => cut,
            _ = stopped.wait_for(|stopped| *stopped) => Some("the last event did not come in time".to_owned()),
        };
        Sight {
            namespace: self.namespace,
            events,
            cut,
        }
    }

    async fn see(&mut self, events: &mut Vec<Event>) -> Option<String> {
        let mut pending = Vec::new();
        loop {
            let data = match self.body.frame().await {
                Some(Ok(frame)) => frame.into_data(),
                Some(Err(error)) => return Some(error.to_string()),
                None => return Some("the watch ended".to_owned()),
            };
            let at = Instant::now();
            pending.extend_from_slice(&data.unwrap_or_default());
            let mut rest = pending.as_slice();
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let (line, behind) = rest.split_at(end);
                rest = &behind[1..];
                match self.read(line) {
                    Some(Said::Event(change)) => {
                        events.push(Event { change, at });
                        if change.pod == LAST {
                            return None;
                        }
                    }
                    Some(Said::Bookmark) => {}
                    Some(Said::Refusal(text)) => return Some(text),
                    None => return Some(format!("an odd line: {}", String::from_utf8_lossy(line))),
                }
            }
            let read = pending.len() - rest.len();
            pending.drain(..read);
        }
    }

    fn read(&self, line: &[u8]) -> Option<Said> {
        let Line { kind, object } = serde_json::from_slice(line).ok()?;
        let deed = match &*kind {
            "ADDED" => Deed::Added,
            "MODIFIED" => Deed::Modified,
            "DELETED" => Deed::Deleted,
            "BOOKMARK" => return Some(Said::Bookmark),
            "ERROR" => return Some(Said::Refusal(object.message.into_owned())),
            _ => return None,
        };
        Some(Said::Event(Change {
            revision: object.metadata.resource_version.parse().ok()?,
            namespace: self.namespace,
            pod: pod_of(&object.metadata.name)?,
            deed,
        }))
    }
}

/// Longer than any measurement.
const TIMEOUT_S: u32 = 24 * 3600;
