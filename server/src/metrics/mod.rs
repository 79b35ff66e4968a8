//! The page `/metrics`: etcd's names, labels and meanings, so that existing dashboards and alerts work.
//!
//! Nothing is registered and nothing is kept: each page is made of one reading of the store's numbers, the RPC
//! counters and the kernel's. `prometheus` only encodes it (the text format in which counters keep their names).

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::config::{ETCD_VERSION, TAFFRAIL_VERSION};
use crate::core::Core;
use crate::grpc::meter::{CODES, Totals};
use crate::grpc::rpc::Rpc;

mod network;
mod process;
mod store_numbers;

/// The content type of the page, as etcd sends it.
pub(crate) const PAGE_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// How often the health check was asked and what it said.
#[derive(Default)]
pub(crate) struct HealthCounts {
    successes: AtomicU64,
    failures: AtomicU64,
}

impl HealthCounts {
    pub(crate) fn count(&self, healthy: bool) {
        let counter = if healthy { &self.successes } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The page as text.
pub(crate) fn page(core: &Core) -> String {
    let mut page = Page::default();
    store_numbers::add(&mut page, core);
    network::add(&mut page, &core.peers);
    add_rpcs(&mut page, core);
    add_process(&mut page);
    page.gauge_of(
        "etcd_server_version",
        "Which version is running.",
        &[("server_version", ETCD_VERSION)],
        1.0,
    );
    page.gauge_of(
        "taffrail_version",
        "Which version of Taffrail is running.",
        &[("version", TAFFRAIL_VERSION)],
        1.0,
    );
    let health = &core.health;
    page.counter(
        "etcd_server_health_success",
        "The total number of successful health checks",
        health.successes.load(Ordering::Relaxed),
    );
    page.counter(
        "etcd_server_health_failures",
        "The total number of failed health checks",
        health.failures.load(Ordering::Relaxed),
    );
    page.text()
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

fn add_rpcs(page: &mut Page, core: &Core) {
    let mut started = page.family(
        "grpc_server_started_total",
        "Total number of RPCs started on the server.",
        MetricType::COUNTER,
    );
    let mut handled = page.family(
        "grpc_server_handled_total",
        "Total number of RPCs completed on the server, regardless of success or failure.",
        MetricType::COUNTER,
    );
    let mut received = page.family(
        "grpc_server_msg_received_total",
        "Total number of RPC stream messages received on the server.",
        MetricType::COUNTER,
    );
    let mut sent = page.family(
        "grpc_server_msg_sent_total",
        "Total number of gRPC stream messages sent by the server.",
        MetricType::COUNTER,
    );
    for &rpc in Rpc::ALL {
        let mut totals = Totals::default();
        for shard in core.shards.iter() {
            shard.add_to(rpc, &mut totals);
        }
        let (service, method, kind) = rpc.names();
        let labels = [
            ("grpc_method", method),
            ("grpc_service", service),
            ("grpc_type", kind.label()),
        ];
        let is_shown = |count: u64| count > 0 || !rpc.is_lazy();
        for (family, count) in [
            (&mut started, totals.started),
            (&mut received, totals.received),
            (&mut sent, totals.sent),
        ] {
            if is_shown(count) {
                family.add(&labels, count);
            }
        }
        for (code, count) in CODES.iter().zip(totals.handled) {
            let [method, service, kind] = labels;
            if is_shown(count) {
                handled.add(&[("grpc_code", code), method, service, kind], count);
            }
        }
    }
    for family in [started, handled, received, sent] {
        page.push(family);
    }
    let (received, sent) = core
        .shards
        .iter()
        .map(|shard| shard.bytes())
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    page.counter(
        "etcd_network_client_grpc_received_bytes_total",
        "The total number of bytes received from grpc clients.",
        received,
    );
    page.counter(
        "etcd_network_client_grpc_sent_bytes_total",
        "The total number of bytes sent to grpc clients.",
        sent,
    );
}

fn add_process(page: &mut Page) {
    let process = process::read();
    page.counter_s(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        process.cpu_s,
    );
    page.gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        process.resident_bytes as f64,
    );
    page.gauge(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        process.virtual_bytes as f64,
    );
    page.gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        process.started_s,
    );
    page.gauge(
        "process_open_fds",
        "Number of open file descriptors.",
        process.open_descriptors as f64,
    );
    page.gauge(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        process.descriptors_max as f64,
    );
    page.gauge(
        "os_fd_used",
        "The number of used file descriptors.",
        process.open_descriptors as f64,
    );
    page.gauge(
        "os_fd_limit",
        "The file descriptor limit.",
        process.descriptors_max as f64,
    );
}

/// The families of a page under construction.
#[derive(Default)]
struct Page(Vec<MetricFamily>);

impl Page {
    fn family(&self, name: &str, help: &str, kind: MetricType) -> Family {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Family {
            family,
            samples: Vec::new(),
        }
    }

