//! Drives raft-rs's `RawNode`.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, RawNode, ReadOnlyOption, Ready, SnapshotStatus, StateRole};

use super::changes::holds_change;
use super::effect::{Append, Committed, Effect, Input, LogEntry, LogState, Part, Role};
use super::log::{Tail, kind_of, to_log};
use super::stranded::Stranded;
use super::{logger, wire};
use crate::types::{Index, MemberId, Term};

/// How a node is set up.
#[derive(Clone, Copy, Debug)]
pub struct NodeConfig {
    /// This member.
    pub member: MemberId,
    /// The last index that the state already holds.
    pub applied: Index,
    /// Election timeout in ticks; each election's own lies between once and twice this.
    pub election_ticks: usize,
    /// Heartbeat interval in ticks.
    pub heartbeat_ticks: usize,
    /// Seeds the election timeouts; the same seed gives the same elections.
    pub seed: u64,
    /// Drawn at random when this process began: tells its read indexes from those of an earlier one.
    pub boot: u64,
    /// This member has lost its disk: until a leader has given it a snapshot it takes no part in anything.
    pub recovering: bool,
    /// Bytes proposed and not yet committed, beyond which proposals are dropped.
    pub uncommitted_bytes_max: u64,
    /// Bytes of entries in one message to another member, one entry at least.
    pub message_bytes_max: usize,
}

/// raft-rs dropped a proposal: there is no leader here, or too much is uncommitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProposalDropped;

/// A member's part in Raft.
pub struct Node {
    pub(super) raw: RawNode<Tail>,
    config: NodeConfig,
    role: Role,
    campaigns: u64,
    /// The number of the last append handed out, and of the last one known durable.
    appended: u64,
    persisted: u64,
    /// The number of the last append that changed term or vote, and what it wrote.
    term_append: u64,
    durable_vote: (u64, u64),
    /// Messages that wait for the append of a number to be durable.
    held: VecDeque<(u64, Vec<Message>)>,
    /// Messages that may go.
    outgoing: Vec<Message>,
    /// Reads that came before the first commit of the term: raft-rs would drop them.
    pub(super) early_reads: Vec<Message>,
    /// Proposals that found no leader to take them.
    pub(super) stranded: VecDeque<Stranded>,
    /// The leader that could not be reached: nothing is passed on to it until the next tick.
    pub(super) lost_leader: u64,
    pub(super) ticks: u64,
    /// The last acknowledgement: to whom, term, index, and when.
    acknowledged: (u64, u64, u64, u64),
    /// The members that a snapshot was asked for.
    pub(super) snapshots_under_way: BTreeSet<MemberId>,
    /// The lowest index of those that are being sent.
    pub(super) snapshot_held: Index,
    /// The members heard from before the last check of the quorum, which forgets them all.
    pub(super) active: BTreeSet<u64>,
    /// A snapshot that is in the log, and not yet in the state.
    placing: Option<Index>,
    /// The disk of the log stands still.
    pub(super) stalled: bool,
    pub(super) recovering: bool,
    /// It was removed, and stays until others know.
    pub(super) left: bool,
    /// It was removed for good.
    pub(super) retired: bool,
    /// The commit index is to be made durable with the next append, and which append last did so.
    pub(super) keep_commit: bool,
    commit_append: u64,
    /// When the handover began that precedes this leader's own removal, and in which term.
    pub(super) leaving: Option<(u64, u64)>,
    /// Changes do not wait for one another: a bug for simulations to find.
    #[cfg(any(test, feature = "sim"))]
    pub(super) changes_overlap: bool,
}

