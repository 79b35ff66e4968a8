//! The rows. Facts about Kubernetes 1.36: names, short names, categories, directories and subresources.

use super::Resource;
use super::Subresource::{self, *};
use super::Way::{self, *};

/// A resource whose objects belong to namespaces.
const fn namespaced(
    group: &'static str,
    version: &'static str,
    names: Names,
    type_name: &'static str,
) -> Resource {
    Resource {
        group,
        version,
        plural: names.0,
        singular: names.1,
        kind: names.2,
        namespaced: true,
        short_names: &[],
        categories: &[],
        directory: names.0,
        stored_as: None,
        type_name,
        subresources: &[],
        generation: false,
        question: false,
        ttl_s: 0,
        ways: &[],
    }
}

/// A resource whose objects belong to the cluster.
const fn cluster(
    group: &'static str,
    version: &'static str,
    names: Names,
    type_name: &'static str,
) -> Resource {
    let mut row = namespaced(group, version, names, type_name);
    row.namespaced = false;
    row
}

/// Plural, singular and kind.
type Names = (&'static str, &'static str, &'static str);

impl Resource {
    const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }

    const fn within(mut self, categories: &'static [&'static str]) -> Self {
        self.categories = categories;
        self
    }

    const fn at(mut self, directory: &'static str) -> Self {
        self.directory = directory;
        self
    }

    const fn like(mut self, api_version: &'static str) -> Self {
        self.stored_as = Some(api_version);
        self
    }

    const fn with(mut self, subresources: &'static [Subresource]) -> Self {
        self.subresources = subresources;
        self
    }

    const fn counted(mut self) -> Self {
        self.generation = true;
        self
    }

    const fn question(mut self) -> Self {
        self.question = true;
        self.directory = "";
        self
    }

    const fn ways(mut self, ways: &'static [Way]) -> Self {
        self.ways = ways;
        self
    }

    const fn for_seconds(mut self, ttl_s: u32) -> Self {
        self.ttl_s = ttl_s;
        self
    }
}

const ALL: &[&str] = &["all"];
const EXTENSIONS: &[&str] = &["api-extensions"];
const EVENT_TTL_S: u32 = 3600;
const JOBS: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to \
                    remove them or set propagationPolicy=Orphan to suppress this warning";
const ENDPOINTS: &str = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const FLOWCONTROL: &str = "flowcontrol.apiserver.k8s.io";

