//! Users, roles and ranges of keys: what [`authorise`] decides is what a naive reading of the rules does, which asks of
//! every place where a range begins or ends whether some grant holds it; and a state is read back from its table as it
//! was.
//!
//! An input is a list of operations of a few bytes each: changes, and questions.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::authpb::permission::Type;
use proto::authpb::{Permission, UserAddOptions};
use proto::etcdserverpb::{
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest,
};
use store::auth::{Access, AuthState, Caller, Done, Keys, Operation, authorise};
use store::error::AuthError;

use super::input::Input;

/// Changes users and roles, and asks.
///
/// # Panics
/// Where an answer is not what the rules say.
pub fn one_input(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::default();
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        world.operation(&mut input);
    }
    let read = AuthState::decode(&world.auth.encode()).expect("a state is read back");
    assert_eq!(read, world.auth);
    world.auth = read;
    // What was compiled before is compiled anew.
    for user in NAMES {
        for (key, end) in [("a", "b"), ("b", ""), ("a", "\0")] {
            world.ask_range(user, i64::MAX, Access::Read, key.as_bytes(), end.as_bytes());
        }
    }
}

#[derive(Default)]
struct World {
    auth: AuthState,
    users: BTreeMap<&'static str, BTreeSet<&'static str>>,
    roles: BTreeMap<&'static str, Vec<(Type, Bytes, Bytes)>>,
    enabled: bool,
    changes: u64,
}

