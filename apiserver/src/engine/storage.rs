//! Between keys and objects: reading one, and what a value of the store is in the version that is asked for.

use bytes::Bytes;
use proto::mvccpb::KeyValue;

use super::item::Item;
use super::keys;
use super::{Engine, Found};
use crate::codec::{self, decode_stored};
use crate::object::{Object, is_too_deep, set_resource_version};
use crate::resources::Resource;
use crate::rules::{self, convert};
use crate::status::Status;

impl Engine {
    /// An object, as it is now.
    pub async fn get(&self, r: &'static Resource, namespace: &str, name: &str) -> Result<Found, Status> {
        let key = self.key(r, namespace, name)?;
        match self.etcd().get(&key).await? {
            (Some(kv), _) => item_of(r, &kv.value, kv.mod_revision),
            (None, _) => Err(Status::not_found(r, name)),
        }
    }

    pub(super) fn key(&self, r: &Resource, namespace: &str, name: &str) -> Result<String, Status> {
        if r.question {
            return Err(Status::method_not_allowed());
        }
        keys::key(&self.shared.settings.prefix, r, namespace, name)
    }
}

/// What is in a value of the store, as an object of this resource.
pub(super) fn item_of(r: &'static Resource, value: &[u8], revision: i64) -> Result<Item, Status> {
    if r.stored_as.is_none() && is_json(value) {
        return Item::stored(value, revision);
    }
    Item::of(in_version_of(r, read(r, value)?), revision)
}

fn is_json(value: &[u8]) -> bool {
    value.first() == Some(&b'{')
}

/// What a value of the store holds, in the version of the store. A typed server completes what it has stored when it reads
/// it; ours stores it whole.
fn read(r: &'static Resource, value: &[u8]) -> Result<Object, Status> {
    let mut stored = decode_stored(value)?;
    if !is_json(value) {
        let as_stored = r.stored();
        rules::default(as_stored, &mut stored);
        codec::fill(as_stored.type_name, &mut stored);
    }
    Ok(stored)
}

/// The fields of what is in the store, with the resource version.
pub(super) fn object_of(r: &'static Resource, kv: &KeyValue) -> Result<Object, Status> {
    let mut object = in_version_of(r, read(r, &kv.value)?);
    set_resource_version(&mut object, kv.mod_revision);
    Ok(object)
}

/// The value that is stored for an object of this resource: without resource version, in the version of the store. What
/// could not be read again is refused: a patch, or the account of who owns what, may be deeper than what was sent.
pub(super) fn value_of(r: &'static Resource, object: &Object) -> Result<Bytes, Status> {
    let mut object = object.clone();
    set_resource_version(&mut object, 0);
    if r.stored_as.is_some() {
        object = convert(object, r, r.stored());
    }
    if is_too_deep(&object) {
        return Err(Status::bad_request("json: exceeded max depth"));
    }
    serde_json::to_vec(&object)
        .map(Bytes::from)
        .map_err(Status::internal)
}

fn in_version_of(r: &'static Resource, stored: Object) -> Object {
    match r.stored_as {
        Some(_) => {
            let mut object = convert(stored, r.stored(), r);
            codec::fill(r.type_name, &mut object);
            object
        }
        None => stored,
    }
}
