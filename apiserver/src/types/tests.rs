use super::*;

const CORE: &str = "io.k8s.api.core.v1";

fn message(name: &str) -> &'static Message {
    Types::all().message(name).unwrap_or_else(|| panic!("{name}"))
}

#[test]
fn every_type_that_is_served_is_there() {
    for row in crate::resources::RESOURCES {
        let found = message(row.type_name);
        assert_eq!(found.short_name(), row.kind);
        assert!(found.is_object, "{found:?}");
        assert!(found.field("metadata").is_some(), "{found:?}");
    }
}

#[test]
fn a_number_finds_what_has_it() {
    for message in Types::all().messages() {
        for field in message.fields() {
            let found = message.by_number(field.number).unwrap();
            assert_eq!(found.json, field.json);
        }
        assert!(message.by_number(0).is_none());
        assert!(message.by_number(u32::MAX).is_none());
        let names: Vec<&str> = message.json_fields().iter().map(|field| field.json).collect();
        assert!(
            names.windows(2).all(|pair| pair[0] < pair[1]),
            "{message:?}: {names:?}"
        );
    }
}

#[test]
fn inlined_fields_stand_with_their_parent() {
    let volume = message(&format!("{CORE}.Volume"));
    assert!(volume.field("emptyDir").is_some());
    assert!(volume.field("volumeSource").is_none());
    assert!(volume.by_number(2).unwrap().inlined);
    let rule = message("io.k8s.api.admissionregistration.v1.NamedRuleWithOperations");
    assert!(rule.field("apiGroups").is_some(), "two deep");
}

#[test]
fn lists_know_how_they_merge() {
    let spec = message(&format!("{CORE}.PodSpec"));
    let containers = spec.field("containers").unwrap();
    assert_eq!(containers.shape, Shape::List(ListKind::Map { keys: &["name"] }));
    assert_eq!(containers.patch_merge_key(), Some("name"));
    assert!(spec.field("volumes").unwrap().patch_retains_keys());
    assert_eq!(
        spec.field("tolerations").unwrap().shape,
        Shape::List(ListKind::Atomic)
    );
    assert_eq!(
        spec.field("nodeSelector").unwrap().shape,
        Shape::Map(MapKind::Atomic)
    );
    let meta = message("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    assert_eq!(
        meta.field("finalizers").unwrap().shape,
        Shape::List(ListKind::Set)
    );
    assert!(meta.field("finalizers").unwrap().patch_merges_primitives());
    let ports = message(&format!("{CORE}.Container")).field("ports").unwrap();
    assert_eq!(
        ports.shape,
        Shape::List(ListKind::Map {
            keys: &["containerPort", "protocol"]
        })
    );
    assert!(message("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").atomic);
}

#[test]
fn zero_is_kept_where_it_says_something() {
    let zero = |of: &str, field: &str| message(of).field(field).unwrap().zero;
    assert!(zero("io.k8s.api.apps.v1.DeploymentSpec", "replicas"), "a pointer");
    assert!(
        zero("io.k8s.api.core.v1.ContainerStatus", "ready"),
        "always written"
    );
    assert!(!zero("io.k8s.api.core.v1.PodSpec", "hostNetwork"));
}

#[test]
fn what_always_stands_there_is_known() {
    let always = |of: &str, field: &str| message(of).field(field).unwrap().always;
    assert_eq!(
        always("io.k8s.api.apps.v1.DaemonSetStatus", "numberReady"),
        Some(Always::Empty)
    );
    assert_eq!(
        always("io.k8s.api.apps.v1.DaemonSetSpec", "selector"),
        Some(Always::Null)
    );
    assert_eq!(
        always("io.k8s.api.core.v1.Event", "eventTime"),
        Some(Always::Null)
    );
    assert_eq!(always("io.k8s.api.core.v1.PodSpec", "nodeName"), None);
    for line in ALWAYS.lines().filter(|line| !line.starts_with('#')) {
        let (name, fields) = line.split_once(' ').unwrap();
        for field in fields.split(' ') {
            let field = field.trim_start_matches('!');
            assert!(
                message(name)
                    .field(field)
                    .is_some_and(|field| field.always.is_some()),
                "{name} {field}"
            );
        }
    }
}

#[test]
fn what_is_wrong_in_the_files_is_said() {
    for (fields, merge) in [
        ("1 name text", ""),
        ("message a.B\n0 name text", ""),
        ("message a.B\n1 name .C", ""),
        ("message a.B\n1 name text odd", ""),
        ("message a.B\n1 name", ""),
        ("message a.B\nmessage a.B", ""),
        ("message a.B\n1 name text", "a.B name odd=1"),
        ("message a.B\n1 name text", "a.B name merge\na.B name merge"),
    ] {
        assert!(load::read(fields, merge, "").is_err(), "{fields} {merge}");
    }
}
