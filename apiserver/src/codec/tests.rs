use serde_json::json;

use super::*;

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other}"),
    }
}

const POD: &str = "io.k8s.api.core.v1.Pod";
const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

#[test]
fn bodies_are_read_by_their_media_type() {
    let wanted = object(json!({"apiVersion": "v1", "kind": "Pod", "spec": {"1": [true, 1.5, null, "x"]}}));
    let json_body = serde_json::to_vec(&wanted).unwrap();
    let yaml = b"apiVersion: v1\nkind: Pod\nspec:\n  1: [true, 1.5, ~, x]\n";
    for (body, media) in [
        (json_body.as_slice(), None),
        (json_body.as_slice(), Some("application/json; charset=utf-8")),
        (yaml.as_slice(), Some("application/yaml")),
        (json_body.as_slice(), Some("application/yaml")),
    ] {
        assert_eq!(decode(body, media, Some(POD)).unwrap(), wanted);
    }
    let flow = b"{apiVersion: v1, kind: Pod, spec: {1: [true, 1.5, null, x]}}";
    assert_eq!(decode(flow, Some("application/yaml"), None).unwrap(), wanted);
    let refused = decode(b"{}", Some("text/html"), None).unwrap_err();
    assert_eq!(refused.code, 415);
    assert_eq!(
        refused.message,
        "the body of the request was in an unknown format - accepted media types include: application/json, \
         application/yaml, application/vnd.kubernetes.protobuf"
    );
}

#[test]
fn what_is_no_object_is_refused() {
    let pb = Some("application/vnd.kubernetes.protobuf");
    for (body, media) in [
        (b"".as_slice(), None),
        (b"[]", None),
        (b"{\"a\":", None),
        (b"\xff\xff", None),
        (b"a: [", Some("application/yaml")),
        (b"- a", Some("application/yaml")),
        (b"a: .nan", Some("application/yaml")),
        (b"", pb),
        (b"k8s", pb),
        (b"{}", pb),
        (b"k8s\0", Some("application/vnd.kubernetes.protobuf")),
        (b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", pb),
        (b"k8s\0\x12\x03\x0a\x7f\x00", pb),
    ] {
        let status = decode(body, media, Some(POD));
        if body == b"k8s\0" {
            // An envelope with nothing in it holds an empty object.
            assert_eq!(status.unwrap(), Object::new());
            continue;
        }
        let status = status.unwrap_err();
        assert_eq!(status.code, 400, "{body:?}");
        assert!(status.message.contains("Pod"), "{status}");
    }
    let status = decode(b"{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"eee\":", None, Some(POD)).unwrap_err();
    assert!(
        status
            .message
            .ends_with(" ({\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"eee\" ...)"),
        "{status}"
    );
}

/// As deep as it goes, and no panic on the way.
#[test]
fn nesting_has_a_limit() {
    // The number of `not`.
    const NOT: u32 = 28;
    let schema = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let nested = |depth: usize| {
        let leaf = object(json!({"type": "string"}));
        (0..depth).fold(leaf, |inner, _| object(json!({ "not": inner })))
    };
    let bytes = to_protobuf(&nested(100), schema).unwrap();
    assert_eq!(from_protobuf(&bytes, Some(schema)).unwrap(), nested(100));
    assert_eq!(to_protobuf(&nested(200), schema).unwrap_err().code, 400);
    let raw = (0..300).fold(Vec::new(), |inner: Vec<u8>, _| {
        let mut out = Vec::new();

        envelope::write_bytes(NOT, &inner, &mut out);
        out
    });
    let bytes = envelope::write("", "", |out| out.extend(raw));
    assert_eq!(from_protobuf(&bytes, Some(schema)).unwrap_err().code, 400);
}

/// No bytes at all make the reader panic, and none that are cut short are read as if they were whole.
#[test]
fn damaged_messages_are_refused() {
    let pod = object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "labels": {"a": "b"}, "creationTimestamp": "2024-05-06T07:08:09Z"},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}}]},
    }));
    let whole = to_protobuf(&pod, POD).unwrap();
    assert_eq!(from_protobuf(&whole, None).unwrap(), pod);
    for end in 4..whole.len() {
        // Only at the end of a field of the envelope there is a message again.
        if let Ok(read) = from_protobuf(&whole[..end], Some(POD)) {
            assert!(read == pod || !read.contains_key("spec"), "{end}: {read:?}");
        }
    }
    for at in 4..whole.len() {
        for byte in [0, 1, 0x0a, 0x7f, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] = byte;
            // Whatever comes of it.
            let _ = from_protobuf(&damaged, Some(POD));
            let _ = decode_stored(&damaged);
        }
    }
}

