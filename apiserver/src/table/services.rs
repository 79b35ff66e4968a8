//! Cells of services and of what stands before and behind them.

use jiff::Timestamp;
use serde_json::Value;

use super::Cell;
use super::cells::{NONE, UNSET, each, few, labels_text, list, text, texts};
use crate::object::{Object, at};

pub(super) static CELLS: &[(&str, Cell)] = &[
    ("cidrs", |cidr, _| {
        texts(cidr, &["spec", "cidrs"]).join(",").into()
    }),
    ("class_parameters", class_parameters),
    ("endpoints", endpoints),
    ("external_ip", external_ip),
    ("ingress_hosts", ingress_hosts),
    ("ingress_ports", ingress_ports),
    ("load_balancer", |ingress, _| {
        load_balancer(ingress).join(",").into()
    }),
    ("parent_reference", parent_reference),
    ("service_ports", service_ports),
    ("service_selector", |service, _| {
        labels_text(at(service, &["spec", "selector"])).into()
    }),
    ("slice_endpoints", slice_endpoints),
    ("slice_ports", slice_ports),
];

fn external_ip(service: &Object, _: Timestamp) -> Value {
    let own = texts(service, &["spec", "externalIPs"]);
    let joined = |all: &[&str]| {
        if all.is_empty() {
            NONE.to_owned()
        } else {
            all.join(",")
        }
    };
    match text(service, &["spec", "type"]) {
        "ExternalName" => text(service, &["spec", "externalName"]).into(),
        "LoadBalancer" => {
            let given = load_balancer(service);
            let all: Vec<&str> = given.iter().copied().chain(own).collect();
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",").into()
            }
        }
        _ => joined(&own).into(),
    }
}

fn load_balancer(object: &Object) -> Vec<&str> {
    let address = |ingress| match text(ingress, &["ip"]) {
        "" => text(ingress, &["hostname"]),
        ip => ip,
    };
    list(object, &["status", "loadBalancer", "ingress"])
        .map(address)
        .filter(|one| !one.is_empty())
        .collect()
}

fn service_ports(service: &Object, _: Timestamp) -> Value {
    let number = |port: &Object, field: &str| port.get(field).and_then(Value::as_i64).unwrap_or(0);
    let show = |port| {
        let (own, node, protocol) = (
            number(port, "port"),
            number(port, "nodePort"),
            text(port, &["protocol"]),
        );
        match node {
            0 => format!("{own}/{protocol}"),
            node => format!("{own}:{node}/{protocol}"),
        }
    };
    let ports: Vec<String> = list(service, &["spec", "ports"]).map(show).collect();
    if ports.is_empty() {
        NONE.into()
    } else {
        ports.join(",").into()
    }
}

fn endpoints(endpoints: &Object, _: Timestamp) -> Value {
    let mut all = Vec::new();
    for subset in list(endpoints, &["subsets"]) {
        let ips: Vec<&str> = list(subset, &["addresses"])
            .map(|address| text(address, &["ip"]))
            .collect();
        let ports: Vec<i64> = list(subset, &["ports"])
            .filter_map(|port| port.get("port")?.as_i64())
            .collect();
        if ports.is_empty() {
            all.extend(ips.iter().map(|ip| (*ip).to_owned()));
        }
        for port in ports {
            all.extend(ips.iter().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{port}")
                } else {
                    format!("{ip}:{port}")
                }
            }));
        }
    }
    if all.is_empty() {
        NONE.into()
    } else {
        few(&all).into()
    }
}

fn slice_ports(slice: &Object, _: Timestamp) -> Value {
    let show = |port: &Object| {
        port.get("port")
            .and_then(Value::as_i64)
            .map_or_else(|| "*".to_owned(), |port| port.to_string())
    };
    let ports: Vec<String> = list(slice, &["ports"]).map(show).collect();
    if ports.is_empty() {
        UNSET.into()
    } else {
        few(&ports).into()
    }
}

fn slice_endpoints(slice: &Object, _: Timestamp) -> Value {
    let addresses = list(slice, &["endpoints"]).flat_map(|endpoint| texts(endpoint, &["addresses"]));
    let all: Vec<String> = addresses.map(str::to_owned).collect();
    if all.is_empty() {
        UNSET.into()
    } else {
        few(&all).into()
    }
}

fn ingress_hosts(ingress: &Object, _: Timestamp) -> Value {
    let hosts = list(ingress, &["spec", "rules"])
        .map(|rule| text(rule, &["host"]))
        .filter(|host| !host.is_empty());
    let hosts: Vec<String> = hosts.map(str::to_owned).collect();
    if hosts.is_empty() {
        "*".into()
    } else {
        few(&hosts).into()
    }
}

fn ingress_ports(ingress: &Object, _: Timestamp) -> Value {
    let is_safe = each(ingress, &["spec", "tls"]).next().is_some();
    if is_safe { "80, 443" } else { "80" }.into()
}

fn class_parameters(class: &Object, _: Timestamp) -> Value {
    let parameter = |field: &str| text(class, &["spec", "parameters", field]);
    match (parameter("apiGroup"), parameter("kind"), parameter("name")) {
        (_, "", _) => NONE.into(),
        ("", kind, name) => format!("{kind}/{name}").into(),
        (group, kind, name) => format!("{kind}.{group}/{name}").into(),
    }
}

fn parent_reference(address: &Object, _: Timestamp) -> Value {
    let part = |field: &str| text(address, &["spec", "parentRef", field]);
    let parts = [part("group"), part("resource"), part("namespace"), part("name")];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        NONE.into()
    } else {
        parts.join("/").into()
    }
}
