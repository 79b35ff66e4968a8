//! The result of a run, as a table and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::presets::{ASCII_MARKDOWN, UTF8_FULL_CONDENSED};
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use crate::spec::Spec;
use crate::tally::Tally;
use crate::{Error, process};

/// What a measured phase came to. Times are of successful operations only.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The subcommand.
    pub load: String,
    /// Clients, for watch the watchers.
    pub clients: usize,
    /// Connections.
    pub conns: usize,
    /// Successful operations.
    pub operations: u64,
    /// Failed operations.
    pub errors: u64,
    /// Clients that ended before their time, because nothing succeeded any more.
    pub clients_given_up: u64,
    /// Length of the phase.
    pub elapsed_seconds: f64,
    /// Successful operations by time.
    pub operations_per_second: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 99 % of the operations took no longer.
    pub p99_ms: f64,
    /// 99.9 % of the operations took no longer.
    pub p999_ms: f64,
    /// Processor time of the server, of all its members together, by successful operation.
    pub server_cpu_us_per_operation: Option<f64>,
    /// The server's peak resident memory since its start, the sum over its members.
    pub server_peak_rss_bytes: Option<u64>,
    /// Share of one processor that this generator used; near 100 the generator may be the limit.
    pub generator_cpu_percent: f64,
    /// The failed operations by text.
    pub error_texts: BTreeMap<String, u64>,
}

/// Processor time of both sides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) server: Option<Duration>,
    pub(crate) generator: Duration,
}

impl Usage {
    pub(crate) fn now(members: &[u32]) -> Result<Self, Error> {
        Ok(Self {
            server: process::of_all(members, process::cpu_time)?,
            generator: process::cpu_time(std::process::id())?,
        })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        let server = self.server.zip(before.server);
        Self {
            server: server.map(|(now, before)| now.saturating_sub(before)),
            generator: self.generator.saturating_sub(before.generator),
        }
    }
}

impl Report {
    pub(crate) fn new(
        spec: &Spec,
        tally: &Tally,
        elapsed: Duration,
        used: Usage,
        server_peak_rss_bytes: Option<u64>,
    ) -> Self {
        let operations = tally.done();
        let error_texts = tally.errors();
        let seconds = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let millis = |share| tally.quantile(share).as_secs_f64() * 1e3;
        Self {
            load: spec.kind.name().to_owned(),
            clients: spec.clients,
            conns: spec.conns,
            operations,
            errors: error_texts.values().sum(),
            clients_given_up: tally.given_up(),
            elapsed_seconds: seconds,
            operations_per_second: operations as f64 / seconds,
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
            p999_ms: millis(0.999),
            server_cpu_us_per_operation: used.server.and_then(|cpu| per_operation_us(cpu, operations)),
            server_peak_rss_bytes,
            generator_cpu_percent: used.generator.as_secs_f64() / seconds * 100.0,
            error_texts,
        }
    }

    /// The closing table.
    #[must_use]
    pub fn table(&self, markdown: bool) -> Table {
        let mut header = vec![
            "load",
            "clients",
            "operations",
            "op/s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "errors",
        ];
        let mut row = vec![
            self.load.clone(),
            self.clients.to_string(),
            self.operations.to_string(),
            rate(self.operations_per_second),
            three_digits(self.p50_ms),
            three_digits(self.p99_ms),
            three_digits(self.p999_ms),
            self.errors.to_string(),
        ];
        if let Some(cpu) = self.server_cpu_us_per_operation {
            header.push("server CPU us/op");
            row.push(three_digits(cpu));
        }
        if let Some(bytes) = self.server_peak_rss_bytes {
            header.push("server peak RSS MiB");
            row.push(mebibytes(bytes));
        }
        header.push("generator CPU %");
        row.push(format!("{:.0}", self.generator_cpu_percent));
        let mut table = new_table(markdown);
        table.set_header(header).add_row(row);
        align_figures(&mut table);
        table
    }

    /// One line per error text, and one for clients that gave up.
    #[must_use]
    pub fn error_lines(&self) -> Vec<String> {
        let lines = self.error_texts.iter();
        lines.map(|(text, count)| format!("{count} x {text}")).collect()
    }
}

/// A table in the house's one form, or for pasting into a document.
pub(crate) fn new_table(markdown: bool) -> Table {
    let mut table = Table::new();
    table
        .load_preset(if markdown {
            ASCII_MARKDOWN
        } else {
            UTF8_FULL_CONDENSED
        })
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Everything but the first column to the right.
pub(crate) fn align_figures(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Processor time by operation in microseconds, none without operations.
pub(crate) fn per_operation_us(cpu: Duration, operations: u64) -> Option<f64> {
    (operations > 0).then(|| cpu.as_secs_f64() * 1e6 / operations as f64)
}

/// A rate without digits that mean nothing.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second < 100.0 {
        three_digits(per_second)
    } else {
        format!("{per_second:.0}")
    }
}

/// About three significant digits.
pub(crate) fn three_digits(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

/// Bytes in MiB.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            load: "put".into(),
            clients: 100,
            conns: 10,
            operations: 1000,
            errors: 1,
            clients_given_up: 0,
            elapsed_seconds: 2.0,
            operations_per_second: 500.0,
            p50_ms: 0.5,
            p99_ms: 12.34,
            p999_ms: 123.4,
            server_cpu_us_per_operation: None,
            server_peak_rss_bytes: None,
            generator_cpu_percent: 50.0,
            error_texts: BTreeMap::from([("Unavailable: gone".into(), 1)]),
        }
    }

    #[test]
    fn processor_time_is_shared_out_over_operations() {
        let second = Duration::from_secs(1);
        assert_eq!(per_operation_us(second, 100_000), Some(10.0));
        assert_eq!(per_operation_us(second, 0), None);
    }

    #[test]
    fn usage_is_a_difference_and_needs_both_ends() {
        let at = |server, generator| Usage {
            server,
            generator: Duration::from_millis(generator),
        };
        let used = at(Some(Duration::from_millis(70)), 30).since(at(Some(Duration::from_millis(20)), 10));
        assert_eq!(used.server, Some(Duration::from_millis(50)));
        assert_eq!(used.generator, Duration::from_millis(20));
        assert_eq!(at(None, 1).since(at(None, 0)).server, None);
    }

    #[test]
    fn columns_of_the_server_appear_with_its_figures() {
        let without = report();
        let text = without.table(true).to_string();
        assert!(text.contains("| put "), "{text}");
        assert!(text.contains("12.3 "), "{text}");
        assert!(!text.contains("RSS"), "{text}");
        let with = Report {
            server_cpu_us_per_operation: Some(6.25),
            server_peak_rss_bytes: Some(3 << 20),
            ..report()
        };
        let text = with.table(true).to_string();
        assert!(text.contains("6.25"), "{text}");
        assert!(text.contains("3.0"), "{text}");
        assert_eq!(without.error_lines(), ["1 x Unavailable: gone"]);
    }

    #[test]
    fn figures_keep_three_digits() {
        let shown = [0.123, 1.234, 12.34, 123.4, 1234.5].map(three_digits);
        assert_eq!(shown, ["0.12", "1.23", "12.3", "123", "1234"]);
        assert_eq!([1.5, 99.94, 17000.4].map(rate), ["1.50", "99.9", "17000"]);
    }
}
