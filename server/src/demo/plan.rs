//! What a demonstration consists of: its members, their ports and command lines, and which of them have data.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};

/// A cluster on this machine.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) members: Vec<Member>,
    /// Flags that every member gets, beyond its own.
    extra: Vec<String>,
}

/// One member of it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) client: u16,
    peer: u16,
    pub(super) data_dir: PathBuf,
}

/// Why there can be no such demonstration.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error("{members} members from port {base} on need ports beyond 65535: choose a lower --base-port")]
    Ports { members: u16, base: u16 },
    #[error("{} holds data of a member beyond the {members} asked for: choose another --data-dir", path.display())]
    MoreMembers { path: PathBuf, members: usize },
    #[error(
        "only {there} of {members} members have data in {}: without a majority of them the cluster is lost; choose \
         another --data-dir",
        path.display()
    )]
    NoMajority {
        there: usize,
        members: usize,
        path: PathBuf,
    },
}

/// The command line of `taffrail demo`.
pub(super) fn command() -> Command {
    Command::new("taffrail demo")
        .about(
            "Runs a whole cluster on this machine: each member a process of its own, on 127.0.0.1. Run it again with the \
             same --data-dir to go on.",
        )
        .no_binary_name(true)
        .arg(
            Arg::new("members")
                .long("members")
                .value_name("N")
                .help("how many members")
                .default_value("3")
                .value_parser(value_parser!(u16).range(1..=MEMBERS_MAX)),
        )
        .arg(
            Arg::new("base-port")
                .long("base-port")
                .value_name("PORT")
                .help("client port of the first member; the next ones are 20000, 30000... above it, peer ports one more")
                .default_value("2379")
                .value_parser(value_parser!(u16).range(1..)),
        )
        .arg(
            Arg::new("data-dir")
                .long("data-dir")
                .value_name("DIR")
                .help("where each member gets a folder")
                .default_value("demo.taffrail")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("flags")
                .help("after --: further flags for every member")
                .num_args(0..)
                .last(true),
        )
}

impl Plan {
    /// The plan of a command line.
    pub(super) fn of(matches: &ArgMatches) -> Result<Plan, PlanError> {
        let number = |name| *matches.get_one::<u16>(name).expect("it has a default");
        let dir = matches.get_one::<PathBuf>("data-dir").expect("it has a default");
        let extra = matches.get_many::<String>("flags").unwrap_or_default();
        Ok(Plan {
            members: members(number("members"), number("base-port"), dir)?,
            extra: extra.cloned().collect(),
        })
    }

    /// Which members have data, in their order; refuses what cannot become one cluster.
    pub(super) fn with_data(&self) -> Result<Vec<bool>, PlanError> {
        let has_data = |dir: &Path| dir.join("member").join("wal").is_dir();
        let there: Vec<bool> = self
            .members
            .iter()
            .map(|member| has_data(&member.data_dir))
            .collect();
        let dir = self.members[0].data_dir.parent().unwrap_or(Path::new(""));
        let members = self.members.len();
        let next = dir.join(name(members));
        if has_data(&next) {
            return Err(PlanError::MoreMembers { path: next, members });
        }
        let count = there.iter().filter(|&&there| there).count();
        if count > 0 && count <= members / 2 {
            return Err(PlanError::NoMajority {
                there: count,
                members,
                path: dir.to_owned(),
            });
        }
        Ok(there)
    }

    /// The arguments of one member's process. `joins`: its disk is empty, and the cluster runs already.
    pub(super) fn arguments(&self, member: &Member, joins: bool) -> Vec<String> {
        let cluster: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}={}", member.name, member.peer_url()))
            .collect();
        let (client, peer) = (member.client_url(), member.peer_url());
        let data_dir = member.data_dir.display().to_string();
        let mut arguments: Vec<String> = [
            ("--name", member.name.as_str()),
            ("--data-dir", &data_dir),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &cluster.join(",")),
            ("--initial-cluster-token", "taffrail-demo"),
            ("--log-format", "console"),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()])
        .collect();
        if joins {
            arguments.extend(["--initial-cluster-state".to_owned(), "existing".to_owned()]);
        }
        arguments.extend(self.extra.iter().cloned());
        arguments
    }

    /// The clients' ports, as etcdctl wants them.
    pub(super) fn endpoints(&self) -> String {
        let endpoints = self
            .members
            .iter()
            .map(|member| format!("127.0.0.1:{}", member.client));
        endpoints.collect::<Vec<_>>().join(",")
    }
}

