//! The service v3lockpb.Lock.

use std::sync::Arc;

use http::Request;

use super::meter::RequestBody;
use super::rpc::Rpc;
use super::{Answering, unary, waited};
use crate::concurrency::mutex;
use crate::core::Core;

pub(super) fn serve(core: &Arc<Core>, rpc: Rpc, request: Request<RequestBody>) -> Answering<'_> {
    let store = &core.store;
    match rpc {
        Rpc::Lock => unary(core, request, move |q| waited(core, mutex::lock(store, q))),
        Rpc::Unlock => unary(core, request, move |q| waited(core, mutex::unlock(store, q))),
        other => unreachable!("{other:?} is no RPC of Lock"),
    }
}
