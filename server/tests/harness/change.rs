//! A cluster whose members change while it runs: added, promoted, removed, or left with an empty disk.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::{Member, MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest};
use tonic::{Response, Status};

use super::client::Carrier;
use super::server::Seat;
use super::{Client, Cluster, Server};

impl Cluster {
    /// Adds a server that has never run, by a call to member `through`, starts it with what the answer says, and waits
    /// until it serves. Returns its place.
    pub(crate) async fn grow(&mut self, through: usize, server: Server, is_learner: bool) -> usize {
        let request = MemberAddRequest {
            peer_urls: vec![server.peer_url()],
            is_learner,
        };
        let added = self
            .reconfigure(through, "MemberAdd", |mut cluster| {
                let request = request.clone();
                async move { cluster.member_add(request).await }
            })
            .await;
        let id = added.member.expect("the answer holds the new member").id;
        let place = self.admit(server, id, &added.members);
        self.server_mut(place).wait_until_ready();
        place
    }

    /// Starts a server as the member `id`, which must be among the `members` of the answer that added it.
    pub(crate) fn admit(&mut self, mut server: Server, id: u64, members: &[Member]) -> usize {
        let name = format!("m{}", self.named);
        self.named += 1;
        let entry = |member: &Member| {
            let name = if member.id == id { &name } else { &member.name };
            let entries = member.peer_urls.iter().map(|url| format!("{name}={url}"));
            entries.collect::<Vec<_>>().join(",")
        };
        server.sit(Seat {
            advertised: server.peer_url(),
            initial_cluster: members.iter().map(entry).collect::<Vec<_>>().join(","),
            name,
        });
        server.add_flag("--initial-cluster-state=existing");
        self.clients.push(Client::lazy(&server.endpoint()));
        self.servers.push(server);
        self.ids.push(id);
        let place = self.servers.len() - 1;
        self.spawn(place);
        place
    }

    /// Makes a learner a voter, by a call to member `through`, as soon as it has caught up.
    pub(crate) async fn promote(&self, through: usize, learner: usize) {
        let request = MemberPromoteRequest { id: self.id(learner) };
        self.reconfigure(through, "MemberPromote", |mut cluster| async move {
            cluster.member_promote(request).await
        })
        .await;
    }

    /// Removes a member by a call to member `through`, and waits for the end of its process. The places of those behind
    /// it change.
    pub(crate) async fn shrink(&mut self, through: usize, member: usize) -> (Server, ExitStatus) {
        let request = MemberRemoveRequest { id: self.id(member) };
        self.reconfigure(through, "MemberRemove", |mut cluster| async move {
            cluster.member_remove(request).await
        })
        .await;
        let (mut server, _) = (self.servers.remove(member), self.clients.remove(member));
        self.ids.remove(member);
        let status = server.wait_for_exit();
        (server, status)
    }

    /// A change of membership that is asked for again while the cluster says that it is not ready for one.
    pub(crate) async fn reconfigure<A, F>(
        &self,
        through: usize,
        what: &str,
        call: impl Fn(ClusterClient<Carrier>) -> F,
    ) -> A
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let start = Instant::now();
        loop {
            let status = match call(self.client(through).cluster.clone()).await {
                Ok(answer) => return answer.into_inner(),
                Err(status) => status,
            };
            let may_be_ready_later = NOT_READY.contains(&status.message());
            assert!(
                may_be_ready_later && start.elapsed() < CHANGE_PATIENCE,
                "{what} through m{through} after {:?}: {status:?}",
                start.elapsed()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The refusals that pass by themselves.
const NOT_READY: [&str; 3] = [
    "etcdserver: unhealthy cluster",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: can only promote a learner member which is in sync with leader",
];
/// Members must have been connected for 5 s before a change.
const CHANGE_PATIENCE: Duration = Duration::from_secs(30);
