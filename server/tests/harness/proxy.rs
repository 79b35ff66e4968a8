//! The network between members: a TCP proxy in front of each member's peer port, in the test process.
//!
//! Every member advertises its proxy and listens behind it, so all that one member sends to another passes here, and
//! so does what it dials at an advertised URL that it should not: nothing reaches the listening port otherwise. The
//! address that a member dials tells only the one end of a link. The other end is found by the process that holds the
//! connecting socket, which needs no knowledge of what the members say to each other.
//!
//! The proxy runs on a thread of its own: a test may block, and one that has stopped every member still can cut links.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens on a link that is cut. It goes for both directions, for connections that exist and for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing passes and nobody is told, as when a cable is pulled. What was on its way arrives after the heal.
    Stall,
    /// Connections are closed.
    Close,
}

/// The cut links, each by the lower and the higher of its two members.
type Cuts = BTreeMap<(usize, usize), Cut>;

/// The proxies of one cluster and the handle that cuts links. Dropping it ends them.
pub(crate) struct Network {
    ports: Vec<u16>,
    cuts: watch::Sender<Cuts>,
    processes: Processes,
    members: usize,
}

/// The process of each member, none while it does not run.
type Processes = Arc<Mutex<Vec<Option<u32>>>>;

impl Network {
    /// Puts a proxy in front of each of these peer ports.
    pub(crate) fn start(targets: &[u16]) -> Network {
        let (cuts, seen) = watch::channel(Cuts::new());
        let processes: Processes = Arc::new(Mutex::new(vec![None; targets.len()]));
        let mut ports = Vec::new();
        let mut proxies = Vec::new();
        for (member, target) in targets.iter().enumerate() {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port for a proxy");
            listener
                .set_nonblocking(true)
                .expect("a socket can be non-blocking");
            let port = listener
                .local_addr()
                .expect("a bound socket has an address")
                .port();
            ports.push(port);
            let proxy = Proxy {
                member,
                port,
                target: *target,
                cuts: seen.clone(),
                processes: Arc::clone(&processes),
            };
            proxies.push((proxy, listener));
        }
        std::thread::spawn(move || forward(proxies, seen));
        Network {
            ports,
            cuts,
            processes,
            members: targets.len(),
        }
    }

    /// The URL that a member advertises.
    pub(crate) fn url(&self, member: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[member])
    }

    /// Tells which process is a member now.
    pub(crate) fn set_process(&self, member: usize, process: Option<u32>) {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)[member] = process;
    }

    pub(crate) fn cut(&self, one: usize, other: usize, cut: Cut) {
        self.cuts.send_modify(|cuts| {
            cuts.insert(link(one, other), cut);
        });
    }

    /// Cuts a member off from all others.
    pub(crate) fn isolate(&self, member: usize, cut: Cut) {
        self.cuts.send_modify(|cuts| {
            for other in (0..self.members).filter(|other| *other != member) {
                cuts.insert(link(member, other), cut);
            }
        });
    }

    /// Mends every link.
    pub(crate) fn heal(&self) {
        self.cuts.send_modify(Cuts::clear);
    }
}

/// The thread of the proxies.
fn forward(proxies: Vec<(Proxy, std::net::TcpListener)>, mut cuts: watch::Receiver<Cuts>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for the proxies");
    runtime.block_on(async {
        for (proxy, listener) in proxies {
            let listener = TcpListener::from_std(listener).expect("the socket is non-blocking");
            tokio::spawn(proxy.run(listener));
        }
        // Ends, and the proxies with it, once the sender of cuts is dropped.
        while cuts.changed().await.is_ok() {}
    });
}

/// What stands in front of one member.
#[derive(Clone)]
struct Proxy {
    member: usize,
    port: u16,
    target: u16,
    cuts: watch::Receiver<Cuts>,
    processes: Processes,
}

impl Proxy {
    async fn run(self, listener: TcpListener) {
        loop {
            // An error concerns the one connection that was to be accepted.
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.clone().serve(stream));
            }
        }
    }

    async fn serve(self, near: TcpStream) {
        let Some(origin) = self.origin(&near).await else {
            return;
        };
        let mut link = Link {
            ends: origin.map(|origin| link(origin, self.member)),
            cuts: self.cuts,
        };
        if link.pass().await.is_none() {
            return;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", self.target)).await else {
            return;
        };
        if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
            return;
        }
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        let back = tokio::spawn(pump(far_read, near_write, link.clone()));
        pump(near_read, far_write, link).await;
        // One direction's end ends both: members do not half-close.
        back.abort();
    }

    /// The member that has dialed; none for a process that is no member; nothing if the connection has ended already.
    async fn origin(&self, near: &TcpStream) -> Option<Option<usize>> {
        let port = near.peer_addr().ok()?.port();
        // A member is known a moment after its process has begun, so a stranger may still turn out to be one.
        for _ in 0..100 {
            let inode = socket_inode(port, self.port)?;
            let processes = self
                .processes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let holder = processes
                .iter()
                .position(|process| process.is_some_and(|process| holds(process, &inode)));
            if holder.is_some() {
                return Some(holder);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Some(None)
    }
}

/// A connection's view of the cuts.
#[derive(Clone)]
struct Link {
    ends: Option<(usize, usize)>,
    cuts: watch::Receiver<Cuts>,
}

impl Link {
    /// Waits while the link is stalled; nothing if it is closed.
    async fn pass(&mut self) -> Option<()> {
        loop {
            match self.state() {
                None => return Some(()),
                Some(Cut::Close) => return None,
                Some(Cut::Stall) => self.cuts.changed().await.ok()?,
            }
        }
    }

    /// Ends when the link is closed.
    async fn closed(&mut self) {
        while self.state() != Some(Cut::Close) {
            if self.cuts.changed().await.is_err() {
                return;
            }
        }
    }

    fn state(&mut self) -> Option<Cut> {
        let cuts = self.cuts.borrow_and_update();
        self.ends.and_then(|ends| cuts.get(&ends).copied())
    }
}

/// Forwards one direction until it ends or the link is closed.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: Link) {
    let mut buffer = vec![0; 64 * 1024];
    let mut closing = link.clone();
    let forward = async {
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if link.pass().await.is_none() || to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
        // The end of a connection does not pass a stalled link either.
        link.pass().await;
    };
    tokio::select! {
        () = forward => {}
        () = closing.closed() => {}
    }
}

fn link(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

/// The inode of the connecting socket of a loopback connection between these two ports.
fn socket_inode(from: u16, to: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let (from, to) = (format!(":{from:04X}"), format!(":{to:04X}"));
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let ours = words.next()?.ends_with(&from) && words.next()?.ends_with(&to);
        // Behind the two addresses: state, queues, timer, retransmits, user, timeout.
        ours.then(|| words.nth(6).map(str::to_owned)).flatten()
    })
}

/// Whether a process holds this socket.
fn holds(process: u32, inode: &str) -> bool {
    let socket = format!("socket:[{inode}]");
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket.as_str()))
}