impl World {
    fn operation(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 => self.enable(),
            1 if input.byte() & 7 == 0 => self.disable(),
            2 => self.add_user(name(input), input.byte() & 1 == 0),
            3 => self.delete_user(name(input)),
            4 | 5 => self.grant_role(name(input), name(input)),
            6 => self.revoke_role(name(input), name(input)),
            7 => self.add_role(name(input)),
            8 => self.delete_role(name(input)),
            9 | 10 => self.grant(name(input), input),
            11 => self.revoke(name(input), input),
            _ => return self.ask(input),
        }
        assert_eq!(self.auth.enabled(), self.enabled);
        assert_eq!(self.auth.revision(), 1 + self.changes, "each change counts once");
        let names: Vec<&str> = self.auth.users().collect();
        assert!(names.iter().eq(self.users.keys()), "{names:?}");
        let names: Vec<&str> = self.auth.roles().collect();
        assert!(names.iter().eq(self.roles.keys()), "{names:?}");
    }

    /// Whether a change was taken, which must be so if and only if the rules allow it.
    fn done(&mut self, done: &Done, allowed: bool, counts: bool) -> bool {
        assert_eq!(done.is_ok(), allowed, "{done:?}");
        self.changes += u64::from(allowed && counts);
        allowed
    }

    fn enable(&mut self) {
        let root = self.users.get("root").is_some_and(|roles| roles.contains("root"));
        let done = self.auth.enable();
        if self.done(&done, self.enabled || root, false) {
            self.enabled = true;
        }
    }

    fn disable(&mut self) {
        let done = self.auth.disable();
        let counts = self.enabled;
        self.done(&done, true, counts);
        self.enabled = false;
    }

    fn add_user(&mut self, user: &'static str, no_password: bool) {
        let done = self.auth.add_user(&AuthUserAddRequest {
            name: user.to_owned(),
            hashed_password: "aGFzaA==".to_owned(),
            options: Some(UserAddOptions { no_password }),
            ..AuthUserAddRequest::default()
        });
        let allowed = !user.is_empty() && !self.users.contains_key(user);
        if self.done(&done, allowed, true) {
            self.users.insert(user, BTreeSet::new());
        }
    }

    fn delete_user(&mut self, user: &'static str) {
        let done = self.auth.delete_user(user);
        let allowed = self.users.contains_key(user) && !(self.enabled && user == "root");
        if self.done(&done, allowed, true) {
            self.users.remove(user);
        }
    }

    fn grant_role(&mut self, user: &'static str, role: &'static str) {
        let done = self.auth.grant_role(user, role);
        let known = role == "root" || self.roles.contains_key(role);
        let held = self.users.get(user).is_some_and(|roles| roles.contains(role));
        let allowed = self.users.contains_key(user) && known;
        if self.done(&done, allowed, !held) {
            self.users.entry(user).or_default().insert(role);
        }
    }

    fn revoke_role(&mut self, user: &'static str, role: &'static str) {
        let done = self.auth.revoke_role(user, role);
        let held = self.users.get(user).is_some_and(|roles| roles.contains(role));
        let protected = self.enabled && user == "root" && role == "root";
        if self.done(&done, held && !protected, true) {
            self.users.entry(user).or_default().remove(role);
        }
    }

    fn add_role(&mut self, role: &'static str) {
        let done = self.auth.add_role(role);
        let allowed = !role.is_empty() && !self.roles.contains_key(role);
        if self.done(&done, allowed, true) {
            self.roles.insert(role, Vec::new());
        }
    }

    fn delete_role(&mut self, role: &'static str) {
        let done = self.auth.delete_role(role);
        let allowed = self.roles.contains_key(role) && !(self.enabled && role == "root");
        if self.done(&done, allowed, true) {
            self.roles.remove(role);
            self.users.values_mut().for_each(|roles| {
                roles.remove(role);
            });
        }
    }

    fn grant(&mut self, role: &'static str, input: &mut Input<'_>) {
        let kinds = [Type::Read, Type::Write, Type::Readwrite];
        let kind = kinds[usize::from(input.byte()) % kinds.len()];
        let (key, end) = (key(input), key(input));
        let done = self.auth.grant_permission(&AuthRoleGrantPermissionRequest {
            name: role.to_owned(),
            perm: Some(Permission {
                perm_type: kind.into(),
                key: key.clone(),
                range_end: end.clone(),
            }),
        });
        let grantable = !key.is_empty() && (end.is_empty() || &end[..] == b"\0" || key < end);
        let allowed = grantable && self.roles.contains_key(role);
        if self.done(&done, allowed, true) {
            let grants = self.roles.entry(role).or_default();
            grants.retain(|(_, k, e)| (k, e) != (&key, &end));
            grants.push((kind, key, end));
        }
    }

    fn revoke(&mut self, role: &'static str, input: &mut Input<'_>) {
        let (key, end) = (key(input), key(input));
        let done = self.auth.revoke_permission(&AuthRoleRevokePermissionRequest {
            role: role.to_owned(),
            key: key.clone(),
            range_end: end.clone(),
        });
        let held = |grants: &Vec<(Type, Bytes, Bytes)>| grants.iter().any(|(_, k, e)| (k, e) == (&key, &end));
        let allowed = self.roles.get(role).is_some_and(held);
        if self.done(&done, allowed, true) {
            self.roles
                .entry(role)
                .or_default()
                .retain(|(_, k, e)| (k, e) != (&key, &end));
        }
    }

    fn ask(&self, input: &mut Input<'_>) {
        let (user, revision) = (name(input), i64::from(input.byte() % 4) - 2);
        let (access, start, end) = (input.byte(), key(input), key(input));
        let kind = if access & 1 == 0 {
            Access::Read
        } else {
            Access::Write
        };
        match access >> 1 & 3 {
            0 | 1 => self.ask_range(user, revision, kind, &start, &end),
            2 => self.ask_admin(user, revision),
            _ => self.ask_each(user, revision, kind, &[start, end]),
        }
    }

    /// The caller; a revision is told from the present one, 0 being it, and the greatest that of a certificate.
    fn caller(&self, user: &str, revision: i64) -> Caller {
        let now = i64::try_from(self.auth.revision()).expect("a few changes");
        match (user, revision) {
            ("", _) => Caller::Nobody,
            (name, i64::MAX) => Caller::User {
                name: name.into(),
                revision: Caller::AT_PRESENT,
            },
            (name, past) => Caller::User {
                name: name.into(),
                revision: u64::try_from(now + past).unwrap_or(0),
            },
        }
    }

    fn ask_range(&self, user: &str, revision: i64, access: Access, key: &[u8], end: &[u8]) {
        let caller = self.caller(user, revision);
        let asked = Operation::Range(access, Keys::new(key, end));
        let actual = authorise(&self.auth, caller.identity(&self.auth), &asked);
        let expected = self.range(&caller, user, |world| world.covered(user, access, key, end));
        assert_eq!(
            actual, expected,
            "{user:?} of {revision} asks {access:?} {key:?}..{end:?}"
        );
    }

    fn ask_each(&self, user: &str, revision: i64, access: Access, keys: &[Bytes]) {
        let caller = self.caller(user, revision);
        let keys: BTreeSet<Bytes> = keys.iter().filter(|key| !key.is_empty()).cloned().collect();
        let actual = authorise(
            &self.auth,
            caller.identity(&self.auth),
            &Operation::Each(access, &keys),
        );
        let all = |world: &World| keys.iter().all(|key| world.covered(user, access, key, b""));
        let expected = if keys.is_empty() || self.is_root(user) {
            Ok(())
        } else {
            self.range(&caller, user, all)
        };
        assert_eq!(
            actual, expected,
            "{user:?} of {revision} asks {access:?} each of {keys:?}"
        );
    }

    fn ask_admin(&self, user: &str, revision: i64) {
        let caller = self.caller(user, revision);
        let actual = authorise(&self.auth, caller.identity(&self.auth), &Operation::Admin);
        let expected = match self.users.get(user) {
            _ if !self.enabled => Ok(()),
            None if user.is_empty() => Err(AuthError::UserEmpty),
            None => Err(AuthError::UserNotFound),
            Some(_) if self.is_root(user) => Ok(()),
            Some(_) => Err(AuthError::PermissionDenied),
        };
        assert_eq!(actual, expected, "{user:?} of {revision} asks to administer");
    }

    fn range(&self, caller: &Caller, user: &str, covered: impl Fn(&World) -> bool) -> Result<(), AuthError> {
        if !self.enabled {
            return Ok(());
        }
        match caller {
            Caller::Trusted => return Ok(()),
            Caller::Stranger => return Err(AuthError::InvalidAuthToken),
            Caller::Nobody | Caller::User { revision: 0, .. } => return Err(AuthError::UserEmpty),
            Caller::User { revision, .. } if *revision < 1 + self.changes => {
                return Err(AuthError::AuthOldRevision);
            }
            Caller::User { .. } => {}
        }
        let allowed = self.users.contains_key(user) && (self.is_root(user) || covered(self));
        if allowed {
            Ok(())
        } else {
            Err(AuthError::PermissionDenied)
        }
    }

    fn is_root(&self, user: &str) -> bool {
        self.users.get(user).is_some_and(|roles| roles.contains("root"))
    }

    /// Whether the grants of a user hold all keys of a range: its beginning, and every place in it at which a grant begins
    /// or ends, for nothing changes in between.
    fn covered(&self, user: &str, access: Access, key: &[u8], end: &[u8]) -> bool {
        let grants: Vec<&(Type, Bytes, Bytes)> = self
            .users
            .get(user)
            .into_iter()
            .flatten()
            .filter_map(|role| self.roles.get(role))
            .flatten()
            .collect();
        let holds = |at: &[u8]| {
            grants.iter().any(|(kind, start, end)| {
                let kind = matches!(
                    (kind, access),
                    (Type::Readwrite, _) | (Type::Read, Access::Read) | (Type::Write, Access::Write)
                );
                kind && match &end[..] {
                    [] => at == start,
                    [0] => at >= &start[..],
                    end => at >= &start[..] && at < end,
                }
            })
        };
        let mut places: BTreeSet<Vec<u8>> = BTreeSet::from([key.to_vec()]);
        for (_, start, end) in &grants {
            places.extend([start.to_vec(), [start, &b"\0"[..]].concat(), end.to_vec()]);
        }
        places.insert(b"\xff\xff\xff\xff".to_vec());
        let asked = |at: &[u8]| match end {
            [] => at == key,
            [0] => at >= key,
            end => at == key || at >= key && at < end,
        };
        places.iter().filter(|at| asked(at)).all(|at| holds(at))
    }
}

