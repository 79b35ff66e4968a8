//! Cells of pods and of what makes them.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{NONE, each, labels_text, list, selector_text, text};
use super::{Cell, ages};
use crate::object::{Object, at, is_terminating};

pub(super) static CELLS: &[(&str, Cell)] = &[
    ("active", active),
    ("job_completions", job_completions),
    ("job_duration", job_duration),
    ("job_status", job_status),
    ("job_template_containers", |job, _| {
        containers(job, JOB_TEMPLATE, "name")
    }),
    ("job_template_images", |job, _| {
        containers(job, JOB_TEMPLATE, "image")
    }),
    ("job_template_selector", |job, _| {
        selector_text(at(job, &["spec", "jobTemplate", "spec", "selector"])).into()
    }),
    ("last_schedule", last_schedule),
    ("node_selector", |set, _| {
        labels_text(at(set, &["spec", "template", "spec", "nodeSelector"])).into()
    }),
    ("pod_gates", pod_gates),
    ("pod_ip", pod_ip),
    ("pod_ready", pod_ready),
    ("pod_restarts", pod_restarts),
    ("pod_status", |pod, now| Outline::of(pod, now).reason.into()),
    ("ready_of_desired", ready_of_desired),
    ("suspend", suspend),
    ("template_containers", |object, _| {
        containers(object, template_path(object), "name")
    }),
    ("template_images", |object, _| {
        containers(object, template_path(object), "image")
    }),
    ("template_labels", |object, _| {
        labels_text(at(object, &["template", "metadata", "labels"])).into()
    }),
];

const TEMPLATE: &[&str] = &["spec", "template", "spec", "containers"];
const JOB_TEMPLATE: &[&str] = &["spec", "jobTemplate", "spec", "template", "spec", "containers"];
/// Of an object that is nothing but a template.
const ONLY_TEMPLATE: &[&str] = &["template", "spec", "containers"];

fn template_path(object: &Object) -> &'static [&'static str] {
    if object.contains_key("template") {
        ONLY_TEMPLATE
    } else {
        TEMPLATE
    }
}

fn containers(object: &Object, path: &[&str], field: &str) -> Value {
    let all: Vec<&str> = list(object, path)
        .map(|container| text(container, &[field]))
        .collect();
    all.join(",").into()
}

fn number(object: &Object, path: &[&str]) -> i64 {
    at(object, path).and_then(Value::as_i64).unwrap_or(0)
}

fn ready_of_desired(object: &Object, _: Timestamp) -> Value {
    let (ready, desired) = (
        number(object, &["status", "readyReplicas"]),
        number(object, &["spec", "replicas"]),
    );
    format!("{ready}/{desired}").into()
}

/// What a pod's containers come to.
#[derive(Default)]
struct Outline {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    beside_restarts: i64,
    beside_last_restart: Option<Timestamp>,
    total: usize,
}

impl Outline {
    fn of(pod: &Object, _: Timestamp) -> Outline {
        let phase = text(pod, &["status", "phase"]);
        let own = text(pod, &["status", "reason"]);
        let mut outline = Outline {
            reason: if own.is_empty() { phase } else { own }.to_owned(),
            total: list(pod, &["spec", "containers"]).count(),
            ..Outline::default()
        };
        outline.total += list(pod, &["spec", "initContainers"])
            .filter(|one| is_sidecar(one))
            .count();
        let is_gated = has_condition(pod, "PodScheduled", |condition| {
            text(condition, &["reason"]) == "SchedulingGated"
        });
        if is_gated {
            "SchedulingGated".clone_into(&mut outline.reason);
        }
        let is_initializing = outline.read_initial(pod);
        let is_initialized = has_condition(pod, "Initialized", |condition| {
            text(condition, &["status"]) == "True"
        });
        if !is_initializing || is_initialized {
            outline.read_main(pod);
        }
        if is_terminating(pod) {
            match own {
                "NodeLost" => "Unknown".clone_into(&mut outline.reason),
                _ if matches!(phase, "Succeeded" | "Failed") => {}
                _ => "Terminating".clone_into(&mut outline.reason),
            }
        }
        outline
    }

    /// The containers that run before the others; whether they are not done yet.
    fn read_initial(&mut self, pod: &Object) -> bool {
        let specs: Vec<&Object> = list(pod, &["spec", "initContainers"]).collect();
        for (index, status) in list(pod, &["status", "initContainerStatuses"]).enumerate() {
            let name = text(status, &["name"]);
            let is_beside = specs
                .iter()
                .any(|spec| text(spec, &["name"]) == name && is_sidecar(spec));
            let before = self.restarts;
            self.count_restarts(status);
            if is_beside {
                self.beside_restarts += self.restarts - before;
                self.beside_last_restart = self.beside_last_restart.max(restarted(status));
            }
            let terminated = at(status, &["state", "terminated"]).and_then(Value::as_object);
            if terminated.is_some_and(|state| number(state, &["exitCode"]) == 0) {
                continue;
            }
            if is_beside && status.get("started") == Some(&Value::Bool(true)) {
                self.ready += usize::from(status.get("ready") == Some(&Value::Bool(true)));
                continue;
            }
            let waiting = text(status, &["state", "waiting", "reason"]);
            self.reason = match terminated {
                Some(state) => format!("Init:{}", end_of(state)),
                None if !matches!(waiting, "" | "PodInitializing") => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", specs.len()),
            };
            return true;
        }
        false
    }

