//! What a message is about: its keys, or the names and numbers of what it concerns. Nothing else is taken from it: no
//! value, no password, no hash, no token.

use std::any::Any;

use proto::etcdserverpb::{self as pb, request_op::Request as Op};
use proto::{v3electionpb, v3lockpb};
use serde::Serialize;

/// What a call is about, of bounded size.
#[derive(Default, Serialize)]
pub(super) struct About {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) keys: Vec<Keys>,
    /// So many ranges are left out.
    #[serde(skip_serializing_if = "is_zero")]
    more: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// The first key as it is, for whoever counts prefixes.
    #[serde(skip)]
    first: Option<Vec<u8>>,
}

/// One key or range, and what is done to it.
#[derive(Serialize)]
pub(super) struct Keys {
    op: &'static str,
    key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    range_end: String,
}

impl About {
    /// The first key that is named.
    pub(super) fn first_key(&self) -> Option<&[u8]> {
        self.first.as_deref()
    }

    fn range(&mut self, op: &'static str, key: &[u8], range_end: &[u8]) {
        if self.first.is_none() {
            let start = key.get(..KEY_BYTES_MAX).unwrap_or(key);
            self.first = Some(start.to_vec());
        }
        if self.keys.len() >= KEYS_MAX {
            self.more += 1;
            return;
        }
        self.keys.push(Keys {
            op,
            key: limited(key),
            range_end: limited(range_end),
        });
    }

    fn txn(&mut self, txn: &pb::TxnRequest) {
        for compare in &txn.compare {
            self.range("compare", &compare.key, &compare.range_end);
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Op::RequestRange(range)) => self.range("range", &range.key, &range.range_end),
                Some(Op::RequestPut(put)) => self.range("put", &put.key, b""),
                Some(Op::RequestDeleteRange(delete)) => self.range("delete", &delete.key, &delete.range_end),
                // A message nests no deeper than its decoder lets it.
                Some(Op::RequestTxn(txn)) => self.txn(txn),
                None => {}
            }
        }
    }
}

macro_rules! subjects {
    ($message:ident: $($type:ty => |$m:ident| $text:expr,)+) => {
        $(if let Some($m) = $message.downcast_ref::<$type>() {
            return Some($text);
        })+
    };
}

/// What `message` is about.
pub(super) fn of(message: &dyn Any) -> About {
    let mut about = About::default();
    if let Some(range) = message.downcast_ref::<pb::RangeRequest>() {
        about.range("range", &range.key, &range.range_end);
    } else if let Some(put) = message.downcast_ref::<pb::PutRequest>() {
        about.range("put", &put.key, b"");
        about.subject = (put.lease != 0).then(|| format!("lease {:x}", put.lease));
    } else if let Some(txn) = message.downcast_ref::<pb::TxnRequest>() {
        about.txn(txn);
    } else if let Some(delete) = message.downcast_ref::<pb::DeleteRangeRequest>() {
        about.range("delete", &delete.key, &delete.range_end);
    } else if let Some(watch) = message.downcast_ref::<pb::WatchCreateRequest>() {
        about.range("watch", &watch.key, &watch.range_end);
    } else if let Some(grant) = message.downcast_ref::<pb::AuthRoleGrantPermissionRequest>() {
        let permission = grant.perm.clone().unwrap_or_default();
        about.range("grant", &permission.key, &permission.range_end);
        about.subject = Some(format!("role {}", limited_text(&grant.name)));
    } else if let Some(revoke) = message.downcast_ref::<pb::AuthRoleRevokePermissionRequest>() {
        about.range("revoke", &revoke.key, &revoke.range_end);
        about.subject = Some(format!("role {}", limited_text(&revoke.role)));
    } else if let Some(lock) = message.downcast_ref::<v3lockpb::LockRequest>() {
        about.range("lock", &lock.name, b"");
    } else if let Some(unlock) = message.downcast_ref::<v3lockpb::UnlockRequest>() {
        about.range("unlock", &unlock.key, b"");
    } else if let Some(campaign) = message.downcast_ref::<v3electionpb::CampaignRequest>() {
        about.range("campaign", &campaign.name, b"");
    } else if let Some(leader) = message.downcast_ref::<v3electionpb::LeaderRequest>() {
        about.range("leader", &leader.name, b"");
    } else {
        about.subject = subject(message);
    }
    about
}

