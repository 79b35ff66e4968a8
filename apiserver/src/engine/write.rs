//! Create and update. An update reads, lets the request change what was read, and writes only if the key still is as it
//! was read; else it does so again with what is there then.

use proto::mvccpb::KeyValue;
use uuid::Uuid;

use super::Engine;
use super::options::WriteOptions;
use super::storage::{object_of, value_of};
use crate::codec;
use crate::etcd::{Failure, Written};
use crate::managed;
use crate::object::{
    Object, finalizers, is_terminating, meta, metadata_mut, resource_version, set_resource_version,
};
use crate::resources::{Resource, Subresource, Way};
use crate::rules::{self, services};
use crate::status::{Cause, Status};

/// What an update made of an object.
#[derive(Clone, PartialEq, Debug)]
pub struct Updated {
    /// The object, as it is now. One that went with its last finalizer is as it was to be.
    pub object: Object,
    /// Whether there was none before.
    pub created: bool,
}

/// What an update is about.
#[derive(Clone, Copy)]
struct Target<'a> {
    r: &'static Resource,
    namespace: &'a str,
    name: &'a str,
    key: &'a str,
    subresource: Option<Subresource>,
    options: &'a WriteOptions,
}

/// What became of one try.
enum Try {
    Done(Updated),
    /// Somebody else was faster; this is there now.
    Again(Option<KeyValue>),
}

impl Engine {
    /// Makes an object.
    pub async fn create(
        &self,
        r: &'static Resource,
        namespace: &str,
        mut object: Object,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        if r.question {
            return Err(Status::method_not_allowed());
        }
        in_namespace(r, namespace, &mut object)?;
        if resource_version(&object) != 0 || !meta(&object, "resourceVersion").is_empty() {
            let text = "resourceVersion should not be set on objects to be created";
            return Err(Status::unforeseen(text));
        }
        let base = generate_base(&object);
        let named_by = base.clone();
        let mut tries = 1;
        loop {
            let mut new = object.clone();
            if let Some(base) = &named_by {
                let name = generate_name(base);
                metadata_mut(&mut new).insert("name".to_owned(), name.into());
            }
            let new = prepare(r, new, options)?;
            let name = meta(&new, "name").to_owned();
            self.check_namespace(r, namespace, &name).await?;
            match self.put_new(r, namespace, new, options).await? {
                Some(created) => return Ok(created),
                None if named_by.is_some() && tries < NAME_TRIES_MAX => tries += 1,
                None => return Err(Status::already_exists(r, &name)),
            }
        }
    }

    /// Changes an object. `change` is given what is there, with its resource version, or nothing where there is none, and
    /// gives what is to be there instead; it is called again when somebody else was faster. What it gives with another
    /// resource version than that of what it was given is refused; without one, it holds for whatever is there.
    pub async fn update(
        &self,
        r: &'static Resource,
        namespace: &str,
        name: &str,
        subresource: Option<Subresource>,
        options: &WriteOptions,
        mut change: impl FnMut(Option<&Object>) -> Result<Object, Status> + Send,
    ) -> Result<Updated, Status> {
        let key = self.key(r, namespace, name)?;
        let target = Target {
            r,
            namespace,
            name,
            key: &key,
            subresource,
            options,
        };
        let (mut current, _) = self.etcd().get(&key).await?;
        for _ in 0..UPDATE_TRIES_MAX {
            let tried = match &current {
                Some(kv) => self.try_update(target, kv, &mut change).await?,
                None => self.try_create(target, &mut change).await?,
            };
            match tried {
                Try::Done(updated) => return Ok(updated),
                Try::Again(found) => current = found,
            }
        }
        Err(Status::modified(r, name))
    }

    async fn try_update(
        &self,
        target: Target<'_>,
        kv: &KeyValue,
        change: &mut (impl FnMut(Option<&Object>) -> Result<Object, Status> + Send),
    ) -> Result<Try, Status> {
        let Target { r, options, .. } = target;
        let old = object_of(r, kv)?;
        let mut new = change(Some(&old))?;
        check_same(target, &old, &mut new, kv.mod_revision)?;
        set_resource_version(&mut new, kv.mod_revision);
        codec::conform(r.type_name, &mut new);
        rules::default(r, &mut new);
        codec::fill(r.type_name, &mut new);
        rules::prepare_update(r, target.subresource, &old, &mut new);
        let causes = rules::validate_in(r, target.subresource, Some(&old), &new);
        if !causes.is_empty() {
            return Err(Status::invalid(r, target.name, causes));
        }
        let updated = |object| {
            Try::Done(Updated {
                object,
                created: false,
            })
        };
        let goes = is_to_go(r, &new);
        if !goes && new == old {
            return Ok(updated(old));
        }
        track(r, target.subresource, Some(&old), &mut new, options);
        if options.dry_run {
            return Ok(updated(new));
        }
        if !goes && target.subresource.is_none() && services::is_allotted(r) {
            return match self.put_allotted(r, target.key, new, kv.mod_revision).await? {
                Some(object) => Ok(updated(object)),
                None => Ok(Try::Again(self.etcd().get(target.key).await?.0)),
            };
        }
        let written = if goes {
            self.etcd().delete(target.key, kv.mod_revision).await?
        } else {
            self.put_changed(r, target.key, &new, kv.mod_revision).await?
        };
        match written {
            Written::Done(revision) => {
                set_resource_version(&mut new, revision);
                Ok(updated(new))
            }
            Written::Other(found) => Ok(Try::Again(found)),
        }
    }