impl Node {
    /// A node over a replayed log.
    ///
    /// # Panics
    ///
    /// Where the configuration contradicts itself (election not longer than heartbeat, member id 0).
    #[must_use]
    pub fn new(config: NodeConfig, tail: Tail) -> Self {
        let raft_config = Config {
            id: config.member.0,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: config.applied.0,
            max_size_per_msg: config.message_bytes_max as u64,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            max_uncommitted_size: config.uncommitted_bytes_max,
            // Not raft-rs's own batching: it adds entries to an empty append to the same member although they do not
            // follow it, and the member then acknowledges entries that it does not have. A round proposes in one
            // step, which makes one append per member anyway.
            batch_append: false,
            ..Config::default()
        };
        let raw = RawNode::new(&raft_config, tail, &logger::bridge())
            .expect("the configuration and the replayed log were checked before");
        let durable_vote = (raw.raft.term, raw.raft.vote);
        let mut node = Node {
            raw,
            config,
            role: Role::default(),
            campaigns: 0,
            appended: 0,
            persisted: 0,
            term_append: 0,
            durable_vote,
            held: VecDeque::new(),
            outgoing: Vec::new(),
            early_reads: Vec::new(),
            stranded: VecDeque::new(),
            lost_leader: 0,
            ticks: 0,
            acknowledged: (0, 0, 0, 0),
            snapshots_under_way: BTreeSet::new(),
            snapshot_held: Index(0),
            active: BTreeSet::new(),
            placing: None,
            stalled: false,
            recovering: config.recovering,
            left: false,
            retired: false,
            keep_commit: false,
            commit_append: 0,
            leaving: None,
            #[cfg(any(test, feature = "sim"))]
            changes_overlap: false,
        };
        node.pin_election_timeout();
        node
    }

