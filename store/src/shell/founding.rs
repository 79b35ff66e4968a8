//! The beginning of a member: the founding of a cluster, the joining of one that runs, and whether a data folder is
//! the one that is meant.
//!
//! A new folder gets a snapshot of index 0 that holds the members, then a log. A member of a cluster that runs
//! already has either never done anything, or it has lost its disk, and with it the votes and acknowledgements that
//! others rely on.
//!
//! One that was added and has no name yet has never started: it begins as a follower that knows no voters, so that it
//! cannot stand for election, but votes, and is soon given the members in a snapshot. The quorum may need it at once,
//! as when one member becomes two.
//!
//! One that has a name has lost its disk; and a founder without one may have voted before it was known. A file beside
//! the log, which stays, holds its *incarnation* (`incarnation.rs`): later ones are larger. As long as the log is empty,
//! such a member is *recovering*: until a leader, confirmed by a quorum without it, has given it a snapshot, it votes for nobody and
//! acknowledges nothing (after the recovery of a replica in Viewstamped Replication Revisited, section 4.3).

use std::sync::Arc;

use super::bootstrap::{Folders, World};
use super::maintenance::SnapshotJob;
use super::open_error::OpenError;
use super::settings::{ClusterState, Settings};
use super::snapshots;
use crate::backend::Table;
use crate::membership::{self, Membership};
use crate::types::{Index, MemberId, Term};
use crate::wal::{self, Metadata, Wal};

/// Begins the log of a new data folder.
pub(super) fn found(
    world: &World,
    settings: &Settings,
    folders: &Folders,
    config: &wal::Config,
) -> Result<(), OpenError> {
    let joins = settings.initial_cluster_state == ClusterState::Existing;
    let (membership, member) = match &settings.join {
        Some(join) if joins => joined(settings, join)?,
        _ => founders(settings)?,
    };
    let cluster = membership.cluster_id();
    // Whoever has started has a name; a founder without one may have voted, and cannot be told from one that has not.
    let named = membership.get(member).is_some_and(|own| !own.name.is_empty());
    let lost = joins && (named || membership.is_founding());
    let incarnation = if lost { next_incarnation(world) } else { 0 };
    // Before there is a log.
    super::incarnation::write(world, folders, incarnation)?;
    let job = SnapshotJob {
        applied: Index(0),
        term: Term(0),
        revision: 1,
        compacted: -1,
        tables: membership
            .encode()
            .into_iter()
            .map(|(key, value)| (Table::Member, key, value))
            .collect(),
    };
    snapshots::found(&world.disk, &folders.snap, cluster, &job)?;
    let metadata = Metadata { cluster, member };
    Wal::create(Arc::clone(&world.disk), &folders.wal, metadata, config.clone())?;
    if joins {
        tracing::info!(%cluster, %member, "joining a cluster that runs: waiting for a snapshot from its leader");
    } else {
        tracing::info!(%cluster, %member, "founded a cluster");
    }
    Ok(())
}

/// Larger than those before it, as long as the machine's clock does not go back by more than a disk's life.
fn next_incarnation(world: &World) -> u64 {
    (world.clock.unix_ms() << 16) | (world.entropy.next_u64() & 0xffff)
}

/// The members of a cluster that runs, its id, and which member this one is: the one with its peer URLs.
fn joined(settings: &Settings, join: &super::Join) -> Result<(Membership, MemberId), OpenError> {
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort_unstable();
        urls
    };
    let own_urls = sorted(&settings.initial_advertise_peer_urls);
    let own = join
        .members
        .iter()
        .find(|member| sorted(&member.peer_urls) == own_urls)
        .ok_or(OpenError::NotAMember { urls: own_urls })?;
    let membership = Membership::of_running(join.cluster, join.members.clone());
    Ok((membership, own.id))
}

/// The founding members, and which of them this one is.
pub(super) fn founders(settings: &Settings) -> Result<(Membership, MemberId), OpenError> {
    let name = &settings.name;
    let own = settings
        .initial_cluster
        .iter()
        .filter(|(member, _)| member == name);
    let own_urls: Vec<&String> = own.flat_map(|(_, urls)| urls).collect();
    if own_urls.is_empty() {
        return Err(OpenError::NotInInitialCluster { name: name.clone() });
    }
    let sorted = |urls: Vec<&String>| {
        let mut urls: Vec<String> = urls.into_iter().cloned().collect();
        urls.sort_unstable();
        urls
    };
    let own_urls = sorted(own_urls);
    if own_urls != sorted(settings.initial_advertise_peer_urls.iter().collect()) {
        return Err(OpenError::PeerUrlsDiffer { name: name.clone() });
    }
    let mut by_name: std::collections::BTreeMap<&str, Vec<String>> = std::collections::BTreeMap::new();
    for (name, urls) in &settings.initial_cluster {
        by_name.entry(name).or_default().extend(urls.iter().cloned());
    }
    let token = &settings.initial_cluster_token;
    // Names are published by each member once it has started; until then the list shows none, as etcd's.
    let members = by_name
        .into_values()
        .map(|urls| membership::Member::bootstrap(String::new(), urls, token));
    Ok((
        Membership::bootstrap(members.collect()),
        membership::member_id(&own_urls, token),
    ))
}

/// Refuses data that the settings cannot mean. What is decided at the founding
/// is ignored afterwards, as by etcd; but a folder whose member has both another name and other peer URLs, or whose id was made with another token, is
/// most likely a wrong folder.
pub(super) fn check_owner(
    settings: &Settings,
    metadata: Metadata,
    membership: &Membership,
) -> Result<(), OpenError> {
    let Some(member) = membership.get(metadata.member) else {
        return Ok(());
    };
    let mut urls = settings.initial_advertise_peer_urls.clone();
    let mut recorded = member.peer_urls.clone();
    urls.sort_unstable();
    recorded.sort_unstable();
    if !member.name.is_empty() && member.name != settings.name && recorded != urls {
        return Err(OpenError::OtherMember {
            path: settings.data_dir.clone(),
            found: metadata.member,
            found_name: member.name.clone(),
            name: settings.name.clone(),
        });
    }
    // An id is made of the first peer URLs, or of the time at which the member was added.
    let founding = settings.initial_cluster_state == ClusterState::New && membership.is_founding();
    if founding
        && recorded == urls
        && membership::member_id(&urls, &settings.initial_cluster_token) != metadata.member
    {
        let expected = founders(settings).map(|(membership, _)| membership.cluster_id());
        return Err(OpenError::OtherCluster {
            path: settings.data_dir.clone(),
            found: metadata.cluster,
            expected: expected.unwrap_or_default(),
        });
    }
    Ok(())
}