#[test]
fn empty_values_that_mean_nothing_are_not_read() {
    use k8s_pb::api::apps::v1 as apps;
    use k8s_pb::api::core::v1 as core;
    use prost::Message as _;
    let deployment = apps::Deployment {
        spec: Some(apps::DeploymentSpec {
            replicas: Some(0),
            paused: Some(false),
            template: Some(core::PodTemplateSpec {
                spec: Some(core::PodSpec {
                    node_name: Some(String::new()),
                    host_network: Some(false),
                    automount_service_account_token: Some(false),
                    volumes: vec![core::Volume {
                        name: Some("v".to_owned()),
                        volume_source: Some(core::VolumeSource {
                            empty_dir: Some(core::EmptyDirVolumeSource::default()),
                            ..Default::default()
                        }),
                    }],
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        status: Some(apps::DeploymentStatus::default()),
        ..Default::default()
    };
    let stored = envelope::write("apps/v1", "Deployment", |out| deployment.encode(out).unwrap());
    assert_eq!(
        Value::Object(decode_stored(&stored).unwrap()),
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {},
            "spec": {
                "replicas": 0,
                "selector": null,
                "strategy": {},
                "template": {"metadata": {}, "spec": {
                    "automountServiceAccountToken": false,
                    "containers": null,
                    "volumes": [{"name": "v", "emptyDir": {}}],
                }},
            },
            "status": {},
        })
    );
}

#[test]
fn stored_values_say_what_they_are() {
    let lease = object(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {},
    }));
    let bytes = to_protobuf(&lease, "io.k8s.api.coordination.v1.Lease").unwrap();
    assert_eq!(decode_stored(&bytes).unwrap(), lease);
    assert_eq!(
        decode_stored(&serde_json::to_vec(&lease).unwrap()).unwrap(),
        lease
    );
    for odd in [
        b"".as_slice(),
        b"k8s:enc:aescbc:v1:key1:x",
        b"k8s",
        b"{",
        &envelope::write("example.com/v1", "Odd", |_| {}),
    ] {
        assert_eq!(decode_stored(odd).unwrap_err().code, 500, "{odd:?}");
    }
}

/// What a real server answers where nothing was said, seen of 1.36.
#[test]
fn what_always_stands_in_an_object_is_filled_in() {
    for (name, given, filled) in [
        ("io.k8s.api.core.v1.ConfigMap", json!({}), json!({"metadata": {}})),
        (
            "io.k8s.api.apps.v1.DaemonSet",
            json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}),
            json!({
                "metadata": {"name": "a"},
                "spec": {
                    "selector": null,
                    "template": {
                        "metadata": {},
                        "spec": {"containers": [{"name": "c", "resources": {}}]},
                    },
                    "updateStrategy": {},
                },
                "status": {
                    "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0,
                    "numberReady": 0,
                },
            }),
        ),
        (
            "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus",
            json!({"currentMetrics": null, "conditions": [{"type": "a"}]}),
            json!({
                "conditions": [{"type": "a", "status": "", "lastTransitionTime": null}],
                "currentMetrics": null, "desiredReplicas": 0,
            }),
        ),
        (
            "io.k8s.api.core.v1.ResourceFieldSelector",
            json!({"resource": "limits.cpu"}),
            json!({"resource": "limits.cpu", "divisor": "0"}),
        ),
        (
            "io.k8s.api.core.v1.HTTPGetAction",
            json!({"path": "/"}),
            json!({"path": "/", "port": 0}),
        ),
    ] {
        let mut object = object(given);
        fill(name, &mut object);
        assert_eq!(Value::Object(object), filled, "{name}");
    }
}

#[test]
fn types_of_lists_and_options_are_known() {
    for (api_version, kind, name) in [
        ("v1", "PodList", Some("io.k8s.api.core.v1.PodList")),
        (
            "apps/v1",
            "DeploymentList",
            Some("io.k8s.api.apps.v1.DeploymentList"),
        ),
        (
            "policy/v1",
            "DeleteOptions",
            Some("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"),
        ),
        ("policy/v1", "Eviction", Some("io.k8s.api.policy.v1.Eviction")),
        ("v1", "Eviction", None),
        ("apps/v1", "Pod", None),
        ("v1", "List", None),
        ("", "", None),
    ] {
        assert_eq!(type_of(api_version, kind), name, "{api_version} {kind}");
    }
}

