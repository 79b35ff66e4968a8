//! The page `/members/hashkv` of the peer port, from both sides: a GET with a HashKV request as JSON in its body, as
//! etcd's members ask each other.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::{Deserialize, Serialize};
use store::Store;
use store::error::{Error, RequestError};
use store::types::{ClusterId, MemberId};

use super::judge::{Answer, Hash, NoHash};
use crate::config::url;
use crate::defences::MESSAGE_MAX;
use crate::http::{method_not_allowed, plain};
use crate::peer::{self, CLUSTER};
use crate::tls::Connector;

/// The page's path.
pub(crate) const PATH: &str = "/members/hashkv";

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct HashRequest {
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
}

/// As Go writes a HashKV response: what is zero is left out.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct HashAnswer {
    header: Header,
    #[serde(skip_serializing_if = "is_no_hash")]
    hash: u32,
    #[serde(skip_serializing_if = "is_zero")]
    compact_revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    hash_revision: i64,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Header {
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
}

/// Asks all other members for their hash at a revision, at once; of several URLs of a member the first that answers.
pub(super) async fn ask_all(
    store: &Store,
    tls: Option<&Connector>,
    revision: i64,
    patience: Duration,
) -> Vec<Answer> {
    let own = store.member_id();
    let members = match store.member_list(false).await {
        Ok(list) => list.members,
        Err(error) => {
            tracing::warn!(%error, "no list of members to compare hashes with");
            return Vec::new();
        }
    };
    let others = members
        .into_iter()
        .filter(|member| member.id != own.0 && !member.peer_urls.is_empty());
    let asked = others.map(|member| async move {
        let mut hash = Err(NoHash::Other(String::new()));
        for url in &member.peer_urls {
            hash = ask(url, tls, store.cluster_id(), revision, patience).await;
            match &hash {
                Ok(_) => break,
                Err(error) => tracing::warn!(
                    "local-member-id" = %own,
                    "requested-revision" = revision,
                    "remote-peer-endpoint" = url,
                    %error,
                    "failed hash kv request"
                ),
            }
        }
        Answer {
            member: MemberId(member.id),
            urls: member.peer_urls,
            hash,
        }
    });
    join_all(asked).await
}

async fn ask(
    url: &str,
    tls: Option<&Connector>,
    cluster: ClusterId,
    revision: i64,
    patience: Duration,
) -> Result<Hash, NoHash> {
    let other = |error: &dyn std::fmt::Display| NoHash::Other(error.to_string());
    let url = url::parse(url).map_err(|error| other(&error))?;
    let body = serde_json::to_string(&HashRequest { revision }).map_err(|error| other(&error))?;
    let request = Request::get(PATH)
        .header(header::HOST, url.authority())
        .header(header::CONTENT_TYPE, JSON)
        .header(CLUSTER, cluster.to_string())
        .body(body)
        .map_err(|error| other(&error))?;
    let answer = peer::ask(&url, tls, request, patience)
        .await
        .map_err(NoHash::Other)?;
    read(&answer)
}

/// What an answer means.
fn read(answer: &Response<Bytes>) -> Result<Hash, NoHash> {
    let text = String::from_utf8_lossy(answer.body());
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::BAD_REQUEST if text.contains(COMPACTED) => return Err(NoHash::Compacted),
        StatusCode::BAD_REQUEST if text.contains(FUTURE) => return Err(NoHash::Future),
        StatusCode::PRECONDITION_FAILED if text.contains(OTHER_CLUSTER) => return Err(NoHash::OtherCluster),
        _ => return Err(NoHash::Other(format!("unknown error: {}", text.trim_end()))),
    }
    let answer: HashAnswer =
        serde_json::from_slice(answer.body()).map_err(|error| NoHash::Other(error.to_string()))?;
    Ok(Hash {
        hash: answer.hash,
        revision: answer.hash_revision,
        compact_revision: answer.compact_revision,
        current: answer.header.revision,
    })
}

