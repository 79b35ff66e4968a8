//! Bodies that are no objects, or are made to hurt whoever reads them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use apiserver::codec;
use apiserver::object::Object;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write as _;

use crate::asking::{Answer, Asker, MAPS, config_map};
use crate::harness::*;

#[tokio::test]
async fn odd_bodies_are_refused_in_words() {
    let kubernetes = Kubernetes::start().await;
    let asker = Asker::at(&kubernetes.url());
    let map = |data: &str| {
        format!("{{\"metadata\":{{\"name\":\"a\"}},\"data\":{{\"value\":{data}}}}}").into_bytes()
    };
    let deep =
        |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000)).into_bytes();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&map("\"1\"")).unwrap();
    let gzip = gzip.finish().unwrap();
    let object: Object = serde_json::from_value(config_map("a", "1")).unwrap();
    let protobuf = codec::to_protobuf(&object, "io.k8s.api.core.v1.ConfigMap").unwrap();
    let cut = protobuf[..protobuf.len() - 9].to_vec();
    // A message that says to be as long as nothing is, and messages in each other without end.
    let huge = [b"k8s\0\x12".as_slice(), &[0xff; 9], &[0x01]].concat();
    // Field 15, 30,000 times begun and ended, in an envelope of that length.
    let groups = [
        b"k8s\0\x12\xe0\xd4\x03".as_slice(),
        &[0x7b; 30_000],
        &[0x7c; 30_000],
    ]
    .concat();
    let list = vec!["x"; 2000].join(",");
    let aliases = vec!["*a"; 20_000].join(",");
    let bomb = format!("metadata: {{name: a, annotations: &a [{list}]}}\ndata: [{aliases}]\n");
    let (json, yaml, pb) = (
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
    );
    let before = peak_bytes(&kubernetes.server);
    for (kind, body, code, told) in [
        (
            json,
            b"".to_vec(),
            400,
            "the object provided is unrecognized (must be of type ConfigMap)",
        ),
        (
            json,
            b"{".to_vec(),
            400,
            "couldn't get version/kind; json parse error: ",
        ),
        (json, b"[]".to_vec(), 400, "unrecognized"),
        (json, b"null".to_vec(), 422, "name or generateName is required"),
        (
            json,
            map("1"),
            400,
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (json, map("1e400"), 400, "number out of range"),
        (
            json,
            map("\"\u{fe}\"")
                .iter()
                .map(|byte| if *byte == 0xc3 { 0xff } else { *byte })
                .collect(),
            400,
            "unrecognized",
        ),
        (json, map("\"\0\""), 400, "unrecognized"),
        (json, map("\"1\"} {"), 400, "unrecognized"),
        (json, deep("[", "]"), 400, "unrecognized"),
        (json, deep("{\"a\":", "}"), 400, "unrecognized"),
        (json, gzip.clone(), 400, "unrecognized"),
        (
            "application/json; charset=utf-8",
            map("\"1\""),
            201,
            "\"value\":\"1\"",
        ),
        (
            "text/plain",
            map("\"1\""),
            415,
            "accepted media types include: application/json, application/yaml",
        ),
        (yaml, deep("[", "]"), 400, "too many brackets"),
        (yaml, b"a: *b".to_vec(), 400, "unknown anchor"),
        (yaml, bomb.into_bytes(), 400, "excessive aliasing"),
        (yaml, b"\xff\xfe".to_vec(), 400, "unrecognized"),
        (yaml, b"metadata: {name: .inf}".to_vec(), 400, "no number of JSON"),
        (pb, cut, 400, "Bad"),
        (pb, huge, 400, "Bad"),
        (pb, groups, 400, "Bad"),
        (
            pb,
            b"k8s".to_vec(),
            400,
            "does not appear to be a protobuf message",
        ),
        (pb, map("\"1\""), 400, "does not appear to be a protobuf message"),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let answer = asker.send("POST", MAPS, kind, body).await;
        assert_eq!(answer.code, code, "{kind} {shown}: {}", answer.text());
        assert!(answer.text().contains(told), "{kind} {shown}: {}", answer.text());
        assert!(answer.text().len() < 4096, "{kind} {shown}: {}", answer.text());
    }
    let grown = peak_bytes(&kubernetes.server).saturating_sub(before);
    assert!(grown < GROWN_BYTES_MAX, "{grown} bytes");
    // Numbers that no field holds.
    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    for number in [
        "2147483648",
        "18446744073709551616",
        "1.5",
        "-9223372036854775809",
    ] {
        let body =
            format!("{{\"metadata\":{{\"name\":\"l\"}},\"spec\":{{\"leaseDurationSeconds\":{number}}}}}");
        let answer = asker.send("POST", lease, json, body).await;
        assert_eq!(answer.code, 400, "{}", answer.text());
        let told = "into Go struct field LeaseSpec.spec.leaseDurationSeconds of type int32";
        assert!(answer.message().contains(told), "{}", answer.text());
    }
}

