//! Every RPC by every kind of caller, with auth on: what `auth_matrix/table.rs` says that an RPC needs, and
//! `auth_matrix/caller.rs` that a caller has, decides what must come back, over gRPC and through the gateway. The same
//! table makes `docs/auth-matrix.md` (`REGENERATE=1` writes it).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod caller;
mod page;
mod scene;
mod services;
mod table;

use caller::{CALLERS, Caller};
use scene::Scene;
use table::{Row, rows};

#[tokio::test]
async fn every_call_by_every_caller() {
    let mut scene = Scene::start().await;
    let mut complaints = Vec::new();
    for row in rows() {
        for caller in CALLERS {
            let got = scene.call(&row, caller).await;
            complaints.extend(complaint(&row, caller, "gRPC", &got));
            scene.restore(&row, got.is_none()).await;
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// The gateway passes on who calls, and nothing of its own.
#[tokio::test]
async fn every_call_through_the_gateway() {
    let mut scene = Scene::start().await;
    let mut complaints = Vec::new();
    for row in rows().into_iter().filter(|row| !row.route.is_empty()) {
        for caller in CALLERS
            .into_iter()
            .filter(|caller| !caller.is_known_by_certificate())
        {
            let got = scene.post(&row, caller);
            complaints.extend(complaint(&row, caller, "gateway", &got));
            scene.restore(&row, got.is_none()).await;
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn the_table_has_every_method_of_every_service() {
    let told: Vec<String> = rows().iter().map(Row::path).collect();
    let pool = scene::descriptors();
    let mut methods = 0;
    for service in pool.services() {
        for method in service.methods() {
            // One method of the health check is all that matters here.
            if service.name() == "Health" && method.name() != "Check" {
                continue;
            }
            methods += 1;
            let path = format!("/{}/{}", service.full_name(), method.name());
            assert!(told.contains(&path), "{path} is not in the table");
        }
    }
    assert!(methods > 40, "{methods} methods");
}

#[test]
fn the_page_is_that_of_the_table() {
    page::check();
}

/// What must come back, and did not.
fn complaint(row: &Row, caller: Caller, over: &str, got: &Option<(tonic::Code, String)>) -> Option<String> {
    let expected = match caller.refusal(row.needs) {
        Some(refusal) => Some(row.shown(refusal)),
        None => row.granted,
    };
    let alike = match (got, expected) {
        (None, None) => true,
        (Some((code, text)), Some((expected_code, expected_text))) => {
            *code == expected_code && text == expected_text
        }
        _ => false,
    };
    (!alike).then(|| {
        format!(
            "{over}: {} {} by {}: expected {expected:?}, got {got:?}",
            row.method, row.note, caller
        )
    })
}
