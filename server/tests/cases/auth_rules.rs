//! Users, roles and permissions as the compatibility reference has them: each refusal, the rules about root, what moves
//! the auth revision, and that all of it outlives the process.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::harness::*;
use bytes::Bytes;
use proto::authpb::permission::Type;
use proto::authpb::{Permission, UserAddOptions};
use proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGrantPermissionRequest,
    AuthRoleListRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserGetRequest, AuthUserListRequest,
};
use tonic::{Code, Status};

/// Short forms for what only these tests ask.
trait Managing {
    async fn roles_of(&self, user: &str) -> Result<Vec<String>, Status>;
    async fn users(&self) -> Vec<String>;
    async fn roles(&self) -> Vec<String>;
    async fn try_add_role(&self, role: &str) -> Result<(), Status>;
    async fn delete_role(&self, role: &str) -> Result<(), Status>;
    async fn permissions(&self, role: &str) -> Result<Vec<String>, Status>;
    async fn forbid(&self, role: &str, key: &str, range_end: &str) -> Result<(), Status>;
    async fn revision_of_auth(&self) -> u64;
}

impl Managing for Client {
    async fn roles_of(&self, user: &str) -> Result<Vec<String>, Status> {
        let request = AuthUserGetRequest {
            name: user.to_owned(),
        };
        let answer = self.auth.clone().user_get(request).await?;
        Ok(answer.into_inner().roles)
    }

    async fn users(&self) -> Vec<String> {
        let answer = self.auth.clone().user_list(AuthUserListRequest {}).await;
        answer.unwrap().into_inner().users
    }

    async fn roles(&self) -> Vec<String> {
        let answer = self.auth.clone().role_list(AuthRoleListRequest {}).await;
        answer.unwrap().into_inner().roles
    }

    async fn try_add_role(&self, role: &str) -> Result<(), Status> {
        let request = AuthRoleAddRequest {
            name: role.to_owned(),
        };
        self.auth.clone().role_add(request).await.map(|_| ())
    }

    async fn delete_role(&self, role: &str) -> Result<(), Status> {
        let request = AuthRoleDeleteRequest {
            role: role.to_owned(),
        };
        self.auth.clone().role_delete(request).await.map(|_| ())
    }

    /// As `key..range_end TYPE`, sorted: those of one key have no certain order.
    async fn permissions(&self, role: &str) -> Result<Vec<String>, Status> {
        let request = AuthRoleGetRequest {
            role: role.to_owned(),
        };
        let answer = self.auth.clone().role_get(request).await?;
        let show = |perm: &Permission| {
            let kind = perm.perm_type().as_str_name();
            format!("{}..{} {kind}", text(&perm.key), text(&perm.range_end))
        };
        let mut shown: Vec<String> = answer.into_inner().perm.iter().map(show).collect();
        shown.sort();
        Ok(shown)
    }

    async fn forbid(&self, role: &str, key: &str, range_end: &str) -> Result<(), Status> {
        let request = AuthRoleRevokePermissionRequest {
            role: role.to_owned(),
            key: bytes(key),
            range_end: bytes(range_end),
        };
        self.auth
            .clone()
            .role_revoke_permission(request)
            .await
            .map(|_| ())
    }

    async fn revision_of_auth(&self) -> u64 {
        self.auth_status().await.unwrap().auth_revision
    }
}

#[track_caller]
fn assert_precondition<T: std::fmt::Debug>(result: Result<T, Status>, text: &str) {
    assert_status(result, Code::FailedPrecondition, &format!("etcdserver: {text}"));
}

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(result: Result<T, Status>, text: &str) {
    assert_status(result, Code::InvalidArgument, &format!("etcdserver: {text}"));
}

