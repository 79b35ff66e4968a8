//! Jobs: each tells its pods from those of others by its own uid.

use serde_json::{Value, json};

use super::computed::set_missing;
use crate::object::{Object, child_mut, meta, metadata_mut};

/// Lets a new job select the pods that bear its uid, and its template bear it, unless its author chose a selector.
pub(super) fn select_own_pods(job: &mut Object) {
    let (name, uid) = (meta(job, "name").to_owned(), meta(job, "uid").to_owned());
    let spec = child_mut(job, "spec");
    if spec.get("manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    if !spec.get("template").is_some_and(Value::is_object) {
        return;
    }
    let own = |labels: &mut Object| {
        for (label, value) in [
            ("batch.kubernetes.io/controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            set_missing(labels, label, value.as_str().into());
        }
    };
    let labels = child_mut(metadata_mut(child_mut(spec, "template")), "labels");
    let given = labels.clone();
    own(labels);
    let selector = child_mut(child_mut(spec, "selector"), "matchLabels");
    selector.insert("batch.kubernetes.io/controller-uid".to_owned(), json!(uid));
    // A job without labels of its own has those of its template, these too.
    let labels = child_mut(metadata_mut(job), "labels");
    if *labels == given {
        own(labels);
    }
}
