//! The page `/version`.

use store::Store;

use super::Page;
use crate::config::{ETCD_VERSION, STORAGE_VERSION};
use crate::metrics;

/// The versions of the server, of the cluster once it is decided, and of the storage.
pub(super) fn page(store: Option<&Store>) -> Page {
    let cluster = store.and_then(|store| store.status().cluster_version);
    let storage = if cluster.is_some() {
        STORAGE_VERSION
    } else {
        "unknown"
    };
    let cluster = cluster.map_or("not_decided".to_owned(), |version| {
        metrics::full_version(&version)
    });
    super::page(
        "application/json",
        format!(
            "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{storage}\"}}"
        ),
    )
}
