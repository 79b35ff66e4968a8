//! The service Auth. Passwords become hashes before anything is proposed.

use std::net::IpAddr;
use std::sync::Arc;

use http::Request;
use proto::etcdserverpb::{AuthUserAddRequest, AuthUserChangePasswordRequest};
use store::Store;

use super::meter::RequestBody;
use super::rpc::Rpc;
use super::{Answering, answer, status, unary};
use crate::core::Core;
use crate::listen::PeerIdentity;

pub(super) fn serve<'a>(
    core: &'a Arc<Core>,
    store: &'a Store,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Answering<'a> {
    let address = address(&request);
    match rpc {
        Rpc::AuthEnable => unary(core, request, move |q| async move {
            answer(store.auth_enable(q).await)
        }),
        Rpc::AuthDisable => unary(core, request, move |q| async move {
            answer(store.auth_disable(q).await)
        }),
        Rpc::AuthStatus => unary(core, request, move |q| async move {
            answer(store.auth_status(q).await)
        }),
        Rpc::Authenticate => unary(core, request, move |q| async move {
            let token = core.auth.log_in(&core.store, address, q).await;
            token
                .map(tonic::Response::new)
                .map_err(|error| status::of_login(&error))
        }),
        Rpc::UserAdd => unary(core, request, move |mut q: AuthUserAddRequest| async move {
            let hashed = core.auth.hash_new(store, address, &mut q).await;
            hashed.map_err(|error| status::of_login(&error))?;
            answer(store.user_add(q).await)
        }),
        Rpc::UserChangePassword => unary(
            core,
            request,
            move |mut q: AuthUserChangePasswordRequest| async move {
                let hashed = core.auth.hash_next(store, address, &mut q).await;
                hashed.map_err(|error| status::of_login(&error))?;
                answer(store.user_change_password(q).await)
            },
        ),
        Rpc::UserGet | Rpc::UserList | Rpc::UserDelete | Rpc::UserGrantRole | Rpc::UserRevokeRole => {
            users(core, store, rpc, request)
        }
        _ => roles(core, store, rpc, request),
    }
}

fn users<'a>(
    core: &'a Arc<Core>,
    store: &'a Store,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Answering<'a> {
    match rpc {
        Rpc::UserGet => unary(
            core,
            request,
            move |q| async move { answer(store.user_get(q).await) },
        ),
        Rpc::UserList => unary(
            core,
            request,
            move |q| async move { answer(store.user_list(q).await) },
        ),
        Rpc::UserDelete => unary(core, request, move |q| async move {
            answer(store.user_delete(q).await)
        }),
        Rpc::UserGrantRole => unary(core, request, move |q| async move {
            answer(store.user_grant_role(q).await)
        }),
        Rpc::UserRevokeRole => unary(core, request, move |q| async move {
            answer(store.user_revoke_role(q).await)
        }),
        other => unreachable!("{other:?} is not about users"),
    }
}

fn roles<'a>(
    core: &'a Arc<Core>,
    store: &'a Store,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Answering<'a> {
    match rpc {
        Rpc::RoleAdd => unary(
            core,
            request,
            move |q| async move { answer(store.role_add(q).await) },
        ),
        Rpc::RoleGet => unary(
            core,
            request,
            move |q| async move { answer(store.role_get(q).await) },
        ),
        Rpc::RoleList => unary(
            core,
            request,
            move |q| async move { answer(store.role_list(q).await) },
        ),
        Rpc::RoleDelete => unary(core, request, move |q| async move {
            answer(store.role_delete(q).await)
        }),
        Rpc::RoleGrantPermission => unary(core, request, move |q| async move {
            answer(store.role_grant_permission(q).await)
        }),
        Rpc::RoleRevokePermission => unary(core, request, move |q| async move {
            answer(store.role_revoke_permission(q).await)
        }),
        other => unreachable!("{other:?} is not about roles"),
    }
}

/// Where a call comes from, as far as there is an address.
fn address(request: &Request<RequestBody>) -> Option<IpAddr> {
    request.extensions().get::<Arc<PeerIdentity>>()?.address.ip()
}
