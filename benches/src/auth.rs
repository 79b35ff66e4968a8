//! What authentication costs: the same loads with it off and with it on and a token, in turns on fresh servers; then,
//! with it on, alone and beside so many logins a second.
//!
//! Whatever is asked is public etcd API, so the same can be measured of etcd.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use comfy_table::Table;
use http::HeaderValue;
use proto::authpb::{Permission, permission::Type};
use proto::etcdserverpb::auth_client::AuthClient;
use proto::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, AuthenticateRequest,
};
use serde::Serialize;
use tokio::time::MissedTickBehavior;
use tonic::Status;

use crate::args::{Output, duration, positive};
use crate::cluster::{Cluster, Program};
use crate::compare::{Common, Figures, Load};
use crate::interrupt::interruptible;
use crate::process::{Cores, Machine, pin_generator};
use crate::report::{Report, align_figures, new_table, rate, three_digits};
use crate::transport::{Channel, Endpoint};
use crate::{Error, run as single};

/// What the measurement takes.
#[derive(Debug, Args)]
pub struct AuthArgs {
    /// The server's binary.
    #[arg(long)]
    pub binary: PathBuf,
    /// Further flag for the server; may be repeated.
    #[arg(long, allow_hyphen_values = true)]
    pub server_arg: Vec<String>,
    /// How often each measurement is made; the median is shown.
    #[arg(long, default_value_t = 3, value_parser = positive)]
    pub rounds: usize,
    /// Length of a measurement.
    #[arg(long, value_parser = duration, default_value = "5s")]
    pub duration: Duration,
    /// The same load before each measurement.
    #[arg(long, value_parser = duration, default_value = "1s")]
    pub warmup: Duration,
    /// Which loads, separated by commas; put@100 and range@100 where none is named.
    #[arg(long, value_delimiter = ',')]
    pub loads: Vec<Load>,
    /// Logins that are tried each second, of a user who is none of the clients.
    #[arg(long, default_value_t = 200, value_parser = positive)]
    pub logins_per_second: usize,
    /// Clients that share a connection.
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

/// The result.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// One per load.
    pub rows: Vec<Row>,
}

/// One load in its three circumstances.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The load's name.
    pub load: String,
    /// Without authentication.
    pub off: Figures,
    /// With it, and a token.
    pub on: Figures,
    /// The same beside the logins.
    pub beside_logins: Figures,
    /// Logins that succeeded and that were refused, of all rounds.
    pub logins: (u64, u64),
}

/// In which circumstances a load is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Circumstance {
    Off,
    On,
    BesideLogins,
}

/// Measures all loads. SIGINT and SIGTERM end it, and the server under way with it.
///
/// # Errors
/// A server that does not start, a load that fails, or a signal.
pub async fn run(args: &AuthArgs) -> Result<Outcome, Error> {
    interruptible(measure_all(args)).await
}

async fn measure_all(args: &AuthArgs) -> Result<Outcome, Error> {
    let program = Program::new(&args.binary, &args.server_arg)?;
    let cores = args.machine.cores();
    pin_generator(cores)?;
    let loads = match args.loads.is_empty() {
        true => vec![Load::Put100, Load::Range100],
        false => args.loads.clone(),
    };
    let mut rows = Vec::new();
    for load in loads {
        let mut reports: [Vec<Report>; 3] = Default::default();
        let mut logins = (0, 0);
        for round in 1..=args.rounds {
            let circumstances = [Circumstance::Off, Circumstance::On, Circumstance::BesideLogins];
            for (circumstance, reports) in circumstances.into_iter().zip(&mut reports) {
                let (report, done) = measure(args, &program, cores, load, circumstance).await?;
                eprintln!(
                    "{} {}, round {round}: {:.0} op/s, p99 {:.2} ms",
                    load.name(),
                    circumstance.name(),
                    report.operations_per_second,
                    report.p99_ms
                );
                reports.push(report);
                logins = (logins.0 + done.0, logins.1 + done.1);
            }
        }
        let [off, on, beside_logins] = reports.map(|reports| Figures::of(&reports));
        rows.push(Row {
            load: load.name(),
            off,
            on,
            beside_logins,
            logins,
        });
    }
    Ok(Outcome { rows })
}

/// One load on a server of its own; with it come the logins that were made meanwhile.
async fn measure(
    args: &AuthArgs,
    program: &Program,
    cores: Option<Cores>,
    load: Load,
    circumstance: Circumstance,
) -> Result<(Report, (u64, u64)), Error> {
    let work_dir = args.machine.work_dir();
    // The same processor in all circumstances, that of the logins' work too: else their figures were of two machines.
    let core = cores.map(|cores| cores.server);
    let server = Cluster::start(program, 1, &work_dir, core).await?;
    let endpoints = server.endpoints_from_leader().await?;
    let common = Common {
        clients_per_conn: args.clients_per_conn,
        duration: args.duration,
        warmup: args.warmup,
        seed: args.seed,
    };
    let spec = load.spec(&common, endpoints.clone(), server.pids());
    if circumstance == Circumstance::Off {
        return Ok((single::run(&spec, true).await?, (0, 0)));
    }
    let token = match endpoints.first() {
        Some(endpoint) => enable(endpoint).await?,
        None => return Err(prepare(Status::internal("no endpoint"))),
    };
    if circumstance == Circumstance::On {
        return Ok((single::run_as(&spec, Some(token), true).await?, (0, 0)));
    }
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let logins = tokio::spawn(log_in(endpoints, args.logins_per_second, counts.clone()));
    let report = single::run_as(&spec, Some(token), true).await;
    logins.abort();
    let [done, refused] = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
    Ok((report?, (done, refused)))
}

