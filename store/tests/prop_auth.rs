//! Who may do what, against a naive model: permissions and requests are spelled out as sets of the keys of a small
//! alphabet, and users and roles are plain maps.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proto::authpb::Permission;
use proto::authpb::permission::Type;
use proto::etcdserverpb::{
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest,
};
use store::auth::{Access, AuthState, Identity, Keys, Operation, authorise};
use store::error::AuthError;

/// The keys that permissions and requests name: every one of up to three letters of `abc`, and what comes directly
/// behind each.
fn named() -> Vec<Vec<u8>> {
    let letters = [b'a', b'b', b'c'];
    let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
    for length in 0..3 {
        let longer: Vec<_> = keys
            .iter()
            .filter(|key| key.len() == length)
            .flat_map(|key| letters.map(|letter| [&key[..], &[letter]].concat()))
            .collect();
        keys.extend(longer);
    }
    keys.retain(|key| !key.is_empty());
    let behind: Vec<_> = keys.iter().map(|key| followed(key)).collect();
    keys.extend(behind);
    keys
}

/// Those, and one for each gap between them: wherever a range begins or ends, it treats all of a gap alike.
fn universe() -> BTreeSet<Vec<u8>> {
    let keys = named();
    let behind = keys.iter().map(|key| followed(key));
    behind.chain(keys.iter().cloned()).collect()
}

fn followed(key: &[u8]) -> Vec<u8> {
    [key, b"\0"].concat()
}

fn lies_in(key: &[u8], start: &[u8], range_end: &[u8]) -> bool {
    match range_end {
        [] => key == start,
        [0] => key >= start,
        end => key >= start && key < end,
    }
}

#[derive(Clone, Debug)]
enum Change {
    AddUser(usize),
    DeleteUser(usize),
    AddRole(usize),
    DeleteRole(usize),
    Grant(usize, usize),
    Revoke(usize, usize),
    GrantPermission(usize, Permission),
    RevokePermission(usize, Permission),
}

/// The model.
#[derive(Default)]
struct Model {
    users: BTreeMap<usize, BTreeSet<usize>>,
    roles: BTreeMap<usize, Vec<Permission>>,
    revision: u64,
}

const NAMES: [&str; 4] = ["root", "u", "v", "w"];

fn name(number: usize) -> String {
    NAMES[number].to_owned()
}

impl Model {
    /// Whether the change is one.
    fn change(&mut self, change: &Change) -> bool {
        let done = match change {
            Change::AddUser(user) => {
                !self.users.contains_key(user) && self.users.insert(*user, BTreeSet::new()).is_none()
            }
            Change::DeleteUser(user) => self.users.remove(user).is_some(),
            Change::AddRole(role) => {
                !self.roles.contains_key(role) && self.roles.insert(*role, Vec::new()).is_none()
            }
            Change::DeleteRole(role) => {
                let is_there = self.roles.remove(role).is_some();
                if is_there {
                    for roles in self.users.values_mut() {
                        roles.remove(role);
                    }
                }
                is_there
            }
            Change::Grant(user, role) => {
                let can = *role == 0 || self.roles.contains_key(role);
                can && self.users.get_mut(user).is_some_and(|roles| roles.insert(*role))
            }
            Change::Revoke(user, role) => self.users.get_mut(user).is_some_and(|roles| roles.remove(role)),
            Change::GrantPermission(role, granted) => {
                let end = granted.range_end.as_ref();
                let holds_keys = end.is_empty() || end == b"\0" || granted.key.as_ref() < end;
                match self
                    .roles
                    .get_mut(role)
                    .filter(|_| holds_keys && !granted.key.is_empty())
                {
                    Some(held) => {
                        held.retain(|held| {
                            (&held.key, &held.range_end) != (&granted.key, &granted.range_end)
                        });
                        held.push(granted.clone());
                        true
                    }
                    None => false,
                }
            }
            Change::RevokePermission(role, taken) => self.roles.get_mut(role).is_some_and(|held| {
                let before = held.len();
                held.retain(|held| (&held.key, &held.range_end) != (&taken.key, &taken.range_end));
                held.len() < before
            }),
        };
        self.revision += u64::from(done);
        done
    }

    fn may(&self, user: usize, access: Access, key: &[u8], range_end: &[u8]) -> bool {
        let Some(roles) = self.users.get(&user) else {
            return false;
        };
        if roles.contains(&0) {
            return true;
        }
        let gives = |permission: &Permission| match permission.perm_type() {
            Type::Readwrite => true,
            Type::Read => access == Access::Read,
            Type::Write => access == Access::Write,
        };
        let permissions: Vec<_> = roles
            .iter()
            .filter_map(|role| self.roles.get(role))
            .flatten()
            .filter(|permission| gives(permission))
            .collect();
        let covered = |key: &[u8]| permissions.iter().any(|p| lies_in(key, &p.key, &p.range_end));
        let empty = !range_end.is_empty() && range_end != b"\0" && range_end <= key;
        if empty {
            return covered(key);
        }
        universe()
            .iter()
            .filter(|candidate| lies_in(candidate, key, range_end))
            .all(|candidate| covered(candidate))
    }
}

