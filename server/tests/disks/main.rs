//! What members keep: snapshots and backups, full disks, failing disks, damaged files.

#[path = "../harness/mod.rs"]
mod harness;

mod corruption;
mod damage;
mod damage_members;
mod disk;
mod snapshot;
mod snapshot_force;
mod snapshot_users;
mod space;
mod space_real;