/// The most that the process has ever held.
fn peak_bytes(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
    kibibytes.parse::<usize>().unwrap() << 10
}

/// What a client is warned of are its own words, which may be long and many.
#[tokio::test]
async fn warnings_are_cut() {
    let kubernetes = Kubernetes::start().await;
    let asker = Asker::at(&kubernetes.url());
    let path = format!("{MAPS}?dryRun=All");
    let warnings = async |fields: &[String]| -> Vec<String> {
        let mut map = config_map("a", "1");
        for field in fields {
            map[field] = Value::Null;
        }
        let answer = asker.post(&path, &map).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
        let found = answer.headers.get_all("warning").iter();
        found
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    };
    assert_eq!(
        warnings(&["o\"d\nd\u{e9}".to_owned()]).await,
        ["299 - \"unknown field \\\"o\\\"dd\u{e9}\\\"\""]
    );
    let many: Vec<String> = (0..200)
        .map(|number| format!("{number:03}{}", "x".repeat(10_000)))
        .collect();
    let told = warnings(&many).await;
    assert!((10..=20).contains(&told.len()), "{}", told.len());
    assert!(told.iter().all(|warning| warning.len() < 300), "{told:?}");
}

/// Patches can make an object deeper, each of them or many of them one after the other: never so deep that it cannot be
/// read again.
#[tokio::test]
async fn patches_do_not_nest_without_end() {
    let kubernetes = Kubernetes::start().await;
    let asker = Asker::at(&kubernetes.url());
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = |schema: Value| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "ships.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "ships", "kind": "Ship"},
                "versions": [{
                    "name": "v1",
                    "served": true,
                    "storage": true,
                    "schema": {"openAPIV3Schema": schema},
                }],
            },
        })
    };
    let simple = definition(json!({"type": "object", "default": {"a": {}}}));
    asker.post(crds, &simple).await.expect(201);
    let path = format!("{crds}/ships.example.com");
    let patch = async |operations: &Value| -> Answer {
        let kind = "application/json-patch+json";
        asker.send("PATCH", &path, kind, operations.to_string()).await
    };
    let default = "/spec/versions/0/schema/openAPIV3Schema/default";
    // Each copies all there is to the deepest place.
    let mut levels = 1;
    let mut doubling = Vec::new();
    for _ in 0..16 {
        let place = format!("{default}{}", "/a".repeat(levels + 1));
        doubling.push(json!({"op": "copy", "from": default, "path": place}));
        levels = 2 * levels + 1;
    }
    patch(&Value::Array(doubling[..4].to_vec())).await.expect(200);
    let reset = json!([{"op": "replace", "path": default, "value": {"a": {}}}]);
    patch(&reset).await.expect(200);
    let answer = patch(&Value::Array(doubling)).await;
    assert_eq!(answer.code, 422, "{}", answer.text());
    // A little at a time.
    let inner = (0..30).fold(json!({}), |inner, _| json!({"a": inner}));
    let mut place = format!("{default}/a");
    let mut deepened = 0;
    loop {
        let answer = patch(&json!([{"op": "replace", "path": place, "value": inner}])).await;
        match answer.code {
            200 => deepened += 1,
            code => {
                assert!(matches!(code, 400 | 422), "{}", answer.text());
                break;
            }
        }
        assert!(deepened < 10, "there is an end");
        place += &"/a".repeat(30);
    }
    assert!(deepened > 1);
    // It is still an object like any other.
    asker.get(&path).await.expect(200);
    asker.get(&format!("{crds}?labelSelector=!x")).await.expect(200);
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    asker.merge(&path, &labels).await.expect(200);
    asker.delete(&path).await.expect(200);

    // The account of who owns what is deeper than what is owned.
    let schema = (0..58).fold(
        json!({"type": "object"}),
        |inner, _| json!({"type": "object", "properties": {"a": inner}}),
    );
    let crd = definition(schema);
    for (method, path, kind) in [
        ("POST", crds.to_owned(), "application/json"),
        (
            "PATCH",
            format!("{crds}/ships.example.com?fieldManager=m"),
            "application/apply-patch+yaml",
        ),
    ] {
        let answer = asker.send(method, &path, kind, crd.to_string()).await;
        assert!(matches!(answer.code, 201 | 400), "{}", answer.text());
        let found = asker.get(&format!("{crds}/ships.example.com")).await;
        assert_eq!(found.code, if answer.code == 201 { 200 } else { 404 });
        asker
            .get(&format!("{crds}?fieldSelector=metadata.name%3Dx"))
            .await
            .expect(200);
        if answer.code == 201 {
            asker
                .delete(&format!("{crds}/ships.example.com"))
                .await
                .expect(200);
        }
    }
}

