//! What each runtime counts by itself, beside its calls: without locks and, once it knows a client's version, without
//! allocation.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::etcdserverpb::WatchResponse;
use store::shell::{DISK_BUCKETS_S, Histogram, HistogramValue};

/// The counts of one runtime.
#[derive(Default)]
pub(crate) struct RuntimeNumbers {
    clients: Clients,
    failures: [AtomicU64; StreamFailure::ALL.len()],
    watch_sends: WatchSends,
}

/// A stream that broke off for another reason than that its client left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamFailure {
    ReceiveWatch,
    ReceiveLease,
}

impl StreamFailure {
    /// All of them, in the order of their discriminants.
    const ALL: [StreamFailure; 2] = [StreamFailure::ReceiveWatch, StreamFailure::ReceiveLease];

    /// The labels `API` and `Type`.
    fn labels(self) -> [(&'static str, &'static str); 2] {
        let (api, kind) = match self {
            StreamFailure::ReceiveWatch => ("watch", "receive"),
            StreamFailure::ReceiveLease => ("lease-keepalive", "receive"),
        };
        [("API", api), ("Type", kind)]
    }
}

/// The counts of all runtimes together.
#[derive(Default)]
pub(super) struct RuntimeTotals {
    /// Unary calls and streams by the version that the client tells.
    pub(super) clients: BTreeMap<String, [u64; 2]>,
    /// Labels and count.
    pub(super) failures: Vec<([(&'static str, &'static str); 2], u64)>,
    pub(super) watch_sends: [HistogramValue; WatchSend::KINDS],
    pub(super) watch_sends_per_event: HistogramValue,
}

impl RuntimeNumbers {
    /// A call of a client that tells its version, or does not.
    pub(crate) fn client(&self, version: Option<&str>, stream: bool) {
        self.clients.count(version.unwrap_or("unknown"), stream);
    }

    pub(crate) fn stream_failed(&self, failure: StreamFailure) {
        self.failures[failure as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What was sent on a watch stream `took` so long until the stream asked for more.
    pub(crate) fn watch_sent(&self, sent: WatchSend, took: Duration) {
        self.watch_sends.by_kind[sent.kind()].observe(took);
        if let WatchSend::Events(events) = sent {
            self.watch_sends.per_event.observe(took / events.max(1));
        }
    }

    pub(super) fn add_to(&self, totals: &mut RuntimeTotals) {
        self.clients.add_to(&mut totals.clients);
        for failure in StreamFailure::ALL {
            let count = self.failures[failure as usize].load(Ordering::Relaxed);
            let labels = failure.labels();
            match totals.failures.iter_mut().find(|(known, _)| *known == labels) {
                Some((_, sum)) => *sum += count,
                None => totals.failures.push((labels, count)),
            }
        }
        for (total, sends) in totals.watch_sends.iter_mut().zip(&self.watch_sends.by_kind) {
            total.merge(&sends.value());
        }
        totals
            .watch_sends_per_event
            .merge(&self.watch_sends.per_event.value());
    }
}

/// What a watch stream sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WatchSend {
    /// So many events, at least one.
    Events(u32),
    /// The begin or end of a watcher, or an answer to a request for progress.
    Control,
    /// A notice of progress.
    Progress,
}

impl WatchSend {
    const KINDS: usize = 3;

    pub(crate) fn of(response: &WatchResponse) -> WatchSend {
        let events = u32::try_from(response.events.len()).unwrap_or(u32::MAX);
        if response.created || response.canceled || response.watch_id == NO_WATCH {
            WatchSend::Control
        } else if events > 0 {
            WatchSend::Events(events)
        } else {
            WatchSend::Progress
        }
    }

