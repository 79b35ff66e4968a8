//! Flags, variables and the configuration file: what is refused, in which words and with which exit code; what is
//! obeyed; what the log looks like. The tables hold for a real etcd as well.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use crate::harness::*;
use serde_json::Value;

/// A process in its own empty directory, which holds the file `c.yml` with `yaml`. `{a}` and `{b}` in arguments are
/// free ports.
fn command(dir: &Path, line: &str, variables: &[(&str, &str)], yaml: &str) -> Command {
    fs::write(dir.join("c.yml"), yaml).unwrap();
    let ports = Ports::reserve();
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_") {
            command.env_remove(name);
        }
    }
    for word in line.split_whitespace() {
        command.arg(
            word.replace("{a}", &ports.client.to_string())
                .replace("{b}", &ports.peer.to_string()),
        );
    }
    command
        .envs(variables.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a process that must end by itself.
fn run(line: &str, variables: &[(&str, &str)], yaml: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command(dir.path(), line, variables, yaml).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{line:?} did not end: {:?}", child.wait_with_output());
        }
        std::thread::yield_now();
    }
    child.wait_with_output().unwrap()
}

/// The standard error, quotation marks of JSON unescaped.
fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).replace("\\\"", "\"")
}

#[track_caller]
fn assert_refused(line: &str, variables: &[(&str, &str)], yaml: &str, code: i32, reason: &str) {
    let output = run(line, variables, yaml);
    let told = told(&output);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{line} {variables:?} {yaml}: {told}"
    );
    assert!(
        told.contains(reason),
        "{line} {variables:?} {yaml}: {reason:?} is not in {told}"
    );
    assert_eq!(code == 2, told.contains("Usage:"), "{line}: {told}");
    assert!(output.stdout.is_empty(), "{line}");
}

