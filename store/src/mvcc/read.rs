//! A view at a revision: Range with all its options.
//!
//! A read walks the index in bounded steps ([`RangeScan`]) and ends in a [`RangePlan`]. What the index knows (keys,
//! revisions, versions; values and leases of newest revisions) is answered from it; the state of an older version is
//! taken from [`Recent`](super::Recent), and where even that has let it go the plan has a *hole*, which the caller
//! fills from the backend. So no read waits here, and none at the current revision needs the backend at all.
//!
//! Between the steps of one scan the store may change: the scan keeps the revision it began with. The caller sees to
//! it that no physical compaction step runs in between; a logical compaction may.
//!
//! Quirks of etcd that are kept on purpose (reference 1.1):
//! - `count` is the number of live keys of the range, whatever limit and filters say;
//! - with `sort_order` NONE, a target other than KEY and no filter, the limit cuts in key order *before* sorting;
//! - `keys_only` is answered from the index, so the lease is 0, unless the sort target is VALUE.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use proto::mvccpb::KeyValue;

use super::Mvcc;
use super::index::Bounds;
use super::key_index::Version;
use crate::error::RequestError;
use crate::types::{KeyRange, Revision};

/// A Range under way.
#[derive(Clone, Debug)]
pub struct RangeScan {
    range: KeyRange,
    /// The main revision read.
    at: i64,
    /// The store's revision when the read began.
    header: i64,
    filter: Filter,
    shape: Shape,
    /// The last key visited; the next step begins after it.
    cursor: Option<Bytes>,
    /// How many kvs are worth keeping in key order.
    keep_max: usize,
    /// Whether the range is visited to its end for the count.
    counted: bool,
    count: i64,
    kvs: Vec<KeyValue>,
    holes: BTreeMap<Bytes, Revision>,
}

/// Everything but some values of the past: see [`missing`](RangePlan::missing).
#[derive(Clone, Debug)]
pub struct RangePlan {
    header: i64,
    shape: Shape,
    count: i64,
    more: bool,
    kvs: Vec<KeyValue>,
    holes: BTreeMap<Bytes, Revision>,
    /// Sorting waits for the values.
    unsorted: bool,
}

/// How the kvs are to be shown.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// `None`: key order as found.
    sort: Option<(SortTarget, Direction)>,
    limit: Option<usize>,
    count_only: bool,
    keys_only: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Ascending,
    Descending,
}

/// Bounds on revisions, inclusive; 0 is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Filter {
    min_mod: i64,
    max_mod: i64,
    min_create: i64,
    max_create: i64,
}

/// The checks of a Range's arguments that need no store, in etcd's order: key, then sort options.
pub fn check_arguments(request: &RangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(RequestError::InvalidSortOption);
    }
    Ok(())
}

impl RangeScan {
    /// Begins a Range on the store as it stands.
    pub fn new(mvcc: &Mvcc, request: &RangeRequest) -> Result<Self, RequestError> {
        Self::at_current(mvcc, request, mvcc.current)
    }

    /// As `new`, with `current` for the newest revision to be seen (a transaction's own while it runs).
    pub(super) fn at_current(
        mvcc: &Mvcc,
        request: &RangeRequest,
        current: i64,
    ) -> Result<Self, RequestError> {
        check_arguments(request)?;
        let at = if request.revision <= 0 {
            current
        } else {
            request.revision
        };
        mvcc.check_readable(at, current)?;
        let filter = Filter::of(request);
        let shape = Shape::of(request);
        let order = request.sort_order();
        // Without an order the limit comes before sorting; a filter, though, makes etcd read the whole range first.
        let cut_early = match request.sort_target() {
            SortTarget::Key => order != SortOrder::Descend,
            _ => order == SortOrder::None && filter == Filter::NONE,
        };
        let keep_max = match shape.limit {
            Some(limit) if cut_early => limit.saturating_add(1),
            _ => usize::MAX,
        };
        Ok(RangeScan {
            range: KeyRange::new(request.key.clone(), request.range_end.clone()),
            at,
            header: current,
            filter,
            shape,
            cursor: None,
            keep_max: if shape.count_only { 0 } else { keep_max },
            counted: true,
            count: 0,
            kvs: Vec::new(),
            holes: BTreeMap::new(),
        })
    }

    /// The same without a right `count`: it ends as soon as it has all that may be returned, and knows of `more`.
    #[must_use]
    pub fn uncounted(mut self) -> Self {
        self.counted = false;
        self
    }

