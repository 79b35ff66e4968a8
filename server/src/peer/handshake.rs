//! What two members tell each other before the first frame, and what each of them refuses.

use std::fmt;

use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use store::env::Class;
use store::types::{ClusterId, MemberId};

use super::protocol::Protocols;
use crate::config::ETCD_VERSION;

/// Who a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) member: MemberId,
    /// What it can talk in.
    pub(crate) protocols: Protocols,
}

/// Why a peer is refused: the HTTP status and the text of the answer, etcd's where etcd has one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.status.as_u16())
    }
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Refusal {
        Refusal {
            status,
            text: text.into(),
        }
    }

    fn precondition(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::PRECONDITION_FAILED, text)
    }
}

/// The path of a class.
pub(super) fn path(class: Class) -> &'static str {
    match class {
        Class::Control => "/taffrail/peer/v1/control",
        Class::Log => "/taffrail/peer/v1/log",
        Class::Snapshot => "/taffrail/peer/v1/snapshot",
    }
}

/// The class of a path.
pub(super) fn class(path_given: &str) -> Option<Class> {
    Class::ALL.into_iter().find(|&class| path(class) == path_given)
}

/// Asks `to` at `authority` for a connection of `class`.
pub(super) fn request(
    own: Identity,
    to: MemberId,
    class: Class,
    authority: &str,
) -> Result<Request<String>, http::Error> {
    let mut request = Request::builder()
        .uri(path(class))
        .header(HOST, authority)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, PROTOCOL)
        .header(FROM, own.member.to_string())
        .header(TO, to.to_string())
        .body(String::new())?;
    introduce(request.headers_mut(), own);
    Ok(request)
}

/// Whom the request comes from, if it is one that this member, `own`, may accept.
pub(super) fn judge_request(headers: &HeaderMap, own: Identity) -> Result<MemberId, Refusal> {
    if text(headers, &UPGRADE) != Some(PROTOCOL) {
        let text = format!("upgrade to {PROTOCOL} required");
        return Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, text));
    }
    judge_peer(headers, own.cluster)?;
    if id(headers, &TO) != Some(own.member.0) {
        return Err(Refusal::precondition("to field mismatch"));
    }
    let from = match id(headers, &FROM) {
        Some(from) if from != own.member.0 => MemberId(from),
        _ => return Err(unknown_sender()),
    };
    let (this, that) = (format!("member {}", own.member), format!("member {from}"));
    let agreed = own.protocols.agree(headers, &this, &that);
    agreed.map_err(Refusal::precondition)?;
    Ok(from)
}

/// Whom a request says it comes from, for the log.
pub(super) fn sender(headers: &HeaderMap) -> &str {
    text(headers, &FROM).unwrap_or_default()
}

/// A sender that is no member.
pub(super) fn unknown_sender() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "error sender not found")
}

/// A sender that was a member once.
pub(super) fn removed_sender() -> Refusal {
    Refusal::new(StatusCode::GONE, "removed member")
}

/// Who refuses.
pub(super) fn refuse(headers: &mut HeaderMap, own: Identity) {
    introduce(headers, own);
}

/// Accepts a request.
pub(super) fn accept(own: Identity) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    introduce(&mut headers, own);
    headers
}

/// Whether an answer of `to` accepts the connection, and comes from where the dialer wanted to be.
pub(super) fn judge_answer<B>(answer: &Response<B>, own: Identity, to: MemberId) -> Result<(), Refusal> {
    if answer.status() == StatusCode::GONE {
        // It would be the end of this member: only for the word of one of its own cluster.
        judge_peer(answer.headers(), own.cluster)?;
    }
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::new(answer.status(), ""));
    }
    if text(answer.headers(), &UPGRADE) != Some(PROTOCOL) {
        return Err(Refusal::new(answer.status(), "another protocol than asked for"));
    }
    judge_peer(answer.headers(), own.cluster)?;
    let (this, that) = (format!("member {}", own.member), format!("member {to}"));
    let agreed = own.protocols.agree(answer.headers(), &this, &that);
    agreed.map(drop).map_err(Refusal::precondition)
}

/// What holds in both directions: one cluster, and versions that know each other.
fn judge_peer(headers: &HeaderMap, own: ClusterId) -> Result<(), Refusal> {
    if id(headers, &CLUSTER) != Some(own.0) {
        return Err(Refusal::precondition("cluster ID mismatch"));
    }
    let version = |name| text(headers, name).and_then(version);
    let own_version = self::version(ETCD_VERSION);
    let own_least = self::version(CLUSTER_VERSION_MIN);
    match (version(&VERSION), version(&VERSION_MIN)) {
        (Some(theirs), Some(least)) if Some(theirs) >= own_least && Some(least) <= own_version => Ok(()),
        _ => Err(Refusal::precondition("incompatible version")),
    }
}

