//! Certificates made for a test, and a TLS client that says exactly what it is told.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::PATIENCE;

/// Who signs a test's certificates, with the directory where they lie.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
    pub(crate) cert: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        Authority::of(CertificateParams::default())
    }

    /// One with a name of its own: OpenSSL tells authorities, and what they sign, by nothing else.
    pub(crate) fn named(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        Authority::of(params)
    }

    fn of(mut params: CertificateParams) -> Authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let authority = Authority {
            issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate"),
            dir: tempfile::tempdir().expect("a temporary directory"),
        };
        fs::write(authority.file("ca.pem"), authority.issuer.pem()).expect("the directory is writable");
        authority
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.file("ca.pem")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for servers and clients, with `serial` and for `hosts`; its files are called by `name`.
    pub(crate) fn issue(&self, name: &str, serial: u64, hosts: &[&str]) -> Pair {
        self.issue_as(
            name,
            serial,
            hosts,
            CertificateParams::default().distinguished_name,
        )
    }

    /// One whose Common Name is that of a user.
    pub(crate) fn issue_to(&self, user: &str, serial: u64, hosts: &[&str]) -> Pair {
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, user);
        self.issue_as(user, serial, hosts, subject)
    }

    /// One that has no Common Name.
    pub(crate) fn issue_nameless(&self, name: &str, serial: u64, hosts: &[&str]) -> Pair {
        self.issue_as(name, serial, hosts, DistinguishedName::new())
    }

    fn issue_as(&self, name: &str, serial: u64, hosts: &[&str], subject: DistinguishedName) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        params.distinguished_name = subject;
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (cert_file, key_file) = (
            self.file(&format!("{name}.pem")),
            self.file(&format!("{name}-key.pem")),
        );
        fs::write(&cert_file, cert.pem()).expect("the directory is writable");
        fs::write(&key_file, key.serialize_pem()).expect("the directory is writable");
        Pair {
            cert_file,
            key_file,
            cert: cert.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        }
    }

    /// Writes a list of the certificates that are revoked.
    pub(crate) fn revoke(&self, path: &Path, serials: &[u64]) {
        let revoked_certs = serials
            .iter()
            .map(|&serial| RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date_time_ymd(2024, 1, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        fs::write(path, list.der()).expect("the directory is writable");
    }
}

/// How a client shakes hands. It takes any certificate of the server's, unless it is told whom to trust.
#[derive(Clone, Default)]
pub(crate) struct Hello {
    trusted: Option<Arc<RootCertStore>>,
    pub(crate) alpn: Vec<&'static str>,
    pub(crate) versions: Option<&'static SupportedProtocolVersion>,
    certificate: Option<(CertificateDer<'static>, Arc<PrivateKeyDer<'static>>)>,
}

impl Hello {
    pub(crate) fn offering(alpn: &[&'static str]) -> Hello {
        Hello {
            alpn: alpn.to_vec(),
            ..Hello::default()
        }
    }

    pub(crate) fn with(pair: &Pair) -> Hello {
        Hello {
            certificate: Some((pair.cert.clone(), Arc::new(pair.key.clone_key()))),
            ..Hello::default()
        }
    }

    /// Takes certificates of these authorities alone.
    pub(crate) fn trusting(mut self, authorities: &[&Authority]) -> Hello {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.issuer.der().clone()).expect("an authority");
        }
        self.trusted = Some(Arc::new(roots));
        self
    }

    pub(crate) fn in_version(version: &'static SupportedProtocolVersion) -> Hello {
        Hello {
            versions: Some(version),
            ..Hello::default()
        }
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let versions = match self.versions {
            Some(version) => vec![version],
            None => rustls::ALL_VERSIONS.to_vec(),
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&versions)
            .expect("versions that exist");
        let builder = match &self.trusted {
            Some(roots) => builder.with_root_certificates(roots.clone()),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyServer)),
        };
        let mut config = match &self.certificate {
            Some((cert, key)) => builder
                .with_client_auth_cert(vec![cert.clone()], key.clone_key())
                .expect("a pair"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream);
        tokio::time::timeout(PATIENCE, shaken)
            .await
            .expect("an answer to the handshake")
    }

    /// The certificate that the server shows.
    pub(crate) async fn shown(&self, address: SocketAddr) -> io::Result<CertificateDer<'static>> {
        let stream = self.connect(address).await?;
        let shown = stream
            .get_ref()
            .1
            .peer_certificates()
            .expect("a server shows one");
        Ok(shown[0].clone().into_owned())
    }

    /// The answer to a GET over HTTP/1.1. What the server thinks of a client's certificate may show only here.
    pub(crate) async fn get(&self, address: SocketAddr, path: &str) -> io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        self.exchange(address, &request).await
    }

    /// The answer to a whole request that closes its connection.
    pub(crate) async fn exchange(&self, address: SocketAddr, request: &str) -> io::Result<String> {
        let mut stream = self.connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("an answer or an end")?;
        match answer.is_empty() {
            true => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            false => Ok(String::from_utf8_lossy(&answer).into_owned()),
        }
    }
}

#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
