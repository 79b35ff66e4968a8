//! A small file system in memory, in a mount namespace of its own, for tests of full disks.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process that holds a mount namespace in which `dir` is a small file system.
pub(crate) struct SmallDisk {
    holder: Child,
    dir: PathBuf,
}

impl SmallDisk {
    /// Nothing where the system does not let us make namespaces.
    pub(crate) fn mount(dir: &Path, mebibytes: u32) -> Option<SmallDisk> {
        let mount = format!(
            "mount -t tmpfs -o size={mebibytes}m tmpfs {} && echo mounted && exec cat",
            dir.display()
        );
        let mut holder = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", &mount])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(holder.stdout.take().expect("the output is a pipe"));
        std::io::BufRead::read_line(&mut stdout, &mut line).expect("the output is text");
        if line == "mounted\n" {
            return Some(SmallDisk {
                holder,
                dir: dir.to_owned(),
            });
        }
        let _ = holder.kill();
        let _ = holder.wait();
        None
    }

    /// What runs a program inside.
    pub(crate) fn enter(&self) -> Vec<String> {
        let target = self.holder.id().to_string();
        [
            "nsenter",
            "--target",
            &target,
            "--user",
            "--mount",
            "--preserve-credentials",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Runs a line of shell inside; whether it succeeded.
    pub(crate) fn shell(&self, line: &str) -> bool {
        let enter = self.enter();
        let status = Command::new(&enter[0])
            .args(&enter[1..])
            .args(["sh", "-c", line])
            .stderr(Stdio::null())
            .status()
            .expect("nsenter can be run");
        status.success()
    }

    pub(crate) fn resize(&self, mebibytes: u32) {
        let enter = self.enter();
        let status = Command::new(&enter[0])
            .args(&enter[1..])
            .args(["mount", "-o", &format!("remount,size={mebibytes}m")])
            .arg(&self.dir)
            .status()
            .expect("nsenter can be run");
        assert!(status.success(), "the disk can be enlarged");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