/// Turns authentication on, with a user who may read and write all keys: its token.
async fn enable(endpoint: &Endpoint) -> Result<HeaderValue, Error> {
    let channel = Channel::connect(endpoint).await?;
    set_up(&channel).await.map_err(prepare)?;
    let token = log_in_as(&channel, USER).await.map_err(prepare)?;
    HeaderValue::from_str(&token).map_err(|error| prepare(Status::internal(error.to_string())))
}

async fn set_up(channel: &Channel) -> Result<(), Status> {
    let mut auth = AuthClient::with_origin(channel.clone(), channel.origin());
    for name in [USER, ROLE_OF_ALL, VISITOR] {
        auth.user_add(AuthUserAddRequest {
            name: name.to_owned(),
            password: PASSWORD.to_owned(),
            ..AuthUserAddRequest::default()
        })
        .await?;
    }
    auth.role_add(AuthRoleAddRequest {
        name: USER.to_owned(),
    })
    .await?;
    // From the first key on, without end.
    let all = Bytes::from_static(b"\0");
    auth.role_grant_permission(AuthRoleGrantPermissionRequest {
        name: USER.to_owned(),
        perm: Some(Permission {
            perm_type: Type::Readwrite.into(),
            key: all.clone(),
            range_end: all,
        }),
    })
    .await?;
    for name in [USER, ROLE_OF_ALL] {
        auth.user_grant_role(AuthUserGrantRoleRequest {
            user: name.to_owned(),
            role: name.to_owned(),
        })
        .await?;
    }
    auth.auth_enable(AuthEnableRequest {}).await?;
    Ok(())
}

async fn log_in_as(channel: &Channel, name: &str) -> Result<String, Status> {
    let mut auth = AuthClient::with_origin(channel.clone(), channel.origin());
    let login = AuthenticateRequest {
        name: name.to_owned(),
        password: PASSWORD.to_owned(),
    };
    Ok(auth.authenticate(login).await?.into_inner().token)
}

/// Tries so many logins a second, whatever becomes of those before, until it is dropped.
async fn log_in(endpoints: Vec<Endpoint>, per_second: usize, counts: Arc<[AtomicU64; 2]>) {
    let Some(endpoint) = endpoints.first() else { return };
    let Ok(channel) = Channel::connect(endpoint).await else {
        return;
    };
    let mut tries = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second as f64));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let channel = channel.clone();
                tries.spawn(async move { log_in_as(&channel, VISITOR).await.is_ok() });
            }
            Some(ended) = tries.join_next() => {
                let refused = !matches!(ended, Ok(true));
                counts[usize::from(refused)].fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn prepare(status: Status) -> Error {
    Error::Prepare {
        what: "authentication",
        status: Box::new(status),
    }
}

impl Circumstance {
    fn name(self) -> &'static str {
        match self {
            Circumstance::Off => "without authentication",
            Circumstance::On => "with a token",
            Circumstance::BesideLogins => "with a token beside logins",
        }
    }
}

impl Outcome {
    /// Two rows for each load: what a token costs, and what the logins of others cost.
    #[must_use]
    pub fn table(&self, markdown: bool) -> Table {
        let mut table = new_table(markdown);
        table.set_header([
            "load",
            "op/s",
            "server CPU us/op",
            "p99 ms",
            "logins done",
            "logins refused",
        ]);
        for row in &self.rows {
            let (done, refused) = row.logins;
            let none = String::new;
            for (circumstance, figures, logins) in [
                (Circumstance::Off, &row.off, (none(), none())),
                (Circumstance::On, &row.on, (none(), none())),
                (
                    Circumstance::BesideLogins,
                    &row.beside_logins,
                    (done.to_string(), refused.to_string()),
                ),
            ] {
                table.add_row([
                    format!("{} {}", row.load, circumstance.name()),
                    figures.operations_per_second.map_or_else(none, rate),
                    figures
                        .server_cpu_us_per_operation
                        .map_or_else(none, three_digits),
                    figures.p99_ms.map_or_else(none, three_digits),
                    logins.0,
                    logins.1,
                ]);
            }
        }
        align_figures(&mut table);
        table
    }
}

/// Whose token the clients have; its role has the same name.
const USER: &str = "bench";
/// Authentication cannot be turned on without this user and its role.
const ROLE_OF_ALL: &str = "root";
/// Who logs in and does nothing.
const VISITOR: &str = "visitor";
const PASSWORD: &str = "a password of some length";
