//! The alarms that this member raises and clears by itself.

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest};

use super::Member;

impl Member {
    /// Asks for one of its own alarms to be raised or cleared; false where there is nobody to ask now.
    pub(in crate::shell) fn propose_alarm(&mut self, action: AlarmAction, alarm: AlarmType) -> bool {
        if !self.node.takes_proposals() {
            return false;
        }
        self.propose_own(&InternalRaftRequest {
            alarm: Some(AlarmRequest {
                action: action.into(),
                member_id: self.shared.member.0,
                alarm: alarm.into(),
            }),
            ..Default::default()
        });
        true
    }
}
