//! The whole state as it was at one applied index, read while writes go on: for backups in a format of others.
//!
//! The small tables are copied under the lock that also fixes the index and the revision; the history follows from the
//! working copy and from memory, as HashKV reads it. A pin keeps the next compaction from removing anything meanwhile.
//! How far the present one has got does not show: of the versions at or below the compacted revision only those are
//! shown that it leaves, so two members export the same history.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use proto::etcdserverpb::{AlarmMember, AlarmType};

use super::handle::Store;
use super::history::{Walk, Walked};
use super::reads::fatal;
use super::shared::{Pin, Shared};
use crate::apply::{Request, State};
use crate::auth::AuthState;
use crate::backend::RevisionStore;
use crate::error::{Error, Unavailable};
use crate::membership::Member;
use crate::mvcc::KeepSet;
use crate::types::{Change, Index, MemberId, Term};

/// Everything but the history of keys.
#[derive(Clone, Debug)]
pub struct Content {
    /// The last log entry contained.
    pub applied: Index,
    /// Its term.
    pub term: Term,
    /// The newest revision.
    pub revision: i64,
    /// The compacted revision, -1 for none.
    pub compacted: i64,
    /// Leases: their ids, 8 bytes big-endian, and etcd's records of them.
    pub leases: Vec<(Bytes, Bytes)>,
    /// Users, roles and whether auth is on.
    pub auth: AuthState,
    /// Raised alarms.
    pub alarms: Vec<AlarmMember>,
    /// The members.
    pub members: Vec<Member>,
    /// Those removed for good.
    pub removed: Vec<MemberId>,
    /// The cluster's version, once decided.
    pub cluster_version: Option<String>,
}

impl Content {
    /// That of a state.
    pub(super) fn of(state: &State) -> Self {
        let membership = &state.membership;
        Content {
            applied: state.applied(),
            term: state.term(),
            revision: state.mvcc.current(),
            compacted: state.mvcc.compacted(),
            leases: state.lessor.encode(),
            auth: state.auth.clone(),
            alarms: state.alarms.list(AlarmType::None),
            members: membership.iter().cloned().collect(),
            removed: membership.removed().collect(),
            cluster_version: membership.cluster_version().map(str::to_owned),
        }
    }
}

/// An export under way. Physical compaction waits while it exists.
pub struct Export {
    shared: Arc<Shared>,
    pin: Pin,
    stored: Arc<RevisionStore>,
    walk: Walk,
    content: Content,
}

impl Store {
    /// Begins an export of the state as it is now. Asks nobody, so it works without a quorum and on a learner.
    ///
    /// # Errors
    /// `Stopped`; `LeaderChanged` or `Timeout` while a snapshot from the leader is being put in place.
    pub async fn export(&self) -> Result<Export, Error> {
        self.permit(Request::Maintenance)?;
        let shared = &self.shared;
        let (content, pin) = {
            let state = shared.state.read();
            let content = Content::of(&state);
            (content, Pin::new(shared, state.mvcc.compacted()))
        };
        Ok(Export {
            stored: pin.history().await?,
            shared: Arc::clone(shared),
            walk: Walk::to(content.revision),
            content,
            pin,
        })
    }
}

impl Export {
    /// Everything but the history of keys.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Shows the next changes in order of revision; false when there are no more. Waits for the disk, so it belongs on
    /// a thread that may.
    ///
    /// # Errors
    /// `Stopped`; `LeaderChanged` where the state was replaced by a snapshot from the leader. Nothing shown is of use
    /// then.
    pub fn next_changes(&mut self, show: &mut dyn FnMut(&Change)) -> Result<bool, Error> {
        let Export {
            shared,
            pin,
            stored,
            walk,
            content,
        } = self;
        let walked = walk.step(shared, stored, pin, &mut |changes| {
            let kept = kept(shared, pin, content.compacted, changes);
            let kept = changes.iter().zip(kept).filter(|(_, kept)| *kept);
            kept.for_each(|(change, _)| show(change));
        });
        match walked {
            Ok(Walked::Some) => Ok(true),
            Ok(Walked::End) if pin.stands() => Ok(false),
            Ok(Walked::Void) if shared.stopping.load(Ordering::Relaxed) => Err(Unavailable::Stopped.into()),
            Ok(Walked::End | Walked::Void) => Err(Unavailable::LeaderChanged.into()),
            Err(error) => Err(fatal(shared, "exporting the history", &error)),
        }
    }
}

/// Which of the changes a compaction to `compacted` leaves. Where the state is no longer the exported one, none: the
/// next step finds that out.
fn kept(shared: &Shared, pin: &Pin, compacted: i64, changes: &[Change]) -> Vec<bool> {
    if changes.iter().all(|change| change.revision.main > compacted) {
        return vec![true; changes.len()];
    }
    let state = shared.state.read();
    if !pin.stands() {
        return Vec::new();
    }
    let left = |change: &Change| {
        let (key, revision) = (&change.kv.key, change.revision);
        revision.main > compacted || state.mvcc.keeps(key, revision, compacted, KeepSet::Compaction)
    };
    changes.iter().map(left).collect()
}
