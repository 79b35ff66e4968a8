//! HTTP to the Kubernetes API, in plain text: one connection, one request at a time.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::Error;
use crate::transport::Endpoint;

/// The version of HTTP: clients of Kubernetes speak the second over TLS and the first without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// HTTP/1.1, with a connection that is kept.
    Http1,
    /// HTTP/2, known beforehand.
    Http2,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The connection failed.
    #[error("the connection broke off")]
    Transport(#[from] hyper::Error),
    /// The server refused.
    #[error("{code}: {message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// What the server said.
        message: String,
    },
    /// Not JSON.
    #[error("the answer is not JSON")]
    Json(#[from] serde_json::Error),
    /// JSON, but not what was asked for.
    #[error("the answer is odd: {why}")]
    Odd {
        /// What is odd about it.
        why: &'static str,
    },
}

/// A connection.
pub(super) struct Connection {
    sender: Sender,
    /// In front of every path: nothing in HTTP/1.1, which has a header for it.
    origin: String,
    host: HeaderValue,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// What a successful call brought.
pub(super) struct Answer {
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Result<Value, CallError> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

impl Connection {
    pub(super) async fn open(endpoint: &Endpoint, wire: Wire) -> Result<Self, Error> {
        let authority = endpoint.to_string();
        let refused = |source| Error::Connect {
            authority: authority.clone(),
            source,
        };
        let tcp = TcpStream::connect(&authority).await.map_err(refused)?;
        tcp.set_nodelay(true).map_err(refused)?;
        let failed = |source: hyper::Error| Error::Call {
            what: "opening a connection to the Kubernetes API",
            source: Box::new(source.into()),
        };
        let io = TokioIo::new(tcp);
        // How a connection ends is told to the calls on it, so nothing is lost by dropping it here.
        let sender = match wire {
            Wire::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(failed)?;
                tokio::spawn(async move { drop(connection.await) });
                Sender::Http1(sender)
            }
            Wire::Http2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(WINDOW_BYTES)
                    .initial_connection_window_size(WINDOW_BYTES)
                    .handshake(io)
                    .await
                    .map_err(failed)?;
                tokio::spawn(async move { drop(connection.await) });
                Sender::Http2(sender)
            }
        };
        Ok(Self {
            sender,
            origin: match wire {
                Wire::Http1 => String::new(),
                Wire::Http2 => format!("http://{authority}"),
            },
            host: HeaderValue::try_from(authority).expect("an authority is visible ASCII"),
        })
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Answer, CallError> {
        self.call(Method::GET, path, "", String::new()).await
    }

    pub(super) async fn post(&mut self, path: &str, body: String) -> Result<Answer, CallError> {
        self.call(Method::POST, path, "application/json", body).await
    }

    /// Makes a call and reads the whole answer.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: String,
    ) -> Result<Answer, CallError> {
        let (status, body) = self.begin(method, path, content_type, body).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        match status.status.is_success() {
            true => Ok(Answer { body }),
            false => Err(refusal(status.status, &body)),
        }
    }

    /// Makes a call whose answer does not end; the connection is its own from then on.
    pub(super) async fn stream(mut self, path: &str) -> Result<Incoming, CallError> {
        let answer = self.begin(Method::GET, path, "", String::new()).await?;
        let (head, body) = answer.into_parts();
        match head.status.is_success() {
            true => Ok(body),
            false => {
                let body = body.collect().await?.to_bytes();
                Err(refusal(head.status, &body))
            }
        }
    }

    async fn begin(
        &mut self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: String,
    ) -> Result<Response<Incoming>, CallError> {
        let uri = Uri::try_from(format!("{}{path}", self.origin));
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = uri.map_err(|_| CallError::Odd {
            why: "its path is none",
        })?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("load/1"));
        if !content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        Ok(match &mut self.sender {
            Sender::Http1(sender) => {
                headers.insert(HOST, self.host.clone());
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }
}

/// What the server said, of a `Status` its message.
fn refusal(code: StatusCode, body: &[u8]) -> CallError {
    let status: Option<Value> = serde_json::from_slice(body).ok();
    let message = status.as_ref().and_then(|status| status["message"].as_str());
    let message = message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    CallError::Refused {
        code: code.as_u16(),
        message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
    }
}

/// The media type of a merge patch.
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
/// The media type of a strategic merge patch.
pub(super) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

/// A list flows without waiting for the generator.
const WINDOW_BYTES: u32 = 8 << 20;
/// Of a refusal that is no `Status`.
const MESSAGE_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_message() {
        let status = br#"{"kind":"Status","message":"pods \"a\" not found","code":404}"#;
        let refused = refusal(StatusCode::NOT_FOUND, status);
        assert_eq!(refused.to_string(), r#"404: pods "a" not found"#);
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"gone").to_string(), "502: gone");
    }
}
