//! What a listener does with a connection before HTTP begins.

use std::io;
use std::sync::Arc;

use super::identity::PeerIdentity;
use super::socket::{Socket, Stream};
use crate::connection::{Entry, Role};
use crate::defences::OPENING_MAX;
use crate::tls::{H2, ServerTls};

/// What all connections of one listener have in common.
pub(crate) struct Port {
    pub(crate) role: Role,
    pub(crate) security: Security,
}

/// Whether connections begin with a TLS handshake.
pub(crate) enum Security {
    Plain,
    Tls(Arc<ServerTls>),
    /// Some do, and their first byte tells.
    Either(Arc<ServerTls>),
}

/// A connection that HTTP can begin on.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) entry: Entry,
    pub(crate) versions: Versions,
    pub(crate) identity: Arc<PeerIdentity>,
}

/// The versions of HTTP that a connection may speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Versions {
    Any,
    Http1,
    Http2,
}

impl Port {
    /// Makes a stream of `socket`.
    pub(crate) async fn open(&self, mut socket: Socket) -> io::Result<Opened> {
        let address = socket.remote;
        let tls = match &self.security {
            Security::Plain => None,
            Security::Tls(tls) => Some(tls),
            Security::Either(tls) => {
                let first = tokio::time::timeout(OPENING_MAX, socket.first_byte()).await;
                let first = first.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"))??;
                Some(tls).filter(|_| first == Some(HANDSHAKE_BYTE))
            }
        };
        let entry = Entry {
            role: self.role,
            plaintext: tls.is_none(),
        };
        let Some(tls) = tls else {
            return Ok(Opened {
                stream: Stream::Plain(socket),
                entry,
                versions: match self.role {
                    Role::Client | Role::Metrics | Role::Kubernetes => Versions::Any,
                    Role::ClientGrpc => Versions::Http2,
                    Role::ClientHttp => Versions::Http1,
                },
                identity: Arc::new(PeerIdentity {
                    common_name: None,
                    address,
                }),
            });
        };
        let stream = tls.accept(socket).await?;
        let versions = match stream.get_ref().1.alpn_protocol() {
            Some(H2) => Versions::Http2,
            _ if self.role == Role::ClientGrpc => {
                let text = "credentials: cannot check peer: missing selected ALPN property";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            _ => Versions::Http1,
        };
        let common_name = tls.user_of(stream.get_ref().1);
        Ok(Opened {
            stream: Stream::Tls(Box::new(stream.into())),
            entry,
            versions,
            identity: Arc::new(PeerIdentity { common_name, address }),
        })
    }
}

/// What a TLS handshake begins with, and no HTTP.
pub(super) const HANDSHAKE_BYTE: u8 = 0x16;
