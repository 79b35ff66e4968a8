//! The versions this program goes by.

/// What clients and tools are told: the version of etcd whose contract is served.
pub(crate) const ETCD_VERSION: &str = "3.7.1";
/// The version of etcd's storage schema that goes with it.
pub(crate) const STORAGE_VERSION: &str = "3.7.0";
/// Our own.
pub(crate) const TAFFRAIL_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit, when the build was told (`TAFFRAIL_GIT_SHA`).
pub(crate) const GIT_SHA: &str = match option_env!("TAFFRAIL_GIT_SHA") {
    Some(sha) => sha,
    None => "Not provided",
};

/// Where etcd names Go's version.
pub(super) const GO_VERSION: &str = "none (built with Rust)";

/// The text of `--version`: etcd's four lines, because scripts read them, then our own name.
pub(crate) fn version_text() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: {GIT_SHA}\nGo Version: {GO_VERSION}\nGo OS/Arch: {}/{}\n\
         Taffrail Version: {TAFFRAIL_VERSION}\n",
        std::env::consts::OS,
        go_arch(),
    )
}

/// The architecture under Go's name.
pub(super) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