    fn read_main(&mut self, pod: &Object) {
        let mut is_running = false;
        let statuses: Vec<&Object> = list(pod, &["status", "containerStatuses"]).collect();
        // Those that are done no longer count, only those that stay beside.
        self.restarts = self.beside_restarts;
        self.last_restart = self.beside_last_restart;
        for status in statuses.into_iter().rev() {
            self.count_restarts(status);
            let waiting = text(status, &["state", "waiting", "reason"]);
            let terminated = at(status, &["state", "terminated"]).and_then(Value::as_object);
            match terminated {
                _ if !waiting.is_empty() => waiting.clone_into(&mut self.reason),
                Some(state) => self.reason = end_of(state),
                None => {
                    let runs = at(status, &["state", "running"]).is_some_and(Value::is_object);
                    if runs && status.get("ready") == Some(&Value::Bool(true)) {
                        is_running = true;
                        self.ready += 1;
                    }
                }
            }
        }
        if self.reason == "Completed" && is_running {
            let is_ready = has_condition(pod, "Ready", |condition| text(condition, &["status"]) == "True");
            self.reason = if is_ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn count_restarts(&mut self, status: &Object) {
        self.restarts += number(status, &["restartCount"]);
        self.last_restart = self.last_restart.max(restarted(status));
    }
}

/// When a container last came back.
fn restarted(status: &Object) -> Option<Timestamp> {
    ages::parse(at(status, &["lastState", "terminated", "finishedAt"]))
}

/// How a container ended: its reason, or its signal, or its code.
fn end_of(state: &Object) -> String {
    match (text(state, &["reason"]), number(state, &["signal"])) {
        ("", 0) => format!("ExitCode:{}", number(state, &["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Whether an initial container stays beside the others.
fn is_sidecar(container: &Object) -> bool {
    text(container, &["restartPolicy"]) == "Always"
}

fn has_condition(object: &Object, kind: &str, is: impl Fn(&Object) -> bool) -> bool {
    list(object, &["status", "conditions"])
        .any(|condition| text(condition, &["type"]) == kind && is(condition))
}

fn pod_ready(pod: &Object, now: Timestamp) -> Value {
    let outline = Outline::of(pod, now);
    format!("{}/{}", outline.ready, outline.total).into()
}

fn pod_restarts(pod: &Object, now: Timestamp) -> Value {
    let outline = Outline::of(pod, now);
    match outline.last_restart.filter(|_| outline.restarts != 0) {
        Some(last) => {
            let ago = ages::human(now.as_second() - last.as_second());
            format!("{} ({ago} ago)", outline.restarts).into()
        }
        None => outline.restarts.to_string().into(),
    }
}

fn pod_ip(pod: &Object, _: Timestamp) -> Value {
    let first = list(pod, &["status", "podIPs"])
        .next()
        .map(|ip| text(ip, &["ip"]))
        .unwrap_or_default();
    match (first, text(pod, &["status", "podIP"])) {
        ("", "") => NONE.into(),
        ("", ip) | (ip, _) => ip.into(),
    }
}

fn pod_gates(pod: &Object, _: Timestamp) -> Value {
    let gates: Vec<&str> = list(pod, &["spec", "readinessGates"])
        .map(|gate| text(gate, &["conditionType"]))
        .collect();
    if gates.is_empty() {
        return NONE.into();
    }
    let is_open = |gate: &&&str| has_condition(pod, gate, |condition| text(condition, &["status"]) == "True");
    format!("{}/{}", gates.iter().filter(is_open).count(), gates.len()).into()
}

fn job_status(job: &Object, _: Timestamp) -> Value {
    let is = |kind: &str| has_condition(job, kind, |condition| text(condition, &["status"]) == "True");
    let status = [
        (is("Complete"), "Complete"),
        (is("Failed"), "Failed"),
        (is_terminating(job), "Terminating"),
        (is("Suspended"), "Suspended"),
        (is("FailureTarget"), "FailureTarget"),
        (is("SuccessCriteriaMet"), "SuccessCriteriaMet"),
    ];
    let status = status.into_iter().find(|(is, _)| *is);
    status.map_or("Running", |(_, status)| status).into()
}

fn job_completions(job: &Object, _: Timestamp) -> Value {
    let succeeded = number(job, &["status", "succeeded"]);
    let parallelism = number(job, &["spec", "parallelism"]);
    match at(job, &["spec", "completions"]).and_then(Value::as_i64) {
        Some(completions) => format!("{succeeded}/{completions}").into(),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}").into(),
        None => format!("{succeeded}/1").into(),
    }
}

fn job_duration(job: &Object, now: Timestamp) -> Value {
    let Some(started) = ages::parse(at(job, &["status", "startTime"])) else {
        return "".into();
    };
    let ended = ages::parse(at(job, &["status", "completionTime"])).unwrap_or(now);
    ages::human(ended.as_second() - started.as_second()).into()
}

fn suspend(job: &Object, _: Timestamp) -> Value {
    match at(job, &["spec", "suspend"]) {
        Some(Value::Bool(true)) => "True".into(),
        Some(Value::Bool(false)) => "False".into(),
        _ => "<unset>".into(),
    }
}

fn active(job: &Object, _: Timestamp) -> Value {
    each(job, &["status", "active"]).count().into()
}

fn last_schedule(job: &Object, now: Timestamp) -> Value {
    match at(job, &["status", "lastScheduleTime"]).filter(|time| !time.is_null()) {
        Some(time) => ages::since(Some(time), now).into(),
        None => NONE.into(),
    }
}