#[test]
fn command_lines_that_cannot_be_read_exit_2_with_the_usage() {
    for (line, reason) in [
        ("--nope", "flag provided but not defined: -nope"),
        ("--nope=1", "flag provided but not defined: -nope"),
        ("-discovery=x", "flag provided but not defined: -discovery"),
        ("--enable-v2", "flag provided but not defined: -enable-v2"),
        ("--proxy=on", "flag provided but not defined: -proxy"),
        ("--name", "flag needs an argument: -name"),
        ("---name", "bad flag syntax: ---name"),
        ("--=x", "bad flag syntax: --=x"),
        (
            "--heartbeat-interval=abc",
            "invalid value \"abc\" for flag -heartbeat-interval: parse error",
        ),
        (
            "--heartbeat-interval=-1",
            "invalid value \"-1\" for flag -heartbeat-interval: parse error",
        ),
        (
            "--heartbeat-interval=99999999999999999999",
            "invalid value \"99999999999999999999\" for flag -heartbeat-interval: value out of range",
        ),
        (
            "--max-txn-ops=-1",
            "invalid value \"-1\" for flag -max-txn-ops: parse error",
        ),
        (
            "--quota-backend-bytes=abc",
            "invalid value \"abc\" for flag -quota-backend-bytes: parse error",
        ),
        (
            "--pre-vote=foo",
            "invalid boolean value \"foo\" for -pre-vote: parse error",
        ),
        (
            "--enable-grpc-gateway=foo",
            "invalid boolean value \"foo\" for -enable-grpc-gateway: parse error",
        ),
        (
            "--initial-cluster-state=foo",
            "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
        ),
        (
            "--discovery-fallback=foo",
            "invalid value \"foo\" for flag -discovery-fallback: invalid value",
        ),
        (
            "--v2-deprecation=not-yet",
            "invalid value \"not-yet\" for flag -v2-deprecation: invalid value \"not-yet\"",
        ),
        (
            "--feature-gates=A=true",
            "invalid value \"A=true\" for flag -feature-gates: unrecognized feature gate: A",
        ),
        ("--feature-gates=AllAlpha", "missing bool value for AllAlpha"),
        (
            "--feature-gates=AllAlpha=x",
            "invalid value of AllAlpha=x, err: strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
        (
            "--watch-progress-notify-interval=5",
            "invalid value \"5\" for flag -watch-progress-notify-interval: parse error",
        ),
        (
            "--max-concurrent-streams=abc",
            "invalid value \"abc\" for flag -max-concurrent-streams: strconv.ParseUint: parsing \"abc\": invalid syntax",
        ),
        (
            "--max-concurrent-streams=4294967296",
            "parsing \"4294967296\": value out of range",
        ),
        (
            "--listen-client-urls=foo",
            "URL scheme must be http, https, unix, or unixs: foo",
        ),
        (
            "--listen-client-urls=127.0.0.1:1",
            "parse \"127.0.0.1:1\": first path segment in URL cannot contain colon",
        ),
        (
            "--listen-client-urls=localhost:1",
            "URL scheme must be http, https, unix, or unixs: localhost:1",
        ),
        (
            "--listen-client-urls=http://127.0.0.1",
            "URL address does not have the form \"host:port\": http://127.0.0.1",
        ),
        (
            "--listen-peer-urls=http://127.0.0.1:x",
            "parse \"http://127.0.0.1:x\": invalid port \":x\" after host",
        ),
        (
            "--listen-metrics-urls=http://127.0.0.1:1/",
            "URL must not contain a path: http://127.0.0.1:1/",
        ),
        (
            "--cors=http://x.y",
            "invalid value \"http://x.y\" for flag -cors: URL address does not have the form",
        ),
        (
            "--cors=",
            "invalid value \"\" for flag -cors: URL scheme must be http, https, unix, or unixs: ",
        ),
    ] {
        assert_refused(line, &[], "", 2, reason);
    }
}

#[test]
fn settings_that_make_no_sense_exit_1_with_a_line_of_the_log() {
    for (line, reason) in [
        ("-", "\"-\" is not a valid flag"),
        ("foo", "\"foo\" is not a valid flag"),
        ("-- foo", "\"foo\" is not a valid flag"),
        ("--version foo", "\"foo\" is not a valid flag"),
        (
            "--listen-client-urls=http://127.0.0.1:{a}",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--listen-client-urls=",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--listen-client-urls=http://127.0.0.1:{a} --advertise-client-urls=http://:1",
            "--advertise-client-urls \"http://:1\" must be in the format \"host:port\", \"unix:/path/to/socket\" or \
             \"unixs:/path/to/socket\" (unexpected empty host (http://:1))",
        ),
        (
            "--initial-advertise-peer-urls=http://:1",
            "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" (unexpected empty host (http://:1))",
        ),
        (
            "--listen-peer-urls=http://example.com:1",
            "expected IP in URL for binding (http://example.com:1)",
        ),
        (
            "--listen-metrics-urls=http://example.com:1",
            "expected IP in URL for binding (http://example.com:1)",
        ),
        (
            "--listen-client-http-urls=http://a.b:1",
            "expected IP in URL for binding (http://a.b:1)",
        ),
        (
            "--election-timeout=100",
            "--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (
            "--election-timeout=60000",
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
        ),
        (
            "--heartbeat-interval=0",
            "--heartbeat-interval must be >0 (set to 0ms)",
        ),
        (
            "--election-timeout=0",
            "--election-timeout must be >0 (set to 0ms)",
        ),
        (
            "--log-format=xx",
            "unknown log format: xx, supported values json, console",
        ),
        ("--logger=foo", "unknown logger option \"foo\""),
        ("--logger=capnslog", "--logger=capnslog is removed in v3.5"),
        (
            "--log-outputs=default,stderr",
            "multi logoutput for \"default\" is not supported yet",
        ),
        (
            "--log-outputs=systemd/journal,stderr",
            "running with systemd/journal but other '--log-outputs' values ([\"stderr\" \"systemd/journal\"]) are",
        ),
        (
            "--log-outputs=/nonexistent/x/y",
            "open sink \"/nonexistent/x/y\": open /nonexistent/x/y: no such file or directory",
        ),
        (
            "--enable-log-rotation",
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            "--enable-log-rotation --log-outputs=a,b",
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            "--enable-log-rotation --log-outputs=a --log-rotation-config-json={",
            "improperly formatted log rotation config: unexpected end of JSON input",
        ),
        (
            "--enable-log-rotation --log-outputs=a --log-rotation-config-json={\"maxsize\":true}",
            "invalid log rotation config: ",
        ),
        (
            "--auto-compaction-mode=foo",
            "unknown auto-compaction-mode \"foo\"",
        ),
        ("--auto-compaction-mode=", "undefined auto-compaction-mode"),
        (
            "--tls-min-version=TLS1.1",
            "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
        ),
        (
            "--tls-min-version=TLS1.3 --tls-max-version=TLS1.2",
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            "--tls-min-version=TLS1.3 --cipher-suites=TLS_AES_128_GCM_SHA256",
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (
            "--discovery-fallback=proxy",
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ),
        (
            "--discovery-token=x",
            "both --discovery-token and --discovery-endpoints must be set",
        ),
        (
            "--discovery-endpoints=http://a:1",
            "both --discovery-token and --discovery-endpoints must be set",
        ),
        (
            "--discovery-srv=x --initial-cluster=a=http://127.0.0.1:1",
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        ),
        (
            "--compact-hash-check-time=-1s",
            "--compact-hash-check-time must be >0 (set to -1s)",
        ),
        (
            "--enable-distributed-tracing --distributed-tracing-sampling-rate=-1",
            "distributed tracing configurition is not valid: (tracing sampling rate must be positive)",
        ),
        (
            "--feature-gates=LeaseCheckpointPersist=true",
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (
            "--force --v=1 --election-timeout=100",
            "--election-timeout[100ms] should be",
        ),
    ] {
        assert_refused(line, &[], "", 1, reason);
        assert_refused(line, &[], "", 1, "\"msg\":\"failed to verify flags\"");
    }
}

#[test]
fn what_etcd_finds_wrong_when_it_starts_exits_1_as_well() {
    let ours = "--listen-client-urls=http://127.0.0.1:{a} --advertise-client-urls=http://127.0.0.1:{a} \
                --listen-peer-urls=http://127.0.0.1:{b}";
    let secure = "--listen-client-urls=https://127.0.0.1:{a} --advertise-client-urls=https://127.0.0.1:{a} \
                  --listen-peer-urls=http://127.0.0.1:{b}";
    for (line, flag, reason) in [
        (
            ours,
            "--auto-compaction-retention=abc",
            "error parsing CompactionRetention: time: invalid duration \"abc\"",
        ),
        (
            ours,
            "--auto-compaction-retention=-1",
            "error parsing CompactionRetention: time: missing unit in duration \"-1\"",
        ),
        (
            ours,
            "--initial-cluster=a=http://127.0.0.1:2380",
            "couldn't find local name \"default\" in the initial cluster configuration",
        ),
        (
            ours,
            "--initial-cluster=",
            "couldn't find local name \"default\" in the initial cluster configuration",
        ),
        (
            ours,
            "--name=",
            "couldn't find local name \"\" in the initial cluster configuration",
        ),
        (
            ours,
            "--initial-cluster=default=http://127.0.0.1:2381",
            "--initial-cluster has default=http://127.0.0.1:2381 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380 (resolved urls: \"http://localhost:2380\" != \
             \"http://127.0.0.1:2381\")",
        ),
        (
            ours,
            "--initial-cluster=foo",
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
        ),
        (
            ours,
            "--initial-cluster=default=http://localhost:2380,b=http://localhost:2380",
            "initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url",
        ),
        (
            ours,
            "--initial-cluster=default=http://localhost:2380,default=http://localhost:2380",
            "failed to resolve http://localhost:2380 to match --initial-cluster=default=http://localhost:2380 \
             (len([\"http://localhost:2380\"]) != len([\"http://localhost:2380\" \"http://localhost:2380\"]))",
        ),
        (ours, "--cipher-suites=FOO", "unexpected TLS cipher suite \"FOO\""),
        (ours, "--auth-token=foo", "auth: invalid auth options"),
        (
            ours,
            "--max-learners=-1",
            "membership: too many learner members in cluster",
        ),
        (
            secure,
            "",
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:",
        ),
        (
            secure,
            "--cert-file=x",
            "KeyFile and CertFile must both be present[key: , cert: x]",
        ),
    ] {
        assert_refused(&format!("{line} {flag}"), &[], "", 1, reason);
    }
}

#[test]
fn files_that_make_no_sense_are_refused_as_by_etcd() {
    let decoding = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal ";
    for (yaml, reason) in [
        (
            "x: 1\n y: 2\n",
            "error converting YAML to JSON: yaml: line 2: mapping values are not allowed in this context",
        ),
        (
            "heartbeat-interval: abc\n",
            "string into Go struct field configYAML.Config.heartbeat-interval of type uint",
        ),
        (
            "heartbeat-interval: -3\n",
            "number -3 into Go struct field configYAML.Config.heartbeat-interval of type uint",
        ),
        (
            "watch-progress-notify-interval: 10m\n",
            "string into Go struct field configYAML.Config.watch-progress-notify-interval of type time.Duration",
        ),
        (
            "name: 5\n",
            "number into Go struct field configYAML.Config.name of type string",
        ),
        (
            "pre-vote: \"yes\"\n",
            "string into Go struct field configYAML.Config.pre-vote of type bool",
        ),
        (
            "log-outputs: stderr\n",
            "string into Go struct field configYAML.Config.log-outputs of type []string",
        ),
        (
            "client-transport-security: {cert-file: 5}\n",
            "number into Go struct field securityConfig.configJSON.client-transport-security.cert-file of type string",
        ),
        ("just words\n", "string into Go value of type embed.configYAML"),
        ("feature-gates: Nope=true\n", "unrecognized feature gate: Nope"),
        ("initial-cluster-state: foo\n", "unexpected clusterState \"foo\""),
        (
            "election-timeout: 100\n",
            "--election-timeout[100ms] should be at least as 5 times as",
        ),
        (
            "listen-client-urls: foo\n",
            "unexpected error setting up listen-client-urls: URL scheme must be http",
        ),
        (
            "advertise-client-urls: foo\n",
            "unexpected error setting up advertise-peer-urls: URL scheme must be http",
        ),
    ] {
        assert_refused("--config-file=c.yml", &[], yaml, 1, reason);
        if reason.contains("into Go") {
            assert_refused(
                "--config-file=c.yml",
                &[],
                yaml,
                1,
                &format!("{decoding}{reason}"),
            );
        }
    }
    let missing = "open none.yml: no such file or directory";
    assert_refused("--config-file=none.yml", &[], "", 1, missing);
    assert_refused("", &[("ETCD_CONFIG_FILE", "none.yml")], "", 1, missing);
}

#[test]
fn case_80_a_flag_and_a_variable_of_one_setting_conflict() {
    let reason = "\"msg\":\"conflicting environment variable is shadowed by corresponding command-line flag (either \
                  unset environment variable or disable flag))\",\"environment-variable\":\"ETCD_NAME\"";
    for value in ["x", "y", ""] {
        assert_refused("--name=y", &[("ETCD_NAME", value)], "", 1, reason);
        assert_refused("--name=y", &[("ETCD_NAME", value)], "", 1, "\"level\":\"fatal\"");
    }
    for (variable, value, reason) in [
        (
            "ETCD_HEARTBEAT_INTERVAL",
            "abc",
            "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error",
        ),
        (
            "ETCD_PRE_VOTE",
            "abc",
            "invalid value \"abc\" for ETCD_PRE_VOTE: parse error",
        ),
        (
            "ETCD_NOPE",
            "1",
            "\"msg\":\"unrecognized environment variable\",\"environment-variable\":\"ETCD_NOPE=1\"",
        ),
    ] {
        assert_refused("--election-timeout=100", &[(variable, value)], "", 1, reason);
    }
}

/// A running process; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn case_81_a_configuration_file_makes_all_flags_ineffective() {
    let (dir, ports) = (tempfile::tempdir().unwrap(), Ports::reserve());
    let (client, peer) = (
        format!("http://127.0.0.1:{}", ports.client),
        format!("http://127.0.0.1:{}", ports.peer),
    );
    let yaml = format!(
        "name: of-file\ndata-dir: data\nlisten-client-urls: {client}\nadvertise-client-urls: {client}\n\
         listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\ninitial-cluster: of-file={peer}\n\
         warning-apply-duration: 100000000\nno-such-key: 1\nclient-transport-security:\n  client-cert-auth: false\n"
    );
    // Neither the name nor the timeout, which would be refused, nor the conflict counts.
    let line = "--config-file=c.yml --name=of-flag --election-timeout=100 --data-dir=other";
    let mut command = command(dir.path(), line, &[("ETCD_NAME", "of-variable")], &yaml);
    let _running = Running(command.stderr(Stdio::null()).spawn().unwrap());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], ports.client));
    wait_until("health", || {
        http_get(address, "/health").is_some_and(|answer| answer.status == 200)
    });
    let client = Client::connect(&client).await;
    let request = proto::etcdserverpb::MemberListRequest { linearizable: true };
    let members = client.cluster.clone().member_list(request).await.unwrap();
    assert_eq!(members.into_inner().members[0].name, "of-file");
    assert!(dir.path().join("data/member").is_dir() && !dir.path().join("other").exists());
}

#[test]
fn the_default_directory_is_the_name_with_etcds_ending() {
    let (dir, ports) = (tempfile::tempdir().unwrap(), Ports::reserve());
    let line = format!(
        "--name=m --listen-client-urls=http://127.0.0.1:{0} --advertise-client-urls=http://127.0.0.1:{0} \
         --listen-peer-urls=http://127.0.0.1:{1} --initial-advertise-peer-urls=http://127.0.0.1:{1}",
        ports.client, ports.peer
    );
    let _running = Running(
        command(dir.path(), &line, &[], "")
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    wait_until("the directory", || dir.path().join("m.etcd/member").is_dir());
}

#[tokio::test]
async fn every_line_of_a_start_and_a_stop_is_json_and_none_an_error() {
    let mut server = Server::start_with(&["--log-format=json", "--snapshot-catchup-entries=1000"]);
    let client = server.client().await;
    for key in ["a", "b", "c"] {
        client.put(key, "1").await;
    }
    drop(client);
    server.terminate();
    let log = server.log();
    let mut messages = Vec::new();
    for line in log.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["level", "ts", "caller", "msg"] {
            assert!(value[key].is_string(), "{key} is missing: {line}");
        }
        let message = value["msg"].as_str().unwrap();
        // etcd itself logs this one when its listeners close.
        if message != "setting up serving from embedded etcd failed." {
            assert!(
                !["error", "fatal"].contains(&value["level"].as_str().unwrap()),
                "{line}"
            );
        }
        messages.push(message.to_owned());
    }
    for message in [
        "Running: ",
        "starting an etcd server",
        "ready to serve client requests",
        "received signal; shutting down",
        "closing etcd server",
        "closed etcd server",
    ] {
        assert!(
            messages.iter().any(|found| found == message),
            "{message}: {messages:?}"
        );
    }
    assert!(log.contains("\"snapshot-catchup-entries\":1000"), "{log}");
    assert!(log.contains("\"v2-deprecation\":\"write-only\""), "{log}");
}

#[test]
fn the_log_goes_where_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.log");
    let flags = [
        format!("--log-outputs=stderr,{}", path.display()),
        "--log-format=console".to_owned(),
        "--enable-log-rotation".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = Server::start_with(&flags);
    for log in [server.log(), fs::read_to_string(&path).unwrap()] {
        let line = log
            .lines()
            .find(|line| line.contains("ready to serve client requests"))
            .unwrap_or_else(|| panic!("{log}"));
        let parts: Vec<&str> = line.split('\t').collect();
        assert_eq!(
            (parts[1], parts[3]),
            ("info", "ready to serve client requests"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn the_log_of_the_store_may_have_a_directory_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let mut server = Server::start_with(&["--wal-dir", &wal.display().to_string()]);
    server.client().await.put("a", "1").await;
    assert!(fs::read_dir(&wal).unwrap().count() > 0);
    assert!(!server.data_dir().join("member/wal").exists());
    server.kill();
    server.run();
    assert_eq!(server.client().await.put("a", "2").await, 3);
}

#[test]
fn what_is_deprecated_is_obeyed_with_a_warning() {
    let flags = ["--max-snapshots=10", "--v2-deprecation=write-only-drop-data"];
    let log = Server::start_with(&flags).log();
    for warning in [
        "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
        "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring \
         user input.",
    ] {
        assert!(log.contains(warning), "{log}");
    }
    if !runs_taffrail() {
        return; // 3.7 knows the names of 3.6 no more
    }
    let flags = [
        "--experimental-initial-corrupt-check=true",
        "--experimental-watch-progress-notify-interval=5s",
    ];
    let log = Server::start_with(&flags).log();
    for warning in [
        "Use '--feature-gates=InitialCorruptCheck=true' instead.",
        "Use '--watch-progress-notify-interval' instead.",
        "\"feature-gates\":\"InitialCorruptCheck=true\"",
    ] {
        assert!(log.contains(warning), "{log}");
    }
}

#[test]
fn help_lists_every_flag_with_its_default() {
    let output = run("--help", &[], "");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    for section in [
        "Member:",
        "Clustering:",
        "Security:",
        "Auth:",
        "Profiling and Monitoring:",
        "Logging:",
    ] {
        assert!(text.lines().any(|line| line == section), "{section}: {text}");
    }
    for flag in [
        "--name 'default'",
        "--data-dir '${name}.etcd'",
        "--snapshot-count '10000'",
        "--listen-client-urls 'http://localhost:2379'",
        "--quota-backend-bytes '0'",
        "--auto-compaction-mode 'periodic'",
        "--tls-min-version 'TLS1.2'",
        "--log-level 'info'",
        "--max-learners '1'",
        "--force-new-cluster 'false'",
    ] {
        assert!(text.contains(flag), "{flag}: {text}");
    }
    assert!(told(&output).starts_with("Usage:"), "{output:?}");
    if runs_taffrail() {
        let output = run("grpc-proxy start", &[], "");
        assert_eq!(output.status.code(), Some(1));
        assert!(
            told(&output).contains("grpc-proxy is not supported"),
            "{output:?}"
        );
    }
}
