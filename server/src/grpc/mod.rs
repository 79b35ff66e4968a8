//! The gRPC side of the client port: from a path to a service and back, with what all RPCs have in common.
//!
//! A service file only decodes, calls the store's handle, encodes; the code and text of an error are
//! [`status`]'s business. Dispatch is one `match` over [`rpc::Rpc`] into handlers whose futures are plain values:
//! tonic's generated servers would box three futures per call. Whoever replaces tonic's framing by something
//! faster replaces [`unary`], [`server_stream`] and [`bidi_stream`].

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use prost::Message;
use store::Store;
use store::auth::Caller;
use store::error::Error;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Code, Status, Streaming};

use self::backlog::{COUNTED_BYTES_MIN, Held};
use self::codec::{KeepingWire, Wire};
use self::meter::{AnswerBody, Call, RequestBody, Source};
use self::rpc::{Kind, Rpc};
use self::stats::Kept;
use crate::audit::{Entry, Who};
use crate::auth::Credentials;
use crate::concurrency::Failure;
use crate::core::{Core, raised};
use crate::listen::PeerIdentity;

mod auth;
pub(crate) mod backlog;
mod cluster;
mod codec;
mod election;
mod guard;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
pub(crate) mod meter;
pub(crate) mod rpc;
mod stats;
pub(crate) mod status;
mod watch;

/// Answers one call.
pub(crate) fn serve(
    core: Arc<Core>,
    request: Request<Incoming>,
) -> impl Future<Output = Response<AnswerBody>> + Send {
    carry_out(core, request.map(Source::Wire))
}

/// Answers one call that comes from within this process. It is judged, counted and bounded as any other.
pub(crate) fn serve_local(
    core: Arc<Core>,
    request: Request<UnsyncBoxBody<Bytes, Status>>,
) -> impl Future<Output = Response<AnswerBody>> + Send {
    carry_out(core, request.map(Source::Local))
}

async fn carry_out(core: Arc<Core>, request: Request<Source>) -> Response<AnswerBody> {
    // A request that is borrowed here would stay in every call's future, so `begin` does all that.
    let Begun {
        rpc,
        call,
        request,
        acting,
    } = match begin(&core, request) {
        Ok(begun) => begun,
        Err(refusal) => return *refusal,
    };
    let response = match acting {
        Acting::Nobody => route(&core, &core.nobody, rpc, request).await,
        Acting::As(store) => route(&core, &store, rpc, request).await,
        // Boxed with the request in it, since it is rare.
        Acting::Later(credentials) => Box::pin(route_later(&core, credentials, rpc, request)).await,
    };
    finish(response, call)
}

/// A call that may be carried out.
struct Begun {
    rpc: Rpc,
    call: Call,
    request: Request<RequestBody>,
    acting: Acting,
}

/// By which handle of the store.
enum Acting {
    Nobody,
    As(Store),
    /// By that of whoever has these credentials, which takes a wait.
    Later(Credentials),
}

/// All that is judged of a call without a wait.
fn begin(core: &Arc<Core>, mut request: Request<Source>) -> Result<Begun, Box<Response<AnswerBody>>> {
    let rpc = match Rpc::of_path(request.uri().path()) {
        Ok(rpc) => rpc,
        Err(text) => {
            let response = Status::new(Code::Unimplemented, text).into_http::<Body>();
            return Err(Box::new(response.map(AnswerBody::uncounted)));
        }
    };
    let entry = core
        .audit
        .as_ref()
        .map(|audit| audit.begin(rpc, who_asks(&request)));
    if let Some(entry) = &entry {
        request.extensions_mut().insert(entry.clone());
    }
    let call = Call::start(core.shard.clone(), rpc, entry);
    let (_, _, kind) = rpc.names();
    if let Err(refusal) = gate(core, rpc, kind, request.headers()) {
        return Err(Box::new(finish(refusal.into_http(), call)));
    }
    let backlog = (kind != Kind::BidiStream).then(|| core.requests.clone());
    // What the gateway hands on is there.
    let from_wire = matches!(request.body(), Source::Wire(_));
    let address = address_of(&request);
    let arrival = from_wire.then(|| {
        let arrivals = &core.defences.arrivals;
        arrivals.expect(address, kind != Kind::BidiStream)
    });
    let request = request.map(|body| RequestBody::new(rpc, body, core.shard.clone(), backlog, arrival));
    let acting = match identified(core, rpc, &request) {
        Ok(acting) => acting,
        Err(refusal) => return Err(Box::new(finish(refusal.into_http(), call))),
    };
    Ok(Begun {
        rpc,
        call,
        request,
        acting,
    })
}