fn apply(state: &mut AuthState, change: &Change) -> bool {
    let before = state.revision();
    let done = match change {
        Change::AddUser(user) => state.add_user(&AuthUserAddRequest {
            name: name(*user),
            ..AuthUserAddRequest::default()
        }),
        Change::DeleteUser(user) => state.delete_user(&name(*user)),
        Change::AddRole(role) => state.add_role(&name(*role)),
        Change::DeleteRole(role) => state.delete_role(&name(*role)),
        Change::Grant(user, role) => state.grant_role(&name(*user), &name(*role)),
        Change::Revoke(user, role) => state.revoke_role(&name(*user), &name(*role)),
        Change::GrantPermission(role, permission) => {
            state.grant_permission(&AuthRoleGrantPermissionRequest {
                name: name(*role),
                perm: Some(permission.clone()),
            })
        }
        Change::RevokePermission(role, permission) => {
            state.revoke_permission(&AuthRoleRevokePermissionRequest {
                role: name(*role),
                key: permission.key.clone(),
                range_end: permission.range_end.clone(),
            })
        }
    };
    let moved = state.revision() > before;
    assert!(done.is_ok() || !moved, "a refused change has moved the revision");
    moved
}

fn a_key() -> impl Strategy<Value = Vec<u8>> {
    let short = universe()
        .into_iter()
        .filter(|key| key.len() < 4)
        .collect::<Vec<_>>();
    select(short)
}

fn an_end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![2 => Just(Vec::new()), 1 => Just(b"\0".to_vec()), 4 => a_key()]
}

fn a_permission() -> impl Strategy<Value = Permission> {
    let kinds = select(vec![Type::Read, Type::Write, Type::Readwrite]);
    (kinds, a_key(), an_end()).prop_map(|(kind, key, end)| Permission {
        perm_type: kind.into(),
        key: key.into(),
        range_end: end.into(),
    })
}

fn a_change() -> impl Strategy<Value = Change> {
    let who = 0..NAMES.len();
    prop_oneof![
        2 => who.clone().prop_map(Change::AddUser),
        1 => who.clone().prop_map(Change::DeleteUser),
        2 => who.clone().prop_map(Change::AddRole),
        1 => who.clone().prop_map(Change::DeleteRole),
        4 => (who.clone(), who.clone()).prop_map(|(user, role)| Change::Grant(user, role)),
        1 => (who.clone(), who.clone()).prop_map(|(user, role)| Change::Revoke(user, role)),
        8 => (who.clone(), a_permission()).prop_map(|(role, granted)| Change::GrantPermission(role, granted)),
        2 => (who, a_permission()).prop_map(|(role, taken)| Change::RevokePermission(role, taken)),
    ]
}

fn a_question() -> impl Strategy<Value = (usize, Access, Vec<u8>, Vec<u8>)> {
    let access = select(vec![Access::Read, Access::Write]);
    (0..NAMES.len(), access, a_key(), an_end())
}

/// Auth on, whatever the users are: by the way of a table, since enabling asks for a root.
fn enabled(state: &AuthState) -> AuthState {
    let users = state.user_messages().collect();
    let roles = state.role_messages().collect();
    AuthState::from_messages(true, state.revision(), users, roles).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_decision_is_that_of_the_sets_of_keys(
        // Three permissions to begin with, so that most cases have some.
        begin in vec(a_permission(), 3),
        changes in vec((a_change(), vec(a_question(), 4)), 1..40),
    ) {
        let (mut state, mut model) = (AuthState::default(), Model { revision: 1, ..Model::default() });
        let granted = begin.into_iter().map(|granted| Change::GrantPermission(1, granted));
        let begin = [Change::AddUser(1), Change::AddRole(1), Change::Grant(1, 1)].into_iter().chain(granted);
        let begin = begin.map(|change| (change, Vec::new()));
        for (change, questions) in begin.chain(changes) {
            prop_assert_eq!(apply(&mut state, &change), model.change(&change), "{:?}", change);
            prop_assert_eq!(state.revision(), model.revision);
            let judge = enabled(&state);
            prop_assert_eq!(AuthState::decode(&judge.encode()).unwrap(), judge.clone());
            for (user, access, key, range_end) in questions {
                // What was compiled for the state before must not show: both are asked.
                let judges = [&judge, &enabled(&judge)];
                for judge in judges {
                    let who = Identity::User { name: NAMES[user], revision: judge.revision() };
                    let operation = Operation::Range(access, Keys::new(&key, &range_end));
                    let expected = match model.may(user, access, &key, &range_end) {
                        true => Ok(()),
                        false => Err(AuthError::PermissionDenied),
                    };
                    prop_assert_eq!(authorise(judge, who, &operation), expected, "{:?} {:?}", user, operation);
                }
            }
        }
    }

    /// A state that lives on: what was compiled under it is thrown away by just those changes that concern it.
    #[test]
    fn what_is_compiled_is_never_stale(changes in vec((a_change(), a_question()), 1..60)) {
        let mut state = enabled(&AuthState::default());
        for (change, (user, access, key, range_end)) in changes {
            // Root is protected now, which the fresh copy is too.
            apply(&mut state, &change);
            let who = Identity::User { name: NAMES[user], revision: u64::MAX - 1 };
            let operation = Operation::Range(access, Keys::new(&key, &range_end));
            prop_assert_eq!(authorise(&state, who, &operation), authorise(&enabled(&state), who, &operation));
        }
    }
}