    fn kind(self) -> usize {
        match self {
            WatchSend::Events(_) => 0,
            WatchSend::Control => 1,
            WatchSend::Progress => 2,
        }
    }
}

struct WatchSends {
    by_kind: [Histogram; WatchSend::KINDS],
    per_event: Histogram,
}

impl Default for WatchSends {
    fn default() -> Self {
        WatchSends {
            by_kind: std::array::from_fn(|_| Histogram::over(&DISK_BUCKETS_S)),
            per_event: Histogram::over(&DISK_BUCKETS_S),
        }
    }
}

/// Calls by the client's version. Clients may tell anything: only so many versions are told apart.
#[derive(Default)]
struct Clients {
    versions: [Version; VERSIONS_MAX],
    others: [AtomicU64; 2],
}

#[derive(Default)]
struct Version {
    name: OnceLock<Box<str>>,
    /// Unary calls and streams.
    counts: [AtomicU64; 2],
}

impl Clients {
    fn count(&self, version: &str, stream: bool) {
        self.counts(version)[usize::from(stream)].fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self, version: &str) -> &[AtomicU64; 2] {
        if version.len() <= VERSION_BYTES_MAX {
            for known in &self.versions {
                // The first free place is for this version.
                let name = known.name.get_or_init(|| version.into());
                if **name == *version {
                    return &known.counts;
                }
            }
        }
        &self.others
    }

    fn add_to(&self, totals: &mut BTreeMap<String, [u64; 2]>) {
        let named = self.versions.iter().filter_map(|version| {
            let name = version.name.get()?;
            Some((&**name, &version.counts))
        });
        for (name, counts) in named.chain([(OTHER_VERSIONS, &self.others)]) {
            let counts = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            if counts != [0, 0] {
                let total = totals.entry(name.to_owned()).or_default();
                for (total, count) in total.iter_mut().zip(counts) {
                    *total += count;
                }
            }
        }
    }
}

/// Versions of clients that are told apart.
const VERSIONS_MAX: usize = 16;
/// The longest version that is taken note of.
const VERSION_BYTES_MAX: usize = 64;
/// What the rest is counted under.
const OTHER_VERSIONS: &str = "other";
/// The id of a watch response that concerns no single watcher.
const NO_WATCH: i64 = -1;

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(numbers: &RuntimeNumbers) -> RuntimeTotals {
        let mut totals = RuntimeTotals::default();
        numbers.add_to(&mut totals);
        totals
    }

    #[test]
    fn clients_are_counted_by_version_up_to_a_number_of_them() {
        let numbers = RuntimeNumbers::default();
        numbers.client(Some("3.7"), false);
        numbers.client(Some("3.7"), true);
        numbers.client(None, false);
        numbers.client(Some(&"x".repeat(VERSION_BYTES_MAX + 1)), false);
        for version in 0..VERSIONS_MAX {
            numbers.client(Some(&version.to_string()), false);
        }
        let clients = totals(&numbers).clients;
        assert_eq!((clients["3.7"], clients["unknown"]), ([1, 1], [1, 0]));
        assert_eq!(clients[OTHER_VERSIONS], [3, 0]);
        assert_eq!(clients.len(), VERSIONS_MAX + 1);
    }

    #[test]
    fn sends_are_told_apart() {
        let created = WatchResponse {
            created: true,
            ..WatchResponse::default()
        };
        let all = WatchResponse {
            watch_id: NO_WATCH,
            ..WatchResponse::default()
        };
        assert_eq!(WatchSend::of(&created), WatchSend::Control);
        assert_eq!(WatchSend::of(&all), WatchSend::Control);
        assert_eq!(WatchSend::of(&WatchResponse::default()), WatchSend::Progress);
        let numbers = RuntimeNumbers::default();
        numbers.watch_sent(WatchSend::Events(10), Duration::from_millis(10));
        numbers.stream_failed(StreamFailure::ReceiveLease);
        let totals = totals(&numbers);
        assert_eq!(totals.watch_sends[0].buckets[4], 1);
        assert_eq!(totals.watch_sends_per_event.buckets[0], 1);
        let failed: Vec<_> = totals.failures.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(failed[0].0[0], ("API", "lease-keepalive"));
    }
}
