//! Auth where it is served: what a handle may do for whom, and that users and roles outlast a restart, whatever the state
//! is read back from.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::authpb::Permission;
use proto::authpb::permission::Type;
use proto::etcdserverpb::{
    AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest,
    AuthStatusRequest, AuthUserAddRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest, WatchCreateRequest,
};

use super::one::One;
use crate::auth::{AuthEvent, AuthState, Caller};
use crate::error::{AuthError, Error, RequestError};
use crate::shell::Store;

/// Users root, alice (who may read and write `a` to `b`, and read `r`) and bob, who may do nothing; auth on.
fn guarded() -> One {
    let mut one = One::new();
    let store = one.store();
    for name in ["root", "alice", "bob"] {
        let add = AuthUserAddRequest {
            name: name.to_owned(),
            hashed_password: "aGFzaA==".to_owned(),
            ..AuthUserAddRequest::default()
        };
        one.call(store.user_add(add)).unwrap();
    }
    let role = || "some".to_owned();
    one.call(store.role_add(AuthRoleAddRequest { name: role() }))
        .unwrap();
    for (kind, key, range_end) in [(Type::Readwrite, "a", "b"), (Type::Read, "r", "")] {
        let grant = AuthRoleGrantPermissionRequest {
            name: role(),
            perm: Some(Permission {
                perm_type: kind.into(),
                key: key.into(),
                range_end: range_end.into(),
            }),
        };
        one.call(store.role_grant_permission(grant)).unwrap();
    }
    for (user, role) in [("root", "root"), ("alice", "some")] {
        let grant = AuthUserGrantRoleRequest {
            user: user.to_owned(),
            role: role.to_owned(),
        };
        one.call(store.user_grant_role(grant)).unwrap();
    }
    one.call(store.auth_enable(AuthEnableRequest {})).unwrap();
    one
}

fn user(one: &One, name: &str) -> Store {
    one.store().acting_as(Caller::User {
        name: name.into(),
        revision: Caller::AT_PRESENT,
    })
}

fn put(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: "v".into(),
        ..PutRequest::default()
    }
}

