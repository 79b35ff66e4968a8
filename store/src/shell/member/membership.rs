//! Changes of the membership: judged where they are asked for, proposed one at a time, and what follows once one is
//! applied: Raft's configuration, the addresses that the transport is told, and the end of a member that was removed.
//!
//! Before a change is proposed, only what this member alone can know is judged, as etcd does and in its order: who has
//! started, who is connected, how far a learner is. Everything else the apply decides, the same everywhere.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::{Input, Member};
use crate::apply::{Applied, Changed};
use crate::consensus::{Change, LogEntry};
use crate::env::{Class, Instant};
use crate::error::{Error, RequestError, Unavailable};
use crate::membership::{MemberChange, What};
use crate::shell::command::{Answer, Answered};
use crate::shell::envelope::{AmIRemoved, Body, Removed};
use crate::types::{EntryKind, Index, MemberId, ProposalId};

/// What is remembered of changes.
#[derive(Default)]
pub(super) struct Changes {
    /// Those that wait for a leader, with their counters; 0 for this member's own.
    waiting: Vec<(u64, Bytes)>,
    /// Members that were removed, their peer URLs, and until when they are still spoken to: they should hear of it.
    leaving: BTreeMap<MemberId, (Vec<String>, Instant)>,
    /// Members that the log adds and the state does not know yet: by index. A candidate or leader among them must
    /// be answered.
    coming: BTreeMap<Index, (MemberId, Vec<String>)>,
    /// When this member has applied its own removal.
    left: Option<Instant>,
    /// When Raft last heard of another member, or this one last asked whether it still belongs to them.
    last_heard: Instant,
    /// When a member that was removed and still speaks may next be told so.
    next_told: BTreeMap<MemberId, Instant>,
    /// Whom the transport knows, and where.
    told_peers: BTreeMap<MemberId, Vec<String>>,
    /// When this leader may next make a voter of a learner by itself.
    next_promotion: Instant,
    /// Learners are counted as voters: a bug for simulations to find.
    #[cfg(any(test, feature = "sim"))]
    pub(super) learners_vote: bool,
}

impl Changes {
    /// Raft hears of another member.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }
}

impl Member {
    /// Somebody wants the membership changed.
    pub(super) fn change_members(
        &mut self,
        what: What,
        counter: u64,
        now: Instant,
        answer: Answer<Answered>,
    ) {
        if let Err(error) = self.judge_change(&what, now) {
            tracing::warn!(change = what.name(), member = %what.member(), %error, "rejecting a membership change");
            // A caller that has gone away does not want it.
            let _ = answer.send(Err(error));
            return;
        }
        self.pending.register(counter, now, answer);
        self.queue_change(what, counter);
    }

    fn queue_change(&mut self, what: What, counter: u64) {
        let change = MemberChange {
            what,
            proposal: Some(ProposalId {
                member: self.shared.member,
                boot: self.shared.boot,
                counter,
            }),
            learners_max: u64::try_from(self.shared.settings.learners_max).ok(),
        };
        self.changes.waiting.push((counter, change.encode()));
    }

    /// Hands what waits to Raft, once somebody leads.
    pub(super) fn propose_changes(&mut self) {
        if self.changes.waiting.is_empty() || !self.node.takes_proposals() {
            return;
        }
        for (counter, data) in std::mem::take(&mut self.changes.waiting) {
            self.pending.handed(counter);
            self.node.propose_change(data);
        }
    }

    /// Whoever was told that no leader was found must not see the change made later.
    pub(super) fn forget_expired_changes(&mut self) {
        let pending = &self.pending;
        self.changes
            .waiting
            .retain(|(counter, _)| *counter == 0 || pending.waits(*counter));
    }

    fn judge_change(&self, what: &What, now: Instant) -> Result<(), Error> {
        if self.retired() || self.changes.left.is_some() {
            return Err(Unavailable::Stopped.into());
        }
        let strict = self.shared.settings.strict_reconfig_check;
        match what {
            What::Add(member) if strict => self.judge_add(member.is_learner, now)?,
            What::Remove(id) if strict => self.judge_remove(*id, now)?,
            What::Promote(id) => {
                self.judge_learner(*id)?;
                if strict && !self.shared.state.read().membership.ready_to_promote() {
                    return Err(RequestError::MemberNotEnoughStarted.into());
                }
            }
            What::Add(_) | What::Remove(_) | What::Update(..) => {}
        }
        Ok(())
    }

    /// A new member counts as absent, learners too, as in etcd.
    fn judge_add(&self, is_learner: bool, now: Instant) -> Result<(), RequestError> {
        if !is_learner && !self.shared.state.read().membership.ready_to_add_voter() {
            return Err(RequestError::MemberNotEnoughStarted);
        }
        let (connected, voters) = self.connected_voters(now);
        if voters != 1 && connected <= voters.div_ceil(2) {
            return Err(RequestError::ClusterUnhealthy);
        }
        Ok(())
    }

