//! Transports that speak to each other, or to a peer made by hand, over the loopback.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use store::types::ClusterId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::frame::{Frame, Incoming};
use super::*;
use crate::defences::{Defences, Seats};
use crate::listen::Listening;

/// A member without a store: what it receives is kept.
struct Node {
    peers: Peers,
    id: MemberId,
    address: SocketAddr,
    received: Arc<Mutex<Vec<(MemberId, Bytes)>>>,
    takes: Arc<AtomicBool>,
    /// Whether it was told that it is a member no more.
    removed: Arc<AtomicBool>,
}

const CLUSTER_ID: u64 = 0xc1;
/// A member that all others know as removed.
const REMOVED: MemberId = MemberId(0xdead);

/// As many connections as any of these tests has.
fn seats() -> Arc<Seats> {
    Defences::new(4096).peers.clone()
}

impl Node {
    async fn start(id: u64) -> Node {
        Node::start_at(id, CLUSTER_ID, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn start_at(id: u64, cluster: u64, address: SocketAddr) -> Node {
        Node::speaking(id, cluster, address, Protocols::OWN).await
    }

    async fn speaking(id: u64, cluster: u64, address: SocketAddr, protocols: Protocols) -> Node {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let peers = Peers::new(1 << 20, None, Duration::from_secs(7));
        tokio::spawn(accept::serve(
            Listening::Tcp(listener),
            None,
            seats(),
            peers.clone(),
            Arc::default(),
        ));
        let (received, takes) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(true)));
        let (inbox, open) = (received.clone(), takes.clone());
        let removed = Arc::new(AtomicBool::new(false));
        let told = removed.clone();
        let start = std::time::Instant::now();
        peers.attach(Home {
            identity: Identity {
                cluster: ClusterId(cluster),
                member: MemberId(id),
                protocols,
            },
            receive: Box::new(move |from, message| {
                inbox.lock().push((from, message));
                open.load(Ordering::Relaxed)
            }),
            now: Box::new(move || Instant(u64::try_from(start.elapsed().as_nanos()).unwrap())),
            is_removed: Box::new(|id| id == REMOVED),
            removed: Box::new(move || told.store(true, Ordering::Relaxed)),
        });
        Node {
            peers,
            id: MemberId(id),
            address,
            received,
            takes,
            removed,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tells it of one peer.
    fn meet(&self, id: MemberId, urls: &[String]) {
        self.peers.set_peers(&[(id, urls.to_vec())]);
    }

    fn is_connected(&self, to: MemberId) -> bool {
        let peers = self.peers.0.peers.read();
        let known = &peers[&to];
        known.up.lock().iter().all(Option::is_some)
    }

    fn numbers(&self, of: MemberId) -> Arc<Numbers> {
        self.peers.0.numbers.lock()[&of].clone()
    }
}

async fn two() -> (Node, Node) {
    let (a, b) = (Node::start(0xa).await, Node::start(0xb).await);
    a.meet(b.id, &[b.url()]);
    b.meet(a.id, &[a.url()]);
    until("both are connected", || {
        a.is_connected(b.id) && b.is_connected(a.id)
    })
    .await;
    (a, b)
}

/// Waits for a condition that must come soon.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn message(number: u32, bytes: usize) -> Bytes {
    let mut message = number.to_le_bytes().to_vec();
    message.resize(bytes.max(4), number as u8);
    Bytes::from(message)
}

#[tokio::test]
async fn messages_of_a_class_arrive_whole_and_in_order() {
    let (a, b) = two().await;
    let sizes = [4, 100, 5_000, 40_000, 1_000_000];
    for number in 0..200_u32 {
        for (sender, to) in [(&a, b.id), (&b, a.id)] {
            let message = message(number, sizes[number as usize % sizes.len()]);
            assert!(sender.peers.send(to, Class::Log, message));
        }
        if number % 50 == 49 {
            until("the queue is taken", || a.received.lock().len() > number as usize).await;
        }
    }
    for (node, from) in [(&a, b.id), (&b, a.id)] {
        until("all arrived", || node.received.lock().len() == 200).await;
        for (number, (sender, got)) in node.received.lock().iter().enumerate() {
            assert_eq!(*sender, from);
            assert_eq!(*got, message(number as u32, sizes[number % sizes.len()]));
        }
    }
    let sent = Numbers::get(&a.numbers(b.id).sent_bytes);
    assert!(sent > 40 * 1_045_104, "{sent}");
    assert_eq!(Numbers::get(&a.numbers(b.id).sent_failures), 0);
}

#[tokio::test]
async fn a_removed_member_is_told_so() {
    let (a, gone) = (Node::start(0xa).await, Node::start(REMOVED.0).await);
    let stranger = Node::start(0xe).await;
    stranger.meet(a.id, &[a.url()]);
    gone.meet(a.id, &[a.url()]);
    until("the removed member hears of it", || {
        gone.removed.load(Ordering::Relaxed)
    })
    .await;
    assert!(!gone.is_connected(a.id));
    // Once they know it, a stranger is one who came too early.
    a.meet(stranger.id, &[stranger.url()]);
    until("the stranger is connected", || stranger.is_connected(a.id)).await;
    assert!(!stranger.removed.load(Ordering::Relaxed));
}

#[tokio::test]
async fn every_class_has_its_connection_and_control_measures_round_trips() {
    let (a, b) = two().await;
    assert!(a.peers.connected_since(b.id).is_some());
    assert_eq!(a.peers.connected_since(MemberId(9)), None);
    for class in Class::ALL {
        assert!(a.peers.send(b.id, class, Bytes::from_static(b"")));
    }
    assert!(!a.peers.send(MemberId(9), Class::Log, Bytes::new()));
    until("all classes arrived", || b.received.lock().len() == 3).await;
    let numbers = a.numbers(b.id);
    until("an echo came", || numbers.round_trips().0.iter().sum::<u64>() > 0).await;
    assert!(numbers.round_trips().1 < 10.0);
}

#[tokio::test]
async fn members_without_a_common_protocol_do_not_talk_and_say_why() {
    let a = Node::start(0xa).await;
    let any = "127.0.0.1:0".parse().unwrap();
    let newer = Node::speaking(0xb, CLUSTER_ID, any, Protocols::of(7, 9)).await;
    a.meet(newer.id, &[newer.url()]);
    newer.meet(a.id, &[a.url()]);
    // Each of them is told, and has told the other.
    for (node, peer) in [(&a, newer.id), (&newer, a.id)] {
        until("both have said so", || {
            let unreachable = {
                let peers = node.peers.0.peers.read();
                !peers[&peer].unreachable.is_empty()
            };
            unreachable && !node.peers.0.refused.is_empty()
        })
        .await;
        assert!(!node.is_connected(peer));
        assert!(!node.peers.send(peer, Class::Log, message(1, 4)));
    }
    assert!(a.received.lock().is_empty() && newer.received.lock().is_empty());
    // One that speaks what the old one speaks is talked to, whatever else it speaks.
    let both = Node::speaking(0xc, CLUSTER_ID, any, Protocols::of(1, 9)).await;
    a.peers.set_peers(&[(both.id, vec![both.url()])]);
    both.meet(a.id, &[a.url()]);
    until("they talk", || a.is_connected(both.id) && both.is_connected(a.id)).await;
}

#[tokio::test]
async fn what_the_store_does_not_take_is_counted() {
    let (a, b) = two().await;
    b.takes.store(false, Ordering::Relaxed);
    assert!(a.peers.send(b.id, Class::Log, message(1, 4)));
    let numbers = b.numbers(a.id);
    until("it is counted", || Numbers::get(&numbers.received_failures) == 1).await;
}

#[tokio::test]
async fn a_peer_that_comes_back_is_found_again() {
    let (a, b) = two().await;
    b.peers.stop().await;
    until("the loss is seen", || a.peers.connected_since(b.id).is_none()).await;
    assert!(!a.peers.send(b.id, Class::Control, message(1, 4)));
    assert_eq!(Numbers::get(&a.numbers(b.id).sent_failures), 1);
    assert_eq!(Numbers::get(&a.numbers(b.id).disconnected), 1);
    let again = Node::start_at(0xb, CLUSTER_ID, b.address).await;
    again.meet(a.id, &[a.url()]);
    until("it is there again", || {
        a.is_connected(b.id) && again.is_connected(a.id)
    })
    .await;
    assert!(a.peers.send(b.id, Class::Control, message(2, 4)));
    until("it hears", || !again.received.lock().is_empty()).await;
    assert_eq!(
        *again.received.lock(),
        [(a.id, message(2, 4))],
        "nothing is sent again"
    );
}

#[tokio::test]
async fn the_next_url_is_tried_where_one_fails() {
    let (a, b) = (Node::start(0xa).await, Node::start(0xb).await);
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    a.meet(
        b.id,
        &[
            "https://127.0.0.1:1".to_owned(),
            format!("http://{nobody}"),
            b.url(),
        ],
    );
    b.meet(a.id, &[a.url()]);
    until("it is reached", || a.is_connected(b.id)).await;
}

#[tokio::test]
async fn another_cluster_is_refused_by_both_sides() {
    let a = Node::start(0xa).await;
    let b = Node::start_at(0xb, 0xc2, "127.0.0.1:0".parse().unwrap()).await;
    a.meet(b.id, &[b.url()]);
    b.meet(a.id, &[a.url()]);
    let refused = || [&a, &b].iter().all(|node| !node.peers.0.refused.is_empty());
    until("both refused", refused).await;
    assert!(a.peers.connected_since(b.id).is_none() && b.peers.connected_since(a.id).is_none());
    let (head, body) = ask(&a, "c2", "b", "a").await;
    assert!(
        head.starts_with("HTTP/1.1 412 ") && body == "cluster ID mismatch\n",
        "{head}: {body}"
    );
    let (head, body) = ask(&a, "c1", "d", "a").await;
    assert!(
        head.starts_with("HTTP/1.1 404 ") && body == "error sender not found\n",
        "{head}: {body}"
    );
    let (head, body) = ask(&a, "c1", "b", "d").await;
    assert!(
        head.starts_with("HTTP/1.1 412 ") && body == "to field mismatch\n",
        "{head}: {body}"
    );
}

#[tokio::test]
async fn nobody_is_heard_before_the_store_is_open() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let peers = Peers::new(1, None, Duration::from_secs(7));
    tokio::spawn(accept::serve(
        Listening::Tcp(listener),
        None,
        seats(),
        peers,
        Arc::default(),
    ));
    let time = Duration::from_secs(20);
    for (path, status) in [
        ("/members", 503),
        ("/version", 200),
        ("/taffrail/peer/v1/log", 503),
        ("/health", 404),
    ] {
        let answer = dial::page(&url, None, path, time).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_costs_no_more_than_the_bounds() {
    let a = Node::start(0xa).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let b = MemberId(0xb);
    a.meet(b, &[format!("http://{}", listener.local_addr().unwrap())]);
    let mut unread = Vec::new();
    while !a.is_connected(b) {
        let (stream, _) = listener.accept().await.unwrap();
        unread.push(accept_by_hand(stream).await);
        until("the answer is read", || connections(&a, b) == unread.len()).await;
    }
    let mut sent = 0;
    let full = (0..4096).any(|_| {
        let fits = a.peers.send(b, Class::Log, message(0, 1 << 20));
        sent += usize::from(fits);
        !fits
    });
    assert!(full && sent == 64, "{sent} MiB fit");
    assert!(
        a.peers.send(b, Class::Control, message(0, 4)),
        "classes have queues of their own"
    );
    drop(unread);
    until("what waited is dropped", || {
        Numbers::get(&a.numbers(b).sent_failures) >= 64
    })
    .await;
}

#[tokio::test]
async fn silence_ends_a_connection_on_either_side() {
    let (a, b) = (Node::start(0xa).await, MemberId(0xb));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    a.meet(b, &[format!("http://{}", listener.local_addr().unwrap())]);
    let mut dialed = Vec::new();
    while !a.is_connected(b) {
        let (stream, _) = listener.accept().await.unwrap();
        dialed.push(accept_by_hand(stream).await);
        until("the answer is read", || connections(&a, b) == dialed.len()).await;
    }
    // It hears the pings but no echo comes; and it is connected to, but nothing follows.
    let mut silent = dial_by_hand(&a, "control", "b").await;
    let dialed_ends = async {
        let mut bytes = Vec::new();
        dialed[0].read_to_end(&mut bytes).await.unwrap();
        let mut frames = Incoming::new(&bytes, 0);
        let mut pings = 0;
        while let Ok(Some(Frame::Ping(_))) = frames.next() {
            pings += 1;
        }
        assert_eq!(pings, SILENCE_TICKS_MAX);
    };
    let silent_ends = async { assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0) };
    let both = async { tokio::join!(dialed_ends, silent_ends) };
    tokio::time::timeout(Duration::from_secs(30), both)
        .await
        .expect("both are closed");
}

#[tokio::test]
async fn a_new_connection_ends_the_one_before_it() {
    let (a, b) = (Node::start(0xa).await, MemberId(0xb));
    a.meet(b, &[]);
    let mut first = dial_by_hand(&a, "log", "b").await;
    first.write_all(b"\x01\0\0\0x").await.unwrap();
    until("the first is heard", || a.received.lock().len() == 1).await;
    let mut second = dial_by_hand(&a, "log", "b").await;
    let ended = tokio::time::timeout(Duration::from_secs(20), first.read(&mut [0; 1])).await;
    assert_eq!(ended.expect("it is closed").unwrap(), 0);
    second
        .write_all(b"\x01\0\0\0y\xff\xff\xff\xff12345678")
        .await
        .unwrap();
    let mut echo = [0; 12];
    second.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"\xff\xff\xff\xff12345678");
    let texts: Vec<Bytes> = a.received.lock().iter().map(|(_, text)| text.clone()).collect();
    assert_eq!(texts, ["x", "y"]);
}

