//! Sockets of either kind, and the streams over them: plain enums, so that a connection over TCP pays a branch for the
//! others and no more.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsStream;

use crate::config::Address;
use crate::defences::{Seat, Seats};
use crate::{private, tls};

/// A bound socket.
pub(crate) enum Listening {
    Tcp(TcpListener),
    Unix(UnixFile),
}

/// A listener at a path; its file goes when it does.
pub(crate) struct UnixFile {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        // Gone already, most likely.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Listening {
    pub(crate) fn bind(address: &Address) -> io::Result<Listening> {
        match address {
            Address::Tcp(address) => bind_tcp(*address).map(Listening::Tcp),
            Address::Unix(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                private::open_to_others(path)?;
                Ok(Listening::Unix(UnixFile {
                    listener,
                    path: path.clone(),
                }))
            }
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        let (kind, remote) = match self {
            Listening::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                (Kind::Tcp(stream), Some(remote))
            }
            Listening::Unix(file) => (Kind::Unix(file.listener.accept().await?.0), None),
        };
        Ok(Socket {
            kind,
            remote: Remote(remote),
            first: None,
            seat: None,
        })
    }
}

/// As etcd's log names an address.
impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listening::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(_) => f.write_str("unknown"),
            },
            Listening::Unix(file) => write!(f, "{}", file.path.display()),
        }
    }
}

/// Listens on a TCP port.
pub(crate) fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Removes the socket that a process has left behind. Any other file stays, and keeps the path taken.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => std::fs::remove_file(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy)]
pub(crate) struct Remote(Option<SocketAddr>);

impl Remote {
    /// Its IP, where it has one.
    pub(crate) fn ip(self) -> Option<IpAddr> {
        self.0.map(|address| address.ip())
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => write!(f, "{address}"),
            // What Go says of the nameless end of a unix socket.
            None => f.write_str("@"),
        }
    }
}

/// An accepted connection.
pub(crate) struct Socket {
    kind: Kind,
    pub(crate) remote: Remote,
    /// A byte that was read to tell what the rest is.
    first: Option<u8>,
    /// Of a connection that was accepted: its place among the others.
    seat: Option<Seat>,
}

enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection on its way from one runtime to another.
pub(crate) struct Handed {
    kind: HandedKind,
    remote: Remote,
    seat: Option<Seat>,
}

enum HandedKind {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl From<TcpStream> for Socket {
    /// A connection that this member has made.
    fn from(stream: TcpStream) -> Socket {
        Socket {
            remote: Remote(stream.peer_addr().ok()),
            kind: Kind::Tcp(stream),
            first: None,
            seat: None,
        }
    }
}

impl From<UnixStream> for Socket {
    /// A connection that this member has made.
    fn from(stream: UnixStream) -> Socket {
        Socket {
            remote: Remote(None),
            kind: Kind::Unix(stream),
            first: None,
            seat: None,
        }
    }
}

impl Socket {
    /// Sends at once whatever is written.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(stream) => stream.set_nodelay(true),
            Kind::Unix(_) => Ok(()),
        }
    }

    /// The first byte, which stays to be read; nothing if there is none.
    pub(crate) async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let read = self.read(&mut byte).await?;
        self.first = byte.first().copied().filter(|_| read > 0);
        Ok(self.first)
    }

    /// Takes a seat for the connection, which ends where there is none.
    pub(crate) fn seated(mut self, seats: &Arc<Seats>) -> Option<Socket> {
        self.seat = Some(seats.take(self.remote.ip())?);
        Some(self)
    }

    pub(crate) fn hand_over(self) -> io::Result<Handed> {
        let kind = match self.kind {
            Kind::Tcp(stream) => HandedKind::Tcp(stream.into_std()?),
            Kind::Unix(stream) => HandedKind::Unix(stream.into_std()?),
        };
        Ok(Handed {
            kind,
            remote: self.remote,
            seat: self.seat,
        })
    }

    pub(crate) fn take_over(handed: Handed) -> io::Result<Socket> {
        let kind = match handed.kind {
            HandedKind::Tcp(stream) => Kind::Tcp(TcpStream::from_std(stream)?),
            HandedKind::Unix(stream) => Kind::Unix(UnixStream::from_std(stream)?),
        };
        Ok(Socket {
            kind,
            remote: handed.remote,
            first: None,
            seat: handed.seat,
        })
    }
}

/// A connection, ready for HTTP.
pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            into.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        match &mut this.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_read(context, into),
            Kind::Unix(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Kind::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Kind::Unix(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Kind::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Kind::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, into),
            // What the other side thinks of our certificate may show only here.
            Stream::Tls(stream) => Pin::new(stream)
                .poll_read(context, into)
                .map_err(tls::in_gos_words),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        // All of them are.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Connections that may wait to be accepted, as while the store opens.
const BACKLOG: u32 = 4096;
