//! A server that keeps what it is sent, so that a test can see what the generator did. Not a model of etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use proto::etcdserverpb::kv_server::{Kv, KvServer};
use proto::etcdserverpb::lease_server::{Lease, LeaseServer};
use proto::etcdserverpb::watch_server::{Watch, WatchServer};
use proto::etcdserverpb::*;
use proto::mvccpb::{Event, KeyValue};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Empty, Stream, StreamExt};
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) data: Mutex<BTreeMap<Bytes, Bytes>>,
    pub(crate) puts: AtomicU64,
    pub(crate) ranges: AtomicU64,
    pub(crate) txns: AtomicU64,
    pub(crate) renewals: AtomicU64,
    pub(crate) streams: AtomicU64,
    pub(crate) leases: Mutex<BTreeSet<i64>>,
    /// Refuse every put.
    pub(crate) refuse: AtomicBool,
    /// Tell watchers of every second put only.
    pub(crate) lose_events: AtomicBool,
    watchers: Mutex<Vec<mpsc::UnboundedSender<Result<WatchResponse, Status>>>>,
}

/// Serves until the test's runtime ends; returns the address.
pub(crate) async fn serve(fake: Arc<Fake>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shared = Shared(fake);
    let server = Server::builder()
        .add_service(KvServer::new(shared.clone()))
        .add_service(LeaseServer::new(shared.clone()))
        .add_service(WatchServer::new(shared));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}

#[derive(Clone)]
struct Shared(Arc<Fake>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::SeqCst)
}

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not needed"))
}

#[tonic::async_trait]
impl Kv for Shared {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        count(&self.0.ranges);
        let request = request.into_inner();
        let data = lock(&self.0.data);
        let kvs: Vec<_> = if request.range_end.is_empty() {
            data.get_key_value(&request.key).into_iter().collect()
        } else {
            data.range(request.key..request.range_end).collect()
        };
        if kvs.is_empty() {
            return Err(Status::not_found("the generator is to read what it wrote"));
        }
        let kvs = kvs.into_iter().map(|(key, value)| KeyValue {
            key: key.clone(),
            value: value.clone(),
            ..KeyValue::default()
        });
        Ok(Response::new(RangeResponse {
            kvs: kvs.collect(),
            ..RangeResponse::default()
        }))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        if self.0.refuse.load(Ordering::SeqCst) {
            return Err(Status::resource_exhausted("refused"));
        }
        let number = count(&self.0.puts);
        let PutRequest { key, value, .. } = request.into_inner();
        lock(&self.0.data).insert(key.clone(), value.clone());
        if number.is_multiple_of(2) || !self.0.lose_events.load(Ordering::SeqCst) {
            let kv = KeyValue {
                key,
                value,
                ..KeyValue::default()
            };
            let event = Event {
                kv: Some(kv),
                ..Event::default()
            };
            let answer = WatchResponse {
                events: vec![event],
                ..WatchResponse::default()
            };
            lock(&self.0.watchers).retain(|watcher| watcher.send(Ok(answer.clone())).is_ok());
        }
        Ok(Response::new(PutResponse::default()))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        count(&self.0.txns);
        match request.into_inner().success.as_slice() {
            [RequestOp { request: Some(_) }] => Ok(Response::new(TxnResponse::default())),
            other => Err(Status::invalid_argument(format!("{} operations", other.len()))),
        }
    }

    type RangeStreamStream = Empty<Result<RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        unused()
    }

    async fn delete_range(
        &self,
        _: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        unused()
    }

    async fn compact(&self, _: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        unused()
    }
}

#[tonic::async_trait]
impl Lease for Shared {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let mut leases = lock(&self.0.leases);
        let id = leases.last().map_or(1, |last| last + 1);
        leases.insert(id);
        Ok(Response::new(LeaseGrantResponse {
            id,
            ttl: request.into_inner().ttl,
            ..LeaseGrantResponse::default()
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        if lock(&self.0.leases).remove(&request.into_inner().id) {
            Ok(Response::new(LeaseRevokeResponse::default()))
        } else {
            Err(Status::not_found("no such lease"))
        }
    }

    type LeaseKeepAliveStream = Answers<LeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        count(&self.0.streams);
        let fake = Arc::clone(&self.0);
        let answers = request.into_inner().map(move |request| {
            let id = request?.id;
            count(&fake.renewals);
            let ttl = i64::from(lock(&fake.leases).contains(&id));
            Ok(LeaseKeepAliveResponse {
                id,
                ttl,
                ..LeaseKeepAliveResponse::default()
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        unused()
    }

    async fn lease_leases(
        &self,
        _: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        unused()
    }
}

#[tonic::async_trait]
impl Watch for Shared {
    type WatchStream = UnboundedReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let created = request.into_inner().message().await?;
        if created.and_then(|request| request.request_union).is_none() {
            return Err(Status::invalid_argument("no creation"));
        }
        let (send, receive) = mpsc::unbounded_channel();
        let answer = WatchResponse {
            created: true,
            ..WatchResponse::default()
        };
        drop(send.send(Ok(answer)));
        lock(&self.0.watchers).push(send);
        Ok(Response::new(UnboundedReceiverStream::new(receive)))
    }
}
