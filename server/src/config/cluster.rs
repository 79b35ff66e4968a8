//! `--initial-cluster`: the members to start with, and this member's own entry among them.

use super::Exit;
use super::refuse;
use super::url::{self, Url};

/// Members by name, each with its peer URLs, in the order given.
pub(super) type Members = Vec<(String, Vec<String>)>;

/// Reads `name=url,name=url`, where a name may come several times; this member's own entry must be what it
/// advertises. `None` is this member alone.
pub(super) fn read(given: Option<&str>, name: &str, advertise_peer: &[Url]) -> Result<Members, Exit> {
    dialable(advertise_peer)?;
    let Some(given) = given else {
        return Ok(vec![(name.to_owned(), texts(advertise_peer))]);
    };
    let mut members: Vec<(String, Vec<Url>)> = Vec::new();
    for entry in given.split(',').filter(|entry| !entry.is_empty()) {
        let (member, text) = entry.split_once('=').unwrap_or((entry, ""));
        let url =
            url::parse(text).map_err(|error| refuse(format!("error setting up initial cluster: {error}")))?;
        match members.iter_mut().find(|(known, _)| known == member) {
            Some((_, known)) => known.push(url),
            None => members.push((member.to_owned(), vec![url])),
        }
    }
    for (member, urls) in &mut members {
        urls.sort();
        if urls.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(refuse(format!(
                "duplicate url in the initial cluster configuration of {member:?}"
            )));
        }
        dialable(urls)?;
    }
    for (index, (member, urls)) in members.iter().enumerate() {
        let twice = members[index + 1..]
            .iter()
            .find(|(_, others)| others.iter().any(|url| urls.contains(url)));
        if let Some((other, _)) = twice {
            return Err(refuse(format!(
                "error setting up initial cluster: members {member:?} and {other:?} have a URL in common"
            )));
        }
    }
    let own = members.iter().find(|(member, _)| member == name).ok_or_else(|| {
        refuse(format!(
            "couldn't find local name {name:?} in the initial cluster configuration"
        ))
    })?;
    if !url::same(&own.1, advertise_peer) {
        return Err(refuse(format!(
            "--initial-cluster has {name}={} but missing from --initial-advertise-peer-urls={}",
            texts(&own.1).join(&format!(",{name}=")),
            texts(advertise_peer).join(",")
        )));
    }
    Ok(members
        .into_iter()
        .map(|(member, urls)| (member, texts(&urls)))
        .collect())
}

pub(super) fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.as_str().to_owned()).collect()
}

/// Members reach each other in plaintext only, so far.
fn dialable(urls: &[Url]) -> Result<(), Exit> {
    for url in urls {
        url.dial_target().map_err(|error| refuse(error.to_string()))?;
    }
    Ok(())
}
