//! Who leads an election, and with which value, from now on.
//!
//! First the present leader, if there is one; else the first one to stand. Then each change of that leader's key, and
//! after its deletion again from the start, so that leaders who come and go in between are not all seen. The stream is
//! silent while nobody leads. As etcd's it ends, without an error, when the store cannot be read or what it follows
//! is compacted.

use std::vec;

use bytes::Bytes;
use futures_util::{Stream, stream};
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use proto::mvccpb::KeyValue;
use proto::mvccpb::event::EventType;
use proto::v3electionpb::{LeaderRequest, LeaderResponse};
use store::Store;

use super::watching::Watch;
use super::{Failure, end_of, oldest, prefix_of, revision_of};

/// The stream of an election's leaders.
pub(crate) fn observe(
    store: Store,
    request: &LeaderRequest,
) -> impl Stream<Item = LeaderResponse> + Send + use<> {
    let observer = Observer {
        store,
        prefix: prefix_of(&request.name),
        state: State::Searching,
    };
    stream::unfold(observer, |mut observer| async {
        let seen = observer.next().await.ok()?;
        Some((seen, observer))
    })
}

struct Observer {
    store: Store,
    prefix: Bytes,
    state: State,
}

enum State {
    /// No leader is known.
    Searching,
    /// This key leads; its changes from a revision on are yet to be asked for.
    Found {
        key: Bytes,
        from: i64,
    },
    Following(Following),
}

/// A leader's key under watch.
struct Following {
    watch: Watch,
    /// Changes received and not yet passed on.
    changes: vec::IntoIter<KeyValue>,
    header: Option<ResponseHeader>,
    /// The key's deletion comes after `changes`.
    deleted: bool,
}

impl Observer {
    async fn next(&mut self) -> Result<LeaderResponse, Failure> {
        loop {
            match &mut self.state {
                State::Searching => {
                    let (seen, kv) = self.search().await?;
                    self.state = State::Found {
                        key: kv.key.clone(),
                        from: revision_of(seen.as_ref()) + 1,
                    };
                    return Ok(answer(seen, kv));
                }
                State::Found { key, from } => {
                    let request = WatchCreateRequest {
                        key: key.clone(),
                        start_revision: *from,
                        ..Default::default()
                    };
                    let watch = Watch::start(&self.store, request).await?;
                    self.state = State::Following(Following::new(watch));
                }
                State::Following(following) => match following.next().await? {
                    Some(change) => return Ok(change),
                    None => self.state = State::Searching,
                },
            }
        }
    }

    /// The leader, or the first one to come.
    async fn search(&self) -> Result<(Option<ResponseHeader>, KeyValue), Failure> {
        let mut found = self.store.range(oldest(&self.prefix)).await?;
        if let Some(kv) = found.kvs.pop() {
            return Ok((found.header, kv));
        }
        let request = WatchCreateRequest {
            key: self.prefix.clone(),
            range_end: end_of(&self.prefix),
            start_revision: revision_of(found.header.as_ref()),
            filters: vec![FilterType::Nodelete as i32],
            ..Default::default()
        };
        let mut watch = Watch::start(&self.store, request).await?;
        loop {
            let WatchResponse {
                mut header, events, ..
            } = watch.next().await?;
            if let Some(kv) = events.into_iter().find_map(|event| event.kv) {
                // The response may hold later changes, which are looked at again from here on.
                if let Some(header) = &mut header {
                    header.revision = kv.mod_revision;
                }
                return Ok((header, kv));
            }
        }
    }
}

impl Following {
    fn new(watch: Watch) -> Following {
        Following {
            watch,
            changes: Vec::new().into_iter(),
            header: None,
            deleted: false,
        }
    }

    /// The next change of the key; nothing once it is deleted.
    async fn next(&mut self) -> Result<Option<LeaderResponse>, Failure> {
        loop {
            if let Some(kv) = self.changes.next() {
                return Ok(Some(answer(self.header, kv)));
            }
            if self.deleted {
                return Ok(None);
            }
            let WatchResponse { header, events, .. } = self.watch.next().await?;
            let puts = events
                .iter()
                .position(|event| event.r#type() == EventType::Delete);
            self.deleted = puts.is_some();
            self.header = header;
            let changes: Vec<KeyValue> = events
                .into_iter()
                .take(puts.unwrap_or(usize::MAX))
                .filter_map(|event| event.kv)
                .collect();
            self.changes = changes.into_iter();
        }
    }
}

fn answer(header: Option<ResponseHeader>, kv: KeyValue) -> LeaderResponse {
    LeaderResponse { header, kv: Some(kv) }
}
