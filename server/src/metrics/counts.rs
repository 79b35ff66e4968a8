//! What the server counts for all its runtimes together: what happens rarely.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::proto::MetricType;
use store::shell::{BACKUP_BUCKETS_S, DEFRAG_BUCKETS_S, HASH_BUCKETS_S, Histogram};

use super::page::Page;

/// How often health checks were asked and what they said, pages of metrics, and the rare long calls.
pub(crate) struct HealthCounts {
    successes: AtomicU64,
    failures: AtomicU64,
    /// By probe and check.
    checks: Mutex<BTreeMap<(&'static str, &'static str), CheckCounts>>,
    pages: AtomicU64,
    pages_under_way: AtomicU64,
    defragmentations: Histogram,
    defragmenting: AtomicU64,
    backups: Histogram,
    hashes: Histogram,
}

/// The outcomes of one check.
#[derive(Clone, Copy, Default)]
struct CheckCounts {
    successes: u64,
    failures: u64,
    healthy: bool,
}

impl Default for HealthCounts {
    fn default() -> Self {
        HealthCounts {
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            checks: Mutex::default(),
            pages: AtomicU64::new(0),
            pages_under_way: AtomicU64::new(0),
            defragmentations: Histogram::over(&DEFRAG_BUCKETS_S),
            defragmenting: AtomicU64::new(0),
            backups: Histogram::over(&BACKUP_BUCKETS_S),
            hashes: Histogram::over(&HASH_BUCKETS_S),
        }
    }
}

impl HealthCounts {
    /// The old health check was asked.
    pub(crate) fn count(&self, healthy: bool) {
        let counter = if healthy { &self.successes } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// One check of the probe `livez` or `readyz` was made.
    pub(crate) fn check(&self, probe: &'static str, name: &'static str, healthy: bool) {
        let mut checks = self.checks.lock();
        let counts = checks.entry((probe, name)).or_default();
        counts.healthy = healthy;
        if healthy {
            counts.successes += 1;
        } else {
            counts.failures += 1;
        }
    }

    /// A page of metrics is made until this is dropped.
    pub(super) fn scrape(&self) -> Scrape<'_> {
        self.pages_under_way.fetch_add(1, Ordering::Relaxed);
        Scrape(self)
    }

    /// A defragmentation goes on until this is dropped.
    pub(crate) fn defragmentation(&self) -> Timed<'_> {
        self.defragmenting.fetch_add(1, Ordering::Relaxed);
        Timed {
            began: std::time::Instant::now(),
            histogram: &self.defragmentations,
            under_way: Some(&self.defragmenting),
        }
    }

    /// A backup has ended.
    pub(crate) fn backup(&self, took: Duration) {
        self.backups.observe(took);
    }

    /// The hash of the whole state is computed until this is dropped.
    pub(crate) fn hash(&self) -> Timed<'_> {
        Timed {
            began: std::time::Instant::now(),
            histogram: &self.hashes,
            under_way: None,
        }
    }

    pub(super) fn add_to(&self, page: &mut Page) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        page.counter(
            "etcd_server_health_success",
            "The total number of successful health checks",
            load(&self.successes),
        );
        page.counter(
            "etcd_server_health_failures",
            "The total number of failed health checks",
            load(&self.failures),
        );
        self.add_checks(page);
        let mut pages = page.family(
            "promhttp_metric_handler_requests_total",
            "Total number of scrapes by HTTP status code.",
            MetricType::COUNTER,
        );
        pages.add(&[("code", "200")], load(&self.pages));
        pages.add(&[("code", "500")], 0);
        pages.add(&[("code", "503")], 0);
        page.push(pages);
        page.gauge(
            "promhttp_metric_handler_requests_in_flight",
            "Current number of scrapes being served.",
            load(&self.pages_under_way) as f64,
        );
        page.histogram(
            "etcd_disk_backend_defrag_duration_seconds",
            "The latency distribution of backend defragmentation.",
            &DEFRAG_BUCKETS_S,
            &self.defragmentations.value(),
        );
        page.gauge(
            "etcd_disk_defrag_inflight",
            "Whether or not defrag is active on the member. 1 means active, 0 means not.",
            f64::from(u8::from(load(&self.defragmenting) > 0)),
        );
        page.histogram(
            "etcd_disk_backend_snapshot_duration_seconds",
            "The latency distribution of backend snapshots.",
            &BACKUP_BUCKETS_S,
            &self.backups.value(),
        );
        page.histogram(
            "etcd_mvcc_hash_duration_seconds",
            "The latency distribution of storage hash operation.",
            &HASH_BUCKETS_S,
            &self.hashes.value(),
        );
    }

    fn add_checks(&self, page: &mut Page) {
        let mut last = page.family(
            "etcd_server_healthcheck",
            "The result of each kind of healthcheck.",
            MetricType::GAUGE,
        );
        let mut all = page.family(
            "etcd_server_healthchecks_total",
            "The total number of each kind of healthcheck.",
            MetricType::COUNTER,
        );
        for (&(probe, name), counts) in self.checks.lock().iter() {
            last.add(&[("name", name), ("type", probe)], u64::from(counts.healthy));
            for (status, count) in [("error", counts.failures), ("success", counts.successes)] {
                if count > 0 {
                    all.add(&[("name", name), ("status", status), ("type", probe)], count);
                }
            }
        }
        page.push_if_any(last);
        page.push_if_any(all);
    }
}

/// A page being made.
pub(super) struct Scrape<'a>(&'a HealthCounts);

impl Drop for Scrape<'_> {
    fn drop(&mut self) {
        self.0.pages_under_way.fetch_sub(1, Ordering::Relaxed);
        self.0.pages.fetch_add(1, Ordering::Relaxed);
    }
}

/// Something whose time is observed when it ends.
pub(crate) struct Timed<'a> {
    began: std::time::Instant,
    histogram: &'a Histogram,
    under_way: Option<&'a AtomicU64>,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.histogram.observe(self.began.elapsed());
        if let Some(under_way) = self.under_way {
            under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_show_their_last_result_and_all_of_them() {
        let counts = HealthCounts::default();
        counts.check("readyz", "non_learner", false);
        counts.check("readyz", "non_learner", true);
        let mut page = Page::default();
        counts.add_to(&mut page);
        let text = page.text();
        for line in [
            "etcd_server_healthcheck{name=\"non_learner\",type=\"readyz\"} 1\n",
            "etcd_server_healthchecks_total{name=\"non_learner\",status=\"error\",type=\"readyz\"} 1\n",
            "etcd_server_healthchecks_total{name=\"non_learner\",status=\"success\",type=\"readyz\"} 1\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn what_goes_on_is_told() {
        let counts = HealthCounts::default();
        let under_way = counts.defragmentation();
        let shows = |line: &str| {
            let mut page = Page::default();
            counts.add_to(&mut page);
            page.text().contains(line)
        };
        assert!(shows("\netcd_disk_defrag_inflight 1\n"));
        drop(under_way);
        assert!(shows("\netcd_disk_defrag_inflight 0\n"));
        assert!(shows("\netcd_disk_backend_defrag_duration_seconds_count 1\n"));
    }
}
