//! The public handle: what a program that embeds the store, or the gRPC services, call. Requests and answers are the
//! messages of the etcd v3 API; argument checks, quota, consensus and headers are all in here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, CompactionResponse, DeleteRangeRequest,
    DeleteRangeResponse, HashKvResponse, InternalRaftRequest, PutRequest, PutResponse, RangeRequest,
    RangeResponse, TxnRequest, TxnResponse,
};
use tokio::sync::oneshot;

use super::bootstrap;
use super::command::{Answer, Answered, Command};
use super::history;
use super::metrics::Metrics;
use super::open_error::OpenError;
use super::reads::{self, RangeStream};
use super::settings::Settings;
use super::shared::Shared;
use super::slow::TimedCall;
use super::status::{self, Status};
use super::streams::{self, WatchRequests, WatchResponses};
use crate::apply::{
    Request, RequestKind, Response, check_delete, check_put, check_range, check_txn, cost_of_put,
    cost_of_txn, is_read_only, is_serializable,
};
use crate::auth::Caller;
use crate::env::{NoPeers, Transport};
use crate::error::{Error, RequestError, Unavailable};
use crate::types::{ClusterId, MemberId};

/// An open store. Cheap to clone; all clones speak to one member. The member's task runs on the tokio runtime that
/// called [`Store::open`] and ends with [`Store::stop`]; the handle may be used from any runtime.
#[derive(Clone)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
    /// Who calls by it: whoever opened it, until told otherwise by [`Store::acting_as`].
    pub(super) caller: Caller,
}

impl Store {
    /// Opens the store of a data folder, founding a cluster where the folder is new.
    ///
    /// # Errors
    /// See [`OpenError`]; each variant is one clear line for an operator. Nothing is changed by a refusal.
    pub async fn open(settings: Settings) -> Result<Store, OpenError> {
        Store::open_with(settings, Arc::new(NoPeers)).await
    }

