//! What the defences of all ports hold and turn away, and what the audit log has; the names are ours.

use prometheus::proto::MetricType;

use super::page::Page;
use crate::core::Core;

pub(super) fn add(page: &mut Page, core: &Core) {
    let defences = &core.defences;
    if let Some((written, dropped)) = core.audit.as_ref().and_then(|audit| audit.log_counts()) {
        page.counter(
            "taffrail_audit_lines_total",
            "The total number of lines written to the audit log.",
            written,
        );
        page.counter(
            "taffrail_audit_dropped_total",
            "The total number of lines that are missing in the audit log.",
            dropped,
        );
    }
    let mut away = page.family(
        "taffrail_turned_away_total",
        "The total number of connections and calls that were ended to protect the others, by reason.",
        MetricType::COUNTER,
    );
    for (reason, count) in defences.away.counts() {
        away.add(&[("reason", reason)], count);
    }
    page.push(away);
    let mut open = page.family(
        "taffrail_connections",
        "The current number of connections, by kind of port.",
        MetricType::GAUGE,
    );
    let mut max = page.family(
        "taffrail_connections_max",
        "How many connections there may be, by kind of port.",
        MetricType::GAUGE,
    );
    for (port, seats) in [("client", &defences.clients), ("peer", &defences.peers)] {
        let (now, most) = seats.counts();
        open.add(&[("port", port)], now as u64);
        max.add(&[("port", port)], most as u64);
    }
    page.push(open);
    page.push(max);
    page.gauge(
        "taffrail_calls_awaited",
        "The current number of calls whose message is not there yet.",
        defences.arrivals.waiting() as f64,
    );
}