fn name(input: &mut Input<'_>) -> &'static str {
    NAMES[usize::from(input.byte()) % NAMES.len()]
}

fn key(input: &mut Input<'_>) -> Bytes {
    Bytes::from_static(KEYS[usize::from(input.byte()) % KEYS.len()])
}

/// Auth on, with a reader and a writer, and questions; and a little of everything.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let on = [
        2, 1, 1, 4, 1, 1, 7, 2, 7, 3, 2, 2, 1, 2, 3, 0, 4, 2, 2, 5, 2, 3, 4, 3, 3, 0,
    ];
    let grants = [
        9, 2, 0, 2, 5, 9, 2, 2, 5, 6, 10, 3, 1, 6, 0, 9, 3, 2, 3, 1, 11, 2, 2, 5,
    ];
    let asks = [
        12, 2, 2, 0, 2, 5, 13, 2, 2, 0, 2, 6, 14, 3, 2, 1, 6, 0, 12, 1, 2, 4, 0, 0, 15, 0, 0, 0, 2, 0,
    ];
    let mut seeds = vec![[&on[..], &grants, &asks, &[8, 2, 1, 0], &asks].concat()];
    let whole: Vec<u8> = (0..=255).collect();
    for stride in [1_usize, 3, 7, 29, 101] {
        let some: Vec<u8> = (0..256).map(|at| whole[at * stride % 256]).collect();
        seeds.push([&on[..], &some].concat());
        seeds.push(some);
    }
    seeds
}

/// Users and roles.
const NAMES: [&str; 4] = ["", "root", "r", "w"];
/// Empty, the zero byte, and neighbours in order.
const KEYS: [&[u8]; 10] = [
    b"", b"\0", b"a", b"a\0", b"a\0\0", b"b", b"b\0", b"c", b"\xff", b"\xff\0",
];
/// Operations of an input.
const OPERATIONS_MAX: usize = 96;
