//! What a member asks of a running cluster before its first start: whether it may found its part of a new one, or who
//! is in the one that it joins. The rules and texts are etcd's.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::Response;
use store::Settings;
use store::membership::Member;
use store::shell::{ClusterState, Join};
use store::types::{ClusterId, MemberId};

use super::dial::{self, DialError};
use super::handshake::CLUSTER;
use crate::config::url::{self, Url};
use crate::tls::Connector;

/// Why the member may not start on an empty disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoverError {
    #[error("member {0} has already been bootstrapped")]
    Bootstrapped(MemberId),
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
    )]
    Nobody,
    #[error("no member of the running cluster has the peer URLs {urls:?}: this one was removed from it")]
    Gone { urls: Vec<String> },
    #[error("error validating peerURLs {members}: member count is unequal")]
    Count { members: Shown },
    #[error(
        "error validating peerURLs {members}: PeerURLs: no match found for existing member ({id}, {urls:?})"
    )]
    NoMatch {
        members: Shown,
        id: MemberId,
        urls: Vec<String>,
    },
}

/// The members of a cluster, in one line.
#[derive(Debug)]
pub(crate) struct Shown(Cluster);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ClusterID:{} Members:[", self.0.id)?;
        for (number, member) in self.0.members.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            let (id, name, urls) = (member.id, &member.name, member.peer_urls.join(" "));
            write!(f, "{space}{{ID:{id} Name:{name} PeerURLs:[{urls}]}}")?;
        }
        f.write_str("]}")
    }
}

/// Who did not answer, and why.
struct Failure {
    url: Url,
    reason: String,
}

/// What a running cluster says of itself.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Cluster {
    id: ClusterId,
    members: Vec<Member>,
}

/// Judges the first start of a member, and completes its settings where it joins a cluster.
pub(crate) async fn prepare(settings: &mut Settings, tls: Option<&Connector>) -> Result<(), DiscoverError> {
    // A member that joins was added a moment ago: whoever has not heard of it yet is not the one to believe.
    let joins = settings.initial_cluster_state == ClusterState::Existing;
    let initial = by_name(settings);
    let fits = |cluster: &Cluster| !joins || find_own(cluster, &initial, &settings.name).is_ok();
    let found = ask_others(settings, tls, fits).await;
    match settings.initial_cluster_state {
        ClusterState::New => {
            let own = store::membership::member_id(&own_urls(settings), &settings.initial_cluster_token);
            match found {
                Ok(cluster) if has_started(&cluster, own) => Err(DiscoverError::Bootstrapped(own)),
                _ => Ok(()),
            }
        }
        ClusterState::Existing => {
            let cluster = found.map_err(|failures| {
                for Failure { url, reason } in failures {
                    tracing::warn!(
                        url = url.as_str(),
                        reason,
                        "cannot ask a member who is in the cluster"
                    );
                }
                DiscoverError::Nobody
            })?;
            let own = find_own(&cluster, &initial, &settings.name)?;
            // The same addresses, but as the cluster writes them.
            settings.initial_advertise_peer_urls = own.peer_urls.clone();
            settings.join = Some(Join {
                cluster: cluster.id,
                members: cluster.members,
            });
            Ok(())
        }
    }
}

/// Completes the settings of a member that is to take its place in the running cluster again, with an empty disk: as
/// [`prepare`] for one that joins, but the other members may have changed since the initial cluster was written.
pub(crate) async fn rejoin(settings: &mut Settings, tls: Option<&Connector>) -> Result<(), DiscoverError> {
    let own = parsed(&settings.initial_advertise_peer_urls);
    let is_own = |member: &&Member| url::same(&own, &parsed(&member.peer_urls));
    let knows = |cluster: &Cluster| cluster.members.iter().any(|member| is_own(&member));
    let cluster = ask_others(settings, tls, knows)
        .await
        .map_err(|_| DiscoverError::Nobody)?;
    let Some(member) = cluster.members.iter().find(is_own) else {
        return Err(DiscoverError::Gone {
            urls: settings.initial_advertise_peer_urls.clone(),
        });
    };
    settings.initial_advertise_peer_urls = member.peer_urls.clone();
    settings.initial_cluster_state = ClusterState::Existing;
    settings.join = Some(Join {
        cluster: cluster.id,
        members: cluster.members,
    });
    Ok(())
}

/// Whether one of the members at `urls`, without TLS, tells, within `time`, who is in the cluster.
pub(crate) async fn answers(urls: &[String], time: Duration) -> bool {
    ask_all(parsed(urls), None, time, |_| true).await.is_ok()
}

