//! The measurements of the Kubernetes adapter, in small: a crowd of watchers must see everything here too.
//!
//! They run the `taffrail` that was built beside the tests, or the one that `TAFFRAIL_TEST_SERVER` names.

#![expect(clippy::unwrap_used, reason = "helpers of tests count as tests")]

use std::io::Write as _;
use std::path::PathBuf;

use benches::args::{Cli, Command};
use benches::kubernetes::{Measurement, costs, watchers};
use clap::Parser as _;

#[tokio::test]
async fn a_crowd_of_watchers_sees_every_event_once_and_in_order() {
    for adapter in ["alone", "within"] {
        let flags = "--clients 200 --namespaces 10 --rate 1000000 --writes 1000";
        let Some(what) = measurement("watchers", &format!("{flags} --adapter {adapter}")) else {
            return;
        };
        let Measurement::Watchers(args) = what else {
            panic!("not of watchers");
        };
        let plan = watchers::Plan::new(&args).unwrap();
        let outcome = watchers::run(&plan).await.unwrap();
        assert_eq!(outcome.faults(), [""; 0], "{}", outcome.text(false));
        // The last pod of each namespace comes to what was asked for.
        assert_eq!(outcome.writes, 1000 + 10);
        // Each change has 20 watchers.
        assert_eq!(outcome.seen.delivered, 20 * outcome.writes);
    }
}

#[tokio::test]
async fn every_call_of_the_adapter_has_its_cost() {
    let flags = "--rounds 1 --duration 100ms --warmup 0s --pods 20 --clients 2";
    let Some(what) = measurement("costs", flags) else {
        return;
    };
    let Measurement::Costs(args) = what else {
        panic!("not of costs");
    };
    let costs = costs::run(&costs::Plan::new(&args).unwrap()).await.unwrap();
    assert_eq!(costs.errors(), 0, "{}", costs.text(false));
    assert_eq!(costs.rows.len(), costs::Call::ALL.len());
    for row in &costs.rows {
        assert!(row.rounds[0].calls > 0, "{}", row.call.name());
    }
    // Pods are 1 to 2 kB each, as the README says.
    assert!(
        (20_000..40_000).contains(&costs.list_bytes),
        "{}",
        costs.list_bytes
    );
}

/// A measurement by its flags, bound to no processor; nothing, after a visible line, where there is no server to run.
fn measurement(what: &str, flags: &str) -> Option<Measurement> {
    let program = program()?;
    let line = format!("load kubernetes {what} --server-core 0 --load-core 0 {flags} --binary");
    let words = line.split(' ').map(Into::into).chain([program.into_os_string()]);
    match Cli::try_parse_from(words).unwrap().command {
        Command::Kubernetes { what } => Some(what),
        other => panic!("{other:?}"),
    }
}

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("TAFFRAIL_TEST_SERVER").map(PathBuf::from);
    let beside = || {
        let tests = std::env::current_exe().ok()?;
        let program = tests.parent()?.parent()?.join("taffrail");
        program.is_file().then_some(program)
    };
    let found = named.or_else(beside);
    if found.is_none() {
        let required = std::env::var_os("TAFFRAIL_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(
            !required,
            "this needs the server, and TAFFRAIL_REQUIRE_TOOLS=1 forbids to skip it"
        );
        // Not a print macro: the test runner would swallow the line of a test that passes.
        writeln!(
            std::io::stderr(),
            "SKIPPED: the measurements of the adapter: need a server: cargo build -p server"
        )
        .expect("stderr is open");
    }
    found
}
