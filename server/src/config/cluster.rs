//! `--initial-cluster`: the members to start with, and this member's own entry among them.

use super::raw::Raw;
use super::url::{self, Url};
use super::{Refusal, check, start};

/// Members by name, each with its peer URLs, in the order given.
pub(super) type Members = Vec<(String, Vec<String>)>;

/// What etcd finds wrong with its own ways to find a cluster, before we say that there is one only.
pub(super) fn check_discovery(raw: &Raw) -> Result<(), Refusal> {
    let endpoints = raw.strings("discovery-endpoints");
    let ways = [
        raw.given("initial-cluster")
            .is_some_and(|given| !given.is_empty()),
        !raw.get("discovery-srv").is_empty(),
        !endpoints.is_empty(),
    ];
    if ways.iter().filter(|given| **given).count() > 1 {
        return Err(check(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        ));
    }
    if raw.get("discovery-token").is_empty() != endpoints.is_empty() {
        return Err(check(
            "both --discovery-token and --discovery-endpoints must be set",
        ));
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err(check("--discovery-endpoints must not contain empty endpoints"));
    }
    if !raw.from_file && raw.get("discovery-fallback") == "proxy" {
        return Err(check(
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ));
    }
    Ok(())
}

/// Reads `name=url,name=url`, where a name may come several times; this member's own entry must be what it
/// advertises. Nothing given is this member alone; a file leaves its key empty then.
pub(super) fn read(raw: &Raw, advertise_peer: &[Url]) -> Result<Members, Refusal> {
    let name = raw.get("name");
    dialable(advertise_peer)?;
    let given = raw
        .given("initial-cluster")
        .filter(|given| !(raw.from_file && given.is_empty()));
    // Read like a given one, for the sake of names that cannot stand in it.
    let alone = || {
        let name = if name.is_empty() { "default" } else { name };
        let entries = advertise_peer.iter().map(|url| format!("{name}={url}"));
        entries.collect::<Vec<_>>().join(",")
    };
    let given = given.map_or_else(alone, str::to_owned);
    let mut members: Vec<(String, Vec<Url>)> = Vec::new();
    for entry in given.split(',').filter(|entry| !entry.is_empty()) {
        let (member, text) = entry.split_once('=').unwrap_or((entry, ""));
        let url =
            url::parse(text).map_err(|error| start(format!("error setting up initial cluster: {error}")))?;
        match members.iter_mut().find(|(known, _)| known == member) {
            Some((_, known)) => known.push(url),
            None => members.push((member.to_owned(), vec![url])),
        }
    }
    for (_, urls) in &mut members {
        urls.sort();
    }
    let own = members.iter().find(|(member, _)| member == name).ok_or_else(|| {
        start(format!(
            "couldn't find local name {name:?} in the initial cluster configuration"
        ))
    })?;
    // A member that joins has told the cluster its URLs before.
    if raw.get("initial-cluster-state") != "existing" {
        check_own(name, &own.1, advertise_peer)?;
    }
    check_duplicates(&members)?;
    for (_, urls) in &members {
        dialable(urls)?;
    }
    Ok(members
        .into_iter()
        .map(|(member, urls)| (member, url::texts(&urls)))
        .collect())
}

/// This member's entry must be what it advertises, by text or by address.
fn check_own(name: &str, own: &[Url], advertised: &[Url]) -> Result<(), Refusal> {
    let Err(difference) = url::compare(advertised, own) else {
        return Ok(());
    };
    let missing = |from: &[Url], among: &[Url]| {
        let missing = from.iter().filter(|url| !among.contains(url));
        missing.cloned().collect::<Vec<Url>>()
    };
    let entries = |urls: &[Url]| {
        let entries = urls.iter().map(|url| format!("{name}={url}"));
        entries.collect::<Vec<_>>().join(",")
    };
    let advertised_text = url::texts(advertised).join(",");
    let not_advertised = missing(own, advertised);
    let not_in_cluster = missing(advertised, own);
    Err(start(if !not_advertised.is_empty() {
        format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={advertised_text} \
             ({difference})",
            entries(&not_advertised)
        )
    } else if !not_in_cluster.is_empty() {
        format!(
            "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
            url::texts(&not_in_cluster).join(","),
            entries(advertised)
        )
    } else {
        format!(
            "failed to resolve {advertised_text} to match --initial-cluster={} ({difference})",
            entries(advertised)
        )
    }))
}

/// No URL may be in two places.
fn check_duplicates(members: &[(String, Vec<Url>)]) -> Result<(), Refusal> {
    let mut urls: Vec<&Url> = members.iter().flat_map(|(_, urls)| urls).collect();
    urls.sort();
    if urls.windows(2).all(|pair| pair[0] != pair[1]) {
        return Ok(());
    }
    let mut entries: Vec<String> = members
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
        .collect();
    entries.sort();
    Err(start(format!(
        "initial cluster {} has duplicate url",
        entries.join(",")
    )))
}

/// Others must find the way.
fn dialable(urls: &[Url]) -> Result<(), Refusal> {
    for url in urls {
        url.target().map_err(|error| start(error.to_string()))?;
    }
    Ok(())
}
