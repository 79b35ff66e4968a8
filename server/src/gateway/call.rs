//! One call: what its headers say, and its way through the entry of gRPC.

use std::sync::Arc;
use std::time::Duration;

use base64::DecodeError;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Status;

use super::answers::{Answers, Messages};
use super::json;
use super::requests::{self, Chunks, Frames};
use super::routes::Route;
use crate::core::Core;
use crate::defences::{MESSAGE_MAX, late_message};
use crate::grpc;
use crate::listen::PeerIdentity;

/// A call that is ready to be made.
pub(super) struct Call {
    pub(super) core: Arc<Core>,
    pub(super) route: &'static Route,
    metadata: HeaderMap,
    /// Where it comes from.
    peer: Option<Arc<PeerIdentity>>,
    deadline: Option<Instant>,
}

impl Call {
    /// Reads what `headers` say of it: metadata, and the time it may take.
    pub(super) fn new(
        core: Arc<Core>,
        route: &'static Route,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Call, Status> {
        let deadline = match headers.get(TIMEOUT) {
            Some(text) => deadline(text)?,
            None => None,
        };
        Ok(Call {
            core,
            route,
            metadata: metadata(headers)?,
            peer: extensions.get::<Arc<PeerIdentity>>().map(nameless),
            deadline,
        })
    }

    /// The answer to the one message in `chunks`, as an object.
    pub(super) async fn unary(self, chunks: Chunks) -> Result<Vec<u8>, Status> {
        let (route, deadline) = (self.route, self.deadline);
        let answer = async move {
            let frame = in_time(requests::single(&self.core, &route.input, chunks)).await?;
            self.send(whole(frame)).await.single().await
        };
        let message = within(deadline, Box::pin(answer)).await??;
        json::object(&route.output, message, "", "")
    }

    /// The answers to the messages in `chunks`. An error here is one of the call's first and only message.
    pub(super) async fn stream(self, chunks: Chunks) -> Result<Answers, Status> {
        let (core, route, deadline) = (self.core.clone(), self.route, self.deadline);
        let opening = async move {
            let body = if route.takes_stream() {
                UnsyncBoxBody::new(Frames::new(&self.core, &route.input, chunks))
            } else {
                whole(in_time(requests::single(&self.core, &route.input, chunks)).await?)
            };
            Ok::<_, Status>(self.send(body).await)
        };
        let messages = match within(deadline, Box::pin(opening)).await {
            Ok(messages) => messages?,
            Err(late) => Messages::failed(late),
        };
        Ok(Answers::new(&core, &route.output, messages, deadline))
    }

    async fn send(self, body: UnsyncBoxBody<Bytes, Status>) -> Messages {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.headers_mut() = self.metadata;
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        match self.route.rpc_path.parse() {
            Ok(path) => *request.uri_mut() = path,
            Err(error) => return Messages::failed(Status::internal(format!("no path: {error}"))),
        }
        Messages::new(grpc::serve_local(self.core, request).await)
    }
}

/// The connection without the name in its certificate, which is no user's here.
fn nameless(peer: &Arc<PeerIdentity>) -> Arc<PeerIdentity> {
    Arc::new(PeerIdentity {
        common_name: None,
        address: peer.address,
    })
}

fn whole(frame: Bytes) -> UnsyncBoxBody<Bytes, Status> {
    UnsyncBoxBody::new(Full::new(frame).map_err(|never| match never {}))
}

/// The message, if it is there in time.
async fn in_time(message: impl Future<Output = Result<Bytes, Status>>) -> Result<Bytes, Status> {
    match timeout(MESSAGE_MAX, message).await {
        Ok(message) => message,
        Err(_) => Err(late_message()),
    }
}

/// What `work` comes to, if it does so in time. What is late already is not begun.
async fn within<F: Future>(deadline: Option<Instant>, work: F) -> Result<F::Output, Status> {
    match deadline {
        Some(deadline) if deadline <= Instant::now() => Err(late()),
        Some(deadline) => timeout_at(deadline, work).await.map_err(|_| late()),
        None => Ok(work.await),
    }
}