fn introduce(headers: &mut HeaderMap, own: Identity) {
    // Hexadecimal digits make a header's value.
    if let Ok(cluster) = HeaderValue::from_str(&own.cluster.to_string()) {
        headers.insert(CLUSTER, cluster);
    }
    own.protocols.tell(headers);
    headers.insert(VERSION, HeaderValue::from_static(ETCD_VERSION));
    headers.insert(VERSION_MIN, HeaderValue::from_static(CLUSTER_VERSION_MIN));
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn id(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    u64::from_str_radix(text(headers, name)?, 16).ok()
}

/// Major and minor number: what compatibility depends on.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The header of the cluster's id, on the peer port's pages too.
pub(crate) const CLUSTER: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
const FROM: HeaderName = HeaderName::from_static("x-server-from");
const TO: HeaderName = HeaderName::from_static("x-server-to");
const VERSION: HeaderName = HeaderName::from_static("x-server-version");
const VERSION_MIN: HeaderName = HeaderName::from_static("x-min-cluster-version");
const PROTOCOL: &str = "taffrail-peer/1";
/// The oldest version whose members speak this protocol.
const CLUSTER_VERSION_MIN: &str = "3.7.0";

#[cfg(test)]
mod tests {
    use super::*;

    const A: Identity = Identity {
        cluster: ClusterId(0xc1),
        member: MemberId(0xa),
        protocols: Protocols::OWN,
    };
    const B: Identity = Identity {
        cluster: ClusterId(0xc1),
        member: MemberId(0xb),
        protocols: Protocols::OWN,
    };

    fn changed(change: impl FnOnce(&mut HeaderMap)) -> Result<MemberId, (u16, String)> {
        let mut request = request(A, B.member, Class::Log, "b:1").unwrap();
        change(request.headers_mut());
        judge_request(request.headers(), B).map_err(|refusal| (refusal.status.as_u16(), refusal.text))
    }

    fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut HeaderMap) {
        move |headers| drop(headers.insert(name, HeaderValue::from_static(value)))
    }

    #[test]
    fn a_member_of_the_same_cluster_is_accepted() {
        assert_eq!(changed(|_| {}), Ok(A.member));
        assert_eq!(changed(set("x-server-version", "3.8.0")), Ok(A.member));
        let mut answer = Response::builder().status(101).body(()).unwrap();
        *answer.headers_mut() = accept(B);
        assert_eq!(judge_answer(&answer, A, B.member), Ok(()));
    }

    #[test]
    fn whoever_is_wrong_here_is_refused_in_etcds_words() {
        let cases = [
            ("x-etcd-cluster-id", "c2", 412, "cluster ID mismatch"),
            ("x-etcd-cluster-id", "zz", 412, "cluster ID mismatch"),
            ("x-server-to", "c", 412, "to field mismatch"),
            ("x-server-from", "b", 404, "error sender not found"),
            ("x-server-from", "", 404, "error sender not found"),
            ("x-server-version", "3.6.9", 412, "incompatible version"),
            ("x-min-cluster-version", "3.8.0", 412, "incompatible version"),
            ("x-min-cluster-version", "x", 412, "incompatible version"),
            ("upgrade", "websocket", 426, "upgrade to taffrail-peer/1 required"),
        ];
        for (name, value, status, text) in cases {
            assert_eq!(
                changed(set(name, value)),
                Err((status, text.to_owned())),
                "{name}: {value}"
            );
        }
    }

    /// Whichever side is the newer one, and whoever dials: the connection is refused, and the text names the older one.
    #[test]
    fn members_without_a_common_protocol_refuse_each_other() {
        let newer = Identity {
            protocols: Protocols::of(7, 8),
            ..B
        };
        for (dialer, dialed) in [(A, newer), (newer, A)] {
            let request = request(dialer, dialed.member, Class::Snapshot, "b:1").unwrap();
            let refusal = judge_request(request.headers(), dialed).unwrap_err();
            assert_eq!(refusal.status, StatusCode::PRECONDITION_FAILED);
            assert!(refusal.text.contains("upgrade member a, "), "{refusal}");
            // One that does not look at the protocols accepts; then the dialer refuses.
            let mut answer = Response::builder().status(101).body(()).unwrap();
            *answer.headers_mut() = accept(dialed);
            let refusal = judge_answer(&answer, dialer, dialed.member).unwrap_err();
            assert!(refusal.text.contains("upgrade member a, "), "{refusal}");
        }
        let both = Identity {
            protocols: Protocols::of(1, 8),
            ..B
        };
        let request = request(both, A.member, Class::Log, "a:1").unwrap();
        assert_eq!(judge_request(request.headers(), A), Ok(both.member));
    }

    #[test]
    fn an_answer_from_another_cluster_is_refused() {
        let other = Identity {
            cluster: ClusterId(0xc2),
            ..B
        };
        let mut answer = Response::builder().status(101).body(()).unwrap();
        *answer.headers_mut() = accept(other);
        assert_eq!(
            judge_answer(&answer, A, B.member).unwrap_err().text,
            "cluster ID mismatch"
        );
        *answer.status_mut() = StatusCode::NOT_FOUND;
        assert_eq!(
            judge_answer(&answer, A, B.member).unwrap_err().status,
            StatusCode::NOT_FOUND
        );
        // Another cluster cannot tell that a member is removed from this one.
        *answer.status_mut() = StatusCode::GONE;
        assert_eq!(
            judge_answer(&answer, A, B.member).unwrap_err().text,
            "cluster ID mismatch"
        );
        let mut own = HeaderMap::new();
        refuse(&mut own, B);
        *answer.headers_mut() = own;
        assert_eq!(
            judge_answer(&answer, A, B.member).unwrap_err().status,
            StatusCode::GONE
        );
    }

    #[test]
    fn paths_and_classes_are_one_to_one() {
        for kind in Class::ALL {
            assert_eq!(class(path(kind)), Some(kind));
        }
        assert_eq!(class("/taffrail/peer/v2/log"), None);
    }
}
