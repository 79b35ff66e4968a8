//! Changes of a running cluster: members that are restarted, come, are promoted, lead and go.

use std::future::Future;
use std::time::{Duration, Instant};

use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::{
    MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest, MoveLeaderRequest, SnapshotRequest,
};
use tonic::{Response, Status};

use super::member::{failed, maintenance};
use super::{ATTEMPT_MAX, Cluster, ClusterState, POLL, READY_MAX, answers, new_seat};
use crate::Error;
use crate::transport::{Channel, Endpoint};

impl Cluster {
    /// Asks a member to stop, and waits until it has.
    pub(crate) async fn stop(&mut self, seat: usize) -> Result<(), Error> {
        if let Some(process) = &self.processes[seat] {
            process.terminate()?;
        }
        self.ended(seat).await?;
        self.processes[seat] = None;
        Ok(())
    }

    /// Waits until a member's process has ended by itself.
    async fn ended(&mut self, seat: usize) -> Result<(), Error> {
        let deadline = Instant::now() + READY_MAX;
        while let Some(process) = &mut self.processes[seat]
            && process.ended()?.is_none()
        {
            if Instant::now() >= deadline {
                return Err(self.not_ready(seat, format!("it does not end within {READY_MAX:?}")));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until a linearizable read through a member is answered.
    pub(crate) async fn serves(&mut self, seat: usize) -> Result<(), Error> {
        let deadline = Instant::now() + READY_MAX;
        let endpoint = self.endpoint(seat);
        loop {
            self.check_running(seat)?;
            if tokio::time::timeout(ATTEMPT_MAX, answers(&endpoint)).await == Ok(true) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.not_ready(seat, format!("no answer within {READY_MAX:?}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A member's id.
    pub(crate) async fn id(&self, seat: usize) -> Result<u64, Error> {
        let header = self.status(seat).await?.header;
        Ok(header.map_or(0, |header| header.member_id))
    }

    /// The seats of the members.
    pub(crate) fn members(&self) -> Vec<usize> {
        let all = 0..self.seats.len();
        all.filter(|&seat| self.seats[seat].is_member).collect()
    }

    /// Gives a seat to one who is no member yet; clients may know it from now on.
    pub(crate) fn prepare_seat(&mut self) -> Result<usize, Error> {
        let seat = new_seat(self.seats.len())?;
        self.seats.push(seat);
        self.processes.push(None);
        Ok(self.seats.len() - 1)
    }

    /// Adds whoever has the seat as a learner, starts it, and promotes it as soon as it can be.
    pub(crate) async fn join(&mut self, by: usize, seat: usize) -> Result<(), Error> {
        let request = MemberAddRequest {
            peer_urls: vec![self.seats[seat].peer_url()],
            is_learner: true,
        };
        let endpoint = self.endpoint(by);
        let added = changed(&endpoint, "adding a member", |mut client| {
            let request = request.clone();
            async move { client.member_add(request).await }
        })
        .await?;
        self.seats[seat].is_member = true;
        self.start_member(seat, ClusterState::Existing)?;
        let id = added.member.map_or(0, |member| member.id);
        changed(&endpoint, "promoting a member", |mut client| async move {
            client.member_promote(MemberPromoteRequest { id }).await
        })
        .await?;
        self.serves(seat).await
    }

    /// Removes a member, and waits until its process has ended.
    pub(crate) async fn leave(&mut self, by: usize, seat: usize) -> Result<(), Error> {
        let id = self.id(seat).await?;
        changed(&self.endpoint(by), "removing a member", |mut client| async move {
            client.member_remove(MemberRemoveRequest { id }).await
        })
        .await?;
        self.seats[seat].is_member = false;
        self.ended(seat).await?;
        self.processes[seat] = None;
        Ok(())
    }

    /// Has another member lead.
    pub(crate) async fn move_leader(&self, leader: usize, target: usize) -> Result<(), Error> {
        let target_id = self.id(target).await?;
        let mut client: MaintenanceClient<Channel> = maintenance(&self.endpoint(leader)).await?;
        let moved = client.move_leader(MoveLeaderRequest { target_id }).await;
        moved.map(drop).map_err(failed("moving the leadership"))
    }

    /// Reads a whole backup from a member; returns its bytes.
    pub(crate) async fn back_up(&self, seat: usize) -> Result<u64, Error> {
        let failed = || failed("saving a backup");
        let mut client: MaintenanceClient<Channel> = maintenance(&self.endpoint(seat)).await?;
        let parts = client.snapshot(SnapshotRequest {}).await;
        let mut parts = parts.map_err(failed())?.into_inner();
        let mut bytes = 0;
        while let Some(part) = parts.message().await.map_err(failed())? {
            bytes += part.blob.len() as u64;
        }
        Ok(bytes)
    }
}

/// Asks for a change again while the cluster says that it is not ready for one: for some seconds after the one before
/// it, or until a learner has caught up.
async fn changed<A, F>(
    endpoint: &Endpoint,
    what: &'static str,
    call: impl Fn(ClusterClient<Channel>) -> F,
) -> Result<A, Error>
where
    F: Future<Output = Result<Response<A>, Status>>,
{
    let channel = Channel::connect(endpoint).await?;
    let origin = channel.origin();
    let client = ClusterClient::with_origin(channel, origin);
    let deadline = Instant::now() + READY_MAX;
    loop {
        match call(client.clone()).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if NOT_READY.contains(&status.message()) && Instant::now() < deadline => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(status) => return Err(failed(what)(status)),
        }
    }
}

/// The refusals that pass by themselves.
const NOT_READY: [&str; 3] = [
    "etcdserver: unhealthy cluster",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: can only promote a learner member which is in sync with leader",
];
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
