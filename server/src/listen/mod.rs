//! Where clients come in: sockets, and what stands between them and the library that speaks HTTP.
//!
//! | file | what |
//! | --- | --- |
//! | `listeners` | which sockets a member has |
//! | `members` | those for other members, and the TLS between them |
//! | `socket` | TCP and unix sockets behind one type, TLS over them behind another |
//! | `port` | what a listener does with a connection before HTTP begins |
//! | `identity` | who is at the other end |
//! | `guarded`, `pings`, `authority` | what that library does not judge: pings, and authorities that are none |
//! | `frames`, `blocks` | as much of HTTP/2 as that takes |

mod authority;
mod blocks;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod guarded;
mod identity;
mod listeners;
mod members;
mod pings;
mod port;
mod socket;

pub(crate) use guarded::{Calls, Guarded, OpenCall, is_misplaced_handshake};
pub(crate) use identity::PeerIdentity;
pub(crate) use listeners::{ListenError, Listeners, announce};
#[cfg(test)]
pub(crate) use port::Security;
pub(crate) use port::{Opened, Port, Versions};
pub(crate) use socket::{Handed, Listening, Remote, Socket, Stream};

#[cfg(test)]
mod tests;
