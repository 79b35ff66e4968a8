//! Pages for whoever looks into a running process: `/debug/vars` always, `/debug/pprof/` and `/debug/talkers` on
//! request, and what is under way at the log level debug.

use ::http::{Method, Request, StatusCode};
use serde::Serialize;

use super::{Page, method_not_allowed, plain};
use crate::core::Core;
use crate::grpc::meter::Totals;
use crate::grpc::rpc::Rpc;
use crate::metrics::{self, Process};

/// Answers `request` to `path` if there is such a page and it is switched on.
pub(super) fn page<B>(core: &Core, path: &str, request: &Request<B>) -> Option<Page> {
    if path == "/debug/vars" {
        return Some(match *request.method() {
            Method::GET => super::page("application/json; charset=utf-8", vars(core)),
            _ => method_not_allowed(),
        });
    }
    if core.http.debug && path == "/debug/requests" {
        return Some(super::page(HTML, requests(core)));
    }
    if core.http.debug && path == "/debug/events" {
        return Some(super::page(HTML, frame("/debug/events", "No events are kept.\n")));
    }
    if let Some(page) = talkers_for_client(core, path, request) {
        return Some(page);
    }
    let profile = path.strip_prefix(PROFILES).filter(|_| is_profiled(core))?;
    Some(pprof(profile))
}

/// Answers a request for the talkers, where they are found out.
pub(super) fn talkers<B>(core: &Core, path: &str, request: &Request<B>) -> Option<Page> {
    let page = core.audit.as_ref().filter(|_| path == "/debug/talkers")?;
    let page = page.talkers_page()?;
    Some(match *request.method() {
        Method::GET => super::page("application/json; charset=utf-8", page),
        _ => method_not_allowed(),
    })
}

/// The same for a client. Once clients must say who they are, it is no more for everybody: it names users and keys.
fn talkers_for_client<B>(core: &Core, path: &str, request: &Request<B>) -> Option<Page> {
    let page = talkers(core, path, request)?;
    Some(match core.store.auth_enabled() {
        false => page,
        true => plain(
            StatusCode::FORBIDDEN,
            "while authentication is on, this page is served on --listen-metrics-urls only\n".to_owned(),
        ),
    })
}

/// Whether `path` is a folder of these pages.
pub(super) fn is_folder(core: &Core, path: &str) -> bool {
    path == PROFILES && is_profiled(core)
}

fn is_profiled(core: &Core) -> bool {
    core.http.pprof || core.http.debug
}

/// Memory under the names that Go gives it. There is no collector here: what only it could fill is zero.
#[derive(Serialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Memory {
    alloc: u64,
    total_alloc: u64,
    sys: u64,
    lookups: u64,
    mallocs: u64,
    frees: u64,
    heap_alloc: u64,
    heap_sys: u64,
    heap_idle: u64,
    heap_inuse: u64,
    heap_released: u64,
    heap_objects: u64,
    #[serde(rename = "NextGC")]
    next_gc: u64,
    #[serde(rename = "LastGC")]
    last_gc: u64,
    pause_total_ns: u64,
    #[serde(rename = "NumGC")]
    num_gc: u32,
    #[serde(rename = "GCCPUFraction")]
    gc_cpu_fraction: f64,
    #[serde(rename = "EnableGC")]
    enable_gc: bool,
}

impl Memory {
    fn of(process: &Process) -> Memory {
        Memory {
            alloc: process.resident_bytes,
            sys: process.virtual_bytes,
            heap_alloc: process.resident_bytes,
            heap_sys: process.virtual_bytes,
            heap_inuse: process.resident_bytes,
            heap_idle: process.virtual_bytes.saturating_sub(process.resident_bytes),
            ..Memory::default()
        }
    }
}

/// Consensus as etcd's library reports it.
#[derive(Serialize)]
struct Raft {
    id: String,
    term: u64,
    commit: u64,
    lead: String,
    #[serde(rename = "raftState")]
    state: &'static str,
    applied: u64,
}

impl Raft {
    fn of(core: &Core) -> Raft {
        let status = core.store.status();
        let own = core.store.member_id();
        Raft {
            id: own.to_string(),
            term: status.raft_term.0,
            commit: status.raft_index.0,
            lead: status.leader.to_string(),
            state: match status.leader {
                leader if leader == own => "StateLeader",
                leader if leader.0 == 0 => "StateCandidate",
                _ => "StateFollower",
            },
            applied: status.raft_applied_index.0,
        }
    }
}

/// The variables, one a line, in the order of their names.
fn vars(core: &Core) -> String {
    let process = metrics::process();
    let command: Vec<String> = command_line().collect();
    let vars = [
        ("cmdline", serde_json::to_string(&command)),
        ("file_descriptor_limit", Ok(process.descriptors_max.to_string())),
        ("memstats", serde_json::to_string(&Memory::of(&process))),
        ("raft.status", serde_json::to_string(&Raft::of(core))),
    ];
    let lines: Vec<String> = vars
        .into_iter()
        .filter_map(|(name, value)| Some(format!("\"{name}\": {}", value.ok()?)))
        .collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

fn command_line() -> impl Iterator<Item = String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned())
}

/// How many calls of each kind are under way and how many ended.
fn requests(core: &Core) -> String {
    let mut rows = String::new();
    for &rpc in Rpc::ALL {
        let mut totals = Totals::default();
        for shard in core.shards.iter() {
            shard.add_to(rpc, &mut totals);
        }
        let ended: u64 = totals.handled.iter().sum();
        let active = totals.started.saturating_sub(ended);
        let (service, method, _) = rpc.names();
        if totals.started > 0 {
            rows += &format!(
                "<tr><td>{service}/{method}</td><td>[{active} active]</td><td>[{ended} ended]</td></tr>\n"
            );
        }
    }
    frame("/debug/requests", &format!("<table>\n{rows}</table>\n"))
}

fn pprof(profile: &str) -> Page {
    match profile {
        "" => {
            let rows: String = ENDPOINTS
                .iter()
                .map(|(name, what)| format!("<tr><td><a href='{name}'>{name}</a></td><td>{what}</td></tr>\n"))
                .collect();
            let table = format!("Types of profiles available:\n<table>\n{rows}</table>\n");
            super::page(HTML, frame(PROFILES, &table))
        }
        "cmdline" => {
            let words: Vec<String> = command_line().collect();
            plain(StatusCode::OK, words.join("\0"))
        }
        // Profiles here carry names of functions, never addresses to be looked up.
        "symbol" => plain(StatusCode::OK, "num_symbols: 0\n".to_owned()),
        "profile" | "trace" | "heap" | "allocs" | "goroutine" | "threadcreate" | "block" | "mutex" => plain(
            StatusCode::NOT_IMPLEMENTED,
            format!(
                "the profile {profile} is one of Go's runtime, which this program does not have; \
                 profile the process from outside, with perf for example\n"
            ),
        ),
        _ => plain(StatusCode::NOT_FOUND, "Unknown profile\n".to_owned()),
    }
}

fn frame(title: &str, content: &str) -> String {
    format!(
        "<html>\n<head>\n<title>{title}</title>\n</head>\n<body>\n{title}\n<br>\n{content}</body>\n</html>\n"
    )
}

const HTML: &str = "text/html; charset=utf-8";
const PROFILES: &str = "/debug/pprof/";
/// What the index of the profiles names.
const ENDPOINTS: &[(&str, &str)] = &[
    (
        "cmdline",
        "The command line of this process, its words separated by NUL",
    ),
    ("symbol", "Looks up addresses; there are none to look up"),
];
