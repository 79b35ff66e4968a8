//! A snapshot file on its way between two members: over a network that loses, repeats and reorders, to a receiver that
//! dies in the midst of it, from senders that give way to others.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::one::{One, TICK, content};
use crate::env::Disk;
use crate::env::fake::SeededEntropy;
use crate::shell::transfers::{
    Action, CHUNK_BYTES_MAX, Decision, Part, Received, SnapshotMessage, Transfers, WINDOW_BYTES_MAX, Wish,
    Work,
};
use crate::types::{Index, MemberId, Term};
use crate::wal::snapshot::{keep_part, list, path};

const LEADER: MemberId = MemberId(11);
const FOLLOWER: MemberId = MemberId(22);

/// One end of transfers.
struct End {
    id: MemberId,
    one: One,
    transfers: Transfers,
    /// Work handed out and not yet done.
    work: VecDeque<Work>,
    wants_file: bool,
    received: VecDeque<Box<Received>>,
    outcomes: Vec<bool>,
}

impl End {
    fn new(id: MemberId, one: One) -> End {
        let transfers = transfers(&one);
        End {
            id,
            one,
            transfers,
            work: VecDeque::new(),
            wants_file: false,
            received: VecDeque::new(),
            outcomes: Vec::new(),
        }
    }

    fn work_one(&mut self) {
        if let Some(work) = self.work.pop_front() {
            let done = work.run();
            self.transfers.event(done, self.one.now());
        }
    }

    fn snap(&self) -> PathBuf {
        self.one.member.place.folders.snap.clone()
    }

    fn files(&self) -> Vec<Index> {
        list(&self.one.disk, &self.snap()).unwrap()
    }

    fn parts(&self) -> usize {
        let names = self.one.disk.list(&self.snap()).unwrap();
        names
            .iter()
            .filter(|name| name.extension().is_some_and(|kind| kind == "part"))
            .count()
    }

    /// The process dies and starts again on the same disk; its work is lost.
    fn restart(&mut self) {
        self.work.clear();
        self.received.clear();
        self.transfers = transfers(&self.one);
    }

    /// Bytes of the part of a snapshot.
    fn part_bytes(&self) -> usize {
        let (disk, snap) = (&self.one.disk, self.snap());
        let names = disk.list(&snap).unwrap();
        let of = |name: &PathBuf| disk.contents(&snap.join(name)).unwrap().len();
        let mut parts = names
            .iter()
            .filter(|name| name.extension().is_some_and(|kind| kind == "part"));
        parts.next().map_or(0, of)
    }
}

fn transfers(one: &One) -> Transfers {
    let snap = one.member.place.folders.snap.clone();
    let disk: Arc<dyn Disk> = Arc::new(one.disk.clone());
    let applied = one.member.shared.state.read().applied();
    let left = keep_part(disk.as_ref(), &snap, |part| part.index > applied).unwrap();
    Transfers::new(Arc::clone(&one.member.shared), disk, snap, left)
}

/// Two ends and what is between them.
struct Link {
    leader: End,
    follower: End,
    network: Vec<(MemberId, MemberId, SnapshotMessage)>,
    entropy: SeededEntropy,
    /// Messages lost, and repeated, of a hundred.
    lost: u64,
    repeated: u64,
    reorders: bool,
    sent_bytes: usize,
}

impl Link {
    /// A leader with much to send, and a follower that has nothing of it.
    fn new(seed: u64, chunks: usize) -> Link {
        let mut leader = One::grown(chunks, CHUNK_BYTES_MAX);
        leader.snapshot();
        Link {
            leader: End::new(LEADER, leader),
            follower: End::new(FOLLOWER, One::new()),
            network: Vec::new(),
            entropy: SeededEntropy::new(seed),
            lost: 0,
            repeated: 0,
            reorders: false,
            sent_bytes: 0,
        }
    }

