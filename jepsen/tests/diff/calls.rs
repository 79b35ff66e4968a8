//! Requests with all that a server needs to know, and what comes back.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::*;
use proto::health::{HealthCheckRequest, HealthCheckResponse};
use proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse,
};
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::as_bytes::AsBytes;
use super::steps::Metadata;

macro_rules! unary {
    ($($name:ident($request:ident) -> $answer:ident = $path:literal;)+) => {
        /// A call as one of the servers gets it.
        #[derive(Clone, PartialEq, Debug)]
        pub(crate) enum Request {
            $($name($request),)+
            RangeStream(RangeRequest),
            KeepAlive(i64),
            Health(HealthCheckRequest),
            Raw(String, Bytes),
        }

        /// What a call is answered with.
        #[derive(Clone, PartialEq, Debug)]
        pub(crate) enum Answer {
            $($name($answer),)+
            RangeStream(Vec<RangeStreamResponse>),
            KeepAlive(Option<LeaseKeepAliveResponse>),
            Health(HealthCheckResponse),
            Raw(Bytes),
        }

        impl Answer {
            /// The header, where this kind of answer has one.
            pub(crate) fn header_mut(&mut self) -> Option<&mut ResponseHeader> {
                match self {
                    $(Answer::$name(answer) => answer.header.as_mut(),)+
                    Answer::KeepAlive(Some(answer)) => answer.header.as_mut(),
                    _ => None,
                }
            }
        }

        impl Client {
            async fn unary_call(&self, metadata: Option<Metadata>, request: Request) -> Result<Answer, Status> {
                match request {
                    $(Request::$name(request) => {
                        let answer = self.unary($path, metadata, request).await?;
                        Ok(Answer::$name(answer))
                    })+
                    Request::RangeStream(request) => self.range_stream(metadata, request).await,
                    Request::KeepAlive(id) => self.keep_alive(id).await,
                    Request::Health(request) => {
                        let answer = self.unary("/grpc.health.v1.Health/Check", metadata, request).await?;
                        Ok(Answer::Health(answer))
                    }
                    Request::Raw(path, message) => self.raw(&path, metadata, message).await,
                }
            }
        }
    };
}

unary! {
    Range(RangeRequest) -> RangeResponse = "/etcdserverpb.KV/Range";
    Put(PutRequest) -> PutResponse = "/etcdserverpb.KV/Put";
    Delete(DeleteRangeRequest) -> DeleteRangeResponse = "/etcdserverpb.KV/DeleteRange";
    Txn(TxnRequest) -> TxnResponse = "/etcdserverpb.KV/Txn";
    Compact(CompactionRequest) -> CompactionResponse = "/etcdserverpb.KV/Compact";
    Grant(LeaseGrantRequest) -> LeaseGrantResponse = "/etcdserverpb.Lease/LeaseGrant";
    Revoke(LeaseRevokeRequest) -> LeaseRevokeResponse = "/etcdserverpb.Lease/LeaseRevoke";
    TimeToLive(LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse = "/etcdserverpb.Lease/LeaseTimeToLive";
    Leases(LeaseLeasesRequest) -> LeaseLeasesResponse = "/etcdserverpb.Lease/LeaseLeases";
    HashKv(HashKvRequest) -> HashKvResponse = "/etcdserverpb.Maintenance/HashKV";
    Hash(HashRequest) -> HashResponse = "/etcdserverpb.Maintenance/Hash";
    Alarm(AlarmRequest) -> AlarmResponse = "/etcdserverpb.Maintenance/Alarm";
    Status(StatusRequest) -> StatusResponse = "/etcdserverpb.Maintenance/Status";
    Defragment(DefragmentRequest) -> DefragmentResponse = "/etcdserverpb.Maintenance/Defragment";
    MoveLeader(MoveLeaderRequest) -> MoveLeaderResponse = "/etcdserverpb.Maintenance/MoveLeader";
    Downgrade(DowngradeRequest) -> DowngradeResponse = "/etcdserverpb.Maintenance/Downgrade";
    MemberList(MemberListRequest) -> MemberListResponse = "/etcdserverpb.Cluster/MemberList";
    MemberAdd(MemberAddRequest) -> MemberAddResponse = "/etcdserverpb.Cluster/MemberAdd";
    MemberRemove(MemberRemoveRequest) -> MemberRemoveResponse = "/etcdserverpb.Cluster/MemberRemove";
    MemberUpdate(MemberUpdateRequest) -> MemberUpdateResponse = "/etcdserverpb.Cluster/MemberUpdate";
    MemberPromote(MemberPromoteRequest) -> MemberPromoteResponse = "/etcdserverpb.Cluster/MemberPromote";
    Lock(LockRequest) -> LockResponse = "/v3lockpb.Lock/Lock";
    Unlock(UnlockRequest) -> UnlockResponse = "/v3lockpb.Lock/Unlock";
    Campaign(CampaignRequest) -> CampaignResponse = "/v3electionpb.Election/Campaign";
    Proclaim(ProclaimRequest) -> ProclaimResponse = "/v3electionpb.Election/Proclaim";
    Leader(LeaderRequest) -> LeaderResponse = "/v3electionpb.Election/Leader";
    Resign(ResignRequest) -> ResignResponse = "/v3electionpb.Election/Resign";
}

/// An error, as far as clients see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) text: String,
    /// The length of the binary details.
    pub(crate) details: usize,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Refusal {
            code: status.code(),
            text: status.message().to_owned(),
            details: status.details().len(),
        }
    }
}