/// All that is served, group by group; of a group's versions the preferred one first.
#[rustfmt::skip]
pub static RESOURCES: &[Resource] = &[
    cluster("", "v1", ("componentstatuses", "componentstatus", "ComponentStatus"), "io.k8s.api.core.v1.ComponentStatus").short(&["cs"]),
    namespaced("", "v1", ("configmaps", "configmap", "ConfigMap"), "io.k8s.api.core.v1.ConfigMap").short(&["cm"]),
    namespaced("", "v1", ("endpoints", "endpoints", "Endpoints"), "io.k8s.api.core.v1.Endpoints").short(&["ep"]).at("services/endpoints").ways(&[MadeByUpdate, Deprecated(ENDPOINTS)]),
    namespaced("", "v1", ("events", "event", "Event"), "io.k8s.api.core.v1.Event").short(&["ev"]).for_seconds(EVENT_TTL_S).ways(&[MadeByUpdate]),
    namespaced("", "v1", ("limitranges", "limitrange", "LimitRange"), "io.k8s.api.core.v1.LimitRange").short(&["limits"]).ways(&[MadeByUpdate]),
    cluster("", "v1", ("namespaces", "namespace", "Namespace"), "io.k8s.api.core.v1.Namespace").short(&["ns"]).with(&[Finalize, Status]).ways(&[DeletedInSteps]),
    cluster("", "v1", ("nodes", "node", "Node"), "io.k8s.api.core.v1.Node").short(&["no"]).at("minions").with(&[Status]),
    namespaced("", "v1", ("persistentvolumeclaims", "persistentvolumeclaim", "PersistentVolumeClaim"), "io.k8s.api.core.v1.PersistentVolumeClaim").short(&["pvc"]).with(&[Status]).ways(&[ShownWhenDeleted]),
    cluster("", "v1", ("persistentvolumes", "persistentvolume", "PersistentVolume"), "io.k8s.api.core.v1.PersistentVolume").short(&["pv"]).with(&[Status]).ways(&[ShownWhenDeleted]),
    namespaced("", "v1", ("pods", "pod", "Pod"), "io.k8s.api.core.v1.Pod").short(&["po"]).within(ALL).with(&[Binding, EphemeralContainers, Eviction, Resize, Status]).counted().ways(&[ShownWhenDeleted]),
    namespaced("", "v1", ("podtemplates", "podtemplate", "PodTemplate"), "io.k8s.api.core.v1.PodTemplate").counted().ways(&[ShownWhenDeleted]),
    namespaced("", "v1", ("replicationcontrollers", "replicationcontroller", "ReplicationController"), "io.k8s.api.core.v1.ReplicationController").short(&["rc"]).within(ALL).at("controllers").with(&[Scale, Status]).counted().ways(&[ShownWhenDeleted, Orphans("")]),
    namespaced("", "v1", ("resourcequotas", "resourcequota", "ResourceQuota"), "io.k8s.api.core.v1.ResourceQuota").short(&["quota"]).with(&[Status]).ways(&[ShownWhenDeleted]),
    namespaced("", "v1", ("secrets", "secret", "Secret"), "io.k8s.api.core.v1.Secret"),
    namespaced("", "v1", ("serviceaccounts", "serviceaccount", "ServiceAccount"), "io.k8s.api.core.v1.ServiceAccount").short(&["sa"]).with(&[Token]).ways(&[ShownWhenDeleted]),
    namespaced("", "v1", ("services", "service", "Service"), "io.k8s.api.core.v1.Service").short(&["svc"]).within(ALL).at("services/specs").with(&[Status]).ways(&[MadeByUpdate, ShownWhenDeleted]),

    namespaced("apps", "v1", ("controllerrevisions", "controllerrevision", "ControllerRevision"), "io.k8s.api.apps.v1.ControllerRevision"),
    namespaced("apps", "v1", ("daemonsets", "daemonset", "DaemonSet"), "io.k8s.api.apps.v1.DaemonSet").short(&["ds"]).within(ALL).with(&[Status]).counted(),
    namespaced("apps", "v1", ("deployments", "deployment", "Deployment"), "io.k8s.api.apps.v1.Deployment").short(&["deploy"]).within(ALL).with(&[Scale, Status]).counted().ways(&[StatusWithoutLabels]),
    namespaced("apps", "v1", ("replicasets", "replicaset", "ReplicaSet"), "io.k8s.api.apps.v1.ReplicaSet").short(&["rs"]).within(ALL).with(&[Scale, Status]).counted(),
    namespaced("apps", "v1", ("statefulsets", "statefulset", "StatefulSet"), "io.k8s.api.apps.v1.StatefulSet").short(&["sts"]).within(ALL).with(&[Scale, Status]).counted(),

    namespaced("events.k8s.io", "v1", ("events", "event", "Event"), "io.k8s.api.events.v1.Event").short(&["ev"]).like("v1").for_seconds(EVENT_TTL_S).ways(&[MadeByUpdate]),

    cluster("authentication.k8s.io", "v1", ("selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview"), "io.k8s.api.authentication.v1.SelfSubjectReview").question(),
    cluster("authentication.k8s.io", "v1", ("tokenreviews", "tokenreview", "TokenReview"), "io.k8s.api.authentication.v1.TokenReview").question(),

    namespaced("authorization.k8s.io", "v1", ("localsubjectaccessreviews", "localsubjectaccessreview", "LocalSubjectAccessReview"), "io.k8s.api.authorization.v1.LocalSubjectAccessReview").question(),
    cluster("authorization.k8s.io", "v1", ("selfsubjectaccessreviews", "selfsubjectaccessreview", "SelfSubjectAccessReview"), "io.k8s.api.authorization.v1.SelfSubjectAccessReview").question(),
    cluster("authorization.k8s.io", "v1", ("selfsubjectrulesreviews", "selfsubjectrulesreview", "SelfSubjectRulesReview"), "io.k8s.api.authorization.v1.SelfSubjectRulesReview").question(),
    cluster("authorization.k8s.io", "v1", ("subjectaccessreviews", "subjectaccessreview", "SubjectAccessReview"), "io.k8s.api.authorization.v1.SubjectAccessReview").question(),

    namespaced("autoscaling", "v2", ("horizontalpodautoscalers", "horizontalpodautoscaler", "HorizontalPodAutoscaler"), "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler").short(&["hpa"]).within(ALL).with(&[Status]),
    namespaced("autoscaling", "v1", ("horizontalpodautoscalers", "horizontalpodautoscaler", "HorizontalPodAutoscaler"), "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler").short(&["hpa"]).within(ALL).with(&[Status]).like("autoscaling/v2"),

    namespaced("batch", "v1", ("cronjobs", "cronjob", "CronJob"), "io.k8s.api.batch.v1.CronJob").short(&["cj"]).within(ALL).with(&[Status]).counted(),
    namespaced("batch", "v1", ("jobs", "job", "Job"), "io.k8s.api.batch.v1.Job").within(ALL).with(&[Status]).counted().ways(&[ShownWhenDeleted, Orphans(JOBS)]),

    cluster("certificates.k8s.io", "v1", ("certificatesigningrequests", "certificatesigningrequest", "CertificateSigningRequest"), "io.k8s.api.certificates.v1.CertificateSigningRequest").short(&["csr"]).with(&[Approval, Status]),

    namespaced("networking.k8s.io", "v1", ("ingresses", "ingress", "Ingress"), "io.k8s.api.networking.v1.Ingress").short(&["ing"]).at("ingress").with(&[Status]).counted(),
    cluster("networking.k8s.io", "v1", ("ingressclasses", "ingressclass", "IngressClass"), "io.k8s.api.networking.v1.IngressClass").counted(),
    cluster("networking.k8s.io", "v1", ("ipaddresses", "ipaddress", "IPAddress"), "io.k8s.api.networking.v1.IPAddress").short(&["ip"]),
    namespaced("networking.k8s.io", "v1", ("networkpolicies", "networkpolicy", "NetworkPolicy"), "io.k8s.api.networking.v1.NetworkPolicy").short(&["netpol"]).counted(),
    cluster("networking.k8s.io", "v1", ("servicecidrs", "servicecidr", "ServiceCIDR"), "io.k8s.api.networking.v1.ServiceCIDR").with(&[Status]),

    namespaced("policy", "v1", ("poddisruptionbudgets", "poddisruptionbudget", "PodDisruptionBudget"), "io.k8s.api.policy.v1.PodDisruptionBudget").short(&["pdb"]).with(&[Status]).counted().ways(&[UpdatedByVersion]),

    cluster(RBAC, "v1", ("clusterrolebindings", "clusterrolebinding", "ClusterRoleBinding"), "io.k8s.api.rbac.v1.ClusterRoleBinding").ways(&[MadeByUpdate]),
    cluster(RBAC, "v1", ("clusterroles", "clusterrole", "ClusterRole"), "io.k8s.api.rbac.v1.ClusterRole").ways(&[MadeByUpdate]),
    namespaced(RBAC, "v1", ("rolebindings", "rolebinding", "RoleBinding"), "io.k8s.api.rbac.v1.RoleBinding").ways(&[MadeByUpdate]),
    namespaced(RBAC, "v1", ("roles", "role", "Role"), "io.k8s.api.rbac.v1.Role").ways(&[MadeByUpdate]),

    cluster("storage.k8s.io", "v1", ("csidrivers", "csidriver", "CSIDriver"), "io.k8s.api.storage.v1.CSIDriver").ways(&[UpdatedByVersion, ShownWhenDeleted]),
    cluster("storage.k8s.io", "v1", ("csinodes", "csinode", "CSINode"), "io.k8s.api.storage.v1.CSINode").ways(&[UpdatedByVersion, ShownWhenDeleted]),
    namespaced("storage.k8s.io", "v1", ("csistoragecapacities", "csistoragecapacity", "CSIStorageCapacity"), "io.k8s.api.storage.v1.CSIStorageCapacity").ways(&[UpdatedByVersion]),
    cluster("storage.k8s.io", "v1", ("storageclasses", "storageclass", "StorageClass"), "io.k8s.api.storage.v1.StorageClass").short(&["sc"]).ways(&[ShownWhenDeleted]),
    cluster("storage.k8s.io", "v1", ("volumeattachments", "volumeattachment", "VolumeAttachment"), "io.k8s.api.storage.v1.VolumeAttachment").with(&[Status]).ways(&[UpdatedByVersion, ShownWhenDeleted]),
    cluster("storage.k8s.io", "v1", ("volumeattributesclasses", "volumeattributesclass", "VolumeAttributesClass"), "io.k8s.api.storage.v1.VolumeAttributesClass").short(&["vac"]).ways(&[ShownWhenDeleted]),

    cluster(ADMISSION, "v1", ("mutatingwebhookconfigurations", "mutatingwebhookconfiguration", "MutatingWebhookConfiguration"), "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration").within(EXTENSIONS).counted().ways(&[UpdatedByVersion]),
    cluster(ADMISSION, "v1", ("validatingadmissionpolicies", "validatingadmissionpolicy", "ValidatingAdmissionPolicy"), "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy").within(EXTENSIONS).with(&[Status]).counted().ways(&[UpdatedByVersion]),
    cluster(ADMISSION, "v1", ("validatingadmissionpolicybindings", "validatingadmissionpolicybinding", "ValidatingAdmissionPolicyBinding"), "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding").within(EXTENSIONS).counted().ways(&[UpdatedByVersion]),
    cluster(ADMISSION, "v1", ("validatingwebhookconfigurations", "validatingwebhookconfiguration", "ValidatingWebhookConfiguration"), "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration").within(EXTENSIONS).counted().ways(&[UpdatedByVersion]),

    cluster("apiextensions.k8s.io", "v1", ("customresourcedefinitions", "customresourcedefinition", "CustomResourceDefinition"), "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition").short(&["crd", "crds"]).within(EXTENSIONS).at("apiextensions.k8s.io/customresourcedefinitions").with(&[Status]).counted().ways(&[UpdatedByVersion, ShownWhenDeleted, DeletedInSteps]),

    cluster("apiregistration.k8s.io", "v1", ("apiservices", "apiservice", "APIService"), "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService").within(EXTENSIONS).at("apiregistration.k8s.io/apiservices").with(&[Status]).ways(&[UpdatedByVersion]),

    cluster("scheduling.k8s.io", "v1", ("priorityclasses", "priorityclass", "PriorityClass"), "io.k8s.api.scheduling.v1.PriorityClass").short(&["pc"]).counted(),

    namespaced("coordination.k8s.io", "v1", ("leases", "lease", "Lease"), "io.k8s.api.coordination.v1.Lease").ways(&[MadeByUpdate, UpdatedByVersion]),

    cluster("node.k8s.io", "v1", ("runtimeclasses", "runtimeclass", "RuntimeClass"), "io.k8s.api.node.v1.RuntimeClass").ways(&[MadeByUpdate, UpdatedByVersion]),

    namespaced("discovery.k8s.io", "v1", ("endpointslices", "endpointslice", "EndpointSlice"), "io.k8s.api.discovery.v1.EndpointSlice").counted(),

    cluster(FLOWCONTROL, "v1", ("flowschemas", "flowschema", "FlowSchema"), "io.k8s.api.flowcontrol.v1.FlowSchema").with(&[Status]).counted(),
    cluster(FLOWCONTROL, "v1", ("prioritylevelconfigurations", "prioritylevelconfiguration", "PriorityLevelConfiguration"), "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration").with(&[Status]).counted(),

    cluster("resource.k8s.io", "v1", ("deviceclasses", "deviceclass", "DeviceClass"), "io.k8s.api.resource.v1.DeviceClass").counted().ways(&[ShownWhenDeleted]),
    namespaced("resource.k8s.io", "v1", ("resourceclaims", "resourceclaim", "ResourceClaim"), "io.k8s.api.resource.v1.ResourceClaim").with(&[Status]).ways(&[ShownWhenDeleted]),
    namespaced("resource.k8s.io", "v1", ("resourceclaimtemplates", "resourceclaimtemplate", "ResourceClaimTemplate"), "io.k8s.api.resource.v1.ResourceClaimTemplate").ways(&[ShownWhenDeleted]),
    cluster("resource.k8s.io", "v1", ("resourceslices", "resourceslice", "ResourceSlice"), "io.k8s.api.resource.v1.ResourceSlice").counted().ways(&[ShownWhenDeleted]),
];
