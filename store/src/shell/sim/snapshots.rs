//! The content of snapshot files without a member around it: for whoever feeds it with anything.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::apply::{CommittedEntry, State};
use crate::backend::{self, Backend};
use crate::env::Disk;
use crate::env::fake::FakeDisk;
use crate::membership::{Member, Membership};
use crate::shell::open_error::OpenError;
use crate::shell::snapshots::Sections;
use crate::shell::{maintenance, recovery};
use crate::types::{EntryKind, Index, Term};
use crate::wal::Metadata;
use crate::wal::snapshot::{SnapshotReader, newest_valid};

/// The state in a snapshot, as a member takes it that got the snapshot from another.
///
/// # Errors
/// Where it holds anything but a state.
pub fn state_of(reader: &mut SnapshotReader) -> Result<State, OpenError> {
    recovery::state_of(reader)
}

/// The same, by way of a working copy that is built in `backend` and read back.
///
/// # Errors
/// Where it holds anything but a state.
pub fn import(
    reader: &mut SnapshotReader,
    metadata: Metadata,
    backend: Arc<dyn Backend>,
) -> Result<State, OpenError> {
    let (_, state) = recovery::build(reader, metadata, Arc::clone(&backend))?;
    let loaded = backend::load(backend, &mut |_| {})?;
    let loaded = loaded.expect("a working copy was just built");
    assert_eq!(
        (loaded.meta.applied, loaded.meta.revision),
        (state.applied(), state.mvcc.current())
    );
    Ok(state)
}

/// The sections of the snapshot of a member that has applied these requests, each with its kind.
///
/// # Panics
/// Where one of them is none.
#[must_use]
pub fn snapshot_sections(requests: &[Bytes]) -> Vec<(u8, Vec<u8>)> {
    let founder = Member::bootstrap("m".to_owned(), vec!["http://m:2380".to_owned()], "token");
    let mut state = State::new(Membership::bootstrap(vec![founder]));
    let mut changes = Vec::new();
    for (index, data) in (1..).map(Index).zip(requests) {
        let applied = state.apply(&CommittedEntry {
            term: Term(1),
            index,
            kind: EntryKind::Request,
            data: data.clone(),
        });
        changes.extend(
            applied
                .committed
                .iter()
                .flat_map(|revision| revision.changes.clone()),
        );
    }
    let (disk, dir) = (Arc::new(FakeDisk::new(1)) as Arc<dyn Disk>, Path::new("/snap"));
    let cluster = state.membership.cluster_id();
    let written =
        Sections::begin(&disk, dir, cluster, &maintenance::snapshot(&state)).and_then(|mut sections| {
            sections.changes(&changes)?;
            sections.finish()
        });
    written.expect("the disk has no faults");
    let newest = newest_valid(disk.as_ref(), dir).expect("the disk has no faults");
    let mut reader = newest.reader.expect("it was just written");
    let mut sections = Vec::new();
    while let Some(section) = reader.next_section().expect("it was checked as a whole") {
        sections.push((section.kind, section.data.to_vec()));
    }
    sections
}
