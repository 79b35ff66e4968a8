//! What a watching client heard.

use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use proto::mvccpb::Event;

use super::ProcessId;

/// One watcher over all the streams it was created on: a client whose stream breaks creates it anew where the last one
/// left off, and to its user it is still the same watch.
#[derive(Clone, PartialEq, Debug)]
pub struct WatchRecord {
    /// Who watched.
    pub process: ProcessId,
    /// One after the other.
    pub sessions: Vec<WatchSession>,
    /// The revision up to which the run waited for this watcher's events, where it did.
    pub drained_to: Option<i64>,
}

/// A watcher on one stream.
#[derive(Clone, PartialEq, Debug)]
pub struct WatchSession {
    /// What was asked.
    pub request: WatchCreateRequest,
    /// What came, in order: the responses with this watcher's id, and the stream's answers to progress requests (id
    /// −1), which speak for every watcher of the stream.
    pub responses: Vec<Heard>,
}

/// A response and when it came.
#[derive(Clone, PartialEq, Debug)]
pub struct Heard {
    /// When.
    pub at: u64,
    /// What.
    pub response: WatchResponse,
}

impl WatchSession {
    /// A session that has heard nothing yet.
    #[must_use]
    pub const fn new(request: WatchCreateRequest) -> Self {
        WatchSession {
            request,
            responses: Vec::new(),
        }
    }

    /// The events, in order of arrival.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.responses.iter().flat_map(|heard| &heard.response.events)
    }

    /// The revision in the header of the created response.
    #[must_use]
    pub fn created_at(&self) -> Option<i64> {
        let created = self
            .responses
            .iter()
            .find(|h| h.response.created && !h.response.canceled);
        created.map(|heard| header_revision(&heard.response))
    }

    /// The first revision that this session owes: the one asked for, else the one after its creation.
    #[must_use]
    pub fn owed_from(&self) -> Option<i64> {
        if self.request.start_revision > 0 {
            Some(self.request.start_revision)
        } else {
            self.created_at().map(|at| at + 1)
        }
    }

    /// The compacted revision, where the watcher was cancelled for it.
    #[must_use]
    pub fn compacted_at(&self) -> Option<i64> {
        let canceled = self.responses.iter().find(|h| h.response.canceled);
        canceled
            .map(|heard| heard.response.compact_revision)
            .filter(|at| *at != 0)
    }

    /// Where etcd's own client would go on after this session: behind the last event or progress; without either, where
    /// this one began (for a watch from now: at the revision of its creation, itself included).
    #[must_use]
    pub fn resume_from(&self) -> i64 {
        let begin = if self.request.start_revision > 0 {
            self.request.start_revision
        } else {
            self.created_at().unwrap_or(0)
        };
        let heard = self.responses.iter().map(|heard| &heard.response);
        heard.fold(begin, |next, response| match response.events.last() {
            // A fragment that others were to follow does not end a revision.
            Some(_) if response.fragment => next,
            Some(event) => event_revision(event) + 1,
            None if is_progress(response) => next.max(header_revision(response) + 1),
            None => next,
        })
    }
}

/// Whether a response only tells how far the watcher is.
#[must_use]
pub const fn is_progress(response: &WatchResponse) -> bool {
    response.events.is_empty() && !response.created && !response.canceled
}

/// The revision in a response's header.
#[must_use]
pub fn header_revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

/// The revision of an event.
#[must_use]
pub fn event_revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
