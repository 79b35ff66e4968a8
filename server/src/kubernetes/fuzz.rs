//! What the Kubernetes adapter makes of what clients send, for fuzzing. The first byte of an input chooses the resource,
//! the second what the body is and which kind of patch follows; behind them come the body, a patch and a selector, each
//! behind a line of its own (see [`SEPARATOR`]).

use apiserver::codec::{self, Media};
use apiserver::engine::{DeleteOptions, WriteOptions};
use apiserver::object::{Object, is_too_deep};
use apiserver::resources::{RESOURCES, Resource};
use apiserver::select::{Fields, Labels};
use apiserver::{managed, patch, rules, table};
use serde_json::Value;

/// Nothing panics, nothing becomes deeper than it may be, and selectors are written and read again as the same.
pub(crate) fn one_input(data: &[u8]) {
    let (Some(&resource), Some(&how), Some(rest)) = (data.first(), data.get(1), data.get(2..)) else {
        return;
    };
    let r = &RESOURCES[usize::from(resource) % RESOURCES.len()];
    let mut parts = split(rest);
    let body = parts.next().unwrap_or_default();
    let change = parts.next().unwrap_or_default();
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    selectors(r, &text);
    // Whatever it is, it is no reason to fall over.
    let _ = codec::decode_stored(body);
    let media = Media::ALL[usize::from(how & 3) % Media::ALL.len()];
    let Ok(mut object) = codec::decode(body, Some(media.name()), Some(r.type_name)) else {
        return;
    };
    let findings = codec::strict(r.type_name, body, &object);
    let _ = codec::strict_refusal(r.type_name, &object, &findings).to_value();
    let _ = DeleteOptions::of(&object);
    let is_of_kind = codec::expect_kind(&mut object, &r.api_version(), r.kind).is_ok();
    if !is_of_kind || codec::check_types(r.type_name, &object).is_err() {
        return;
    }
    codec::conform(r.type_name, &mut object);
    let mut again = object.clone();
    codec::conform(r.type_name, &mut again);
    assert_eq!(again, object, "the one form of an object is its own");
    if is_too_deep(&object) {
        return;
    }
    written(r, &object);
    let object = made(r, object, &text);
    changed(r, &object, how >> 2, change);
}

/// The parts of an input.
fn split(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = rest
            .windows(SEPARATOR.len())
            .position(|window| window == SEPARATOR)?;
        let (part, behind) = rest.split_at(end);
        rest = &behind[SEPARATOR.len()..];
        Some(part)
    })
}

/// What is read of a selector is read of its text as the same.
fn selectors(r: &Resource, text: &str) {
    if let Ok(labels) = Labels::parse(text) {
        let again = Labels::parse(&labels.to_string());
        assert_eq!(again.as_ref(), Ok(&labels), "{text:?}");
    }
    if let Ok(fields) = Fields::parse(r, text) {
        let again = Fields::parse(r, &fields.to_string()).expect("what was written can be read");
        assert_eq!(again.to_string(), fields.to_string(), "{text:?}");
    }
    let _ = codec::negotiate(Some(text), Media::ALL, &[]);
}

/// What is written as protobuf and read again can be written again.
fn written(r: &Resource, object: &Object) {
    let Ok(bytes) = codec::to_protobuf(object, r.type_name) else {
        return;
    };
    if let Ok(read) = codec::from_protobuf(&bytes, Some(r.type_name)) {
        let again = codec::to_protobuf(&read, r.type_name);
        assert!(again.is_ok(), "{object:?} became {read:?}");
    }
}

/// The way of a new object, and what may be asked of it.
fn made(r: &'static Resource, mut object: Object, text: &str) -> Object {
    let now = WriteOptions::default().now;
    rules::default(r, &mut object);
    managed::track(
        r.type_name,
        &r.api_version(),
        None,
        &mut object,
        "fuzz",
        None,
        now,
    );
    rules::prepare_create(r, &mut object);
    let _ = rules::validate(r, None, &object);
    if rules::services::is_allotted(r) {
        let _ = rules::services::allot(&mut object, &mut rules::services::Used::default());
    }
    if let Ok(fields) = Fields::parse(r, text) {
        let _ = fields.matches(&object);
    }
    if let Ok(labels) = Labels::parse(text) {
        let _ = labels.matches_object(&object);
    }
    let rows = table::render(r, Value::Null, [&object], table::Include::Metadata, true, now);
    assert_eq!(
        rows["columnDefinitions"].as_array().map(Vec::len),
        rows["rows"][0]["cells"].as_array().map(Vec::len),
        "a cell for each column"
    );
    if let Some(scale) = rules::scale_of(r, &object) {
        let _ = rules::set_scale(r, &mut object.clone(), &scale);
    }
    let stored = rules::convert(object.clone(), r, r.stored());
    let _ = rules::convert(stored, r.stored(), r);
    object
}

