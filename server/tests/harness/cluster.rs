//! Several servers that are one cluster.

use std::time::{Duration, Instant};

use proto::etcdserverpb::{StatusRequest, StatusResponse};

use super::proxy::{Cut, Network};
use super::server::Seat;
use super::{Client, PATIENCE, Server};

/// Servers with one initial cluster. The first founds nothing alone: all are started before any is waited for.
pub(crate) struct Cluster {
    pub(super) servers: Vec<Server>,
    pub(super) clients: Vec<Client>,
    /// The ids that the members answer with, by their order.
    pub(super) ids: Vec<u64>,
    /// How many names were given away.
    pub(super) named: usize,
    network: Option<Network>,
}

impl Cluster {
    /// A fresh cluster of so many members, ready to serve.
    pub(crate) async fn start(members: usize) -> Cluster {
        Cluster::start_with(members, &[]).await
    }

    /// A fresh cluster whose members have additional flags.
    pub(crate) async fn start_with(members: usize, flags: &[&str]) -> Cluster {
        let servers = prepare(members, flags);
        let urls: Vec<String> = servers.iter().map(Server::peer_url).collect();
        Cluster::found(servers, &urls, None).await
    }

    /// A fresh cluster whose members speak TLS with each other, by flags that settle their certificates.
    pub(crate) async fn start_with_peer_tls(members: usize, flags: &[&str]) -> Cluster {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Cluster::start_with_peer_tls_of_each(members, |_, _| flags.clone()).await
    }

    /// The same with flags of each member's own.
    pub(crate) async fn start_with_peer_tls_of_each(
        members: usize,
        flags: impl Fn(usize, &Server) -> Vec<String>,
    ) -> Cluster {
        let mut servers = prepare(members, &[]);
        let secure = |server: &Server| server.peer_url().replace("http://", "https://");
        let urls: Vec<String> = servers.iter().map(secure).collect();
        for (member, (server, url)) in servers.iter_mut().zip(&urls).enumerate() {
            server.add_flag(&format!("--listen-peer-urls={url}"));
            for flag in flags(member, server) {
                server.add_flag(&flag);
            }
        }
        Cluster::found(servers, &urls, None).await
    }

    /// A fresh cluster whose members listen to each other at these URLs.
    pub(crate) async fn start_at(urls: &[String]) -> Cluster {
        let mut servers = prepare(urls.len(), &[]);
        for (server, url) in servers.iter_mut().zip(urls) {
            server.add_flag(&format!("--listen-peer-urls={url}"));
        }
        Cluster::found(servers, urls, None).await
    }

    /// A fresh cluster whose links can be cut: each member advertises a proxy and listens behind it.
    pub(crate) async fn start_behind_proxies(members: usize, flags: &[&str]) -> Cluster {
        let servers = prepare(members, flags);
        let targets: Vec<u16> = servers.iter().map(|server| server.ports().peer).collect();
        let network = Network::start(&targets);
        let urls: Vec<String> = (0..members).map(|member| network.url(member)).collect();
        Cluster::found(servers, &urls, Some(network)).await
    }

    async fn found(servers: Vec<Server>, urls: &[String], network: Option<Network>) -> Cluster {
        let mut cluster = Cluster {
            clients: servers
                .iter()
                .map(|server| Client::lazy(&server.endpoint()))
                .collect(),
            servers,
            ids: Vec::new(),
            named: urls.len(),
            network,
        };
        let initial_cluster = initial_cluster(urls);
        for (member, url) in urls.iter().enumerate() {
            cluster.servers[member].sit(Seat {
                name: format!("m{member}"),
                advertised: url.clone(),
                initial_cluster: initial_cluster.clone(),
            });
        }
        cluster.run_all();
        for member in 0..urls.len() {
            let status = cluster.status(member).await.expect("a healthy member answers");
            cluster.ids.push(status.header.expect("a header").member_id);
        }
        cluster
    }

    pub(crate) fn members(&self) -> std::ops::Range<usize> {
        0..self.servers.len()
    }

    pub(crate) fn others(&self, member: usize) -> Vec<usize> {
        self.members().filter(|other| *other != member).collect()
    }

    pub(crate) fn server(&self, member: usize) -> &Server {
        &self.servers[member]
    }

    pub(crate) fn server_mut(&mut self, member: usize) -> &mut Server {
        &mut self.servers[member]
    }

    /// A client of one member; all its holders share one connection, until the member is started again.
    pub(crate) fn client(&self, member: usize) -> &Client {
        &self.clients[member]
    }