    fn wish(&mut self, leader_term: u64) {
        let wish = Wish {
            to: FOLLOWER,
            least: Index(1),
            leader_term: Term(leader_term),
            incarnation: 5,
        };
        self.leader.transfers.wanted(wish, self.leader.one.now());
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for end in [&mut self.leader, &mut self.follower] {
            for action in end.transfers.take_actions() {
                match action {
                    Action::Send { to, message } => {
                        if let Some(Part::Chunk(chunk)) = &message.part {
                            self.sent_bytes += chunk.data.len();
                            assert!(chunk.data.len() <= CHUNK_BYTES_MAX);
                        }
                        if self.entropy.chance(self.lost) {
                            continue;
                        }
                        if self.entropy.chance(self.repeated) {
                            self.network.push((end.id, to, message.clone()));
                        }
                        self.network.push((end.id, to, message));
                    }
                    Action::Work(work) => end.work.push_back(work),
                    Action::WantSnapshotFile => end.wants_file = true,
                    Action::Received(received) => end.received.push_back(received),
                    Action::Outcome { delivered, .. } => end.outcomes.push(delivered),
                }
            }
        }
    }

    fn deliver_one(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = if self.reorders {
            self.entropy.below(self.network.len() as u64) as usize
        } else {
            0
        };
        let (from, to, message) = self.network.remove(at);
        let end = if to == LEADER {
            &mut self.leader
        } else {
            &mut self.follower
        };
        end.transfers.message(from, message, end.one.now());
    }

    /// Something happens, as the seed has it.
    fn step(&mut self) {
        match self.entropy.below(100) {
            0..45 => self.deliver_one(),
            45..70 => self.leader.work_one(),
            70..95 => self.follower.work_one(),
            _ => self.tick(),
        }
        self.carry_out();
    }

    fn tick(&mut self) {
        for end in [&mut self.leader, &mut self.follower] {
            end.one.clock.advance(TICK);
            end.transfers.tick(Index(1), end.one.now());
        }
    }

    /// Lets everything happen that needs no time.
    fn settle(&mut self) {
        while !self.network.is_empty() || !self.leader.work.is_empty() || !self.follower.work.is_empty() {
            self.deliver_one();
            self.leader.work_one();
            self.follower.work_one();
            self.carry_out();
        }
    }

    fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / TICK.as_millis() {
            self.tick();
            self.carry_out();
            self.settle();
        }
    }

    fn decide(&mut self, decision: Decision) {
        let received = self
            .follower
            .received
            .pop_front()
            .expect("a snapshot that has arrived");
        let now = self.follower.one.now();
        self.follower
            .transfers
            .decided(received.from, received.transfer, decision, now);
        self.carry_out();
    }

    fn file_bytes(&self) -> usize {
        let index = *self.leader.files().last().unwrap();
        let file = path(&self.leader.snap(), index);
        self.leader.one.disk.contents(&file).unwrap().len()
    }

    /// What has arrived is what was sent.
    fn check_received(&self) {
        let received = self
            .follower
            .received
            .front()
            .expect("a snapshot that has arrived");
        let index = *self.leader.files().last().unwrap();
        assert_eq!(
            (received.from, received.index, received.incarnation),
            (LEADER, index, 5)
        );
        let (disk, snap) = (&self.follower.one.disk, self.follower.snap());
        let sent = self.leader.one.disk.contents(&path(&self.leader.snap(), index));
        assert_eq!(disk.contents(&path(&snap, index)), sent, "the same file");
        let state = self.leader.one.member.shared.state.read();
        assert_eq!(received.term, state.term());
        assert_eq!(content(&received.state), content(&state));
        assert_eq!(received.state.applied(), index);
        assert_eq!(self.follower.parts(), 0);
    }

    fn in_flight(&self) -> (u64, u64, u64) {
        let sum = |transfers: &crate::shell::metrics::Transferred| {
            transfers
                .values()
                .iter()
                .map(|(_, values)| values.in_flight)
                .sum()
        };
        let (leader, follower) = (&self.leader.one.member.shared, &self.follower.one.member.shared);
        (
            sum(&leader.published.snapshots_sent),
            sum(&follower.published.snapshots_received),
            follower.published.snapshots_applying.load(Ordering::Relaxed),
        )
    }
}

