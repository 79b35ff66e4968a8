//! Watches: a body of one JSON document per event, which lasts until its time is up or its client goes.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::answer;
use super::lists::{namespace, selectors};
use super::verbs::Work;
use crate::codec::{AsKind, Media};
use crate::engine::{Event, EventKind, Watch, WatchOptions};
use crate::resources::Resource;
use crate::status::Status;
use crate::table;

/// A watch on its way to a client.
struct Sending {
    watch: Watch,
    resource: &'static Resource,
    as_kind: AsKind,
    /// When its time is up.
    deadline: Instant,
    /// Becomes true when the server stops.
    ending: tokio::sync::watch::Receiver<bool>,
    include: table::Include,
    /// Columns were told.
    begun: bool,
    ended: bool,
}

/// Begins a watch.
pub(crate) async fn watch(work: &Work<'_>) -> Result<Response<Body>, Status> {
    let request = work.request;
    let accepted = work.accepted(&[Media::Json], WATCHED_AS)?;
    let (labels, fields) = selectors(request)?;
    let query = &request.query;
    let text = |name: &str| Some(query.get(name).to_owned()).filter(|text| !text.is_empty());
    let timeout_s = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let timeout = timeout_s
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or_else(default_timeout, |seconds| {
            Duration::from_secs(seconds.min(TIMEOUT_MAX_S))
        });
    let watch = work
        .engine
        .watch(
            request.resource,
            namespace(request),
            WatchOptions {
                labels,
                fields,
                resource_version: text("resourceVersion"),
                version_match: text("resourceVersionMatch"),
                send_initial_events: text("sendInitialEvents").map(|_| query.is_on("sendInitialEvents")),
                bookmarks: query.is_on("allowWatchBookmarks"),
            },
        )
        .await?;
    let sending = Sending {
        watch,
        resource: request.resource,
        as_kind: accepted.as_kind,
        deadline: Instant::now() + timeout,
        ending: work.engine.ending(),
        include: answer::include(query.get("includeObject"))?,
        begun: false,
        ended: false,
    };
    let lines = stream::unfold(sending, |mut sending| async move {
        let event = sending.next().await?;
        let line = sending.line(&event);
        Some((line, sending))
    });
    let mut response = Response::new(Body::from_stream(lines));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

impl Sending {
    /// The next event. When the time is up or the server stops, how far the watch has come is the last.
    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        tokio::select! {
            event = self.watch.next() => return event,
            () = tokio::time::sleep_until(self.deadline) => {}
            // The flag outlives the watch, which has the engine.
            _ = self.ending.wait_for(|ending| *ending) => {}
        }
        self.ended = true;
        self.watch.bookmark()
    }

    /// One event as a line.
    fn line(&mut self, event: &Event) -> Result<Bytes, std::io::Error> {
        let object = match (&event.kind, self.as_kind) {
            (EventKind::Error(_), _) | (_, AsKind::None) => event.object.json().clone(),
            (_, AsKind::Table) => self.row(event).map_err(std::io::Error::other)?,
            _ => {
                let partial = event.object.object().map(|object| table::partial(&object));
                Bytes::from(partial.map_err(std::io::Error::other)?.to_string())
            }
        };
        let head = format!("{{\"type\":\"{}\",\"object\":", event.kind.name());
        let mut line = Vec::with_capacity(head.len() + object.len() + 2);
        line.extend_from_slice(head.as_bytes());
        line.extend_from_slice(&object);
        line.extend_from_slice(b"}\n");
        Ok(line.into())
    }

    /// A table of one row, with its columns in the first.
    fn row(&mut self, event: &Event) -> Result<Bytes, Status> {
        let object = event.object.object()?;
        let meta = json!({ "resourceVersion": crate::object::meta(&object, "resourceVersion") });
        let with_columns = !std::mem::replace(&mut self.begun, true);
        let objects: Vec<_> = match event.kind {
            EventKind::Bookmark => Vec::new(),
            _ => vec![&*object],
        };
        let now = Timestamp::now();
        let table = table::render(self.resource, meta, objects, self.include, with_columns, now);
        Ok(Bytes::from(table.to_string()))
    }
}

/// Between half an hour and an hour, so that not all end at once, as a real server has it.
fn default_timeout() -> Duration {
    let spread = u64::from(uuid::Uuid::new_v4().as_fields().0) % TIMEOUT_MIN_S;
    Duration::from_secs(TIMEOUT_MIN_S + spread)
}

/// As what events may be had.
const WATCHED_AS: &[AsKind] = &[AsKind::Table, AsKind::PartialObjectMetadata];
/// The most that a client may ask for, a year: more is no time that a clock could add up to.
const TIMEOUT_MAX_S: u64 = 366 * 24 * 3600;
/// The least that a watch lasts whose client says nothing.
const TIMEOUT_MIN_S: u64 = 1800;
