//! Delete. An object that something holds (a finalizer, time to end) is only marked, by a deletion timestamp; it goes
//! when an update or another deletion takes away the last that holds it.

use futures_util::{TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use proto::mvccpb::KeyValue;
use serde_json::Value;

use super::options::{DeleteOptions, ListOptions, Propagation, WriteOptions};
use super::storage::object_of;
use super::write::is_to_go;
use super::{Engine, Listed, namespaces};
use crate::etcd::Written;
use crate::object::{Object, finalizers, is_terminating, meta, metadata, metadata_mut, set_resource_version};
use crate::resources::{Resource, Subresource, Way};
use crate::rules::{self, seconds};
use crate::status::{Reason, Status};

/// What a deletion made of an object.
#[derive(Clone, PartialEq, Debug)]
pub enum Deleted {
    /// It is gone. This is what it was, with the revision of the deletion.
    Gone(Object),
    /// It is on its way out, and stays until nothing holds it any more.
    Marked(Object),
}

impl Deleted {
    /// The object.
    #[must_use]
    pub fn into_object(self) -> Object {
        match self {
            Deleted::Gone(object) | Deleted::Marked(object) => object,
        }
    }
}

impl Engine {
    /// Deletes an object, or marks it.
    pub async fn delete(
        &self,
        r: &'static Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
        write: &WriteOptions,
    ) -> Result<Deleted, Status> {
        let key = self.key(r, namespace, name)?;
        namespaces::check_deletable(r, name)?;
        let (mut current, _) = self.etcd().get(&key).await?;
        for _ in 0..DELETE_TRIES_MAX {
            let Some(kv) = current else {
                return Err(Status::not_found(r, name));
            };
            match self.try_delete(r, &key, &kv, options, write).await? {
                Ok(deleted) => return Ok(deleted),
                Err(found) => current = found,
            }
        }
        Err(Status::modified(r, name))
    }

    /// Deletes the objects that a list gives, one by one. Gives them as they were.
    pub async fn delete_collection(
        &self,
        r: &'static Resource,
        namespace: Option<&str>,
        list: &ListOptions,
        options: &DeleteOptions,
        write: &WriteOptions,
    ) -> Result<Listed, Status> {
        let found = self.list(r, namespace, list).await?;
        stream::iter(found.items.iter().cloned().map(Ok))
            .try_for_each_concurrent(DELETES_AT_ONCE, |item| async move {
                let object = item.object()?;
                item.forget();
                let (namespace, name) = (meta(&object, "namespace"), meta(&object, "name"));
                match self.delete(r, namespace, name, options, write).await {
                    // Somebody else was faster.
                    Err(status) if status.reason == Reason::NotFound => Ok(()),
                    Err(status) => Err(status),
                    Ok(_) => Ok(()),
                }
            })
            .await?;
        Ok(found)
    }

    /// One try; the inner error is what is there now, where somebody else was faster.
    async fn try_delete(
        &self,
        r: &'static Resource,
        key: &str,
        kv: &KeyValue,
        options: &DeleteOptions,
        write: &WriteOptions,
    ) -> Result<Result<Deleted, Option<KeyValue>>, Status> {
        let old = object_of(r, kv)?;
        check_preconditions(r, &old, options)?;
        let mut new = doomed(r, &old, options, write.now);
        let goes = is_to_go(r, &new);
        if !goes && new == old {
            return Ok(Ok(Deleted::Marked(old)));
        }
        if write.dry_run {
            return Ok(Ok(if goes {
                Deleted::Gone(last_seen(r, old, new))
            } else {
                Deleted::Marked(new)
            }));
        }
        let written = if goes {
            self.etcd().delete(key, kv.mod_revision).await?
        } else {
            self.put_changed(r, key, &new, kv.mod_revision).await?
        };
        match written {
            Written::Done(revision) if goes => {
                let mut last = last_seen(r, old, new);
                set_resource_version(&mut last, revision);
                Ok(Ok(Deleted::Gone(last)))
            }
            Written::Done(revision) => {
                set_resource_version(&mut new, revision);
                Ok(Ok(Deleted::Marked(new)))
            }
            Written::Other(found) => Ok(Err(found)),
        }
    }
}

/// What a client is shown of what is gone: of what ends in its own time also that this time is over.
fn last_seen(r: &Resource, old: Object, new: Object) -> Object {
    if rules::ends_in_its_time(r) { new } else { old }
}

fn check_preconditions(r: &Resource, object: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let checks = [
        (
            "UID",
            &options.uid,
            meta(object, "uid"),
            "deleted and then recreated",
        ),
        (
            "ResourceVersion",
            &options.resource_version,
            meta(object, "resourceVersion"),
            "modified",
        ),
    ];
    for (what, expected, found, became) in checks {
        if let Some(expected) = expected
            && expected != found
        {
            let name = meta(object, "name");
            let kind = r.kind;
            let text = format!(
                "Operation cannot be fulfilled on {kind} \"{name}\": the {what} in the precondition ({expected}) does \
                 not match the {what} in record ({found}). The object might have been {became}"
            );
            let mut status = Status::new(Reason::Conflict, text).about(r, name);
            kind.clone_into(&mut status.details.kind);
            return Err(status);
        }
    }
    Ok(())
}

/// The object as one that is to be deleted, whether or not anything holds it.
fn doomed(r: &Resource, old: &Object, options: &DeleteOptions, now: Timestamp) -> Object {
    let mut new = old.clone();
    let is_said = finalizers(old).any(|finalizer| [ORPHAN, FOREGROUND].contains(&finalizer));
    let own = r.orphans().filter(|_| !is_said).map(|_| Propagation::Orphan);
    if let Some(propagation) = options.propagation.or(own) {
        set_propagation(&mut new, propagation);
    }
    if is_terminating(old) {
        shorten_grace(&mut new, options.grace_period_s);
        return new;
    }
    let grace_s = rules::terminating_grace_s(r, old, options.grace_period_s).unwrap_or(0);
    let generation = number(old, "generation");
    let metadata = metadata_mut(&mut new);
    metadata.insert(
        "deletionTimestamp".to_owned(),
        seconds(after(now, grace_s)).into(),
    );
    // What is emptied first does not end by the clock.
    if !r.is(Way::DeletedInSteps) {
        metadata.insert("deletionGracePeriodSeconds".to_owned(), grace_s.into());
        if let Some(generation) = generation.filter(|generation| *generation > 0) {
            metadata.insert("generation".to_owned(), generation.saturating_add(1).into());
        }
    }
    if r.has(Subresource::Finalize) {
        namespaces::set_terminating(&mut new);
    }
    new
}

/// What is on its way out may be given less time, never more.
fn shorten_grace(object: &mut Object, asked: Option<i64>) {
    let pending = number(object, "deletionGracePeriodSeconds").unwrap_or(0);
    let Some(asked) = asked.map(|asked| if asked < 0 { 1 } else { asked }) else {
        return;
    };
    let until: Option<Timestamp> = meta(object, "deletionTimestamp").parse().ok();
    let Some(until) = until.filter(|_| asked < pending) else {
        return;
    };
    let until = seconds(after(until, asked - pending));
    let metadata = metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), until.into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), asked.into());
}

