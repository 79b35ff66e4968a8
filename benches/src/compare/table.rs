//! Medians of the rounds and their ratio.

use comfy_table::Table;
use serde::Serialize;

use super::{Comparison, Row, Side};
use crate::report::{Report, align_figures, mebibytes, new_table, rate, three_digits};

/// The median of each figure over the rounds; none where no round was successful.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Successful operations by time.
    pub operations_per_second: Option<f64>,
    /// Processor time of the server, of all its members together, by operation.
    pub server_cpu_us_per_operation: Option<f64>,
    /// 99 % of the operations took no longer.
    pub p99_ms: Option<f64>,
    /// Peak resident memory of the server, the sum over its members.
    pub server_peak_rss_bytes: Option<f64>,
    /// Share of its processor that the generator used.
    pub generator_cpu_percent: Option<f64>,
}

impl Figures {
    pub(crate) fn of(reports: &[Report]) -> Self {
        let over =
            |figure: &dyn Fn(&Report) -> Option<f64>| median(reports.iter().filter_map(figure).collect());
        Self {
            operations_per_second: over(&|report| Some(report.operations_per_second)),
            server_cpu_us_per_operation: over(&|report| report.server_cpu_us_per_operation),
            p99_ms: over(&|report| Some(report.p99_ms)),
            server_peak_rss_bytes: over(&|report| report.server_peak_rss_bytes.map(|bytes| bytes as f64)),
            generator_cpu_percent: over(&|report| Some(report.generator_cpu_percent)),
        }
    }
}

/// The middle value, of an even number the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get(values.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

/// `ours` by `theirs`, where both are known and the divisor is not zero.
fn ratio(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    let (ours, theirs) = ours.zip(theirs)?;
    (theirs > 0.0).then(|| ours / theirs)
}

impl Comparison {
    /// One row per load: the figures of each server, then the ratios of the last to the first.
    #[must_use]
    pub fn table(&self, markdown: bool) -> Table {
        let mut header = vec![match self.members {
            1 => "load".to_owned(),
            members => format!("load,\n{members} members"),
        }];
        for server in &self.servers {
            let label = &server.label;
            header.extend(FIGURES.map(|figure| format!("{label}\n{figure}")));
        }
        if self.servers.len() > 1 {
            header.extend(RATIOS.map(|figure| format!("ratio\n{figure}")));
        }
        if markdown {
            // A Markdown cell is one line.
            for cell in &mut header {
                *cell = cell.replace('\n', " ");
            }
        }
        let mut table = new_table(markdown);
        table.set_header(header);
        for row in &self.rows {
            table.add_row(cells(row));
        }
        align_figures(&mut table);
        table
    }
}

const FIGURES: [&str; 5] = ["op/s", "CPU us/op", "p99 ms", "RSS MiB", "load %"];
const RATIOS: [&str; 4] = ["op/s", "CPU", "p99", "RSS"];

fn cells(row: &Row) -> Vec<String> {
    let mut cells = vec![row.load.clone()];
    for Side { median, .. } in &row.sides {
        cells.extend([
            shown(median.operations_per_second, rate),
            shown(median.server_cpu_us_per_operation, three_digits),
            shown(median.p99_ms, three_digits),
            shown(median.server_peak_rss_bytes, |bytes| mebibytes(bytes as u64)),
            shown(median.generator_cpu_percent, |percent| format!("{percent:.0}")),
        ]);
    }
    if let [theirs, ours] = row.sides.as_slice() {
        let (theirs, ours) = (&theirs.median, &ours.median);
        cells.extend(
            [
                ratio(ours.operations_per_second, theirs.operations_per_second),
                ratio(
                    ours.server_cpu_us_per_operation,
                    theirs.server_cpu_us_per_operation,
                ),
                ratio(ours.p99_ms, theirs.p99_ms),
                ratio(ours.server_peak_rss_bytes, theirs.server_peak_rss_bytes),
            ]
            .map(|ratio| shown(ratio, |ratio| format!("{ratio:.2}"))),
        );
    }
    cells
}

fn shown(value: Option<f64>, form: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "failed".to_owned(), form)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::ServerInfo;
    use super::*;

    fn report(rate: f64, cpu: f64) -> Report {
        Report {
            load: "put".into(),
            clients: 1,
            conns: 1,
            operations: 1,
            errors: 0,
            clients_given_up: 0,
            elapsed_seconds: 1.0,
            operations_per_second: rate,
            p50_ms: 1.0,
            p99_ms: 2.0,
            p999_ms: 3.0,
            server_cpu_us_per_operation: Some(cpu),
            server_peak_rss_bytes: Some(1 << 20),
            generator_cpu_percent: 50.0,
            error_texts: BTreeMap::new(),
        }
    }

    fn side(reports: Vec<Report>) -> Side {
        Side {
            median: Figures::of(&reports),
            rounds: reports,
            failures: vec![],
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn ratios_need_both_sides_and_a_divisor() {
        assert_eq!(ratio(Some(3.0), Some(4.0)), Some(0.75));
        assert_eq!(ratio(Some(3.0), Some(0.0)), None);
        assert_eq!(ratio(None, Some(1.0)), None);
        assert_eq!(ratio(Some(1.0), None), None);
    }

    #[test]
    fn a_row_divides_ours_by_theirs() {
        let row = Row {
            load: "put@1".into(),
            sides: vec![
                side(vec![
                    report(100.0, 40.0),
                    report(300.0, 50.0),
                    report(200.0, 60.0),
                ]),
                side(vec![report(500.0, 10.0)]),
            ],
        };
        let shown = cells(&row);
        let expected = [
            "put@1", "200", "50.0", "2.00", "1.0", "50", "500", "10.0", "2.00", "1.0", "50", "2.50", "0.20",
            "1.00", "1.00",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_failed_side_shows_as_such_and_a_single_server_has_no_ratio() {
        let server = |label: &str| ServerInfo {
            label: label.into(),
            path: "p".into(),
            version: "1".into(),
        };
        let mut comparison = Comparison {
            servers: vec![server("etcd"), server("taffrail")],
            members: 1,
            rounds: 1,
            duration_seconds: 1.0,
            clients_per_conn: 1,
            pinned: true,
            rows: vec![Row {
                load: "put@1".into(),
                sides: vec![side(vec![report(1.0, 1.0)]), side(vec![])],
            }],
        };
        let text = comparison.table(true).to_string();
        assert!(text.contains("failed"), "{text}");
        assert!(text.contains("ratio op/s"), "{text}");
        assert!(!text.contains("members"), "{text}");
        comparison.members = 3;
        let text = comparison.table(true).to_string();
        assert!(text.contains("load, 3 members"), "{text}");
        comparison.servers.remove(1);
        comparison.rows[0].sides.remove(1);
        let text = comparison.table(true).to_string();
        assert!(!text.contains("ratio"), "{text}");
    }
}