    /// A member that is down may go, and so may a learner.
    fn judge_remove(&self, id: MemberId, now: Instant) -> Result<(), RequestError> {
        {
            let membership = &self.shared.state.read().membership;
            if membership.get(id).is_some_and(|member| member.is_learner) {
                return Ok(());
            }
            if !membership.ready_to_remove_voter(id) {
                return Err(RequestError::MemberNotEnoughStarted);
            }
        }
        if id != self.shared.member && self.shared.transport.connected_since(id).is_none() {
            return Ok(());
        }
        let (connected, voters) = self.connected_voters(now);
        if connected < voters.saturating_sub(1) / 2 + 2 {
            return Err(RequestError::ClusterUnhealthy);
        }
        Ok(())
    }

    /// Only the leader knows how far a learner is; whether it is one, the apply decides.
    fn judge_learner(&self, id: MemberId) -> Result<(), Error> {
        if !self.node.role().is_leader {
            return Err(Unavailable::NotLeader.into());
        }
        let (matched, own) = self.node.matched(id).ok_or(RequestError::MemberNotFound)?;
        if !is_ready(matched, own) {
            return Err(RequestError::LearnerNotReady.into());
        }
        Ok(())
    }

    /// How many voters have been connected for a while, this member among them, and how many there are.
    fn connected_voters(&self, now: Instant) -> (usize, usize) {
        let since = now - HEALTH_INTERVAL;
        let state = self.shared.state.read();
        let long = |id| {
            self.shared
                .transport
                .connected_since(id)
                .is_some_and(|at| at < since)
        };
        let voters = state.membership.voters();
        voters.fold((0, 0), |(connected, all), voter| {
            let is = voter.id == self.shared.member || long(voter.id);
            (connected + usize::from(is), all + 1)
        })
    }

    /// Entries are on their way into the log, or found in it at the start.
    pub(super) fn note_changes(&mut self, entries: &[LogEntry]) {
        let Some(first) = entries.first() else { return };
        let before = self.changes.coming.len();
        // What stood there is replaced.
        let replaced = self.changes.coming.split_off(&first.index);
        let changes = entries.iter().filter(|entry| entry.kind == EntryKind::Change);
        for entry in changes {
            if let Ok(change) = MemberChange::decode(&entry.data)
                && let What::Add(member) = change.what
            {
                self.changes
                    .coming
                    .insert(entry.index, (member.id, member.peer_urls));
            }
        }
        if !replaced.is_empty() || self.changes.coming.len() != before {
            self.tell_peers();
        }
    }

    /// Tells Raft of the changes among what was just applied; before it hears that they are.
    pub(super) fn changes_applied(&mut self, done: &[Applied], now: Instant) {
        let mut any = false;
        for applied in done {
            let Some(change) = &applied.change else { continue };
            any = true;
            let change = match change {
                Changed::Made(what) => self.change_made(what, now),
                Changed::Refused => Change::Nothing,
            };
            self.node.step(Input::Changed(applied.index, change));
        }
        if any {
            self.changes.coming.retain(|index, _| *index > self.applied);
            self.tell_peers();
        }
    }

    fn change_made(&mut self, what: &What, now: Instant) -> Change {
        let member = what.member();
        tracing::info!(
            "raft-conf-change" = what.name(),
            "raft-conf-change-node-id" = %member,
            "applied a configuration change through raft"
        );
        match what {
            #[cfg(any(test, feature = "sim"))]
            What::Add(_) if self.changes.learners_vote => Change::Voter(member),
            What::Add(added) if added.is_learner => Change::Learner(member),
            What::Add(_) | What::Promote(_) => Change::Voter(member),
            What::Update(..) => Change::Nothing,
            What::Remove(_) => {
                if member == self.shared.member {
                    self.leave(now);
                    return Change::Nothing;
                }
                if let Some(urls) = self.changes.told_peers.get(&member) {
                    let until = now + SPEAK_ON;
                    self.changes.leaving.insert(member, (urls.clone(), until));
                }
                Change::Removed(member)
            }
        }
    }

    /// Its own removal is applied. It stays until a voter knows of it (see `consensus/changes.rs`); what it has to say is
    /// passed on to another leader, if it leads.
    pub(super) fn leave(&mut self, now: Instant) {
        tracing::info!(member = %self.shared.member, "this member is removed from the cluster: it waits for others to know");
        self.changes.left = Some(now);
        self.node.step(Input::Left);
        if let Some(successor) = self.node.successor() {
            self.node.step(Input::Transfer(successor));
        }
    }

    /// Asks whether it was removed: at each tick where it knows; and now and then where nobody speaks to it any more,
    /// since one that has no vote would ask for nothing.
    fn ask_whether_removed(&mut self, now: Instant) {
        if self
            .changes
            .left
            .is_some_and(|since| now.since(since) >= LEAVE_AFTER)
        {
            return self.retire();
        }
        let silent = !self.node.role().is_leader
            && now.since(self.changes.last_heard) >= 2 * self.shared.settings.election;
        if !silent && self.changes.left.is_none() {
            return;
        }
        self.changes.last_heard = now;
        for (peer, _) in self.shared.peers() {
            self.send(peer, Class::Control, Body::AmIRemoved(AmIRemoved {}));
        }
    }

