//! Drives raft-rs's `RawNode`.

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, RawNode, ReadOnlyOption, StateRole};

use super::effect::{Append, Committed, Effect, Input, LogEntry, LogState, Part, Role};
use super::log::Tail;
use super::logger;
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
    /// Bytes proposed and not yet committed, beyond which proposals are dropped.
    pub uncommitted_bytes_max: u64,
}

/// raft-rs dropped a proposal: there is no leader here, or too much is uncommitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProposalDropped;

/// A member's part in Raft.
pub struct Node {
    raw: RawNode<Tail>,
    config: NodeConfig,
    role: Role,
    campaigns: u64,
    /// The number of the last append handed out, and of the last one known durable.
    appended: u64,
    persisted: u64,
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
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            max_uncommitted_size: config.uncommitted_bytes_max,
            ..Config::default()
        };
        let raw = RawNode::new(&raft_config, tail, &logger::bridge())
            .expect("the configuration and the replayed log were checked before");
        let mut node = Node {
            raw,
            config,
            role: Role::default(),
            campaigns: 0,
            appended: 0,
            persisted: 0,
        };
        node.pin_election_timeout();
        node
    }

    /// Tells the node something. Proposals go through [`Node::propose`], since they can be refused.
    pub fn step(&mut self, input: Input) {
        match input {
            Input::Tick => {
                self.raw.tick();
            }
            // Only a removed or lone learner cannot campaign; there is none yet.
            Input::Campaign => drop(self.raw.campaign()),
            Input::Persisted(number) => {
                assert!(
                    number > self.persisted && number <= self.appended,
                    "append {number} persisted after {}, with {} handed out",
                    self.persisted,
                    self.appended
                );
                self.persisted = number;
                self.raw.on_persist_ready(number);
            }
            Input::Applied(index) => {
                self.raw.advance_apply_to(index.0);
                self.raw.mut_store().trim(index);
            }
            Input::ReadIndex(context) => self.raw.read_index(context.to_be_bytes().to_vec()),
        }
        self.pin_election_timeout();
    }

    /// Proposes a batch of encoded requests, one entry each, all or none.
    pub fn propose(&mut self, requests: Vec<Bytes>) -> Result<(), ProposalDropped> {
        if requests.is_empty() {
            return Ok(());
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.config.member.0;
        let entries: Vec<Entry> = requests
            .into_iter()
            .map(|data| Entry {
                data,
                ..Entry::default()
            })
            .collect();
        message.set_entries(entries.into());
        let outcome = self.raw.step(message).map_err(|_| ProposalDropped);
        self.pin_election_timeout();
        outcome
    }

    /// Takes out everything that has become due since the last call, in the order in which it must be done.
    pub fn ready(&mut self, effects: &mut Vec<Effect>) {
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            assert!(
                ready.messages().is_empty() && ready.persisted_messages().is_empty(),
                "a single member has nobody to write to"
            );
            self.role_effect(effects);
            for state in ready.take_read_states() {
                let context = state.request_ctx.as_slice().try_into().map(u64::from_be_bytes);
                effects.push(Effect::ReadIndex {
                    context: context.expect("contexts are made from a u64 in step()"),
                    index: Index(state.index),
                });
            }
            let committed = ready.take_committed_entries();
            let (number, must_sync) = (ready.number(), ready.must_sync());
            let entries = ready.take_entries();
            self.raw.mut_store().append(&entries);
            self.raw.advance_append_async(ready);
            if must_sync {
                self.append_effect(number, entries, effects);
            } else {
                self.pass_without_sync(number);
            }
            if !committed.is_empty() {
                let committed = committed.into_iter().map(|entry| Committed {
                    term: Term(entry.term),
                    index: Index(entry.index),
                    data: entry.data,
                });
                effects.push(Effect::Commit(committed.collect()));
            }
        }
        self.pin_election_timeout();
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

    fn append_effect(&mut self, number: u64, entries: Vec<Entry>, effects: &mut Vec<Effect>) {
        let state = self.raw.raft.hard_state();
        self.appended = number;
        effects.push(Effect::Append(Append {
            number,
            entries: entries
                .into_iter()
                .map(|entry| LogEntry {
                    term: Term(entry.term),
                    index: Index(entry.index),
                    data: entry.data,
                })
                .collect(),
            state: Some(LogState {
                term: Term(state.term),
                vote: MemberId(state.vote),
                commit: Index(state.commit),
            }),
        }));
    }

    /// raft-rs draws its election timeout from the thread's own randomness whenever its state resets; setting it
    /// after every call is what makes a simulation repeatable (setting it on observed changes of term or role was
    /// not enough).
    fn pin_election_timeout(&mut self) {
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

/// Bytes of entries in one message to a peer.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Append messages to one peer that are not yet answered, as etcd's.
const INFLIGHT_MESSAGES_MAX: usize = 512;

#[cfg(test)]
mod tests;
