//! Load generator for any etcd v3 endpoint; see `load --help`.

use std::io::Write as _;
use std::process::ExitCode;

use benches::args::{CatchUpArgs, ChurnArgs, Cli, Command, CompareArgs, Output, RunArgs};
use benches::auth::{self, AuthArgs};
use benches::catch_up;
use benches::churn;
use benches::compare::{self, Plan};
use benches::kubernetes::{Measurement, costs, watchers};
use benches::spec::Kind;
use benches::{Error, run};
use clap::{CommandFactory, Parser};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread: the generator gets one core, and clients that share it need no synchronisation.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(execute(&cli.command)),
        Err(source) => Err(Error::System {
            what: "start the runtime",
            source,
        }),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("load: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: &Command) -> Result<ExitCode, Error> {
    match command {
        Command::Compare(args) => compared(args).await,
        Command::CatchUp(args) => caught_up(args).await,
        Command::Churn(args) => churned(args).await,
        Command::Auth(args) => authenticated(args).await,
        Command::Kubernetes {
            what: Measurement::Costs(args),
        } => adapter_cost(args).await,
        Command::Kubernetes {
            what: Measurement::Watchers(args),
        } => crowd_watched(args).await,
        loads => match loads.run() {
            Some((args, kind)) => measured(args, kind).await,
            None => Ok(ExitCode::SUCCESS),
        },
    }
}

/// Fails where clients were cut off: the figures are then of less load than was asked for.
async fn measured(args: &RunArgs, kind: Kind) -> Result<ExitCode, Error> {
    let spec = match args.spec(kind) {
        Ok(spec) => spec,
        Err(error) => Cli::command()
            .error(clap::error::ErrorKind::ValueValidation, error)
            .exit(),
    };
    let report = run::run(&spec, true).await?;
    print(&match args.output {
        Output::Json => json(&report),
        Output::Table => report.table(false).to_string(),
        Output::Markdown => report.table(true).to_string(),
    })?;
    for line in report.error_lines() {
        eprintln!("{line}");
    }
    Ok(if report.clients_given_up > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Fails where a measurement is missing, after printing the others.
async fn compared(args: &CompareArgs) -> Result<ExitCode, Error> {
    let comparison = compare::run(&Plan::new(args)?).await?;
    print(&match args.output {
        Output::Json => json(&comparison),
        Output::Table => comparison.table(false).to_string(),
        Output::Markdown => comparison.table(true).to_string(),
    })?;
    Ok(if comparison.has_failures() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Fails where a phase is missing or the members differ, after printing what there is.
async fn caught_up(args: &CatchUpArgs) -> Result<ExitCode, Error> {
    let outcome = catch_up::run(&catch_up::Plan::new(args)?).await?;
    print(&match args.output {
        Output::Json => json(&outcome),
        Output::Table => outcome.text(false),
        Output::Markdown => outcome.text(true),
    })?;
    for failure in &outcome.failures {
        eprintln!("load: {failure}");
    }
    Ok(if outcome.failures.is_empty() && outcome.members_agree() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Fails where a chapter is missing or the members differ, after printing what there is.
async fn churned(args: &ChurnArgs) -> Result<ExitCode, Error> {
    let outcome = churn::run(&churn::Plan::new(args)?).await?;
    print(&match args.output {
        Output::Json => json(&outcome),
        Output::Table => outcome.text(false),
        Output::Markdown => outcome.text(true),
    })?;
    for failure in &outcome.failures {
        eprintln!("load: {failure}");
    }
    Ok(if outcome.failures.is_empty() && outcome.members_agree {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn authenticated(args: &AuthArgs) -> Result<ExitCode, Error> {
    let outcome = auth::run(args).await?;
    print(&match args.output {
        Output::Json => json(&outcome),
        Output::Table => outcome.table(false).to_string(),
        Output::Markdown => outcome.table(true).to_string(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Fails where calls failed, after printing what there is.
async fn adapter_cost(args: &costs::CostsArgs) -> Result<ExitCode, Error> {
    let outcome = costs::run(&costs::Plan::new(args)?).await?;
    print(&match args.output {
        Output::Json => json(&outcome),
        Output::Table => outcome.text(false),
        Output::Markdown => outcome.text(true),
    })?;
    Ok(if outcome.errors() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Fails where a watcher did not see what it should, or the adapter held too much, after printing what there is.
async fn crowd_watched(args: &watchers::WatchersArgs) -> Result<ExitCode, Error> {
    let outcome = watchers::run(&watchers::Plan::new(args)?).await?;
    print(&match args.output {
        Output::Json => json(&outcome),
        Output::Table => outcome.text(false),
        Output::Markdown => outcome.text(true),
    })?;
    let faults = outcome.faults();
    for fault in &faults {
        eprintln!("load: {fault}");
    }
    Ok(if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("plain structs become JSON")
}

/// The result, on standard output; all else goes to standard error.
fn print(text: &str) -> Result<(), Error> {
    writeln!(std::io::stdout(), "{text}").map_err(|source| Error::System {
        what: "write the result",
        source,
    })
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
