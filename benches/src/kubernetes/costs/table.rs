//! The costs as a table, and what the adapter adds to a GET.

use comfy_table::Table;

use super::{Call, Costs, Round, Row};
use crate::compare::median;
use crate::kubernetes::http::Wire;
use crate::report::{align_figures, new_table, rate, three_digits};

const HEADER: [&str; 8] = [
    "call",
    "calls/s",
    "CPU us",
    "least to most",
    "added us",
    "p50 ms",
    "p99 ms",
    "load %",
];

impl Costs {
    /// Calls that failed, over all rounds.
    #[must_use]
    pub fn errors(&self) -> u64 {
        let rounds = self.rows.iter().flat_map(|row| &row.rounds);
        rounds.map(|round| round.errors).sum()
    }

    /// What the adapter adds to the store's processor time for a call: the median over the rounds, of differences within
    /// a round. Nothing for the store's own calls.
    #[must_use]
    pub fn added_us(&self, call: Call) -> Option<f64> {
        let stored = call.stored_by()?;
        let rounds = |call| {
            self.rows
                .iter()
                .find(|row| row.call == call)
                .map(|row| &row.rounds)
        };
        let pairs = rounds(call)?.iter().zip(rounds(stored)?);
        median(
            pairs
                .filter_map(|(own, store)| Some(own.cpu_us_per_call? - store.cpu_us_per_call?))
                .collect(),
        )
    }

    /// The table and a line on the GET.
    #[must_use]
    pub fn text(&self, markdown: bool) -> String {
        let added = self.added_us(Call::Get(Wire::Http1));
        format!(
            "{}\nLists of {} pods, {:.0} kB; {} client(s). The adapter adds {} us of CPU to a GET.",
            self.table(markdown),
            self.pods,
            self.list_bytes as f64 / 1e3,
            self.clients,
            added.map_or_else(|| "?".to_owned(), three_digits),
        )
    }

    fn table(&self, markdown: bool) -> Table {
        let mut table = new_table(markdown);
        table.set_header(HEADER);
        for row in &self.rows {
            table.add_row(self.cells(row));
        }
        align_figures(&mut table);
        table
    }

    fn cells(&self, row: &Row) -> [String; 8] {
        let of = |figure: &dyn Fn(&Round) -> Option<f64>| row.rounds.iter().filter_map(figure).collect();
        let middle = |figure: &dyn Fn(&Round) -> Option<f64>| {
            median(of(figure)).map_or_else(String::new, three_digits)
        };
        let cpu: Vec<f64> = of(&|round| round.cpu_us_per_call);
        let least = cpu.iter().copied().reduce(f64::min);
        let most = cpu.iter().copied().reduce(f64::max);
        let spread = least.zip(most);
        let spread = spread.map(|(least, most)| format!("{} - {}", three_digits(least), three_digits(most)));
        [
            row.call.name().to_owned(),
            median(of(&|round| Some(round.calls_per_second))).map_or_else(String::new, rate),
            middle(&|round| round.cpu_us_per_call),
            spread.unwrap_or_default(),
            self.added_us(row.call).map_or_else(String::new, signed),
            middle(&|round| Some(round.p50_ms)),
            middle(&|round| Some(round.p99_ms)),
            median(of(&|round| Some(round.generator_cpu_percent)))
                .map_or_else(String::new, |percent| format!("{percent:.0}")),
        ]
    }
}

/// A difference: three digits of either sign.
fn signed(value: f64) -> String {
    let digits = three_digits(value.abs());
    match value < 0.0 {
        true => format!("-{digits}"),
        false => digits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::Seating;

    fn round(cpu: f64) -> Round {
        Round {
            calls: 100,
            errors: 1,
            calls_per_second: 1000.0,
            cpu_us_per_call: Some(cpu),
            p50_ms: 0.1,
            p99_ms: 0.25,
            generator_cpu_percent: 33.0,
        }
    }

    fn costs() -> Costs {
        let row = |call, cpus: [f64; 3]| Row {
            call,
            rounds: cpus.map(round).to_vec(),
        };
        Costs {
            path: "p".into(),
            version: "1".into(),
            adapter: Seating::Within,
            pinned: true,
            clients: 1,
            pods: 500,
            list_bytes: 750_000,
            rows: vec![
                row(Call::Get(Wire::Http1), [40.0, 70.0, 52.0]),
                row(Call::StoreGet, [30.0, 65.0, 42.0]),
            ],
        }
    }

    #[test]
    fn what_is_added_is_the_median_of_differences() {
        let costs = costs();
        // 10, 5 and 10, where the difference of the medians would be 10 by chance alone.
        assert_eq!(costs.added_us(Call::Get(Wire::Http1)), Some(10.0));
        assert_eq!(costs.added_us(Call::StoreGet), None);
        assert_eq!(costs.added_us(Call::List), None);
        assert_eq!(costs.errors(), 6);
    }

    #[test]
    fn a_call_is_a_row() {
        let text = costs().text(true);
        let row = "| GET a pod               |    1000 |   52.0 |   40.0 - 70.0 |     10.0 |   0.10 |   0.25 |     33 |";
        assert!(text.contains(row), "{text}");
        let end = "Lists of 500 pods, 750 kB; 1 client(s). The adapter adds 10.0 us of CPU to a GET.";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn differences_have_signs() {
        assert_eq!([-1.5, 12.34].map(signed), ["-1.50", "12.3"]);
    }
}
