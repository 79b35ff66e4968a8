//! A watch of one key or of a prefix, for a call that waits. Dropping it ends the watch.

use bytes::Bytes;
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use store::Store;
use store::error::{Error, Unavailable};
use store::shell::WatchResponses;

use super::Failure;

/// One watcher on a stream of its own.
pub(super) struct Watch {
    responses: WatchResponses,
}

impl Watch {
    pub(super) async fn start(store: &Store, request: WatchCreateRequest) -> Result<Watch, Failure> {
        let (requests, responses) = store.watch().await?;
        requests.create(request).await.map_err(Error::from)?;
        Ok(Watch { responses })
    }

    /// The next response with events.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, Failure> {
        loop {
            let Some(response) = self.responses.recv().await else {
                return Err(Error::from(Unavailable::Stopped).into());
            };
            if response.compact_revision != 0 {
                return Err(Failure::Compacted);
            }
            if response.canceled {
                return Err(Failure::LostWatcher);
            }
            if !response.events.is_empty() {
                return Ok(response);
            }
        }
    }
}

/// Waits for the deletion of a key that existed at `revision`.
pub(super) async fn until_deleted(store: &Store, key: Bytes, revision: i64) -> Result<(), Failure> {
    let request = WatchCreateRequest {
        key,
        start_revision: revision,
        filters: vec![FilterType::Noput as i32],
        ..Default::default()
    };
    Watch::start(store, request).await?.next().await.map(drop)
}
