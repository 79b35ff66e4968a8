//! The command line of `load`, and what it comes to: a [`Spec`] or a [`crate::compare::Plan`].

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::auth::AuthArgs;
use crate::catch_up::EmptyDisk;
use crate::compare::Load;
use crate::keys::digits;
use crate::kubernetes::Measurement;
use crate::process::Machine;
use crate::spec::{KeySpace, Kind, Limit, Spec};
use crate::transport::Endpoint;
use crate::worker::STAMP_BYTES;

/// Operations where neither a number nor a time is given.
const TOTAL_DEFAULT: u64 = 10_000;

/// Load generator for etcd v3 endpoints.
#[derive(Debug, Parser)]
#[command(name = "load", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put one key per operation.
    Put {
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
    /// Get one key per operation, linearizable unless told otherwise.
    Range {
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
        /// Read the member's own state at once, which may be stale.
        #[arg(long)]
        serializable: bool,
    },
    /// Transactions, each either one range of many keys or one put.
    Txn {
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
        /// Of a hundred transactions, how many read.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
        read_percent: u8,
        /// Keys of a reading transaction at most.
        #[arg(long, default_value_t = 1000)]
        range_limit: i64,
    },
    /// Watch the whole key space with every client while others put; an operation is an event delivered.
    Watch {
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
        /// Clients that put; --total and --duration are theirs.
        #[arg(long, default_value_t = 8, value_parser = positive)]
        putters: usize,
    },
    /// Renew one lease per client.
    LeaseKeepalive {
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
        /// Open a stream for each renewal instead of keeping one per client.
        #[arg(long)]
        once: bool,
    },
    /// Get the whole key space in one answer.
    List {
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
        /// Read the member's own state at once, which may be stale.
        #[arg(long)]
        serializable: bool,
    },
    /// Start Taffrail and etcd in turns and put the same loads on both.
    Compare(CompareArgs),
    /// Start three members of a server, and put while one of them is down, comes back and catches up.
    CatchUp(CatchUpArgs),
    /// Start three members of a server, and put while members are restarted, lead in turn, come, go and are backed up.
    Churn(ChurnArgs),
    /// Start a server without authentication, with it, and beside logins, and put the same loads on each.
    Auth(AuthArgs),
    /// Start a server with the Kubernetes adapter, and measure that.
    Kubernetes {
        /// What of it.
        #[command(subcommand)]
        what: Measurement,
    },
}

/// What all loads have in common.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Servers, as host:port or http://host:port, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2379")]
    pub endpoints: Vec<Endpoint>,
    /// Clients, each with one operation under way.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub clients: usize,
    /// Connections, shared by the clients and dealt out to the endpoints in turn.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub conns: usize,
    /// End after so many operations [default: 10000 without --duration].
    #[arg(long, conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    pub total: Option<u64>,
    /// End after so much time, such as 500ms, 10s or 2m.
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Put the same load before for so long, unmeasured.
    #[arg(long, value_parser = duration, default_value = "0s")]
    pub warmup: Duration,
    /// Bytes of a key.
    #[arg(long, default_value_t = 8)]
    pub key_size: usize,
    /// Bytes of a value [default: 256, list: 1024].
    #[arg(long)]
    pub val_size: Option<usize>,
    /// How many different keys [default: 10000, list: 1000].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub key_space: Option<u64>,
    /// Take the keys in order instead of at random.
    #[arg(long)]
    pub sequential: bool,
    /// Start of all randomness: keys, values, the mix of transactions.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The server's process on this machine, of several members all of them: adds the sums of their CPU per operation
    /// and peak memory. May be repeated, or hold several, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Do not write the keys before reading them.
    #[arg(long)]
    pub no_prefill: bool,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// What a comparison takes.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Taffrail's binary.
    #[arg(long, default_value = "./target/release/taffrail")]
    pub taffrail: PathBuf,
    /// etcd's binary [default: found in PATH; without one only Taffrail is measured].
    #[arg(long)]
    pub etcd: Option<PathBuf>,
    /// Further flag for Taffrail; may be repeated.
    #[arg(long, allow_hyphen_values = true)]
    pub taffrail_arg: Vec<String>,
    /// Further flag for etcd; may be repeated.
    #[arg(long, allow_hyphen_values = true)]
    pub etcd_arg: Vec<String>,
    /// Members of each server, a process each, all on the servers' processor; clients are dealt out to all of them.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub members: usize,
    /// How often each load runs on each server; the median is shown.
    #[arg(long, default_value_t = 3, value_parser = positive)]
    pub rounds: usize,
    /// Length of a measurement.
    #[arg(long, value_parser = duration, default_value = "5s")]
    pub duration: Duration,
    /// The same load before each measurement.
    #[arg(long, value_parser = duration, default_value = "1s")]
    pub warmup: Duration,
    /// Which loads, separated by commas [default: all; of several members those that differ from one member's].
    #[arg(long, value_delimiter = ',')]
    pub loads: Vec<Load>,
    /// Clients that share a connection; etcd's own published figures are taken with ten.
    #[arg(long, default_value_t = 10, value_parser = positive)]
    pub clients_per_conn: usize,
    /// Start of all randomness.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where it all runs.
    #[command(flatten)]
    pub machine: Machine,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// What a catch-up takes.
