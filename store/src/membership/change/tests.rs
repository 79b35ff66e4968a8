use proptest::prelude::*;

use super::*;

fn member(id: u64, port: u16, is_learner: bool) -> Member {
    Member {
        id: MemberId(id),
        peer_urls: vec![format!("http://127.0.0.1:{port}")],
        is_learner,
        ..Member::default()
    }
}

fn change(what: What) -> MemberChange {
    MemberChange {
        what,
        proposal: None,
        learners_max: Some(1),
    }
}

/// So many voters, the first `started` of which have.
fn cluster(voters: u16, started: u16) -> Membership {
    let members = (1..=voters).map(|n| Member {
        name: if n <= started {
            format!("m{n}")
        } else {
            String::new()
        },
        ..member(u64::from(n), n, false)
    });
    Membership::bootstrap(members.collect())
}

#[test]
fn an_entry_brings_a_change_back() {
    let proposal = Some(ProposalId {
        member: MemberId(7),
        boot: 8,
        counter: 9,
    });
    let urls = vec!["http://b:1".to_owned(), "http://a:1".to_owned()];
    for what in [
        What::Add(member(u64::MAX, 1, true)),
        What::Add(member(1, 1, false)),
        What::Promote(MemberId(3)),
        What::Remove(MemberId(4)),
        What::Update(MemberId(5), urls),
    ] {
        let change = MemberChange {
            what,
            proposal,
            learners_max: Some(0),
        };
        assert_eq!(MemberChange::decode(&change.encode()).unwrap(), change);
    }
}

