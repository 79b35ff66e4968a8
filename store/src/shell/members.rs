//! The handle's calls about the members of the cluster.

use std::sync::atomic::Ordering;

use proto::etcdserverpb::{
    self, MemberAddResponse, MemberListResponse, MemberPromoteResponse, MemberRemoveResponse,
    MemberUpdateResponse,
};

use super::command::Command;
use super::handle::{Permit, Store, unexpected};
use crate::apply::{Request, Response};
use crate::error::{Error, RequestError, Unavailable};
use crate::membership::{Member, What, checked_peer_urls, member_id};
use crate::types::MemberId;

impl Store {
    /// The members of the cluster, sorted by id; the header carries no revision.
    ///
    /// # Errors
    /// Those of a linearizable read, where asked for.
    pub async fn member_list(&self, linearizable: bool) -> Result<MemberListResponse, Error> {
        if linearizable {
            self.read_index().await?;
        }
        self.permit(Request::MemberList)?;
        let members = self
            .shared
            .state
            .read()
            .membership
            .iter()
            .map(Member::to_proto)
            .collect();
        Ok(MemberListResponse {
            header: Some(self.shared.header(0)),
            members,
        })
    }

    /// Adds a member, which may then be started with `ClusterState::Existing`. Its id is made of its peer URLs and the
    /// time. Answered once the change is applied here.
    ///
    /// # Errors
    /// `MemberBadUrls`, `MemberNotEnoughStarted`, `ClusterUnhealthy`, `MemberIdExists`, `PeerUrlExists`,
    /// `TooManyLearners`; [`Unavailable`] where it is unknown whether it was added.
    pub async fn member_add(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<MemberAddResponse, Error> {
        let peer_urls = checked_peer_urls(&peer_urls).ok_or(RequestError::MemberBadUrls)?;
        let seconds = self.shared.clock.unix_ms() / 1000;
        let member = Member {
            id: member_id(&peer_urls, &seconds.to_string()),
            peer_urls,
            is_learner,
            ..Member::default()
        };
        let added = member.to_proto();
        let members = self.change(What::Add(member)).await?;
        Ok(MemberAddResponse {
            header: Some(self.shared.header(0)),
            member: Some(added),
            members,
        })
    }

    /// Removes a member for good: its id never returns. It stops by itself once it knows; a leader hands over first.
    ///
    /// # Errors
    /// `MemberNotFound`, `MemberNotEnoughStarted`, `ClusterUnhealthy`; [`Unavailable`] where it is unknown whether it was
    /// removed.
    pub async fn member_remove(&self, id: MemberId) -> Result<MemberRemoveResponse, Error> {
        let members = self.change(What::Remove(id)).await?;
        Ok(MemberRemoveResponse {
            header: Some(self.shared.header(0)),
            members,
        })
    }

    /// Gives a member other peer URLs.
    ///
    /// # Errors
    /// `MemberNotFound`, `PeerUrlExists`; [`Unavailable`] where it is unknown whether it has them.
    pub async fn member_update(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
    ) -> Result<MemberUpdateResponse, Error> {
        let members = self.change(What::Update(id, peer_urls)).await?;
        Ok(MemberUpdateResponse {
            header: Some(self.shared.header(0)),
            members,
        })
    }

    /// Makes a voter of a learner that has caught up. Only the leader can tell whether it has.
    ///
    /// # Errors
    /// `NotLeader` (ask the leader), `MemberNotFound`, `LearnerNotReady`, `MemberNotLearner`, `MemberNotEnoughStarted`;
    /// [`Unavailable`] where it is unknown whether it was promoted.
    pub async fn member_promote(&self, id: MemberId) -> Result<MemberPromoteResponse, Error> {
        let members = self.change(What::Promote(id)).await?;
        Ok(MemberPromoteResponse {
            header: Some(self.shared.header(0)),
            members,
        })
    }

    /// Waits until this member knows that it was removed from the cluster for good, and others know it too. It takes part
    /// in nothing then, and the process should end; its data are of no use any more. Started again on them, it comes to
    /// this point again, within seconds.
    pub async fn removed(&self) {
        let mut removed = self.shared.removed.subscribe();
        if removed.wait_for(|removed| *removed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether a member was removed from the cluster for good, as far as this one knows.
    #[must_use]
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.shared.state.read().membership.is_removed(id)
    }

    /// Whether this member is a learner. Asks nobody and waits for nothing.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.shared.published.is_learner.load(Ordering::Relaxed)
    }

    /// A peer refuses this member as one that was removed.
    pub fn learn_removed(&self) {
        self.shared.learn_removed();
    }

    /// Replicates a change, and waits for it to be applied here. Returns the members after it.
    async fn change(&self, what: What) -> Result<Vec<etcdserverpb::Member>, Error> {
        self.permit(Request::MemberChange)?;
        let shared = &self.shared;
        if shared.stopping.load(Ordering::Relaxed) {
            return Err(Unavailable::Stopped.into());
        }
        let counter = shared.counter.fetch_add(1, Ordering::Relaxed);
        let _permit = Permit::take(shared, 0)?;
        let answered = self.ask(|answer| Command::Change {
            what,
            counter,
            answer,
        });
        match answered.await?.response {
            Response::Members(members) => Ok(members.iter().map(Member::to_proto).collect()),
            other => unexpected(&other),
        }
    }
}