#[tokio::test]
async fn a_member_that_is_none_any_more_is_left_alone() {
    let (a, b) = two().await;
    a.peers.set_peers(&[]);
    assert!(!a.peers.send(b.id, Class::Log, message(0, 4)));
    until("it sees the end", || !b.is_connected(a.id)).await;
    let view = a.peers.view();
    assert!(view[0].id == b.id && view[0].known.is_none(), "its numbers stay");
}

/// How many of `node`'s connections to `to` stand.
fn connections(node: &Node, to: MemberId) -> usize {
    node.peers.0.peers.read()[&to].up.lock().iter().flatten().count()
}

/// Reads a request to connect and accepts it.
async fn accept_by_hand(mut stream: TcpStream) -> TcpStream {
    read_head(&mut stream).await;
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: taffrail-peer/1\r\n\
                  x-etcd-cluster-id: c1\r\nx-server-version: 3.7.1\r\nx-min-cluster-version: 3.7.0\r\n\
                  x-taffrail-protocols: 2-2\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream
}

fn request(class: &str, cluster: &str, from: &str, to: &str) -> String {
    format!(
        "GET /taffrail/peer/v1/{class} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: taffrail-peer/1\r\n\
         x-etcd-cluster-id: {cluster}\r\nx-server-from: {from}\r\nx-server-to: {to}\r\nx-server-version: 3.7.1\r\n\
         x-min-cluster-version: 3.7.0\r\nx-taffrail-protocols: 1-7\r\n\r\n"
    )
}

async fn dial_by_hand(node: &Node, class: &str, from: &str) -> TcpStream {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let request = request(class, "c1", from, &node.id.to_string());
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// A request to connect that is refused: the answer's head and body.
async fn ask(node: &Node, cluster: &str, from: &str, to: &str) -> (String, String) {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let request = request("log", cluster, from, to);
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    let mut body = String::new();
    stream.shutdown().await.unwrap();
    stream.read_to_string(&mut body).await.unwrap();
    (head, body)
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(stream.read_u8().await.unwrap()));
    }
    head
}