#[tokio::test]
async fn users_and_their_refusals() {
    let server = Server::start_with(&[CHEAP_HASHES]);
    let client = server.client().await;
    assert_invalid(client.try_add_user("", "secret").await, "user name is empty");
    client.add_user("carol").await;
    client.add_user("alice").await;
    assert_precondition(
        client.try_add_user("alice", "other").await,
        "user name already exists",
    );
    assert_eq!(client.users().await, ["alice", "carol"]);
    assert_precondition(client.roles_of("bob").await, "user name not found");
    assert_precondition(client.delete_user("bob").await, "user name not found");
    let change = AuthUserChangePasswordRequest {
        name: "bob".to_owned(),
        password: "secret".to_owned(),
        ..Default::default()
    };
    assert_precondition(
        client.auth.clone().user_change_password(change).await,
        "user name not found",
    );
    assert_precondition(client.grant_role("bob", "reader").await, "user name not found");
    assert_precondition(client.grant_role("alice", "reader").await, "role name not found");
    assert_precondition(client.revoke_role("bob", "reader").await, "user name not found");
    assert_precondition(
        client.revoke_role("alice", "reader").await,
        "role is not granted to the user",
    );
    for role in ["writer", "reader"] {
        client.add_role(role).await;
        client.grant_role("alice", role).await.unwrap();
    }
    assert_eq!(client.roles_of("alice").await.unwrap(), ["reader", "writer"]);
    // Once more is nothing.
    let before = client.revision_of_auth().await;
    client.grant_role("alice", "reader").await.unwrap();
    assert_eq!(client.revision_of_auth().await, before);
    assert_eq!(client.roles_of("alice").await.unwrap(), ["reader", "writer"]);
    client.revoke_role("alice", "reader").await.unwrap();
    assert_eq!(client.roles_of("alice").await.unwrap(), ["writer"]);
    client.delete_user("carol").await.unwrap();
    assert_eq!(client.users().await, ["alice"]);
}

#[tokio::test]
async fn roles_and_their_refusals() {
    let server = Server::start_with(&[CHEAP_HASHES]);
    let client = server.client().await;
    assert_invalid(client.try_add_role("").await, "role name is empty");
    client.add_role("b").await;
    client.add_role("a").await;
    assert_precondition(client.try_add_role("a").await, "role name already exists");
    assert_eq!(client.roles().await, ["a", "b"]);
    assert_precondition(client.permissions("c").await, "role name not found");
    assert_precondition(client.delete_role("c").await, "role name not found");

    let nothing = AuthRoleGrantPermissionRequest {
        name: "a".to_owned(),
        perm: None,
    };
    assert_invalid(
        client.auth.clone().role_grant_permission(nothing).await,
        "permission not given",
    );
    assert_precondition(
        client.try_permit("c", Type::Read, "k", Bytes::new()).await,
        "role name not found",
    );
    for range_end in ["k", "j", "a"] {
        assert_bad_management(client.try_permit("a", Type::Read, "k", range_end).await);
    }
    client.permit("a", Type::Read, "k", "l").await;
    client.permit("a", Type::Write, "k", Bytes::new()).await;
    client.permit("a", Type::Readwrite, "m", "\0").await;
    client.permit("a", Type::Read, "b", "c").await;
    assert_eq!(
        client.permissions("a").await.unwrap(),
        ["b..c READ", "k.. WRITE", "k..l READ", "m..\0 READWRITE"]
    );
    // The same range again has its type replaced.
    client.permit("a", Type::Readwrite, "k", "l").await;
    assert_eq!(
        client.permissions("a").await.unwrap(),
        ["b..c READ", "k.. WRITE", "k..l READWRITE", "m..\0 READWRITE"]
    );

    assert_precondition(client.forbid("c", "k", "l").await, "role name not found");
    for (key, range_end) in [("k", "m"), ("j", "l"), ("m", ""), ("x", "")] {
        assert_precondition(
            client.forbid("a", key, range_end).await,
            "permission is not granted to the role",
        );
    }
    client.forbid("a", "k", "").await.unwrap();
    client.forbid("a", "m", "\0").await.unwrap();
    assert_eq!(
        client.permissions("a").await.unwrap(),
        ["b..c READ", "k..l READWRITE"]
    );

    // The end of a role is its end for all who hold it.
    for user in ["alice", "bob"] {
        client.add_user(user).await;
        client.grant_role(user, "a").await.unwrap();
    }
    client.grant_role("bob", "b").await.unwrap();
    client.delete_role("a").await.unwrap();
    assert!(client.roles_of("alice").await.unwrap().is_empty());
    assert_eq!(client.roles_of("bob").await.unwrap(), ["b"]);
    assert_eq!(client.roles().await, ["b"]);
}