    /// Opens the store of a member that reaches its peers by `transport`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(settings: Settings, transport: Arc<dyn Transport>) -> Result<Store, OpenError> {
        bootstrap::open(settings, transport).await.map(Store::of)
    }

    pub(super) fn of(shared: Arc<Shared>) -> Self {
        Store {
            shared,
            caller: Caller::Trusted,
        }
    }

    /// Takes in a message that another member's [`Transport`] sent. Never waits: `false` says that it was dropped.
    pub fn receive(&self, from: MemberId, message: Bytes) -> bool {
        self.shared.inbox.try_send((from, message)).is_ok()
    }

    /// Waits until requests can be served: a leader is known, and this member is in the member list by name.
    ///
    /// # Errors
    /// `Stopped` when the store stops before that.
    pub async fn ready(&self) -> Result<(), Error> {
        let mut ready = self.shared.ready.subscribe();
        let mut fatal = self.shared.fatal.subscribe();
        tokio::select! {
            ready = ready.wait_for(|ready| *ready) => ready.map(drop).map_err(|_| Unavailable::Stopped.into()),
            _ = fatal.wait_for(Option::is_some) => Err(Unavailable::Stopped.into()),
        }
    }

    /// Reads keys. Linearizable unless `serializable` is set.
    ///
    /// # Errors
    /// `EmptyKey`, `InvalidSortOption`, `Compacted`, `FutureRevision`; `Timeout` or `LeaderChanged` for a
    /// linearizable read without a quorum.
    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        check_range(&request)?;
        let call = TimedCall::begin(&self.shared, RequestKind::Range);
        let result = async {
            if !request.serializable {
                self.read_index().await?;
            }
            reads::range(&self.shared, &self.caller, &request).await
        };
        let result = result.await;
        call.ended_range(&request, &result);
        result
    }

    /// Reads keys as a stream of chunks of one revision.
    #[must_use]
    pub fn range_stream(&self, request: RangeRequest) -> RangeStream {
        RangeStream::new(self.clone(), request)
    }

    /// Writes a key.
    ///
    /// # Errors
    /// `NoSpace`, `EmptyKey`, `ValueProvided`, `LeaseProvided`, `RequestTooLarge`, `LeaseNotFound`, `KeyNotFound`;
    /// [`Unavailable`] where it is unknown whether the write happened.
    pub async fn put(&self, request: PutRequest) -> Result<PutResponse, Error> {
        self.check_space(cost_of_put(&request)).await?;
        check_put(&request)?;
        let request = InternalRaftRequest {
            put: Some(request),
            ..Default::default()
        };
        match self.propose(request).await? {
            Response::Put(mut response) => {
                self.shared.complete(&mut response.header);
                Ok(response)
            }
            other => unexpected(&other),
        }
    }

    /// Deletes keys.
    ///
    /// # Errors
    /// `EmptyKey`; [`Unavailable`] where it is unknown whether the deletion happened.
    pub async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        check_delete(&request)?;
        let request = InternalRaftRequest {
            delete_range: Some(request),
            ..Default::default()
        };
        match self.propose(request).await? {
            Response::DeleteRange(mut response) => {
                self.shared.complete(&mut response.header);
                Ok(response)
            }
            other => unexpected(&other),
        }
    }

    /// Judges comparisons and runs one of two lists of operations, atomically.
    ///
    /// # Errors
    /// Those of its operations, `TooManyOps` and `DuplicateKey`; a failed transaction changes nothing.
    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        self.check_space(cost_of_txn(&request)).await?;
        check_txn(&request, self.shared.settings.max_txn_ops)?;
        if is_read_only(&request) {
            let call = TimedCall::begin(&self.shared, RequestKind::ReadonlyTxn);
            let result = async {
                if !is_serializable(&request) {
                    self.read_index().await?;
                }
                reads::read_txn(&self.shared, &self.caller, &request).await
            };
            let result = result.await;
            call.ended_read_txn(&request, &result);
            return result;
        }
        let request = InternalRaftRequest {
            txn: Some(request),
            ..Default::default()
        };
        let answered = self.propose_pinned(request).await?;
        match answered.response {
            Response::Txn(plan) => reads::finish_txn(&self.shared, plan, answered.pin).await,
            other => unexpected(&other),
        }
    }

    /// Forgets history below a revision. With `physical`, returns once it is removed from the working copy too.
    ///
    /// # Errors
    /// `Compacted`, `FutureRevision`.
    pub async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Error> {
        let physical = request.physical;
        let request = InternalRaftRequest {
            compaction: Some(request),
            ..Default::default()
        };
        match self.propose(request).await? {
            Response::Compact(mut response) => {
                if physical {
                    self.ask(Command::AwaitCompaction).await?;
                }
                self.shared.complete(&mut response.header);
                Ok(response)
            }
            other => unexpected(&other),
        }
    }

    /// Returns once the working copy is rid of what compactions have given up so far. Space is reclaimed without being
    /// asked for; whoever asks wants to write into it.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn defragment(&self) -> Result<(), Error> {
        self.permit(Request::Maintenance)?;
        self.ask(Command::AwaitCompaction).await
    }

    /// Opens a watch stream.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn watch(&self) -> Result<(WatchRequests, WatchResponses), Error> {
        Ok(streams::open(&self.shared, &self.caller).await?)
    }

    /// Lists, raises or clears alarms.
    ///
    /// # Errors
    /// `UnknownAlarmAction`.
    pub async fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse, Error> {
        self.permit(match request.action() {
            AlarmAction::Get => Request::AlarmList,
            _ => Request::AlarmChange,
        })?;
        if AlarmAction::try_from(request.action).is_err() {
            return Err(RequestError::UnknownAlarmAction {
                action: request.action,
            }
            .into());
        }
        let request = InternalRaftRequest {
            alarm: Some(request),
            ..Default::default()
        };
        match self.propose(request).await? {
            Response::Alarm(mut response) => {
                self.shared.complete(&mut response.header);
                Ok(response)
            }
            other => unexpected(&other),
        }
    }

    /// Hands the leadership to a voter, and returns once this member hears that it leads.
    ///
    /// # Errors
    /// `NotLeader`, `BadLeaderTransferee`, `LeaderTransferTimeout`.
    pub async fn move_leader(&self, target: MemberId) -> Result<(), Error> {
        self.permit(Request::Maintenance)?;
        self.ask(|answer| Command::MoveLeader { target, answer }).await
    }

    /// A hash over the history up to a revision (0: the current one), for comparing members.
    ///
    /// # Errors
    /// `Compacted`, `FutureRevision`.
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Error> {
        self.permit(Request::Maintenance)?;
        history::hash_kv(&self.shared, revision).await
    }

    /// This member's own view of itself; asks nobody.
    #[must_use]
    pub fn status(&self) -> Status {
        status::status(&self.shared)
    }

    /// Numbers for operators.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        status::metrics(&self.shared)
    }

    /// This member's id.
    #[must_use]
    pub fn member_id(&self) -> MemberId {
        self.shared.member
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.shared.cluster
    }

    /// Whether this member knows a leader.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.shared.published.leader.load(Ordering::Relaxed) != 0
    }

    /// Waits for a fatal error (disk, checksum, broken invariant) and returns its description. From then on nothing
    /// is acknowledged; the process should end.
    pub async fn failed(&self) -> String {
        let mut fatal = self.shared.fatal.subscribe();
        loop {
            if let Some(cause) = fatal.borrow_and_update().clone() {
                return cause;
            }
            if fatal.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops: refuses new work, answers what was accepted, ends the watch streams, writes a last checkpoint and
    /// closes the files.
    pub async fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let mut ended = self.shared.ended.subscribe();
        // An error means that the driver is about to end, or has ended, already.
        let _ = self.shared.send(Command::Stop).await;
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Confirms that the state read next holds every write acknowledged before this call.
    pub(super) async fn read_index(&self) -> Result<(), Error> {
        self.ask(Command::ReadIndex).await
    }

    /// Sends a command that is answered once.
    pub(super) async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.shared.send(command(answer)).await?;
        answered
            .await
            .unwrap_or_else(|_| Err(Unavailable::Stopped.into()))
    }

    /// Replicates a request and waits for it to be applied here.
    pub(super) async fn propose(&self, request: InternalRaftRequest) -> Result<Response, Error> {
        Ok(self.propose_pinned(request).await?.response)
    }

    /// As `propose`, with what keeps the values that the answer still lacks.
    async fn propose_pinned(&self, mut request: InternalRaftRequest) -> Result<Answered, Error> {
        let shared = &self.shared;
        if shared.stopping.load(Ordering::Relaxed) {
            return Err(Unavailable::Stopped.into());
        }
        self.sign(&mut request)?;
        self.back_pressure().await?;
        let call = TimedCall::begin(shared, RequestKind::of(&request));
        let counter = shared.counter.fetch_add(1, Ordering::Relaxed);
        request.proposal = Some(proto::etcdserverpb::ProposalId {
            member: shared.member.0,
            boot: shared.boot,
            counter,
        });
        let data = Bytes::from(request.encode_to_vec());
        drop(request);
        let max = shared.settings.max_request_bytes;
        if data.len() > max {
            return Err(RequestError::RequestTooLarge {
                bytes: data.len(),
                max,
            }
            .into());
        }
        let _permit = Permit::take(shared, data.len())?;
        let answered = self.ask(|answer| Command::Propose {
            counter,
            data,
            answer,
        });
        let answered = answered.await;
        // That the request was refused is an answer too.
        call.ended(!matches!(answered, Err(Error::Unavailable(_))));
        answered
    }

    /// Slows writers down while the checkpoint lags, more the further it lags, and stops them at the hard limit.
    async fn back_pressure(&self) -> Result<(), Error> {
        let limits = &self.shared.settings.limits;
        let dirty = || self.shared.dirty.bytes.load(Ordering::Relaxed);
        if dirty() <= limits.dirty_bytes_soft {
            return Ok(());
        }
        let over = (dirty() - limits.dirty_bytes_soft.min(dirty())) as f64;
        let span = limits
            .dirty_bytes_hard
            .saturating_sub(limits.dirty_bytes_soft)
            .max(1) as f64;
        tokio::time::sleep(BACK_PRESSURE_PAUSE_MAX.mul_f64((over / span).min(1.0))).await;
        let deadline = tokio::time::Instant::now() + self.shared.settings.request_timeout();
        while dirty() > limits.dirty_bytes_hard {
            let fewer = self.shared.dirty.fewer.notified();
            if self.shared.stopping.load(Ordering::Relaxed) {
                return Err(Unavailable::Stopped.into());
            }
            if dirty() > limits.dirty_bytes_hard && tokio::time::timeout_at(deadline, fewer).await.is_err() {
                return Err(Unavailable::TooManyRequests.into());
            }
        }
        Ok(())
    }

    /// Judges the quota before proposing (it is this member's own, so apply must not); over it, raises the alarm
    /// for everybody.
    pub(super) async fn check_space(&self, cost_bytes: u64) -> Result<(), Error> {
        let published = &self.shared.published;
        let short =
            published.short_of_space.load(Ordering::Relaxed) || published.log_full.load(Ordering::Relaxed);
        if cost_bytes > 0 && short {
            // The alarm is being seen to.
            return Err(RequestError::NoSpace.into());
        }
        let Some(quota) = self.shared.settings.quota_bytes else {
            return Ok(());
        };
        if cost_bytes == 0 || self.shared.size_bytes() + cost_bytes < quota {
            return Ok(());
        }
        let raise = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: self.shared.member.0,
            alarm: AlarmType::Nospace.into(),
        };
        let raised = self.shared.state.read().alarms.has(AlarmType::Nospace);
        if !raised {
            tracing::warn!(
                quota,
                size = self.shared.size_bytes(),
                "database space exceeded: raising the NOSPACE alarm"
            );
            self.propose(InternalRaftRequest {
                alarm: Some(raise),
                ..Default::default()
            })
            .await?;
        }
        Err(RequestError::NoSpace.into())
    }
}

