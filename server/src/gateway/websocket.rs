//! Calls over a WebSocket: each object a message, in both directions.
//!
//! As in etcd, every path below the gateway's is upgraded and counts as a POST; what is wrong with it comes as the
//! first message. The token comes as the subprotocol `Bearer, TOKEN` or in the cookie `token`, because a browser
//! cannot set headers here.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tonic::Status;

use super::answers::Line;
use super::call::Call;
use super::{find, requests, status};
use crate::core::{Core, raised};
use crate::http::{Body, plain};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether a request asks for a WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let names = |header: &HeaderName, word: &str| {
        headers
            .get_all(header)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|listed| listed.trim().eq_ignore_ascii_case(word))
    };
    names(&header::CONNECTION, "upgrade") && names(&header::UPGRADE, "websocket")
}

/// Accepts the upgrade and serves the call on its own.
pub(super) fn accept(core: Arc<Core>, path: &str, mut request: Request<Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    let mut answer = match create_response_with_body(&request, || Body::Whole(Full::default())) {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, "a WebSocket was not upgraded");
            let mut answer = plain(StatusCode::BAD_REQUEST, "Bad Request\n".to_owned());
            answer
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            return answer.map(Body::Whole);
        }
    };
    if subprotocol(request.headers()).starts_with("Bearer") {
        answer
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("Bearer"));
    }
    let headers = headers(request.headers());
    let call = find(path, &Method::POST)
        .and_then(|route| Call::new(core.clone(), route, &headers, request.extensions()));
    tokio::spawn(serve(core, call, upgrade));
    answer
}

fn subprotocol(headers: &HeaderMap) -> &str {
    let value = headers.get(header::SEC_WEBSOCKET_PROTOCOL);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The headers of the call: the token, wherever it was put.
fn headers(given: &HeaderMap) -> HeaderMap {
    let token = subprotocol(given)
        .split_once("Bearer,")
        .map(|(_, token)| token.trim_matches(' '));
    let cookie = given
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix("token="));
    let mut headers = HeaderMap::new();
    if let Some(token) = cookie.or(token)
        && let Ok(value) = HeaderValue::try_from(format!("Bearer {token}"))
    {
        headers.insert(header::AUTHORIZATION, value);
    }
    headers
}

/// Serves one call until either side ends it, or the process stops.
async fn serve(core: Arc<Core>, call: Result<Call, Status>, upgrade: OnUpgrade) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(error) => {
            tracing::debug!(%error, "a WebSocket was gone before it was served");
            return;
        }
    };
    let bytes_max = requests::text_bytes_max(&core);
    let config = WebSocketConfig::default()
        .max_message_size(Some(bytes_max))
        .max_frame_size(Some(bytes_max));
    let socket = Socket::from_raw_socket(upgraded, Role::Server, Some(config)).await;
    let (mut sink, stream) = socket.split();
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let mut stopping = core.stopping.clone();
    let answered = async {
        let flow = answer(&mut sink, call, receiver).await;
        if flow.is_continue() {
            // The client answers the closing, which ends what it sends.
            let _ = sink.close().await;
        }
    };
    let stopped = async {
        // The call itself tells the client of the stop; this is for calls that do not.
        raised(&mut stopping).await;
        tokio::time::sleep(STOP_TIME).await;
    };
    tokio::select! {
        () = read(stream, sender) => {}
        () = answered => {}
        () = stopped => {}
    }
}

/// Hands the client's messages on until the client leaves.
async fn read(mut stream: SplitStream<Socket>, sender: mpsc::Sender<Bytes>) {
    while let Some(Ok(message)) = stream.next().await {
        let text = match message {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(text) => text,
            Message::Close(_) => return,
            _ => continue,
        };
        // Who takes no more of them still wants to know when the client leaves.
        let _ = sender.send(text).await;
    }
}

/// Makes the call and sends what it answers; breaks if the client is gone.
async fn answer(
    sink: &mut SplitSink<Socket, Message>,
    call: Result<Call, Status>,
    receiver: mpsc::Receiver<Bytes>,
) -> ControlFlow<()> {
    let call = match call {
        Ok(call) => call,
        Err(error) => return send(sink, status::object(&error).into()).await,
    };
    let chunks = ReceiverStream::new(receiver).map(Ok).boxed();
    if !call.route.answers_stream() {
        let object = match call.unary(chunks).await {
            Ok(object) => object.into(),
            Err(error) => status::object(&error).into(),
        };
        return send(sink, object).await;
    }
    let mut answers = match call.stream(chunks).await {
        Ok(answers) => answers,
        Err(error) => return send(sink, status::object(&error).into()).await,
    };
    while let Some(line) = answers.next().await {
        let line = match line {
            Line::Result(line) => line,
            Line::Error(error) => status::line(&error),
        };
        send(sink, line).await?;
    }
    ControlFlow::Continue(())
}

/// Sends one object as a message of text, without the end of its line.
async fn send(sink: &mut SplitSink<Socket, Message>, mut object: Bytes) -> ControlFlow<()> {
    if object.ends_with(b"\n") {
        object.truncate(object.len() - 1);
    }
    let Ok(text) = Utf8Bytes::try_from(object) else {
        return ControlFlow::Break(());
    };
    match sink.send(Message::Text(text)).await {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            tracing::debug!(%error, "a WebSocket broke off");
            ControlFlow::Break(())
        }
    }
}

/// Messages of a client that wait to be taken.
const MESSAGES_MAX: usize = 16;
/// How long a call may go on when the process stops.
const STOP_TIME: std::time::Duration = std::time::Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn upgrades_are_told_from_other_requests() {
        assert!(is_upgrade(&map(&[
            (header::CONNECTION, "keep-alive, Upgrade"),
            (header::UPGRADE, "WebSocket"),
        ])));
        assert!(!is_upgrade(&map(&[(header::UPGRADE, "websocket")])));
        assert!(!is_upgrade(&map(&[
            (header::CONNECTION, "upgrade"),
            (header::UPGRADE, "h2c")
        ])));
    }

    #[test]
    fn the_token_comes_by_subprotocol_or_cookie() {
        let token = |pairs: &[(HeaderName, &'static str)]| {
            let headers = headers(&map(pairs));
            headers
                .get(header::AUTHORIZATION)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(token(&[]), None);
        assert_eq!(
            token(&[(header::SEC_WEBSOCKET_PROTOCOL, "Bearer, abc")]).as_deref(),
            Some("Bearer abc")
        );
        assert_eq!(
            token(&[
                (header::SEC_WEBSOCKET_PROTOCOL, "Bearer,abc"),
                (header::COOKIE, "a=b; token=def"),
            ])
            .as_deref(),
            Some("Bearer def")
        );
    }
}
