//! Simple tokens: names that every member remembers, because every member applies the login that made them.
//!
//! A token is sixteen random letters, a full stop and the index of the login in the log. Whoever has not applied that
//! index yet cannot know the token. Tokens live in memory only; each use makes one live for another
//! `--auth-token-ttl`, and nothing else does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use ring::rand::{SecureRandom as _, SystemRandom};

/// The tokens that this member knows.
pub(crate) struct SimpleTokens {
    ttl_ms: u64,
    began: Instant,
    known: RwLock<HashMap<Box<str>, Token>>,
}

struct Token {
    user: Arc<str>,
    /// Milliseconds after the member began; moved on by those who only read the map.
    expires_ms: AtomicU64,
}

/// There is no randomness to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("auth: no random numbers for a token")]
pub(crate) struct NoEntropy;

impl SimpleTokens {
    pub(crate) fn new(ttl: Duration) -> SimpleTokens {
        let ttl = if ttl.is_zero() { TTL } else { ttl };
        SimpleTokens {
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            began: Instant::now(),
            known: RwLock::default(),
        }
    }

    /// Forgets all.
    pub(crate) fn forget(&self) {
        self.known.write().clear();
    }

    /// Remembers whose `token` is.
    pub(crate) fn assign(&self, token: String, user: Arc<str>) {
        let now_ms = self.now_ms();
        let mut known = self.known.write();
        if known.len() >= TOKENS_MAX {
            make_room(&mut known, now_ms);
        }
        let expires_ms = AtomicU64::new(now_ms.saturating_add(self.ttl_ms));
        known.insert(token.into_boxed_str(), Token { user, expires_ms });
    }

    /// Forgets the tokens of one user.
    pub(crate) fn drop_user(&self, user: &str) {
        self.known.write().retain(|_, token| *token.user != *user);
    }

    /// Forgets what has expired. What is not forgotten yet is no good all the same: this is for the memory's sake.
    pub(crate) fn sweep(&self) {
        let now_ms = self.now_ms();
        let is_over = |token: &Token| token.expires_ms.load(Ordering::Relaxed) < now_ms;
        // Most times there is nothing to do, and nobody has to wait for it.
        if self.known.read().values().any(is_over) {
            self.known.write().retain(|_, token| !is_over(token));
        }
    }

    /// Whose `token` is, which lives longer for it.
    pub(crate) fn user(&self, token: &str) -> Option<Arc<str>> {
        let now_ms = self.now_ms();
        let known = self.known.read();
        let token = known.get(token)?;
        if token.expires_ms.load(Ordering::Relaxed) < now_ms {
            return None;
        }
        token
            .expires_ms
            .store(now_ms.saturating_add(self.ttl_ms), Ordering::Relaxed);
        Some(token.user.clone())
    }

