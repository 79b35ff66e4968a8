//! The pages of the peer port, for tools, for members that join, and for those that ask the leader to promote a learner.

use ::http::{HeaderValue, Method, Request, StatusCode, header};
use serde::Serialize;
use store::Store;
use store::error::{Error, RequestError};
use store::types::MemberId;

use super::{Page, method_not_allowed, not_found, page, path, plain, redirect, version};
use crate::grpc::status;
use crate::peer::{CLUSTER, Peers, promote};

/// Answers one request to the peer port; there may be no store yet.
pub(crate) async fn serve_peer<B>(store: Option<&Store>, peers: &Peers, request: &Request<B>) -> Page {
    let path = path::decoded(request.uri().path());
    let clean = path::cleaned(&path);
    if clean != path {
        return redirect(request, &clean);
    }
    match (path.as_str(), store) {
        ("/version" | "/members", _) if request.method() != Method::GET => method_not_allowed(),
        ("/version", _) => version::page(store),
        ("/members", Some(store)) => members(store).await,
        ("/members", None) => starting(),
        (path, store) => match (path.strip_prefix(promote::PATH), store) {
            (Some(_), _) if request.method() != Method::POST => post_only(),
            (Some(id), Some(store)) => promotion(store, peers, id).await,
            (Some(_), None) => starting(),
            (None, _) => not_found(),
        },
    }
}

fn starting() -> Page {
    plain(
        StatusCode::SERVICE_UNAVAILABLE,
        "the member is starting\n".to_owned(),
    )
}

fn post_only() -> Page {
    let mut answer = method_not_allowed();
    answer
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("POST"));
    answer
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
    listed(store, list)
}

/// Promotes the learner of this id, in decimal, and answers with the members.
async fn promotion(store: &Store, peers: &Peers, id: &str) -> Page {
    let Ok(number) = id.parse() else {
        let text = format!("member {id} not found in cluster\n");
        return of_cluster(store, plain(StatusCode::NOT_FOUND, text));
    };
    let error = match promote::promote(store, peers, MemberId(number)).await {
        Ok(members) => return listed(store, members),
        Err(error) => error,
    };
    let reason = promote::reason(&error);
    tracing::warn!(member_id = %MemberId(number), error = reason, "failed to promote a member");
    let refuse = |status| plain(status, format!("{reason}\n"));
    let answer = match error {
        Error::Request(RequestError::MemberNotFound) => refuse(StatusCode::NOT_FOUND),
        Error::Request(RequestError::MemberNotLearner | RequestError::LearnerNotReady) => {
            refuse(StatusCode::PRECONDITION_FAILED)
        }
        _ => {
            let mut answer = page("application/json", "{\"message\":\"Internal Server Error\"}");
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
    };
    of_cluster(store, answer)
}

/// A list of members as a page.
fn listed(store: &Store, list: Vec<proto::etcdserverpb::Member>) -> Page {
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
    let answer = match serde_json::to_string(&members) {
        Ok(text) => page("application/json", format!("{text}\n")),
        Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    };
    of_cluster(store, answer)
}

/// The answer with the cluster's id.
fn of_cluster(store: &Store, mut answer: Page) -> Page {
    if let Ok(id) = HeaderValue::from_str(&store.cluster_id().to_string()) {
        answer.headers_mut().insert(CLUSTER, id);
    }
    answer
}
