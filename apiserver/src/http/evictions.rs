//! Evictions: a pod is deleted, if the disruption budget that covers it has room for that.

use super::verbs::Work;
use crate::engine::{DeleteOptions, ListOptions, WriteOptions};
use crate::object::{Object, meta};
use crate::resources::{self, Subresource};
use crate::rules::{self, Eviction};
use crate::status::Status;

/// Deletes the pod that the request is about, and charges its budget with it.
pub(crate) async fn evict(
    work: &Work<'_>,
    options: &DeleteOptions,
    write: &WriteOptions,
) -> Result<(), Status> {
    let (engine, request) = (work.engine, work.request);
    let found = engine
        .get(request.resource, &request.namespace, &request.name)
        .await?;
    let pod = found.object()?;
    let budgets =
        resources::find("policy", "v1", "poddisruptionbudgets").ok_or_else(Status::no_such_resource)?;
    let listed = engine
        .list(budgets, Some(&request.namespace), &ListOptions::default())
        .await?;
    let known: Result<Vec<Object>, Status> = listed
        .items
        .iter()
        .map(|item| item.object().map(|object| (*object).clone()))
        .collect();
    let known = known?;
    if let Eviction::Charged(at, charged) = rules::evict(&pod, &known, write.now)? {
        // Charged as it was seen, or not at all: the version in it must still be the present one.
        let name = known
            .get(at)
            .map(|budget| meta(budget, "name"))
            .unwrap_or_default();
        let charge = |_: Option<&Object>| Ok((*charged).clone());
        engine
            .update(
                budgets,
                &request.namespace,
                name,
                Some(Subresource::Status),
                write,
                charge,
            )
            .await?;
    }
    let mut options = options.clone();
    // Not another pod of the same name.
    options.uid.get_or_insert_with(|| meta(&pod, "uid").to_owned());
    engine
        .delete(
            request.resource,
            &request.namespace,
            &request.name,
            &options,
            write,
        )
        .await?;
    Ok(())
}
