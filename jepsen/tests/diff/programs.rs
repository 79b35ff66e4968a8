//! The two programs: which etcd there is, and the Taffrail of this source tree.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::say;
use super::skip::{needs, skip};

/// A real etcd.
#[derive(Clone, Debug)]
pub(crate) struct Etcd {
    pub(crate) path: PathBuf,
    /// Major and minor.
    pub(crate) version: (u32, u32),
}

/// The etcd to compare with, in this order: the one that `TAFFRAIL_ETCD` names, one built from the Go registry, the
/// one in `PATH`. Nothing after a visible line, or a failure with `TAFFRAIL_REQUIRE_TOOLS=1`.
pub(crate) fn etcd(test: &str) -> Option<Etcd> {
    let named = std::env::var_os("TAFFRAIL_ETCD").map(PathBuf::from);
    let path = named
        .or_else(|| built_from_registry(test))
        .or_else(|| needs(test, "etcd"))?;
    let version = version_of(&path);
    if version.is_none() {
        skip(
            test,
            &format!("an etcd that tells its version; {} does not", path.display()),
        );
    }
    let version = version?;
    if version < OLDEST {
        let (major, minor) = OLDEST;
        skip(
            test,
            &format!(
                "etcd {major}.{minor}, or Go to build it; {} is older",
                path.display()
            ),
        );
        return None;
    }
    Some(Etcd { path, version })
}

fn built_from_registry(test: &str) -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oracle");
    fs::create_dir_all(&dir).expect("the directory for tests' files is writable");
    // Test processes may run side by side, and the build is shared.
    let lock = File::create(dir.join("lock")).expect("a lock file can be created");
    lock.lock().expect("the lock file can be locked");
    let program = dir.join("etcd");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle");
    if !program.is_file() {
        say(&format!(
            "{test}: building etcd from the Go registry, which takes minutes the first time"
        ));
    }
    let built = Command::new("go")
        .current_dir(source)
        .args(["build", "-mod=readonly", "-o"])
        .arg(&program)
        .arg(".")
        .output();
    match built {
        Ok(output) if output.status.success() => Some(program),
        Ok(output) => {
            let reason = String::from_utf8_lossy(&output.stderr).into_owned();
            say(&format!(
                "{test}: etcd could not be built from the Go registry: {reason}"
            ));
            None
        }
        Err(_) => None,
    }
}

/// `etcd Version: 3.7.1` as (3, 7).
fn version_of(program: &Path) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.lines().next()?.strip_prefix("etcd Version: ")?;
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// The program that `TAFFRAIL_TEST_SERVER` names, else the one in this test's own target directory, which is built
/// when it is missing or older than a source.
pub(crate) fn taffrail() -> PathBuf {
    if let Some(named) = std::env::var_os("TAFFRAIL_TEST_SERVER") {
        return PathBuf::from(named);
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("tests lie two folders below the profile's");
    let program = profile.join("taffrail");
    if !is_fresh(&program) {
        say(&format!("building {}", program.display()));
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--package",
            "server",
            "--bin",
            "taffrail",
            "--target-dir",
        ]);
        build.arg(
            profile
                .parent()
                .expect("the profile's folder lies in the target directory"),
        );
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let status = build.current_dir(workspace()).status().expect("cargo can be run");
        assert!(status.success(), "building taffrail: {status}");
    }
    program
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
}

fn is_fresh(program: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    let Some(built) = modified(program) else {
        return false;
    };
    [
        "server/src",
        "store/src",
        "apiserver/src",
        "proto/src",
        "proto/proto",
        "Cargo.lock",
    ]
    .iter()
    .all(|source| newest(&workspace().join(source)).is_none_or(|changed| changed <= built))
}

/// When the newest file below a path was changed.
fn newest(path: &Path) -> Option<SystemTime> {
    if path.is_dir() {
        let entries = fs::read_dir(path).ok()?;
        return entries.flatten().filter_map(|entry| newest(&entry.path())).max();
    }
    path.metadata().and_then(|data| data.modified()).ok()
}

/// Older ones differ in more than the table of explained differences knows.
const OLDEST: (u32, u32) = (3, 7);
