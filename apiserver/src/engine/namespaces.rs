//! The life of namespaces: those that are there from the beginning, what may not be made in one that ends, and the
//! service by which programs in the cluster find this server.

use serde_json::{Value, json};

use super::Engine;
use super::options::WriteOptions;
use super::storage::object_of;
use crate::object::{Object, child_mut, is_terminating};
use crate::resources::{Resource, Subresource, find};
use crate::status::{Reason, Status};

impl Engine {
    /// Makes what has to be there before anything else. What is there stays as it is, so that several servers may do this
    /// at the same time.
    pub async fn bootstrap(&self) -> Result<(), Status> {
        let options = WriteOptions {
            field_manager: BOOTSTRAP_MANAGER.to_owned(),
            ..WriteOptions::default()
        };
        for name in BOOTSTRAP {
            let namespace = json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            });
            self.make("namespaces", "", namespace, &options).await?;
        }
        let settings = self.settings();
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "clusterIP": settings.service_address,
                "clusterIPs": [settings.service_address],
                "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "ports": [{
                    "name": "https",
                    "port": 443,
                    "protocol": "TCP",
                    "targetPort": settings.service_target_port,
                }],
                "sessionAffinity": "None",
                "type": "ClusterIP",
            },
            "status": {"loadBalancer": {}},
        });
        self.make("services", "default", service, &options).await
    }

    /// Refuses what is new in a namespace that is not there, or that ends.
    pub(super) async fn check_namespace(
        &self,
        r: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        if !r.namespaced {
            return Ok(());
        }
        let Some(namespaces) = find("", "v1", "namespaces") else {
            return Ok(());
        };
        let key = self.key(namespaces, "", namespace)?;
        let (Some(kv), _) = self.etcd().get(&key).await? else {
            return Err(Status::not_found(namespaces, namespace));
        };
        let found = object_of(namespaces, &kv)?;
        let phase = found.get("status").and_then(|status| status.get("phase"));
        if !is_terminating(&found) && phase.and_then(Value::as_str) != Some(TERMINATING) {
            return Ok(());
        }
        let text =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        Err(Status::forbidden(r, name, &text).because(
            "NamespaceTerminating",
            "metadata.namespace",
            format!("namespace {namespace} is being terminated"),
        ))
    }

    async fn make(
        &self,
        plural: &str,
        namespace: &str,
        object: Value,
        options: &WriteOptions,
    ) -> Result<(), Status> {
        let (Some(r), Value::Object(object)) = (find("", "v1", plural), object) else {
            return Err(Status::no_such_resource());
        };
        match self.create(r, namespace, object, options).await {
            Err(status) if status.reason != Reason::AlreadyExists => Err(status),
            _ => Ok(()),
        }
    }
}

/// Some namespaces are never deleted.
pub(super) fn check_deletable(r: &Resource, name: &str) -> Result<(), Status> {
    if r.has(Subresource::Finalize) && IMMORTAL.contains(&name) {
        return Err(Status::forbidden(r, name, "this namespace may not be deleted"));
    }
    Ok(())
}

/// What is in it is on its way out too.
pub(super) fn set_terminating(namespace: &mut Object) {
    child_mut(namespace, "status").insert("phase".to_owned(), TERMINATING.into());
}

const TERMINATING: &str = "Terminating";
const BOOTSTRAP: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// Who owns what is there from the beginning.
const BOOTSTRAP_MANAGER: &str = "taffrail";
