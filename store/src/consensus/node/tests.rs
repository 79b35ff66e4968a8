use super::*;
use crate::consensus::Snapshot;
use crate::consensus::TailLimits;

const LIMITS: TailLimits = TailLimits {
    entries_max: 100,
    bytes_max: 1 << 20,
    held_bytes_max: 4 << 20,
};

fn node(tail: Tail, applied: u64) -> Node {
    let config = NodeConfig {
        member: MemberId(1),
        applied: Index(applied),
        election_ticks: 10,
        heartbeat_ticks: 1,
        seed: 7,
        boot: 1,
        recovering: false,
        uncommitted_bytes_max: 1 << 20,
        message_bytes_max: 1 << 20,
    };
    Node::new(config, tail)
}

fn fresh() -> Node {
    node(Tail::new(Index(0), Term(0), &[MemberId(1)], &[], LIMITS), 0)
}

fn ready(node: &mut Node) -> Vec<Effect> {
    let mut effects = Vec::new();
    node.ready(&mut effects);
    effects
}

fn last_append(effects: &[Effect]) -> u64 {
    effects
        .iter()
        .rev()
        .find_map(|effect| match effect {
            Effect::Append(append) => Some(append.number),
            _ => None,
        })
        .expect("an append")
}

fn committed(effects: &[Effect]) -> Vec<(u64, Bytes)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Commit(entries) => Some(entries.iter().map(|entry| (entry.index.0, entry.data.clone()))),
            _ => None,
        })
        .flatten()
        .collect()
}

/// A leader of term 1 whose first entry is applied.
fn leader() -> Node {
    let mut node = fresh();
    node.step(Input::Campaign);
    let effects = ready(&mut node);
    node.step(Input::Persisted(last_append(&effects)));
    assert_eq!(committed(&ready(&mut node)), [(1, Bytes::new())]);
    node.step(Input::Applied(Index(1)));
    node
}

#[test]
fn nothing_commits_before_it_is_durable() {
    let mut node = leader();
    node.propose(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")])
        .unwrap();
    let first = ready(&mut node);
    assert!(committed(&first).is_empty());
    node.propose(vec![Bytes::from_static(b"c")]).unwrap();
    let second = ready(&mut node);
    node.step(Input::Persisted(last_append(&first)));
    let effects = ready(&mut node);
    assert_eq!(
        committed(&effects),
        [(2, Bytes::from_static(b"a")), (3, Bytes::from_static(b"b"))]
    );
    node.step(Input::Applied(Index(3)));
    node.step(Input::Persisted(last_append(&second)));
    assert_eq!(committed(&ready(&mut node)), [(4, Bytes::from_static(b"c"))]);
}

#[test]
fn a_read_index_covers_what_was_committed_and_waits_for_nothing_else() {
    let mut node = leader();
    node.propose(vec![Bytes::from_static(b"not yet durable")])
        .unwrap();
    ready(&mut node);
    node.step(Input::ReadIndex(42));
    let effects = ready(&mut node);
    assert!(
        matches!(
            effects[..],
            [Effect::ReadIndex {
                context: 42,
                index: Index(1)
            }]
        ),
        "{effects:?}"
    );
}

#[test]
fn a_read_index_before_the_terms_first_commit_is_not_answered() {
    let mut node = fresh();
    node.step(Input::Campaign);
    let effects = ready(&mut node);
    node.step(Input::ReadIndex(1));
    assert!(
        !ready(&mut node)
            .iter()
            .any(|effect| matches!(effect, Effect::ReadIndex { .. }))
    );
    node.step(Input::Persisted(last_append(&effects)));
    ready(&mut node);
    node.step(Input::ReadIndex(2));
    assert!(
        ready(&mut node)
            .iter()
            .any(|effect| matches!(effect, Effect::ReadIndex { context: 2, .. }))
    );
}

#[test]
fn a_proposal_without_a_leader_is_dropped_and_so_is_one_beyond_the_limit() {
    assert_eq!(
        fresh().propose(vec![Bytes::from_static(b"a")]),
        Err(ProposalDropped)
    );
    let mut node = leader();
    node.propose(vec![Bytes::from(vec![0; 1 << 20])]).unwrap();
    assert_eq!(
        node.propose(vec![Bytes::from(vec![0; 1 << 20])]),
        Err(ProposalDropped)
    );
}

#[test]
fn a_restart_goes_on_with_the_log_it_had() {
    let mut node = leader();
    node.propose(vec![Bytes::from_static(b"a")]).unwrap();
    let effects = ready(&mut node);
    let Some(Effect::Append(append)) = effects.into_iter().next() else {
        panic!("an append comes first")
    };
    let mut tail = Tail::new(Index(1), Term(1), &[MemberId(1)], &[], LIMITS);
    tail.restore(append.entries, append.state.unwrap(), Index(1));
    let mut node = self::node(tail, 1);
    node.step(Input::Campaign);
    let effects = ready(&mut node);
    node.step(Input::Persisted(last_append(&effects)));
    let entries = committed(&ready(&mut node));
    assert_eq!(entries, [(2, Bytes::from_static(b"a")), (3, Bytes::new())]);
    assert_eq!(
        node.role(),
        Role {
            term: Term(2),
            leader: MemberId(1),
            is_leader: true
        }
    );
}

#[test]
fn the_election_timeout_depends_on_the_seed_alone() {
    let timeouts = |seed: u64| {
        let mut node = fresh();
        node.config.seed = seed;
        (0..50)
            .map(|_| {
                node.step(Input::Tick);
                ready(&mut node);
                node.raw.raft.randomized_election_timeout()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(timeouts(1), timeouts(1));
    assert_ne!(timeouts(1), timeouts(2));
}

/// Every process counts its rounds from 1, so the answer to one of a process before a restart has a number that the
/// present one asks under too; what was acknowledged in between is not behind it.
#[test]
fn the_answer_to_a_round_before_a_restart_confirms_nothing() {
    let voters = [MemberId(1), MemberId(2)];
    let mut node = node(Tail::new(Index(0), Term(0), &voters, &[], LIMITS), 0);
    let mut answer = |boot: u64| {
        let context: Vec<u8> = [1, boot, 1].into_iter().flat_map(u64::to_be_bytes).collect();
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgReadIndexResp);
        (message.from, message.to, message.term, message.index) = (2, 1, 1, 7);
        message.set_entries(
            vec![raft::eraftpb::Entry {
                data: context.into(),
                ..Default::default()
            }]
            .into(),
        );
        node.step(Input::Message(super::wire::from_raft(message)));
        let effects = ready(&mut node);
        effects.iter().any(|effect| {
            matches!(
                effect,
                Effect::ReadIndex {
                    context: 1,
                    index: Index(7)
                }
            )
        })
    };
    assert!(!answer(2), "of another process");
    assert!(answer(1), "of this one");
}

fn three() -> Node {
    let voters = [MemberId(1), MemberId(2), MemberId(3)];
    node(Tail::new(Index(0), Term(0), &voters, &[], LIMITS), 0)
}

#[test]
fn no_campaign_while_a_snapshot_is_not_yet_in_place() {
    let mut node = three();
    node.step(Input::Snapshot(Snapshot {
        from: MemberId(2),
        leader_term: Term(3),
        index: Index(100),
        term: Term(3),
        voters: vec![MemberId(1), MemberId(2), MemberId(3)],
        learners: Vec::new(),
    }));
    assert!(
        ready(&mut node)
            .iter()
            .any(|e| matches!(e, Effect::Install { .. }))
    );
    for _ in 0..40 {
        node.step(Input::Tick);
        ready(&mut node);
    }
}
