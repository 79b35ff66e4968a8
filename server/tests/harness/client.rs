//! gRPC clients for one endpoint, with short forms for calls that must succeed.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use proto::etcdserverpb::auth_client::AuthClient;
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, HashKvRequest, HashKvResponse,
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    TxnRequest, TxnResponse,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::codegen::http::Uri;
use tonic::codegen::{InterceptedService, Service};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::PATIENCE;
use super::requests::{delete, get, put};

/// The services of one server over one connection.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) kv: KvClient<Carrier>,
    pub(crate) watch: WatchClient<Carrier>,
    pub(crate) lease: LeaseClient<Carrier>,
    pub(crate) cluster: ClusterClient<Carrier>,
    pub(crate) maintenance: MaintenanceClient<Carrier>,
    pub(crate) auth: AuthClient<Carrier>,
    carrier: Carrier,
    channel: Channel,
}

/// A connection with what goes along with each of its calls.
pub(crate) type Carrier = InterceptedService<Channel, Credentials>;

/// The token that says who calls, if any.
#[derive(Clone, Default)]
pub(crate) struct Credentials(Option<AsciiMetadataValue>);

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

impl Client {
    pub(crate) async fn connect(endpoint: &str) -> Client {
        let channel = Client::endpoint(endpoint)
            .connect()
            .await
            .expect("the server accepts connections");
        Client::over(channel, Credentials::default())
    }

    /// A client that connects with its first call, and again after a loss.
    pub(crate) fn lazy(endpoint: &str) -> Client {
        Client::over(Client::endpoint(endpoint).connect_lazy(), Credentials::default())
    }

    /// A client whose connections `connect` makes.
    pub(crate) async fn through<F, T, S>(connect: F) -> Result<Client, tonic::transport::Error>
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let endpoint = Client::endpoint("http://localhost");
        let channel = endpoint
            .connect_with_connector(Connector(connect, PhantomData))
            .await?;
        Ok(Client::over(channel, Credentials::default()))
    }

    fn endpoint(endpoint: &str) -> Endpoint {
        Endpoint::from_shared(endpoint.to_owned())
            .expect("a valid URL")
            .timeout(PATIENCE * 3)
            .tcp_nodelay(true)
    }

    /// The same connection, whose calls carry this token from here on.
    pub(crate) fn with_token(&self, token: &str) -> Client {
        let token = token.parse().expect("tokens are plain text");
        Client::over(self.channel.clone(), Credentials(Some(token)))
    }

    /// The connection itself, for services that have no place here and for calls with metadata of their own.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The connection with the token of this client.
    pub(crate) fn carrier(&self) -> Carrier {
        self.carrier.clone()
    }

    fn over(channel: Channel, credentials: Credentials) -> Client {
        let carrier = InterceptedService::new(channel.clone(), credentials);
        Client {
            kv: KvClient::new(carrier.clone())
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(usize::MAX),
            watch: WatchClient::new(carrier.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(carrier.clone()),
            cluster: ClusterClient::new(carrier.clone()),
            maintenance: MaintenanceClient::new(carrier.clone()),
            auth: AuthClient::new(carrier.clone()),
            carrier,
            channel,
        }
    }

    /// Puts and returns the revision.
    pub(crate) async fn put(&self, key: &str, value: &str) -> i64 {
        revision(self.put_with(put(key, value)).await.header.as_ref())
    }

    pub(crate) async fn put_with(&self, request: PutRequest) -> PutResponse {
        self.try_put(request).await.expect("put succeeds")
    }

    pub(crate) async fn try_put(&self, request: PutRequest) -> Result<PutResponse, Status> {
        self.kv
            .clone()
            .put(request)
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn range(&self, request: RangeRequest) -> RangeResponse {
        self.try_range(request).await.expect("range succeeds")
    }

    pub(crate) async fn try_range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        self.kv
            .clone()
            .range(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Deletes one key and returns the revision of the answer.
    pub(crate) async fn delete(&self, key: &str) -> i64 {
        revision(self.delete_with(delete(key)).await.header.as_ref())
    }

    pub(crate) async fn delete_with(&self, request: DeleteRangeRequest) -> DeleteRangeResponse {
        self.kv
            .clone()
            .delete_range(request)
            .await
            .expect("delete succeeds")
            .into_inner()
    }

    pub(crate) async fn txn(&self, request: TxnRequest) -> TxnResponse {
        self.try_txn(request).await.expect("txn succeeds")
    }

    pub(crate) async fn try_txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        self.kv
            .clone()
            .txn(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Compacts and waits until the removal is done.
    pub(crate) async fn compact(&self, revision: i64) {
        self.try_compact(revision).await.expect("compact succeeds");
    }

    pub(crate) async fn try_compact(&self, revision: i64) -> Result<(), Status> {
        self.kv
            .clone()
            .compact(CompactionRequest {
                revision,
                physical: true,
            })
            .await
            .map(|_| ())
    }

    /// The store's current revision.
    pub(crate) async fn revision(&self) -> i64 {
        revision(
            self.range(get("a key to learn the revision by"))
                .await
                .header
                .as_ref(),
        )
    }

    /// Grants a lease of the server's choice of id.
    pub(crate) async fn grant(&self, ttl: i64) -> i64 {
        self.lease
            .clone()
            .lease_grant(LeaseGrantRequest { ttl, id: 0 })
            .await
            .expect("grant succeeds")
            .into_inner()
            .id
    }

    pub(crate) async fn revoke(&self, id: i64) -> Result<i64, Status> {
        let response = self.lease.clone().lease_revoke(LeaseRevokeRequest { id }).await?;
        Ok(revision(response.into_inner().header.as_ref()))
    }

    pub(crate) async fn time_to_live(&self, id: i64) -> LeaseTimeToLiveResponse {
        let request = LeaseTimeToLiveRequest { id, keys: true };
        self.lease
            .clone()
            .lease_time_to_live(request)
            .await
            .expect("timetolive succeeds")
            .into_inner()
    }

    /// One renewal on a stream of its own.
    pub(crate) async fn keep_alive(&self, id: i64) -> LeaseKeepAliveResponse {
        self.try_keep_alive(id).await.expect("keepalive succeeds")
    }

    pub(crate) async fn try_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
        let requests = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
        let mut answers = self.lease.clone().lease_keep_alive(requests).await?.into_inner();
        let answer = answers.message().await?;
        Ok(answer.expect("one answer for one request"))
    }

    pub(crate) async fn hash_kv(&self, revision: i64) -> HashKvResponse {
        let request = HashKvRequest { revision };
        self.maintenance
            .clone()
            .hash_kv(request)
            .await
            .expect("hashkv succeeds")
            .into_inner()
    }
}

/// Demands exactly this error.
#[track_caller]
pub(crate) fn assert_status<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let status = result.expect_err(text);
    assert_eq!((status.code(), status.message()), (code, text));
}

fn revision(header: Option<&proto::etcdserverpb::ResponseHeader>) -> i64 {
    header.expect("the answer has a header").revision
}

/// Makes connections for [`Client::through`].
struct Connector<F, S>(F, PhantomData<fn() -> S>);

impl<F, T, S> Service<Uri> for Connector<F, S>
where
    F: FnMut() -> T,
    T: Future<Output = io::Result<S>> + Send + 'static,
    S: 'static,
{
    type Response = TokioIo<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<S>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = (self.0)();
        Box::pin(async move { connecting.await.map(TokioIo::new) })
    }
}
