//! The adapter is killed while it is written to, apart from its store and together with it. What was acknowledged is
//! there; what was not is there as a whole or not at all; and everything in the store is what it must be.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apiserver::object::{is_too_deep, meta};
use apiserver::{codec, resources, rules};
use serde_json::{Value, json};

use crate::asking::{Answer, Asker};
use crate::harness::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_that_is_killed_leaves_nothing_half_written() {
    let kubernetes = Kubernetes::start().await;
    let mut adapter = Adapter::over(&[kubernetes.server.endpoint()]);
    // What it left is seen by another on the same store, which goes on.
    let other = Asker::at(&kubernetes.url());
    allow_disruptions(&other).await;
    let mut crew = Crew::new(1);
    for _ in 0..KILLS_APART {
        crew.work(&adapter.url(), || adapter.kill()).await;
        crew.check(&other, false).await;
        check_store(&kubernetes.server).await;
        adapter.run();
    }
    crew.assert_worked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_killed_leaves_nothing_half_written() {
    let mut kubernetes = Kubernetes::start().await;
    allow_disruptions(&Asker::at(&kubernetes.url())).await;
    let mut crew = Crew::new(2);
    for _ in 0..KILLS_WITHIN {
        let url = kubernetes.url();
        crew.work(&url, || kubernetes.server.kill()).await;
        kubernetes.run();
        crew.check(&Asker::at(&url), true).await;
        check_store(&kubernetes.server).await;
    }
    crew.assert_worked();
}

/// A budget of disruptions that covers all pods and is never used up, so that evictions write twice.
async fn allow_disruptions(asker: &Asker) {
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "all"},
        "spec": {"selector": {}, "maxUnavailable": "50%"},
    });
    asker.post(budgets, &budget).await.expect(201);
    let status = json!({"status": {
        "observedGeneration": 1,
        "disruptionsAllowed": 1_000_000,
        "currentHealthy": 2_000_000,
        "desiredHealthy": 1,
        "expectedPods": 2_000_000,
    }});
    asker
        .merge(&format!("{budgets}/all/status"), &status)
        .await
        .expect(200);
}

/// Those who write, each to objects of its own.
struct Crew {
    writers: Vec<Writer>,
    acknowledged: usize,
}

struct Writer {
    random: Random,
    objects: Vec<Owned>,
    /// Counts the writes, so that each is known by what it wrote.
    count: u64,
}

/// An object, and all that it may be after what was done to it.
struct Owned {
    resource: &'static str,
    name: String,
    possible: BTreeSet<Shape>,
}

/// What an object is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Shape {
    Gone,
    There {
        /// By which write it was made or changed last; it stands in two places.
        written: u64,
        /// The same of its status, 0 if there is none.
        told: u64,
        /// It has a finalizer.
        held: bool,
        /// It is to be deleted.
        marked: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Create,
    Change,
    Tell,
    Delete,
    Evict,
    Release,
}

impl Shape {
    /// What becomes of it; nothing where the operation is refused.
    fn after(self, operation: Operation, count: u64) -> Option<Shape> {
        let Shape::There {
            written,
            told,
            held,
            marked,
        } = self
        else {
            let new = Shape::There {
                written: count,
                told: 0,
                held: is_held(count),
                marked: false,
            };
            return (operation == Operation::Create).then_some(new);
        };
        let there = |written, told, held, marked| {
            Some(Shape::There {
                written,
                told,
                held,
                marked,
            })
        };
        match operation {
            Operation::Create => None,
            Operation::Change => there(count, told, held, marked),
            Operation::Tell => there(written, count, held, marked),
            Operation::Delete | Operation::Evict if held => there(written, told, true, true),
            Operation::Delete | Operation::Evict => Some(Shape::Gone),
            Operation::Release if marked => Some(Shape::Gone),
            Operation::Release => there(written, told, false, false),
        }
    }

    fn of(object: &Value) -> Shape {
        let number = |path: &str| -> u64 {
            let text = object.pointer(path).and_then(Value::as_str);
            text.map_or(0, |text| text.parse().unwrap())
        };
        let written = number("/metadata/labels/written");
        assert_eq!(
            written,
            number("/metadata/annotations/written"),
            "half a write: {object}"
        );
        let told = number("/status/message");
        assert_eq!(told, number("/status/reason"), "half a write: {object}");
        Shape::There {
            written,
            told,
            held: object.pointer("/metadata/finalizers").is_some(),
            marked: object.pointer("/metadata/deletionTimestamp").is_some(),
        }
    }
}

