//! A server that knows clients by their certificates: with a client port that speaks TLS beside the plain one.

use std::net::SocketAddr;

use super::tls::{Authority, Hello, Pair};
use super::{Client, Ports, Server};

/// The server, and who signs the certificates of its clients.
pub(crate) struct Secured {
    pub(crate) server: Server,
    pub(crate) authority: Authority,
    ports: Ports,
}

impl Secured {
    /// A server that is not started yet, with a certificate of its own and additional flags. Whether it asks for
    /// certificates and believes them is up to the flags.
    pub(crate) fn prepared(own: impl FnOnce(&Authority) -> Pair, flags: &[&str]) -> Secured {
        let authority = Authority::new();
        let pair = own(&authority);
        let mut secured = Secured {
            server: Server::prepared(flags),
            authority,
            ports: Ports::reserve(),
        };
        let (plain, secure) = (secured.server.endpoint(), secured.address());
        for flag in [
            format!("--listen-client-urls={plain},https://{secure}"),
            format!("--cert-file={}", pair.cert_file.display()),
            format!("--key-file={}", pair.key_file.display()),
            format!("--trusted-ca-file={}", secured.authority.ca_file().display()),
        ] {
            secured.server.add_flag(&flag);
        }
        secured
    }

    /// The port that speaks TLS.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.client))
    }

    /// A client that shows this certificate.
    pub(crate) async fn client(&self, pair: &Pair) -> Client {
        let mut hello = Hello::with(pair);
        hello.alpn = vec!["h2"];
        let address = self.address();
        let connect = move || {
            let hello = hello.clone();
            async move { hello.connect(address).await }
        };
        Client::through(connect).await.expect("the certificate is good")
    }
}
