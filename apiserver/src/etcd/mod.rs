//! The calls of the etcd API that are needed, in the shapes in which a real API server makes them: ranges, transactions
//! that compare one revision and write one key, leases, and watches of one range per stream.
//!
//! A connection is any gRPC service: one to a store within the same process, or channels to the members of a cluster,
//! which are taken in turn when one fails. What may be repeated is repeated at the next; a write is only when it surely
//! reached nobody, because a transaction that was applied and is sent again finds its own work and takes it for that of
//! another. This room knows nothing of objects: keys and values are bytes, and what went wrong is a [`Failure`].

mod connection;
mod failure;
mod watch;

use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request as Operation;
use proto::etcdserverpb::response_op::Response as Outcome;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    RangeResponse, RequestOp, ResponseHeader, StatusRequest, TxnRequest, TxnResponse,
};
use proto::mvccpb::KeyValue;

pub use self::connection::Etcd;
pub use self::failure::Failure;
pub(crate) use self::watch::{Batch, Change, Stream};

/// A part of a directory as it was at one revision.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) kvs: Vec<KeyValue>,
    /// The revision at which it was read.
    pub(crate) revision: i64,
    /// Whether there is more behind the last key.
    pub(crate) more: bool,
    /// How many keys there are from the first one on, those beyond the limit included.
    pub(crate) count: i64,
}

/// What became of a write that expected a key at a certain revision.
#[derive(Debug)]
pub(crate) enum Written {
    /// It was made, at this revision.
    Done(i64),
    /// The key was not as expected; this is what it is.
    Other(Option<KeyValue>),
}