    /// Tells the node something. Proposals go through [`Node::propose`], since they can be refused.
    pub fn step(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            // Whoever has no vote cannot campaign; there is nobody to tell.
            Input::Campaign => drop(self.raw.campaign()),
            Input::Persisted(number) => self.persisted(number),
            Input::Applied(index) => {
                self.raw.advance_apply_to(index.0);
                self.placing.take_if(|placing| *placing <= index);
                let needed = self.needed();
                self.raw.mut_store().trim(index, needed);
            }
            Input::ReadIndex(context) => self.read_index(context),
            Input::Message(message) => {
                if let Some(mut message) = wire::to_raft(message) {
                    if message.get_msg_type() == MessageType::MsgPropose {
                        // How long it is kept is each member's own affair.
                        message.request_snapshot = 0;
                    }
                    self.message(message);
                }
            }
            Input::Undelivered(message) => self.undelivered(message),
            Input::Unreachable(member) => self.raw.report_unreachable(member.0),
            Input::Transfer(member) => self.raw.transfer_leader(member.0),
            Input::SnapshotSent { to, delivered } => {
                self.snapshots_under_way.remove(&to);
                let status = if delivered {
                    SnapshotStatus::Finish
                } else {
                    SnapshotStatus::Failure
                };
                self.raw.report_snapshot(to.0, status);
            }
            Input::Snapshot(snapshot) => self.snapshot(&snapshot),
            Input::Forget(member, index) => self.forget(member, index),
            Input::Changed(index, change) => self.changed(index, change),
            Input::Left => self.left = true,
            Input::Removed => self.retire(),
        }
        self.retry();
        self.pin_election_timeout();
    }

    /// Proposes a batch of encoded requests, one entry each: all or none on the leader; elsewhere they are passed on
    /// in parts, each of which arrives whole or not at all.
    pub fn propose(&mut self, requests: Vec<Bytes>) -> Result<(), ProposalDropped> {
        let bytes_max = if self.role.is_leader {
            usize::MAX
        } else {
            self.config.message_bytes_max
        };
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let mut entries = Vec::new();
            let mut bytes = 0;
            while let Some(data) =
                requests.next_if(|data| entries.is_empty() || bytes + data.len() <= bytes_max)
            {
                bytes += data.len();
                entries.push(Entry {
                    data,
                    ..Entry::default()
                });
            }
            let mut message = Message::default();
            message.set_msg_type(MessageType::MsgPropose);
            message.from = self.config.member.0;
            message.set_entries(entries.into());
            let outcome = self.raw.step(message).map_err(|_| ProposalDropped);
            self.pin_election_timeout();
            outcome?;
        }
        Ok(())
    }

    /// Whether a proposal would be taken, here or by the leader that this member knows.
    #[must_use]
    pub fn takes_proposals(&self) -> bool {
        let takes_part = !self.recovering && !self.left && !self.retired;
        takes_part && self.raw.raft.leader_id != 0 && !self.transferring()
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.lost_leader = 0;
        self.note_active();
        // Without its memory it must neither vote nor ask for votes; nor can it be elected while its state is behind, and
        // it should not be while its log stands still.
        let lets_others = self.stalled && !self.role.is_leader;
        if !self.recovering && !self.retired && self.placing.is_none() && !lets_others {
            self.raw.tick();
        }
        self.expire_stranded();
    }

    fn persisted(&mut self, number: u64) {
        assert!(
            number > self.persisted && number <= self.appended,
            "append {number} persisted after {}, with {} handed out",
            self.persisted,
            self.appended
        );
        self.persisted = number;
        self.raw.on_persist_ready(number);
        while let Some((_, messages)) = self.held.pop_front_if(|(covered_by, _)| *covered_by <= number) {
            self.outgoing.extend(messages);
        }
    }

    /// A context holds the member and its process, since the leader tells the reads of all members apart by it.
    fn read_index(&mut self, context: u64) {
        let mut bytes = [0; CONTEXT_BYTES];
        bytes[..16].copy_from_slice(&self.context_prefix());
        bytes[16..].copy_from_slice(&context.to_be_bytes());
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgReadIndex);
        message.set_entries(
            vec![Entry {
                data: Bytes::copy_from_slice(&bytes),
                ..Entry::default()
            }]
            .into(),
        );
        self.message(message);
    }

    /// This member, and this process of it.
    fn context_prefix(&self) -> [u8; 16] {
        let (member, boot) = (u128::from(self.config.member.0), u128::from(self.config.boot));
        (member << 64 | boot).to_be_bytes()
    }

    /// The number of a read index round that this process has asked for.
    fn own_context(&self, bytes: &[u8]) -> Option<u64> {
        let number = bytes.strip_prefix(&self.context_prefix())?;
        number.try_into().ok().map(u64::from_be_bytes)
    }

    pub(super) fn message(&mut self, message: Message) {
        if self.recovering || self.retired {
            return;
        }
        self.check_log_kept(&message);
        let raft = &self.raw.raft;
        match message.get_msg_type() {
            MessageType::MsgReadIndex
                if raft.state == StateRole::Leader && !raft.commit_to_current_term() =>
            {
                if self.early_reads.len() < EARLY_READS_MAX {
                    self.early_reads.push(message);
                }
            }
            MessageType::MsgPropose if !self.takes_proposals() => self.strand(message),
            MessageType::MsgPropose if holds_change(&message) => self.change_proposed(message),
            // raft-rs cannot stand for election while its state is behind its log.
            MessageType::MsgTimeoutNow if self.placing.is_some() || self.stalled => {}
            // A message of a member that is not known, or one that came too late.
            _ => drop(self.raw.step(message)),
        }
    }

    /// A leader that counts on entries which are not there: acknowledged data is lost, and going on would lose it for all.
    fn check_log_kept(&self, message: &Message) {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        let counts_on_it = message.get_msg_type() == MessageType::MsgHeartbeat && message.term >= raft.term;
        assert!(
            !counts_on_it || message.commit <= last,
            "the leader counts on entry {} of this member, whose log ends at {last}: the disk has lost acknowledged \
             entries; start the member with an empty data folder and --initial-cluster-state existing",
            message.commit
        );
    }

    /// Takes out everything that has become due since the last call, in the order in which it must be done.
    pub fn ready(&mut self, effects: &mut Vec<Effect>) {
        let outgoing = std::mem::take(&mut self.outgoing);
        self.send(outgoing, effects);
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            self.role_effect(effects);
            let messages = ready.take_messages();
            match self.term_unsettled(&ready) {
                Some(number) => self.held.push_back((number, messages)),
                None => self.send(messages, effects),
            }
            for state in ready.take_read_states() {
                // One asked for before a restart says nothing about what has been acknowledged since.
                if let Some(context) = self.own_context(&state.request_ctx) {
                    let index = Index(state.index);
                    effects.push(Effect::ReadIndex { context, index });
                }
            }
            let committed = ready.take_committed_entries();
            let persisted_messages = ready.take_persisted_messages();
            self.append(ready, effects);
            self.hold(persisted_messages, effects);
            if !committed.is_empty() {
                let committed = committed.into_iter().map(|entry| Committed {
                    term: Term(entry.term),
                    index: Index(entry.index),
                    kind: kind_of(&entry),
                    data: entry.data,
                });
                effects.push(Effect::Commit(committed.collect()));
            }
        }
        self.pin_election_timeout();
    }

    /// The append that makes this member's term durable, while it is not. A leader has waited for it, as for its voters;
    /// but one that votes alone leads at once, and learners must not hear of a term that it may begin anew after a crash.
    fn term_unsettled(&self, ready: &Ready) -> Option<u64> {
        if self.changes_term(ready) {
            return Some(ready.number());
        }
        (self.persisted < self.term_append).then_some(self.term_append)
    }

    fn changes_term(&self, ready: &Ready) -> bool {
        ready
            .hs()
            .is_some_and(|state| (state.term, state.vote) != self.durable_vote)
    }

    /// Hands out what must become durable.
    fn append(&mut self, mut ready: Ready, effects: &mut Vec<Effect>) {
        let (number, must_sync) = (ready.number(), ready.must_sync());
        let mut restart = None;
        if !ready.snapshot().is_empty() {
            let metadata = ready.snapshot().get_metadata();
            let (index, term) = (Index(metadata.index), Term(metadata.term));
            self.raw
                .mut_store()
                .restart(index, term, metadata.get_conf_state());
            restart = Some((index, term));
            self.placing = Some(index);
            effects.push(Effect::Install { number, index });
        }
        let changes_term = self.changes_term(&ready);
        let entries = ready.take_entries();
        self.raw.mut_store().append(&entries);
        self.raw.advance_append_async(ready);
        let keeps = std::mem::take(&mut self.keep_commit);
        if !must_sync && !keeps {
            return self.pass_without_sync(number);
        }
        if keeps {
            self.commit_append = number;
        }
        let state = self.raw.raft.hard_state();
        if changes_term {
            self.durable_vote = (state.term, state.vote);
            self.term_append = number;
        }
        self.appended = number;
        effects.push(Effect::Append(Append {
            number,
            restart,
            entries: entries.into_iter().map(to_log).collect(),
            state: Some(LogState {
                term: Term(state.term),
                vote: MemberId(state.vote),
                commit: Index(state.commit),
            }),
        }));
    }

    /// Sends messages at once; a snapshot becomes a wish.
    fn send(&mut self, messages: Vec<Message>, effects: &mut Vec<Effect>) {
        for message in messages {
            if message.get_msg_type() == MessageType::MsgSnapshot {
                let to = MemberId(message.to);
                self.snapshots_under_way.insert(to);
                let index = Index(message.get_snapshot().get_metadata().index);
                effects.push(Effect::SendSnapshot { to, index });
            } else if !self.says_nothing_new(&message) {
                effects.push(Effect::Send(wire::from_raft(message)));
            }
        }
    }

    /// Whether it acknowledges what was acknowledged to the same leader a moment ago: the answer to an append that only
    /// tells the commit index. After a tick it goes all the same, since the one before may have been lost.
    fn says_nothing_new(&mut self, message: &Message) -> bool {
        if message.get_msg_type() != MessageType::MsgAppendResponse || message.reject {
            return false;
        }
        let told = (message.to, message.term, message.index, self.ticks);
        std::mem::replace(&mut self.acknowledged, told) == told
    }

    /// Keeps messages back until what they rest on is durable; those that rest on nothing go.
    fn hold(&mut self, messages: Vec<Message>, effects: &mut Vec<Effect>) {
        if self.persisted == self.appended {
            return self.send(messages, effects);
        }
        let term_durable = self.persisted >= self.term_append;
        let rests_on_nothing = |message: &Message| match message.get_msg_type() {
            MessageType::MsgPropose | MessageType::MsgReadIndex => true,
            // It says no more than that this member is in that term.
            MessageType::MsgHeartbeatResponse => term_durable,
            _ => false,
        };
        let (urgent, held): (Vec<_>, Vec<_>) = messages.into_iter().partition(rests_on_nothing);
        self.send(urgent, effects);
        if !held.is_empty() {
            self.held.push_back((self.appended, held));
        }
    }

    /// Whether it will know after a crash that the last membership change is committed.
    #[must_use]
    pub fn keeps_change(&self) -> bool {
        !self.keep_commit && self.persisted >= self.commit_append
    }

    /// Who leads.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// This member's part in the current term.
    #[must_use]
    pub fn part(&self) -> Part {
        match self.raw.raft.state {
            StateRole::Follower => Part::Follower,
            StateRole::PreCandidate => Part::PreCandidate,
            StateRole::Candidate => Part::Candidate,
            StateRole::Leader => Part::Leader,
        }
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    /// Whom it voted for in the current term; nobody is 0.
    #[must_use]
    pub fn vote(&self) -> MemberId {
        MemberId(self.raw.raft.vote)
    }

    /// The first index of the log in memory, and the entries from `from` on.
    #[must_use]
    pub fn log_from(&self, from: Index) -> (Index, Vec<LogEntry>) {
        self.raw.store().from(from)
    }

    pub(super) fn election_ticks(&self) -> usize {
        self.config.election_ticks
    }

    /// Whether it is the only voter.
    #[must_use]
    pub fn alone(&self) -> bool {
        self.raw.store().voters() == [self.config.member.0]
    }

    /// The least index of a snapshot that is of use to a member that lags.
    #[must_use]
    pub fn snapshot_index_min(&self) -> Index {
        self.raw.store().before()
    }

    /// Whether it takes no part until it has been given a snapshot.
    #[must_use]
    pub fn recovering(&self) -> bool {
        self.recovering
    }

    /// The last index known to be committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        Index(self.raw.raft.raft_log.committed)
    }

    /// The last index of the log, durable or not.
    #[must_use]
    pub fn last_index(&self) -> Index {
        Index(self.raw.raft.raft_log.last_index())
    }

    fn role_effect(&mut self, effects: &mut Vec<Effect>) {
        let raft = &self.raw.raft;
        let role = Role {
            term: Term(raft.term),
            leader: MemberId(raft.leader_id),
            is_leader: raft.state == StateRole::Leader,
        };
        if role != self.role {
            if (role.term, role.is_leader) != (self.role.term, self.role.is_leader) {
                // raft-rs begins anew with everybody.
                self.snapshots_under_way.clear();
            }
            self.role = role;
            effects.push(Effect::Role(role));
        }
    }

    /// A ready that needs no sync: at most the commit index moved, which is found again from the log and so waits
    /// for the next append.
    fn pass_without_sync(&mut self, number: u64) {
        if self.appended == self.persisted {
            // No append is under way whose report would cover this number.
            self.raw.on_persist_ready(number);
            self.persisted = number;
            self.appended = number;
        }
    }

    /// raft-rs draws its election timeout from the thread's own randomness whenever its state resets; setting it
    /// after every call is what makes a simulation repeatable (setting it on observed changes of term or role was
    /// not enough).
    pub(super) fn pin_election_timeout(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Candidate || raft.state == StateRole::PreCandidate {
            self.campaigns = self.campaigns.max(raft.term);
        }
        let ticks = self.config.election_ticks as u64;
        let drawn = mix(self.config.seed ^ mix(raft.id) ^ mix(raft.term) ^ mix(!self.campaigns)) % ticks;
        let timeout = usize::try_from(ticks + drawn).expect("ticks came from a usize");
        raft.set_randomized_election_timeout(timeout);
    }
}

/// A fixed 64-bit mixing function (the finaliser of splitmix64).
fn mix(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Member, process, number.
const CONTEXT_BYTES: usize = 24;
/// Reads of other members that wait for the first commit of a term; each member asks for one at a time.
const EARLY_READS_MAX: usize = 1024;
/// Append messages to one peer that are not yet answered, as etcd's.
const INFLIGHT_MESSAGES_MAX: usize = 512;

#[cfg(test)]
mod tests;
