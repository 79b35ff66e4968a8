//! Versions of the protocol between members: which ones a member speaks, and what two of them agree on.
//!
//! | version | since | what it brought |
//! | --- | --- | --- |
//! | 1 | 0.1.0, before members could be added | not spoken any more: its members take a membership change for a request |
//! | 2 | 0.1.0 | entries of a kind, snapshots that go on where they broke off |
//!
//! A member tells the oldest and the newest version that it speaks; a peer that tells none speaks 1. Two members talk
//! in the newest version that both speak, on all their connections: messages, what is passed on to the leader,
//! snapshots. A new field or kind of message that an old member may ignore needs no new version (all of them are
//! protobuf, and what is unknown in it is passed over); anything that it must not ignore does. So that members can be
//! upgraded one by one, a release goes on speaking the version before its own newest.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::TAFFRAIL_VERSION;

/// The versions that a member speaks, and whose they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Protocols {
    oldest: u32,
    newest: u32,
}

impl Protocols {
    /// Those of this build.
    pub(crate) const OWN: Protocols = Protocols { oldest: 2, newest: 2 };
    /// Those of a member that tells none.
    const UNTOLD: Protocols = Protocols { oldest: 1, newest: 1 };

    /// For tests: a member of another build.
    #[cfg(test)]
    pub(super) const fn of(oldest: u32, newest: u32) -> Protocols {
        Protocols { oldest, newest }
    }

    /// Tells a peer.
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        // Digits and a dash make a header's value.
        if let Ok(versions) = HeaderValue::from_str(&format!("{}-{}", self.oldest, self.newest)) {
            headers.insert(PROTOCOLS, versions);
        }
        headers.insert(PROGRAM, HeaderValue::from_static(TAFFRAIL_VERSION));
    }

    /// The version to talk in with the peer that sent these headers; `own` and `peer` are what the text of a refusal
    /// calls the two.
    pub(super) fn agree(self, headers: &HeaderMap, own: &str, peer: &str) -> Result<u32, String> {
        let text = |name| {
            headers
                .get(name)
                .and_then(|value| HeaderValue::to_str(value).ok())
        };
        let theirs = match text(PROTOCOLS) {
            Some(told) => {
                Protocols::parse(told).ok_or_else(|| format!("unreadable peer protocol {told:?}"))?
            }
            None => Protocols::UNTOLD,
        };
        let newest = self.newest.min(theirs.newest);
        if newest >= self.oldest.max(theirs.oldest) {
            return Ok(newest);
        }
        let (older, wanted) = if self.newest < theirs.oldest {
            (own, theirs)
        } else {
            (peer, self)
        };
        let program = text(PROGRAM).unwrap_or("an early build");
        Err(format!(
            "no common peer protocol: {own} ({TAFFRAIL_VERSION}) speaks {self}, {peer} ({program}) speaks {theirs}; \
             upgrade {older}, which is the older one, to a version that speaks {wanted}"
        ))
    }

    fn parse(told: &str) -> Option<Protocols> {
        let (oldest, newest) = told.split_once('-')?;
        let protocols = Protocols {
            oldest: oldest.parse().ok()?,
            newest: newest.parse().ok()?,
        };
        (1 <= protocols.oldest && protocols.oldest <= protocols.newest).then_some(protocols)
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "{}", self.oldest)
        } else {
            write!(f, "{} to {}", self.oldest, self.newest)
        }
    }
}

const PROTOCOLS: HeaderName = HeaderName::from_static("x-taffrail-protocols");
const PROGRAM: HeaderName = HeaderName::from_static("x-taffrail-version");

#[cfg(test)]
mod tests {
    use super::*;

    fn told(protocols: Protocols) -> HeaderMap {
        let mut headers = HeaderMap::new();
        protocols.tell(&mut headers);
        headers
    }

    #[test]
    fn two_members_talk_in_the_newest_version_that_both_speak() {
        let cases = [
            ((2, 2), (2, 2), Some(2)),
            ((2, 3), (2, 2), Some(2)),
            ((2, 2), (1, 4), Some(2)),
            ((2, 5), (3, 4), Some(4)),
            ((2, 3), (4, 5), None),
            ((4, 5), (2, 3), None),
        ];
        for (a, b, common) in cases {
            let (a, b) = (Protocols::of(a.0, a.1), Protocols::of(b.0, b.1));
            assert_eq!(a.agree(&told(b), "a", "b").ok(), common);
            assert_eq!(b.agree(&told(a), "b", "a").ok(), common, "both find the same");
        }
        assert_eq!(Protocols::of(1, 2).agree(&HeaderMap::new(), "a", "b"), Ok(1));
    }

    #[test]
    fn both_sides_say_which_one_to_upgrade() {
        let (old, new) = (Protocols::of(2, 3), Protocols::of(4, 5));
        let version = TAFFRAIL_VERSION;
        assert_eq!(
            new.agree(&told(old), "member b", "member a").unwrap_err(),
            format!(
                "no common peer protocol: member b ({version}) speaks 4 to 5, member a ({version}) speaks 2 to 3; \
                 upgrade member a, which is the older one, to a version that speaks 4 to 5"
            )
        );
        let refusal = old.agree(&told(new), "member a", "member b").unwrap_err();
        assert!(
            refusal.ends_with("upgrade member a, which is the older one, to a version that speaks 4 to 5")
        );
        let refusal = Protocols::OWN
            .agree(&HeaderMap::new(), "member a", "member b")
            .unwrap_err();
        assert!(
            refusal.contains("member b (an early build) speaks 1; upgrade member b"),
            "{refusal}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in [
            "",
            "2",
            "0-2",
            "3-2",
            "2-x",
            "-",
            "2-2-2",
            "99999999999-99999999999",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(PROTOCOLS, HeaderValue::from_static(text));
            assert!(Protocols::OWN.agree(&headers, "a", "b").is_err(), "{text:?}");
        }
    }
}
