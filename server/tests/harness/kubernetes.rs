//! A server that serves the Kubernetes API beside etcd's.

use super::{Ports, Server, wait_until};

pub(crate) struct Kubernetes {
    pub(crate) server: Server,
    ports: Ports,
}

impl Kubernetes {
    pub(crate) async fn start() -> Kubernetes {
        let ports = Ports::reserve();
        let mut server = Server::prepared(&[]);
        server.add_flag(&format!("--apiserver-listen=http://127.0.0.1:{}", ports.client));
        server.run();
        let kubernetes = Kubernetes { server, ports };
        wait_until("the Kubernetes API is served", || {
            kubernetes.server.log().contains("serving the Kubernetes API")
        });
        kubernetes
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.client)
    }
}