/// What becomes of what it owns is done by whoever collects garbage; a finalizer says what.
fn set_propagation(object: &mut Object, propagation: Propagation) {
    let mut kept: Vec<Value> = finalizers(object)
        .filter(|finalizer| ![ORPHAN, FOREGROUND].contains(finalizer))
        .map(Value::from)
        .collect();
    match propagation {
        Propagation::Orphan => kept.push(ORPHAN.into()),
        Propagation::Foreground => kept.push(FOREGROUND.into()),
        Propagation::Background => {}
    }
    let metadata = metadata_mut(object);
    if kept.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), kept.into());
    }
}

fn number(object: &Object, field: &str) -> Option<i64> {
    metadata(object)?.get(field)?.as_i64()
}

/// So many seconds later, or the last time there is.
fn after(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// How often a deletion is tried. Each failure is the success of another.
const DELETE_TRIES_MAX: usize = 256;
/// How many objects of a collection are deleted at the same time.
const DELETES_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::find;

    fn object(value: &Value) -> Object {
        value.as_object().unwrap().clone()
    }

    fn options(grace_period_s: Option<i64>, propagation: Option<Propagation>) -> DeleteOptions {
        DeleteOptions {
            grace_period_s,
            propagation,
            ..DeleteOptions::default()
        }
    }

    #[test]
    fn finalizers_say_what_becomes_of_what_is_owned() {
        let configmaps = find("", "v1", "configmaps").unwrap();
        let now: Timestamp = "2026-01-02T03:04:05.6Z".parse().unwrap();
        let old = object(&json!({"metadata": {"finalizers": ["a", "orphan"], "generation": 4}}));
        for (propagation, finalizers) in [
            (None, json!(["a", "orphan"])),
            (Some(Propagation::Background), json!(["a"])),
            (Some(Propagation::Orphan), json!(["a", "orphan"])),
            (Some(Propagation::Foreground), json!(["a", "foregroundDeletion"])),
        ] {
            let new = doomed(configmaps, &old, &options(None, propagation), now);
            let expected = json!({
                "deletionTimestamp": "2026-01-02T03:04:05Z",
                "deletionGracePeriodSeconds": 0,
                "finalizers": finalizers,
                "generation": 5,
            });
            assert_eq!(new["metadata"], expected);
            assert!(!is_to_go(configmaps, &new));
        }
        let old = object(&json!({"metadata": {"finalizers": ["orphan"]}}));
        let background = options(None, Some(Propagation::Background));
        assert!(is_to_go(configmaps, &doomed(configmaps, &old, &background, now)));
    }

    #[test]
    fn grace_is_shortened_only() {
        let pods = find("", "v1", "pods").unwrap();
        let now = Timestamp::now();
        let old = object(&json!({"metadata": {
            "deletionTimestamp": "2026-01-01T00:00:30Z",
            "deletionGracePeriodSeconds": 30,
        }}));
        for (asked, until, grace) in [
            (None, "2026-01-01T00:00:30Z", 30),
            (Some(60), "2026-01-01T00:00:30Z", 30),
            (Some(10), "2026-01-01T00:00:10Z", 10),
            (Some(-5), "2026-01-01T00:00:01Z", 1),
            (Some(0), "2026-01-01T00:00:00Z", 0),
        ] {
            let new = doomed(pods, &old, &options(asked, None), now);
            let expected = json!({"deletionTimestamp": until, "deletionGracePeriodSeconds": grace});
            assert_eq!(new["metadata"], expected, "{asked:?}");
            assert_eq!(is_to_go(pods, &new), grace == 0);
        }
        let far = object(&json!({"metadata": {}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}));
        let never = doomed(pods, &far, &options(Some(i64::MAX), None), now);
        assert!(is_terminating(&never));
    }
}
