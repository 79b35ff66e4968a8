//! What sequences are made of, and how they are drawn: few names and few keys, so that steps meet.

use std::fmt;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::{BoxedStrategy, Union};

/// One call by somebody.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) who: Who,
    pub(crate) what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    Nobody,
    Junk,
    /// Root with a token that is made for this step, if root can log in.
    Root,
    /// With the token of one of the sequence's logins, counted from the last.
    Login(usize),
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Enable,
    Disable,
    AuthStatus,
    Authenticate(&'static str, &'static str),
    UserAdd(&'static str, &'static str, Option<bool>),
    UserGet(&'static str),
    UserList,
    UserDelete(&'static str),
    ChangePassword(&'static str, &'static str),
    GrantRole(&'static str, &'static str),
    RevokeRole(&'static str, &'static str),
    RoleAdd(&'static str),
    RoleGet(&'static str),
    RoleList,
    RoleDelete(&'static str),
    Permit(&'static str, Option<(i32, Keys)>),
    Forbid(&'static str, Keys),
    Range(Keys, bool),
    RangeStream(Keys),
    Put(&'static str, bool, i64),
    Delete(Keys, bool),
    Txn(Txn),
    /// Of the future, so that nothing is compacted.
    Compact,
    Watch(Keys),
    LeaseGrant(i64),
    LeaseRevoke(i64),
    KeepAlive(i64),
    TimeToLive(i64, bool),
    Leases,
    MemberList(bool),
    MemberRemove,
    Alarm(i32),
    Status,
    Defragment,
    Hash,
    HashKv,
    Snapshot,
    MoveLeader,
    Downgrade,
}

/// A key and the end of a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys(pub(crate) &'static str, pub(crate) &'static str);

#[derive(Clone, Debug)]
pub(crate) struct Txn {
    pub(crate) compares: Vec<Keys>,
    pub(crate) success: Vec<Op>,
    pub(crate) failure: Vec<Op>,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Range(Keys),
    Put(&'static str, bool, i64),
    Delete(Keys, bool),
    Txn(Txn),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.who, self.what)
    }
}

pub(crate) const USERS: [&str; 5] = ["root", "u", "v", "w", ""];
pub(crate) const ROLES: [&str; 5] = ["root", "r", "s", "t", ""];
pub(crate) const PASSWORDS: [&str; 3] = ["p", "q", ""];
const KEYS: [&str; 6] = ["a", "ab", "b", "c", "d", ""];
const ENDS: [&str; 8] = ["", "", "", "b", "c", "d", "e", "\0"];
pub(crate) const LEASES: [i64; 3] = [101, 102, 103];

/// Sequences that mostly begin with some users and auth on.
pub(crate) fn sequences() -> BoxedStrategy<Vec<Step>> {
    let rest =
        || prop_oneof![2 => 3..15usize, 1 => 15..50usize].prop_flat_map(|length| vec(step(), 1..=length));
    prop_oneof![
        5 => (beginning(), rest()).prop_map(|(mut steps, rest)| {
            steps.extend(rest);
            steps
        }),
        1 => rest(),
    ]
    .boxed()
}

/// Root, users with roles, what the roles permit, and logins.
fn beginning() -> BoxedStrategy<Vec<Step>> {
    let grants = vec((select(&["r", "s", "t"][..]), 0..3i32, keys()), 1..6);
    let held = vec((select(&["u", "v", "w"][..]), select(&["r", "s", "t"][..])), 1..5);
    (grants, held)
        .prop_map(|(grants, held)| {
            let mut all = vec![What::UserAdd("root", "p", None), What::GrantRole("root", "root")];
            all.extend(["u", "v", "w"].map(|user| What::UserAdd(user, "p", None)));
            all.extend(["r", "s", "t"].map(What::RoleAdd));
            all.extend(
                grants
                    .into_iter()
                    .map(|(role, kind, keys)| What::Permit(role, Some((kind, keys)))),
            );
            all.extend(held.into_iter().map(|(user, role)| What::GrantRole(user, role)));
            all.push(What::Enable);
            all.extend(["w", "v", "u"].map(|user| What::Authenticate(user, "p")));
            let by_nobody = |what| Step {
                who: Who::Nobody,
                what,
            };
            all.into_iter().map(by_nobody).collect()
        })
        .boxed()
}

fn step() -> BoxedStrategy<Step> {
    let login = (0..3usize).prop_map(Who::Login);
    let managing =
        prop_oneof![8 => Just(Who::Root), 1 => Just(Who::Nobody), 1 => Just(Who::Junk), 2 => login.clone()];
    let using = prop_oneof![2 => Just(Who::Root), 1 => Just(Who::Nobody), 1 => Just(Who::Junk), 12 => login];
    let of = |(who, what)| Step { who, what };
    prop_oneof![
        3 => (managing, management()).prop_map(of),
        1 => (Just(Who::Nobody), authenticate()).prop_map(of),
        6 => (using.clone(), on_keys()).prop_map(of),
        2 => (using.clone(), on_leases()).prop_map(of),
        1 => (using, on_cluster()).prop_map(of),
    ]
    .boxed()
}

fn authenticate() -> BoxedStrategy<What> {
    (user(), prop_oneof![6 => Just("p"), 1 => select(&PASSWORDS[..])])
        .prop_map(|(user, password)| What::Authenticate(user, password))
        .boxed()
}

fn management() -> BoxedStrategy<What> {
    Union::new_weighted(vec![
        (1, Just(What::Enable).boxed()),
        (1, Just(What::Disable).boxed()),
        (1, Just(What::AuthStatus).boxed()),
        (1, Just(What::UserList).boxed()),
        (1, Just(What::RoleList).boxed()),
        (2, authenticate()),
        (
            2,
            (user(), select(&PASSWORDS[..]), option::of(any::<bool>()))
                .prop_map(|(user, password, keyless)| What::UserAdd(user, password, keyless))
                .boxed(),
        ),
        (2, user().prop_map(What::UserGet).boxed()),
        (1, user().prop_map(What::UserDelete).boxed()),
        (
            1,
            (user(), prop_oneof![4 => Just("p"), 1 => select(&PASSWORDS[..])])
                .prop_map(|(user, password)| What::ChangePassword(user, password))
                .boxed(),
        ),
        (
            3,
            (user(), role())
                .prop_map(|(user, role)| What::GrantRole(user, role))
                .boxed(),
        ),
        (
            2,
            (user(), role())
                .prop_map(|(user, role)| What::RevokeRole(user, role))
                .boxed(),
        ),
        (2, role().prop_map(What::RoleAdd).boxed()),
        (2, role().prop_map(What::RoleGet).boxed()),
        (1, role().prop_map(What::RoleDelete).boxed()),
        (
            4,
            (role(), option::weighted(0.95, (0..4i32, keys())))
                .prop_map(|(role, granted)| What::Permit(role, granted))
                .boxed(),
        ),
        (
            2,
            (role(), keys())
                .prop_map(|(role, keys)| What::Forbid(role, keys))
                .boxed(),
        ),
    ])
    .boxed()
}

fn on_keys() -> BoxedStrategy<What> {
    Union::new_weighted(vec![
        (
            4,
            (keys(), any::<bool>())
                .prop_map(|(keys, local)| What::Range(keys, local))
                .boxed(),
        ),
        (1, keys().prop_map(What::RangeStream).boxed()),
        (
            4,
            put()
                .prop_map(|(key, prev_kv, lease)| What::Put(key, prev_kv, lease))
                .boxed(),
        ),
        (
            2,
            (keys(), any::<bool>())
                .prop_map(|(keys, prev_kv)| What::Delete(keys, prev_kv))
                .boxed(),
        ),
        (4, txn().prop_map(What::Txn).boxed()),
        (3, keys().prop_map(What::Watch).boxed()),
        (1, Just(What::Compact).boxed()),
    ])
    .boxed()
}

fn on_leases() -> BoxedStrategy<What> {
    let lease = || select(&LEASES[..]);
    Union::new_weighted(vec![
        (3, lease().prop_map(What::LeaseGrant).boxed()),
        (2, lease().prop_map(What::LeaseRevoke).boxed()),
        (2, lease().prop_map(What::KeepAlive).boxed()),
        (
            2,
            (lease(), any::<bool>())
                .prop_map(|(id, keys)| What::TimeToLive(id, keys))
                .boxed(),
        ),
        (2, Just(What::Leases).boxed()),
    ])
    .boxed()
}

fn on_cluster() -> BoxedStrategy<What> {
    prop_oneof![
        any::<bool>().prop_map(What::MemberList),
        Just(What::MemberRemove),
        (0..3i32).prop_map(What::Alarm),
        Just(What::Status),
        Just(What::Defragment),
        Just(What::Hash),
        Just(What::HashKv),
        Just(What::Snapshot),
        Just(What::MoveLeader),
        Just(What::Downgrade),
    ]
    .boxed()
}

fn txn() -> BoxedStrategy<Txn> {
    txn_of(prop_oneof![3 => leaf(), 1 => txn_of(leaf()).prop_map(Op::Txn)].boxed())
}

fn txn_of(op: BoxedStrategy<Op>) -> BoxedStrategy<Txn> {
    (vec(keys(), 0..3), vec(op.clone(), 0..3), vec(op, 0..3))
        .prop_map(|(compares, success, failure)| Txn {
            compares,
            success,
            failure,
        })
        .boxed()
}

fn leaf() -> BoxedStrategy<Op> {
    prop_oneof![
        3 => keys().prop_map(Op::Range),
        2 => put().prop_map(|(key, prev_kv, lease)| Op::Put(key, prev_kv, lease)),
        1 => (keys(), any::<bool>()).prop_map(|(keys, prev_kv)| Op::Delete(keys, prev_kv)),
    ]
    .boxed()
}

fn put() -> impl Strategy<Value = (&'static str, bool, i64)> + Clone {
    let lease = prop_oneof![3 => Just(0), 1 => select(&LEASES[..])];
    (key(), any::<bool>(), lease)
}

/// A range that ends before it begins holds no key, and etcd judges it by what lies between its two ends, if one
/// permission alone covers that. It is not asked for.
fn keys() -> impl Strategy<Value = Keys> + Clone {
    (key(), select(&ENDS[..])).prop_map(|(key, end)| {
        let is_range = end.is_empty() || end == "\0" || key < end;
        Keys(key, if is_range { end } else { "" })
    })
}

fn key() -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![12 => select(&KEYS[..5]), 1 => select(&KEYS[5..])]
}

fn user() -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![9 => select(&USERS[1..4]), 1 => select(&USERS[..])]
}

fn role() -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![9 => select(&ROLES[1..4]), 1 => select(&ROLES[..])]
}
