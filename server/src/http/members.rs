//! The pages of the peer port, for tools and for members that join.

use ::http::{HeaderValue, Method, Request, StatusCode};
use serde::Serialize;
use store::Store;

use super::{Page, method_not_allowed, not_found, page, path, plain, redirect, version};
use crate::grpc::status;
use crate::peer::CLUSTER;

/// Answers one request to the peer port; there may be no store yet.
pub(crate) async fn serve_peer<B>(store: Option<&Store>, request: &Request<B>) -> Page {
    let path = path::decoded(request.uri().path());
    let clean = path::cleaned(&path);
    if clean != path {
        return redirect(request, &clean);
    }
    match (path.as_str(), store) {
        ("/version" | "/members", _) if request.method() != Method::GET => method_not_allowed(),
        ("/version", _) => version::page(store),
        ("/members", Some(store)) => members(store).await,
        ("/members", None) => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "the member is starting\n".to_owned(),
        ),
        _ => not_found(),
    }
}

/// A member as etcd writes it: what is empty is left out.
#[derive(Serialize)]
struct Member {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
}

/// The members as a joining member asks for them.
async fn members(store: &Store) -> Page {
    let list = match store.member_list(false).await {
        Ok(list) => list.members,
        Err(error) => {
            let text = format!("{}\n", status::of(&error).message());
            return plain(StatusCode::SERVICE_UNAVAILABLE, text);
        }
    };
    let members: Vec<Member> = list
        .into_iter()
        .map(|member| Member {
            id: member.id,
            peer_urls: member.peer_urls,
            is_learner: member.is_learner,
            name: member.name,
            client_urls: member.client_urls,
        })
        .collect();
    let mut answer = match serde_json::to_string(&members) {
        Ok(text) => page("application/json", format!("{text}\n")),
        Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    };
    if let Ok(id) = HeaderValue::from_str(&store.cluster_id().to_string()) {
        answer.headers_mut().insert(CLUSTER, id);
    }
    answer
}
