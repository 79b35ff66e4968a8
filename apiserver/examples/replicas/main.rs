//! Three small control loops, which make pods of Deployments: `deployments` keeps a ReplicaSet for the newest template,
//! `sets` keeps as many pods as a ReplicaSet asks for, `garbage` deletes what was owned by one that is gone.
//!
//! ```text
//! cargo run -p apiserver --example replicas -- http://127.0.0.1:8080
//! ```
//!
//! What a loop decides by it reads from the API anew, and not from its watch: a list that is a moment old would have it
//! make pods twice.

mod deployments;
mod garbage;
mod sets;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::core::Selector;
use kube::runtime::controller::Action;
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    run(Client::try_from(Config::new(url.parse()?))?).await;
    Ok(())
}

/// Runs all loops, for ever.
pub(crate) async fn run(client: Client) {
    tokio::join!(
        deployments::run(client.clone()),
        sets::run(client.clone()),
        garbage::run::<ReplicaSet, Deployment>(client.clone()),
        garbage::run::<Pod, ReplicaSet>(client),
    );
}

/// What a selector selects and this owner controls.
async fn controlled<K, Owner>(api: &Api<K>, owner: &Owner, by: &LabelSelector) -> Result<Vec<K>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    Owner: Resource<DynamicType = ()>,
{
    // The server has validated it; what it would not have let pass selects nothing.
    let Ok(selector) = Selector::try_from(by.clone()) else {
        return Ok(Vec::new());
    };
    let selected = api
        .list(&ListParams::default().labels_from(&selector))
        .await?
        .items;
    let uid = owner.meta().uid.as_deref().unwrap_or_default();
    let is_controlled = |item: &K| {
        let mut owners = item.owner_references().iter();
        owners.any(|owner| owner.controller == Some(true) && owner.uid == uid)
    };
    Ok(selected.into_iter().filter(is_controlled).collect())
}

/// Deletes this object, and not another one of its name; it may be gone already.
async fn delete<K>(api: &Api<K>, object: &K) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let this_one = Preconditions {
        uid: object.uid(),
        resource_version: None,
    };
    let how = DeleteParams::background().preconditions(this_one);
    match api.delete(&object.name_any(), &how).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            println!("deleted {} {}", K::kind(&()), object.name_any());
            Ok(())
        }
    }
}

/// Another one may have written first, or the server may be away: what was meant is tried again.
#[expect(clippy::needless_pass_by_value, reason = "as a controller calls it")]
fn retry<K>(object: Arc<K>, error: &kube::Error, _: Arc<Client>) -> Action
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    // To lose a race is everyday life.
    if !matches!(error, kube::Error::Api(status) if status.is_conflict() || status.is_not_found()) {
        eprintln!("{} {}: {error}", K::kind(&()), object.name_any());
    }
    Action::requeue(Duration::from_secs(1))
}