/// Every second object is held by a finalizer.
fn is_held(count: u64) -> bool {
    count.is_multiple_of(2)
}

impl Crew {
    fn new(seed: u64) -> Crew {
        let writer = |id: u64| Writer {
            random: Random::new(seed * 100 + id),
            objects: ["configmaps", "pods", "configmaps", "pods"]
                .iter()
                .enumerate()
                .map(|(place, resource)| Owned {
                    resource,
                    name: format!("w{id}-{place}"),
                    possible: BTreeSet::from([Shape::Gone]),
                })
                .collect(),
            count: 0,
        };
        Crew {
            writers: (0..WRITERS).map(writer).collect(),
            acknowledged: 0,
        }
    }

    /// Has all write until there is no answer any more: after so many answers the server is killed.
    async fn work(&mut self, url: &str, kill: impl FnOnce()) {
        let done = Arc::new(AtomicUsize::new(0));
        let working: Vec<_> = self
            .writers
            .drain(..)
            .map(|mut writer| {
                let (asker, done) = (Asker::at(url), Arc::clone(&done));
                tokio::spawn(async move {
                    while writer.write(&asker).await {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    writer
                })
            })
            .collect();
        let waiting = async {
            while done.load(Ordering::Relaxed) < WRITES_MIN {
                assert!(
                    !working.iter().any(tokio::task::JoinHandle::is_finished),
                    "a writer ended"
                );
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("writes are made");
        kill();
        for writer in working {
            self.writers.push(writer.await.unwrap());
        }
        self.acknowledged += done.load(Ordering::Relaxed);
    }

    /// Everything is what it may be. A store that lives on may still have a write of the killed adapter before it: then
    /// what is seen is not settled.
    async fn check(&mut self, asker: &Asker, settled: bool) {
        for owned in self.writers.iter_mut().flat_map(|writer| &mut writer.objects) {
            let answer = asker.get(&owned.path("")).await;
            let shape = match answer.code {
                404 => Shape::Gone,
                _ => Shape::of(&answer.expect(200)),
            };
            let possible = &owned.possible;
            assert!(
                possible.contains(&shape),
                "{}: {shape:?} is none of {possible:?}",
                owned.name
            );
            if settled {
                owned.possible = BTreeSet::from([shape]);
            }
        }
    }

    fn assert_worked(&self) {
        println!("{} writes were acknowledged", self.acknowledged);
        assert!(self.acknowledged >= WRITES_MIN);
    }
}

impl Writer {
    /// Writes once; false where there is no answer.
    async fn write(&mut self, asker: &Asker) -> bool {
        self.count += 1;
        let place = self.random.below(self.objects.len() as u64) as usize;
        let owned = &mut self.objects[place];
        let operation = match self.random.below(10) {
            0..3 => Operation::Create,
            3..6 => Operation::Change,
            6 if owned.resource == "pods" => Operation::Tell,
            6 | 7 => Operation::Release,
            8 if owned.resource == "pods" => Operation::Evict,
            _ => Operation::Delete,
        };
        let answer = owned.send(operation, self.count, asker).await;
        owned.note(operation, self.count, answer.as_ref());
        answer.is_some()
    }
}

impl Owned {
    fn path(&self, below: &str) -> String {
        format!(
            "/api/v1/namespaces/default/{}/{}{below}",
            self.resource, self.name
        )
    }

    fn object(&self, count: u64) -> Value {
        let count_text = count.to_string();
        let mut object = json!({
            "apiVersion": "v1",
            "metadata": {
                "name": self.name,
                "labels": {"written": count_text},
                "annotations": {"written": count_text},
            },
        });
        if is_held(count) {
            object["metadata"]["finalizers"] = json!(["example.com/hold"]);
        }
        if self.resource == "pods" {
            object["kind"] = "Pod".into();
            object["spec"] = json!({"containers": [{"name": "c", "image": "i"}]});
        } else {
            object["kind"] = "ConfigMap".into();
        }
        object
    }

    async fn send(&self, operation: Operation, count: u64, asker: &Asker) -> Option<Answer> {
        let (json, merge) = ("application/json", "application/merge-patch+json");
        let text = count.to_string();
        let (method, path, kind, body) = match operation {
            Operation::Create => {
                let path = format!("/api/v1/namespaces/default/{}", self.resource);
                ("POST", path, json, self.object(count))
            }
            Operation::Change => {
                let metadata = json!({"labels": {"written": text}, "annotations": {"written": text}});
                ("PATCH", self.path(""), merge, json!({"metadata": metadata}))
            }
            Operation::Tell => {
                let ready = json!([{"type": "Ready", "status": "True"}]);
                let status =
                    json!({"phase": "Running", "message": text, "reason": text, "conditions": ready});
                ("PATCH", self.path("/status"), merge, json!({"status": status}))
            }
            Operation::Delete => ("DELETE", self.path(""), json, json!({"gracePeriodSeconds": 0})),
            Operation::Evict => {
                let eviction = json!({
                    "apiVersion": "policy/v1",
                    "kind": "Eviction",
                    "metadata": {"name": self.name},
                    "deleteOptions": {"gracePeriodSeconds": 0},
                });
                ("POST", self.path("/eviction"), json, eviction)
            }
            Operation::Release => (
                "PATCH",
                self.path(""),
                merge,
                json!({"metadata": {"finalizers": null}}),
            ),
        };
        asker.try_send(method, &path, kind, body.to_string()).await
    }

    /// What it may be from now on.
    fn note(&mut self, operation: Operation, count: u64, answer: Option<&Answer>) {
        let after = |shape: &Shape| shape.after(operation, count);
        let before = &self.possible;
        let now: BTreeSet<Shape> = match answer.map(|answer| answer.code) {
            Some(200 | 201) => before.iter().filter_map(after).collect(),
            // Of two evictions at once one comes too late to the budget.
            Some(409) if operation == Operation::Evict => before.clone(),
            Some(404 | 409) => {
                let refused = before.iter().filter(|shape| after(shape).is_none());
                refused.copied().collect()
            }
            // The server is being killed: it may have been done or not.
            None | Some(500 | 504) => before
                .iter()
                .copied()
                .chain(before.iter().filter_map(after))
                .collect(),
            Some(_) => panic!("{operation:?}: {}", answer.map(Answer::text).unwrap_or_default()),
        };
        assert!(
            !now.is_empty(),
            "{operation:?} of {before:?}: {:?}",
            answer.map(Answer::text)
        );
        self.possible = now;
    }
}

/// Every value under the prefix is a valid object of the place where it stands.
async fn check_store(server: &Server) {
    let all = server.client().await.range(get_prefix("/registry/")).await;
    assert!(all.count > 5, "there is something to look at");
    for kv in &all.kvs {
        let key = text(&kv.key);
        if key.starts_with("/registry/ranges/") {
            continue;
        }
        let object = codec::decode_stored(&kv.value).unwrap_or_else(|error| panic!("{key}: {error}"));
        let field = |name: &str| object[name].as_str().unwrap();
        let (group, version) = field("apiVersion")
            .split_once('/')
            .unwrap_or(("", field("apiVersion")));
        let r = resources::of_kind(group, version, field("kind")).unwrap_or_else(|| panic!("{key}"));
        let (name, namespace) = (meta(&object, "name"), meta(&object, "namespace"));
        let place = match r.namespaced {
            true => format!("/registry/{}/{namespace}/{name}", r.directory),
            false => format!("/registry/{}/{name}", r.directory),
        };
        assert_eq!(key, place);
        codec::check_types(r.type_name, &object).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(rules::validate(r, None, &object), [], "{key}");
        assert!(!is_too_deep(&object), "{key}");
        assert_eq!(meta(&object, "uid").len(), 36, "{key}");
        assert_eq!(meta(&object, "resourceVersion"), "", "{key}");
    }
}

const WRITERS: u64 = 6;
/// Writes that are answered before the next kill.
const WRITES_MIN: usize = 150;
const KILLS_APART: usize = 6;
const KILLS_WITHIN: usize = 4;