#[test]
fn a_snapshot_arrives_as_it_was_sent() {
    let mut link = Link::new(1, 20);
    link.wish(3);
    assert_eq!(link.leader.transfers.lowest_index(), None, "nothing is sent yet");
    link.settle();
    assert_eq!(
        link.leader.transfers.lowest_index(),
        link.leader.files().last().copied()
    );
    link.check_received();
    assert_eq!(
        link.sent_bytes,
        link.file_bytes(),
        "nothing is sent twice where nothing is lost"
    );
    assert_eq!(link.in_flight(), (1, 0, 1));
    // However long the decision takes, nobody gives up.
    link.pass(Duration::from_secs(40));
    assert!(link.leader.outcomes.is_empty());
    link.decide(Decision::Installed);
    link.settle();
    assert_eq!(link.leader.outcomes, [true]);
    assert_eq!(link.in_flight(), (0, 0, 0));
    let (sent, received) = (
        link.leader.one.store().metrics().snapshot_sends,
        link.follower.one.store().metrics().snapshot_receives,
    );
    let ((to, sent), (from, received)) = (&sent[0], &received[0]);
    assert_eq!((*from, *to), (LEADER, FOLLOWER));
    assert_eq!((sent.successes, sent.failures, received.successes), (1, 0, 1));
    assert_eq!(sent.took.count(), 1);
}

#[test]
fn a_network_that_loses_repeats_and_reorders_only_delays_it() {
    let mut resent = 0;
    for seed in 0..12 {
        let mut link = Link::new(seed, 12);
        (link.lost, link.repeated, link.reorders) = (20, 10, seed % 2 == 0);
        link.wish(3);
        let mut steps = 0;
        while link.follower.received.is_empty() {
            link.step();
            steps += 1;
            assert!(steps < 100_000, "seed {seed}: it never arrives");
        }
        link.check_received();
        link.decide(Decision::Refused);
        while link.leader.outcomes.is_empty() {
            link.step();
            steps += 1;
            assert!(steps < 100_000, "seed {seed}: the sender never hears of it");
        }
        assert_eq!(
            link.leader.outcomes,
            [true],
            "a receiver that needs none has what it needs"
        );
        assert!(link.follower.received.is_empty(), "it arrives once");
        resent += link.sent_bytes - link.file_bytes();
    }
    assert!(resent > 0, "something was lost");
}

/// Lets the snapshot arrive.
fn finish(link: &mut Link) {
    link.settle();
    for _ in 0..100 {
        if !link.follower.received.is_empty() {
            return;
        }
        link.pass(TICK);
    }
    panic!("it never arrives");
}

#[test]
fn a_receiver_that_dies_goes_on_where_it_broke_off() {
    let mut kept = 0;
    for seed in 0..10 {
        let mut link = Link::new(seed, 24);
        link.wish(3);
        for _ in 0..(40 + 20 * seed) {
            link.step();
        }
        let (sent, part) = (link.sent_bytes, link.follower.part_bytes());
        link.follower.restart();
        assert!(link.follower.parts() <= 1);
        finish(&mut link);
        link.check_received();
        let again = link.sent_bytes - sent;
        // What was under way, and a frame cut short, is sent twice.
        let bound = link.file_bytes() - part + 2 * WINDOW_BYTES_MAX as usize;
        assert!(
            again <= bound,
            "seed {seed}: {again} bytes sent again, with {part} there"
        );
        kept += part;
    }
    assert!(
        kept > 10 * CHUNK_BYTES_MAX,
        "there was something to go on from: {kept}"
    );
}

/// What is sent from the beginning on, before the receiver can say how far it is.
const OVERLAP: usize = WINDOW_BYTES_MAX as usize + 2 * CHUNK_BYTES_MAX;

#[test]
fn a_sender_that_dies_goes_on_where_it_broke_off() {
    let mut link = Link::new(11, 40);
    link.wish(3);
    while link.follower.part_bytes() < 20 * CHUNK_BYTES_MAX {
        link.step();
    }
    link.network.clear();
    link.leader.restart();
    let (sent, part) = (link.sent_bytes, link.follower.part_bytes());
    link.wish(5);
    finish(&mut link);
    link.check_received();
    assert!(link.sent_bytes - sent <= link.file_bytes() - part + OVERLAP);
    assert_eq!(link.in_flight().1, 0);
}

/// The file is another one: nothing of the part is used, and it does not stay.
#[test]
fn another_file_begins_anew() {
    let mut link = Link::new(12, 24);
    link.wish(3);
    while link.follower.part_bytes() < 10 * CHUNK_BYTES_MAX {
        link.step();
    }
    link.network.clear();
    link.leader.one.grow(24..26, CHUNK_BYTES_MAX);
    let newest = link.leader.one.snapshot();
    link.leader.restart();
    let sent = link.sent_bytes;
    link.wish(4);
    finish(&mut link);
    assert_eq!(link.follower.received.front().unwrap().index, newest);
    link.check_received();
    assert_eq!(link.sent_bytes - sent, link.file_bytes(), "all of it is sent");
}