/// The way of a patch to an object that is there.
fn changed(r: &'static Resource, object: &Object, kind: u8, change: &[u8]) {
    let Ok(change) = serde_json::from_slice::<Value>(change) else {
        return;
    };
    let now = WriteOptions::default().now;
    let subresource = r.subresources.get(usize::from(kind >> 2)).copied();
    let patched = match (kind & 3, &change) {
        (0, change) => patch::json(&Value::Object(object.clone()), change),
        (1, change) => Ok(patch::merge(&Value::Object(object.clone()), change)),
        (2, Value::Object(change)) => patch::strategic(r.type_name, object, change).map(Value::Object),
        (3, Value::Object(change)) => {
            let below = subresource.map(apiserver::resources::Subresource::name);
            managed::apply(r, Some(object), change, "other", true, below, now).map(Value::Object)
        }
        _ => return,
    };
    let Ok(Value::Object(mut patched)) = patched else {
        return;
    };
    if kind & 3 != 3 {
        let was_too_deep = is_too_deep(object);
        assert!(was_too_deep || !is_too_deep(&patched), "a patch made it deeper");
    }
    if codec::check_types(r.type_name, &patched).is_err() {
        return;
    }
    codec::conform(r.type_name, &mut patched);
    rules::default(r, &mut patched);
    rules::prepare_update(r, subresource, object, &mut patched);
    let _ = rules::validate_in(r, subresource, Some(object), &patched);
    let version = r.api_version();
    managed::track(
        r.type_name,
        &version,
        Some(object),
        &mut patched,
        "fuzz",
        None,
        now,
    );
}

/// Objects of some kinds in all three forms, with patches of all four kinds and selectors.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let objects = [
        ("pods", POD),
        ("deployments", DEPLOYMENT),
        ("services", SERVICE),
        ("customresourcedefinitions", CRD),
    ];
    let patches: [&str; 5] = [
        r#"[{"op":"add","path":"/metadata/labels","value":{"a":"b"}},{"op":"copy","from":"/spec","path":"/spec/x"},{"op":"move","from":"/spec/x","path":"/x"},{"op":"test","path":"/kind","value":"Pod"},{"op":"remove","path":"/x"},{"op":"replace","path":"/metadata/name","value":"c"}]"#,
        r#"{"metadata":{"labels":{"a":null,"c":"d"},"finalizers":["x/y"]},"spec":{"replicas":7}}"#,
        r#"{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"b","image":"x","$patch":"replace"},{"name":"a","env":[{"name":"V","$patch":"delete"}]}],"$retainKeys":["containers","template"],"tolerations":null,"template":{"$patch":"merge"}},"metadata":{"$deleteFromPrimitiveList/finalizers":["x"]}}"#,
        r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","labels":{"x":"y"}},"spec":{"replicas":2,"template":{"spec":{"containers":[{"name":"a","image":"i","ports":[{"containerPort":80}]}]}}}}"#,
        r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#,
    ];
    let selectors = [
        "a=b,c!=d,e in (f,g),!h,i,j notin (k),l>5",
        "metadata.name=a,status.phase!=Failed,spec.nodeName==n\\,m",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/yaml;q=0.5,*/*",
    ];
    let mut seeds = Vec::new();
    for (plural, text) in objects {
        let place = RESOURCES
            .iter()
            .position(|r| r.plural == plural && r.stored_as.is_none());
        let place = place.expect("there is such a resource");
        let object: Object = serde_json::from_str(text).expect("the text is JSON");
        let yaml = serde_yaml_ng::to_string(&object)
            .expect("an object as YAML")
            .into_bytes();
        let protobuf = codec::to_protobuf(&object, RESOURCES[place].type_name).expect("it fits its type");
        for (media, body) in [text.as_bytes().to_vec(), yaml, protobuf].into_iter().enumerate() {
            for (kind, patch) in patches.iter().enumerate() {
                let how = media | (kind % 4) << 2 | (kind / 4) << 4;
                let mut seed = vec![u8::try_from(place).unwrap_or(0), u8::try_from(how).unwrap_or(0)];
                let selector = selectors[(media + kind) % selectors.len()];
                for part in [&body, patch.as_bytes(), selector.as_bytes()] {
                    seed.extend_from_slice(part);
                    seed.extend_from_slice(SEPARATOR);
                }
                seeds.push(seed);
            }
        }
    }
    seeds
}

/// What stands behind each part of an input.
const SEPARATOR: &[u8] = b"\n--\n";

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"n","labels":{"a":"b"},"finalizers":["x"],"managedFields":[{"manager":"m","operation":"Update","apiVersion":"v1","time":"2026-01-02T03:04:05Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{}}}}}}]},"spec":{"nodeName":"m","containers":[{"name":"a","image":"i:1","ports":[{"containerPort":80,"protocol":"TCP"}],"env":[{"name":"V","value":"1"}],"resources":{"requests":{"cpu":"500m","memory":"1.5Gi"},"limits":{"cpu":1}},"livenessProbe":{"httpGet":{"port":"http"}}}],"initContainers":[{"name":"b","image":"j@sha256:0","restartPolicy":"Always"}],"tolerations":[{"key":"k","operator":"Exists"}],"volumes":[{"name":"v","configMap":{"name":"c"}}],"terminationGracePeriodSeconds":5},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True","lastTransitionTime":"2026-01-02T03:04:05Z"}],"containerStatuses":[{"name":"a","ready":true,"restartCount":3,"image":"i","imageID":"","state":{"running":{"startedAt":"2026-01-02T03:04:05Z"}},"lastState":{"terminated":{"exitCode":1,"finishedAt":"2026-01-02T03:04:05Z"}}}]}}"#;
const DEPLOYMENT: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","generation":3},"spec":{"replicas":3,"selector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"In","values":["d"]}]},"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"i"}]}}},"status":{"replicas":2,"readyReplicas":1}}"#;
const SERVICE: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"type":"NodePort","clusterIP":"10.96.0.9","ports":[{"name":"x","port":80,"targetPort":"http","nodePort":30001},{"name":"y","port":81,"protocol":"UDP"}],"selector":{"a":"b"},"sessionAffinity":"ClientIP"}}"#;
const CRD: &str = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"ships.example.com"},"spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"ships","kind":"Ship"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"array","items":{"type":"object","additionalProperties":{"type":"integer","default":5,"enum":[1,null]}}}}}}}]}}"#;