    /// An update of what is not there: `change` says whether it may be made.
    async fn try_create(
        &self,
        target: Target<'_>,
        change: &mut (impl FnMut(Option<&Object>) -> Result<Object, Status> + Send),
    ) -> Result<Try, Status> {
        let Target { r, name, options, .. } = target;
        let mut new = change(None)?;
        let uid = meta(&new, "uid");
        if !uid.is_empty() {
            let told = match options.applied {
                true => format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                ),
                false => other_uid(target.key, uid, ""),
            };
            return Err(Status::conflict(r, name, &told));
        }
        in_namespace(r, target.namespace, &mut new)?;
        named(target.name, &mut new)?;
        let new = prepare(r, new, options)?;
        self.check_namespace(r, target.namespace, name).await?;
        match self.put_new(r, target.namespace, new, options).await? {
            Some(object) => Ok(Try::Done(Updated {
                object,
                created: true,
            })),
            None => {
                let (current, _) = self.etcd().get(target.key).await?;
                Ok(Try::Again(current))
            }
        }
    }

    /// Writes a new object. Nothing where there is one.
    async fn put_new(
        &self,
        r: &'static Resource,
        namespace: &str,
        mut object: Object,
        options: &WriteOptions,
    ) -> Result<Option<Object>, Status> {
        let key = self.key(r, namespace, meta(&object, "name"))?;
        if options.dry_run {
            let (current, _) = self.etcd().get(&key).await?;
            return Ok(current.is_none().then_some(object));
        }
        if services::is_allotted(r) {
            return self.put_allotted(r, &key, object, 0).await;
        }
        let value = value_of(r, &object)?;
        let mut written = Err(Failure::LeaseNotFound);
        for _ in 0..LEASE_TRIES {
            let lease = self.shared.leases.of(self.etcd(), r.ttl_s).await?;
            written = self.etcd().create(&key, value.clone(), lease).await;
            match written {
                Err(Failure::LeaseNotFound) => self.shared.leases.forget(lease),
                _ => break,
            }
        }
        match written? {
            Written::Done(revision) => {
                set_resource_version(&mut object, revision);
                Ok(Some(object))
            }
            Written::Other(_) => Ok(None),
        }
    }

    /// Writes an object in the place of that of `expected`. It lives as long as a new one.
    pub(super) async fn put_changed(
        &self,
        r: &'static Resource,
        key: &str,
        object: &Object,
        expected: i64,
    ) -> Result<Written, Status> {
        let value = value_of(r, object)?;
        let mut written = Err(Failure::LeaseNotFound);
        for _ in 0..LEASE_TRIES {
            let lease = self.shared.leases.of(self.etcd(), r.ttl_s).await?;
            written = self.etcd().update(key, expected, value.clone(), lease).await;
            match written {
                Err(Failure::LeaseNotFound) => self.shared.leases.forget(lease),
                _ => break,
            }
        }
        Ok(written?)
    }
}

