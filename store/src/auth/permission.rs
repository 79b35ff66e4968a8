//! What a user may do with keys: the ranges of all its roles, merged.
//!
//! A range of a permission is `[key, range_end)`; the single `key` where `range_end` is empty; everything from `key` on
//! where it is the one byte 0. Two ranges that overlap or touch are one, so that a request across both is allowed
//! (etcd asks its interval tree whether the ranges that a request overlaps follow each other without a gap).

use bytes::Bytes;
use proto::authpb::Permission;
use proto::authpb::permission::Type;

use super::authorise::{Access, Keys};

/// The keys that may be read, and those that may be written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permissions {
    read: Ranges,
    write: Ranges,
}

/// Disjoint ranges that do not touch, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Ranges(Vec<Interval>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Interval {
    start: Bytes,
    /// The first key beyond; `None` where it goes on to the end of the key space.
    end: Option<Bytes>,
}

impl Permissions {
    /// Those of some permissions together. One of a type that nobody knows gives nothing.
    #[must_use]
    pub fn merged<'a>(permissions: impl Iterator<Item = &'a Permission>) -> Self {
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for permission in permissions {
            let Ok(kind) = Type::try_from(permission.perm_type) else {
                continue;
            };
            let interval = Interval::of(permission);
            match kind {
                Type::Read => read.push(interval),
                Type::Write => write.push(interval),
                Type::Readwrite => {
                    read.push(interval.clone());
                    write.push(interval);
                }
            }
        }
        Permissions {
            read: Ranges::merged(read),
            write: Ranges::merged(write),
        }
    }

    /// Whether they allow this access to all of these keys.
    #[must_use]
    pub fn allow(&self, access: Access, keys: Keys<'_>) -> bool {
        match access {
            Access::Read => self.read.cover(keys),
            Access::Write => self.write.cover(keys),
        }
    }
}

impl Interval {
    fn of(permission: &Permission) -> Self {
        let start = permission.key.clone();
        let end = match permission.range_end.as_ref() {
            [] => Some(following(&start)),
            [0] => None,
            _ => Some(permission.range_end.clone()),
        };
        Interval { start, end }
    }

    /// Whether it goes at least as far as to this key, exclusive; `None` for the end of the key space.
    fn reaches(&self, end: Option<&[u8]>) -> bool {
        match (&self.end, end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(end)) => own.as_ref() >= end,
        }
    }
}

impl Ranges {
    fn merged(mut intervals: Vec<Interval>) -> Self {
        intervals.sort_by(|a, b| a.start.cmp(&b.start));
        let mut merged: Vec<Interval> = Vec::new();
        for interval in intervals {
            match merged.last_mut() {
                Some(last) if last.reaches(Some(&interval.start)) => {
                    if !last.reaches(interval.end.as_deref()) {
                        last.end = interval.end;
                    }
                }
                _ => merged.push(interval),
            }
        }
        Ranges(merged)
    }

    /// A range that ends where it begins, or before, holds no key; it is allowed where its beginning is.
    fn cover(&self, keys: Keys<'_>) -> bool {
        let after = self
            .0
            .partition_point(|interval| interval.start.as_ref() <= keys.key);
        let Some(interval) = after.checked_sub(1).and_then(|at| self.0.get(at)) else {
            return false;
        };
        let begins = match &interval.end {
            None => true,
            Some(end) => end.as_ref() > keys.key,
        };
        begins
            && match keys.range_end {
                [] => true,
                [0] => interval.end.is_none(),
                end => interval.reaches(Some(end)),
            }
    }
}

/// The key that follows directly.
fn following(key: &[u8]) -> Bytes {
    [key, b"\0"].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(kind: Type, key: &'static str, range_end: &'static str) -> Permission {
        Permission {
            perm_type: kind.into(),
            key: key.into(),
            range_end: range_end.into(),
        }
    }

    fn reads(granted: &[Permission], key: &str, range_end: &str) -> bool {
        let keys = Keys {
            key: key.as_bytes(),
            range_end: range_end.as_bytes(),
        };
        Permissions::merged(granted.iter()).allow(Access::Read, keys)
    }

    #[test]
    fn corner_67_ranges_that_touch_are_one() {
        let granted = [
            a(Type::Read, "a", "b"),
            a(Type::Readwrite, "b", "c"),
            a(Type::Read, "c", ""),
            a(Type::Read, "c\0", "d"),
            a(Type::Write, "d", "e"),
        ];
        assert!(reads(&granted, "a", "d"));
        assert!(reads(&granted, "a", "") && reads(&granted, "c", "") && !reads(&granted, "d", ""));
        assert!(!reads(&granted, "a", "d\0") && !reads(&granted, "a", "\0") && !reads(&granted, "A", "b"));
        let gap = [a(Type::Read, "a", "b"), a(Type::Read, "b\0", "c")];
        assert!(!reads(&gap, "a", "c"));
    }

    #[test]
    fn an_open_end_is_covered_by_an_open_end_only() {
        let open = [a(Type::Read, "k", "\0")];
        assert!(reads(&open, "k", "\0") && reads(&open, "m", "\0") && reads(&open, "m", "z"));
        assert!(reads(&open, "\u{10ffff}", "") && !reads(&open, "j", "\0"));
        assert!(!reads(&[a(Type::Read, "k", "z")], "k", "\0"));
        assert!(!reads(&[], "k", ""));
    }

    #[test]
    fn a_longer_range_is_not_cut_by_a_shorter_one_within() {
        let granted = [
            a(Type::Read, "a", "z"),
            a(Type::Read, "b", "c"),
            a(Type::Read, "b", ""),
        ];
        assert!(reads(&granted, "a", "z"));
    }

    #[test]
    fn a_kind_that_nobody_knows_gives_nothing() {
        let mut unknown = a(Type::Read, "a", "z");
        unknown.perm_type = 7;
        assert!(!reads(&[unknown], "b", ""));
    }
}