    fn push(&mut self, family: Family) {
        let Family { mut family, samples } = family;
        family.set_metric(samples);
        self.0.push(family);
    }

    /// A family that has no sample yet is not shown.
    fn push_if_any(&mut self, family: Family) {
        if !family.samples.is_empty() {
            self.push(family);
        }
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counter_s(name, help, value as f64);
    }

    fn counter_s(&mut self, name: &str, help: &str, value: f64) {
        let mut family = self.family(name, help, MetricType::COUNTER);
        family.add_value(&[], value);
        self.push(family);
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauge_of(name, help, &[], value);
    }

    fn gauge_of(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let mut family = self.family(name, help, MetricType::GAUGE);
        family.add_value(labels, value);
        self.push(family);
    }

    fn histogram(&mut self, name: &str, help: &str, bounds: &[f64], counts: &[u64], sum: f64) {
        let mut family = self.family(name, help, MetricType::HISTOGRAM);
        family.add_histogram(&[], bounds, counts, sum);
        self.push(family);
    }

    fn text(mut self) -> String {
        self.0.sort_by(|one, other| one.name().cmp(other.name()));
        // The encoder refuses only families without name or sample.
        let mut text = String::new();
        match TextEncoder::new().encode_utf8(&self.0, &mut text) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }
}

/// One family and its samples.
struct Family {
    family: MetricFamily,
    samples: Vec<Metric>,
}

impl Family {
    fn add(&mut self, labels: &[(&str, &str)], value: u64) {
        self.add_value(labels, value as f64);
    }

    /// `counts[i]` observations fell at or below `bounds[i]` and above the bound before; one more count stands for
    /// the rest.
    fn add_histogram(&mut self, labels: &[(&str, &str)], bounds: &[f64], counts: &[u64], sum: f64) {
        let mut histogram = Histogram::default();
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(bounds.len());
        for (&bound, &count) in bounds.iter().zip(counts) {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        histogram.set_bucket(buckets);
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum);
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.samples.push(metric);
    }

    fn add_value(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut metric = labelled(labels);
        match self.family.get_field_type() {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.samples.push(metric);
    }
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let labels = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    Metric::from_label(labels.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_in_the_text_format_of_0_0_4() {
        let mut page = Page::default();
        page.counter("b_total", "Counts.", 3);
        page.gauge_of("a", "Shows \"x\".", &[("l", "v\"w")], 1.5);
        page.histogram("c_seconds", "Times.", &[0.001, 0.002], &[1, 2, 4], 0.5);
        assert_eq!(
            page.text(),
            "# HELP a Shows \"x\".\n# TYPE a gauge\na{l=\"v\\\"w\"} 1.5\n\
             # HELP b_total Counts.\n# TYPE b_total counter\nb_total 3\n\
             # HELP c_seconds Times.\n# TYPE c_seconds histogram\n\
             c_seconds_bucket{le=\"0.001\"} 1\nc_seconds_bucket{le=\"0.002\"} 3\nc_seconds_bucket{le=\"+Inf\"} 7\n\
             c_seconds_sum 0.5\nc_seconds_count 7\n"
        );
    }

    #[test]
    fn versions_get_three_numbers() {
        assert_eq!(full_version("3.7"), "3.7.0");
        assert_eq!(full_version("3.7.1"), "3.7.1");
        assert_eq!((short_version("3.7.0"), short_version("3.7")), ("3.7", "3.7"));
    }
}
