//! The way to the store: one gRPC service, or several that are taken in turn.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::watch_client::WatchClient;
use tonic::transport::Endpoint;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt as _};

use super::Failure;

/// The store, as clients see it. Cheap to clone.
#[derive(Clone)]
pub struct Etcd {
    shared: Arc<Shared>,
}

struct Shared {
    /// At least one.
    connections: Vec<Connection>,
    /// Which one is asked first: the one that answered last.
    current: AtomicUsize,
}

type Body = tonic::body::Body;
type Boxed = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, tonic::Status>;

/// One way to the store.
#[derive(Clone)]
pub(crate) struct Connection(Boxed);

impl Etcd {
    /// The store behind a gRPC service: one in the same process, or a channel that was made elsewhere.
    #[must_use]
    pub fn over<S, B>(service: S) -> Etcd
    where
        S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Etcd::over_each(vec![service])
    }

    /// The store behind several services, of which any will do: the members of a cluster.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn over_each<S, B>(services: Vec<S>) -> Etcd
    where
        S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        assert!(!services.is_empty(), "there is a way to the store");
        let boxed = services.into_iter().map(|service| {
            let service = service
                .map_response(|response: http::Response<B>| response.map(Body::new))
                .map_err(|error| tonic::Status::from_error(error.into()));
            Connection(BoxCloneSyncService::new(service))
        });
        Etcd {
            shared: Arc::new(Shared {
                connections: boxed.collect(),
                current: AtomicUsize::new(0),
            }),
        }
    }

    /// The store at these addresses, as in `http://127.0.0.1:2379`. Nothing is connected to before it is needed.
    pub fn connect(endpoints: &[String]) -> Result<Etcd, Failure> {
        if endpoints.is_empty() {
            return Err(invalid("no endpoint of the store is given".to_owned()));
        }
        let channels: Result<Vec<_>, Failure> = endpoints
            .iter()
            .map(|url| Etcd::endpoint(url).map(|endpoint| endpoint.connect_lazy()))
            .collect();
        Ok(Etcd::over_each(channels?))
    }

    /// A member at an address, with all that a connection to it needs: one that stands still is found out.
    pub fn endpoint(url: &str) -> Result<Endpoint, Failure> {
        let endpoint = Endpoint::from_shared(url.to_owned());
        let endpoint = endpoint.map_err(|error| invalid(format!("{url}: {error}")))?;
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .tcp_nodelay(true))
    }

    /// Makes a call, elsewhere too if it may be made twice or surely reached nobody.
    pub(super) async fn call<T, F, A>(&self, repeatable: bool, call: F) -> Result<T, Failure>
    where
        F: Fn(Connection) -> A,
        A: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let tries = self.shared.connections.len().max(TRIES_MIN);
        let mut tried = 1;
        loop {
            let (at, connection) = self.current();
            let answer = match tokio::time::timeout(CALL_TIMEOUT, call(connection)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => Failure::of(&status),
                Err(_) => Failure::Timeout {
                    message: "context deadline exceeded".to_owned(),
                },
            };
            if answer.is_of_this_member() {
                self.leave(at);
            }
            // Who waited for a quorum once does not wait for it again.
            let again = match answer {
                Failure::Timeout { .. } => false,
                _ => answer.is_of_this_member() && (repeatable || answer.is_unsent()),
            };
            if !again || tried == tries {
                return Err(answer);
            }
            tried += 1;
        }
    }

    /// The connection that is asked first, and its place.
    pub(super) fn current(&self) -> (usize, Connection) {
        let connections = &self.shared.connections;
        let at = self.shared.current.load(Ordering::Relaxed) % connections.len();
        (at, connections[at].clone())
    }

    /// The connection at `at` is no good; the next one is asked from now on.
    pub(super) fn leave(&self, at: usize) {
        let next = (at + 1) % self.shared.connections.len();
        // Somebody else may have left it already: then it is not left twice.
        let current = &self.shared.current;
        let _ = current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Connection {
    pub(super) fn keys(self) -> KvClient<Boxed> {
        KvClient::new(self.0)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn watches(self) -> WatchClient<Boxed> {
        WatchClient::new(self.0).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn leases(self) -> LeaseClient<Boxed> {
        LeaseClient::new(self.0)
    }

    pub(super) fn maintenance(self) -> MaintenanceClient<Boxed> {
        MaintenanceClient::new(self.0)
    }
}

fn invalid(message: String) -> Failure {
    Failure::Refused {
        code: tonic::Code::InvalidArgument,
        message,
    }
}

/// How long a call may take. A store without quorum gives up after 7 seconds and says so in better words.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a call is tried at least, where it may be: a connection that broke is found out by using it.
const TRIES_MIN: usize = 2;
/// The largest message taken from a store: a page of large objects. What is asked for bounds it.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a quiet connection is tried.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long a member may take to answer that.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// What the store may send on one stream before it waits: lists are large.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What it may send on all streams together.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
