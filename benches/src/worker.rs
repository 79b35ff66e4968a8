//! One client: its connection, its randomness, and the operation it repeats.

use std::time::Instant;

use bytes::Bytes;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::keys::{Random, key, whole_range};
use crate::spec::{KeySpace, Kind, Spec};
use crate::transport::Channel;

/// Long enough that no lease ends within a run, whatever its renewals do.
const LEASE_TTL_SECONDS: i64 = 3600;

/// A client of any load but watch.
pub(crate) struct Worker {
    kv: KvClient<Channel>,
    keys: KeySpace,
    random: Random,
    value: Bytes,
    task: Task,
}

enum Task {
    Put {
        /// Instead of a constant value: the time since then in nanoseconds, then the value's remainder.
        stamped_since: Option<Instant>,
    },
    Range {
        serializable: bool,
    },
    Txn {
        read_percent: u8,
        range_limit: i64,
    },
    List {
        request: Box<RangeRequest>,
    },
    Keepalive(Box<Renewal>),
}

/// A lease and the way to renew it.
struct Renewal {
    lease: LeaseClient<Channel>,
    id: i64,
    /// The client's stream, unless each renewal opens its own.
    stream: Option<(
        mpsc::Sender<LeaseKeepAliveRequest>,
        Streaming<LeaseKeepAliveResponse>,
    )>,
}

impl Worker {
    /// The client `number` of a run. Grants the lease, where the load needs one.
    pub(crate) async fn new(spec: &Spec, channel: &Channel, number: u64) -> Result<Self, Status> {
        let task = match spec.kind {
            Kind::Put | Kind::Watch { .. } => Task::Put { stamped_since: None },
            Kind::Range { serializable } => Task::Range { serializable },
            Kind::Txn {
                read_percent,
                range_limit,
            } => Task::Txn {
                read_percent,
                range_limit,
            },
            Kind::List { serializable } => {
                let (key, range_end) = whole_range(&spec.keys);
                Task::List {
                    request: Box::new(RangeRequest {
                        key,
                        range_end,
                        serializable,
                        ..RangeRequest::default()
                    }),
                }
            }
            Kind::Keepalive { once } => Task::Keepalive(Box::new(Renewal::new(channel, once).await?)),
        };
        let mut random = Random::new(spec.seed, number);
        let value = random.bytes(spec.value_size);
        Ok(Self {
            kv: KvClient::with_origin(channel.clone(), channel.origin())
                .max_decoding_message_size(usize::MAX),
            keys: spec.keys,
            random,
            value,
            task,
        })
    }

    /// A client that puts, with the time since `epoch` in each value.
    pub(crate) async fn stamping(
        spec: &Spec,
        channel: &Channel,
        number: u64,
        epoch: Instant,
    ) -> Result<Self, Status> {
        let mut worker = Self::new(spec, channel, number).await?;
        worker.task = Task::Put {
            stamped_since: Some(epoch),
        };
        Ok(worker)
    }

    /// The operation `number` of the phase.
    pub(crate) async fn step(&mut self, number: u64) -> Result<(), Status> {
        match &mut self.task {
            Task::Put { stamped_since } => {
                let value = match *stamped_since {
                    None => self.value.clone(),
                    Some(epoch) => stamp(epoch, &self.value),
                };
                let key = pick(&self.keys, &mut self.random, number);
                self.kv.put(put(key, value)).await?;
            }
            Task::Range { serializable } => {
                let request = RangeRequest {
                    key: pick(&self.keys, &mut self.random, number),
                    serializable: *serializable,
                    ..RangeRequest::default()
                };
                self.kv.range(request).await?;
            }
            Task::Txn {
                read_percent,
                range_limit,
            } => {
                let key = pick(&self.keys, &mut self.random, number);
                let request = if self.random.below(100) < u64::from(*read_percent) {
                    Request::RequestRange(RangeRequest {
                        key,
                        range_end: whole_range(&self.keys).1,
                        limit: *range_limit,
                        ..RangeRequest::default()
                    })
                } else {
                    Request::RequestPut(put(key, self.value.clone()))
                };
                self.kv.txn(single(request)).await?;
            }
            Task::List { request } => {
                self.kv.range(RangeRequest::clone(request)).await?;
            }
            Task::Keepalive(renewal) => renewal.renew().await?,
        }
        Ok(())
    }

    /// Gives back what the server keeps for this client.
    pub(crate) async fn finish(self) -> Result<(), Status> {
        if let Task::Keepalive(renewal) = self.task {
            let Renewal { mut lease, id, .. } = *renewal;
            lease.lease_revoke(LeaseRevokeRequest { id }).await?;
        }
        Ok(())
    }
}