/// Makes of what a client sends a new object, and judges it.
fn prepare(r: &'static Resource, mut object: Object, options: &WriteOptions) -> Result<Object, Status> {
    let metadata = metadata_mut(&mut object);
    metadata.insert("uid".to_owned(), Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".to_owned(), rules::seconds(options.now).into());
    metadata.remove("resourceVersion");
    codec::conform(r.type_name, &mut object);
    rules::default(r, &mut object);
    codec::fill(r.type_name, &mut object);
    // What the server adds from here on is nobody's.
    track(r, None, None, &mut object, options);
    rules::prepare_create(r, &mut object);
    codec::fill(r.type_name, &mut object);
    let causes = rules::validate(r, None, &object);
    if !causes.is_empty() {
        return Err(Status::invalid(r, meta(&object, "name"), causes));
    }
    Ok(object)
}

/// Notes who set what, unless that is done.
fn track(
    r: &Resource,
    subresource: Option<Subresource>,
    old: Option<&Object>,
    new: &mut Object,
    options: &WriteOptions,
) {
    if options.applied || options.field_manager.is_empty() {
        return;
    }
    let subresource = subresource.map(Subresource::name);
    let api_version = r.api_version();
    let manager = &options.field_manager;
    managed::track(
        r.type_name,
        &api_version,
        old,
        new,
        manager,
        subresource,
        options.now,
    );
}

/// The namespace of an object is that of the path.
fn in_namespace(r: &Resource, namespace: &str, object: &mut Object) -> Result<(), Status> {
    let given = meta(object, "namespace").to_owned();
    let metadata = metadata_mut(object);
    if !r.namespaced {
        metadata.remove("namespace");
        return Ok(());
    }
    if !given.is_empty() && given != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    metadata.insert("namespace".to_owned(), namespace.into());
    Ok(())
}

/// The name of an object is that of the path.
fn named(name: &str, object: &mut Object) -> Result<(), Status> {
    let given = meta(object, "name");
    if !given.is_empty() && given != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    metadata_mut(object).insert("name".to_owned(), name.into());
    Ok(())
}

/// What a changed object says of which object it is must be true.
fn check_same(target: Target<'_>, old: &Object, new: &mut Object, revision: i64) -> Result<(), Status> {
    let Target { r, name, .. } = target;
    in_namespace(r, target.namespace, new)?;
    named(name, new)?;
    let (uid, known) = (meta(new, "uid"), meta(old, "uid"));
    if !uid.is_empty() && uid != known {
        return Err(Status::conflict(r, name, &other_uid(target.key, uid, known)));
    }
    match meta(new, "resourceVersion") {
        "" | "0" if r.is(Way::UpdatedByVersion) => {
            let field = "metadata.resourceVersion";
            let cause = Cause::invalid(field, &0.into(), "must be specified for an update");
            Err(Status::invalid_kind(r.group, r.plural, name, vec![cause]))
        }
        // For whatever is there; 0 was never a version.
        "" | "0" => Ok(()),
        version if version == revision.to_string() => Ok(()),
        version if version.parse::<u64>().is_err() => Err(Status::unforeseen(format!(
            "strconv.ParseUint: parsing {version:?}: invalid syntax"
        ))),
        _ => Err(Status::modified(r, name)),
    }
}

/// Whoever writes means another object than the one that is there.
fn other_uid(key: &str, uid: &str, known: &str) -> String {
    format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
         failed: UID in precondition: {uid}, UID in object meta: {known}"
    )
}

/// Whether nothing holds an object that is on its way out any more: no finalizer, no time to end.
pub(super) fn is_to_go(r: &Resource, object: &Object) -> bool {
    let grace = object
        .get("metadata")
        .and_then(|metadata| metadata.get("deletionGracePeriodSeconds"))
        .and_then(serde_json::Value::as_i64)
        .unwrap_or(0);
    is_terminating(object)
        && grace == 0
        && finalizers(object).next().is_none()
        && (!r.has(Subresource::Finalize) || rules::is_finalized(object))
}

/// What a name is to be made of, where there is none.
fn generate_base(object: &Object) -> Option<String> {
    let base = meta(object, "generateName");
    if !meta(object, "name").is_empty() || base.is_empty() {
        return None;
    }
    let end = base.floor_char_boundary(GENERATED_BASE_BYTES_MAX);
    Some(base[..end].to_owned())
}

/// A name that most likely nobody has yet.
fn generate_name(base: &str) -> String {
    let mut random = Uuid::new_v4().as_u128();
    let mut name = base.to_owned();
    for _ in 0..GENERATED_LETTERS {
        let letters = LETTERS.len() as u128;
        let letter = LETTERS[(random % letters) as usize];
        name.push(char::from(letter));
        random /= letters;
    }
    name
}

/// No vowels and nothing that looks like another: no words come of it.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many are put behind a base.
const GENERATED_LETTERS: usize = 5;
/// A name is a label of a domain with these letters behind.
const GENERATED_BASE_BYTES_MAX: usize = 63 - GENERATED_LETTERS;
/// How many names are tried: a collision is one in millions.
const NAME_TRIES_MAX: usize = 8;
/// How often an update is tried. Each failure is the success of another.
const UPDATE_TRIES_MAX: usize = 256;
/// A lease that is over is found out by using it.
const LEASE_TRIES: usize = 2;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &serde_json::Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn names_are_made_where_there_is_none() {
        let base = |value| generate_base(&object(&value));
        assert_eq!(
            base(json!({"metadata": {"generateName": "a-"}})),
            Some("a-".to_owned())
        );
        assert_eq!(
            base(json!({"metadata": {"generateName": "a-", "name": "b"}})),
            None
        );
        assert_eq!(base(json!({})), None);
        let long = base(json!({"metadata": {"generateName": "a".repeat(300)}})).unwrap();
        let name = generate_name(&long);
        assert_eq!(name.len(), 63);
        assert!(
            name.bytes().skip(58).all(|letter| LETTERS.contains(&letter)),
            "{name}"
        );
        assert_ne!(generate_name("a-"), generate_name("a-"));
    }

    #[test]
    fn what_is_held_does_not_go() {
        let configmaps = crate::resources::find("", "v1", "configmaps").unwrap();
        for (metadata, goes) in [
            (json!({}), false),
            (json!({"deletionTimestamp": "t"}), true),
            (json!({"deletionTimestamp": "t", "finalizers": []}), true),
            (json!({"deletionTimestamp": "t", "finalizers": ["a"]}), false),
            (
                json!({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 0}),
                true,
            ),
            (
                json!({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}),
                false,
            ),
        ] {
            let object = object(&json!({ "metadata": metadata }));
            assert_eq!(is_to_go(configmaps, &object), goes, "{object:?}");
        }
    }
}
