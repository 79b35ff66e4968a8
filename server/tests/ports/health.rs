//! The service grpc.health.v1.Health, as gRPC for Go serves it for etcd.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::harness::*;
use proto::health::health_check_response::ServingStatus;
use proto::health::health_client::HealthClient;
use proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

#[tokio::test]
async fn the_server_as_a_whole_serves() {
    let server = Server::shared();
    let mut health = client(&server).await;
    let answer = health.check(of("")).await.unwrap().into_inner();
    assert_eq!(answer, is(ServingStatus::Serving));
    for service in ["etcdserverpb.KV", "x"] {
        assert_status(health.check(of(service)).await, Code::NotFound, "unknown service");
    }
    let all = health.list(HealthListRequest {}).await.unwrap().into_inner();
    assert_eq!(all.statuses, [(String::new(), is(ServingStatus::Serving))].into());
}

#[tokio::test]
async fn a_watch_tells_the_state_at_once() {
    let server = Server::shared();
    let mut health = client(&server).await;
    for (service, state) in [
        ("", ServingStatus::Serving),
        ("etcdserverpb.KV", ServingStatus::ServiceUnknown),
    ] {
        let mut states = health.watch(of(service)).await.unwrap().into_inner();
        let first = tokio::time::timeout(PATIENCE, states.message()).await.unwrap();
        assert_eq!(first.unwrap(), Some(is(state)));
    }
}

async fn client(server: &Server) -> HealthClient<Channel> {
    let channel = Endpoint::from_shared(server.endpoint()).unwrap();
    HealthClient::new(channel.connect().await.unwrap())
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

fn is(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status as i32,
    }
}
