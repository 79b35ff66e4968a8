//! The promotion of a learner. Only the leader knows how far a learner has come, so another member asks it to promote,
//! over its peer URLs, as etcd does:
//!
//! ```text
//! POST /members/promote/ID        ID: decimal
//! ```
//!
//! The answer is 200 with the members after the change, as on the page `/members`; 404 for an unknown member; 412 with
//! the reason for one that is no learner or not ready; 500 for everything else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use parking_lot::Mutex;
use proto::etcdserverpb::Member;
use store::Store;
use store::error::{Error, RequestError, Unavailable};
use store::types::MemberId;
use tokio::time::{Instant, sleep};

use super::{Peers, dial, discover};
use crate::config::url;
use crate::grpc::status;

/// Where a promotion is asked for, with the id behind it.
pub(crate) const PATH: &str = "/members/promote/";
/// What etcd calls these errors where gRPC is not near.
pub(crate) const NOT_FOUND: &str = "membership: ID not found";
pub(crate) const NOT_LEARNER: &str = "membership: can only promote a learner member";
pub(crate) const NOT_READY: &str =
    "etcdserver: can only promote a learner member which is in sync with leader";

/// How often this member, as the leader, promoted a learner, and how often it did not, by the reason.
#[derive(Default)]
pub(crate) struct Promotions {
    successes: AtomicU64,
    failures: Mutex<BTreeMap<&'static str, u64>>,
}

impl Promotions {
    pub(crate) fn successes(&self) -> u64 {
        self.successes.load(Ordering::Relaxed)
    }

    pub(crate) fn failures(&self) -> BTreeMap<&'static str, u64> {
        self.failures.lock().clone()
    }

    fn count(&self, outcome: Result<(), &Error>) {
        match outcome {
            Ok(()) => drop(self.successes.fetch_add(1, Ordering::Relaxed)),
            Err(error) => *self.failures.lock().entry(reason(error)).or_default() += 1,
        }
    }
}

/// An error of a promotion in etcd's words for the log and the metrics.
pub(crate) fn reason(error: &Error) -> &'static str {
    match error {
        Error::Request(RequestError::MemberNotFound) => NOT_FOUND,
        Error::Request(RequestError::MemberNotLearner) => NOT_LEARNER,
        error => status::text(error),
    }
}

/// Promotes a learner, here or by way of the leader. Returns the members after the change.
pub(crate) async fn promote(store: &Store, peers: &Peers, id: MemberId) -> Result<Vec<Member>, Error> {
    match store.member_promote(id).await {
        Ok(answer) => {
            peers.promotions().count(Ok(()));
            Ok(answer.members)
        }
        Err(Error::Unavailable(Unavailable::NotLeader)) => ask_leader(store, peers, id).await,
        Err(error) => {
            peers.promotions().count(Err(&error));
            Err(error)
        }
    }
}

/// Asks whoever leads, again where nothing comes of it, until the time of a request is over.
async fn ask_leader(store: &Store, peers: &Peers, id: MemberId) -> Result<Vec<Member>, Error> {
    let deadline = Instant::now() + peers.request_timeout();
    let mut urls = Vec::new();
    loop {
        let leader = store.status().leader;
        if leader == store.member_id() {
            // It has become the leader meanwhile.
            match store.member_promote(id).await {
                Err(Error::Unavailable(Unavailable::NotLeader)) => {}
                outcome => return outcome.map(|answer| answer.members),
            }
        } else {
            urls = urls_of(store, leader).await?;
            for url in &urls {
                if let Some(outcome) = ask(peers, url, id, deadline).await {
                    return outcome;
                }
            }
        }
        if Instant::now() + PAUSE >= deadline {
            let nobody = urls.is_empty();
            return Err(if nobody {
                Unavailable::NoLeader
            } else {
                Unavailable::Timeout
            }
            .into());
        }
        sleep(PAUSE).await;
    }
}

async fn urls_of(store: &Store, leader: MemberId) -> Result<Vec<String>, Error> {
    let members = store.member_list(false).await?.members.into_iter();
    let leads = members.filter(|member| member.id == leader.0);
    Ok(leads.flat_map(|member| member.peer_urls).collect())
}

/// Asks at one URL; nothing, where another attempt may say more.
async fn ask(
    peers: &Peers,
    url: &str,
    id: MemberId,
    deadline: Instant,
) -> Option<Result<Vec<Member>, Error>> {
    let url = url::parse(url).ok()?;
    let time = deadline.saturating_duration_since(Instant::now());
    match dial::post(&url, peers.0.tls.as_ref(), &format!("{PATH}{}", id.0), time).await {
        Ok(answer) => judge(&answer),
        Err(error) => {
            tracing::warn!(url = url.as_str(), %error, "cannot ask the leader to promote a learner");
            None
        }
    }
}

/// What an answer says; nothing, where another attempt may say more.
fn judge(answer: &Response<Bytes>) -> Option<Result<Vec<Member>, Error>> {
    let says = |text: &str| String::from_utf8_lossy(answer.body()).contains(text);
    Some(match answer.status() {
        StatusCode::OK => Ok(discover::parse_members(answer.body())?
            .iter()
            .map(store::membership::Member::to_proto)
            .collect()),
        StatusCode::REQUEST_TIMEOUT => return None,
        StatusCode::NOT_FOUND => Err(RequestError::MemberNotFound.into()),
        StatusCode::PRECONDITION_FAILED if says(NOT_READY) => Err(RequestError::LearnerNotReady.into()),
        StatusCode::PRECONDITION_FAILED if says(NOT_LEARNER) => Err(RequestError::MemberNotLearner.into()),
        _ => return None,
    })
}

/// Between two questions to the leader.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, body: &'static str) -> Option<Result<Vec<Member>, Error>> {
        let answer = Response::builder().status(code);
        judge(&answer.body(Bytes::from_static(body.as_bytes())).unwrap())
    }

    #[test]
    fn the_leaders_answer_is_the_callers() {
        let members = "[{\"id\":2,\"peerURLs\":[\"http://b\"],\"name\":\"b\"},{\"id\":1,\"peerURLs\":[]}]\n";
        let ids = |members: Vec<Member>| members.iter().map(|member| member.id).collect::<Vec<_>>();
        assert_eq!(
            answered(200, members).map(|all| all.map(ids)),
            Some(Ok(vec![1, 2]))
        );
        let refused = |error: RequestError| Some(Err(error.into()));
        assert_eq!(answered(404, "any\n"), refused(RequestError::MemberNotFound));
        let not_ready = "etcdserver: can only promote a learner member which is in sync with leader\n";
        assert_eq!(answered(412, not_ready), refused(RequestError::LearnerNotReady));
        let not_learner = "membership: can only promote a learner member\n";
        assert_eq!(
            answered(412, not_learner),
            refused(RequestError::MemberNotLearner)
        );
        for (code, text) in [
            (412, "?"),
            (500, ""),
            (503, ""),
            (408, ""),
            (200, "[{}]"),
            (302, ""),
        ] {
            assert_eq!(answered(code, text), None, "{code}");
        }
    }
}