/// A member that has told its cluster where clients reach it did so from a disk that is not here.
fn has_started(cluster: &Cluster, id: MemberId) -> bool {
    let member = cluster.members.iter().find(|member| member.id == id);
    member.is_some_and(|member| !member.client_urls.is_empty())
}

/// Matches the running cluster's members with those of the initial cluster, by their URLs; the member of the name `own`.
fn find_own<'a>(
    cluster: &'a Cluster,
    initial: &[(String, Vec<Url>)],
    own: &str,
) -> Result<&'a Member, DiscoverError> {
    let unequal = || DiscoverError::Count {
        members: Shown(cluster.clone()),
    };
    if cluster.members.len() != initial.len() {
        return Err(unequal());
    }
    let mut found = None;
    for member in &cluster.members {
        let urls = parsed(&member.peer_urls);
        match initial.iter().find(|(_, initial)| url::same(initial, &urls)) {
            Some((name, _)) if name == own => found = Some(member),
            Some(_) => {}
            None => {
                return Err(DiscoverError::NoMatch {
                    id: member.id,
                    urls: member.peer_urls.clone(),
                    members: Shown(cluster.clone()),
                });
            }
        }
    }
    // Without it, two members of the cluster have the URLs of one here.
    found.ok_or_else(unequal)
}

/// Asks all other members.
async fn ask_others(
    settings: &Settings,
    tls: Option<&Connector>,
    fits: impl Fn(&Cluster) -> bool,
) -> Result<Cluster, Vec<Failure>> {
    let members = by_name(settings).into_iter();
    let others = members.filter(|(name, _)| *name != settings.name);
    let urls = others.flat_map(|(_, urls)| urls).collect();
    ask_all(urls, tls, ANSWER_BASE + settings.election, fits).await
}

/// Asks at all URLs at once; the first list that comes and fits is taken, else the first that comes.
async fn ask_all(
    urls: Vec<Url>,
    tls: Option<&Connector>,
    time: Duration,
    fits: impl Fn(&Cluster) -> bool,
) -> Result<Cluster, Vec<Failure>> {
    let mut asked: FuturesUnordered<_> = urls
        .into_iter()
        .map(|url| async move { (ask(&url, tls, time).await, url) })
        .collect();
    let mut failures = Vec::new();
    let mut other = None;
    while let Some((answer, url)) = asked.next().await {
        let reason = match answer {
            Ok(Some(cluster)) if fits(&cluster) => return Ok(cluster),
            Ok(Some(cluster)) => {
                other.get_or_insert(cluster);
                continue;
            }
            Ok(None) => "it does not know yet".to_owned(),
            Err(error) => match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            },
        };
        failures.push(Failure { url, reason });
    }
    other.ok_or(failures)
}

async fn ask(url: &Url, tls: Option<&Connector>, time: Duration) -> Result<Option<Cluster>, DialError> {
    let answer = dial::page(url, tls, "/members", time).await?;
    Ok(answer.status().is_success().then(|| parse(&answer)).flatten())
}

/// Reads the page `/members`; `None` for anything else.
fn parse(answer: &Response<Bytes>) -> Option<Cluster> {
    let id = answer.headers().get(CLUSTER)?.to_str().ok()?;
    let id = ClusterId(u64::from_str_radix(id, 16).ok()?);
    let members = parse_members(answer.body())?;
    Some(Cluster { id, members })
}

/// Reads a list of members as etcd writes it, in the order of their ids; `None` for anything else.
pub(super) fn parse_members(body: &[u8]) -> Option<Vec<Member>> {
    let page: serde_json::Value = serde_json::from_slice(body).ok()?;
    let members = page.as_array()?.iter().map(|member| {
        let texts = |name: &str| {
            let list = member.get(name).and_then(serde_json::Value::as_array);
            let texts = list.into_iter().flatten().filter_map(serde_json::Value::as_str);
            texts.map(str::to_owned).collect::<Vec<_>>()
        };
        Some(Member {
            id: MemberId(member.get("id")?.as_u64()?),
            name: member
                .get("name")
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            peer_urls: texts("peerURLs"),
            client_urls: texts("clientURLs"),
            is_learner: member
                .get("isLearner")
                .and_then(serde_json::Value::as_bool)
                .unwrap_or(false),
        })
    });
    let mut members = members.collect::<Option<Vec<Member>>>()?;
    members.sort_by_key(|member| member.id);
    Some(members)
}

fn own_urls(settings: &Settings) -> Vec<String> {
    let own = settings
        .initial_cluster
        .iter()
        .filter(|(name, _)| *name == settings.name);
    own.flat_map(|(_, urls)| urls.iter().cloned()).collect()
}

