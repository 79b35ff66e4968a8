//! What happened to the pods, as a watch of the store itself tells it.

use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use proto::mvccpb::Event;
use proto::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::judge::{Change, Deed, LAST, pod_of};
use crate::Error;
use crate::kubernetes::pod::{PODS, end_of};
use crate::transport::{Channel, Endpoint};

/// A watch of all pods.
pub(super) struct Truth {
    task: JoinHandle<Result<Vec<Change>, Status>>,
}

impl Truth {
    /// Begins to watch behind a revision.
    pub(super) async fn follow(store: &Endpoint, after: i64, namespaces: u16) -> Result<Self, Error> {
        let channel = Channel::connect(store).await?;
        let origin = channel.origin();
        let client = WatchClient::with_origin(channel, origin).max_decoding_message_size(usize::MAX);
        let task = tokio::spawn(watch(client, after, namespaces));
        Ok(Self { task })
    }

    /// Everything that happened, in order, once the last pod of each namespace has been made.
    pub(super) async fn end(self) -> Result<Vec<Change>, Error> {
        let failed = |status| Error::Prepare {
            what: "watching the store",
            status: Box::new(status),
        };
        let told = tokio::time::timeout(END_MAX, self.task).await;
        let told = told.map_err(|_| failed(Status::deadline_exceeded("not all was told")))?;
        told.map_err(Error::Client)?.map_err(failed)
    }
}

async fn watch(mut client: WatchClient<Channel>, after: i64, namespaces: u16) -> Result<Vec<Change>, Status> {
    let (requests, receive) = mpsc::channel(1);
    let create = WatchCreateRequest {
        key: Bytes::from_static(PODS.as_bytes()),
        range_end: end_of(PODS),
        start_revision: after + 1,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let sent = requests.send(request).await;
    sent.map_err(|_| Status::internal("the watch stream is closed"))?;
    let mut answers = client.watch(ReceiverStream::new(receive)).await?.into_inner();
    let mut changes = Vec::new();
    let mut ended = 0;
    while ended < namespaces {
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("the watch stream ended"))?;
        if answer.canceled {
            return Err(Status::aborted(answer.cancel_reason));
        }
        for event in &answer.events {
            let change = understand(event).ok_or_else(|| Status::internal("an odd event"))?;
            ended += u16::from(change.pod == LAST);
            changes.push(change);
        }
    }
    Ok(changes)
}

fn understand(event: &Event) -> Option<Change> {
    let kv = event.kv.as_ref()?;
    let place = std::str::from_utf8(&kv.key).ok()?.strip_prefix(PODS)?;
    let (namespace, name) = place.split_once('/')?;
    let deed = match event.r#type() {
        EventType::Delete => Deed::Deleted,
        EventType::Put if kv.create_revision == kv.mod_revision => Deed::Added,
        EventType::Put => Deed::Modified,
    };
    Some(Change {
        revision: kv.mod_revision,
        namespace: namespace.strip_prefix("crowd-")?.parse().ok()?,
        pod: pod_of(name)?,
        deed,
    })
}

/// From the last write to its event.
const END_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use proto::mvccpb::KeyValue;

    use super::*;

    #[test]
    fn events_of_the_store_are_changes() {
        let event = |kind: EventType, key: &'static str, create_revision| Event {
            r#type: kind.into(),
            kv: Some(KeyValue {
                key: Bytes::from_static(key.as_bytes()),
                create_revision,
                mod_revision: 9,
                ..KeyValue::default()
            }),
            prev_kv: None,
        };
        let key = "/registry/pods/crowd-3/hand-0000012";
        for (kind, create_revision, deed) in [
            (EventType::Put, 9, Deed::Added),
            (EventType::Put, 4, Deed::Modified),
            (EventType::Delete, 0, Deed::Deleted),
        ] {
            let expected = Change {
                revision: 9,
                namespace: 3,
                pod: 12,
                deed,
            };
            assert_eq!(understand(&event(kind, key, create_revision)), Some(expected));
        }
        assert_eq!(
            understand(&event(EventType::Put, "/registry/pods/other/a", 9)),
            None
        );
    }
}
