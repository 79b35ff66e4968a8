//! The result as a table of two columns.

use super::Outcome;
use crate::kubernetes::Seating;
use crate::report::{align_figures, mebibytes, new_table, three_digits};

impl Outcome {
    /// What is not as it should be; nothing if all is.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.seen.is_faultless() || self.seen.delivered != self.due {
            faults.push("not every client saw every event of its namespace once and in order".to_owned());
        }
        for (reason, count) in &self.cut {
            faults.push(format!("{count} clients did not see the end: {reason}"));
        }
        if self.writes_failed > 0 {
            faults.push(format!("{} writes failed", self.writes_failed));
        }
        if let Some(asked) = self.rate_asked
            && self.rate() < f64::from(asked) * RATE_KEPT
        {
            faults.push(format!("{:.0} writes/s were made of {asked}", self.rate()));
        }
        if self.unaccounted > 0 {
            faults.push(format!("writes and store differ in {} changes", self.unaccounted));
        }
        if let Some(most) = self.adapter_rss_max_bytes
            && self.adapter_peak_rss_bytes > most
        {
            faults.push(format!(
                "the adapter held {} MiB, and may hold {}",
                mebibytes(self.adapter_peak_rss_bytes),
                mebibytes(most)
            ));
        }
        faults
    }

    /// The table.
    #[must_use]
    pub fn text(&self, markdown: bool) -> String {
        let mut table = new_table(markdown);
        table.set_header(["figure", "value"]);
        for (name, value) in self.rows() {
            table.add_row([name, &value]);
        }
        align_figures(&mut table);
        table.to_string()
    }

    fn rate(&self) -> f64 {
        self.writes as f64 / self.write_seconds.max(f64::MIN_POSITIVE)
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let seen = &self.seen;
        let millis = |values: &[f64]| {
            let values: Vec<String> = values.iter().copied().map(three_digits).collect();
            values.join(" / ")
        };
        let cpu = |seconds: f64| format!("{:.0} %", seconds / self.elapsed_seconds * 100.0);
        let per_event = self.adapter_cpu_seconds * 1e6 / seen.delivered.max(1) as f64;
        let adapter = match self.adapter {
            Seating::Alone => "alone",
            Seating::Within => "within the store's process",
        };
        let mut rows = vec![
            ("adapter", adapter.to_owned()),
            (
                "clients, namespaces",
                format!("{}, {}", self.clients, self.namespaces),
            ),
            ("writes", self.writes.to_string()),
            ("writes/s", three_digits(self.rate())),
            (
                "write p50 / p99 ms",
                millis(&[self.write_p50_ms, self.write_p99_ms]),
            ),
            ("events due", self.due.to_string()),
            ("events delivered", seen.delivered.to_string()),
            ("lost", seen.lost.to_string()),
            ("doubled", seen.doubled.to_string()),
            ("out of order", seen.disordered.to_string()),
            ("wrong", seen.wrong.to_string()),
            (
                "delivery p50 / p99 / longest ms",
                millis(&[self.delivery_p50_ms, self.delivery_p99_ms, self.delivery_max_ms]),
            ),
            ("adapter CPU", cpu(self.adapter_cpu_seconds)),
            ("adapter CPU us/event", three_digits(per_event)),
        ];
        if self.adapter == Seating::Alone {
            rows.push(("store CPU", cpu(self.store_cpu_seconds)));
        }
        rows.extend([
            (
                "adapter memory before, MiB",
                mebibytes(self.adapter_idle_rss_bytes),
            ),
            ("adapter peak memory, MiB", mebibytes(self.adapter_peak_rss_bytes)),
            ("load CPU", format!("{:.0} %", self.generator_cpu_percent)),
        ]);
        rows
    }
}

/// The part of the rate asked for that must be kept: with less it is another measurement.
const RATE_KEPT: f64 = 0.95;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::judge::Verdict;
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            path: "p".into(),
            version: "1".into(),
            adapter: Seating::Alone,
            pinned: true,
            clients: 1000,
            namespaces: 10,
            writes: 12_010,
            writes_failed: 0,
            unaccounted: 0,
            rate_asked: Some(200),
            write_seconds: 60.05,
            write_p50_ms: 1.0,
            write_p99_ms: 5.0,
            due: 1_201_000,
            seen: Verdict {
                delivered: 1_201_000,
                ..Verdict::default()
            },
            cut: BTreeMap::new(),
            delivery_p50_ms: 2.0,
            delivery_p99_ms: 9.0,
            delivery_max_ms: 20.0,
            adapter_cpu_seconds: 12.01,
            store_cpu_seconds: 6.0,
            generator_cpu_percent: 20.0,
            adapter_idle_rss_bytes: 40 << 20,
            adapter_peak_rss_bytes: 90 << 20,
            adapter_rss_max_bytes: Some(200 << 20),
            elapsed_seconds: 60.05,
        }
    }

    #[test]
    fn what_is_as_it_should_be_has_no_faults() {
        assert_eq!(outcome().faults(), [""; 0]);
        let text = outcome().text(true);
        for row in [
            "| writes/s                        |                200 |",
            "| adapter CPU us/event            |               10.0 |",
        ] {
            assert!(text.contains(row), "{text}");
        }
    }

    #[test]
    fn everything_else_is_a_fault() {
        let faults: [fn(&mut Outcome); 7] = [
            |outcome| outcome.seen.lost = 1,
            |outcome| outcome.due += 1,
            |outcome| outcome.cut = BTreeMap::from([("gone".to_owned(), 3)]),
            |outcome| outcome.writes_failed = 1,
            |outcome| outcome.write_seconds = 70.0,
            |outcome| outcome.unaccounted = 1,
            |outcome| outcome.adapter_peak_rss_bytes = 201 << 20,
        ];
        for fault in faults {
            let mut outcome = outcome();
            fault(&mut outcome);
            assert_eq!(outcome.faults().len(), 1);
        }
    }
}
