//! Who is at the other end of a connection, as far as the connection itself tells.

use std::sync::Arc;

use super::socket::Remote;

/// The same for all requests of one connection; each carries it among its extensions, in an `Arc`. A request that the
/// gateway makes on a client's behalf is a request of its own and must not inherit the name: see
/// [`PeerIdentity::common_name`].
pub(crate) struct PeerIdentity {
    /// Of the certificate that was shown and verified, where `--client-cert-auth` makes such names those of users.
    /// It counts for gRPC calls over this connection and for nothing else.
    pub(crate) common_name: Option<Arc<str>>,
    pub(crate) address: Remote,
}