/// The name or number of what a message concerns that names no key.
fn subject(message: &dyn Any) -> Option<String> {
    subjects! { message:
        pb::CompactionRequest => |m| format!("revision {}", m.revision),
        pb::LeaseGrantRequest => |m| format!("lease {:x}", m.id),
        pb::LeaseRevokeRequest => |m| format!("lease {:x}", m.id),
        pb::LeaseTimeToLiveRequest => |m| format!("lease {:x}", m.id),
        pb::MemberAddRequest => |m| format!("member at {}", limited_text(&m.peer_urls.join(","))),
        pb::MemberRemoveRequest => |m| format!("member {:x}", m.id),
        pb::MemberUpdateRequest => |m| format!("member {:x}", m.id),
        pb::MemberPromoteRequest => |m| format!("member {:x}", m.id),
        pb::MoveLeaderRequest => |m| format!("member {:x}", m.target_id),
        pb::AlarmRequest => |m| format!("alarm {} action {} member {:x}", m.alarm, m.action, m.member_id),
        pb::DowngradeRequest => |m| format!("version {}", limited_text(&m.version)),
        pb::AuthenticateRequest => |m| user(&m.name),
        pb::AuthUserAddRequest => |m| user(&m.name),
        pb::AuthUserGetRequest => |m| user(&m.name),
        pb::AuthUserDeleteRequest => |m| user(&m.name),
        pb::AuthUserChangePasswordRequest => |m| user(&m.name),
        pb::AuthUserGrantRoleRequest => |m| format!("{} role {}", user(&m.user), limited_text(&m.role)),
        pb::AuthUserRevokeRoleRequest => |m| format!("{} role {}", user(&m.name), limited_text(&m.role)),
        pb::AuthRoleAddRequest => |m| format!("role {}", limited_text(&m.name)),
        pb::AuthRoleGetRequest => |m| format!("role {}", limited_text(&m.role)),
        pb::AuthRoleDeleteRequest => |m| format!("role {}", limited_text(&m.role)),
    }
    None
}

fn user(name: &str) -> String {
    format!("user {}", limited_text(name))
}

/// A key as text, in the escapes of etcd's log, not longer than it may be.
fn limited(key: &[u8]) -> String {
    match key.get(..KEY_BYTES_MAX) {
        Some(start) if start.len() < key.len() => format!("{}...", start.escape_ascii()),
        _ => key.escape_ascii().to_string(),
    }
}

/// A name, not longer than it may be.
pub(super) fn limited_text(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Ranges of one call that are named.
const KEYS_MAX: usize = 16;
/// The longest start of a key that is named.
const KEY_BYTES_MAX: usize = 256;
/// The longest name.
const TEXT_CHARS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn json(message: &dyn Any) -> String {
        serde_json::to_string(&of(message)).unwrap()
    }

    #[test]
    fn keys_are_named_and_values_are_not() {
        let put = pb::PutRequest {
            key: b"a\xff\"".to_vec().into(),
            value: "secret".into(),
            lease: 255,
            ..pb::PutRequest::default()
        };
        assert_eq!(
            json(&put),
            r#"{"keys":[{"op":"put","key":"a\\xff\\\""}],"subject":"lease ff"}"#
        );
        let authenticate = pb::AuthenticateRequest {
            name: "root".into(),
            password: "secret".into(),
        };
        assert_eq!(json(&authenticate), r#"{"subject":"user root"}"#);
        let add = pb::AuthUserAddRequest {
            name: "a".into(),
            password: "secret".into(),
            hashed_password: "secret".into(),
            ..pb::AuthUserAddRequest::default()
        };
        assert_eq!(json(&add), r#"{"subject":"user a"}"#);
    }

    #[test]
    fn a_call_has_so_much_room() {
        let put = pb::PutRequest {
            key: vec![b'k'; 5000].into(),
            ..pb::PutRequest::default()
        };
        let op = pb::RequestOp {
            request: Some(Op::RequestPut(put)),
        };
        let txn = pb::TxnRequest {
            success: vec![op; 100],
            ..pb::TxnRequest::default()
        };
        let about = of(&txn);
        assert_eq!((about.keys.len(), about.more), (KEYS_MAX, 100 - KEYS_MAX));
        assert_eq!(about.keys[0].key.len(), KEY_BYTES_MAX + 3);
        assert_eq!(about.first_key().map(<[u8]>::len), Some(KEY_BYTES_MAX));
    }
}
