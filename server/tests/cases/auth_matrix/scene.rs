//! The server that the calls go to, with the users of the table, their tokens, and connections for those who are known
//! by a certificate.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use proto::authpb::permission::Type;
use proto::etcdserverpb::{LeaseGrantRequest, PutRequest, WatchResponse};
use proto::v3electionpb::CampaignRequest;
use proto::v3electionpb::election_client::ElectionClient;
use tonic::Code;

use crate::auth_matrix::caller::{CALLERS, Caller};
use crate::auth_matrix::table::{ELECTION, LEASE, LEASED, OWN_PEER_URL, PREFIX, Row};
use crate::harness::tls::Authority;
use crate::harness::*;

/// A refusal, or none.
pub(crate) type Got = Option<(Code, String)>;

pub(crate) struct Scene {
    secured: Secured,
    root: Client,
    /// Those of users who are known by a token.
    tokens: BTreeMap<&'static str, String>,
    outdated: BTreeMap<&'static str, String>,
    /// By the user's name.
    by_certificate: BTreeMap<&'static str, Client>,
    pool: DescriptorPool,
}

const USERS: [&str; 5] = ["root", "reader", "writer", "owner", "other"];

impl Scene {
    pub(crate) async fn start() -> Scene {
        let own = |authority: &Authority| authority.issue_nameless("server", 1, &["localhost"]);
        let mut secured = Secured::prepared(own, &[CHEAP_HASHES, "--client-cert-auth"]);
        let secret = secured.authority.file("hmac.key");
        std::fs::write(&secret, "known to the members of this cluster only").expect("a file");
        for flag in [
            format!(
                "--auth-token=jwt,sign-method=HS256,priv-key={},ttl=1h",
                secret.display()
            ),
            format!("--initial-advertise-peer-urls={OWN_PEER_URL}"),
            format!("--initial-cluster=default={OWN_PEER_URL}"),
        ] {
            secured.server.add_flag(&flag);
        }
        secured.server.run();

        let client = secured.server.client().await;
        client.add_user_with("reader", Type::Read, PREFIX).await;
        client.add_user_with("writer", Type::Write, PREFIX).await;
        client.add_user_with("owner", Type::Readwrite, PREFIX).await;
        client.add_user_with("other", Type::Readwrite, "o/").await;
        let root = client.enable_auth().await;
        let mut outdated = BTreeMap::new();
        for user in ["owner", "root"] {
            outdated.insert(user, root.login(user).await);
        }
        // Outdates them.
        root.add_role("latest").await;

        let mut by_certificate = BTreeMap::new();
        for (serial, user) in (2..).zip(["reader", "stranger"]) {
            let pair = secured.authority.issue_to(user, serial, &[]);
            let client = secured.client(&pair).await;
            by_certificate.insert(user, client);
        }
        let mut scene = Scene {
            secured,
            root,
            tokens: BTreeMap::new(),
            outdated,
            by_certificate,
            pool: descriptors(),
        };
        scene.log_in().await;
        scene.set().await;
        scene
    }

    async fn log_in(&mut self) {
        for user in USERS {
            let token = self.root.login(user).await;
            self.tokens.insert(user, token);
        }
        self.root = self.root.with_token(&self.tokens["root"]);
    }

    /// Puts what the requests of the table ask for.
    async fn set(&self) {
        self.root.put("m/a", "1").await;
        // Of a lease that is there already it is known.
        let grant = LeaseGrantRequest { ttl: 600, id: LEASE };
        let _known = self.root.lease.clone().lease_grant(grant).await;
        self.root
            .put_with(PutRequest {
                lease: LEASE,
                ..put(LEASED, "1")
            })
            .await;
        let campaign = CampaignRequest {
            name: bytes(ELECTION),
            lease: LEASE,
            value: bytes("leader"),
        };
        ElectionClient::new(self.root.carrier())
            .campaign(campaign)
            .await
            .expect("nobody else is a candidate");
    }

    /// Undoes what a row has done.
    pub(crate) async fn restore(&mut self, row: &Row, has_succeeded: bool) {
        if !row.changes || !has_succeeded {
            return;
        }
        if !self
            .root
            .auth_status()
            .await
            .expect("the status is open to all")
            .enabled
        {
            self.root.try_enable_auth().await.expect("root is still there");
            self.log_in().await;
        }
        self.set().await;
    }

