//! The member itself: timing, limits, directories, and what it refuses to be.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::cluster::Members;
use super::listen::Advertised;
use super::notice::Notice;
use super::number::parse_signed;
use super::raw::Raw;
use super::table::{self, Support};
use super::{Refusal, check, duration, start, url};

/// Heartbeat and election timeout.
#[derive(Clone, Copy)]
pub(super) struct Timing {
    heartbeat: Duration,
    election: Duration,
}

impl Timing {
    pub(super) fn read(raw: &Raw) -> Result<Timing, Refusal> {
        let heartbeat_ms = raw.number("heartbeat-interval");
        let election_ms = raw.number("election-timeout");
        if heartbeat_ms == 0 {
            return Err(check("--heartbeat-interval must be >0 (set to 0ms)"));
        }
        if election_ms == 0 {
            return Err(check("--election-timeout must be >0 (set to 0ms)"));
        }
        if heartbeat_ms.saturating_mul(5) > election_ms {
            return Err(check(format!(
                "--election-timeout[{election_ms}ms] should be at least as 5 times as \
                 --heartbeat-interval[{heartbeat_ms}ms]"
            )));
        }
        if election_ms > ELECTION_MS_MAX {
            return Err(check(format!(
                "--election-timeout[{election_ms}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
            )));
        }
        Ok(Timing {
            heartbeat: Duration::from_millis(heartbeat_ms),
            election: Duration::from_millis(election_ms),
        })
    }
}

pub(super) fn check_hash_interval(raw: &Raw) -> Result<(), Refusal> {
    let nanos = duration::parse_nanos(raw.get("compact-hash-check-time")).unwrap_or_default();
    match nanos {
        1.. => Ok(()),
        _ => Err(check(format!(
            "--compact-hash-check-time must be >0 (set to {})",
            duration::format_nanos(nanos)
        ))),
    }
}

/// Members of one name are easily taken for one.
pub(super) fn warn_of_name(raw: &mut Raw) {
    if raw.get("name") == "default" {
        raw.notices.push(Notice::warning(
            "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into \
             issue when multiple members have the same default name",
            json!({ "name": "default" }),
        ));
    }
}

/// There is never that much to gain here: the working copy is compacted as it is written.
pub(super) fn skip_defragmentation(raw: &mut Raw) {
    let threshold = raw.number("bootstrap-defrag-threshold-megabytes");
    if threshold > 0 {
        raw.notices.push(Notice::info(
            "Skipping defragmentation",
            json!({ "bootstrap-defrag-threshold-bytes": threshold.saturating_mul(1 << 20) }),
        ));
    }
}

pub(super) fn learners_max(raw: &Raw) -> Result<usize, Refusal> {
    let given = parse_signed(raw.get("max-learners")).unwrap_or(1);
    usize::try_from(given).map_err(|_| start("membership: too many learner members in cluster"))
}

/// What would make another member of this one.
pub(super) fn check_unsupported(raw: &Raw) -> Result<(), Refusal> {
    let asked = table::all().find(|flag| {
        flag.support == Support::Refused && raw.given(flag.name).is_some_and(|given| given != flag.default)
    });
    match asked {
        Some(flag) => Err(start(format!(
            "--{} is not supported by this version of Taffrail",
            flag.name
        ))),
        None => Ok(()),
    }
}

