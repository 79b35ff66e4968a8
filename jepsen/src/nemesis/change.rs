//! Changes of the membership: an operator who adds voters and learners, promotes, removes, and so replaces. One that
//! knows who the members are, but not how they are: they may be down, cut off, or never have started.

use store::membership::Member;
use store::types::MemberId;

use crate::rng::Rng;

/// What the operator does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A member on a machine that is free.
    Add {
        /// Without a vote.
        learner: bool,
    },
    /// A vote for a learner.
    Promote(MemberId),
    /// One member less.
    Remove(MemberId),
}

/// Something that fits these members, where there are so many machines free.
#[must_use]
pub fn draw(members: &[Member], free: usize, rng: &mut Rng) -> Option<Change> {
    let learners: Vec<MemberId> = ids(members, true);
    let voters = ids(members, false);
    let mut fitting = Vec::new();
    if free > 0 && members.len() < MEMBERS_MAX {
        fitting.push((3, 0));
        fitting.push((2, 1));
    }
    if !learners.is_empty() {
        fitting.push((4, 2));
    }
    if members.len() > 1 {
        fitting.push((3, 3));
    }
    if fitting.is_empty() {
        return None;
    }
    Some(match rng.weighted(&fitting) {
        0 => Change::Add { learner: false },
        1 => Change::Add { learner: true },
        2 => Change::Promote(*rng.pick(&learners)),
        // Now and then the last voter, which must be refused.
        _ if rng.once_in(8) => Change::Remove(*rng.pick(&voters)),
        _ => Change::Remove(members[rng.index(members.len())].id),
    })
}

fn ids(members: &[Member], learners: bool) -> Vec<MemberId> {
    let some = members.iter().filter(|member| member.is_learner == learners);
    some.map(|member| member.id).collect()
}

/// Beyond this many members none is added.
const MEMBERS_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_fit_the_members() {
        let member = |id, is_learner| Member {
            id: MemberId(id),
            is_learner,
            ..Member::default()
        };
        let mut rng = Rng::new(4);
        assert_eq!(draw(&[member(1, false)], 0, &mut rng), None);
        let drawn: Vec<_> = (0..100)
            .map(|_| draw(&[member(1, false), member(2, true)], 1, &mut rng).unwrap())
            .collect();
        assert!(drawn.contains(&Change::Promote(MemberId(2))));
        assert!(!drawn.contains(&Change::Promote(MemberId(1))));
        assert!(drawn.contains(&Change::Remove(MemberId(1))));
        assert!(drawn.contains(&Change::Add { learner: true }));
    }
}
