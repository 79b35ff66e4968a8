//! The progress bar, on standard error and only where that is a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::spec::Limit;

/// A bar over operations or over time, as the limit is.
pub(crate) struct Progress {
    bar: ProgressBar,
    limit: Limit,
    /// Operations counted for each one of the limit.
    factor: u64,
    start: Instant,
}

impl Progress {
    /// A bar that is never drawn where `shown` is false.
    pub(crate) fn new(label: &str, limit: Limit, factor: u64, shown: bool) -> Self {
        let length = match limit {
            Limit::Total(total) => total.saturating_mul(factor),
            Limit::Duration(duration) => millis(duration),
        };
        let bar = if shown {
            ProgressBar::new(length)
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{prefix:16} {wide_bar} {percent:>3}%  {msg}")
            .expect("the template is a constant that parses");
        bar.set_style(style);
        bar.set_prefix(label.to_owned());
        Self {
            bar,
            limit,
            factor,
            start: Instant::now(),
        }
    }

    /// Shows how many operations are done.
    pub(crate) fn update(&self, done: u64) {
        let elapsed = self.start.elapsed();
        self.bar.set_position(match self.limit {
            Limit::Total(total) => done.min(total.saturating_mul(self.factor)),
            Limit::Duration(duration) => millis(elapsed.min(duration)),
        });
        let rate = done as f64 / elapsed.as_secs_f64().max(1e-3);
        self.bar.set_message(format!("{rate:.0}/s"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
