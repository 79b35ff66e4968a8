//! What every test of the server shares: a real server process on free loopback ports, clients for it, and words
//! for requests and expected errors.
//!
//! `TAFFRAIL_TEST_SERVER` names another program with etcd's flags to run in place of the one under test. That is how
//! the tests themselves are tested: they must pass against a real etcd. Nothing here sleeps to let something happen;
//! every wait is for a condition and ends in a panic after [`PATIENCE`].
#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses its own part of the harness"
)]

mod adapter;
mod as_bytes;
mod auth;
mod change;
mod client;
mod cluster;
mod crowd;
mod etcd;
pub(crate) mod frames;
mod http;
mod kubernetes;
mod ledger;
mod ports;
mod proxy;
mod random;
mod raw;
mod requests;
mod secured;
mod server;
mod skip;
mod small_disk;
pub(crate) mod tls;
mod tools;
mod watch;

use std::time::Duration;

pub(crate) use adapter::Adapter;
pub(crate) use auth::*;
pub(crate) use client::{Carrier, Client, assert_status};
pub(crate) use cluster::{Cluster, initial_cluster};
pub(crate) use crowd::{Crowd, Size, assert_equal_hashes};
pub(crate) use etcd::Etcd;
pub(crate) use http::Exchange;
pub(crate) use kubernetes::Kubernetes;
pub(crate) use ledger::*;
pub(crate) use ports::Ports;
pub(crate) use proxy::Cut;
pub(crate) use random::Random;
pub(crate) use raw::raw_call;
pub(crate) use requests::*;
pub(crate) use secured::Secured;
pub(crate) use server::{HttpAnswer, Seat, Server, http_get, program, runs_taffrail, wait_until};
pub(crate) use skip::{needs, needs_etcdctl, needs_old_kubectl, needs_python_client, skip};
pub(crate) use small_disk::SmallDisk;
pub(crate) use tools::{
    go_module, needs_control_plane, needs_etcdutl, needs_go_session, needs_newest_etcdctl,
    needs_newest_kubectl,
};
pub(crate) use watch::{WatchStream, keys_of, showed};

/// The longest that any single wait may last. It only turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