#[derive(Debug, Args)]
pub struct CatchUpArgs {
    /// The server's binary.
    #[arg(long)]
    pub binary: PathBuf,
    /// Further flag for the server; may be repeated.
    #[arg(long, allow_hyphen_values = true)]
    pub server_arg: Vec<String>,
    /// Puts while the member is down.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub writes: u64,
    /// How the member comes back after the loss of its directory.
    #[arg(long, value_enum, default_value_t = EmptyDisk::SameId)]
    pub empty_disk: EmptyDisk,
    /// Clients, each with one put under way, dealt out to the two members that stay.
    #[arg(long, default_value_t = 100, value_parser = positive)]
    pub clients: usize,
    /// Clients that share a connection.
    #[arg(long, default_value_t = 10, value_parser = positive)]
    pub clients_per_conn: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    pub val_size: usize,
    /// How many different keys.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub key_space: u64,
    /// Length of the measurements with all members.
    #[arg(long, value_parser = duration, default_value = "5s")]
    pub duration: Duration,
    /// The same load before the first of them.
    #[arg(long, value_parser = duration, default_value = "2s")]
    pub warmup: Duration,
    /// The member must have caught up within this time.
    #[arg(long, value_parser = duration, default_value = "5m")]
    pub catch_up_max: Duration,
    /// Start of all randomness.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where it all runs.
    #[command(flatten)]
    pub machine: Machine,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// What a run of changes takes.
#[derive(Debug, Args)]
pub struct ChurnArgs {
    /// The server's binary.
    #[arg(long)]
    pub binary: PathBuf,
    /// Further flag for the server; may be repeated.
    #[arg(long, allow_hyphen_values = true)]
    pub server_arg: Vec<String>,
    /// Clients, each with one put under way and a connection of its own, which goes to another member when one fails.
    #[arg(long, default_value_t = 50, value_parser = positive)]
    pub clients: usize,
    /// Transfers of leadership.
    #[arg(long, default_value_t = 20, value_parser = positive)]
    pub transfers: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    pub val_size: usize,
    /// How many different keys.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub key_space: u64,
    /// Length of the measurements in which nothing happens.
    #[arg(long, value_parser = duration, default_value = "5s")]
    pub duration: Duration,
    /// Between two events of one kind.
    #[arg(long, value_parser = duration, default_value = "500ms")]
    pub pause: Duration,
    /// Leave out the loss of disks: a server may have no way back from it as the same member.
    #[arg(long)]
    pub keep_disks: bool,
    /// Start of all randomness.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where it all runs.
    #[command(flatten)]
    pub machine: Machine,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for the terminal.
    Table,
    /// A table for a document.
    Markdown,
    /// For programs.
    Json,
}

/// Flags that are right one by one but not together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// The largest number of the key space has too many digits.
    #[error("--key-size {size} is too small for --key-space {count}: {needed} bytes are needed")]
    KeySize {
        /// As given.
        size: usize,
        /// As given.
        count: u64,
        /// The least size for it.
        needed: usize,
    },
    /// The watch load puts a time into each value.
    #[error("--val-size {size} is too small for watch: {STAMP_BYTES} bytes are needed")]
    ValueSize {
        /// As given.
        size: usize,
    },
}

