//! The revision that an answer's header tells.

use std::any::Any;

use proto::etcdserverpb as pb;
use proto::{v3electionpb, v3lockpb};

macro_rules! revisions {
    ($answer:ident: $($type:ty),+ $(,)?) => {
        $(if let Some(answer) = $answer.downcast_ref::<$type>() {
            return answer.header.as_ref().map(|header| header.revision);
        })+
    };
}

/// It, where the answer has one; those that are asked for most come first.
pub(super) fn revision_of(answer: &dyn Any) -> Option<i64> {
    revisions! { answer:
        pb::RangeResponse,
        pb::TxnResponse,
        pb::PutResponse,
        pb::DeleteRangeResponse,
        pb::LeaseGrantResponse,
        pb::LeaseRevokeResponse,
        pb::LeaseTimeToLiveResponse,
        pb::LeaseLeasesResponse,
        pb::CompactionResponse,
        pb::AuthenticateResponse,
        pb::AuthEnableResponse,
        pb::AuthDisableResponse,
        pb::AuthStatusResponse,
        pb::AuthUserAddResponse,
        pb::AuthUserGetResponse,
        pb::AuthUserListResponse,
        pb::AuthUserDeleteResponse,
        pb::AuthUserChangePasswordResponse,
        pb::AuthUserGrantRoleResponse,
        pb::AuthUserRevokeRoleResponse,
        pb::AuthRoleAddResponse,
        pb::AuthRoleGetResponse,
        pb::AuthRoleListResponse,
        pb::AuthRoleDeleteResponse,
        pb::AuthRoleGrantPermissionResponse,
        pb::AuthRoleRevokePermissionResponse,
        pb::AlarmResponse,
        pb::StatusResponse,
        pb::HashKvResponse,
        v3lockpb::LockResponse,
        v3lockpb::UnlockResponse,
        v3electionpb::CampaignResponse,
        v3electionpb::ProclaimResponse,
        v3electionpb::LeaderResponse,
        v3electionpb::ResignResponse,
    }
    None
}
