//! The peer port: pages for tools and joining members, and the receiving side of the connections of peers. Served from
//! the moment it is bound, before the store is open.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming as Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use store::Store;
use store::env::Class;
use store::types::MemberId;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{MissedTickBehavior, timeout};

use super::dial::{self, Upgraded};
use super::frame::{Frame, Incoming, Outgoing};
use super::handshake::{self, Refusal};
use super::link::Broken;
use super::numbers::Numbers;
use super::{Home, PING_INTERVAL, Peer, Peers, SILENCE_TICKS_MAX, Shared, name};
use crate::core::raised;
use crate::corruption::answers;
use crate::defences::{HTTP1_BUFFER_BYTES_MAX, HTTP1_HEADER_MAX, HTTP1_HEADERS_MAX, Seats};
use crate::http as pages;
use crate::listen::{Listening, Socket, Stream};
use crate::tls::ServerTls;

/// Serves `listener` until the transport stops; the pages need the store, once it is there.
pub(crate) async fn serve(
    listening: Listening,
    tls: Option<Arc<ServerTls>>,
    seats: Arc<Seats>,
    peers: Peers,
    store: Arc<OnceLock<Store>>,
) {
    let mut stopping = peers.0.stopping.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listening.accept() => accepted,
            () = raised(&mut stopping) => return,
        };
        match accepted {
            Ok(socket) => {
                let Some(socket) = socket.seated(&seats) else {
                    continue;
                };
                let (tls, peers, store) = (tls.clone(), peers.clone(), store.clone());
                tokio::spawn(async move {
                    if let Some(stream) = open(socket, tls.as_deref()).await {
                        connection(stream, peers, store).await;
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of a peer");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The stream over `socket`, after a handshake where there is TLS.
async fn open(socket: Socket, tls: Option<&ServerTls>) -> Option<Stream> {
    if let Err(error) = socket.set_nodelay() {
        tracing::debug!(%error, "a peer's connection was gone before it was served");
        return None;
    }
    let Some(tls) = tls else {
        return Some(Stream::Plain(socket));
    };
    let remote = socket.remote;
    match tls.accept_member(socket, remote.ip()).await {
        Ok(stream) => Some(Stream::Tls(Box::new(stream.into()))),
        Err(error) => {
            tracing::warn!("remote-addr" = %remote, %error, "rejected connection on peer endpoint");
            None
        }
    }
}

async fn connection(stream: Stream, peers: Peers, store: Arc<OnceLock<Store>>) {
    let handler = service_fn(|mut request: Request<Body>| {
        let (peers, store) = (peers.clone(), store.clone());
        async move {
            let answer = match handshake::class(request.uri().path()) {
                Some(class) if request.method() == Method::GET => upgrade(&peers, class, &mut request),
                Some(_) => pages::method_not_allowed(),
                None if request.uri().path() == answers::PATH => answers::serve(store.get(), request).await,
                None => pages::serve_peer(store.get(), &peers, &request).await,
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP1_HEADER_MAX)
        .max_buf_size(HTTP1_BUFFER_BYTES_MAX)
        .max_headers(HTTP1_HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), handler)
        .with_upgrades();
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection to the peer port broke off");
    }
}

/// Accepts or refuses a connection for messages of `class`.
fn upgrade(peers: &Peers, class: Class, request: &mut Request<Body>) -> Response<Full<Bytes>> {
    match admit(&peers.0, request) {
        Ok(peer) => {
            let upgrading = hyper::upgrade::on(request);
            let reader = tokio::spawn(read(peers.0.clone(), peer.clone(), class, upgrading));
            peer.take_in(class, reader.abort_handle());
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            if let Some(own) = peers.identity() {
                *answer.headers_mut() = handshake::accept(own);
            }
            answer
        }
        Err((refusal, from)) => {
            if refusal.status != StatusCode::SERVICE_UNAVAILABLE
                && peers.0.refused.admits(&format!("{from} {refusal}"))
            {
                tracing::warn!(from, reason = %refusal, "refused a connection of another member");
            }
            let mut answer = pages::plain(refusal.status, format!("{}\n", refusal.text));
            if let Some(own) = peers.identity() {
                handshake::refuse(answer.headers_mut(), own);
            }
            answer
        }
    }
}

/// The peer that asks; or the refusal, and who asked.
fn admit(shared: &Shared, request: &Request<Body>) -> Result<Arc<Peer>, (Refusal, String)> {
    let with_sender = |refusal| (refusal, handshake::sender(request.headers()).to_owned());
    let Some(home) = shared.home.get() else {
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the member is starting");
        return Err(with_sender(refusal));
    };
    let from = handshake::judge_request(request.headers(), home.identity).map_err(with_sender)?;
    let peer = shared.peers.read().get(&from).cloned();
    peer.ok_or_else(|| match (home.is_removed)(from) {
        true => with_sender(handshake::removed_sender()),
        false => with_sender(handshake::unknown_sender()),
    })
}

/// Reads a peer's messages until its connection ends.
async fn read(shared: Arc<Shared>, peer: Arc<Peer>, class: Class, upgrading: OnUpgrade) {
    let upgraded = match upgrading.await.map(dial::left_of) {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, peer_id = %peer.id, "a peer's connection was gone before it was read");
            return;
        }
    };
    let Some(home) = shared.home.get() else {
        return;
    };
    let reader = Reader {
        home,
        from: peer.id,
        numbers: &peer.numbers,
        echoes: Outgoing::default(),
    };
    let Err(broken) = reader.run(upgraded, shared.frame_bytes_max).await;
    tracing::debug!(peer_id = %peer.id, class = name(class), %broken, "a connection of a peer ended");
    if matches!(broken, Broken::TooLong(_)) {
        Numbers::add(&peer.numbers.received_failures, 1);
        tracing::warn!(peer_id = %peer.id, class = name(class), reason = %broken, "closed a peer's connection");
    }
}

/// The receiving side of one connection.
struct Reader<'a> {
    home: &'a Home,
    from: MemberId,
    numbers: &'a Numbers,
    echoes: Outgoing,
}

impl Reader<'_> {
    async fn run(mut self, upgraded: Upgraded, bytes_max: usize) -> Result<Infallible, Broken> {
        let Upgraded { mut stream, before } = upgraded;
        let mut incoming = Incoming::new(&before, bytes_max);
        self.take_frames(&mut incoming)?;
        let mut ticks = tokio::time::interval(PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut quiet_ticks = 0;
        loop {
            tokio::select! {
                read = incoming.read(&mut stream) => {
                    let read = read?;
                    if read == 0 {
                        return Err(Broken::Closed);
                    }
                    quiet_ticks = 0;
                    Numbers::add(&self.numbers.received_bytes, read);
                    self.take_frames(&mut incoming)?;
                }
                _ = ticks.tick() => {
                    if quiet_ticks >= SILENCE_TICKS_MAX {
                        return Err(Broken::Silent);
                    }
                    quiet_ticks += 1;
                }
            }
            self.echoes.seal();
            while self.echoes.has_remaining() {
                let written = timeout(
                    PING_INTERVAL * SILENCE_TICKS_MAX,
                    stream.write_buf(&mut self.echoes),
                );
                written.await.map_err(|_| Broken::Silent)??;
                // TLS may have taken what the socket has not.
                let flushed = timeout(PING_INTERVAL * SILENCE_TICKS_MAX, stream.flush());
                flushed.await.map_err(|_| Broken::Silent)??;
            }
        }
    }

    fn take_frames(&mut self, incoming: &mut Incoming) -> Result<(), Broken> {
        while let Some(frame) = incoming.next()? {
            match frame {
                Frame::Message(message) => {
                    if !(self.home.receive)(self.from, message) {
                        Numbers::add(&self.numbers.received_failures, 1);
                    }
                }
                Frame::Ping(payload) => self.echoes.ping(payload),
            }
        }
        Ok(())
    }
}

/// How long to leave a failing `accept` alone.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
