//! Sessions of kubectl, Debian's (1.20) and the newest, with `taffrail --apiserver-listen`: written down once, run with
//! both (see `clients/script.rs` for the form).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::*;
use crate::script::{Programs, Session};

/// Makes of every script a test with each of the two versions.
macro_rules! with_both_versions {
    ($($session:ident),* $(,)?) => {
        mod version_1_20 {
            $(
                #[tokio::test]
                async fn $session() {
                    let test = concat!("kubectl::version_1_20::", stringify!($session));
                    if let Some(client) = super::needs_old_kubectl(test) {
                        let script = include_str!(concat!("kubectl/", stringify!($session), ".txt"));
                        super::run(test, "1.20", client, script).await;
                    }
                }
            )*
        }

        mod version_1_37 {
            $(
                #[tokio::test]
                async fn $session() {
                    let test = concat!("kubectl::version_1_37::", stringify!($session));
                    if let Some(client) = super::needs_newest_kubectl(test) {
                        let script = include_str!(concat!("kubectl/", stringify!($session), ".txt"));
                        super::run(test, "1.37", client, script).await;
                    }
                }
            )*
        }
    };
}

with_both_versions! {
    changing,
    deleting,
    generators,
    looking,
    nodes,
    objects,
    waiting,
    workloads,
}

/// Runs a script on a fresh server.
async fn run(test: &str, version: &'static str, client: PathBuf, script: &str) {
    let kubernetes = Kubernetes::start().await;
    let sessions = Sessions {
        version,
        client,
        directory: "tests/kubernetes/kubectl",
        patience: PATIENCE,
    };
    sessions.run(test, &kubernetes, script);
}

/// How scripts are run.
pub(crate) struct Sessions {
    /// Of kubectl.
    pub(crate) version: &'static str,
    pub(crate) client: PathBuf,
    /// Where the files are that the scripts name.
    pub(crate) directory: &'static str,
    /// The longest that one step may last.
    pub(crate) patience: Duration,
}

impl Sessions {
    /// Runs a script and panics with what went otherwise; keeps the transcript by the test's name.
    pub(crate) fn run(self, test: &str, kubernetes: &Kubernetes, script: &str) {
        let home = tempfile::tempdir().expect("a temporary directory");
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.directory);
        let programs = Programs {
            version: self.version,
            client: self.client,
            server_flag: "--server",
            bare_tables: true,
            // What it remembers of a server, it remembers by the server's address.
            env: vec![
                ("HOME", home.path().display().to_string()),
                ("KUBE_EDITOR", EDITOR.to_owned()),
            ],
            etcdutl: None,
            patience: self.patience,
        };
        let words = [
            ("ENDPOINT", kubernetes.url()),
            ("DIR", directory.display().to_string()),
        ];
        let words = words.each_ref().map(|(name, value)| (*name, value.as_str()));
        let mut session = Session::new(&programs, &words);
        let mut transcript = String::new();
        let complaints = session.run(script, &mut transcript);
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.txt", test.replace("::", "-")));
        fs::write(&kept, transcript).expect("the directory for tests' files is writable");
        assert!(
            complaints.is_empty(),
            "{} steps went otherwise:\n\n{}",
            complaints.len(),
            complaints.join("\n")
        );
    }
}

/// What stands for an editor in `kubectl edit`.
const EDITOR: &str = "sed -i s/1:10000/1:25000/";
