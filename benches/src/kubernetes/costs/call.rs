//! The calls: what each asks of the adapter or of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Method;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use serde::{Serialize, Serializer};
use tonic::Status;

use super::prepare;
use crate::Error;
use crate::kubernetes::http::{Connection, MERGE_PATCH, STRATEGIC_PATCH, Wire};
use crate::kubernetes::pod::{self, Template};
use crate::kubernetes::site::Site;
use crate::transport::{Channel, Endpoint};

/// The namespace of the pods that are read, listed and patched.
pub(super) const LISTED: &str = "listed";
/// The namespace in which pods are created.
pub(super) const POSTED: &str = "posted";

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// One pod, over either version of HTTP.
    Get(Wire),
    /// The range of its key.
    StoreGet,
    /// All pods of a namespace.
    List,
    /// The range of their keys, as the adapter asks for it.
    StoreList,
    /// A label of a pod, by a merge patch.
    Merge,
    /// The image of a container, by a strategic merge patch.
    Strategic,
    /// The range and the transaction that either patch comes to.
    StoreUpdate,
    /// A pod that was not there.
    Create,
    /// The range of the namespace and the transaction that it comes to.
    StoreCreate,
    /// A pod's value again, without a condition.
    StorePut,
}

impl Call {
    /// In the order of the table: the adapter's, then the store's that they come to.
    pub const ALL: [Call; 11] = [
        Call::Get(Wire::Http1),
        Call::Get(Wire::Http2),
        Call::StoreGet,
        Call::List,
        Call::StoreList,
        Call::Merge,
        Call::Strategic,
        Call::StoreUpdate,
        Call::Create,
        Call::StoreCreate,
        Call::StorePut,
    ];

    /// Its name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Call::Get(Wire::Http1) => "GET a pod",
            Call::Get(Wire::Http2) => "GET a pod, HTTP/2",
            Call::StoreGet => "store: range of its key",
            Call::List => "LIST pods",
            Call::StoreList => "store: range of their keys",
            Call::Merge => "PATCH a pod, merge",
            Call::Strategic => "PATCH a pod, strategic",
            Call::StoreUpdate => "store: range, transaction",
            Call::Create => "POST a pod",
            Call::StoreCreate => "store: range, creating transaction",
            Call::StorePut => "store: put of a pod's value",
        }
    }

    /// What the store does for it, nothing for the store's own.
    #[must_use]
    pub fn stored_by(self) -> Option<Call> {
        match self {
            Call::Get(_) => Some(Call::StoreGet),
            Call::List => Some(Call::StoreList),
            Call::Merge | Call::Strategic => Some(Call::StoreUpdate),
            Call::Create => Some(Call::StoreCreate),
            Call::StoreGet | Call::StoreList | Call::StoreUpdate | Call::StoreCreate | Call::StorePut => None,
        }
    }
}

impl Serialize for Call {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What the calls are about.
pub(super) struct Scene {
    template: Template,
    pods: Vec<Pod>,
    /// Makes every patch and every name a new one.
    turns: AtomicU64,
}

struct Pod {
    path: String,
    key: Bytes,
    /// As the store had it at first.
    value: Bytes,
}

impl Scene {
    pub(super) async fn new(site: &Site, template: Template, names: &[String]) -> Result<Self, Error> {
        let mut keys = keys(&site.store()).await?;
        let mut pods = Vec::with_capacity(names.len());
        for name in names {
            let key = Bytes::from(format!("{}{LISTED}/{name}", pod::PODS));
            let found = keys.range(one(&key)).await.map_err(prepare("reading a pod"))?;
            let missing = || prepare("reading a pod")(Status::not_found(name.clone()));
            let value = found
                .into_inner()
                .kvs
                .into_iter()
                .next()
                .ok_or_else(missing)?
                .value;
            let path = format!("{}/{name}", pod::collection(LISTED));
            pods.push(Pod { path, key, value });
        }
        Ok(Self {
            template,
            pods,
            turns: AtomicU64::new(1),
        })
    }

    fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }
}

/// One client and the call that it repeats.
pub(super) struct Caller {
    call: Call,
    scene: Arc<Scene>,
    way: Way,
    /// The pod that is next, and how far it is to the one after it: no two clients change the same one.
    at: usize,
    stride: usize,
}

enum Way {
    Kubernetes(Box<Connection>),
    Store(Box<KvClient<Channel>>),
}

impl Caller {
    /// The client `number` of so many.
    pub(super) async fn new(
        site: &Site,
        scene: &Arc<Scene>,
        call: Call,
        (number, clients): (usize, usize),
    ) -> Result<Self, Error> {
        let wire = match call {
            Call::Get(wire) => wire,
            _ => Wire::Http1,
        };
        let way = match call.stored_by() {
            Some(_) => Way::Kubernetes(Box::new(Connection::open(site.kubernetes(), wire).await?)),
            None => Way::Store(Box::new(keys(&site.store()).await?)),
        };
        Ok(Self {
            call,
            scene: Arc::clone(scene),
            way,
            at: number,
            stride: clients,
        })
    }