/// The call took longer than it might.
pub(super) fn late() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// Reads a timeout as gRPC writes it: a number and a letter for its unit. Zero is none.
fn deadline(text: &HeaderValue) -> Result<Option<Instant>, Status> {
    let text = String::from_utf8_lossy(text.as_bytes());
    let invalid = || Status::invalid_argument(format!("invalid grpc-timeout: {text}"));
    let unit = text.chars().next_back().ok_or_else(invalid)?;
    let number = text
        .strip_suffix(unit)
        .and_then(|number| number.parse::<i64>().ok());
    let number = number.ok_or_else(invalid)?;
    // What lies in the past is over at once.
    let count = u64::try_from(number).unwrap_or(0);
    let time = match unit {
        'H' => Duration::from_secs(count.saturating_mul(3600)),
        'M' => Duration::from_secs(count.saturating_mul(60)),
        'S' => Duration::from_secs(count),
        'm' => Duration::from_millis(count),
        'u' => Duration::from_micros(count),
        'n' => Duration::from_nanos(count),
        _ => return Err(invalid()),
    };
    match number {
        0 => Ok(None),
        _ => Ok(Instant::now().checked_add(time)),
    }
}

/// The headers that become metadata: the token, and whatever is marked as metadata.
fn metadata(headers: &HeaderMap) -> Result<HeaderMap, Status> {
    let mut metadata = HeaderMap::new();
    metadata.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    for value in headers.get_all(header::AUTHORIZATION) {
        metadata.append(header::AUTHORIZATION, value.clone());
    }
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(METADATA_PREFIX) else {
            continue;
        };
        if name.ends_with("-bin") {
            check_binary(name, value)?;
        }
        let is_text = value.as_bytes().iter().all(|byte| (0x20..=0x7e).contains(byte));
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes())
            && is_text
            && !is_reserved(&name)
        {
            metadata.append(name, value.clone());
        }
    }
    Ok(metadata)
}

/// Names that gRPC keeps for itself.
fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("grpc-") || matches!(name, "content-type" | "user-agent" | "te")
}

/// Binary metadata is base64 on the wire as it is here, so it only has to be some.
fn check_binary(name: &str, value: &HeaderValue) -> Result<(), Status> {
    let Err(error) = BASE64.decode(value.as_bytes()) else {
        return Ok(());
    };
    let place = match error {
        DecodeError::InvalidByte(place, _) | DecodeError::InvalidLastSymbol(place, _) => place,
        DecodeError::InvalidLength(length) => length,
        DecodeError::InvalidPadding => value.len(),
    };
    let name: Vec<String> = format!("{METADATA_PREFIX}{name}")
        .split('-')
        .map(|word| word.get(..1).unwrap_or_default().to_uppercase() + word.get(1..).unwrap_or_default())
        .collect();
    Err(Status::invalid_argument(format!(
        "invalid binary header {}: illegal base64 data at input byte {place}",
        name.join("-")
    )))
}

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const METADATA_PREFIX: &str = "grpc-metadata-";
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn marked_headers_become_metadata() {
        let metadata = metadata(&headers(&[
            ("authorization", "Bearer t"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-x-bin", "AAE"),
            ("grpc-metadata-grpc-encoding", "gzip"),
            ("grpc-metadata-content-type", "text/plain"),
            ("grpc-metadata-empty", "a\tb"),
            ("user-agent", "curl"),
            ("hasleader", "true"),
        ]))
        .unwrap();
        let mut names: Vec<&str> = metadata.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "content-type", "hasleader", "x-bin"]);
        assert_eq!(metadata["content-type"], "application/grpc");
        assert_eq!(metadata["authorization"], "Bearer t");
    }

    #[test]
    fn binary_metadata_must_be_base64() {
        let status = metadata(&headers(&[("grpc-metadata-x-bin", "%%")])).unwrap_err();
        assert_eq!(
            status.message(),
            "invalid binary header Grpc-Metadata-X-Bin: illegal base64 data at input byte 0"
        );
    }

    #[test]
    fn timeouts_are_read_as_gos() {
        let read = |text| deadline(&HeaderValue::from_static(text));
        for text in ["xx", "S", "", "1", "1s", "1.5S"] {
            let status = read(text).unwrap_err();
            assert_eq!(status.message(), format!("invalid grpc-timeout: {text}"));
        }
        assert_eq!(read("0S").unwrap(), None);
        assert!(read("-1S").unwrap().unwrap() <= Instant::now());
        assert!(read("1H").unwrap().unwrap() > Instant::now() + Duration::from_secs(3500));
        assert_eq!(read("9223372036854775807H").unwrap(), None);
    }
}