/// A disk that has damaged the part meanwhile costs what comes after the damage.
#[test]
fn a_damaged_part_is_used_up_to_the_damage() {
    let mut link = Link::new(13, 40);
    link.wish(3);
    while link.follower.part_bytes() < 24 * CHUNK_BYTES_MAX {
        link.step();
    }
    link.network.clear();
    let (disk, snap) = (link.follower.one.disk.clone(), link.follower.snap());
    let names = disk.list(&snap).unwrap();
    let part = names
        .iter()
        .find(|name| name.extension().is_some_and(|kind| kind == "part"));
    let damaged = 20 * CHUNK_BYTES_MAX;
    assert!(disk.damage(&snap.join(part.unwrap()), damaged as u64, 1));
    link.follower.restart();
    let sent = link.sent_bytes;
    finish(&mut link);
    link.check_received();
    let again = link.sent_bytes - sent;
    let rest = link.file_bytes() - damaged;
    assert!(
        again >= rest && again <= rest + 2 * OVERLAP,
        "{again} bytes sent again, {rest} after the damage"
    );
}

#[test]
fn what_nobody_sends_the_rest_of_is_removed() {
    let mut link = Link::new(14, 24);
    link.wish(3);
    while link.follower.part_bytes() < 10 * CHUNK_BYTES_MAX {
        link.step();
    }
    link.leader.transfers.stop_sending();
    link.network.clear();
    link.follower.restart();
    link.pass(Duration::from_secs(120));
    assert_eq!(link.follower.parts(), 1, "somebody may");
    // The log has brought the follower further than the snapshot would.
    let published = &link.follower.one.member.shared.published;
    let index = link.leader.files().last().unwrap().0;
    let applied = published.applied.swap(index, Ordering::Relaxed);
    link.pass(Duration::from_secs(1));
    assert_eq!(link.follower.parts(), 0);
    link.follower
        .one
        .member
        .shared
        .published
        .applied
        .store(applied, Ordering::Relaxed);
    link.wish(5);
    finish(&mut link);
    link.check_received();
}

#[test]
fn the_newest_leader_counts() {
    let mut link = Link::new(4, 24);
    link.wish(3);
    for _ in 0..60 {
        link.step();
    }
    link.network.clear();
    assert_eq!(link.follower.parts(), 1, "half of it is there");
    let (sent, part) = (link.sent_bytes, link.follower.part_bytes());
    // The leader of a later term sends the same file.
    link.wish(4);
    link.settle();
    link.check_received();
    assert!(part > 0 && link.sent_bytes - sent <= link.file_bytes() - part + OVERLAP);
    assert_eq!(link.follower.received.len(), 1);
    assert_eq!(link.follower.received.front().unwrap().leader_term, Term(4));
    // What comes late from the first one changes nothing.
    let mut late = Link::new(5, 24);
    late.wish(3);
    late.leader.work_one();
    late.carry_out();
    late.leader.work_one();
    late.carry_out();
    assert!(!late.network.is_empty());
    link.network.append(&mut late.network);
    link.settle();
    link.check_received();
    assert!(
        link.leader.outcomes.is_empty(),
        "the later transfer is still to be decided on"
    );
}

#[test]
fn silence_ends_a_transfer_at_both_ends() {
    let mut link = Link::new(6, 24);
    link.wish(3);
    for _ in 0..60 {
        link.step();
    }
    assert_eq!(link.follower.parts(), 1);
    link.lost = 100;
    link.network.clear();
    let sent = link.sent_bytes;
    link.pass(Duration::from_secs(31));
    assert_eq!(link.leader.outcomes, [false]);
    assert!(
        link.sent_bytes - sent < 40 * CHUNK_BYTES_MAX,
        "into a silence only one chunk a second is sent"
    );
    assert_eq!(link.follower.parts(), 1, "the receiver still hopes");
    link.pass(Duration::from_secs(40));
    assert_eq!(link.in_flight(), (0, 0, 0));
    // Once the network is back it goes on, after a rest.
    let (sent, part) = (link.sent_bytes, link.follower.part_bytes());
    link.lost = 0;
    link.wish(3);
    link.settle();
    link.pass(Duration::from_secs(6));
    link.check_received();
    assert!(part > 0 && link.sent_bytes - sent <= link.file_bytes() - part + OVERLAP);
}