impl Renewal {
    async fn new(channel: &Channel, once: bool) -> Result<Self, Status> {
        let mut lease = LeaseClient::with_origin(channel.clone(), channel.origin());
        let grant = LeaseGrantRequest {
            ttl: LEASE_TTL_SECONDS,
            id: 0,
        };
        let id = lease.lease_grant(grant).await?.into_inner().id;
        let stream = if once {
            None
        } else {
            let (send, receive) = mpsc::channel(1);
            // A server may send its headers only with the first answer, so a request goes first.
            let sent = send.send(LeaseKeepAliveRequest { id }).await;
            sent.map_err(|_| Status::internal("the renewal stream is closed"))?;
            let answers = lease.lease_keep_alive(ReceiverStream::new(receive)).await?;
            let mut answers = answers.into_inner();
            renewed(answers.message().await?)?;
            Some((send, answers))
        };
        Ok(Self { lease, id, stream })
    }

    async fn renew(&mut self) -> Result<(), Status> {
        let request = LeaseKeepAliveRequest { id: self.id };
        let answer = match &mut self.stream {
            Some((send, answers)) => {
                if send.send(request).await.is_err() {
                    return Err(Status::unavailable("the renewal stream is closed"));
                }
                answers.message().await?
            }
            None => {
                let requests = tokio_stream::once(request);
                let answers = self.lease.lease_keep_alive(requests).await?;
                answers.into_inner().message().await?
            }
        };
        renewed(answer)
    }
}

/// A lease that is gone is answered with TTL 0, not with an error.
fn renewed(answer: Option<LeaseKeepAliveResponse>) -> Result<(), Status> {
    match answer {
        Some(answer) if answer.ttl > 0 => Ok(()),
        Some(_) => Err(Status::not_found("the lease is gone")),
        None => Err(Status::unavailable("the renewal stream ended")),
    }
}

fn pick(keys: &KeySpace, random: &mut Random, number: u64) -> Bytes {
    let number = if keys.sequential {
        number % keys.count
    } else {
        random.below(keys.count)
    };
    key(keys, number)
}

fn put(key: Bytes, value: Bytes) -> PutRequest {
    PutRequest {
        key,
        value,
        ..PutRequest::default()
    }
}

fn single(request: Request) -> TxnRequest {
    TxnRequest {
        success: vec![RequestOp {
            request: Some(request),
        }],
        ..TxnRequest::default()
    }
}

/// Bytes of the time at the head of a stamped value.
pub(crate) const STAMP_BYTES: usize = size_of::<u64>();

fn stamp(epoch: Instant, value: &Bytes) -> Bytes {
    let nanos = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut stamped = value.to_vec();
    for (to, from) in stamped.iter_mut().zip(nanos.to_be_bytes()) {
        *to = from;
    }
    stamped.into()
}

/// The time of a stamped value, none for a value too short to be one.
pub(crate) fn stamped_nanos(value: &[u8]) -> Option<u64> {
    value.first_chunk().copied().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_keeps_the_rest() {
        let epoch = Instant::now();
        let value = Bytes::from_static(b"........rest");
        let stamped = stamp(epoch, &value);
        assert!(stamped_nanos(&stamped).unwrap() <= epoch.elapsed().as_nanos() as u64);
        assert_eq!(&stamped[STAMP_BYTES..], b"rest");
        assert_eq!(stamped_nanos(b"short"), None);
    }

    #[test]
    fn sequential_keys_wrap_around() {
        let keys = KeySpace {
            size: 2,
            count: 3,
            sequential: true,
        };
        let mut random = Random::new(0, 0);
        let picked = [0, 1, 2, 3].map(|number| pick(&keys, &mut random, number));
        assert_eq!(picked, ["00", "01", "02", "00"].map(Bytes::from_static_str));
    }

    trait FromStaticStr {
        fn from_static_str(text: &'static str) -> Self;
    }

    impl FromStaticStr for Bytes {
        fn from_static_str(text: &'static str) -> Self {
            Self::from_static(text.as_bytes())
        }
    }

    #[test]
    fn a_renewal_without_ttl_is_a_failure() {
        let answer = |ttl| {
            Some(LeaseKeepAliveResponse {
                ttl,
                ..LeaseKeepAliveResponse::default()
            })
        };
        assert!(renewed(answer(5)).is_ok());
        assert!(renewed(answer(0)).is_err());
        assert!(renewed(None).is_err());
    }
}
