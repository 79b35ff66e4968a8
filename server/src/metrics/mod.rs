//! The page `/metrics`: etcd's names, labels and meanings, so that existing dashboards and alerts work.
//!
//! Nothing is registered: each page is made of one reading of the store's numbers, the RPC counters and the kernel's,
//! and visits no key. `prometheus` only encodes it (the text format in which counters keep their names).
//!
//! | file | what |
//! | --- | --- |
//! | `store_numbers` | the store's gauges and counters |
//! | `durations` | the store's histograms |
//! | `rpcs` | calls, messages, bytes, streams |
//! | `network` | the other members |
//! | `defences` | what is turned away |
//! | `counts`, `runtime` | what the server itself counts: once, and once per runtime |
//! | `process` | the kernel's view |
//! | `page` | a page under construction |
//!
//! # Where the meaning differs
//! - `etcd_disk_backend_commit_duration_seconds` is the writing of one checkpoint into the working copy, which no request
//!   waits for. All of it is writing: `..._commit_write_...` shows the same times, and `..._commit_rebalance_...` and
//!   `..._commit_spill_...`, phases of a B+ tree that is not there, never observe anything.
//! - `etcd_disk_wal_fsync_duration_seconds` and `etcd_disk_wal_write_duration_seconds` observe batches, of which one may
//!   hold many entries.
//! - `etcd_debugging_mvcc_db_compaction_pause_...` is one step of a compaction, `..._total_...` all of them from the first
//!   to the last, and `..._index_compaction_pause_...` the part that is applied in the log's order.
//! - `etcd_debugging_snap_save_total_...` is the writing of a snapshot file. Nothing is marshalled before it:
//!   `..._marshalling_...` never observes anything.
//! - `etcd_debugging_server_watch_send_loop_...`: from the moment that an answer is handed to HTTP/2 to the one when the
//!   next is asked for; those without events count as progress.
//! - `etcd_disk_backend_defrag_...`: a defragmentation is answered at once, since space is reclaimed all the time.
//! - `etcd_mvcc_db_open_read_transactions` counts the reads that hold back the removal of history.
//! - `etcd_server_request_duration_seconds` and `etcd_server_proposals_failed_total` tell of clients' requests, not of what
//!   the leader proposes by itself; `success` is false where a request was not carried out, not where it was refused.
//! - `etcd_server_go_version` says that there is none.
//! - `etcd_server_learner_promote_...` tell of promotions that were asked for, not of those that the leader makes by itself.
//!
//! Left out: `go_*`, `etcd_snap_*`, `etcd_debugging_store_*` and `etcd_grpc_proxy_*`, which tell of parts that are not here.
//! Names that begin with `taffrail_` are ours.

use prometheus::proto::MetricType;

use crate::config::{ETCD_VERSION, TAFFRAIL_VERSION};
use crate::core::Core;
use crate::peer::promote::Promotions;
use crate::tls::RELOADS;

mod counts;
mod defences;
mod durations;
mod network;
mod page;
mod process;
mod rpcs;
mod runtime;
mod store_numbers;

pub(crate) use self::counts::HealthCounts;
use self::page::Page;
pub(crate) use self::process::{Process, read as process};
pub(crate) use self::runtime::{RuntimeNumbers, StreamFailure, WatchSend};

/// The content type of the page, as etcd sends it.
pub(crate) const PAGE_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// The page as text.
pub(crate) fn page(core: &Core) -> String {
    let _scrape = core.health.scrape();
    let metrics = core.store.metrics();
    let mut page = Page::default();
    store_numbers::add(&mut page, core, &metrics);
    durations::add(&mut page, &metrics);
    network::add(&mut page, &core.peers, &metrics);
    rpcs::add(&mut page, core);
    core.health.add_to(&mut page);
    defences::add(&mut page, core);
    add_promotions(&mut page, core.peers.promotions());
    add_reloads(&mut page);
    process::add(&mut page);
    add_versions(&mut page);
    page.text()
}

fn add_promotions(page: &mut Page, promotions: &Promotions) {
    page.counter(
        "etcd_server_learner_promote_successes",
        "The total number of successful learner promotions while this member is leader.",
        promotions.successes(),
    );
    let mut failures = page.family(
        "etcd_server_learner_promote_failures",
        "The total number of failed learner promotions (likely learner not ready) while this member is leader.",
        MetricType::COUNTER,
    );
    for (reason, count) in promotions.failures() {
        failures.add(&[("Reason", reason)], count);
    }
    page.push_if_any(failures);
}

fn add_reloads(page: &mut Page) {
    let mut reloads = page.family(
        "taffrail_tls_reloads_total",
        "The total number of times that changed TLS files were read, by what they are and whether they can be used.",
        MetricType::COUNTER,
    );
    for (material, successes, failures) in RELOADS.counts() {
        reloads.add(&[("material", material), ("result", "success")], successes);
        reloads.add(&[("material", material), ("result", "failure")], failures);
    }
    page.push(reloads);
}

fn add_versions(page: &mut Page) {
    page.gauge_of(
        "etcd_server_version",
        "Which version is running. 1 for 'server_version' label with current version.",
        &[("server_version", ETCD_VERSION)],
        1.0,
    );
    page.gauge_of(
        "etcd_server_go_version",
        "Which Go version server is running with. 1 for 'server_go_version' label with current version.",
        &[("server_go_version", "none")],
        1.0,
    );
    page.gauge_of(
        "taffrail_version",
        "Which version of Taffrail is running.",
        &[("version", TAFFRAIL_VERSION)],
        1.0,
    );
}

/// A version with all its three numbers, where a cluster's may be written with two.
pub(crate) fn full_version(version: &str) -> String {
    match version.matches('.').count() {
        1 => format!("{version}.0"),
        _ => version.to_owned(),
    }
}

/// A version without its patch number.
fn short_version(version: &str) -> &str {
    match version.matches('.').count() {
        2 => version.rsplit_once('.').map_or(version, |(short, _)| short),
        _ => version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_get_three_numbers() {
        assert_eq!(full_version("3.7"), "3.7.0");
        assert_eq!(full_version("3.7.1"), "3.7.1");
        assert_eq!((short_version("3.7.0"), short_version("3.7")), ("3.7", "3.7"));
    }
}