#[test]
fn kinds_are_those_of_the_path() {
    let mut bare = object(json!({}));
    expect_kind(&mut bare, "apps/v1", "Deployment").unwrap();
    assert_eq!(
        Value::Object(bare),
        json!({"apiVersion": "apps/v1", "kind": "Deployment"})
    );
    for (given, text) in [
        (
            json!({"apiVersion": "v1", "kind": "Deployment"}),
            "Deployment in version \"v1\" cannot be handled as a Deployment: no kind \"Deployment\" is registered for \
             version \"v1\" in scheme \"pkg/runtime/scheme.go:111\"",
        ),
        (
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet"}),
            "ReplicaSet in version \"v1\" cannot be handled as a Deployment: converting (v1.ReplicaSet) to \
             (apps.Deployment): unknown conversion",
        ),
    ] {
        let status = expect_kind(&mut object(given), "apps/v1", "Deployment").unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (400, text));
    }
    let older = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler"});
    let status = expect_kind(&mut object(older), "autoscaling/v2", "HorizontalPodAutoscaler").unwrap_err();
    assert_eq!(
        status.message,
        "the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)"
    );
}

/// The words for bodies that are no objects, seen of a real server.
#[test]
fn what_is_no_object_is_told_in_the_words_of_go() {
    let of_go = "json: cannot unmarshal array into Go value of type struct { APIVersion string \
                 \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" } (5b5d)";
    for (body, told) in [
        ("", "unexpected end of JSON input (<empty>)"),
        ("{", "unexpected end of JSON input ({)"),
        ("[]", of_go),
        ("{} x", "invalid character 'x' after top-level value ({} x)"),
    ] {
        let status = decode(body.as_bytes(), None, Some("io.k8s.api.core.v1.ConfigMap")).unwrap_err();
        let expected = format!(
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
             error: {told}"
        );
        assert_eq!(status.message, expected, "{body}");
    }
    assert!(decode(b"null", None, None).unwrap().is_empty());
}

/// A strategic merge patch goes through another converter than JSON does.
#[test]
fn values_that_do_not_fit_are_told_in_two_ways() {
    let deployment = "io.k8s.api.apps.v1.Deployment";
    for (object, told) in [
        (json!({"spec": "x"}), "cannot restore struct from: string"),
        (json!({"spec": {"replicas": "x"}}), "unrecognized type: int32"),
        (
            json!({"spec": {"replicas": 1.5}}),
            "cannot convert float64 to int32",
        ),
        (
            json!({"metadata": {"labels": {"a": 1}}}),
            "cannot convert int64 to string",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": {}}}}}),
            "cannot restore slice from map",
        ),
    ] {
        let object = self::object(object);
        assert_eq!(
            type_error(deployment, &object, Words::Converter).as_deref(),
            Some(told)
        );
        assert!(
            type_error(deployment, &object, Words::Json)
                .unwrap()
                .starts_with("json: ")
        );
    }
}

#[test]
fn what_a_type_does_not_know_is_told() {
    let raw =
        br#"{"apiVersion":"apps/v1","kind":"Deployment","odd":{"x":1},"metadata":{"name":"a","nmae":"b",
        "labels":{"a":"1","a":"2"},"managedFields":[{"fieldsV1":{"any":{},"any":{}}}]},
        "spec":{"replicas":1,"replicas":2,"template":{"kind":"x","spec":{"containers":[{},{"imagee":"x",
        "image":"y","image":"y"}],"volumes":[{"emptyDir":{"size":1}}]}}}}"#;
    let read = decode(raw, None, None).unwrap();
    assert_eq!(
        strict(DEPLOYMENT, raw, &read),
        [
            "unknown field \"odd\"",
            "unknown field \"metadata.nmae\"",
            "duplicate field \"metadata.labels.a\"",
            "duplicate field \"spec.replicas\"",
            "unknown field \"spec.template.kind\"",
            "unknown field \"spec.template.spec.containers[1].imagee\"",
            "duplicate field \"spec.template.spec.containers[1].image\"",
            "unknown field \"spec.template.spec.volumes[0].emptyDir.size\"",
        ]
    );
    let told = strict(DEPLOYMENT, b"odd: {}\n", &object(json!({"odd": {}})));
    assert_eq!(told, ["unknown field \"odd\""]);
    let two = [
        "unknown field \"a\"".to_owned(),
        "duplicate field \"b\"".to_owned(),
    ];
    assert_eq!(
        strict_refusal(DEPLOYMENT, &read, &two).message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"a\", \
         duplicate field \"b\""
    );
    let mut pruned = read;
    conform(DEPLOYMENT, &mut pruned);
    assert_eq!(
        pruned["spec"]["template"],
        json!({"spec": {"containers": [{}, {"image": "y"}], "volumes": [{"emptyDir": {}}]}})
    );
}