/// A place among the proposals in flight; given back when dropped.
pub(super) struct Permit<'a> {
    shared: &'a Shared,
    bytes: usize,
}

impl<'a> Permit<'a> {
    pub(super) fn take(shared: &'a Shared, bytes: usize) -> Result<Self, Unavailable> {
        let limits = &shared.settings.limits;
        let published = &shared.published;
        let permit = Permit { shared, bytes };
        let in_flight = published.pending.fetch_add(1, Ordering::Relaxed) + 1;
        let in_flight_bytes = published.pending_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // A single request may always pass the limit on bytes, however large requests are allowed to be.
        if in_flight > limits.proposals || (in_flight > 1 && in_flight_bytes > limits.proposal_bytes) {
            published.failed.fetch_add(1, Ordering::Relaxed);
            return Err(Unavailable::TooManyRequests);
        }
        Ok(permit)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.shared.published.pending.fetch_sub(1, Ordering::Relaxed);
        self.shared
            .published
            .pending_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The answer of another kind of request: apply has lost its mind, and nothing it says may be trusted.
pub(super) fn unexpected<T>(response: &Response) -> Result<T, Error> {
    panic!("the answer belongs to another request: {response:?}")
}

/// The longest pause of a writer below the hard limit.
const BACK_PRESSURE_PAUSE_MAX: std::time::Duration = std::time::Duration::from_millis(20);