/// Whatever is sent, the answer is one that a client can do something with, and the server goes on.
#[tokio::test]
async fn mutations_of_bodies_never_trouble_the_server() {
    let kubernetes = Kubernetes::start().await;
    let asker = Asker::at(&kubernetes.url());
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {
            "containers": [{
                "name": "c",
                "image": "i:1",
                "ports": [{"containerPort": 80}],
                "env": [{"name": "V", "value": "1"}],
                "resources": {"requests": {"cpu": "500m"}},
            }],
            "tolerations": [{"key": "k", "operator": "Exists"}],
        },
    });
    let pods = "/api/v1/namespaces/default/pods";
    asker.post(pods, &pod).await.expect(201);
    let object: Object = serde_json::from_value(pod.clone()).unwrap();
    let protobuf = codec::to_protobuf(&object, "io.k8s.api.core.v1.Pod").unwrap();
    let yaml = serde_yaml_ng::to_string(&object).unwrap().into_bytes();
    let one = format!("{pods}/p");
    let text = |value: Value| value.to_string().into_bytes();
    let strategic = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}], "containers": [{"name": "c", "image": "j"}]}});
    let requests = [
        (
            "POST",
            format!("{pods}?fieldValidation=Strict&dryRun=All"),
            "application/json",
            text(pod.clone()),
        ),
        (
            "POST",
            format!("{pods}?dryRun=All"),
            "application/yaml",
            yaml.clone(),
        ),
        (
            "POST",
            pods.to_owned(),
            "application/vnd.kubernetes.protobuf",
            protobuf.clone(),
        ),
        (
            "PUT",
            one.clone(),
            "application/vnd.kubernetes.protobuf",
            protobuf,
        ),
        ("PUT", one.clone(), "application/json", text(pod.clone())),
        (
            "PATCH",
            one.clone(),
            "application/json-patch+json",
            text(
                json!([{"op": "add", "path": "/metadata/labels/x", "value": "y"}, {"op": "test", "path": "/kind", "value": "Pod"}]),
            ),
        ),
        (
            "PATCH",
            one.clone(),
            "application/merge-patch+json",
            text(json!({"metadata": {"labels": {"c": "d", "a": null}}})),
        ),
        (
            "PATCH",
            one.clone(),
            "application/strategic-merge-patch+json",
            text(strategic),
        ),
        (
            "PATCH",
            format!("{one}?fieldManager=m&force=true"),
            "application/apply-patch+yaml",
            yaml,
        ),
        (
            "PATCH",
            format!("{one}/status"),
            "application/merge-patch+json",
            text(json!({"status": {"phase": "Running"}})),
        ),
        (
            "POST",
            format!("{one}/eviction?dryRun=All"),
            "application/json",
            text(json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}})),
        ),
        (
            "DELETE",
            format!("{one}?dryRun=All"),
            "application/json",
            text(
                json!({"gracePeriodSeconds": 5, "preconditions": {"uid": "u"}, "propagationPolicy": "Background"}),
            ),
        ),
    ];
    let mut random = Random::new(8);
    for number in 0..MUTATIONS {
        let (method, path, kind, body) = &requests[number % requests.len()];
        let body = mutated(body, &mut random);
        let shown = String::from_utf8_lossy(&body).into_owned();
        let answer = asker.send(method, path, kind, body).await;
        // What a real server answers to some strategic patches, and to a new object that has a version, is 500 without a
        // reason: what is meant never says that something is wrong within.
        let is_meant = matches!(answer.code, 200 | 201 | 400 | 404 | 409 | 413 | 415 | 422 | 429)
            || answer.code == 500 && answer.json()["reason"].is_null();
        assert!(is_meant, "{method} {path} {kind} {shown:?}: {}", answer.text());
        assert!(answer.json()["kind"].is_string(), "{}", answer.text());
    }
    // All that was stored by the way can be read.
    for kind in ["?labelSelector=!none", "?fieldSelector=status.phase!%3Dnone"] {
        asker.get(&format!("{pods}{kind}")).await.expect(200);
    }
    assert!(!kubernetes.server.log().contains("panic"));
}

/// The body with a few bytes, or pieces, other than they were.
fn mutated(body: &[u8], random: &mut Random) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(body.len() as u64 + 1) as usize;
        match random.below(6) {
            0 => body.truncate(at),
            1 => body.insert(at, random.next() as u8),
            2 if at < body.len() => body[at] = random.next() as u8,
            3 if at < body.len() => body[at] ^= 1 << random.below(8),
            4 => {
                let pieces: [&[u8]; 10] = [
                    b"null",
                    b"{}",
                    b"[]",
                    b"\"\"",
                    b"-1",
                    b"1e99",
                    b"\\u0000",
                    b"99999999999",
                    b"\xff",
                    b"$patch",
                ];
                let piece = pieces[random.below(10) as usize];
                let end = (at + random.below(8) as usize).min(body.len());
                body.splice(at..end, piece.iter().copied());
            }
            _ => {
                let end = (at + random.below(16) as usize).min(body.len());
                body.drain(at..end);
            }
        }
    }
    body
}

/// A bomb would be gigabytes.
const GROWN_BYTES_MAX: usize = 100 << 20;
const MUTATIONS: usize = 1200;