/// Serves the page; there may be no store yet.
pub(crate) async fn serve<B>(store: Option<&Store>, request: Request<B>) -> Response<Full<Bytes>>
where
    B: hyper::body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    if request.method() != Method::GET {
        return method_not_allowed();
    }
    let refused = |status, text: &str| plain(status, format!("{text}\n"));
    let Some(store) = store else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the member is starting");
    };
    let cluster = store.cluster_id().to_string();
    let asked = request.headers().get(CLUSTER).filter(|asked| !asked.is_empty());
    if asked.is_some_and(|asked| asked.as_bytes() != cluster.as_bytes()) {
        return refused(StatusCode::PRECONDITION_FAILED, OTHER_CLUSTER);
    }
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect();
    let Ok(Ok(body)) = tokio::time::timeout(MESSAGE_MAX, body).await else {
        return refused(StatusCode::BAD_REQUEST, "error reading body");
    };
    let asked: HashRequest = match serde_json::from_slice(&body.to_bytes()) {
        Ok(asked) => asked,
        Err(error) => {
            tracing::warn!(%error, "failed to unmarshal request");
            return refused(StatusCode::BAD_REQUEST, "error unmarshalling request");
        }
    };
    let hashed = match store.hash_kv(asked.revision).await {
        Ok(hashed) => Hash::of(&hashed),
        Err(error) => {
            tracing::warn!("requested-revision" = asked.revision, %error, "failed to get hashKV");
            let text = match &error {
                Error::Request(RequestError::Compacted { .. }) => COMPACTED.to_owned(),
                Error::Request(RequestError::FutureRevision { .. }) => FUTURE.to_owned(),
                other => other.to_string(),
            };
            return refused(StatusCode::BAD_REQUEST, &text);
        }
    };
    let answer = HashAnswer {
        header: Header {
            revision: hashed.current,
        },
        hash: hashed.hash,
        compact_revision: hashed.compact_revision,
        hash_revision: hashed.revision,
    };
    let built = serde_json::to_vec(&answer).ok().and_then(|body| {
        Response::builder()
            .header(header::CONTENT_TYPE, JSON)
            .header(CLUSTER, cluster)
            .body(Full::from(body))
            .ok()
    });
    built.unwrap_or_else(|| refused(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written"))
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_no_hash(number: &u32) -> bool {
    *number == 0
}

const JSON: &str = "application/json";
/// etcd's texts, by which members know what is wrong.
const COMPACTED: &str = "mvcc: required revision has been compacted";
const FUTURE: &str = "mvcc: required revision is a future revision";
const OTHER_CLUSTER: &str = "cluster ID mismatch";
/// A request is a number.
const REQUEST_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Response<Bytes> {
        Response::builder().status(status).body(body.into()).unwrap()
    }

    #[test]
    fn answers_are_read_as_etcd_writes_them() {
        let whole = r#"{"header":{"revision":9},"hash":4294967295,"compact_revision":-1,"hash_revision":7}"#;
        let hash = read(&answer(200, whole)).unwrap();
        assert_eq!(
            hash,
            Hash {
                hash: u32::MAX,
                revision: 7,
                compact_revision: -1,
                current: 9
            }
        );
        assert_eq!(read(&answer(200, "{}")).unwrap().hash, 0);
        let of = |status, body| read(&answer(status, body)).unwrap_err();
        assert!(matches!(
            of(400, "mvcc: required revision has been compacted\n"),
            NoHash::Compacted
        ));
        assert!(matches!(
            of(400, "mvcc: required revision is a future revision\n"),
            NoHash::Future
        ));
        assert!(matches!(of(412, "cluster ID mismatch\n"), NoHash::OtherCluster));
        assert_eq!(of(400, "else\n").to_string(), "unknown error: else");
        assert_eq!(
            of(404, "404 page not found\n").to_string(),
            "unknown error: 404 page not found"
        );
        assert!(matches!(of(200, "7"), NoHash::Other(_)));
    }
}