#[test]
fn a_full_disk_is_told_and_not_tried_all_the_time() {
    let mut link = Link::new(7, 12);
    let disk = link.follower.one.disk.clone();
    disk.set_capacity(Some(disk.used_bytes() + (1 << 20)));
    link.wish(3);
    link.settle();
    assert_eq!(link.leader.outcomes, [false]);
    assert_eq!(link.follower.parts(), 0, "the space is given back");
    let sent = link.sent_bytes;
    link.wish(3);
    link.settle();
    assert_eq!(link.sent_bytes, sent, "after a failure the sender rests");
    disk.set_capacity(None);
    link.pass(Duration::from_secs(6));
    link.check_received();
}

/// Damages a piece on its way, with or without its checksum telling.
fn damage_one(link: &mut Link, told: bool) {
    loop {
        link.step();
        for (_, _, message) in &mut link.network {
            if let Some(Part::Chunk(chunk)) = &mut message.part
                && chunk.offset > 0
            {
                let mut data = chunk.data.to_vec();
                data[100] ^= 1;
                chunk.data = data.into();
                if !told {
                    chunk.data_checksum = crc32c::crc32c(&chunk.data);
                }
                return;
            }
        }
    }
}

#[test]
fn a_piece_that_is_damaged_on_its_way_is_sent_again() {
    let mut link = Link::new(15, 12);
    link.wish(3);
    damage_one(&mut link, true);
    finish(&mut link);
    link.check_received();
    assert!(link.sent_bytes > link.file_bytes());
    assert!(link.leader.outcomes.is_empty());
}

#[test]
fn a_damaged_file_is_neither_sent_nor_taken() {
    let mut link = Link::new(8, 12);
    // Damaged before it was sent.
    link.wish(3);
    damage_one(&mut link, false);
    link.settle();
    assert_eq!(link.leader.outcomes, [false]);
    assert!(link.follower.received.is_empty());
    assert_eq!(
        (link.follower.files(), link.follower.parts()),
        (vec![Index(0)], 0)
    );
    // Damaged on the leader's disk: another one is asked for.
    let index = *link.leader.files().last().unwrap();
    let file = path(&link.leader.snap(), index);
    assert!(link.leader.one.disk.damage(&file, 5000, 1));
    link.pass(Duration::from_secs(6));
    link.wish(3);
    link.settle();
    assert!(link.leader.wants_file);
    assert!(link.follower.received.is_empty());
    link.leader.one.disk.damage(&file, 5000, 1);
    link.leader.transfers.snapshotted(None);
    link.leader.wants_file = false;
    link.pass(TICK);
    assert!(link.leader.wants_file, "asked for again after a failure");
    link.leader.transfers.snapshotted(Some(index));
    link.carry_out();
    link.settle();
    link.check_received();
}

/// A file that the log in memory no longer leads on from is not sent: a new one is asked for, also where nothing has
/// changed since the last checkpoint.
#[test]
fn a_file_that_is_too_old_is_replaced_by_a_new_one() {
    let mut link = Link::new(9, 3);
    let now = link.leader.one.now();
    let applied = link.leader.one.member.shared.state.read().applied();
    let file = *link.leader.files().last().unwrap();
    assert_eq!(file, applied);
    link.leader.one.compact(3);
    let applied = link.leader.one.member.shared.state.read().applied();
    link.leader.transfers.tick(applied.next(), now);
    link.wish(3);
    link.settle();
    assert!(link.leader.wants_file);
    link.leader.one.pass(Duration::from_secs(5));
    let written = link.leader.one.snapshot();
    assert_eq!(written, applied, "nothing was applied, and yet there is a file");
    link.leader.transfers.snapshotted(Some(written));
    link.carry_out();
    link.settle();
    link.check_received();
    assert_eq!(link.follower.received.front().unwrap().state.mvcc.compacted(), 3);
}

#[test]
fn a_leader_that_steps_down_sends_nothing_more() {
    let mut link = Link::new(10, 12);
    link.wish(3);
    for _ in 0..60 {
        link.step();
    }
    link.network.clear();
    link.leader.transfers.stop_sending();
    let sent = link.sent_bytes;
    link.settle();
    link.pass(Duration::from_secs(3));
    assert_eq!(link.sent_bytes, sent);
    assert!(link.leader.outcomes.is_empty(), "nobody waits for an outcome");
    assert_eq!(link.in_flight().0, 0);
}