#[tokio::test]
async fn root_rules() {
    let server = Server::start_with(&[CHEAP_HASHES]);
    let client = server.client().await;
    // A role root need not exist to be granted.
    assert_precondition(client.permissions("root").await, "role name not found");
    let root = client.enable_auth().await;
    assert_precondition(root.permissions("root").await, "role name not found");
    assert!(root.roles().await.is_empty());
    root.add_role("root").await;
    assert_eq!(root.permissions("root").await.unwrap(), ["..\0 READWRITE"]);

    assert_bad_management(root.delete_user("root").await);
    assert_bad_management(root.revoke_role("root", "root").await);
    assert_bad_management(root.delete_role("root").await);
    // Somebody else with the role is an administrator, and may lose it.
    root.add_user("alice").await;
    let alice = root.as_user("alice").await;
    assert_denied(alice.try_range(get("k")).await);
    root.grant_role("alice", "root").await.unwrap();
    alice.put("k", "1").await;
    assert_eq!(alice.users().await, ["alice", "root"]);
    assert_bad_management(alice.delete_user("root").await);
    root.revoke_role("alice", "root").await.unwrap();
    assert_denied(alice.try_range(get("k")).await);

    // With auth off root is a user like others.
    root.try_disable_auth().await.unwrap();
    client.revoke_role("root", "root").await.unwrap();
    assert_precondition(
        client.try_enable_auth().await,
        "root user does not have root role",
    );
    client.delete_role("root").await.unwrap();
    client.delete_user("root").await.unwrap();
    assert_precondition(client.try_enable_auth().await, "root user does not exist");
}

#[tokio::test]
async fn what_moves_the_auth_revision() {
    let server = Server::start_with(&[CHEAP_HASHES]);
    let client = server.client().await;
    let store = client.revision().await;
    let mut expected = 1;
    assert_eq!(client.revision_of_auth().await, expected);
    macro_rules! moves {
        ($call:expr) => {
            $call;
            expected += 1;
            assert_eq!(client.revision_of_auth().await, expected, stringify!($call));
        };
    }
    macro_rules! stays {
        ($call:expr) => {
            $call;
            assert_eq!(client.revision_of_auth().await, expected, stringify!($call));
        };
    }
    moves!(client.add_user("root").await);
    moves!(client.grant_role("root", "root").await.unwrap());
    moves!(client.add_role("r").await);
    moves!(client.permit("r", Type::Read, "k", "l").await);
    moves!(client.permit("r", Type::Write, "k", "l").await);
    moves!(client.permit("r", Type::Write, "k", "l").await);
    moves!(client.forbid("r", "k", "l").await.unwrap());
    moves!(client.add_user("u").await);
    moves!(client.change_password("u", "other").await);
    moves!(client.grant_role("u", "r").await.unwrap());
    stays!(client.grant_role("u", "r").await.unwrap());
    moves!(client.revoke_role("u", "r").await.unwrap());
    stays!(client.revoke_role("u", "r").await.unwrap_err());
    stays!(client.delete_user("nobody").await.unwrap_err());
    moves!(client.delete_user("u").await.unwrap());
    moves!(client.delete_role("r").await.unwrap());
    stays!(client.try_disable_auth().await.unwrap());
    stays!(client.try_enable_auth().await.unwrap());
    let root = client.as_user("root").await;
    stays!(root.try_enable_auth().await.unwrap());
    stays!(root.put("k", "1").await);
    moves!(root.try_disable_auth().await.unwrap());
    // None of it moved the store's revision but the put.
    assert_eq!(client.revision().await, store + 1);
}

