//! Deletes what was owned by one that is gone.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Action;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{Controller, WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

/// Looks at each child when it changes, and at all of them when an owner goes.
pub(crate) async fn run<Child, Owner>(client: Client)
where
    Child: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
    Owner: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
    Child::DynamicType: Hash + Eq,
{
    let owners = watcher(
        Api::<PartialObjectMeta<Owner>>::all(client.clone()),
        Config::default(),
    )
    .default_backoff();
    let gone = owners.filter_map(|event| {
        // After a break the watch starts anew, and does not tell who went meanwhile.
        let perhaps = matches!(event, Ok(Event::Delete(_) | Event::InitDone));
        std::future::ready(perhaps.then_some(()))
    });
    Controller::new(Api::<Child>::all(client.clone()), Config::default())
        .reconcile_all_on(gone)
        .run(reconcile::<Child, Owner>, super::retry, Arc::new(client))
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn reconcile<Child, Owner>(child: Arc<Child>, client: Arc<Client>) -> Result<Action, kube::Error>
where
    Child: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    Owner: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let mut owners = child.owner_references().to_vec();
    owners.retain(|owner| owner.kind == Owner::kind(&()));
    if child.meta().deletion_timestamp.is_some() || owners.is_empty() {
        return Ok(Action::await_change());
    }
    let namespace = child.namespace().unwrap_or_default();
    let api = Api::<Owner>::namespaced(client.as_ref().clone(), &namespace);
    for owner in owners {
        let found = api.get_metadata_opt(&owner.name).await?;
        // Another one of this name is not the owner.
        if found.is_some_and(|found| found.metadata.uid.as_ref() == Some(&owner.uid)) {
            return Ok(Action::await_change());
        }
    }
    let children = Api::<Child>::namespaced(client.as_ref().clone(), &namespace);
    super::delete(&children, &child).await?;
    Ok(Action::await_change())
}
