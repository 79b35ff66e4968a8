//! Settings from command lines: defaults, etcd's rules and their texts.

use super::*;

fn resolve(args: &[&str]) -> Result<Settings, Exit> {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    Settings::resolve(&args, &[])
}

#[test]
fn without_flags_one_member_on_the_loopback() {
    let settings = resolve(&[]).unwrap();
    assert_eq!(settings.store.name, "default");
    assert_eq!(settings.store.data_dir.to_str(), Some("default.taffrail"));
    let listener = |url: &str, address: &str| Listener {
        url: url.to_owned(),
        tls: false,
        address: Address::Tcp(address.parse().unwrap()),
    };
    assert_eq!(
        settings.listen_client,
        [listener("http://localhost:2379", "127.0.0.1:2379")]
    );
    assert_eq!(
        settings.listen_peer,
        [listener("http://localhost:2380", "127.0.0.1:2380")]
    );
    assert_eq!(
        settings.store.initial_cluster,
        [("default".to_owned(), vec!["http://localhost:2380".to_owned()])]
    );
    assert_eq!(settings.store.quota_bytes, Some(2 << 30));
    assert_eq!(settings.connection.message_bytes_max, 2_097_152);
    assert_eq!(settings.connection.streams_max, u32::MAX);
    assert_eq!(
        settings.connection.keepalive,
        Some((Duration::from_secs(7200), Duration::from_secs(20)))
    );
    assert_eq!(
        settings.log,
        LogSettings {
            level: tracing::Level::INFO,
            format: LogFormat::Json
        }
    );
    assert!(settings.warnings.is_empty());
}

#[test]
fn the_name_names_directory_and_cluster() {
    let settings = resolve(&["--name=a", "--initial-advertise-peer-urls=http://10.0.0.1:2380"]).unwrap();
    assert_eq!(settings.store.data_dir.to_str(), Some("a.taffrail"));
    assert_eq!(
        settings.store.initial_cluster,
        [("a".to_owned(), vec!["http://10.0.0.1:2380".to_owned()])]
    );
}

#[test]
fn a_given_cluster_is_read_in_its_order() {
    let settings = resolve(&[
        "--name=a",
        "--initial-advertise-peer-urls=http://127.0.0.1:2,http://127.0.0.1:1",
        "--initial-cluster=b=http://127.0.0.1:3,a=http://127.0.0.1:1,a=http://localhost:2",
        "--initial-cluster-state=existing",
    ])
    .unwrap();
    assert_eq!(
        settings.store.initial_cluster,
        [
            ("b".to_owned(), vec!["http://127.0.0.1:3".to_owned()]),
            (
                "a".to_owned(),
                vec!["http://127.0.0.1:1".to_owned(), "http://localhost:2".to_owned()]
            ),
        ]
    );
    assert_eq!(
        settings.store.initial_cluster_state,
        store::shell::ClusterState::Existing
    );
    assert_eq!(
        settings.store.initial_advertise_peer_urls,
        ["http://127.0.0.1:1", "http://localhost:2"]
    );
}

#[test]
fn what_contradicts_itself_is_refused_in_one_line() {
    let cases: [(&[&str], &str); 19] = [
        (
            &["--election-timeout=100"],
            "--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (
            &["--election-timeout=60000"],
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
        ),
        (
            &["--heartbeat-interval=0"],
            "--heartbeat-interval must be >0 (set to 0ms)",
        ),
        (
            &["--election-timeout=0"],
            "--election-timeout must be >0 (set to 0ms)",
        ),
        (
            &["--listen-client-urls=http://127.0.0.1:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &[
                "--listen-client-urls=http://example.com:1",
                "--advertise-client-urls=http://x:1",
            ],
            "expected IP in URL for binding (http://example.com:1)",
        ),
        (
            &["--listen-peer-urls=https://127.0.0.1:1"],
            "https://127.0.0.1:1: TLS between members is not supported by this version of Taffrail",
        ),
        (
            &["--initial-advertise-peer-urls=https://127.0.0.1:1"],
            "https://127.0.0.1:1: TLS between members is not supported by this version of Taffrail",
        ),
        (
            &["--initial-cluster=default=http://localhost:2380,b=unix://x"],
            "unix://x: unix sockets between members are not supported by this version of Taffrail",
        ),
        (
            &["--initial-cluster=a=http://127.0.0.1:2380"],
            "couldn't find local name \"default\" in the initial cluster configuration",
        ),
        (
            &["--initial-cluster="],
            "couldn't find local name \"default\" in the initial cluster configuration",
        ),
        (
            &["--initial-cluster=default=http://127.0.0.1:2381"],
            "--initial-cluster has default=http://127.0.0.1:2381 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380",
        ),
        (
            &["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"],
            "error setting up initial cluster: members \"default\" and \"b\" have a URL in common",
        ),
        (
            &["--initial-cluster=foo"],
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
        ),
        (&["--log-level=foo"], "unrecognized level: \"foo\""),
        (
            &["--log-format=xx"],
            "unknown log format: xx, supported values json, console",
        ),
        (&["--logger=foo"], "unknown logger option \"foo\""),
        (
            &["--watch-progress-notify-interval=1ms"],
            "--watch-progress-notify-interval must be at least 100ms",
        ),
        (
            &["--max-request-bytes=99999999999"],
            "--max-request-bytes 99999999999 is too large: at most 2146959359",
        ),
    ];
    for (args, text) in cases {
        assert_eq!(
            resolve(args).expect_err("must be refused"),
            Exit::Setting(text.to_owned()),
            "{args:?}"
        );
    }
}

#[test]
fn quotas_follow_etcds_signs() {
    for (given, quota, warned) in [
        ("0", Some(2 << 30), false),
        ("-1", None, false),
        ("1000", Some(1000), false),
        ("9000000000", Some(9_000_000_000), true),
    ] {
        let settings = resolve(&["--quota-backend-bytes", given]).unwrap();
        assert_eq!(
            (settings.store.quota_bytes, !settings.warnings.is_empty()),
            (quota, warned),
            "{given}"
        );
    }
}

#[test]
fn the_version_begins_as_etcds_does() {
    let lines: Vec<String> = version_text().lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "etcd Version: 3.7.1");
    assert!(lines[1].starts_with("Git SHA: "));
    assert!(lines[2].starts_with("Go Version: "));
    assert!(lines[3].starts_with("Go OS/Arch: "));
    assert_eq!(lines[4], format!("Taffrail Version: {TAFFRAIL_VERSION}"));
}