#[tokio::test]
async fn logins_and_their_refusals() {
    let server = Server::start_with(&[CHEAP_HASHES]);
    let client = server.client().await;
    client.add_user("alice").await;
    let password = password_of("alice");
    assert_precondition(
        client.try_login("alice", &password).await,
        "authentication is not enabled",
    );
    let keyless = AuthUserAddRequest {
        name: "machine".to_owned(),
        options: Some(UserAddOptions { no_password: true }),
        ..Default::default()
    };
    client.auth.clone().user_add(keyless).await.unwrap();
    let root = client.enable_auth().await;
    let failed = "authentication failed, invalid user ID or password";
    assert_invalid(client.try_login("alice", "wrong").await, failed);
    assert_invalid(client.try_login("alice", "").await, failed);
    assert_invalid(client.try_login("nobody", &password).await, failed);
    assert_invalid(client.try_login("", &password).await, failed);
    assert_invalid(client.try_login("", "").await, failed);
    for password in ["", "something"] {
        assert_status(
            client.try_login("machine", password).await,
            Code::Unknown,
            "auth: authentication failed, password was given for no password user",
        );
    }
    client.login("alice").await;
    root.change_password("alice", "changed").await;
    assert_invalid(client.try_login("alice", &password).await, failed);
    client.try_login("alice", "changed").await.unwrap();
    root.delete_user("alice").await.unwrap();
    assert_invalid(client.try_login("alice", "changed").await, failed);
}

#[tokio::test]
async fn users_outlive_the_process() {
    let (mut server, root) = Server::start_with_auth(&[]).await;
    root.add_user_with("alice", Type::Readwrite, "a/").await;
    root.as_user("alice").await.put("a/1", "1").await;
    let revision = root.revision_of_auth().await;
    for round in 0..2 {
        server.kill();
        server.run();
        let client = server.client().await;
        assert_nobody(client.try_range(get("a/1")).await);
        let status = client.auth_status().await.unwrap();
        assert_eq!(
            (status.enabled, status.auth_revision),
            (true, revision),
            "round {round}"
        );
        // Tokens are gone with the process.
        let alice = client.as_user("alice").await;
        assert_eq!(pairs(&alice.range(get("a/1")).await.kvs), ["a/1=1"]);
        assert_denied(alice.try_range(get("b")).await);
        let root = client.as_user("root").await;
        assert_eq!(root.users().await, ["alice", "root"]);
        assert_eq!(root.permissions("alice").await.unwrap(), ["a/..a0 READWRITE"]);
    }
}

/// What members hold of users is the same on each, also on one that comes by a snapshot of the leader's.
#[tokio::test]
async fn every_member_judges_alike() {
    let mut cluster = Cluster::start_with(
        3,
        &[
            CHEAP_HASHES,
            "--snapshot-count=20",
            "--snapshot-catchup-entries=5",
        ],
    )
    .await;
    let away = cluster.follower().await;
    cluster.kill(away);
    let others = cluster.others(away);
    let root = cluster.client(others[0]).enable_auth().await;
    root.add_user_with("alice", Type::Read, "a/").await;
    for number in 0..60 {
        root.put(&format!("a/{number}"), "1").await;
    }
    cluster.run(away);
    for member in cluster.members() {
        let client = cluster.client(member);
        assert_nobody(client.try_range(get("a/1")).await);
        let alice = client.as_user("alice").await;
        assert_eq!(alice.range(get_prefix("a/")).await.count, 60, "member {member}");
        assert_denied(alice.try_put(put("a/1", "2")).await);
        assert_denied(alice.try_range(get("b")).await);
    }
    // What one member has answered the others know before they answer the next.
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let root = cluster.client(from).as_user("root").await;
        let alice = cluster.client(to).as_user("alice").await;
        alice.range(get("a/1")).await;
        root.revoke_role("alice", "alice").await.unwrap();
        assert_denied(alice.try_range(get("a/1")).await);
        root.grant_role("alice", "alice").await.unwrap();
        alice.range(get("a/1")).await;
    }
}
