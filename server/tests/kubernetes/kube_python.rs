//! A session of the Python client for Kubernetes with `taffrail --apiserver-listen` (`python/session.py`).

use std::path::Path;
use std::process::Command;

use crate::harness::*;

#[tokio::test]
async fn a_session_of_the_python_client() {
    let Some(python) = needs_python_client("kubernetes_clients::kube_python::a_session_of_the_python_client")
    else {
        return;
    };
    let kubernetes = Kubernetes::start().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/python/session.py");
    let session = Command::new(python)
        .arg(script)
        .args([kubernetes.url(), kubernetes.server.endpoint()])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python can be run");
    let (told, errors) = (
        String::from_utf8_lossy(&session.stdout),
        String::from_utf8_lossy(&session.stderr),
    );
    assert!(session.status.success(), "{told}\n{errors}");
    // A session that ends early has not seen what it is to see.
    assert_eq!(told.lines().last(), Some("done 17"), "{told}\n{errors}");
}
