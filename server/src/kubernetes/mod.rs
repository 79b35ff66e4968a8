//! The Kubernetes adapter beside the store: its calls go to the services of this process without a socket between, and
//! its router is served on a port of its own.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use apiserver::engine::Engine;
use apiserver::etcd::Etcd;
use axum::Router;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::body::Body;
use tower::Service;

use crate::config::KubernetesSettings;
use crate::core::{Core, raised};
use crate::grpc;

mod alone;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;

pub(crate) use self::alone::run;

/// The adapter's router, once it is ready.
pub(crate) type SharedRouter = Arc<OnceLock<Router>>;

/// Makes the adapter ready over this process's own store, and puts its router where connections find it; nothing where
/// the process stops before. The store may have no leader yet.
pub(crate) async fn start(core: Arc<Core>, settings: KubernetesSettings) -> bool {
    let engine = Engine::new(
        Etcd::over(Within(core.clone())),
        apiserver::engine::Settings {
            prefix: settings.prefix,
            ..apiserver::engine::Settings::default()
        },
    );
    if !founded(&engine, core.stopping.clone()).await {
        return false;
    }
    if let Some(every) = settings.compaction_interval {
        keep_compacted(engine.clone(), every, core.stopping.clone());
    }
    end_watches(engine.clone(), core.stopping.clone());
    // Set once, here.
    let _ = core.kubernetes.set(apiserver::http::router(engine));
    true
}

/// Tries until the objects that a cluster begins with are there.
pub(crate) async fn founded(engine: &Engine, mut stopping: watch::Receiver<bool>) -> bool {
    loop {
        let founding = async {
            let refusal = engine.bootstrap().await.err()?;
            tracing::warn!(error = %refusal, "the objects that a Kubernetes cluster begins with are not there yet");
            tokio::time::sleep(RETRY_PAUSE).await;
            Some(())
        };
        tokio::select! {
            again = founding => if again.is_none() { return true },
            () = raised(&mut stopping) => return false,
        }
    }
}

/// Compacts the history now and then, until the process stops.
fn keep_compacted(engine: Engine, every: Duration, mut stopping: watch::Receiver<bool>) {
    tokio::spawn(async move {
        tokio::select! {
            () = engine.keep_compacted(every) => {}
            () = raised(&mut stopping) => {}
        }
    });
}

/// Ends the watches of clients when the process stops: with a proper end, and before their connections are cut.
fn end_watches(engine: Engine, mut stopping: watch::Receiver<bool>) {
    tokio::spawn(async move {
        raised(&mut stopping).await;
        engine.end_watches();
    });
}

/// Answers a request to the adapter's port.
pub(crate) async fn serve(core: &Core, request: Request<Incoming>) -> Response<axum::body::Body> {
    let Some(router) = core.kubernetes.get() else {
        // It is listened to only once there is one.
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        return response;
    };
    let answered = router.clone().call(request.map(axum::body::Body::new)).await;
    answered.unwrap_or_else(|never| match never {})
}

/// The gRPC services of this process as a client's connection.
#[derive(Clone)]
struct Within(Arc<Core>);

impl Service<Request<Body>> for Within {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let core = self.0.clone();
        Box::pin(async move {
            let answer = grpc::serve_local(core, request.map(|body| body.boxed_unsync())).await;
            Ok(answer.map(Body::new))
        })
    }
}

/// How long to leave a store alone that could not be asked.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