impl RunArgs {
    /// The run that these flags describe.
    ///
    /// # Errors
    /// Flags that contradict each other.
    pub fn spec(&self, kind: Kind) -> Result<Spec, UsageError> {
        let list = matches!(kind, Kind::List { .. });
        let keys = KeySpace {
            size: self.key_size,
            count: self.key_space.unwrap_or(if list { 1000 } else { 10_000 }),
            sequential: self.sequential,
        };
        let needed = digits(keys.count);
        if keys.size < needed {
            return Err(UsageError::KeySize {
                size: keys.size,
                count: keys.count,
                needed,
            });
        }
        let value_size = self.val_size.unwrap_or(if list { 1024 } else { 256 });
        if matches!(kind, Kind::Watch { .. }) && value_size < STAMP_BYTES {
            return Err(UsageError::ValueSize { size: value_size });
        }
        let limit = match (self.total, self.duration) {
            (_, Some(duration)) => Limit::Duration(duration),
            (total, None) => Limit::Total(total.unwrap_or(TOTAL_DEFAULT)),
        };
        Ok(Spec {
            endpoints: self.endpoints.clone(),
            clients: self.clients,
            conns: self.conns,
            limit,
            warmup: self.warmup,
            prefill: kind.reads_keys() && !self.no_prefill,
            keys,
            value_size,
            seed: self.seed,
            pids: self.pid.clone(),
            kind,
        })
    }
}

impl Command {
    /// The flags common to all loads and the kind of load, none for a comparison.
    #[must_use]
    pub fn run(&self) -> Option<(&RunArgs, Kind)> {
        Some(match self {
            Self::Put { run } => (run, Kind::Put),
            Self::Range { run, serializable } => (
                run,
                Kind::Range {
                    serializable: *serializable,
                },
            ),
            Self::Txn {
                run,
                read_percent,
                range_limit,
            } => (
                run,
                Kind::Txn {
                    read_percent: *read_percent,
                    range_limit: *range_limit,
                },
            ),
            Self::Watch { run, putters } => (run, Kind::Watch { putters: *putters }),
            Self::LeaseKeepalive { run, once } => (run, Kind::Keepalive { once: *once }),
            Self::List { run, serializable } => (
                run,
                Kind::List {
                    serializable: *serializable,
                },
            ),
            Self::Compare(_)
            | Self::CatchUp(_)
            | Self::Churn(_)
            | Self::Auth(_)
            | Self::Kubernetes { .. } => return None,
        })
    }
}

pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// A number with a unit: `ms`, `s`, `m` or `h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits_end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let seconds_per_unit = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("want a number with the unit ms, s, m or h".to_owned()),
    };
    let number: f64 = number.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("load").chain(line.split_whitespace()))
    }

    fn spec(line: &str) -> Result<Spec, UsageError> {
        let cli = parse(line).unwrap();
        let (run, kind) = cli.command.run().unwrap();
        run.spec(kind)
    }

    #[test]
    fn the_definition_of_the_flags_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn every_flag_of_a_run_arrives() {
        let spec = spec(
            "put --endpoints 127.0.0.1:1,http://127.0.0.1:2 --clients 3 --conns 2 --total 7 --warmup 250ms \
             --key-size 12 --val-size 13 --key-space 14 --sequential --seed 15 --pid 16,17 --pid 18",
        )
        .unwrap();
        let expected = Spec {
            endpoints: vec!["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()],
            clients: 3,
            conns: 2,
            limit: Limit::Total(7),
            warmup: Duration::from_millis(250),
            prefill: false,
            keys: KeySpace {
                size: 12,
                count: 14,
                sequential: true,
            },
            value_size: 13,
            seed: 15,
            pids: vec![16, 17, 18],
            kind: Kind::Put,
        };
        assert_eq!(spec, expected);
    }

    #[test]
    fn defaults_follow_the_load() {
        let put = spec("put").unwrap();
        assert_eq!((put.limit, put.prefill), (Limit::Total(TOTAL_DEFAULT), false));
        assert_eq!((put.keys.count, put.value_size), (10_000, 256));
        let list = spec("list --duration 2s").unwrap();
        assert_eq!(list.limit, Limit::Duration(Duration::from_secs(2)));
        assert_eq!((list.keys.count, list.value_size), (1000, 1024));
        assert!(list.prefill);
        assert!(!spec("list --no-prefill").unwrap().prefill);
    }

    #[test]
    fn kinds_carry_their_own_flags() {
        let kinds = [
            ("range", Kind::Range { serializable: false }),
            ("range --serializable", Kind::Range { serializable: true }),
            ("list --serializable", Kind::List { serializable: true }),
            (
                "txn --read-percent 10 --range-limit 5",
                Kind::Txn {
                    read_percent: 10,
                    range_limit: 5,
                },
            ),
            ("watch --putters 2", Kind::Watch { putters: 2 }),
            ("lease-keepalive", Kind::Keepalive { once: false }),
            ("lease-keepalive --once", Kind::Keepalive { once: true }),
        ];
        for (line, kind) in kinds {
            assert_eq!(spec(line).unwrap().kind, kind, "{line}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(
            spec("put --key-size 3 --key-space 1001"),
            Err(UsageError::KeySize {
                size: 3,
                count: 1001,
                needed: 4
            })
        );
        assert!(spec("put --key-size 3 --key-space 1000").is_ok());
        assert_eq!(spec("watch --val-size 7"), Err(UsageError::ValueSize { size: 7 }));
        for line in [
            "put --total 1 --duration 1s",
            "put --clients 0",
            "put --total 0",
            "put --duration 5",
            "put --duration -1s",
            "put --endpoints https://a:1",
            "txn --read-percent 101",
            "compare --loads nonsense",
            "compare --rounds 0",
            "compare --members 0",
            "catch-up",
            "catch-up --binary x --writes 0",
            "kubernetes",
            "kubernetes costs --pods 0",
            "kubernetes watchers --rate 0",
            "kubernetes watchers --writes 5 --duration 1s",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn durations_with_units() {
        let read = |text| duration(text).unwrap().as_millis();
        assert_eq!(
            ["1ms", "1.5s", "2m", "1h"].map(read),
            [1, 1500, 120_000, 3_600_000]
        );
        assert!(
            ["", "s", "1", "1d", "1..2s"]
                .iter()
                .all(|text| duration(text).is_err())
        );
    }

    #[test]
    fn comparisons_take_loads_and_further_flags() {
        let cli =
            parse("compare --loads put@100,range@100 --taffrail-arg --log-level=warn --rounds 1").unwrap();
        let Command::Compare(args) = cli.command else {
            panic!("not a comparison");
        };
        assert_eq!(args.loads, [Load::Put100, Load::Range100]);
        assert_eq!(args.taffrail_arg, ["--log-level=warn"]);
        assert_eq!((args.rounds, args.etcd), (1, None));
    }

    #[test]
    fn a_catch_up_takes_how_the_member_comes_back() {
        let cli = parse("catch-up --binary b --writes 7 --empty-disk new-id --catch-up-max 1m").unwrap();
        let Command::CatchUp(args) = cli.command else {
            panic!("not a catch-up");
        };
        assert_eq!((args.writes, args.empty_disk), (7, EmptyDisk::NewId));
        assert_eq!(args.catch_up_max, Duration::from_secs(60));
    }
}
