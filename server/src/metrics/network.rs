//! What the transport counts, under etcd's names. As in etcd, a series does not exist before what it counts has
//! happened, and stays when its member is lost. The depths of queues are ours.

use prometheus::proto::MetricType;

use store::shell::{HistogramValue, Metrics, TRANSFER_BUCKETS_S, TransferValues};
use store::types::MemberId;

use super::page::Page;
use crate::peer::numbers::{Numbers, ROUND_TRIP_BUCKETS_S};
use crate::peer::{PeerView, Peers};

pub(super) fn add(page: &mut Page, peers: &Peers, metrics: &Metrics) {
    let Some(own) = peers.identity() else {
        return;
    };
    let own = own.member.to_string();
    let peers: Vec<(String, PeerView)> = peers
        .view()
        .into_iter()
        .map(|peer| (peer.id.to_string(), peer))
        .collect();
    add_counters(page, &peers);
    add_round_trips(page, &peers);
    add_presence(page, &own, &peers);
    add_queues(page, &peers);
    add_transfers(page, ("send", "To"), &metrics.snapshot_sends);
    add_transfers(page, ("receive", "From"), &metrics.snapshot_receives);
}

fn add_counters(page: &mut Page, peers: &[(String, PeerView)]) {
    for (name, help, label, value) in COUNTERS {
        let mut family = page.family(name, help, MetricType::COUNTER);
        for (id, peer) in peers {
            let value = value(&peer.numbers);
            if value > 0 {
                family.add(&[(label, id)], value);
            }
        }
        page.push_if_any(family);
    }
}

fn add_round_trips(page: &mut Page, peers: &[(String, PeerView)]) {
    let mut family = page.family(
        "etcd_network_peer_round_trip_time_seconds",
        "Round-Trip-Time histogram between peers",
        MetricType::HISTOGRAM,
    );
    for (id, peer) in peers {
        let (buckets, sum) = peer.numbers.round_trips();
        let times = HistogramValue { buckets, sum };
        if times.count() > 0 {
            family.add_histogram(&[("To", id)], &ROUND_TRIP_BUCKETS_S, &times);
        }
    }
    page.push_if_any(family);
}

fn add_presence(page: &mut Page, own: &str, peers: &[(String, PeerView)]) {
    let mut known = page.family(
        "etcd_network_known_peers",
        "The current number of known peers.",
        MetricType::GAUGE,
    );
    let mut active = page.family(
        "etcd_network_active_peers",
        "The current number of active peer connections.",
        MetricType::GAUGE,
    );
    let mut disconnected = page.family(
        "etcd_network_disconnected_peers_total",
        "The total number of disconnected peers.",
        MetricType::COUNTER,
    );
    // etcd counts the member itself.
    known.add(&[("Local", own), ("Remote", own)], 1);
    for (id, peer) in peers {
        let labels = [("Local", own), ("Remote", id.as_str())];
        let is_active = peer.known.as_ref().is_some_and(|known| known.active);
        known.add(&labels, u64::from(peer.known.is_some()));
        active.add(&labels, u64::from(is_active));
        let losses = Numbers::get(&peer.numbers.disconnected);
        if losses > 0 {
            disconnected.add(&labels, losses);
        }
    }
    for family in [known, active, disconnected] {
        page.push_if_any(family);
    }
}

fn add_queues(page: &mut Page, peers: &[(String, PeerView)]) {
    let mut messages = page.family(
        "taffrail_peer_queue_messages",
        "Messages that wait to be written to a peer.",
        MetricType::GAUGE,
    );
    let mut bytes = page.family(
        "taffrail_peer_queue_bytes",
        "Bytes of the messages that wait to be written to a peer.",
        MetricType::GAUGE,
    );
    for (id, peer) in peers {
        for (class, waiting, waiting_bytes) in peer.known.iter().flat_map(|known| known.queues) {
            let labels = [("To", id.as_str()), ("class", class)];
            messages.add(&labels, waiting as u64);
            bytes.add(&labels, waiting_bytes as u64);
        }
    }
    for family in [messages, bytes] {
        page.push_if_any(family);
    }
}

/// Snapshots to or from other members: a direction with the label of the member at the other end.
fn add_transfers(
    page: &mut Page,
    (direction, label): (&str, &str),
    transfers: &[(MemberId, TransferValues)],
) {
    let name = |what: &str| format!("etcd_network_snapshot_{direction}_{what}");
    let mut successes = page.family(
        &name("success"),
        &format!("Total number of successful snapshot {direction}s"),
        MetricType::COUNTER,
    );
    let mut failures = page.family(
        &name("failures"),
        &format!("Total number of snapshot {direction} failures"),
        MetricType::COUNTER,
    );
    let mut in_flight = page.family(
        &name("inflights_total"),
        &format!("Total number of inflight snapshot {direction}s"),
        MetricType::GAUGE,
    );
    let mut times = page.family(
        &name("total_duration_seconds"),
        &format!("Total latency distributions of v3 snapshot {direction}s"),
        MetricType::HISTOGRAM,
    );
    for (peer, values) in transfers {
        let peer = peer.to_string();
        let labels = [(label, peer.as_str())];
        if values.successes > 0 {
            successes.add(&labels, values.successes);
            times.add_histogram(&labels, &TRANSFER_BUCKETS_S, &values.took);
        }
        if values.failures > 0 {
            failures.add(&labels, values.failures);
        }
        if values.successes + values.failures + values.in_flight > 0 {
            in_flight.add(&labels, values.in_flight);
        }
    }
    for family in [successes, failures, in_flight, times] {
        page.push_if_any(family);
    }
}

/// Name, help, label and value.
type Row = (&'static str, &'static str, &'static str, fn(&Numbers) -> u64);

const COUNTERS: &[Row] = &[
    (
        "etcd_network_peer_sent_bytes_total",
        "The total number of bytes sent to peers.",
        "To",
        |n| Numbers::get(&n.sent_bytes),
    ),
    (
        "etcd_network_peer_sent_failures_total",
        "The total number of send failures from peers.",
        "To",
        |n| Numbers::get(&n.sent_failures),
    ),
    (
        "etcd_network_peer_received_bytes_total",
        "The total number of bytes received from peers.",
        "From",
        |n| Numbers::get(&n.received_bytes),
    ),
    (
        "etcd_network_peer_received_failures_total",
        "The total number of receive failures from peers.",
        "From",
        |n| Numbers::get(&n.received_failures),
    ),
];