/// Who calls. That does not matter while authentication is off; should it be turned on meanwhile, it is nobody.
fn identified(core: &Core, rpc: Rpc, request: &Request<RequestBody>) -> Result<Acting, Status> {
    if !core.store.auth_enabled() {
        return Ok(Acting::Nobody);
    }
    let credentials = Credentials::of(request);
    match core.auth.recognised(&core.store, &credentials) {
        Some(caller) => {
            let store = core.store.acting_as(caller);
            welcome(core, rpc, store.caller(), request)?;
            Ok(Acting::As(store))
        }
        None => Ok(Acting::Later(credentials)),
    }
}

/// Notes who calls, and hears whoever is not known only so often.
fn welcome(core: &Core, rpc: Rpc, caller: &Caller, request: &Request<RequestBody>) -> Result<(), Status> {
    if let Some(entry) = request.extensions().get::<Entry>() {
        entry.called_by(caller);
    }
    admit(core, rpc, caller, address_of(request))
}

fn address_of<B>(request: &Request<B>) -> Option<IpAddr> {
    request.extensions().get::<Arc<PeerIdentity>>()?.address.ip()
}

/// A call of whom this member may hear of yet.
async fn route_later(
    core: &Arc<Core>,
    credentials: Credentials,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Response<Body> {
    let store = acting(core, &credentials).await;
    match welcome(core, rpc, store.caller(), &request) {
        Ok(()) => route(core, &store, rpc, request).await,
        Err(refusal) => refusal.into_http(),
    }
}

/// The store for a caller with these credentials.
async fn acting(core: &Core, credentials: &Credentials) -> Store {
    core.store
        .acting_as(core.auth.caller(&core.store, credentials).await)
}

/// Who is at the other end, as far as the connection tells.
fn who_asks(request: &Request<Source>) -> Who {
    let peer = request.extensions().get::<Arc<PeerIdentity>>();
    Who {
        common_name: peer.and_then(|peer| peer.common_name.clone()),
        address: peer.map(|peer| peer.address.to_string()),
        gateway: matches!(request.body(), Source::Local(_)),
    }
}

/// Hears whoever is not known only so often. Logins have limits of their own, and probes are nobody's business.
fn admit(core: &Core, rpc: Rpc, caller: &Caller, address: Option<IpAddr>) -> Result<(), Status> {
    let known = !matches!(caller, Caller::Nobody | Caller::Stranger);
    let open = matches!(
        rpc,
        Rpc::Authenticate | Rpc::HealthCheck | Rpc::HealthList | Rpc::HealthWatch
    );
    match known || open || core.defences.guesses.admit(address) {
        true => Ok(()),
        false => Err(backlog::too_many()),
    }
}

fn route<'a>(
    core: &'a Arc<Core>,
    store: &'a Store,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Answering<'a> {
    match rpc {
        Rpc::Range | Rpc::RangeStream | Rpc::Put | Rpc::DeleteRange | Rpc::Txn | Rpc::Compact => {
            kv::serve(core, store, rpc, request)
        }
        Rpc::Watch => watch::serve(core, store, request),
        Rpc::LeaseGrant
        | Rpc::LeaseRevoke
        | Rpc::LeaseKeepAlive
        | Rpc::LeaseTimeToLive
        | Rpc::LeaseLeases => lease::serve(core, store, rpc, request),
        Rpc::MemberAdd | Rpc::MemberRemove | Rpc::MemberUpdate | Rpc::MemberList | Rpc::MemberPromote => {
            cluster::serve(core, store, rpc, request)
        }
        Rpc::Alarm
        | Rpc::Status
        | Rpc::Defragment
        | Rpc::Hash
        | Rpc::HashKv
        | Rpc::Snapshot
        | Rpc::MoveLeader
        | Rpc::Downgrade => maintenance::serve(core, store, rpc, request),
        Rpc::Lock | Rpc::Unlock => lock::serve(core, store, rpc, request),
        Rpc::Campaign | Rpc::Proclaim | Rpc::Leader | Rpc::Observe | Rpc::Resign => {
            election::serve(core, store, rpc, request)
        }
        Rpc::HealthCheck | Rpc::HealthList | Rpc::HealthWatch => health::serve(core, rpc, request),
        _ => auth::serve(core, store, rpc, request),
    }
}

/// What is judged before the arguments are read.
fn gate(core: &Core, rpc: Rpc, kind: Kind, headers: &HeaderMap) -> Result<(), Status> {
    guard::serves(core, rpc)?;
    let version = headers.get("client-api-version");
    let version = version.map(|version| std::str::from_utf8(version.as_bytes()));
    let Ok(version) = version.transpose() else {
        return Err(status::invalid_client_api_version());
    };
    core.shard.numbers.client(version, kind != Kind::Unary);
    if requires_leader(headers) && !core.store.has_leader() {
        return Err(status::no_leader());
    }
    Ok(())
}

/// Whether the caller wants an error rather than a wait when there is no leader.
fn requires_leader(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value == "true")
}

