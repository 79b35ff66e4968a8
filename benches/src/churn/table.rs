//! The chapters as a table.

use super::{Chapter, Churn};
use crate::report::{align_figures, new_table, rate, three_digits};

const HEADER: [&str; 8] = [
    "chapter",
    "puts",
    "op/s",
    "of idle",
    "p99 ms",
    "longest ms",
    "seconds",
    "failed attempts",
];

impl Churn {
    /// The table of the chapters and a line on the hashes.
    #[must_use]
    pub fn text(&self, markdown: bool) -> String {
        let mut table = new_table(markdown);
        table.set_header(HEADER);
        let idle = self
            .chapters
            .first()
            .map_or(0.0, |chapter| chapter.operations_per_second);
        for chapter in &self.chapters {
            table.add_row(cells(chapter, idle));
        }
        align_figures(&mut table);
        let not = if self.members_agree { "" } else { "NOT " };
        format!("{table}\nHash: {not}the same on all members")
    }
}

fn cells(chapter: &Chapter, idle: f64) -> [String; 8] {
    let share = chapter.operations_per_second / idle.max(f64::MIN_POSITIVE);
    [
        chapter.name.to_owned(),
        chapter.operations.to_string(),
        rate(chapter.operations_per_second),
        format!("{:.0} %", 100.0 * share),
        three_digits(chapter.p99_ms),
        three_digits(chapter.longest_ms),
        three_digits(chapter.elapsed_seconds),
        chapter.failed_attempts.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chapter_is_a_row_beside_the_first() {
        let chapter = |name, operations_per_second| Chapter {
            name,
            operations: 5000,
            failed_attempts: 7,
            elapsed_seconds: 12.34,
            operations_per_second,
            p99_ms: 9.87,
            longest_ms: 123.4,
        };
        let churn = |members_agree| Churn {
            path: "p".into(),
            version: "1".into(),
            clients: 1,
            pinned: true,
            chapters: vec![chapter("nothing happens", 2000.0), chapter("backup", 1500.0)],
            members_agree,
            failures: vec![],
        };
        let text = churn(true).text(true);
        assert!(
            text.contains("| nothing happens | 5000 | 2000 |   100 % |"),
            "{text}"
        );
        assert!(
            text.contains("| backup          | 5000 | 1500 |    75 % |"),
            "{text}"
        );
        assert!(text.ends_with("Hash: the same on all members"), "{text}");
        assert!(churn(false).text(false).ends_with("NOT the same on all members"));
    }
}
