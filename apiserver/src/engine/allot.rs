//! Objects that are given something of which there is one for all: the addresses and ports of services. What is free is
//! found out from all objects of the directory; a key beside them is written by everybody who takes something, so that
//! of two who found the same free one comes too late and looks again, on whichever server.

use super::Engine;
use super::keys;
use super::storage::{object_of, value_of};
use crate::etcd::prefix_end;
use crate::object::{Object, meta, set_resource_version};
use crate::resources::Resource;
use crate::rules::services::{self, Used};
use crate::status::Status;

impl Engine {
    /// Writes an object with what it is given, if its key is as it was at `expected` (0: not there). Nothing where it is
    /// not.
    pub(super) async fn put_allotted(
        &self,
        r: &'static Resource,
        key: &str,
        mut object: Object,
        expected: i64,
    ) -> Result<Option<Object>, Status> {
        let guard = format!("{}/{GUARD}", self.shared.settings.prefix);
        let _turn = self.shared.allotting.lock().await;
        for _ in 0..TRIES_MAX {
            let (taken, _) = self.etcd().get(&guard).await?;
            let guard_expected = taken.map_or(0, |kv| kv.mod_revision);
            let mut used = self.used(r, key).await?;
            let mut given = object.clone();
            services::allot(&mut given, &mut used)
                .map_err(|causes| Status::invalid(r, meta(&object, "name"), causes))?;
            let value = value_of(r, &given)?;
            let written = self
                .etcd()
                .put_guarded((key, expected), value, (&guard, guard_expected))
                .await?;
            if let Some(revision) = written {
                object = given;
                set_resource_version(&mut object, revision);
                return Ok(Some(object));
            }
            let (current, _) = self.etcd().get(key).await?;
            if current.map_or(0, |kv| kv.mod_revision) != expected {
                return Ok(None);
            }
        }
        Err(Status::modified(r, meta(&object, "name")))
    }

    /// What all but the object of a key have.
    async fn used(&self, r: &'static Resource, key: &str) -> Result<Used, Status> {
        let directory = keys::directory(&self.shared.settings.prefix, r);
        let all = self
            .etcd()
            .page(&directory, &prefix_end(&directory), 0, 0)
            .await?;
        let mut used = Used::default();
        for kv in all.kvs.iter().filter(|kv| kv.key != key.as_bytes()) {
            used.add(&object_of(r, kv)?);
        }
        Ok(used)
    }
}

/// The key that is written by whoever takes something, beside the directories of objects.
const GUARD: &str = "ranges/taffrail-services";
/// How often it is tried. Each failure is the success of another.
const TRIES_MAX: usize = 64;
