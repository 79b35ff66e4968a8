//! Whose turn it is: the endpoints that work, one after the other.

use parking_lot::Mutex;

/// The endpoints and which of them are left alone for now.
pub(super) struct Remotes(Mutex<Turn>);

struct Turn {
    endpoints: Vec<(String, bool)>,
    next: usize,
}

impl Remotes {
    /// All of them work until they are found not to.
    pub(super) fn new(endpoints: Vec<String>) -> Remotes {
        let endpoints = endpoints.into_iter().map(|endpoint| (endpoint, true)).collect();
        Remotes(Mutex::new(Turn { endpoints, next: 0 }))
    }

    /// The next one that works; `None` if none does.
    pub(super) fn pick(&self) -> Option<String> {
        let turn = &mut *self.0.lock();
        let count = turn.endpoints.len();
        let found = (0..count)
            .map(|step| (turn.next + step) % count)
            .find(|&index| turn.endpoints[index].1)?;
        turn.next = found + 1;
        Some(turn.endpoints[found].0.clone())
    }

    /// It failed.
    pub(super) fn deactivate(&self, endpoint: &str) {
        self.set(endpoint, false);
    }

    /// It works again.
    pub(super) fn activate(&self, endpoint: &str) {
        self.set(endpoint, true);
    }

    /// Those that are left alone.
    pub(super) fn inactive(&self) -> Vec<String> {
        let turn = self.0.lock();
        let inactive = turn.endpoints.iter().filter(|(_, active)| !active);
        inactive.map(|(endpoint, _)| endpoint.clone()).collect()
    }

    fn set(&self, endpoint: &str, active: bool) {
        let mut turn = self.0.lock();
        for (known, state) in &mut turn.endpoints {
            if known == endpoint {
                *state = active;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_ones_take_turns() {
        let remotes = Remotes::new(["a", "b", "c"].map(str::to_owned).to_vec());
        let turns = |count: usize| -> Vec<String> { (0..count).filter_map(|_| remotes.pick()).collect() };
        assert_eq!(turns(4), ["a", "b", "c", "a"]);
        remotes.deactivate("b");
        assert_eq!(
            (turns(3), remotes.inactive()),
            (["c", "a", "c"].map(str::to_owned).to_vec(), vec!["b".to_owned()])
        );
        remotes.deactivate("a");
        remotes.deactivate("c");
        assert_eq!(remotes.pick(), None);
        remotes.activate("b");
        assert_eq!(turns(2), ["b", "b"]);
    }
}