#[test]
fn values_that_do_not_fit_are_told_as_go_tells_them() {
    for (spec, text) in [
        (
            json!({"replicas": "3"}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"replicas": 1.5}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"replicas": 3_000_000_000_u32}),
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"selector": []}),
            "json: cannot unmarshal array into Go struct field DeploymentSpec.spec.selector of type v1.LabelSelector",
        ),
        (
            json!({"template": {"spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}}}),
            "json: cannot unmarshal string into Go struct field \
             ContainerPort.spec.template.spec.containers.ports.containerPort of type int32",
        ),
        (
            json!({"template": {"spec": {"containers": {}}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type \
             []v1.Container",
        ),
        (
            json!({"template": {"metadata": {"labels": {"a": 1}}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.spec.template.metadata.labels of type string",
        ),
        (
            json!({"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "much"}}}]}}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        let given = object(json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec}));
        let status = check_types(DEPLOYMENT, &given).unwrap_err();
        let wanted = format!("Deployment in version \"v1\" cannot be handled as a Deployment: {text}");
        assert_eq!((status.code, status.message), (400, wanted));
    }
    let secret = object(json!({"kind": "Secret", "apiVersion": "v1", "data": {"a": "aGk=!"}}));
    let status = check_types("io.k8s.api.core.v1.Secret", &secret).unwrap_err();
    assert!(
        status.message.contains("illegal base64 data at input byte"),
        "{status}"
    );
    let mut lines = object(json!({"data": {"a": "aGVs\nbG8=\n"}}));
    check_types("io.k8s.api.core.v1.Secret", &lines).unwrap();
    conform("io.k8s.api.core.v1.Secret", &mut lines);
    assert_eq!(lines["data"]["a"], "aGVsbG8=");
    let event = object(json!({"metadata": {"creationTimestamp": "now"}}));
    let status = check_types(POD, &event).unwrap_err();
    assert!(
        status.message.ends_with(
            "parsing time \"now\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"now\" as \"2006\""
        ),
        "{status}"
    );
}

#[test]
fn objects_get_one_form() {
    let mut pod = object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"creationTimestamp": null, "deletionTimestamp": "2024-05-06T09:08:09.5+02:00",
            "annotations": {}, "finalizers": []},
        "spec": {"nodeName": "", "initContainers": [], "nodeSelector": {}, "securityContext": {}, "hostNetwork": false, "automountServiceAccountToken": false, "containers": [
            {"name": "", "resources": {"limits": {"cpu": 1.5, "memory": "1024Mi"}}}
        ]},
    }));
    conform(POD, &mut pod);
    assert_eq!(
        Value::Object(pod),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"deletionTimestamp": "2024-05-06T07:08:09Z"},
            "spec": {"automountServiceAccountToken": false, "securityContext": {}, "containers": [
                {"name": "", "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}}
            ]},
        })
    );
    // What must be there stays there, however empty.
    let mut pod = object(json!({"spec": {"containers": []}}));
    conform(POD, &mut pod);
    assert_eq!(Value::Object(pod), json!({"spec": {"containers": []}}));
}

#[test]
fn events_of_a_watch_hold_the_object_with_its_envelope() {
    use k8s_pb::apimachinery::pkg::apis::meta::v1::WatchEvent;
    use prost::Message as _;
    let pod = object(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}));
    let event = watch_event_protobuf("ADDED", &pod, POD).unwrap();
    let event = WatchEvent::decode(event.as_slice()).unwrap();
    assert_eq!(event.r#type(), "ADDED");
    assert_eq!(from_protobuf(event.object.unwrap().raw(), None).unwrap(), pod);
}

/// Bodies that were recorded.
#[test]
fn what_kubectl_sends_is_understood() {
    let text = include_str!("../../testdata/codec/kubectl.txt");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert_eq!(lines.len(), 3 * 13);
    for case in lines.chunks(3) {
        let (command, body, wanted) = (case[0], case[1], case[2]);
        let pairs = body
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).unwrap());
        let body: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        let read = decode(&body, Some(Media::Protobuf.name()), None).unwrap();
        assert_eq!(read, object(serde_json::from_str(wanted).unwrap()), "{command}");
        let name = type_of(
            read["apiVersion"].as_str().unwrap(),
            read["kind"].as_str().unwrap(),
        );
        let name = name.unwrap_or_else(|| panic!("{command}"));
        assert_eq!(strict(name, &body, &read), [""; 0], "{command}");
        check_types(name, &read).unwrap();
        let again = to_protobuf(&read, name).unwrap();
        assert_eq!(from_protobuf(&again, None).unwrap(), read, "{command}");
    }
}