    /// The main revision that is read.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.at
    }

    /// Visits up to `keys_max` more keys; true when the range is at its end.
    pub fn step(&mut self, mvcc: &Mvcc, keys_max: usize) -> bool {
        if self.range.is_single() {
            if let Some((key, slot)) = mvcc.index.get(&self.range.key)
                && let Some(version) = slot.at(self.at)
            {
                self.visit(mvcc, key, version);
            }
            return true;
        }
        let range = self.range.clone();
        let cursor = self.cursor.take();
        let Some(bounds) = after(&range, cursor.as_ref()) else {
            return true;
        };
        for (visited, (key, slot)) in (1..).zip(mvcc.index.range(bounds)) {
            if let Some(version) = slot.at(self.at) {
                self.visit(mvcc, key, version);
            }
            if !self.counted && self.kvs.len() >= self.keep_max {
                return true;
            }
            if visited >= keys_max {
                self.cursor = Some(key.clone());
                return false;
            }
        }
        true
    }

    /// The answer so far known. To be called when `step` has returned true.
    #[must_use]
    pub fn finish(self) -> RangePlan {
        let by_value = matches!(self.shape.sort, Some((SortTarget::Value, _)));
        let mut plan = RangePlan {
            header: self.header,
            shape: self.shape,
            count: self.count,
            more: false,
            kvs: self.kvs,
            unsorted: by_value && !self.holes.is_empty(),
            holes: self.holes,
        };
        if !plan.unsorted {
            plan.sort_and_cut();
            plan.forget_holes_cut_off();
        }
        plan
    }

    /// Takes note of a live key.
    fn visit(&mut self, mvcc: &Mvcc, key: &Bytes, version: Version<'_>) {
        self.count += 1;
        if self.kvs.len() >= self.keep_max || !self.filter.passes(&version) {
            return;
        }
        let mut kv = KeyValue {
            key: key.clone(),
            create_revision: version.create,
            mod_revision: version.revision.main,
            version: version.version,
            value: Bytes::new(),
            lease: 0,
        };
        if !self.shape.needs_index_alone() {
            let known = version.state.map(|(value, lease)| (value, lease.0)).or_else(|| {
                let change = mvcc.recent.change(version.revision)?;
                Some((&change.kv.value, change.kv.lease))
            });
            if let Some((value, lease)) = known {
                kv.value = value.clone();
                kv.lease = lease;
            } else {
                self.holes.insert(kv.key.clone(), version.revision);
            }
        }
        self.kvs.push(kv);
    }
}

impl RangePlan {
    /// The revisions whose states the answer needs and memory does not hold; empty for a read at the current
    /// revision in one step.
    #[must_use]
    pub fn missing(&self) -> Vec<Revision> {
        self.holes.values().copied().collect()
    }

    /// The answer, given the states that `missing` named. The header holds the revision only.
    ///
    /// # Panics
    /// If a named state is absent, or is that of another key: history that reads may see has been lost.
    #[must_use]
    pub fn finish(mut self, fetched: &BTreeMap<Revision, KeyValue>) -> RangeResponse {
        if !self.holes.is_empty() {
            self.fill(fetched);
        }
        if self.unsorted {
            self.sort_and_cut();
        }
        if self.shape.keys_only {
            self.kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeResponse {
            header: Some(ResponseHeader {
                revision: self.header,
                ..ResponseHeader::default()
            }),
            kvs: self.kvs,
            more: self.more,
            count: self.count,
        }
    }

    fn fill(&mut self, fetched: &BTreeMap<Revision, KeyValue>) {
        for kv in &mut self.kvs {
            let Some(revision) = self.holes.get(&kv.key) else {
                continue;
            };
            let found = fetched.get(revision);
            let found = found.unwrap_or_else(|| panic!("revision {revision} is lost from the backend"));
            assert_eq!(
                found.key, kv.key,
                "the backend holds another key at revision {revision}"
            );
            kv.value = found.value.clone();
            kv.lease = found.lease;
        }
    }

    fn sort_and_cut(&mut self) {
        match self.shape.sort {
            None => {}
            // Keys come sorted.
            Some((SortTarget::Key, Direction::Ascending)) => {}
            Some((SortTarget::Key, Direction::Descending)) => self.kvs.reverse(),
            Some((target, direction)) => self.kvs.sort_by(|a, b| {
                let order = compare(target, a, b);
                if direction == Direction::Ascending {
                    order
                } else {
                    order.reverse()
                }
            }),
        }
        if let Some(limit) = self.shape.limit
            && self.kvs.len() > limit
        {
            self.kvs.truncate(limit);
            self.more = true;
        }
    }

    fn forget_holes_cut_off(&mut self) {
        if self.holes.is_empty() || !self.more {
            return;
        }
        let mut holes = BTreeMap::new();
        for kv in &self.kvs {
            holes.extend(self.holes.remove_entry(&kv.key));
        }
        self.holes = holes;
    }
}

impl Shape {
    fn of(request: &RangeRequest) -> Self {
        let sort = match (request.sort_target(), request.sort_order()) {
            (SortTarget::Key, SortOrder::None) => None,
            (target, SortOrder::None | SortOrder::Ascend) => Some((target, Direction::Ascending)),
            (target, SortOrder::Descend) => Some((target, Direction::Descending)),
        };
        Shape {
            sort,
            limit: usize::try_from(request.limit).ok().filter(|limit| *limit > 0),
            count_only: request.count_only,
            keys_only: request.keys_only,
        }
    }

    /// Whether values and leases play no part.
    fn needs_index_alone(&self) -> bool {
        self.keys_only && !matches!(self.sort, Some((SortTarget::Value, _)))
    }
}

impl Filter {
    const NONE: Filter = Filter {
        min_mod: 0,
        max_mod: 0,
        min_create: 0,
        max_create: 0,
    };

    fn of(request: &RangeRequest) -> Self {
        Filter {
            min_mod: request.min_mod_revision,
            max_mod: request.max_mod_revision,
            min_create: request.min_create_revision,
            max_create: request.max_create_revision,
        }
    }

    fn passes(&self, version: &Version<'_>) -> bool {
        let within =
            |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
        *self == Self::NONE
            || (within(version.revision.main, self.min_mod, self.max_mod)
                && within(version.create, self.min_create, self.max_create))
    }
}

/// What of `range` lies after `cursor`; `None` for nothing.
fn after<'a>(range: &'a KeyRange, cursor: Option<&'a Bytes>) -> Option<Bounds<'a>> {
    let (start, end) = range.bounds()?;
    let Some(cursor) = cursor else {
        return Some((start, end));
    };
    // The map panics on an interval that excludes both its ends and has nothing between.
    if let Bound::Excluded(end) = end
        && end <= cursor.as_ref()
    {
        return None;
    }
    Some((Bound::Excluded(cursor.as_ref()), end))
}

fn compare(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}