    /// Makes the call once.
    pub(super) async fn step(&mut self) -> Result<(), String> {
        let pod = &self.scene.pods[self.at % self.scene.pods.len()];
        self.at += self.stride;
        match &mut self.way {
            Way::Kubernetes(connection) => ask(self.call, connection, &self.scene, pod).await,
            Way::Store(keys) => ask_store(self.call, keys, &self.scene, pod)
                .await
                .map_err(|status| format!("{:?}: {}", status.code(), status.message())),
        }
    }
}

/// A call of the adapter.
async fn ask(call: Call, connection: &mut Connection, scene: &Scene, pod: &Pod) -> Result<(), String> {
    let answered = match call {
        Call::Get(_) => connection.get(&pod.path).await,
        Call::List => {
            let path = format!("{}?limit={LIST_LIMIT}", pod::collection(LISTED));
            connection.get(&path).await
        }
        Call::Merge => {
            let patch = pod::relabel(scene.turn());
            connection
                .call(Method::PATCH, &pod.path, MERGE_PATCH, patch)
                .await
        }
        Call::Strategic => {
            let patch = pod::reimage(scene.turn());
            connection
                .call(Method::PATCH, &pod.path, STRATEGIC_PATCH, patch)
                .await
        }
        _ => {
            let pod = scene.template.named(&new_name(scene));
            connection.post(&pod::collection(POSTED), pod).await
        }
    };
    answered.map(drop).map_err(|error| error.to_string())
}

/// A call of the store.
async fn ask_store(call: Call, keys: &mut KvClient<Channel>, scene: &Scene, pod: &Pod) -> Result<(), Status> {
    match call {
        Call::StoreGet => keys.range(one(&pod.key)).await.map(drop),
        Call::StoreList => {
            let prefix = format!("{}{LISTED}/", pod::PODS);
            let request = RangeRequest {
                range_end: pod::end_of(&prefix),
                key: Bytes::from(prefix),
                limit: LIST_LIMIT,
                ..RangeRequest::default()
            };
            keys.range(request).await.map(drop)
        }
        Call::StoreUpdate => {
            let found = keys.range(one(&pod.key)).await?.into_inner();
            let found = found.kvs.into_iter().next();
            let found = found.ok_or_else(|| Status::not_found("the pod is gone"))?;
            swap(keys, found.key, found.mod_revision, found.value).await
        }
        Call::StoreCreate => {
            let namespace = Bytes::from(format!("/registry/namespaces/{POSTED}"));
            keys.range(one(&namespace)).await?;
            let key = format!("{}{POSTED}/{}", pod::PODS, new_name(scene));
            swap(keys, Bytes::from(key), 0, pod.value.clone()).await
        }
        _ => {
            let request = PutRequest {
                key: pod.key.clone(),
                value: pod.value.clone(),
                ..PutRequest::default()
            };
            keys.put(request).await.map(drop)
        }
    }
}

/// A name that no pod has had.
fn new_name(scene: &Scene) -> String {
    format!("new-{:09}", scene.turn())
}

/// Writes a key that must be as it was at a revision, 0 for none, in the shape in which the adapter does.
async fn swap(keys: &mut KvClient<Channel>, key: Bytes, expected: i64, value: Bytes) -> Result<(), Status> {
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::ModRevision(expected)),
    };
    let operation = |request| RequestOp {
        request: Some(request),
    };
    let look = (expected != 0).then(|| {
        operation(Request::RequestRange(RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        }))
    });
    let put = PutRequest {
        key: key.clone(),
        value,
        ..PutRequest::default()
    };
    let request = TxnRequest {
        compare: vec![compare],
        success: vec![operation(Request::RequestPut(put))],
        failure: look.into_iter().collect(),
    };
    match keys.txn(request).await?.into_inner().succeeded {
        true => Ok(()),
        false => Err(Status::aborted("the key was not as it was read")),
    }
}

/// The range of one key, as the adapter asks for it.
fn one(key: &Bytes) -> RangeRequest {
    RangeRequest {
        key: key.clone(),
        limit: 1,
        ..RangeRequest::default()
    }
}

/// The store's own API, on a connection of its own.
pub(super) async fn keys(store: &Endpoint) -> Result<KvClient<Channel>, Error> {
    let channel = Channel::connect(store).await?;
    let origin = channel.origin();
    Ok(KvClient::with_origin(channel, origin).max_decoding_message_size(usize::MAX))
}

/// As kubectl asks for a list; the adapter asks the store for as much.
const LIST_LIMIT: i64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_does_stands_behind_what_comes_to_it() {
        for (at, call) in Call::ALL.into_iter().enumerate() {
            let Some(stored) = call.stored_by() else { continue };
            let behind = Call::ALL[at..].contains(&stored);
            assert!(behind, "{}", call.name());
            assert_eq!(stored.stored_by(), None);
        }
    }
}