/// What the store is told.
pub(super) fn store(
    raw: &mut Raw,
    timing: Timing,
    cluster: Members,
    advertised: &Advertised,
    learners_max: usize,
) -> Result<store::Settings, Refusal> {
    let name = raw.get("name").to_owned();
    // The same addresses, but as the whole cluster writes them: ids are made from the text.
    let own_peer_urls = cluster.iter().filter(|(member, _)| *member == name);
    let own_peer_urls = own_peer_urls.flat_map(|(_, urls)| urls.clone()).collect();
    let mut settings = store::Settings {
        initial_cluster: cluster,
        initial_cluster_token: raw.get("initial-cluster-token").to_owned(),
        initial_cluster_state: match raw.get("initial-cluster-state") {
            "existing" => store::shell::ClusterState::Existing,
            _ => store::shell::ClusterState::New,
        },
        force_new_cluster: raw.flag("force-new-cluster"),
        initial_advertise_peer_urls: own_peer_urls,
        advertise_client_urls: url::texts(&advertised.client),
        strict_reconfig_check: raw.flag("strict-reconfig-check"),
        learners_max,
        auto_promote: raw.flag("learner-auto-promote"),
        heartbeat: timing.heartbeat,
        election: timing.election,
        election_tick_advance: raw.flag("initial-election-tick-advance"),
        snapshot_count: raw.number("snapshot-count"),
        snapshot_catchup_entries: raw.number("snapshot-catchup-entries"),
        quota_bytes: quota(raw),
        quota_auto_disarm: raw.flag("quota-auto-disarm"),
        disk_reserve_bytes: raw.number("disk-reserve-bytes"),
        max_request_bytes: request_bytes_max(raw),
        max_txn_ops: usize::try_from(raw.number("max-txn-ops")).unwrap_or(usize::MAX),
        watch_progress_interval: progress_interval(raw),
        wal_dir: match raw.get("wal-dir") {
            "" => None,
            given => Some(PathBuf::from(given)),
        },
        slow_apply: raw.interval("warning-apply-duration"),
        ..store::Settings::new(data_dir(raw, &name))
    };
    if let Some(keys) = batch_limit(raw) {
        settings.limits.compaction_step_keys = keys;
    }
    settings.name = name;
    Ok(settings)
}

fn data_dir(raw: &mut Raw, name: &str) -> PathBuf {
    match raw.get("data-dir") {
        "" => {
            let default = format!("{name}.etcd");
            raw.notices.push(Notice::warning(
                "'data-dir' was empty; using default",
                json!({ "data-dir": default }),
            ));
            PathBuf::from(default)
        }
        given => PathBuf::from(given),
    }
}

fn batch_limit(raw: &Raw) -> Option<usize> {
    let given = parse_signed(raw.given("compaction-batch-limit")?).ok()?;
    usize::try_from(given).ok().filter(|&keys| keys > 0)
}

/// Longer requests than we take are as good as refused; etcd takes any number.
fn request_bytes_max(raw: &mut Raw) -> usize {
    let given = raw.number("max-request-bytes");
    let bytes = usize::try_from(given)
        .unwrap_or(usize::MAX)
        .min(REQUEST_BYTES_MAX);
    if given > REQUEST_BYTES_RECOMMENDED {
        raw.notices.push(Notice::warning(
            "exceeded recommended request limit",
            json!({
                "max-request-bytes": given,
                "recommended-request-bytes": REQUEST_BYTES_RECOMMENDED,
                "request-bytes-taken": bytes,
            }),
        ));
    }
    bytes
}

/// 0 is the default quota, a negative number none.
fn quota(raw: &mut Raw) -> Option<u64> {
    let given = parse_signed(raw.get("quota-backend-bytes")).unwrap_or(0);
    let quota = match given {
        0 => QUOTA_BYTES_DEFAULT,
        _ => u64::try_from(given).ok()?,
    };
    if quota > QUOTA_BYTES_RECOMMENDED {
        raw.notices.push(Notice::warning(
            "quota exceeds the maximum value",
            json!({
                "quota-name": "v3-applier",
                "quota-size-bytes": quota,
                "quota-maximum-size-bytes": QUOTA_BYTES_RECOMMENDED,
            }),
        ));
    }
    Some(quota)
}

fn progress_interval(raw: &mut Raw) -> Duration {
    let given = raw.interval("watch-progress-notify-interval");
    if given.is_zero() {
        return PROGRESS_INTERVAL_UNSET;
    }
    if given < PROGRESS_INTERVAL_MIN {
        raw.notices.push(Notice::warning(
            "adjusting watch progress notify interval to minimum period",
            json!({ "min-watch-progress-notify-interval": "100ms" }),
        ));
    }
    given.max(PROGRESS_INTERVAL_MIN)
}

/// etcd's ceiling on the election timeout.
const ELECTION_MS_MAX: u64 = 50_000;
/// etcd's default quota.
const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;
/// Above it etcd warns.
const QUOTA_BYTES_RECOMMENDED: u64 = 8 << 30;
/// Above it etcd warns.
const REQUEST_BYTES_RECOMMENDED: u64 = 10 << 20;
/// Ours: a message has at most 2 GiB in gRPC, its overhead included.
const REQUEST_BYTES_MAX: usize = (1 << 31) - 1 - super::serving::MESSAGE_OVERHEAD_BYTES;
/// etcd's floor on the progress interval.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// What 0 stands for.
const PROGRESS_INTERVAL_UNSET: Duration = Duration::from_secs(600);