/// The initial cluster, each name once.
fn by_name(settings: &Settings) -> Vec<(String, Vec<Url>)> {
    let mut members: Vec<(String, Vec<Url>)> = Vec::new();
    for (name, urls) in &settings.initial_cluster {
        let urls = parsed(urls);
        match members.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.extend(urls),
            None => members.push((name.clone(), urls)),
        }
    }
    members
}

fn parsed(urls: &[String]) -> Vec<Url> {
    urls.iter().filter_map(|text| url::parse(text).ok()).collect()
}

/// A peer may take this long to answer, and an election timeout on top: etcd's rule.
const ANSWER_BASE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn answer(body: &'static str) -> Response<Bytes> {
        Response::builder()
            .header("X-Etcd-Cluster-ID", "c1")
            .body(Bytes::from_static(body.as_bytes()))
            .unwrap()
    }

    fn cluster() -> Cluster {
        parse(&answer(
            "[{\"id\":2,\"peerURLs\":[\"http://127.0.0.1:2\"],\"name\":\"b\",\"clientURLs\":[\"http://127.0.0.1:9\"]},\
             {\"id\":1,\"peerURLs\":[\"http://127.0.0.1:1\"],\"name\":\"\",\"isLearner\":true}]\n",
        ))
        .unwrap()
    }

    fn initial(members: &[(&str, &str)]) -> Vec<(String, Vec<Url>)> {
        let of = |&(name, url): &(&str, &str)| (name.to_owned(), parsed(&[url.to_owned()]));
        members.iter().map(of).collect()
    }

    #[test]
    fn the_page_is_read_as_it_is_written() {
        let cluster = cluster();
        assert_eq!(cluster.id, ClusterId(0xc1));
        let ids: Vec<u64> = cluster.members.iter().map(|member| member.id.0).collect();
        assert_eq!(ids, [1, 2]);
        assert!(cluster.members[0].is_learner && !cluster.members[1].is_learner);
        assert!(!has_started(&cluster, MemberId(1)) && has_started(&cluster, MemberId(2)));
        assert!(!has_started(&cluster, MemberId(3)));
        for body in ["", "{}", "[1]", "404 page not found"] {
            assert_eq!(parse(&answer(body)), None, "{body}");
        }
        assert_eq!(parse(&Response::new(Bytes::from_static(b"[]"))), None);
    }

    #[test]
    fn a_joining_member_finds_itself_by_its_urls() {
        let initial = initial(&[("a", "http://localhost:1"), ("b", "http://127.0.0.1:2")]);
        assert_eq!(find_own(&cluster(), &initial, "a").unwrap().id, MemberId(1));
        assert_eq!(find_own(&cluster(), &initial, "b").unwrap().id, MemberId(2));
    }

    /// Answers whoever asks with a list of one member of this id, after a while.
    async fn member_that_knows(id: u64, after: Duration) -> Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let body = format!("[{{\"id\":{id},\"peerURLs\":[]}}]");
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: c1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            tokio::time::sleep(after).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        url::parse(&url).unwrap()
    }

    #[tokio::test]
    async fn whoever_knows_the_newcomer_is_believed() {
        let quick = Duration::ZERO;
        let (wait, late) = (Duration::from_secs(20), Duration::from_millis(100));
        let knows = |cluster: &Cluster| cluster.members[0].id == MemberId(2);
        let first = |found: Result<Cluster, Vec<Failure>>| found.ok().map(|cluster| cluster.members[0].id.0);
        let urls = vec![
            member_that_knows(1, quick).await,
            member_that_knows(2, late).await,
        ];
        assert_eq!(first(ask_all(urls, None, wait, knows).await), Some(2));
        // Where nobody knows it, the reason is what somebody says.
        let urls = vec![
            member_that_knows(1, quick).await,
            member_that_knows(3, late).await,
        ];
        assert_eq!(first(ask_all(urls, None, wait, knows).await), Some(1));
    }

    #[test]
    fn what_does_not_match_is_refused_in_etcds_words() {
        let shown = "{ClusterID:c1 Members:[{ID:1 Name: PeerURLs:[http://127.0.0.1:1]} {ID:2 Name:b \
                     PeerURLs:[http://127.0.0.1:2]}]}";
        let error = find_own(&cluster(), &initial(&[("a", "http://127.0.0.1:1")]), "a").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("error validating peerURLs {shown}: member count is unequal")
        );
        let other = initial(&[("a", "http://127.0.0.1:1"), ("b", "http://127.0.0.1:3")]);
        assert_eq!(
            find_own(&cluster(), &other, "a").unwrap_err().to_string(),
            format!(
                "error validating peerURLs {shown}: PeerURLs: no match found for existing member (2, \
                 [\"http://127.0.0.1:2\"])"
            )
        );
    }
}
