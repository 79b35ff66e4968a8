//! Two adapters on one store at the same time, one beside it and one apart.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::asking::{Asker, MAPS, Watching, config_map, told};
use crate::harness::*;

struct Both {
    kubernetes: Kubernetes,
    adapter: Adapter,
    askers: [Asker; 2],
}

impl Both {
    async fn start() -> Both {
        let kubernetes = Kubernetes::start().await;
        let adapter = Adapter::over(&[kubernetes.server.endpoint()]);
        let askers = [Asker::at(&kubernetes.url()), Asker::at(&adapter.url())];
        Both {
            kubernetes,
            adapter,
            askers,
        }
    }
}

/// Services are made, changed into such that need ports, and deleted, all at once.
#[tokio::test]
async fn addresses_and_ports_are_never_given_twice() {
    let both = Both::start().await;
    let service = |name: String, kind: &str, port: Option<u16>| {
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"type": kind, "ports": [{"port": 80}]},
        });
        if let Some(port) = port {
            service["spec"]["ports"][0]["nodePort"] = port.into();
        }
        service
    };
    let making = (0..48).map(|number| {
        let asker = &both.askers[number % 2];
        async move {
            let name = format!("s{number}");
            match number % 4 {
                // Two of each number ask for the same port, which is among those that others get.
                0 | 1 => {
                    let port = 30_000 + u16::try_from(number / 4).unwrap();
                    asker.post(SERVICES, &service(name, "NodePort", Some(port))).await
                }
                2 => asker.post(SERVICES, &service(name, "NodePort", None)).await,
                _ => {
                    let made = asker
                        .post(SERVICES, &service(name.clone(), "ClusterIP", None))
                        .await;
                    made.expect(201);
                    let patch = json!({"spec": {"type": "NodePort"}});
                    asker.merge(&format!("{SERVICES}/{name}"), &patch).await
                }
            }
        }
    });
    let answers = join_all(making).await;
    for answer in &answers {
        assert!(matches!(answer.code, 200 | 201 | 422), "{}", answer.text());
        if answer.code == 422 {
            assert!(
                answer.message().contains("provided port is already allocated"),
                "{}",
                answer.text()
            );
        }
    }
    let list = both.askers[1].get(SERVICES).await.expect(200);
    let services: Vec<&Value> = list["items"].as_array().unwrap().iter().collect();
    let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for service in &services {
        let address = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
        assert!(addresses.insert(address), "{service}");
        if let Some(port) = service["spec"]["ports"][0]["nodePort"].as_u64() {
            assert!(ports.insert(port), "{service}");
        }
    }
    // All but those that came second to a port, and the one that every cluster has.
    let refused = answers.iter().filter(|answer| answer.code == 422).count();
    assert_eq!(services.len(), 48 + 1 - refused);
    assert_eq!(ports.len(), 48 - refused);
    assert!(
        refused >= 12,
        "of two who ask for one port only one gets it: {refused}"
    );
}

/// Who says which version it changes is told when that is another by now; who does not is never refused, and nothing
/// that was done is lost.
#[tokio::test]
async fn of_many_changes_none_is_lost() {
    let both = Both::start().await;
    let made = both.askers[0].post(MAPS, &config_map("a", "0")).await.expect(201);
    let path = format!("{MAPS}/a");
    let path = path.as_str();
    let watches = [
        Watching::open(both.kubernetes.address(), &format!("{MAPS}?watch=true")),
        Watching::open(both.adapter.address(), &format!("{MAPS}?watch=true")),
    ];

    let putting = (0..20).map(|number| {
        let (asker, mut map) = (&both.askers[number % 2], made.clone());
        map["data"]["value"] = (number + 1).to_string().into();
        async move { asker.put(path, &map).await }
    });
    let answers = join_all(putting).await;
    let done: Vec<_> = answers.iter().filter(|answer| answer.code == 200).collect();
    assert_eq!(done.len(), 1);
    for answer in answers.iter().filter(|answer| answer.code != 200) {
        assert_eq!((answer.code, answer.reason().as_str()), (409, "Conflict"));
        assert_eq!(
            answer.message(),
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
             changes to the latest version and try again"
        );
    }

    let patching = (0..40).map(|number| {
        let asker = &both.askers[number % 2];
        async move {
            let patch = json!({"metadata": {"labels": {format!("l{number}"): "x"}}});
            asker.merge(path, &patch).await
        }
    });
    for answer in join_all(patching).await {
        answer.expect(200);
    }
    let labels = both.askers[1].get(path).await.expect(200)["metadata"]["labels"].clone();
    assert_eq!(labels.as_object().unwrap().len(), 40);

    // One PUT without a version beside patches: all are done.
    let unconditional = (0..10).map(|number| {
        let asker = &both.askers[number % 2];
        async move { asker.put(path, &config_map("a", &number.to_string())).await }
    });
    for answer in join_all(unconditional).await {
        answer.expect(200);
    }
    both.askers[0].delete(path).await.expect(200);

    // Both tell the same, to the byte.
    let seen = watches.each_ref().map(|watch| {
        let mut events = Vec::new();
        loop {
            let event = watch.next().unwrap();
            let last = told(&event) == "DELETED a";
            events.push(event);
            if last {
                return events;
            }
        }
    });
    assert_eq!(seen[0], seen[1]);
    let revision = |event: &Value| -> u64 {
        let version = event["object"]["metadata"]["resourceVersion"].as_str();
        version.unwrap().parse().unwrap()
    };
    assert!(seen[0].is_sorted_by(|one, other| revision(one) < revision(other)));
    // The object, one PUT, the labels, and at least the last of those without a version; a PUT of what is there is none.
    assert!((44..=53).contains(&seen[0].len()), "{}", seen[0].len());
}

const SERVICES: &str = "/api/v1/namespaces/default/services";