/// What a call came to.
pub(crate) type Outcome = Result<Answer, Refusal>;

/// One connection to one server.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    pub(crate) async fn connect(endpoint: String) -> Client {
        let channel = Endpoint::from_shared(endpoint)
            .expect("a valid URL")
            .tcp_nodelay(true)
            .connect()
            .await
            .expect("the server accepts connections");
        Client { channel }
    }

    pub(crate) async fn call(&self, metadata: Option<Metadata>, request: Request) -> Outcome {
        let answer = tokio::time::timeout(CALL, self.unary_call(metadata, request)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer in {CALL:?}"))));
        answer.map_err(Refusal::from)
    }

    pub(crate) fn watch_client(&self) -> watch_client::WatchClient<Channel> {
        watch_client::WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) fn election_client(&self) -> proto::v3electionpb::election_client::ElectionClient<Channel> {
        proto::v3electionpb::election_client::ElectionClient::new(self.channel.clone())
    }

    async fn unary<Q, A>(
        &self,
        path: &'static str,
        metadata: Option<Metadata>,
        request: Q,
    ) -> Result<A, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc().await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc
            .unary(with(metadata, request), path, ProstCodec::<Q, A>::default())
            .await?;
        Ok(answer.into_inner())
    }

    async fn range_stream(
        &self,
        metadata: Option<Metadata>,
        request: RangeRequest,
    ) -> Result<Answer, Status> {
        let mut grpc = self.grpc().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.KV/RangeStream");
        let codec = ProstCodec::<RangeRequest, RangeStreamResponse>::default();
        let mut stream = grpc
            .server_streaming(with(metadata, request), path, codec)
            .await?
            .into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        Ok(Answer::RangeStream(messages))
    }

    async fn keep_alive(&self, id: i64) -> Result<Answer, Status> {
        let mut client = lease_client::LeaseClient::new(self.channel.clone());
        let requests = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
        let mut answers = client.lease_keep_alive(requests).await?.into_inner();
        let first = answers.message().await?;
        // The requests have ended, and so must the answers.
        match answers.message().await? {
            None => Ok(Answer::KeepAlive(first)),
            Some(second) => Err(Status::internal(format!("a second answer: {second:?}"))),
        }
    }

    async fn raw(&self, path: &str, metadata: Option<Metadata>, message: Bytes) -> Result<Answer, Status> {
        let mut grpc = self.grpc().await?;
        let method = PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?;
        let answer = grpc.unary(with(metadata, message), method, AsBytes).await?;
        let answer = answer.into_inner();
        // Kinds that sequences send and that are answered with a header.
        if path == "/etcdserverpb.KV/Range" {
            let answer = RangeResponse::decode(answer);
            return answer
                .map(Answer::Range)
                .map_err(|error| Status::internal(error.to_string()));
        }
        Ok(Answer::Raw(answer))
    }

    async fn grpc(&self) -> Result<tonic::client::Grpc<Channel>, Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::unavailable(format!("no connection: {error}")))?;
        Ok(grpc)
    }
}

/// The longest that a call may take. None of sequences waits for anything.
const CALL: Duration = Duration::from_secs(15);

fn with<T>(metadata: Option<Metadata>, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(metadata) = metadata {
        insert(request.metadata_mut(), metadata);
    }
    request
}

fn insert(map: &mut MetadataMap, metadata: Metadata) {
    let (name, value): (&'static str, &[u8]) = match metadata {
        Metadata::HasLeader => ("hasleader", b"true"),
        Metadata::HasLeaderOtherwise => ("hasleader", b"1"),
        Metadata::ApiVersion => ("client-api-version", b"3.7.0"),
        Metadata::ApiVersionBroken => ("client-api-version", b"3.\xff"),
        Metadata::Unknown => ("source", b"diff"),
    };
    let value = AsciiMetadataValue::try_from(value).expect("allowed in a header");
    map.insert(name, value);
}
