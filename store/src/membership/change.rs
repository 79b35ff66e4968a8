//! One change of the membership: how an entry of the log holds it, and what makes it right.
//!
//! An entry's data is a `raftpb.ConfChange` with etcd's numbers, whose context is the member as etcd's JSON. Whether it
//! takes effect is decided when it is applied, by the membership alone ([`Membership::change`]); a limit that is a
//! setting travels in the entry. What only one member can judge (who is started, who is connected) is judged
//! before proposing.

use bytes::Bytes;
use prost::Message as _;
use proto::raftpb::{ConfChange, ConfChangeType};
use serde::{Deserialize, Serialize};

use super::{Member, Membership};
use crate::error::RequestError;
use crate::types::{MemberId, ProposalId};

/// A change as it is proposed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberChange {
    /// What changes.
    pub what: What,
    /// Whose proposal it is.
    pub proposal: Option<ProposalId>,
    /// How many learners its proposer allows; any number if not told.
    pub learners_max: Option<u64>,
}

/// What changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A member, voter or learner, is added.
    Add(Member),
    /// A learner becomes a voter.
    Promote(MemberId),
    /// A member goes for good.
    Remove(MemberId),
    /// A member gets other peer URLs.
    Update(MemberId, Vec<String>),
}

/// Why an entry is not a change.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Not the message that it should be.
    #[error("no membership change: {0}")]
    Message(#[from] prost::DecodeError),
    /// The member in it.
    #[error("the member in a membership change: {0}")]
    Context(#[from] serde_json::Error),
    /// A kind of change that this version does not know.
    #[error("a membership change of kind {0}, which this version does not know")]
    Kind(i32),
    /// The change names one member and the member in it is another.
    #[error("a membership change of member {named} that holds member {held}")]
    OtherMember {
        /// Named in the change.
        named: MemberId,
        /// In its context.
        held: MemberId,
    },
}

/// etcd's JSON of a member in a change.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Context {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", skip_serializing_if = "is_false")]
    is_learner: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", skip_serializing_if = "Option::is_none")]
    client_urls: Option<Vec<String>>,
    #[serde(rename = "isPromote", skip_serializing_if = "is_false")]
    is_promote: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl What {
    /// The member that it is about.
    #[must_use]
    pub fn member(&self) -> MemberId {
        match self {
            What::Add(member) => member.id,
            What::Promote(id) | What::Remove(id) | What::Update(id, _) => *id,
        }
    }

    /// In a word, for log lines.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            What::Add(member) if member.is_learner => "ConfChangeAddLearnerNode",
            What::Add(_) | What::Promote(_) => "ConfChangeAddNode",
            What::Remove(_) => "ConfChangeRemoveNode",
            What::Update(..) => "ConfChangeUpdateNode",
        }
    }

    fn kind(&self) -> ConfChangeType {
        match self {
            What::Add(member) if member.is_learner => ConfChangeType::ConfChangeAddLearnerNode,
            What::Add(_) | What::Promote(_) => ConfChangeType::ConfChangeAddNode,
            What::Remove(_) => ConfChangeType::ConfChangeRemoveNode,
            What::Update(..) => ConfChangeType::ConfChangeUpdateNode,
        }
    }

    fn context(&self) -> Option<Context> {
        match self {
            What::Add(member) => Some(Context {
                id: member.id.0,
                peer_urls: Some(member.peer_urls.clone()),
                is_learner: member.is_learner,
                name: member.name.clone(),
                client_urls: (!member.client_urls.is_empty()).then(|| member.client_urls.clone()),
                is_promote: false,
            }),
            What::Promote(id) => Some(Context {
                id: id.0,
                is_promote: true,
                ..Context::default()
            }),
            What::Remove(_) => None,
            What::Update(id, peer_urls) => Some(Context {
                id: id.0,
                peer_urls: Some(peer_urls.clone()),
                ..Context::default()
            }),
        }
    }
}

impl MemberChange {
    /// The data of an entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let context = self
            .what
            .context()
            .map(|context| serde_json::to_vec(&context).expect("strings, numbers and flags are always JSON"));
        let change = ConfChange {
            id: self.proposal.map_or(0, |proposal| proposal.counter),
            r#type: self.what.kind().into(),
            node_id: self.what.member().0,
            context: context.unwrap_or_default().into(),
            proposal: self.proposal.map(|proposal| proto::etcdserverpb::ProposalId {
                member: proposal.member.0,
                boot: proposal.boot,
                counter: proposal.counter,
            }),
            learners_max: self.learners_max,
        };
        change.encode_to_vec().into()
    }

    /// The change in an entry.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn decode(data: &Bytes) -> Result<Self, ChangeError> {
        let change = ConfChange::decode(data.clone())?;
        let named = MemberId(change.node_id);
        let kind = ConfChangeType::try_from(change.r#type).map_err(|_| ChangeError::Kind(change.r#type))?;
        let what = if kind == ConfChangeType::ConfChangeRemoveNode {
            What::Remove(named)
        } else {
            let context: Context = serde_json::from_slice(&change.context)?;
            let held = MemberId(context.id);
            if held != named {
                return Err(ChangeError::OtherMember { named, held });
            }
            let is_learner = kind == ConfChangeType::ConfChangeAddLearnerNode;
            match kind {
                ConfChangeType::ConfChangeUpdateNode => {
                    What::Update(named, context.peer_urls.unwrap_or_default())
                }
                _ if context.is_promote => What::Promote(named),
                _ => What::Add(Member {
                    id: named,
                    name: context.name,
                    peer_urls: context.peer_urls.unwrap_or_default(),
                    client_urls: context.client_urls.unwrap_or_default(),
                    is_learner,
                }),
            }
        };
        Ok(MemberChange {
            what,
            proposal: change.proposal.map(|proposal| ProposalId {
                member: MemberId(proposal.member),
                boot: proposal.boot,
                counter: proposal.counter,
            }),
            learners_max: change.learners_max,
        })
    }
}

