//! Tests that need a program which is not part of the project.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// The program's path, or nothing after a visible line saying that `test` is skipped. With `TAFFRAIL_REQUIRE_TOOLS=1`
/// a missing program is a failure instead.
pub(crate) fn needs(test: &str, program: &str) -> Option<PathBuf> {
    found_or_skipped(test, program, find_program(program))
}

/// Debian's etcdctl: what it prints is that of version 3.4, so another version is as good as none.
pub(crate) fn needs_etcdctl(test: &str) -> Option<PathBuf> {
    let found = find_program("etcdctl").filter(|path| {
        let output = Command::new(path)
            .env("ETCDCTL_API", "3")
            .arg("version")
            .output()
            .expect("etcdctl can be run");
        output.stdout.starts_with(b"etcdctl version: 3.4.")
    });
    found_or_skipped(test, "etcdctl 3.4", found)
}

/// Debian's kubectl: the one that `TAFFRAIL_OLD_KUBECTL` names, or the one in `PATH` if it is of version 1.20.
pub(crate) fn needs_old_kubectl(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("TAFFRAIL_OLD_KUBECTL").map(PathBuf::from);
    let found = named.or_else(|| find_program("kubectl")).filter(|path| {
        let output = Command::new(path)
            .args(["version", "--client", "--short"])
            .output()
            .expect("kubectl can be run");
        output.stdout.starts_with(b"Client Version: v1.20.")
    });
    found_or_skipped(test, "kubectl 1.20", found)
}

/// A Python that has Kubernetes' client: the one that `TAFFRAIL_PYTHON` names, or the one in `PATH`.
pub(crate) fn needs_python_client(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("TAFFRAIL_PYTHON").map(PathBuf::from);
    let found = named.or_else(|| find_program("python3")).filter(|path| {
        let output = Command::new(path)
            .args(["-c", "import kubernetes; print(kubernetes.__version__)"])
            .output()
            .expect("python can be run");
        // Older ones have other words for the same calls.
        output.stdout.starts_with(b"37.")
    });
    found_or_skipped(test, "a Python with the module kubernetes 37", found)
}

fn found_or_skipped(test: &str, program: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        let required = std::env::var_os("TAFFRAIL_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(
            !required,
            "{test} needs {program}, and TAFFRAIL_REQUIRE_TOOLS=1 forbids to skip it"
        );
        skip(test, program);
    }
    found
}

/// Says visibly that `test` is skipped for want of something.
pub(crate) fn skip(test: &str, what: &str) {
    // Not a print macro: the test runner would swallow the line of a test that passes.
    writeln!(std::io::stderr(), "SKIPPED: {test}: needs {what}").expect("stderr is open");
}

/// Looks a program up in `PATH`.
fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}
