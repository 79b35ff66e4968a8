//! Alarms: conditions of members that the whole cluster acts upon. Replicated state; what they forbid is judged in
//! `apply/gate.rs`.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::{AlarmMember, AlarmType};

use crate::types::MemberId;

/// The alarms raised, each by one member and of one type.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Alarms {
    raised: BTreeSet<(AlarmType, MemberId)>,
}

impl Alarms {
    /// None raised.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises an alarm; false where it is raised already, or of type NONE.
    pub fn activate(&mut self, member: MemberId, alarm: AlarmType) -> bool {
        alarm != AlarmType::None && self.raised.insert((alarm, member))
    }

    /// Disarms exactly this alarm; false where it was not raised.
    pub fn deactivate(&mut self, member: MemberId, alarm: AlarmType) -> bool {
        self.raised.remove(&(alarm, member))
    }

    /// Whether any member has raised `alarm`.
    #[must_use]
    pub fn has(&self, alarm: AlarmType) -> bool {
        self.raised.iter().any(|(raised, _)| *raised == alarm)
    }

    /// The alarms of one type, or all for NONE, by type and member.
    #[must_use]
    pub fn list(&self, alarm: AlarmType) -> Vec<AlarmMember> {
        let wanted = self
            .raised
            .iter()
            .filter(|(raised, _)| alarm == AlarmType::None || *raised == alarm);
        wanted.map(|(alarm, member)| entry(*member, *alarm)).collect()
    }

    /// The alarms as a table: member (8 bytes) and type (4 bytes), big-endian, to etcd's message.
    #[must_use]
    pub fn encode(&self) -> Vec<(Bytes, Bytes)> {
        let key = |member: MemberId, alarm: AlarmType| {
            [&member.0.to_be_bytes()[..], &(alarm as i32).to_be_bytes()[..]].concat()
        };
        self.raised
            .iter()
            .map(|(alarm, member)| {
                (
                    key(*member, *alarm).into(),
                    entry(*member, *alarm).encode_to_vec().into(),
                )
            })
            .collect()
    }

    /// The alarms of a table that `encode` made.
    pub fn decode(table: &[(Bytes, Bytes)]) -> Result<Self, prost::DecodeError> {
        let mut alarms = Alarms::new();
        for (_, value) in table {
            let entry = AlarmMember::decode(value.clone())?;
            alarms.activate(MemberId(entry.member_id), entry.alarm());
        }
        Ok(alarms)
    }
}

fn entry(member: MemberId, alarm: AlarmType) -> AlarmMember {
    AlarmMember {
        member_id: member.0,
        alarm: alarm.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_exact_pairs() {
        let mut alarms = Alarms::new();
        assert!(!alarms.activate(MemberId(7), AlarmType::None));
        assert!(alarms.activate(MemberId(7), AlarmType::Nospace));
        assert!(!alarms.activate(MemberId(7), AlarmType::Nospace));
        // Corner 61: no wildcard.
        assert!(!alarms.deactivate(MemberId(0), AlarmType::Nospace));
        assert!(alarms.has(AlarmType::Nospace) && !alarms.has(AlarmType::Corrupt));
        assert_eq!(alarms.list(AlarmType::None).len(), 1);
        assert!(alarms.list(AlarmType::Corrupt).is_empty());
        assert_eq!(Alarms::decode(&alarms.encode()).unwrap(), alarms);
        assert!(alarms.deactivate(MemberId(7), AlarmType::Nospace));
    }
}