fn get(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..RangeRequest::default()
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> AuthError {
    match result {
        Err(Error::Request(RequestError::Auth(error))) => error,
        other => panic!("not refused for want of a right: {other:?}"),
    }
}

fn state(one: &One) -> AuthState {
    one.member.shared.state.read().auth.clone()
}

#[test]
fn each_call_is_judged_as_its_callers() {
    let mut one = guarded();
    let trusted = one.store();
    let (alice, bob) = (user(&one, "alice"), user(&one, "bob"));
    let nobody = trusted.acting_as(Caller::Nobody);
    one.call(alice.put(put("a1"))).unwrap();
    one.call(trusted.put(put("z"))).unwrap();
    assert_eq!(one.call(alice.range(get("a", "b"))).unwrap().count, 1);
    assert_eq!(
        refused(one.call(alice.range(get("a", "c")))),
        AuthError::PermissionDenied
    );
    assert_eq!(
        refused(one.call(alice.put(put("r")))),
        AuthError::PermissionDenied
    );
    assert_eq!(refused(one.call(bob.put(put("a1")))), AuthError::PermissionDenied);
    assert_eq!(
        refused(one.call(nobody.range(get("a", "")))),
        AuthError::UserEmpty
    );
    let mut stream = alice.range_stream(get("a", "\0"));
    assert_eq!(
        refused(one.call(stream.next()).unwrap()),
        AuthError::PermissionDenied
    );
    let lease = one
        .call(trusted.lease_grant(LeaseGrantRequest { ttl: 60, id: 7 }))
        .unwrap()
        .id;
    one.call(trusted.put(PutRequest { lease, ..put("z") })).unwrap();
    let ttl = |keys| LeaseTimeToLiveRequest { id: lease, keys };
    assert_eq!(
        refused(one.call(alice.lease_time_to_live(ttl(true)))),
        AuthError::PermissionDenied
    );
    assert!(
        one.call(alice.lease_time_to_live(ttl(false)))
            .unwrap()
            .keys
            .is_empty()
    );
    assert_eq!(
        refused(one.call(alice.lease_keep_alive(lease))),
        AuthError::PermissionDenied
    );
    assert_eq!(
        refused(one.call(nobody.lease_keep_alive(lease))),
        AuthError::UserEmpty
    );
    assert_eq!(
        refused(one.call(alice.lease_leases())),
        AuthError::PermissionDenied
    );
    let revoke = LeaseRevokeRequest { id: lease };
    assert_eq!(
        refused(one.call(alice.lease_revoke(revoke))),
        AuthError::PermissionDenied
    );
    let attach = PutRequest { lease, ..put("a1") };
    assert_eq!(refused(one.call(alice.put(attach))), AuthError::PermissionDenied);
    let grant = LeaseGrantRequest { ttl: 60, id: 8 };
    assert_eq!(refused(one.call(nobody.lease_grant(grant))), AuthError::UserEmpty);
    one.call(bob.lease_grant(grant)).unwrap();
    assert_eq!(refused(one.call(nobody.member_list(true))), AuthError::UserEmpty);
    assert_eq!(
        refused(one.call(nobody.alarm(AlarmRequest::default()))),
        AuthError::UserEmpty
    );
    one.call(bob.alarm(AlarmRequest::default())).unwrap();
    let raise = AlarmRequest {
        action: 1,
        alarm: 1,
        member_id: 1,
    };
    assert_eq!(refused(one.call(alice.alarm(raise))), AuthError::PermissionDenied);
    assert_eq!(refused(one.call(alice.hash_kv(0))), AuthError::PermissionDenied);
    assert!(refused(one.call(alice.export()).map(drop)) == AuthError::PermissionDenied);
    let compact = CompactionRequest {
        revision: 2,
        physical: false,
    };
    assert_eq!(
        refused(one.call(alice.compact(compact))),
        AuthError::PermissionDenied
    );
    one.call(user(&one, "root").compact(compact)).unwrap();
    let itself = AuthUserGetRequest {
        name: "alice".to_owned(),
    };
    assert_eq!(one.call(alice.user_get(itself.clone())).unwrap().roles, ["some"]);
    assert_eq!(
        refused(one.call(bob.user_get(itself))),
        AuthError::PermissionDenied
    );
    assert!(
        one.call(nobody.auth_status(AuthStatusRequest {}))
            .unwrap()
            .enabled
    );
}

/// What comes without a user is not even written to the log.
#[test]
fn nobody_fills_no_log() {
    let mut one = guarded();
    let nobody = one.store().acting_as(Caller::Nobody);
    let before = one.member.shared.state.read().applied();
    for _ in 0..100 {
        assert_eq!(refused(one.call(nobody.put(put("a")))), AuthError::UserEmpty);
    }
    assert_eq!(one.member.shared.state.read().applied(), before);
    one.call(one.store().auth_disable(AuthDisableRequest {})).unwrap();
    one.call(nobody.put(put("a"))).unwrap();
}

#[test]
fn an_old_revision_is_found_out_where_keys_are_judged() {
    let mut one = guarded();
    let revision = state(&one).revision();
    let token = |revision| Caller::User {
        name: "alice".into(),
        revision,
    };
    let old = one.store().acting_as(token(revision - 1));
    let newer = one.store().acting_as(token(revision + 1));
    one.call(one.store().acting_as(token(revision)).range(get("a", "")))
        .unwrap();
    assert_eq!(
        refused(one.call(old.range(get("a", "")))),
        AuthError::AuthOldRevision
    );
    // A member that lags behind the token must not answer by what it knows.
    assert_eq!(
        refused(one.call(newer.range(get("a", "")))),
        AuthError::AuthOldRevision
    );
    assert_eq!(refused(one.call(old.put(put("a")))), AuthError::AuthOldRevision);
    assert_eq!(
        refused(one.call(old.txn(TxnRequest::default()))),
        AuthError::AuthOldRevision
    );
    one.call(old.lease_grant(LeaseGrantRequest { ttl: 60, id: 9 }))
        .unwrap();
}

#[test]
fn a_watch_is_judged_at_its_creation_and_the_stream_goes_on() {
    let mut one = guarded();
    let alice = user(&one, "alice");
    let (requests, mut responses) = one.call(alice.watch()).unwrap();
    let create = |key: &'static str, range_end: &'static str| WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..WatchCreateRequest::default()
    };
    one.call(requests.create(create("a", "\0"))).unwrap();
    let refusal = one.call(responses.recv()).unwrap();
    assert!(refusal.created && refusal.canceled && refusal.watch_id == -1);
    assert_eq!(
        refusal.cancel_reason,
        "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    );
    one.call(requests.create_as(Caller::Nobody, create("a", "")))
        .unwrap();
    assert_eq!(
        one.call(responses.recv()).unwrap().cancel_reason,
        "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
    );
    one.call(requests.refuse("a token".to_owned())).unwrap();
    assert_eq!(one.call(responses.recv()).unwrap().cancel_reason, "a token");
    let before_time = WatchCreateRequest {
        start_revision: -1,
        ..create("z", "")
    };
    one.call(requests.create(before_time)).unwrap();
    assert_eq!(
        one.call(responses.recv()).unwrap().cancel_reason,
        "etcdserver: mvcc: required revision has been compacted"
    );
    // One key only: what comes behind it is not shown.
    one.call(requests.create(create("a", ""))).unwrap();
    assert!(one.call(responses.recv()).unwrap().created);
    for key in ["a1", "b", "a"] {
        one.call(one.store().put(put(key))).unwrap();
    }
    let heard = one.call(responses.recv()).unwrap();
    let keys: Vec<_> = heard
        .events
        .iter()
        .map(|event| event.kv.clone().unwrap().key)
        .collect();
    assert_eq!(keys, ["a"]);
}

#[test]
fn users_outlast_a_restart_from_log_working_copy_and_snapshot() {
    let one = guarded();
    let before = state(&one);
    assert!(before.enabled() && before.users().len() == 3);
    // From the log alone.
    let mut one = one.crash(1).unwrap();
    one.pass(Duration::from_secs(1));
    assert_eq!(state(&one), before);
    // From the working copy: enough time for checkpoints.
    one.grow(0..20, 64);
    one.pass(Duration::from_secs(30));
    let delete = AuthUserDeleteRequest {
        name: "bob".to_owned(),
    };
    one.call(one.store().user_delete(delete)).unwrap();
    one.pass(Duration::from_secs(30));
    let before = state(&one);
    assert_eq!(before.users().collect::<Vec<_>>(), ["alice", "root"]);
    one.member.step(crate::shell::sim::Step::Flush);
    let one = one.crash(2).unwrap();
    assert_eq!(
        state(&one),
        before,
        "the working copy is behind the log by nothing but entries to be applied again"
    );
    assert!(one.store().auth_enabled() && one.store().auth_view() == before);
    // From a snapshot file.
    let mut one = one;
    one.pass(Duration::from_secs(1));
    let index = one.snapshot();
    let dir = &one.member.place.folders.snap;
    let mut reader = crate::wal::snapshot::SnapshotReader::open(&one.disk, dir, index).unwrap();
    let read = crate::shell::recovery::state_of(&mut reader).unwrap();
    assert_eq!(read.auth, before);
}

#[test]
fn who_keeps_tokens_hears_of_logins_and_of_users_that_change() {
    let mut one = guarded();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    one.store()
        .listen_auth(move |event| ear.lock().push(event.clone()));
    let done = one
        .call(one.store().acting_as(Caller::Nobody).authenticate("alice", "abc"))
        .unwrap();
    assert_eq!(done.revision, state(&one).revision());
    assert!(one.call(one.store().await_applied(done.index)).unwrap());
    assert!(
        !one.call(one.store().await_applied(done.index + 1000)).unwrap(),
        "made up"
    );
    assert_eq!(
        refused(one.call(one.store().authenticate("ghost", "abc"))),
        AuthError::AuthFailed
    );
    let delete = AuthUserDeleteRequest {
        name: "alice".to_owned(),
    };
    one.call(one.store().user_delete(delete)).unwrap();
    one.call(one.store().auth_disable(AuthDisableRequest {})).unwrap();
    assert_eq!(
        *heard.lock(),
        [
            AuthEvent::Authenticated {
                name: "alice".to_owned(),
                simple_token: "abc".to_owned(),
                index: done.index,
            },
            AuthEvent::UserChanged("alice".to_owned()),
            AuthEvent::Disabled,
        ]
    );
    assert_eq!(
        refused(one.call(one.store().authenticate("bob", "abc"))),
        AuthError::AuthNotEnabled
    );
}

#[test]
fn the_view_follows_and_no_password_gets_in() {
    let mut one = One::new();
    let store = one.store();
    assert!(!store.auth_enabled() && store.auth_view().user("root").is_none());
    let mut view = store.follow_auth();
    let mut add = AuthUserAddRequest {
        name: "root".to_owned(),
        hashed_password: "aGFzaA==".to_owned(),
        ..AuthUserAddRequest::default()
    };
    one.call(store.user_add(add.clone())).unwrap();
    assert!(view.has_changed().unwrap());
    let seen = view.borrow_and_update().clone();
    assert_eq!(seen.user("root").unwrap().hash(), b"hash");
    assert!(!format!("{seen:?}").contains("hash"), "{seen:?}");
    add.password = "clear".to_owned();
    assert_eq!(refused(one.call(store.user_add(add))), AuthError::PasswordInClear);
}

/// While auth is off the log does not grow by names.
#[test]
fn entries_name_their_user_only_while_auth_is_on() {
    let named = |one: &mut One| {
        let alice = user(one, "alice");
        one.call(alice.put(put("a"))).unwrap();
        let applied = one.member.shared.state.read().applied();
        let entry = one.member.log_from(applied).remove(0);
        entry.data.windows(5).any(|bytes| bytes == b"alice")
    };
    let mut one = guarded();
    assert!(named(&mut one));
    one.call(one.store().auth_disable(AuthDisableRequest {})).unwrap();
    assert!(!named(&mut one));
}
