//! The phases as a table, and what the hashes say.

use super::{CatchUp, Phase};
use crate::report::{align_figures, new_table, rate, three_digits};

const HEADER: [&str; 7] = [
    "phase",
    "puts",
    "op/s",
    "p99 ms",
    "longest ms",
    "seconds",
    "errors",
];

impl CatchUp {
    /// Whether all three members have the same hash over the same history.
    #[must_use]
    pub fn members_agree(&self) -> bool {
        self.hashes.len() == super::MEMBERS && self.hashes.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// The table of the phases and a line on the hashes.
    #[must_use]
    pub fn text(&self, markdown: bool) -> String {
        let mut table = new_table(markdown);
        table.set_header(HEADER);
        for phase in &self.phases {
            table.add_row(cells(phase));
        }
        align_figures(&mut table);
        let hashes: Vec<String> = self.hashes.iter().map(|hash| hash.hash.to_string()).collect();
        let members = self.hashes.len();
        let verdict = match (self.members_agree(), members == super::MEMBERS) {
            (true, _) => "the same on all members".to_owned(),
            (false, true) => "NOT the same on all members".to_owned(),
            (false, false) => format!("known of {members} members only"),
        };
        format!(
            "{table}\nHash at revision {}: {verdict} ({})",
            self.revision,
            hashes.join(", ")
        )
    }
}

fn cells(phase: &Phase) -> [String; 7] {
    [
        phase.name.to_owned(),
        phase.operations.to_string(),
        rate(phase.operations_per_second),
        three_digits(phase.p99_ms),
        three_digits(phase.longest_ms),
        three_digits(phase.elapsed_seconds),
        phase.errors.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::Hash;
    use super::*;

    fn outcome(hashes: &[(u32, i64)]) -> CatchUp {
        let hashes = hashes.iter().map(|&(hash, compact_revision)| Hash {
            hash,
            compact_revision,
        });
        CatchUp {
            path: "p".into(),
            version: "1".into(),
            writes: 1,
            clients: 1,
            pinned: true,
            phases: vec![Phase {
                name: "one down",
                operations: 200_000,
                errors: 3,
                elapsed_seconds: 12.34,
                operations_per_second: 16_207.4,
                p99_ms: 9.87,
                longest_ms: 123.4,
            }],
            revision: 42,
            hashes: hashes.collect(),
            failures: vec![],
        }
    }

    #[test]
    fn a_phase_is_a_row() {
        let text = outcome(&[(7, 0), (7, 0), (7, 0)]).text(true);
        let row = "| one down | 200000 | 16207 |   9.87 |        123 |    12.3 |      3 |";
        assert!(text.contains(row), "{text}");
        let verdict = "Hash at revision 42: the same on all members (7, 7, 7)";
        assert!(text.ends_with(verdict), "{text}");
    }

    #[test]
    fn members_agree_only_when_all_three_have_the_same() {
        assert!(outcome(&[(7, 1), (7, 1), (7, 1)]).members_agree());
        for hashes in [
            &[(7, 0), (7, 0), (8, 0)][..],
            &[(7, 0), (7, 0), (7, 1)],
            &[(7, 0), (7, 0)],
            &[],
        ] {
            let outcome = outcome(hashes);
            assert!(!outcome.members_agree(), "{hashes:?}");
            let verdict = match hashes.len() {
                3 => "NOT the same",
                _ => "members only",
            };
            assert!(outcome.text(true).contains(verdict), "{hashes:?}");
        }
    }
}
