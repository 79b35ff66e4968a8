//! A client that puts through whichever member it can reach.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::etcdserverpb::PutRequest;
use proto::etcdserverpb::kv_client::KvClient;
use tonic::Status;

use crate::keys::{Random, key};
use crate::spec::{KeySpace, Spec};
use crate::tally::{Budget, Tally};
use crate::transport::{Channel, Endpoint};

/// After so long without an answer a client asks another member.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// Between an attempt that failed and the next.
const PAUSE: Duration = Duration::from_millis(5);

/// One client with one connection at a time.
pub(super) struct Client {
    endpoints: Vec<Endpoint>,
    /// Which of them it is at.
    at: usize,
    kv: Option<KvClient<Channel>>,
    keys: KeySpace,
    random: Random,
    value: Bytes,
}

impl Client {
    /// The client `number`; of the endpoints some may be those of members that are down, or of nobody yet.
    pub(super) fn new(spec: &Spec, endpoints: &[Endpoint], number: usize) -> Self {
        let mut random = Random::new(spec.seed, number as u64);
        let value = random.bytes(spec.value_size);
        Self {
            endpoints: endpoints.to_vec(),
            at: number % endpoints.len(),
            kv: None,
            keys: spec.keys,
            random,
            value,
        }
    }

    /// Puts until the budget is spent. A put's latency is what its writer waits, over all attempts.
    pub(super) async fn run(mut self, budget: Arc<Budget>, tally: Arc<Tally>) -> Option<Self> {
        while budget.take().is_some() {
            let start = Instant::now();
            let name = key(&self.keys, self.random.below(self.keys.count));
            while let Err(failure) = self.attempt(&name).await {
                if let Some(status) = failure {
                    tally.failed(&status);
                }
                self.kv = None;
                self.at = (self.at + 1) % self.endpoints.len();
                tokio::time::sleep(PAUSE).await;
                if budget.is_stopped() {
                    return Some(self);
                }
            }
            tally.succeeded(start.elapsed());
        }
        Some(self)
    }

    /// Without a status nobody was there to be asked.
    async fn attempt(&mut self, key: &Bytes) -> Result<(), Option<Status>> {
        let attempt = async {
            if self.kv.is_none() {
                let channel = Channel::connect(&self.endpoints[self.at]).await;
                let channel = channel.map_err(|_| None)?;
                let origin = channel.origin();
                self.kv = Some(KvClient::with_origin(channel, origin));
            }
            let request = PutRequest {
                key: key.clone(),
                value: self.value.clone(),
                ..PutRequest::default()
            };
            match &mut self.kv {
                Some(kv) => kv.put(request).await.map(drop).map_err(Some),
                None => Err(None),
            }
        };
        let answer = tokio::time::timeout(ATTEMPT_MAX, attempt).await;
        answer.unwrap_or_else(|_| Err(Some(Status::deadline_exceeded("no answer"))))
    }
}
