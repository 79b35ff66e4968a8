//! What keeps clients, honest or not, from using up the process: every port has it, and it needs no setting.
//!
//! | what a client does | what becomes of it |
//! | --- | --- |
//! | connects too often | [`seats`]: so many connections; when these run short, one address has no more than its share |
//! | connects and says nothing | the connection ends after [`OPENING_MAX`]; in TLS, after the time of a handshake |
//! | begins a request's headers and stops | HTTP/1: the connection ends after [`HTTP1_HEADER_MAX`], idle ones too |
//! | sends large headers, or many | refused: [`HEADER_BYTES_MAX`], [`HTTP1_HEADERS_MAX`]; for HTTP/2 the library counts CONTINUATION frames as well |
//! | begins a call and does not send its message | [`arrivals`]: so many at once, and so long |
//! | sends a message in pieces for ever | the same, and a bound on the bytes of all such messages (`grpc::backlog`) |
//! | resets streams as fast as it opens them, or floods with frames that ask for nothing | [`flood`]: the connection ends |
//! | pings too often | the connection ends (`listen::pings`) |
//! | is nobody known, while authentication is on | [`guesses`]: an address is heard so often a second |
//!
//! A client that has said its preface may be idle for as long as it answers pings: those of etcd are, for hours.
//! What is turned away is counted by its reason, and shown on the page of metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

mod arrivals;
mod flood;
mod guesses;
mod seats;

pub(crate) use self::arrivals::{Arrival, Arrivals, MESSAGE_MAX, late_message};
pub(crate) use self::flood::Flood;
pub(crate) use self::guesses::Guesses;
pub(crate) use self::seats::{Seat, Seats};

/// The bounds that all ports of a member share.
pub(crate) struct Defences {
    /// Connections of clients, those to the ports for metrics among them.
    pub(crate) clients: Arc<Seats>,
    /// Connections to the peer port.
    pub(crate) peers: Arc<Seats>,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) guesses: Guesses,
    pub(crate) away: Arc<TurnedAway>,
}

impl Defences {
    /// Bounds for a process that may have so many descriptors.
    pub(crate) fn new(descriptors_max: u64) -> Arc<Defences> {
        let away = Arc::new(TurnedAway::default());
        let descriptors = usize::try_from(descriptors_max).unwrap_or(usize::MAX);
        let peers = (descriptors / PEER_PART).min(PEER_CONNECTIONS_MAX);
        let clients = descriptors.saturating_sub(DESCRIPTORS_KEPT + peers);
        Arc::new(Defences {
            clients: Seats::new(clients.max(1), CONNECTION_REASONS, away.clone()),
            peers: Seats::new(peers.max(1), CONNECTION_REASONS, away.clone()),
            arrivals: Arrivals::new(away.clone()),
            guesses: Guesses::new(away.clone()),
            away,
        })
    }
}

/// Lets the process have as many descriptors as it may: so many.
pub(crate) fn raise_descriptors() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of descriptors cannot be raised");
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Why something was turned away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    /// As many connections as there may be.
    Connections,
    /// Connections were running short, and this address had its share.
    AddressShare,
    /// A connection on which nothing was said.
    Silence,
    Pings,
    Flood,
    /// As many calls without their message as there may be, or as the address may have.
    Arrivals,
    /// A call whose message took too long.
    SlowMessage,
    /// A call of nobody known, of whom there were too many.
    Unauthenticated,
}

impl Reason {
    /// All of them, in the order of their discriminants.
    const ALL: [Reason; 8] = [
        Reason::Connections,
        Reason::AddressShare,
        Reason::Silence,
        Reason::Pings,
        Reason::Flood,
        Reason::Arrivals,
        Reason::SlowMessage,
        Reason::Unauthenticated,
    ];

    /// Its label on the page of metrics.
    fn label(self) -> &'static str {
        match self {
            Reason::Connections => "connections",
            Reason::AddressShare => "address_share",
            Reason::Silence => "silence",
            Reason::Pings => "pings",
            Reason::Flood => "flood",
            Reason::Arrivals => "arrivals",
            Reason::SlowMessage => "slow_message",
            Reason::Unauthenticated => "unauthenticated",
        }
    }
}

/// What was turned away so far.
#[derive(Default)]
pub(crate) struct TurnedAway([AtomicU64; Reason::ALL.len()]);

impl TurnedAway {
    pub(crate) fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Labels and counts.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL
            .iter()
            .map(|&reason| (reason.label(), self.0[reason as usize].load(Ordering::Relaxed)))
    }
}

/// How long a connection may leave open what it speaks: for HTTP/2 the preface and the first frame must be there.
pub(crate) const OPENING_MAX: Duration = Duration::from_secs(30);
/// An HTTP/1.1 request's headers must be there by then, counted from the last answer.
pub(crate) const HTTP1_HEADER_MAX: Duration = Duration::from_secs(30);
/// Bounds the headers of one request, the path with its query among them: a token and a few names.
pub(crate) const HEADER_BYTES_MAX: u32 = 64 << 10;
/// The same, as what HTTP/1.1 may read before it understands a request.
pub(crate) const HTTP1_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Headers of one HTTP/1.1 request.
pub(crate) const HTTP1_HEADERS_MAX: usize = 128;
const CONNECTION_REASONS: [Reason; 2] = [Reason::Connections, Reason::AddressShare];
/// Descriptors for the files of the store: etcd's number.
const DESCRIPTORS_KEPT: usize = 150;
/// The peer port has one in so many descriptors, up to [`PEER_CONNECTIONS_MAX`].
const PEER_PART: usize = 8;
const PEER_CONNECTIONS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_numbers() {
        let away = TurnedAway::default();
        for (index, &reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, index);
            away.count(reason);
        }
        assert!(away.counts().all(|(_, count)| count == 1));
    }
}
