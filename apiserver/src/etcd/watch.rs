//! One watch of one range on a stream of its own.

use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use proto::mvccpb::KeyValue;
use proto::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::connection::CALL_TIMEOUT;
use super::{Etcd, Failure, prefix_end, revision_of};

/// What happened to one key.
#[derive(Debug)]
pub(crate) struct Change {
    /// The key; its value, unless it was deleted. The mod revision is that of the change.
    pub(crate) kv: KeyValue,
    /// What it was before, if it was there and the store still knows.
    pub(crate) before: Option<KeyValue>,
    pub(crate) deleted: bool,
}

/// What comes of a watch.
#[derive(Debug)]
pub(crate) enum Batch {
    /// It is there.
    Created,
    /// Changes in order, all of every revision that is in it.
    Changes(Vec<Change>),
    /// Everything up to this revision has been told.
    Progress(i64),
}

/// A watch that is open. It ends when it is dropped.
pub(crate) struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    answers: tonic::Streaming<WatchResponse>,
    etcd: Etcd,
    /// At which connection it is.
    at: usize,
}

impl Etcd {
    /// Watches all keys that begin with `prefix`, from a revision on.
    pub(crate) async fn watch(&self, prefix: &str, start_revision: i64) -> Result<Stream, Failure> {
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let create = RequestUnion::CreateRequest(WatchCreateRequest {
            key: prefix.to_owned().into(),
            range_end: prefix_end(prefix).into(),
            start_revision,
            progress_notify: true,
            prev_kv: true,
            ..WatchCreateRequest::default()
        });
        // There is room for it: the queue is new.
        let _ = requests.try_send(WatchRequest {
            request_union: Some(create),
        });
        let mut request = tonic::Request::new(ReceiverStream::new(queue));
        // A member that is cut off from the others ends the watch instead of being silent.
        request
            .metadata_mut()
            .insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
        let (at, connection) = self.current();
        let mut client = connection.watches();
        let opened = match tokio::time::timeout(CALL_TIMEOUT, client.watch(request)).await {
            Ok(Ok(answers)) => Ok(answers.into_inner()),
            Ok(Err(status)) => Err(Failure::of(&status)),
            Err(_) => Err(Failure::Timeout {
                message: "context deadline exceeded".to_owned(),
            }),
        };
        match opened {
            Ok(answers) => Ok(Stream {
                requests,
                answers,
                etcd: self.clone(),
                at,
            }),
            Err(failure) => {
                self.leave(at);
                Err(failure)
            }
        }
    }
}

impl Stream {
    /// What comes next. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<Batch, Failure> {
        let answer = match self.answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                return Err(Failure::Unavailable {
                    message: "the store ended the watch".to_owned(),
                    unsent: false,
                });
            }
            Err(status) => {
                let failure = Failure::of(&status);
                if failure.is_of_this_member() {
                    self.etcd.leave(self.at);
                }
                return Err(failure);
            }
        };
        self.understand(answer)
    }

    /// Asks how far the watch is; it answers once everything before has been told. Asked before, it is not asked twice.
    pub(crate) fn ask_progress(&self) {
        let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
        let _ = self.requests.try_send(WatchRequest {
            request_union: Some(request),
        });
    }

    fn understand(&self, answer: WatchResponse) -> Result<Batch, Failure> {
        let revision = revision_of(answer.header.as_ref());
        if answer.compact_revision > 0 {
            return Err(Failure::Compacted {
                oldest: answer.compact_revision,
            });
        }
        if answer.canceled {
            // Without a leader, mostly: another member may have one.
            self.etcd.leave(self.at);
            return Err(Failure::Unavailable {
                message: answer.cancel_reason,
                unsent: false,
            });
        }
        if answer.created {
            return Ok(Batch::Created);
        }
        if answer.events.is_empty() {
            return Ok(Batch::Progress(revision));
        }
        let mut changes = Vec::with_capacity(answer.events.len());
        for event in answer.events {
            let deleted = event.r#type() == EventType::Delete;
            // Every event has its key.
            let Some(kv) = event.kv else { continue };
            changes.push(Change {
                kv,
                before: event.prev_kv,
                deleted,
            });
        }
        Ok(Batch::Changes(changes))
    }
}

/// Requests that wait on a stream: the one that makes the watch, and questions how far it is.
const REQUESTS_MAX: usize = 2;
