//! The objects of a load: pods, which the adapter stores in some 1.5 kB.

use bytes::Bytes;
use serde_json::json;

use super::http::{Answer, CallError};

/// What stands in a template in the place of the pod's name.
const NAME: &str = "NAME";

/// A pod as `kubectl run` sends one; the server adds four times as much.
pub(super) struct Template(String);

impl Template {
    pub(super) fn new() -> Self {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": NAME,
                "labels": {"run": "crew", "turn": "0"},
            },
            "spec": {
                "containers": [{
                    "name": "hand",
                    "image": "registry.example/hand:0",
                    "resources": {},
                }],
                "dnsPolicy": "ClusterFirst",
                "restartPolicy": "Always",
            },
        });
        Self(pod.to_string())
    }

    /// The pod of that name.
    pub(super) fn named(&self, name: &str) -> String {
        self.0.replacen(NAME, name, 1)
    }
}

/// Changes a label: a merge patch that leaves nothing as it was, if the turn is a new one.
pub(super) fn relabel(turn: u64) -> String {
    json!({"metadata": {"labels": {"turn": turn.to_string()}}}).to_string()
}

/// Changes the image of the container: a strategic merge patch, which finds it by its name.
pub(super) fn reimage(turn: u64) -> String {
    let image = format!("registry.example/hand:{turn}");
    json!({"spec": {"containers": [{"name": "hand", "image": image}]}}).to_string()
}

/// The collection of pods of a namespace.
pub(super) fn collection(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// A namespace to be made.
pub(super) fn namespace(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string()
}

/// Where the store has the pods of all namespaces.
pub(super) const PODS: &str = "/registry/pods/";

/// The end of the range of all keys with a prefix that ends in `/`.
pub(super) fn end_of(prefix: &str) -> Bytes {
    Bytes::from(format!("{}0", prefix.trim_end_matches('/')))
}

/// The resource version of what was answered.
pub(super) fn version_of(answer: &Answer) -> Result<i64, CallError> {
    let object = answer.json()?;
    let version = object["metadata"]["resourceVersion"].as_str();
    version
        .and_then(|version| version.parse().ok())
        .ok_or(CallError::Odd {
            why: "it has no resource version",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_named_once() {
        let pod = Template::new().named("a-1");
        let pod: serde_json::Value = serde_json::from_str(&pod).unwrap();
        assert_eq!(pod["metadata"]["name"], "a-1");
        assert_eq!(pod["spec"]["containers"][0]["name"], "hand");
    }

    #[test]
    fn the_end_of_a_directory() {
        assert_eq!(end_of("/registry/pods/"), "/registry/pods0");
    }
}
