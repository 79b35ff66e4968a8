//! The service v3electionpb.Election.

use std::sync::Arc;

use futures_util::StreamExt as _;
use http::Request;
use store::Store;

use super::guard::Guarded;
use super::meter::RequestBody;
use super::rpc::Rpc;
use super::{Answering, requires_leader, server_stream, unary, waited};
use crate::concurrency::{election, observe};
use crate::core::Core;

pub(super) fn serve<'a>(
    core: &'a Arc<Core>,
    store: &'a Store,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Answering<'a> {
    match rpc {
        Rpc::Campaign => unary(core, request, move |q| waited(core, election::campaign(store, q))),
        Rpc::Proclaim => unary(core, request, move |q| waited(core, election::proclaim(store, q))),
        Rpc::Leader => unary(core, request, move |q| waited(core, election::leader(store, q))),
        Rpc::Resign => unary(core, request, move |q| waited(core, election::resign(store, q))),
        Rpc::Observe => {
            let requires_leader = requires_leader(request.headers());
            server_stream(core, request, move |q| async move {
                let shard = core.shard.clone();
                let leaders = observe::observe(store.clone(), &q).map(move |leader| {
                    shard.message_sent(Rpc::Observe);
                    Ok(leader)
                });
                Ok(tonic::Response::new(Guarded::new(core, requires_leader, leaders)))
            })
        }
        other => unreachable!("{other:?} is no RPC of Election"),
    }
}