impl Member {
    fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    pub(super) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }
}

/// A command line for a shell.
pub(super) fn shell_line(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
        match !word.is_empty() && word.chars().all(plain) {
            true => word.clone(),
            false => format!("'{}'", word.replace('\'', "'\\''")),
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The ports are those of etcd's own Procfile: 2379, 22379, 32379.
fn members(count: u16, base: u16, dir: &Path) -> Result<Vec<Member>, PlanError> {
    let of = |number: u16| {
        let offset = match number {
            0 => 0,
            number => number.checked_add(1)?.checked_mul(PORT_STEP)?,
        };
        let client = base.checked_add(offset)?;
        let name = name(usize::from(number));
        Some(Member {
            data_dir: dir.join(&name),
            name,
            client,
            peer: client.checked_add(1)?,
        })
    };
    let members = (0..count).map(of).collect::<Option<_>>();
    members.ok_or(PlanError::Ports { members: count, base })
}

fn name(number: usize) -> String {
    format!("m{}", number + 1)
}

/// More members than a cluster should have.
const MEMBERS_MAX: i64 = 7;
const PORT_STEP: u16 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &[&str]) -> Result<Plan, PlanError> {
        Plan::of(&command().try_get_matches_from(arguments).unwrap())
    }

    #[test]
    fn ports_are_those_of_etcds_procfile() {
        let plan = plan(&[]).unwrap();
        assert_eq!(plan.endpoints(), "127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379");
        let ports: Vec<u16> = plan.members.iter().map(|member| member.peer).collect();
        assert_eq!(ports, [2380, 22380, 32380]);
        assert_eq!(
            super::tests::plan(&["--members=5"]).unwrap().members[4].client,
            52_379
        );
    }

    #[test]
    fn ports_that_do_not_exist_are_refused() {
        assert_eq!(
            plan(&["--members=3", "--base-port=40000"]).unwrap_err(),
            PlanError::Ports {
                members: 3,
                base: 40_000
            }
        );
        assert!(plan(&["--base-port=35535"]).is_err() && plan(&["--base-port=35534"]).is_ok());
    }

    #[test]
    fn each_member_knows_all_of_them() {
        let plan = plan(&[
            "--members=1",
            "--base-port=7000",
            "--data-dir=a b",
            "--",
            "--log-level=warn",
        ])
        .unwrap();
        let arguments = plan.arguments(&plan.members[0], true);
        assert_eq!(
            shell_line(&arguments),
            "--name m1 --data-dir 'a b/m1' --listen-client-urls http://127.0.0.1:7000 --advertise-client-urls \
             http://127.0.0.1:7000 --listen-peer-urls http://127.0.0.1:7001 --initial-advertise-peer-urls \
             http://127.0.0.1:7001 --initial-cluster m1=http://127.0.0.1:7001 --initial-cluster-token taffrail-demo \
             --log-format console --initial-cluster-state existing --log-level=warn"
        );
        assert!(crate::config::Settings::resolve(&arguments, &[]).is_ok());
        assert_eq!(shell_line(&["it's".to_owned(), String::new()]), "'it'\\''s' ''");
    }

    #[test]
    fn a_cluster_goes_on_with_a_majority_of_its_disks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let plan = plan(&["--data-dir", path]).unwrap();
        let give = |name: &str| std::fs::create_dir_all(dir.path().join(name).join("member/wal")).unwrap();
        assert_eq!(plan.with_data().unwrap(), [false, false, false]);
        give("m2");
        assert!(matches!(
            plan.with_data(),
            Err(PlanError::NoMajority { there: 1, .. })
        ));
        give("m3");
        assert_eq!(plan.with_data().unwrap(), [false, true, true]);
        give("m4");
        assert!(matches!(plan.with_data(), Err(PlanError::MoreMembers { .. })));
    }
}
