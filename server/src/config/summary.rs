//! The line "starting an etcd server", which tells the whole configuration under etcd's names.

use serde_json::{Map, Value, json};

use super::gates::Gates;
use super::number::parse_signed;
use super::raw::Raw;
use super::{ETCD_VERSION, GIT_SHA, TAFFRAIL_VERSION, duration, url, version};

/// The line's fields, but for what only the start finds out.
pub(super) fn fields(raw: &Raw, store: &store::Settings, gates: &Gates) -> Map<String, Value> {
    let data_dir = store.data_dir.display().to_string();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let go = |span: std::time::Duration| {
        duration::format_nanos(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
    };
    let members: Vec<String> = store
        .initial_cluster
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
        .collect();
    let fields = [
        json!({
            "etcd-version": ETCD_VERSION,
            "git-sha": GIT_SHA,
            "go-version": version::GO_VERSION,
            "go-os": std::env::consts::OS,
            "go-arch": version::go_arch(),
            "taffrail-version": TAFFRAIL_VERSION,
            "max-cpu-set": cpus,
            "max-cpu-available": cpus,
            "name": store.name,
            "data-dir": data_dir,
            "wal-dir": raw.get("wal-dir"),
            "wal-dir-dedicated": raw.get("wal-dir"),
            "member-dir": store.data_dir.join("member").display().to_string(),
            "force-new-cluster": store.force_new_cluster,
            "heartbeat-interval": go(store.heartbeat),
            "election-timeout": go(store.election),
            "initial-election-tick-advance": store.election_tick_advance,
            "snapshot-count": store.snapshot_count,
            "max-wals": raw.number("max-wals"),
            "max-snapshots": raw.number("max-snapshots"),
            "snapshot-catchup-entries": store.snapshot_catchup_entries,
        }),
        json!({
            "initial-advertise-peer-urls": store.initial_advertise_peer_urls,
            "listen-peer-urls": urls(raw, "listen-peer-urls"),
            "advertise-client-urls": store.advertise_client_urls,
            "listen-client-urls": urls(raw, "listen-client-urls"),
            "listen-client-http-urls": urls(raw, "listen-client-http-urls"),
            "listen-metrics-urls": urls(raw, "listen-metrics-urls"),
            "local-address": "",
            "cors": raw.strings("cors"),
            "host-whitelist": raw.strings("host-whitelist"),
            "initial-cluster": members.join(","),
            "initial-cluster-state": raw.get("initial-cluster-state"),
            "initial-cluster-token": store.initial_cluster_token,
            "quota-backend-bytes": store.quota_bytes,
            "quota-auto-disarm": store.quota_auto_disarm,
            "disk-reserve-bytes": store.disk_reserve_bytes,
            "max-request-bytes": store.max_request_bytes,
            "max-concurrent-streams": raw.number("max-concurrent-streams"),
            "pre-vote": raw.flag("pre-vote"),
            "feature-gates": gates.text(),
            "initial-corrupt-check": gates.enabled("InitialCorruptCheck"),
        }),
        json!({
            "corrupt-check-time-interval": go(raw.interval("corrupt-check-time")),
            "compact-check-time-interval": go(raw.interval("compact-hash-check-time")),
            "auto-compaction-mode": raw.get("auto-compaction-mode"),
            "auto-compaction-retention": raw.get("auto-compaction-retention"),
            "downgrade-check-interval": go(raw.interval("downgrade-check-time")),
            "max-learners": parse_signed(raw.get("max-learners")).unwrap_or(1),
            "v2-deprecation": "write-only",
        }),
    ];
    fields
        .into_iter()
        .filter_map(|part| match part {
            Value::Object(map) => Some(map),
            _ => None,
        })
        .flatten()
        .collect()
}

fn urls(raw: &Raw, name: &'static str) -> Vec<String> {
    let text = match raw.get(name) {
        "" => super::table::flag(name).default,
        given => given,
    };
    match text {
        "" => Vec::new(),
        text => url::parse_list(text).map_or_else(|_| Vec::new(), |urls| url::texts(&urls)),
    }
}