    /// How many tokens are remembered.
    pub(crate) fn count(&self) -> usize {
        self.known.read().len()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Forgets what has expired, or else a part of those that have been used longest ago.
fn make_room(known: &mut HashMap<Box<str>, Token>, now_ms: u64) {
    let before = known.len();
    known.retain(|_, token| token.expires_ms.load(Ordering::Relaxed) >= now_ms);
    if known.len() < before {
        return;
    }
    let mut ends: Vec<u64> = known
        .values()
        .map(|token| token.expires_ms.load(Ordering::Relaxed))
        .collect();
    let (_, &mut end, _) = ends.select_nth_unstable(before / ROOM_PART);
    let mut over = before / ROOM_PART + 1;
    known.retain(|_, token| {
        let goes = over > 0 && token.expires_ms.load(Ordering::Relaxed) <= end;
        over -= usize::from(goes);
        !goes
    });
}

/// The token of a login that was applied at `index`.
pub(crate) fn token(prefix: &str, index: u64) -> String {
    format!("{prefix}.{index}")
}

/// The index in a token's name; nothing where it is no token.
pub(crate) fn index_of(token: &str) -> Option<u64> {
    let (_, index) = token.split_once('.')?;
    // Rust takes a plus sign, Go does not.
    let is_number = index.bytes().all(|byte| byte.is_ascii_digit());
    index.parse().ok().filter(|_| is_number)
}

/// The random part of a new token.
pub(crate) fn prefix() -> Result<String, NoEntropy> {
    let random = SystemRandom::new();
    let mut prefix = String::with_capacity(PREFIX_LETTERS);
    while prefix.len() < PREFIX_LETTERS {
        let mut bytes = [0; 2 * PREFIX_LETTERS];
        random.fill(&mut bytes).map_err(|_| NoEntropy)?;
        // What falls beside the alphabet counts for nothing, so that all letters are as likely.
        let fair = bytes.iter().map(|byte| usize::from(byte & 0x3f));
        let letters = fair
            .filter_map(|number| LETTERS.get(number))
            .map(|&letter| char::from(letter));
        prefix.extend(letters.take(PREFIX_LETTERS - prefix.len()));
    }
    Ok(prefix)
}

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const PREFIX_LETTERS: usize = 16;
/// What 0 stands for.
const TTL: Duration = Duration::from_secs(300);
/// Tokens remembered at once; beyond it the ones used longest ago go.
const TOKENS_MAX: usize = 1 << 17;
/// One part in so many goes when there are too many.
const ROOM_PART: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_read_as_in_go() {
        for (token, index) in [
            ("abcdefghijklmnop.12", Some(12)),
            (".007", Some(7)),
            ("a.18446744073709551615", Some(u64::MAX)),
            ("a.18446744073709551616", None),
            ("a.+1", None),
            ("a.", None),
            ("a.1.2", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(index_of(token), index, "{token}");
        }
    }

    #[test]
    fn prefixes_are_letters_and_differ() {
        let prefixes: std::collections::BTreeSet<String> = (0..100).map(|_| prefix().unwrap()).collect();
        assert_eq!(prefixes.len(), 100);
        let all: String = prefixes.into_iter().collect();
        assert!(all.len() == 1600 && all.bytes().all(|byte| LETTERS.contains(&byte)));
        // Each letter is expected some 31 times.
        assert!(LETTERS.iter().all(|letter| all.contains(char::from(*letter))));
    }

    #[test]
    fn tokens_are_known_until_their_user_changes() {
        let tokens = SimpleTokens::new(Duration::from_secs(60));
        tokens.assign("a.1".to_owned(), "u".into());
        tokens.assign("b.2".to_owned(), "v".into());
        assert_eq!(
            (tokens.user("a.1").as_deref(), tokens.user("b.2").as_deref()),
            (Some("u"), Some("v"))
        );
        tokens.drop_user("u");
        assert_eq!(
            (tokens.user("a.1"), tokens.user("b.2").as_deref()),
            (None, Some("v"))
        );
        tokens.forget();
        assert_eq!((tokens.user("b.2"), tokens.count()), (None, 0));
    }

    #[test]
    fn use_alone_keeps_a_token_alive() {
        let mut tokens = SimpleTokens::new(Duration::from_secs(60));
        tokens.assign("used.1".to_owned(), "u".into());
        tokens.assign("idle.2".to_owned(), "u".into());
        for _ in 0..2 {
            tokens.began -= Duration::from_secs(40);
            assert!(tokens.user("used.1").is_some());
        }
        tokens.sweep();
        assert_eq!((tokens.user("idle.2"), tokens.count()), (None, 1));
        tokens.began -= Duration::from_secs(61);
        assert_eq!((tokens.user("used.1"), tokens.count()), (None, 1));
    }

    #[test]
    fn there_is_room_for_one_more_and_for_the_latest() {
        let mut known = HashMap::new();
        let token = |expires_ms| Token {
            user: "u".into(),
            expires_ms: AtomicU64::new(expires_ms),
        };
        for n in 0..64 {
            known.insert(format!("t.{n}").into_boxed_str(), token(100 + n));
        }
        make_room(&mut known, 50);
        assert_eq!(known.len(), 64 - 64 / ROOM_PART - 1);
        assert!(known.contains_key("t.63") && !known.contains_key("t.0"));
        make_room(&mut known, 150);
        assert!(
            known
                .values()
                .all(|token| token.expires_ms.load(Ordering::Relaxed) >= 150)
        );
        let mut alike: HashMap<_, _> = (0..64)
            .map(|n| (format!("t.{n}").into_boxed_str(), token(100)))
            .collect();
        make_room(&mut alike, 50);
        assert_eq!(alike.len(), 64 - 64 / ROOM_PART - 1);
    }
}
