//! Says a thing once, and again only after a while: a peer that is away for an hour is one line a minute, not one for
//! every attempt to reach it.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What was said lately.
#[derive(Default)]
pub(super) struct Quiet(Mutex<VecDeque<(String, Instant)>>);

impl Quiet {
    /// Whether `text` was not said in the last [`PAUSE`]; if so, it counts as said now.
    pub(super) fn admits(&self, text: &str) -> bool {
        let now = Instant::now();
        let mut said = self.0.lock();
        said.retain(|(_, at)| now.duration_since(*at) < PAUSE);
        if said.iter().any(|(known, _)| known == text) {
            return false;
        }
        if said.len() >= TEXTS_MAX {
            said.pop_front();
        }
        said.push_back((text.to_owned(), now));
        true
    }

    /// Whether nothing was said.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Forgets all of it: things have changed.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}

/// The same text is not said again before this.
const PAUSE: Duration = Duration::from_secs(60);
/// Texts remembered; who sends more different ones gets more lines.
const TEXTS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_text_is_said_once_in_a_while() {
        let quiet = Quiet::default();
        assert!(quiet.admits("a") && quiet.admits("b") && !quiet.admits("a"));
        tokio::time::advance(PAUSE).await;
        assert!(quiet.admits("a") && !quiet.admits("a"));
        quiet.clear();
        assert!(quiet.admits("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn little_is_remembered() {
        let quiet = Quiet::default();
        for number in 0..=TEXTS_MAX {
            assert!(quiet.admits(&number.to_string()));
        }
        assert!(quiet.admits("0") && !quiet.admits("32"));
    }
}