/// Notes how the call ended if it has, and translates what tonic says in its own words.
fn finish(mut response: Response<Body>, mut call: Call) -> Response<AnswerBody> {
    let Some(code) = meter::code_of(response.headers()) else {
        let held = response.extensions_mut().remove::<Arc<Held>>();
        return response.map(|body| AnswerBody::new(body, call, held));
    };
    let response = match Status::from_header_map(response.headers()) {
        Some(status) if code == Code::OutOfRange => {
            let translated = status::translate(status);
            call.end(translated.code());
            translated.into_http()
        }
        _ => {
            call.end(code);
            response
        }
    };
    response.map(|body| AnswerBody::new(body, call, None))
}

/// A call under way. Boxed once, at the exact size of its RPC, so that the task that carries the call stays small
/// to allocate and to move: as one future of plain values every call was as large as the largest, 5 KB.
type Answering<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

/// A store's answer as an RPC's.
fn answer<A>(result: Result<A, Error>) -> Result<tonic::Response<A>, Status> {
    match result {
        Ok(answer) => Ok(tonic::Response::new(answer)),
        Err(error) => Err(status::of(&error)),
    }
}

/// The outcome of a call that may wait for ever, unless the process stops first.
async fn waited<A>(
    core: &Core,
    call: impl Future<Output = Result<A, Failure>>,
) -> Result<tonic::Response<A>, Status> {
    let mut stopping = core.stopping.clone();
    tokio::select! {
        biased;
        outcome = call => match outcome {
            Ok(answer) => Ok(tonic::Response::new(answer)),
            Err(failure) => Err(status::of_concurrency(&failure)),
        },
        () = raised(&mut stopping) => Err(status::stopped()),
    }
}

/// As [`answer`], for an answer that may be large: `bytes` of it are held until it is sent.
fn large_answer<A>(
    core: &Core,
    result: Result<A, Error>,
    bytes: impl FnOnce(&A) -> usize,
) -> Result<tonic::Response<A>, Status> {
    let mut response = answer(result)?;
    let bytes = bytes(response.get_ref());
    if bytes >= COUNTED_BYTES_MIN {
        response
            .extensions_mut()
            .insert(Arc::new(core.answers.hold(bytes)));
    }
    Ok(response)
}

