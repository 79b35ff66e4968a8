//! A server that serves the Kubernetes API beside etcd's.
//!
//! `TAFFRAIL_TEST_KUBERNETES` names a kube-apiserver to run in its place, over a store of its own for each test (ours, or
//! the one that `TAFFRAIL_TEST_SERVER` names). That is how the sessions of clients are tested themselves. It is reached
//! over plain HTTP like ours: a relay holds the certificate that it wants of a client.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;

use super::tls::{Authority, Hello};
use super::{PATIENCE, Ports, Server, wait_until};

pub(crate) struct Kubernetes {
    pub(crate) server: Server,
    ports: Ports,
    _real: Option<Real>,
}

impl Kubernetes {
    pub(crate) async fn start() -> Kubernetes {
        if let Some(program) = std::env::var_os("TAFFRAIL_TEST_KUBERNETES") {
            return Kubernetes::real(PathBuf::from(program)).await;
        }
        Kubernetes::start_with(&[])
    }

    /// Ours, with additional flags.
    pub(crate) fn start_with(flags: &[&str]) -> Kubernetes {
        let mut kubernetes = Kubernetes::prepared(flags);
        let url = kubernetes.url();
        kubernetes.server.add_flag(&format!("--apiserver-listen={url}"));
        kubernetes.run();
        kubernetes
    }

    /// The same over TLS.
    pub(crate) fn start_secured(flags: &[&str]) -> Kubernetes {
        let mut kubernetes = Kubernetes::prepared(flags);
        let url = kubernetes.url().replacen("http://", "https://", 1);
        kubernetes.server.add_flag(&format!("--apiserver-listen={url}"));
        kubernetes.run();
        kubernetes
    }

    fn prepared(flags: &[&str]) -> Kubernetes {
        Kubernetes {
            server: Server::prepared(flags),
            ports: Ports::reserve(),
            _real: None,
        }
    }

    /// Starts the process, anew perhaps, and waits until the Kubernetes API is served.
    pub(crate) fn run(&mut self) {
        let served = |server: &Server| server.log().matches("serving the Kubernetes API").count();
        let before = served(&self.server);
        self.server.run();
        wait_until("the Kubernetes API is served", || served(&self.server) > before);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.client))
    }

    async fn real(program: PathBuf) -> Kubernetes {
        let (server, ports) = (Server::start(), Ports::reserve());
        let mut real = Real::start(&program, &server.endpoint(), ports.peer);
        relay(ports.client, ports.peer, real.hello.clone());
        let start = Instant::now();
        while !real.is_ready(ports.peer).await {
            let is_waited_for = !real.has_ended() && start.elapsed() < PATIENCE * 3;
            assert!(is_waited_for, "not ready: {}", real.log());
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        Kubernetes {
            server,
            ports,
            _real: Some(real),
        }
    }
}

/// A kube-apiserver that lets its one client do everything. Ends with it.
struct Real {
    child: Child,
    authority: Authority,
    hello: Hello,
}

impl Real {
    fn start(program: &Path, store: &str, port: u16) -> Real {
        let authority = Authority::new();
        let own = authority.issue("server", 1, &["127.0.0.1", "localhost"]);
        // Who asks ours is nobody in particular either.
        let client = authority.issue_to("system:anonymous", 2, &[]);
        let log = File::create(authority.file("log")).expect("a file for its log");
        let path = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
        let child = Command::new(program)
            .args([
                format!("--etcd-servers={store}"),
                format!("--secure-port={port}"),
                path("tls-cert-file", &own.cert_file),
                path("tls-private-key-file", &own.key_file),
                path("client-ca-file", &authority.ca_file()),
                path("service-account-signing-key-file", &own.key_file),
                path("service-account-key-file", &own.cert_file),
                path("cert-dir", &authority.file("")),
                format!("--disable-admission-plugins={}", NOT_ADMITTED.join(",")),
            ])
            .args(FLAGS)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("kube-apiserver can be run");
        Real {
            child,
            hello: Hello::with(&client),
            authority,
        }
    }

    /// Whether it answers, and has made what there always is.
    async fn is_ready(&self, port: u16) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for path in [
            "/readyz",
            "/api/v1/namespaces/kube-node-lease",
            "/api/v1/namespaces/default/services/kubernetes",
        ] {
            match self.hello.get(address, path).await {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => {}
                _ => return false,
            }
        }
        true
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.authority.file("log")).unwrap_or_default()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Carries what comes in over plain TCP to a server that speaks TLS. On a thread of its own: those who run programs of
/// others do not wait for anything but these.
fn relay(from: u16, to: u16, hello: Hello) {
    let relay = async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, from))
            .await
            .expect("a reserved port");
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, to));
        while let Ok((mut plain, _)) = listener.accept().await {
            let hello = hello.clone();
            tokio::spawn(async move {
                if let Ok(mut secured) = hello.connect(to).await {
                    let _ = copy_bidirectional(&mut plain, &mut secured).await;
                }
            });
        }
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(relay);
    });
}

/// Nothing of it knows who its neighbours are, and the addresses of services are those of ours.
const FLAGS: &[&str] = &[
    "--bind-address=127.0.0.1",
    "--advertise-address=10.255.0.1",
    "--endpoint-reconciler-type=none",
    "--authorization-mode=AlwaysAllow",
    "--allow-privileged=true",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--service-cluster-ip-range=10.96.0.0/12",
];

/// Admission that wants controllers, or is none of ours.
const NOT_ADMITTED: &[&str] = &[
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "ClusterTrustBundleAttest",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "LimitRanger",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "PersistentVolumeClaimResize",
    "PodSecurity",
    "PodTopologyLabels",
    "ResourceQuota",
    "RuntimeClass",
    "ServiceAccount",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];
