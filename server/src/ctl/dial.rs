//! Connections through TLS: which endpoints ask for it, and what the flags say about certificates.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use clap::ArgMatches;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;

use super::{Failure, line};
use crate::config::TlsSettings;
use crate::tls::Connector;

/// How connections are made.
pub(super) enum Security {
    /// Through TLS only where the endpoint asks for it, and then with nothing to say: not at all.
    Plain,
    /// Endpoints without a scheme use TLS, unless `--insecure-transport` stands.
    Tls(Connector),
}

impl Security {
    /// Reads the flags and the files that they name.
    pub(super) fn new(matches: &ArgMatches) -> Result<Security, Failure> {
        let path = |name| match line::text_of(matches, name) {
            "" => None,
            path => Some(PathBuf::from(path)),
        };
        let settings = TlsSettings {
            cert_file: path("cert"),
            key_file: path("key"),
            trusted_ca_file: path("cacert"),
            ..TlsSettings::default()
        };
        let endpoints = line::text_of(matches, "endpoints");
        let asked = endpoints.contains("https://") || !line::is_on(matches, "insecure-transport");
        let given = settings != TlsSettings::default();
        if !asked && !given {
            return Ok(Security::Plain);
        }
        let unverified = line::is_on(matches, "insecure-skip-tls-verify");
        let connector = Connector::new(&settings, unverified);
        let connector = connector.map_err(|error| Failure::Refused(error.to_string()))?;
        Ok(Security::Tls(connector))
    }
}

/// The URL of an endpoint. One without a scheme uses TLS where certificates are given, as in etcdctl.
pub(super) fn target(endpoint: &str, security: &Security) -> Result<String, Failure> {
    match endpoint.split_once("://") {
        None => Ok(match security {
            Security::Plain => format!("http://{endpoint}"),
            Security::Tls(_) => format!("https://{endpoint}"),
        }),
        Some(("http" | "https", _)) => Ok(endpoint.to_owned()),
        Some((scheme, _)) => Err(Failure::Feature(format!(
            "{endpoint}: {scheme} is not supported by this version"
        ))),
    }
}

/// Makes connections through TLS.
#[derive(Clone)]
pub(crate) struct Dialer {
    connector: Connector,
    timeout: Duration,
}

impl Dialer {
    pub(crate) fn new(connector: Connector, timeout: Duration) -> Dialer {
        Dialer { connector, timeout }
    }

    async fn dial(self, uri: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(HTTPS_PORT);
        // The brackets of an IPv6 address are the URL's.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let dialing = async {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            self.connector.connect_h2(host, stream).await
        };
        match tokio::time::timeout(self.timeout, dialing).await {
            Ok(stream) => stream.map(TokioIo::new),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")),
        }
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

const HTTPS_PORT: u16 = 443;
