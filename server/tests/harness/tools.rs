//! etcd's own tools of the newest version, built from Go's module registry.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::skip::needs;

/// The newest etcdctl, or nothing after a visible line saying that `test` is skipped for want of Go.
pub(crate) fn needs_newest_etcdctl(test: &str) -> Option<PathBuf> {
    static ETCDCTL: OnceLock<PathBuf> = OnceLock::new();
    let go = needs(test, "go")?;
    let build = || build(&go, "tools", "go.etcd.io/etcd/etcdctl/v3", "etcdctl");
    Some(ETCDCTL.get_or_init(build).clone())
}

/// The newest etcdutl, or nothing after a visible line saying that `test` is skipped for want of Go.
pub(crate) fn needs_etcdutl(test: &str) -> Option<PathBuf> {
    static ETCDUTL: OnceLock<PathBuf> = OnceLock::new();
    let go = needs(test, "go")?;
    let build = || build(&go, "tools", "go.etcd.io/etcd/etcdutl/v3", "etcdutl");
    Some(ETCDUTL.get_or_init(build).clone())
}

/// The newest kubectl, or nothing after a visible line saying that `test` is skipped for want of Go.
pub(crate) fn needs_newest_kubectl(test: &str) -> Option<PathBuf> {
    static KUBECTL: OnceLock<PathBuf> = OnceLock::new();
    let go = needs(test, "go")?;
    Some(
        KUBECTL
            .get_or_init(|| build(&go, "kubectl", ".", "kubectl"))
            .clone(),
    )
}

/// Kubernetes' scheduler and controller manager in one program, or nothing after a visible line saying that `test` is
/// skipped for want of Go.
pub(crate) fn needs_control_plane(test: &str) -> Option<PathBuf> {
    let go = needs(test, "go")?;
    Some(build(&go, "control_plane", ".", "control_plane"))
}

/// Our Go program that holds a session as a client, or nothing after a visible line saying that `test` is skipped.
pub(crate) fn needs_go_session(test: &str) -> Option<PathBuf> {
    static SESSION: OnceLock<PathBuf> = OnceLock::new();
    let go = needs(test, "go")?;
    Some(SESSION.get_or_init(|| build(&go, "go", ".", "session")).clone())
}

/// Where a Go module of the tests is.
pub(crate) fn go_module(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

/// Builds a package that a module of the tests knows; Go itself keeps what has not changed.
fn build(go: &Path, module: &str, package: &str, program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go").join(program);
    let built = Command::new(go)
        .current_dir(go_module(module))
        .args(["build", "-mod=readonly", "-buildvcs=false", "-o"])
        .arg(&path)
        .arg(package)
        .output()
        .expect("go can be run");
    assert!(
        built.status.success(),
        "go build of {package}: {}",
        String::from_utf8_lossy(&built.stderr)
    );
    path
}
