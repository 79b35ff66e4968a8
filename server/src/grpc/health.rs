//! The service grpc.health.v1.Health: the server as a whole is named by the empty string.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use http::Request;
use proto::health::health_check_response::ServingStatus;
use proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use tonic::{Code, Status};

use super::guard::Guarded;
use super::meter::RequestBody;
use super::rpc::Rpc;
use super::{Answering, server_stream, unary};
use crate::core::Core;

pub(super) fn serve(core: &Arc<Core>, rpc: Rpc, request: Request<RequestBody>) -> Answering<'_> {
    match rpc {
        Rpc::HealthCheck => unary(core, request, move |q: HealthCheckRequest| async move {
            match q.service.as_str() {
                "" => Ok(tonic::Response::new(response(ServingStatus::Serving))),
                _ => Err(Status::new(Code::NotFound, "unknown service")),
            }
        }),
        Rpc::HealthList => unary(core, request, move |_: HealthListRequest| async move {
            let statuses = [(String::new(), response(ServingStatus::Serving))].into();
            Ok(tonic::Response::new(HealthListResponse { statuses }))
        }),
        Rpc::HealthWatch => {
            server_stream(core, request, move |q: HealthCheckRequest| async move {
                let status = if q.service.is_empty() {
                    ServingStatus::Serving
                } else {
                    ServingStatus::ServiceUnknown
                };
                core.shard.message_sent(Rpc::HealthWatch);
                // It does not change until the server stops.
                let states = stream::iter([Ok(response(status))]).chain(stream::pending());
                Ok(tonic::Response::new(Guarded::new(core, false, states)))
            })
        }
        other => unreachable!("{other:?} is no RPC of Health"),
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status as i32,
    }
}
