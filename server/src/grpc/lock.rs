//! The service v3lockpb.Lock.

use std::sync::Arc;

use http::Request;
use store::Store;

use super::meter::RequestBody;
use super::rpc::Rpc;
use super::{Answering, unary, waited};
use crate::concurrency::mutex;
use crate::core::Core;

pub(super) fn serve<'a>(
    core: &'a Arc<Core>,
    store: &'a Store,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Answering<'a> {
    match rpc {
        Rpc::Lock => unary(core, request, move |q| waited(core, mutex::lock(store, q))),
        Rpc::Unlock => unary(core, request, move |q| waited(core, mutex::unlock(store, q))),
        other => unreachable!("{other:?} is no RPC of Lock"),
    }
}