/// A unary call.
fn unary<'a, Q, A, F, T>(core: &'a Core, request: Request<RequestBody>, handler: F) -> Answering<'a>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    F: FnMut(Q) -> T + Send + 'a,
    T: Future<Output = Result<tonic::Response<A>, Status>> + Send + 'a,
{
    let (rpc, slow) = (request.body().rpc, core.slow_request);
    let entry = request.extensions().get::<Entry>().cloned();
    let mut handler = handler;
    let timed = move |kept: Kept<Q>| {
        let began = Instant::now();
        let entry = entry.clone();
        if let Some(entry) = &entry {
            entry.asks(&kept.message);
        }
        let answering = handler(kept.message);
        async move {
            let result = answering.await;
            if let Some(entry) = &entry {
                entry.answered(&result);
            }
            let answer = result.as_ref().ok().map(tonic::Response::get_ref);
            stats::tell(rpc, &kept.told, answer, (began.elapsed(), slow));
            result
        }
    };
    Box::pin(async move {
        Grpc::new(KeepingWire::<Q, A>::new())
            .max_decoding_message_size(core.limits.message_bytes_max)
            .unary(Unary(timed), request)
            .await
    })
}

fn server_stream<'a, Q, A, S, F, T>(
    core: &'a Core,
    request: Request<RequestBody>,
    handler: F,
) -> Answering<'a>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
    F: FnMut(Q) -> T + Send + 'a,
    T: Future<Output = Result<tonic::Response<S>, Status>> + Send + 'a,
{
    let entry = request.extensions().get::<Entry>().cloned();
    let mut handler = handler;
    let watched = move |message: Q| {
        if let Some(entry) = &entry {
            entry.asks(&message);
        }
        handler(message)
    };
    Box::pin(async move {
        Grpc::new(Wire::<Q, A>::new())
            .max_decoding_message_size(core.limits.message_bytes_max)
            .server_streaming(ServerStream(watched), request)
            .await
    })
}

fn bidi_stream<'a, Q, A, S, F, T>(core: &'a Core, request: Request<RequestBody>, handler: F) -> Answering<'a>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
    F: FnMut(Streaming<Q>) -> T + Send + 'a,
    T: Future<Output = Result<tonic::Response<S>, Status>> + Send + 'a,
{
    Box::pin(async move {
        Grpc::new(Wire::<Q, A>::new())
            .max_decoding_message_size(core.limits.message_bytes_max)
            .streaming(BidiStream(handler), request)
            .await
    })
}

/// Makes tonic's service of a handler.
struct Unary<F>(F);

impl<Q, A, F, T> UnaryService<Q> for Unary<F>
where
    F: FnMut(Q) -> T,
    T: Future<Output = Result<tonic::Response<A>, Status>>,
{
    type Response = A;
    type Future = T;

    fn call(&mut self, request: tonic::Request<Q>) -> T {
        (self.0)(request.into_inner())
    }
}

/// Makes tonic's service of a handler that answers with a stream.
struct ServerStream<F>(F);

impl<Q, A, S, F, T> ServerStreamingService<Q> for ServerStream<F>
where
    S: Stream<Item = Result<A, Status>>,
    F: FnMut(Q) -> T,
    T: Future<Output = Result<tonic::Response<S>, Status>>,
{
    type Response = A;
    type ResponseStream = S;
    type Future = T;

    fn call(&mut self, request: tonic::Request<Q>) -> T {
        (self.0)(request.into_inner())
    }
}

/// Makes tonic's service of a handler from stream to stream.
struct BidiStream<F>(F);

impl<Q, A, S, F, T> StreamingService<Q> for BidiStream<F>
where
    S: Stream<Item = Result<A, Status>>,
    F: FnMut(Streaming<Q>) -> T,
    T: Future<Output = Result<tonic::Response<S>, Status>>,
{
    type Response = A;
    type ResponseStream = S;
    type Future = T;

    fn call(&mut self, request: tonic::Request<Streaming<Q>>) -> T {
        (self.0)(request.into_inner())
    }
}
