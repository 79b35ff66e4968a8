//! Calls: their messages, outcomes and times, their clients, and what flows on streams.

use prometheus::proto::MetricType;
use store::shell::{DISK_BUCKETS_S, HistogramValue};

use super::page::Page;
use super::runtime::RuntimeTotals;
use crate::core::Core;
use crate::grpc::meter::{CODES, HANDLING_BUCKETS_S, Totals};
use crate::grpc::rpc::Rpc;

pub(super) fn add(page: &mut Page, core: &Core) {
    add_calls(page, core);
    let mut totals = RuntimeTotals::default();
    for shard in core.shards.iter() {
        shard.numbers.add_to(&mut totals);
    }
    add_clients(page, &totals);
    add_watch_sends(page, &totals);
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

fn add_calls(page: &mut Page, core: &Core) {
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
    let mut handling = page.family(
        "grpc_server_handling_seconds",
        "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
        MetricType::HISTOGRAM,
    );
    for &rpc in Rpc::ALL {
        let mut totals = Totals::default();
        for shard in core.shards.iter() {
            shard.add_to(rpc, &mut totals);
        }
        let (service, method, kind) = rpc.names();
        let is_shown = |count: u64| count > 0 || !rpc.is_lazy();
        let labels = [
            ("grpc_method", method),
            ("grpc_service", service),
            ("grpc_type", kind.label()),
        ];
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
        if let Some(times) = &totals.handling
            && is_shown(times.count())
        {
            handling.add_histogram(&labels, &HANDLING_BUCKETS_S, times);
        }
    }
    for family in [started, handled, received, sent, handling] {
        page.push_if_any(family);
    }
}

fn add_clients(page: &mut Page, totals: &RuntimeTotals) {
    let mut clients = page.family(
        "etcd_server_client_requests_total",
        "The total number of client requests per client version.",
        MetricType::COUNTER,
    );
    for (version, counts) in &totals.clients {
        for (kind, count) in [("stream", counts[1]), ("unary", counts[0])] {
            if count > 0 {
                clients.add(&[("client_api_version", version), ("type", kind)], count);
            }
        }
    }
    page.push_if_any(clients);
    let mut failures = page.family(
        "etcd_network_server_stream_failures_total",
        "The total number of stream failures from the local server.",
        MetricType::COUNTER,
    );
    for (labels, count) in &totals.failures {
        if *count > 0 {
            failures.add(labels, *count);
        }
    }
    page.push_if_any(failures);
}

fn add_watch_sends(page: &mut Page, totals: &RuntimeTotals) {
    let [events, control, progress] = &totals.watch_sends;
    let families: [(&str, &str, &HistogramValue); 4] = [
        (
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
            "The total duration in seconds of running through the send loop watch stream response all events.",
            events,
        ),
        (
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
            "The average duration in seconds of running through the send loop watch stream response, per event.",
            &totals.watch_sends_per_event,
        ),
        (
            "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
            "The total duration in seconds of running through the send loop control stream response.",
            control,
        ),
        (
            "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
            "The total duration in seconds of running through the progress loop control stream response.",
            progress,
        ),
    ];
    for (name, help, times) in families {
        page.histogram(name, help, &DISK_BUCKETS_S, times);
    }
}
