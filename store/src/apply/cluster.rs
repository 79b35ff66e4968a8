//! Alarms, membership changes, what members publish of themselves, and the cluster's version.

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, ClusterMemberAttrSetRequest,
    ClusterVersionSetRequest,
};

use super::{Applied, Changed, CommittedEntry, Outcome, Response, State};
use crate::error::RequestError;
use crate::membership::{MemberChange, What};
use crate::types::MemberId;

impl State {
    /// Lists, raises or disarms; the answer lists what the action found or changed. A type outside the enum, which
    /// a newer client may know, is one that nobody has raised.
    pub(super) fn alarm(&mut self, request: AlarmRequest) -> Result<Outcome, RequestError> {
        let unknown = |_| RequestError::UnknownAlarmAction {
            action: request.action,
        };
        let action = AlarmAction::try_from(request.action).map_err(unknown)?;
        let member = MemberId(request.member_id);
        let only = |changed: bool| {
            let entry = AlarmMember {
                member_id: request.member_id,
                alarm: request.alarm,
            };
            if changed { vec![entry] } else { Vec::new() }
        };
        let alarms = match (action, AlarmType::try_from(request.alarm)) {
            (_, Err(_)) => Vec::new(),
            (AlarmAction::Get, Ok(alarm)) => self.alarms.list(alarm),
            // What it says of space is of no concern any more, and nobody would take it back.
            (AlarmAction::Activate, Ok(AlarmType::Nospace)) if self.membership.is_removed(member) => {
                Vec::new()
            }
            (AlarmAction::Activate, Ok(alarm)) => {
                // An alarm that is raised already is listed as well: whoever raises it learns that it stands.
                self.alarms.activate(member, alarm);
                only(alarm != AlarmType::None)
            }
            (AlarmAction::Deactivate, Ok(alarm)) => only(self.alarms.deactivate(member, alarm)),
        };
        Ok(Outcome::of(Response::Alarm(AlarmResponse {
            header: self.header(),
            alarms,
        })))
    }

    /// No gate stands before it: what an alarm stops is the growth of the data.
    pub(super) fn change_members(&mut self, entry: &CommittedEntry) -> Applied {
        let change = MemberChange::decode(&entry.data)
            .unwrap_or_else(|error| panic!("entry {} cannot be read: {error}", entry.index));
        let (proposal, what) = (change.proposal, change.what.clone());
        let made = self.membership.change(change);
        if let (What::Remove(id), Ok(())) = (&what, &made) {
            // Its disk is not one of the cluster's any more. (In etcd its alarm stands until an operator clears it.)
            self.alarms.deactivate(*id, AlarmType::Nospace);
        }
        let outcome = made.as_ref().map_err(Clone::clone).map(|()| {
            let members = self.membership.iter().cloned().collect();
            Outcome::of(Response::Members(members))
        });
        Applied {
            change: Some(made.map_or(Changed::Refused, |()| Changed::Made(what))),
            ..Applied::new(entry.index, (proposal, None), outcome)
        }
    }

    pub(super) fn cluster_version_set(&mut self, request: ClusterVersionSetRequest) -> Outcome {
        self.membership.set_cluster_version(request.ver);
        Outcome::nothing()
    }

    /// A member that is not, or no longer, one publishes in vain.
    pub(super) fn cluster_member_attr_set(&mut self, request: ClusterMemberAttrSetRequest) -> Outcome {
        let attributes = request.member_attributes.unwrap_or_default();
        let id = MemberId(request.member_id);
        self.membership
            .publish(id, attributes.name, attributes.client_urls);
        Outcome::nothing()
    }
}