#[test]
fn an_entry_is_what_etcd_would_write() {
    let raw = |what| ConfChange::decode(change(what).encode()).unwrap();
    let added = raw(What::Add(member(18, 2380, true)));
    assert_eq!((added.r#type, added.node_id), (3, 18));
    assert_eq!(
        added.context,
        br#"{"id":18,"peerURLs":["http://127.0.0.1:2380"],"isLearner":true}"#.as_slice()
    );
    let promoted = raw(What::Promote(MemberId(18)));
    assert_eq!((promoted.r#type, promoted.node_id), (0, 18));
    assert_eq!(
        promoted.context,
        br#"{"id":18,"peerURLs":null,"isPromote":true}"#.as_slice()
    );
    let removed = raw(What::Remove(MemberId(18)));
    assert_eq!((removed.r#type, removed.context.len()), (1, 0));
    assert_eq!(raw(What::Update(MemberId(18), Vec::new())).r#type, 2);
}

#[test]
fn what_is_no_change_is_refused() {
    let data = |kind, context: &'static [u8]| {
        let change = ConfChange {
            r#type: kind,
            node_id: 5,
            context: Bytes::from_static(context),
            ..ConfChange::default()
        };
        MemberChange::decode(&change.encode_to_vec().into())
    };
    assert!(matches!(data(9, b"{}"), Err(ChangeError::Kind(9))));
    assert!(matches!(data(0, b"{"), Err(ChangeError::Context(_))));
    assert!(matches!(
        data(0, br#"{"id":6}"#),
        Err(ChangeError::OtherMember { .. })
    ));
    let noise = MemberChange::decode(&Bytes::from_static(b"\xff"));
    assert!(matches!(noise, Err(ChangeError::Message(_))));
}

#[test]
fn the_rules_are_those_of_etcd() {
    let mut members = cluster(2, 2);
    let mut make = |what| members.change(change(what));
    assert_eq!(
        make(What::Add(member(1, 9, false))),
        Err(RequestError::MemberIdExists)
    );
    assert_eq!(
        make(What::Add(member(3, 2, false))),
        Err(RequestError::PeerUrlExists)
    );
    assert_eq!(make(What::Add(member(3, 3, true))), Ok(()));
    assert_eq!(
        make(What::Add(member(4, 4, true))),
        Err(RequestError::TooManyLearners)
    );
    assert_eq!(
        make(What::Promote(MemberId(1))),
        Err(RequestError::MemberNotLearner)
    );
    assert_eq!(
        make(What::Promote(MemberId(9))),
        Err(RequestError::MemberNotFound)
    );
    assert_eq!(make(What::Promote(MemberId(3))), Ok(()));
    assert_eq!(
        make(What::Update(MemberId(3), vec!["http://127.0.0.1:1".to_owned()])),
        Err(RequestError::PeerUrlExists)
    );
    assert_eq!(
        make(What::Update(MemberId(3), vec!["http://127.0.0.1:3".to_owned()])),
        Ok(()),
        "its own"
    );
    assert_eq!(
        make(What::Update(MemberId(8), Vec::new())),
        Err(RequestError::MemberNotFound)
    );
    assert_eq!(make(What::Remove(MemberId(3))), Ok(()));
    assert_eq!(make(What::Remove(MemberId(3))), Err(RequestError::MemberNotFound));
    assert_eq!(
        make(What::Add(member(3, 7, false))),
        Err(RequestError::MemberNotFound),
        "a removed id never returns"
    );
    assert_eq!(make(What::Remove(MemberId(2))), Ok(()));
    assert_eq!(
        make(What::Remove(MemberId(1))),
        Err(RequestError::MemberNotEnoughStarted),
        "the last voter stays"
    );
}

#[test]
fn started_voters_must_be_a_quorum() {
    assert!(cluster(1, 1).ready_to_add_voter());
    assert!(!cluster(1, 0).ready_to_add_voter());
    assert!(cluster(2, 2).ready_to_add_voter());
    assert!(!cluster(2, 1).ready_to_add_voter());
    assert!(cluster(3, 3).ready_to_add_voter());
    assert!(cluster(4, 3).ready_to_add_voter());
    assert!(!cluster(5, 3).ready_to_add_voter(), "case 55 of the reference");
    assert!(!cluster(1, 1).ready_to_remove_voter(MemberId(1)));
    assert!(cluster(2, 1).ready_to_remove_voter(MemberId(2)));
    assert!(!cluster(2, 1).ready_to_remove_voter(MemberId(1)));
    assert!(cluster(1, 1).ready_to_promote());
    assert!(!cluster(3, 1).ready_to_promote());
    assert!(cluster(3, 2).ready_to_promote());
}

#[test]
fn peer_urls_are_taken_as_etcd_takes_them() {
    let checked =
        |urls: &[&str]| checked_peer_urls(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>());
    assert_eq!(
        checked(&[" https://b:1", "HTTP://a:2"]).unwrap(),
        ["http://a:2", "https://b:1"]
    );
    for right in [
        "http://:1",
        "http://[::1]:2380",
        "unix://a/b",
        "unixs://x:1",
        "http://a:",
    ] {
        assert!(checked(&[right]).is_some(), "{right}");
    }
    for wrong in [
        "",
        "a:1",
        "ftp://a:1",
        "http://a",
        "http://a:1/",
        "http://::1:1",
        "http://a:x",
        "http://a b:1",
    ] {
        assert!(checked(&[wrong]).is_none(), "{wrong}");
    }
    assert!(checked(&[]).is_none());
}

/// The members by a list that is gone through from the start each time.
#[derive(Default)]
struct Model(Vec<(u64, u16, bool, bool)>);

impl Model {
    fn make(&mut self, what: &What) -> bool {
        let port = |urls: &[String]| urls[0].rsplit(':').next().unwrap().parse::<u16>().unwrap();
        let id = what.member().0;
        let taken = |list: &[(u64, u16, bool, bool)], id: u64, port: u16| {
            list.iter()
                .any(|(other, at, _, gone)| *other != id && *at == port && !gone)
        };
        let place = self.0.iter().position(|(other, ..)| *other == id);
        let there = place.filter(|place| !self.0[*place].3);
        match what {
            What::Add(new) => {
                let port = port(&new.peer_urls);
                let learners = self
                    .0
                    .iter()
                    .filter(|(.., learner, gone)| *learner && !gone)
                    .count();
                let right =
                    place.is_none() && !taken(&self.0, id, port) && !(new.is_learner && learners >= 1);
                if right {
                    self.0.push((id, port, new.is_learner, false));
                }
                right
            }
            What::Promote(_) => there.is_some_and(|place| std::mem::take(&mut self.0[place].2)),
            What::Remove(_) => {
                let voters = self
                    .0
                    .iter()
                    .filter(|(.., learner, gone)| !learner && !gone)
                    .count();
                let right = there.filter(|place| self.0[*place].2 || voters > 1);
                right.is_some_and(|place| !std::mem::replace(&mut self.0[place].3, true))
            }
            What::Update(_, urls) => {
                let port = port(urls);
                let right = there.filter(|_| !taken(&self.0, id, port));
                right.is_some_and(|place| {
                    self.0[place].1 = port;
                    true
                })
            }
        }
    }
}

fn what() -> impl Strategy<Value = What> {
    let id = 1..8u64;
    prop_oneof![
        (id.clone(), 1..10u16, any::<bool>())
            .prop_map(|(id, port, learner)| What::Add(member(id, port, learner))),
        id.clone().prop_map(|id| What::Promote(MemberId(id))),
        id.clone().prop_map(|id| What::Remove(MemberId(id))),
        (id, 1..10u16).prop_map(|(id, port)| What::Update(MemberId(id), member(id, port, false).peer_urls)),
    ]
}

proptest! {
    #[test]
    fn random_changes_equal_the_model(changes in proptest::collection::vec(what(), 0..60)) {
        let mut members = cluster(1, 1);
        let mut model = Model(vec![(1, 1, false, false)]);
        for what in changes {
            let made = members.change(change(what.clone()));
            prop_assert_eq!(made.is_ok(), model.make(&what), "{:?}: {:?}", what, made);
            let mut expected: Vec<_> = model.0.iter().filter(|(.., gone)| !gone).collect();
            expected.sort_unstable();
            let found: Vec<_> = members.iter().map(|m| (m.id.0, m.peer_urls.clone(), m.is_learner)).collect();
            let expected: Vec<_> = expected.iter().map(|(id, port, learner, _)| {
                (*id, vec![format!("http://127.0.0.1:{port}")], *learner)
            }).collect();
            prop_assert_eq!(found, expected);
            prop_assert!(members.voters().count() >= 1);
            prop_assert_eq!(&Membership::decode(&members.encode()).unwrap(), &members);
        }
    }
}