impl Etcd {
    /// The newest value of a key, and the revision of the read.
    pub(crate) async fn get(&self, key: &str) -> Result<(Option<KeyValue>, i64), Failure> {
        let request = RangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            limit: 1,
            ..RangeRequest::default()
        };
        let answer = self.range(request).await?;
        let revision = revision_of(answer.header.as_ref());
        Ok((answer.kvs.into_iter().next(), revision))
    }

    /// Keys from `key` up to `end`, at `revision` or, for 0, now; at most `limit`, or all for 0.
    pub(crate) async fn page(
        &self,
        key: &str,
        end: &str,
        limit: i64,
        revision: i64,
    ) -> Result<Page, Failure> {
        self.read_page(key, end, limit, revision, false).await
    }

    /// The same as one member has it, which may be behind the others, or without them.
    pub(crate) async fn page_of_any(
        &self,
        key: &str,
        end: &str,
        limit: i64,
        revision: i64,
    ) -> Result<Page, Failure> {
        self.read_page(key, end, limit, revision, true).await
    }

    async fn read_page(
        &self,
        key: &str,
        end: &str,
        limit: i64,
        revision: i64,
        serializable: bool,
    ) -> Result<Page, Failure> {
        let request = RangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            range_end: Bytes::copy_from_slice(end.as_bytes()),
            limit,
            revision,
            serializable,
            ..RangeRequest::default()
        };
        let answer = self.range(request).await?;
        let now = revision_of(answer.header.as_ref());
        Ok(Page {
            kvs: answer.kvs,
            revision: if revision > 0 { revision } else { now },
            more: answer.more,
            count: answer.count,
        })
    }

    /// The newest revision of the store, by a read of `key` that brings nothing else.
    pub(crate) async fn revision(&self, key: &str) -> Result<i64, Failure> {
        let request = RangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            count_only: true,
            ..RangeRequest::default()
        };
        let answer = self.range(request).await?;
        Ok(revision_of(answer.header.as_ref()))
    }

    /// Writes a key that must not be there yet.
    pub(crate) async fn create(&self, key: &str, value: Bytes, lease: i64) -> Result<Written, Failure> {
        self.swap(key, 0, put(key, value, lease), false).await
    }

    /// Writes a key that must be as it was at `expected`.
    pub(crate) async fn update(
        &self,
        key: &str,
        expected: i64,
        value: Bytes,
        lease: i64,
    ) -> Result<Written, Failure> {
        self.swap(key, expected, put(key, value, lease), true).await
    }

    /// Deletes a key that must be as it was at `expected`.
    pub(crate) async fn delete(&self, key: &str, expected: i64) -> Result<Written, Failure> {
        let delete = Operation::RequestDeleteRange(DeleteRangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..DeleteRangeRequest::default()
        });
        self.swap(key, expected, delete, true).await
    }

    /// A lease of so many seconds that nobody keeps alive.
    pub(crate) async fn grant(&self, ttl_s: i64) -> Result<i64, Failure> {
        let request = LeaseGrantRequest { ttl: ttl_s, id: 0 };
        let granted = self
            .call(true, |connection| {
                let mut client = connection.leases();
                async move { client.lease_grant(request).await }
            })
            .await?;
        Ok(granted.id)
    }

    /// Forgets the history before a revision. What is forgotten already is no failure.
    pub(crate) async fn compact(&self, revision: i64) -> Result<(), Failure> {
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        let done = self
            .call(true, |connection| {
                let mut client = connection.keys();
                async move { client.compact(request).await }
            })
            .await;
        match done {
            Ok(_) | Err(Failure::Compacted { .. }) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Sets `key` to `value` if it was written `version` times, and tells how often it was written and what it is now.
    pub(crate) async fn take_turn(
        &self,
        key: &str,
        version: i64,
        value: Bytes,
    ) -> Result<(bool, Option<KeyValue>, i64), Failure> {
        let compare = compare(key, CompareTarget::Version, TargetUnion::Version(version));
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![operation(put(key, value, 0))],
            failure: vec![operation(range_one(key))],
        };
        let answer = self.transaction(request).await?;
        let revision = revision_of(answer.header.as_ref());
        let succeeded = answer.succeeded;
        Ok((succeeded, found_instead(answer), revision))
    }

    /// The version of the server's program, as in `3.6.1`.
    pub(crate) async fn version(&self) -> Result<String, Failure> {
        let status = self
            .call(true, |connection| {
                let mut client = connection.maintenance();
                async move { client.status(StatusRequest::default()).await }
            })
            .await?;
        Ok(status.version)
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        self.call(true, |connection| {
            let mut client = connection.keys();
            let request = request.clone();
            async move { client.range(request).await }
        })
        .await
    }

    async fn transaction(&self, request: TxnRequest) -> Result<TxnResponse, Failure> {
        self.call(false, |connection| {
            let mut client = connection.keys();
            let request = request.clone();
            async move { client.txn(request).await }
        })
        .await
    }

    /// Writes a key if it is as it was at `expected` (0: not there), and another one that everybody writes who decides
    /// something from all keys of a directory, if nobody did meanwhile. Nothing where one of them was not as expected, else
    /// the revision.
    pub(crate) async fn put_guarded(
        &self,
        (key, expected): (&str, i64),
        value: Bytes,
        (guard, guard_expected): (&str, i64),
    ) -> Result<Option<i64>, Failure> {
        let as_expected =
            |key, revision| compare(key, CompareTarget::Mod, TargetUnion::ModRevision(revision));
        let request = TxnRequest {
            compare: vec![as_expected(key, expected), as_expected(guard, guard_expected)],
            success: vec![
                operation(put(key, value, 0)),
                operation(put(guard, Bytes::new(), 0)),
            ],
            failure: Vec::new(),
        };
        let answer = self.transaction(request).await?;
        let revision = revision_of(answer.header.as_ref());
        Ok(answer.succeeded.then_some(revision))
    }

    /// One write if the key is as it was at `expected`; else, if asked for, what it is.
    async fn swap(&self, key: &str, expected: i64, write: Operation, look: bool) -> Result<Written, Failure> {
        let compare = compare(key, CompareTarget::Mod, TargetUnion::ModRevision(expected));
        let failure = if look {
            vec![operation(range_one(key))]
        } else {
            Vec::new()
        };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![operation(write)],
            failure,
        };
        let answer = self.transaction(request).await?;
        if answer.succeeded {
            return Ok(Written::Done(revision_of(answer.header.as_ref())));
        }
        Ok(Written::Other(found_instead(answer)))
    }
}

/// The end of the range of all keys that begin with `prefix`.
pub(crate) fn prefix_end(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    // Prefixes of directories end in `/`; what follows it is `0`.
    match end.pop() {
        Some(last) => {
            let next = char::from_u32(u32::from(last) + 1).unwrap_or(last);
            end.push(next);
            end
        }
        None => "\0".to_owned(),
    }
}

fn revision_of(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

fn found_instead(answer: TxnResponse) -> Option<KeyValue> {
    match answer.responses.into_iter().next()?.response? {
        Outcome::ResponseRange(range) => range.kvs.into_iter().next(),
        _ => None,
    }
}

fn compare(key: &str, target: CompareTarget, value: TargetUnion) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::new(),
        target_union: Some(value),
    }
}

fn put(key: &str, value: Bytes, lease: i64) -> Operation {
    Operation::RequestPut(PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value,
        lease,
        ..PutRequest::default()
    })
}

fn range_one(key: &str) -> Operation {
    Operation::RequestRange(RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..RangeRequest::default()
    })
}

fn operation(request: Operation) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}
