//! Fuzz targets: each has a function that judges one input, and panics where something is wrong, and inputs made of
//! valid ones to begin with. They stand in the modules that they look into (`*/fuzz.rs`); libFuzzer calls them by way
//! of the crate `server/fuzz`, and a test replays seeds, findings and mutations of both.
//!
//! | target | input | what must hold |
//! | --- | --- | --- |
//! | `auth` | tokens | nobody signs without the key; what is issued is known again |
//! | `backup` | a damaged database of etcd, or any records in one | it is refused, or handed out in order |
//! | `config` | a configuration file, URLs, durations | no panic; what is written is read again |
//! | `ctl` | quoted strings, the lines of `txn` | no panic; what is quoted is unquoted |
//! | `gateway` | JSON of a request, bytes of an answer | what is read and written is read again as the same |
//! | `headers` | frames and header blocks of HTTP/2 | the pieces do not matter; what is mended stays the same otherwise |
//! | `http` | paths, queries, hosts | what is cleaned leads nowhere else |
//! | `kubernetes` | bodies, patches and selectors of the Kubernetes API | no panic, nothing too deep; selectors are read again as the same |
//! | `peer` | frames, handshakes, lists of members | the pieces do not matter; no panic |

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// What it is called here and in `server/fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Judges one input.
    pub one_input: fn(&[u8]),
    /// What to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("auth", crate::auth::fuzz::one_input, crate::auth::fuzz::seeds),
    target(
        "backup",
        crate::backup::fuzz::one_input,
        crate::backup::fuzz::seeds,
    ),
    target(
        "config",
        crate::config::fuzz::one_input,
        crate::config::fuzz::seeds,
    ),
    target("ctl", crate::ctl::fuzz::one_input, crate::ctl::fuzz::seeds),
    target(
        "gateway",
        crate::gateway::fuzz::one_input,
        crate::gateway::fuzz::seeds,
    ),
    target(
        "headers",
        crate::listen::fuzz::one_input,
        crate::listen::fuzz::seeds,
    ),
    target("http", crate::http::fuzz::one_input, crate::http::fuzz::seeds),
    target(
        "kubernetes",
        crate::kubernetes::fuzz::one_input,
        crate::kubernetes::fuzz::seeds,
    ),
    target("peer", crate::peer::fuzz::one_input, crate::peer::fuzz::seeds),
];

const fn target(name: &'static str, one_input: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target {
        name,
        one_input,
        seeds,
    }
}

/// Judges one input of the target of this name.
///
/// # Panics
/// Where it does not hold, or there is no such target.
pub fn one_input(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of this name").one_input)(data);
}

#[cfg(test)]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is a crate's own elsewhere, and here a part of it"
)]
#[path = "../../store/fuzz/src/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// With `FUZZ_SECONDS` a target goes on for so long.
    fn run(name: &str, inputs: u64) {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let found = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/found")
            .join(name);
        let budget = replay::Budget::from_env(inputs);
        let count = replay::replay((target.seeds)(), &found, budget, target.one_input);
        println!("{name}: {count} inputs");
    }

    #[test]
    fn auth() {
        run("auth", 2000);
    }

    #[test]
    fn backup() {
        run("backup", 2000);
    }

    #[test]
    fn config() {
        run("config", 2000);
    }

    #[test]
    fn ctl() {
        run("ctl", 2000);
    }

    #[test]
    fn gateway() {
        run("gateway", 5000);
    }

    #[test]
    fn headers() {
        run("headers", 5000);
    }

    #[test]
    fn http() {
        run("http", 5000);
    }

    #[test]
    fn kubernetes() {
        run("kubernetes", 3000);
    }

    #[test]
    fn peer() {
        run("peer", 2000);
    }

    /// libFuzzer knows the same targets, and each of them has a file.
    #[test]
    fn every_target_has_its_program() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
        let files = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<String> = files
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        files.sort();
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        assert_eq!(files, names);
    }
}