    /// What comes back over gRPC. A watch is refused by the reason for which it is cancelled.
    pub(crate) async fn call(&self, row: &Row, caller: Caller) -> Got {
        let carrier = match self.token(caller) {
            Some(token) => self.root.with_token(token).carrier(),
            None if caller.is_known_by_certificate() => {
                self.by_certificate[caller.name().expect("a certificate names a user")].carrier()
            }
            None => self.secured.server.client().await.carrier(),
        };
        match raw_call(carrier, &row.path(), row.message.clone(), row.is_stream).await {
            Ok(answer) if row.method == "Watch/Watch" => {
                let answer = WatchResponse::decode(answer).expect("an answer of the watch");
                answer.canceled.then(|| from_go(&answer.cancel_reason))
            }
            // Every answer that is one has a header or a field of its own.
            Ok(answer) if answer.is_empty() && row.method == "Election/Observe" => {
                Some((Code::Ok, String::new()))
            }
            Ok(_) => None,
            Err(status) => Some((status.code(), status.message().to_owned())),
        }
    }

    /// The same over the gateway.
    pub(crate) fn post(&self, row: &Row, caller: Caller) -> Got {
        let token = self.token(caller).unwrap_or_default();
        let headers = [("Authorization", token)];
        let headers = if token.is_empty() {
            &headers[..0]
        } else {
            &headers[..]
        };
        let path = format!("/v3{}", row.route);
        let body = self.json(row);
        let mut answer = Exchange::send(
            self.secured.server.client_address(),
            "POST",
            &path,
            headers,
            &body,
        );
        let Some(line) = answer.line() else {
            return Some((Code::Ok, String::new()));
        };
        let answer: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let (result, error) = (&answer["result"], &answer["error"]);
        if result["canceled"] == true {
            return Some(from_go(result["cancel_reason"].as_str().unwrap_or_default()));
        }
        let error = if error.is_object() { error } else { &answer };
        let code = error["code"].as_i64()?;
        let text = error["message"].as_str().unwrap_or_default();
        let code = i32::try_from(code).expect("a code of gRPC");
        Some((Code::from_i32(code), text.to_owned()))
    }

    fn token(&self, caller: Caller) -> Option<&str> {
        match caller {
            Caller::Junk => Some("junk"),
            _ if caller.is_known_by_certificate() => None,
            Caller::OutdatedOwner | Caller::OutdatedRoot => Some(&self.outdated[caller.name()?]),
            _ => Some(&self.tokens[caller.name()?]),
        }
    }

    fn json(&self, row: &Row) -> String {
        let path = row.path();
        let (service, method) = path[1..].split_once('/').expect("a service and a method");
        let service = self.pool.get_service_by_name(service).expect("a service");
        let method = service
            .methods()
            .find(|known| known.name() == method)
            .expect("a method");
        let message = DynamicMessage::decode(method.input(), row.message.clone()).expect("a request");
        serde_json::to_string(&message).expect("a message has a form in JSON")
    }
}

pub(crate) fn descriptors() -> DescriptorPool {
    DescriptorPool::decode(Bytes::from_static(proto::FILE_DESCRIPTOR_SET)).expect("descriptors")
}

/// The code and the text of an error as Go shows it.
fn from_go(reason: &str) -> (Code, String) {
    let told = reason
        .strip_prefix("rpc error: code = ")
        .and_then(|rest| rest.split_once(" desc = "));
    let (code, text) = told.unwrap_or(("", reason));
    let code = match code {
        "PermissionDenied" => Code::PermissionDenied,
        "Unauthenticated" => Code::Unauthenticated,
        "InvalidArgument" => Code::InvalidArgument,
        _ => Code::Unknown,
    };
    (code, text.to_owned())
}

/// Every caller who needs a token has one.
#[test]
fn callers_are_users_of_the_scene() {
    for caller in CALLERS.into_iter().filter(|caller| *caller != Caller::Stranger) {
        assert!(caller.name().is_none_or(|name| USERS.contains(&name)), "{caller}");
    }
}