impl Membership {
    /// Makes a change, or refuses it and stays as it is.
    ///
    /// # Errors
    /// `MemberNotFound`, `MemberIdExists`, `PeerUrlExists`, `TooManyLearners`, `MemberNotLearner`; and
    /// `MemberNotEnoughStarted` for the removal of the last voter, of which etcd dies.
    pub fn change(&mut self, change: MemberChange) -> Result<(), RequestError> {
        self.judge(&change)?;
        let done = match change.what {
            What::Add(member) => self.add(member),
            What::Promote(id) => self.promote(id),
            What::Remove(id) => self.remove(id),
            What::Update(id, peer_urls) => self.update(id, peer_urls),
        };
        assert!(done, "a change that was judged right is made");
        self.changed = true;
        Ok(())
    }

    /// In etcd's order of checks.
    fn judge(&self, change: &MemberChange) -> Result<(), RequestError> {
        let id = change.what.member();
        let found = self.get(id);
        if self.is_removed(id) {
            return Err(RequestError::MemberNotFound);
        }
        if let What::Add(member) = &change.what {
            if found.is_some() {
                return Err(RequestError::MemberIdExists);
            }
            self.judge_urls(id, &member.peer_urls)?;
            let learners = self.iter().filter(|member| member.is_learner).count() as u64;
            if member.is_learner && change.learners_max.is_some_and(|max| learners >= max) {
                return Err(RequestError::TooManyLearners);
            }
            return Ok(());
        }
        let found = found.ok_or(RequestError::MemberNotFound)?;
        match &change.what {
            What::Promote(_) if !found.is_learner => Err(RequestError::MemberNotLearner),
            What::Remove(_) if self.voters().all(|voter| voter.id == id) => {
                Err(RequestError::MemberNotEnoughStarted)
            }
            What::Update(_, peer_urls) => self.judge_urls(id, peer_urls),
            What::Add(_) | What::Promote(_) | What::Remove(_) => Ok(()),
        }
    }

    fn judge_urls(&self, of: MemberId, urls: &[String]) -> Result<(), RequestError> {
        let others = self.iter().filter(|member| member.id != of);
        let in_use = |member: &Member| member.peer_urls.iter().any(|url| urls.contains(url));
        if others.into_iter().any(in_use) {
            return Err(RequestError::PeerUrlExists);
        }
        Ok(())
    }

    /// The members that vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| !member.is_learner)
    }

    /// Whether with one voter more, not yet started, those that are would be a quorum. One that is to become two is let
    /// through, as by etcd: there is no other way up.
    #[must_use]
    pub fn ready_to_add_voter(&self) -> bool {
        let (started, voters) = self.started(None);
        (started, voters) == (1, 1) || started > voters.div_ceil(2)
    }

    /// Whether without this voter those that are started would be a quorum.
    #[must_use]
    pub fn ready_to_remove_voter(&self, id: MemberId) -> bool {
        let (started, voters) = self.started(Some(id));
        started > voters / 2
    }

    /// Whether with one voter more, which is taken to be started, those that are would be a quorum.
    #[must_use]
    pub fn ready_to_promote(&self) -> bool {
        let (started, voters) = self.started(None);
        started + 1 > voters.div_ceil(2)
    }

    /// How many voters have started, and how many there are, without one of them.
    fn started(&self, without: Option<MemberId>) -> (usize, usize) {
        let voters = || self.voters().filter(|voter| Some(voter.id) != without);
        let started = voters().filter(|voter| !voter.name.is_empty()).count();
        (started, voters().count())
    }
}

/// The peer URLs of a member to be added, sorted as etcd does; `None` where there are none or one is not of a form that
/// etcd takes: `http(s)://host:port` without a path, `unix(s)://` and anything.
#[must_use]
pub fn checked_peer_urls(urls: &[String]) -> Option<Vec<String>> {
    let mut checked = Vec::with_capacity(urls.len());
    for url in urls {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let right = match scheme.as_str() {
            "http" | "https" => is_host_and_port(rest),
            "unix" | "unixs" => true,
            _ => false,
        };
        if !right {
            return None;
        }
        checked.push(format!("{scheme}://{rest}"));
    }
    checked.sort_unstable();
    (!checked.is_empty()).then_some(checked)
}

/// As Go's: the host may be empty, one with colons stands in brackets, and the port is digits or nothing.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let plain = |text: &str| !text.contains([':', '[', ']']);
    let host_right = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|inside| !inside.contains(['[', ']'])),
        None => plain(host),
    };
    let printable = |c: char| !c.is_whitespace() && !c.is_control() && !"/?#<>\"\\^`{}|".contains(c);
    host_right && host.chars().all(printable) && port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