    /// New clients with connections of their own, one for each member.
    pub(crate) fn new_clients(&self) -> Vec<Client> {
        self.servers
            .iter()
            .map(|server| Client::lazy(&server.endpoint()))
            .collect()
    }

    pub(crate) fn id(&self, member: usize) -> u64 {
        self.ids[member]
    }

    /// What a member says of itself; nothing if it does not answer.
    pub(crate) async fn status(&self, member: usize) -> Option<StatusResponse> {
        let mut client = self.clients[member].maintenance.clone();
        let answer = tokio::time::timeout(STATUS_PATIENCE, client.status(StatusRequest {})).await;
        Some(answer.ok()?.ok()?.into_inner())
    }

    /// Waits until all members that run and answer agree on a leader, which is one of them.
    pub(crate) async fn leader(&self) -> usize {
        let start = Instant::now();
        loop {
            if let Some(leader) = self.agreed_leader().await {
                return leader;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "no leader that all members agree on after {PATIENCE:?}"
            );
            tokio::time::sleep(STEP).await;
        }
    }

    async fn agreed_leader(&self) -> Option<usize> {
        let mut named = None;
        let mut answering = 0;
        for member in self.members().filter(|member| self.servers[*member].runs()) {
            let Some(status) = self.status(member).await else {
                continue;
            };
            let view = (status.leader, status.raft_term);
            if *named.get_or_insert(view) != view {
                return None;
            }
            answering += 1;
        }
        let (id, _) = named?;
        let leader = self.ids.iter().position(|known| *known == id)?;
        (answering * 2 > self.servers.len() && self.servers[leader].runs()).then_some(leader)
    }

    /// A member that does not lead.
    pub(crate) async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (leader + 1) % self.servers.len()
    }

    /// Kills a member as `kill -9` does.
    pub(crate) fn kill(&mut self, member: usize) {
        self.servers[member].kill();
        self.set_process(member);
    }

    /// Starts a member and does not wait until it serves.
    pub(crate) fn spawn(&mut self, member: usize) {
        self.servers[member].spawn();
        self.set_process(member);
        // A call over the old connection may find out only then that it is broken.
        self.clients[member] = Client::lazy(&self.servers[member].endpoint());
    }

    /// Starts a member again and waits until it serves.
    pub(crate) fn run(&mut self, member: usize) {
        self.spawn(member);
        self.servers[member].wait_until_ready();
    }

    /// Starts every member that does not run, and waits until all serve.
    pub(crate) fn run_all(&mut self) {
        for member in self.members() {
            if !self.servers[member].runs() {
                self.spawn(member);
            }
        }
        for server in &mut self.servers {
            server.wait_until_ready();
        }
    }

    fn set_process(&self, member: usize) {
        if let Some(network) = &self.network {
            let server = &self.servers[member];
            network.set_process(member, server.runs().then(|| server.pid()));
        }
    }

    /// Stops a member, empties its disk, and starts it again as the same member.
    pub(crate) fn lose_disk(&mut self, member: usize) {
        let server = self.server_mut(member);
        server.terminate();
        std::fs::remove_dir_all(server.data_dir()).expect("a member that ran has a data folder");
        server.add_flag("--initial-cluster-state=existing");
        self.run(member);
    }

    /// Cuts a member off from all others.
    pub(crate) fn isolate(&self, member: usize, cut: Cut) {
        self.network().isolate(member, cut);
    }

    pub(crate) fn heal(&self) {
        self.network().heal();
    }

    fn network(&self) -> &Network {
        self.network.as_ref().expect("the cluster is behind proxies")
    }

    /// Waits until a condition on all members' states holds; members that do not answer are left out.
    pub(crate) async fn wait_for(&self, what: &str, holds: impl Fn(&[StatusResponse]) -> bool) {
        let start = Instant::now();
        loop {
            let mut all = Vec::new();
            for member in self.members().filter(|member| self.servers[*member].runs()) {
                all.extend(self.status(member).await);
            }
            if holds(&all) {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{what}: not within {PATIENCE:?}: {all:?}"
            );
            tokio::time::sleep(STEP).await;
        }
    }
}

/// The flag's value for members m0, m1, ... with these peer URLs.
pub(crate) fn initial_cluster(urls: &[String]) -> String {
    let entries: Vec<String> = urls
        .iter()
        .enumerate()
        .map(|(member, url)| format!("m{member}={url}"))
        .collect();
    entries.join(",")
}

fn prepare(members: usize, flags: &[&str]) -> Vec<Server> {
    (0..members).map(|_| Server::prepared(flags)).collect()
}

/// A suspended member does not answer.
const STATUS_PATIENCE: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(5);