    fn retire(&mut self) {
        self.shared.learn_removed();
        self.node.step(Input::Removed);
    }

    /// Tells the transport who the others are: the members, those that the log is about to add, and for a while those
    /// that were removed.
    pub(super) fn tell_peers(&mut self) {
        let coming = self.changes.coming.values().cloned();
        let mut peers: BTreeMap<_, _> = coming.collect();
        let leaving = self.changes.leaving.iter();
        peers.extend(leaving.map(|(id, (urls, _))| (*id, urls.clone())));
        peers.extend(self.shared.peers());
        peers.remove(&self.shared.member);
        self.publish_role();
        if peers != self.changes.told_peers {
            let told: Vec<_> = peers.iter().map(|(id, urls)| (*id, urls.clone())).collect();
            self.shared.transport.set_peers(&told);
            self.changes.told_peers = peers;
        }
    }

    fn publish_role(&self) {
        let state = self.shared.state.read();
        let own = state.membership.get(self.shared.member);
        let is_learner = own.is_some_and(|own| own.is_learner);
        self.shared
            .published
            .is_learner
            .store(is_learner, Ordering::Relaxed);
    }

    /// A snapshot stands in place of the state, and with it of what the log was about to change.
    pub(super) fn snapshot_applied(&mut self) {
        self.changes.coming.retain(|index, _| *index > self.applied);
        self.tell_peers();
    }

    pub(super) fn tick_changes(&mut self, now: Instant) {
        if self.retired() {
            self.node.step(Input::Removed);
            return;
        }
        self.ask_whether_removed(now);
        let leaving = self.changes.leaving.len();
        self.changes.leaving.retain(|_, (_, until)| now < *until);
        if self.changes.leaving.len() != leaving {
            self.tell_peers();
        }
        self.promote_learner(now);
    }

    /// Makes a voter of a learner that has caught up, where that is wanted.
    fn promote_learner(&mut self, now: Instant) {
        let wanted = self.shared.settings.auto_promote && self.leads_applied && self.changes.left.is_none();
        if !wanted || now < self.changes.next_promotion || self.node.change_pending() {
            return;
        }
        let state = self.shared.state.read();
        let learners = state.membership.iter().filter(|member| member.is_learner);
        let caught_up = |id: &MemberId| {
            let sending = self.node.snapshot_under_way(*id);
            let matched = self.node.matched(*id);
            !sending && matched.is_some_and(|(matched, own)| matched > Index(0) && is_ready(matched, own))
        };
        let found = learners.map(|member| member.id).find(caught_up);
        drop(state);
        let Some(learner) = found else { return };
        if self.judge_change(&What::Promote(learner), now).is_err() {
            return;
        }
        tracing::info!(%learner, "a learner has caught up: making it a voter");
        self.changes.next_promotion = now + 2 * self.shared.settings.election;
        self.queue_change(What::Promote(learner), 0);
    }

    /// Whether this member was removed for good.
    pub(super) fn retired(&self) -> bool {
        *self.shared.removed.borrow()
    }

    /// Whether a message of another member is to be heard. Also of one that this member does not know: it may have been
    /// added by an entry that has not come here yet, and lead. One that was removed is told so.
    pub(super) fn hears(&mut self, from: MemberId, now: Instant) -> bool {
        if self.retired() || from == self.shared.member {
            return false;
        }
        let (removed, votes) = {
            let membership = &self.shared.state.read().membership;
            let own = membership.get(self.shared.member);
            (
                membership.is_removed(from),
                own.is_some_and(|own| !own.is_learner),
            )
        };
        if !removed {
            return true;
        }
        // It will rely on this member's knowing.
        let knows = votes && self.node.keeps_change();
        if knows && self.changes.next_told.get(&from).is_none_or(|next| *next <= now) {
            tracing::info!(%from, "a member that was removed still speaks: telling it");
            self.changes.next_told.insert(from, now + TELL_INTERVAL);
            self.send(from, Class::Control, Body::Removed(Removed {}));
        }
        false
    }

    /// Another member says that this one was removed.
    pub(super) fn told_removed(&mut self, by: MemberId) {
        let known = self.shared.state.read().membership.get(by).is_some();
        if known && !self.retired() {
            tracing::warn!(%by, "another member says that this one was removed from the cluster");
            self.retire();
        }
    }
}

/// Whether a log is nine tenths of the leader's, which is etcd's measure.
fn is_ready(matched: Index, own: Index) -> bool {
    u128::from(matched.0) * 10 >= u128::from(own.0) * 9
}

/// How long voters must have been connected to count, as etcd's.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// How long a member that was removed is still spoken to: until then it has heard of its removal, or is not there.
const SPEAK_ON: Duration = Duration::from_secs(5);
/// How often one that speaks on is told.
const TELL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a member that was removed waits at most for others to know of it.
const LEAVE_AFTER: Duration = Duration::from_secs(5);
