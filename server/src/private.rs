//! What this program writes is for its own user: files 0600, directories 0700, whatever umask it was started with and
//! whoever creates them, the library of the backend and the log included.
//!
//! Each place that creates a file of the data directory asks for such a mode anyway, so that the store keeps it when
//! it is embedded elsewhere; the umask covers what others create. One kind of file is not private: a unix socket is
//! how clients come in, so it gets the mode that the inherited umask would have given it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::umask;

/// The umask that the program was started with.
static INHERITED: OnceLock<u32> = OnceLock::new();

/// Keeps what is created from now on from everybody else. For the start of the program, before there are threads.
pub(crate) fn keep_files_private() {
    let inherited = umask(Mode::from_raw_mode(PRIVATE_UMASK));
    // The first call saw what was inherited.
    let _ = INHERITED.set(inherited.as_raw_mode());
}

/// Gives the file at `path` the mode that everybody would have got by the inherited umask.
pub(crate) fn open_to_others(path: &Path) -> io::Result<()> {
    match INHERITED.get() {
        Some(inherited) => fs::set_permissions(path, Permissions::from_mode(0o777 & !inherited)),
        None => Ok(()),
    }
}

/// Warns in etcd's words of a data directory, made by somebody else, that others may look into.
pub(crate) fn warn_of_open_directory(path: &Path) {
    let Ok(directory) = fs::metadata(path) else {
        // It is yet to be made, or what is wrong shows when it is opened.
        return;
    };
    let mode = directory.permissions().mode() & 0o777;
    if mode != PRIVATE_DIRECTORY {
        let error = format!(
            "directory {:?} exist, but the permission is {:?}. The recommended permission is {:?} to prevent \
             possible unprivileged access to the data",
            path.display().to_string(),
            format!("d{}", mode_text(mode)),
            format!("-{}", mode_text(PRIVATE_DIRECTORY)),
        );
        tracing::warn!(error, "check file permission");
    }
}

/// `rwxr-x---` of 0750.
fn mode_text(mode: u32) -> String {
    (0..9)
        .map(|at| match mode & (0o400 >> at) {
            0 => '-',
            _ => ['r', 'w', 'x'][at % 3],
        })
        .collect()
}

/// Nothing for the group, nothing for others.
const PRIVATE_UMASK: u32 = 0o077;
/// The mode of a data directory.
const PRIVATE_DIRECTORY: u32 = 0o700;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_everywhere() {
        for (mode, text) in [(0o700, "rwx------"), (0o755, "rwxr-xr-x"), (0o027, "----w-rwx")] {
            assert_eq!(mode_text(mode), text);
        }
    }
}
