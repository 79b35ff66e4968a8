//! Settings from command lines: defaults, etcd's rules and their texts.

use std::time::Duration;

use super::version::version_text;
use super::*;

fn resolve(args: &[&str]) -> Result<Settings, Exit> {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    Settings::resolve(&args, &[])
}

#[test]
fn without_flags_one_member_on_the_loopback() {
    let settings = resolve(&[]).unwrap();
    assert_eq!(settings.store.name, "default");
    assert_eq!(settings.store.data_dir.to_str(), Some("default.etcd"));
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
    assert_eq!(settings.log, LogSettings::default());
    let warnings: Vec<String> = settings.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("it isn't recommended to use default name"));
    assert!(warnings[1].starts_with("'data-dir' was empty; using default"));
}

#[test]
fn the_name_names_directory_and_cluster() {
    let settings = resolve(&["--name=a", "--initial-advertise-peer-urls=http://10.0.0.1:2380"]).unwrap();
    assert_eq!(settings.store.data_dir.to_str(), Some("a.etcd"));
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
fn a_range_of_settings_reaches_its_owners() {
    let settings = resolve(&[
        "--name=m",
        "--listen-client-urls=https://127.0.0.1:1,unix://sock",
        "--advertise-client-urls=https://127.0.0.1:1",
        "--listen-client-http-urls=http://127.0.0.1:2",
        "--cert-file=c",
        "--key-file=k",
        "--client-cert-auth",
        "--tls-max-version=TLS1.2",
        "--cors=http://b:1,http://a:1",
        "--host-whitelist=y,x",
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=10",
        "--metrics=extensive",
        "--feature-gates=LeaseCheckpoint=true",
        "--log-level=debug",
        "--log-outputs=stdout,a.log",
        "--enable-log-rotation",
        "--warning-apply-duration=1s",
        "--grpc-keepalive-min-time=0",
        "--max-learners=3",
        "--data-dir=d",
    ])
    .unwrap();
    let urls = |listeners: &[Listener]| -> Vec<(String, bool)> {
        let urls = listeners
            .iter()
            .map(|listener| (listener.url.clone(), listener.tls));
        urls.collect()
    };
    assert_eq!(
        urls(&settings.listen_client),
        [
            ("https://127.0.0.1:1".to_owned(), true),
            ("unix://sock".to_owned(), false)
        ]
    );
    assert_eq!(settings.listen_client[1].address, Address::Unix("sock".into()));
    assert_eq!(
        urls(&settings.listen_client_http),
        [("http://127.0.0.1:2".to_owned(), false)]
    );
    assert!(settings.client_tls.client_cert_auth && settings.metrics_extensive);
    assert_eq!(settings.client_tls.max_version, Some(TlsVersion::V12));
    assert_eq!(settings.http.cors, ["http://a:1", "http://b:1"]);
    assert_eq!(settings.http.host_whitelist, ["x", "y"]);
    assert!(settings.http.debug && settings.http.gateway && !settings.http.pprof);
    assert_eq!(settings.auto_compaction, AutoCompaction::Revision(10));
    assert!(
        settings
            .feature_gates
            .contains(&("LeaseCheckpoint", "ALPHA", true))
    );
    assert_eq!(
        settings.log.outputs,
        [LogOutput::File("a.log".into()), LogOutput::Stdout]
    );
    assert_eq!(
        settings.log.rotation.map(|rotation| rotation.size_mb_max),
        Some(100)
    );
    assert_eq!(settings.slow.apply, Duration::from_secs(1));
    assert_eq!(settings.connection.ping_min_interval, Duration::from_secs(300));
    assert_eq!(settings.store.learners_max, 3);
    assert!(settings.store.strict_reconfig_check && !settings.store.auto_promote);
    assert_eq!(settings.summary["feature-gates"], "LeaseCheckpoint=true");
}

#[test]
fn quotas_follow_etcds_signs() {
    for (given, quota, warned) in [
        ("0", Some(2 << 30), false),
        ("-1", None, false),
        ("1000", Some(1000), false),
        ("9000000000", Some(9_000_000_000), true),
    ] {
        let settings = resolve(&["--name=a", "--data-dir=d", "--quota-backend-bytes", given]).unwrap();
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
