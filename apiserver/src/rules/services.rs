//! Services: the addresses and ports that the server allots to them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::computed::{entries, entries_mut, set_missing};
use crate::object::{Object, at, child_mut};
use crate::resources::Resource;
use crate::status::Cause;

/// The addresses that services get by default: 10.96.0.0/12 without the address of the network and the last one.
pub const CLUSTER_IPS: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 96, 0, 1), Ipv4Addr::new(10, 111, 255, 254));
/// The ports of nodes that services get.
pub const NODE_PORTS: (u16, u16) = (30_000, 32_767);
/// The address of the service `default/kubernetes`, the first one.
pub const KUBERNETES_IP: Ipv4Addr = CLUSTER_IPS.0;
/// What stands for an address where a service is to have none.
const NONE: &str = "None";

/// Whether the objects of a resource are given addresses and ports.
#[must_use]
pub fn is_allotted(r: &Resource) -> bool {
    r.group.is_empty() && r.kind == "Service"
}

/// What services have already.
#[derive(Clone, Debug, Default)]
pub struct Used {
    /// Their addresses.
    pub ips: BTreeSet<Ipv4Addr>,
    /// Their ports on all nodes.
    pub node_ports: BTreeSet<u16>,
}

impl Used {
    /// Adds what a service has.
    pub fn add(&mut self, service: &Object) {
        self.ips
            .extend(cluster_ip(service).and_then(|ip| ip.parse::<Ipv4Addr>().ok()));
        self.node_ports.extend(node_ports(service));
    }

    /// Takes away what a service has, as before it is allotted anew.
    pub fn remove(&mut self, service: &Object) {
        if let Some(ip) = cluster_ip(service).and_then(|ip| ip.parse().ok()) {
            self.ips.remove(&ip);
        }
        for port in node_ports(service) {
            self.node_ports.remove(&port);
        }
    }
}

/// Gives a service the address and the ports that it needs and has not, the lowest ones that are free; what it asks for by
/// itself must be free and within the ranges. What it gets is added to what is used; `used` is without what the service
/// itself has in the store.
pub fn allot(service: &mut Object, used: &mut Used) -> Result<(), Vec<Cause>> {
    let kind = kind_of(service).to_owned();
    if kind == "ExternalName" {
        return Ok(());
    }
    let asked = cluster_ip(service).map(str::to_owned);
    let ip = match asked.as_deref() {
        Some(NONE) => NONE.to_owned(),
        Some(asked) => {
            check_ip(asked, used).map_err(|cause| vec![cause])?;
            asked.to_owned()
        }
        None => {
            let free = (u32::from(CLUSTER_IPS.0)..=u32::from(CLUSTER_IPS.1))
                .map(Ipv4Addr::from)
                // The first one belongs to the API server.
                .find(|ip| *ip != KUBERNETES_IP && !used.ips.contains(ip));
            let full = "failed to allocate a serviceIP: range is full";
            free.ok_or_else(|| vec![Cause::invalid("spec.clusterIPs", &json!([]), full)])?
                .to_string()
        }
    };
    used.ips.extend(ip.parse::<Ipv4Addr>().ok());
    let spec = child_mut(service, "spec");
    spec.insert("clusterIP".to_owned(), ip.as_str().into());
    spec.insert("clusterIPs".to_owned(), json!([ip]));
    let is_selectorless = spec.get("selector").is_none_or(|selector| selector == &json!({}));
    if ip == NONE && is_selectorless {
        set_missing(spec, "ipFamilies", json!(["IPv4", "IPv6"]));
        set_missing(spec, "ipFamilyPolicy", "RequireDualStack".into());
    } else {
        set_missing(spec, "ipFamilies", json!(["IPv4"]));
        set_missing(spec, "ipFamilyPolicy", "SingleStack".into());
    }
    allot_ports(service, &kind, used)
}

fn check_ip(asked: &str, used: &Used) -> Result<(), Cause> {
    let wrong = |told: &str| Err(Cause::invalid("spec.clusterIPs", &json!([asked]), told));
    match asked.parse::<Ipv4Addr>() {
        Err(_) => wrong("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        Ok(ip) if ip < CLUSTER_IPS.0 || ip > CLUSTER_IPS.1 => wrong(
            "failed to allocate IP: the provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/12",
        ),
        Ok(ip) if used.ips.contains(&ip) => wrong("failed to allocate IP: provided IP is already allocated"),
        Ok(_) => Ok(()),
    }
}

fn allot_ports(service: &mut Object, kind: &str, used: &mut Used) -> Result<(), Vec<Cause>> {
    let wants_all = match kind {
        "NodePort" => true,
        "LoadBalancer" => {
            at(service, &["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false))
        }
        _ => false,
    };
    let mut causes = Vec::new();
    // Two protocols of one service may share a port.
    let mut own: BTreeSet<(u16, String)> = BTreeSet::new();
    for (index, port) in entries_mut(child_mut(service, "spec"), "ports").enumerate() {
        let protocol = port
            .get("protocol")
            .and_then(Value::as_str)
            .unwrap_or("TCP")
            .to_owned();
        let asked = port
            .get("nodePort")
            .and_then(Value::as_u64)
            .filter(|port| *port != 0);
        let field = format!("spec.ports[{index}].nodePort");
        let number = match asked {
            Some(asked) => match u16::try_from(asked).ok().filter(|port| is_node_port(*port)) {
                None => {
                    let (first, last) = NODE_PORTS;
                    let told = format!(
                        "provided port is not in the valid range. The range of valid ports is {first}-{last}"
                    );
                    causes.push(Cause::invalid(field, &asked.into(), &told));
                    continue;
                }
                Some(port) => {
                    let is_own = own.iter().any(|(own, other)| *own == port && *other != protocol);
                    if used.node_ports.contains(&port) && !is_own {
                        causes.push(Cause::invalid(
                            field,
                            &asked.into(),
                            "provided port is already allocated",
                        ));
                        continue;
                    }
                    port
                }
            },
            None if !wants_all => continue,
            None => match (NODE_PORTS.0..=NODE_PORTS.1).find(|port| !used.node_ports.contains(port)) {
                Some(port) => port,
                None => {
                    let told = "failed to allocate a nodePort: range is full";
                    causes.push(Cause::invalid(field, &json!(0), told));
                    continue;
                }
            },
        };
        used.node_ports.insert(number);
        own.insert((number, protocol));
        port.insert("nodePort".to_owned(), number.into());
    }
    if causes.is_empty() { Ok(()) } else { Err(causes) }
}

/// Lets a service keep what it was allotted where the new one says nothing of it.
pub(super) fn keep_allocated(old: &Object, new: &mut Object) {
    let is_named = |service: &Object| kind_of(service) == "ExternalName";
    if !is_named(old) && !is_named(new) {
        let old_spec = old.get("spec").and_then(Value::as_object);
        let spec = child_mut(new, "spec");
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = old_spec.and_then(|spec| spec.get(field)) {
                let is_empty = spec
                    .get(field)
                    .is_none_or(|given| given == "" || given.is_null() || given == &json!([]));
                if is_empty {
                    spec.insert(field.to_owned(), value.clone());
                }
            }
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        let had: Vec<Object> = match old.get("spec").and_then(Value::as_object) {
            Some(spec) => entries(spec, "ports").cloned().collect(),
            None => Vec::new(),
        };
        for port in entries_mut(child_mut(new, "spec"), "ports") {
            let is_same = |had: &&Object| {
                had.get("port") == port.get("port") && had.get("protocol") == port.get("protocol")
            };
            let kept = had
                .iter()
                .find(is_same)
                .and_then(|had| had.get("nodePort"))
                .cloned();
            if let Some(kept) = kept {
                set_missing(port, "nodePort", kept);
            }
        }
    }
}

/// Takes from a service whose type has changed what only the old type had a use for, unless it was changed as well.
pub(super) fn drop_outgrown(old: &Object, new: &mut Object) {
    if !needs_node_ports(old) || needs_node_ports(new) {
        return;
    }
    let had: BTreeSet<u16> = node_ports(old).collect();
    let spec = child_mut(new, "spec");
    for port in entries_mut(spec, "ports") {
        let number = port.get("nodePort").and_then(Value::as_u64);
        if number
            .and_then(|number| u16::try_from(number).ok())
            .is_some_and(|number| had.contains(&number))
        {
            port.remove("nodePort");
        }
    }
    let is_reached = spec.get("externalIPs").is_some_and(|ips| ips != &json!([]));
    if !is_reached && at(old, &["spec", "externalTrafficPolicy"]) == spec.get("externalTrafficPolicy") {
        spec.remove("externalTrafficPolicy");
    }
}

/// Removes what its type has no use for.
pub(super) fn drop_unused(service: &mut Object) {
    let is_named = kind_of(service) == "ExternalName";
    let needs_ports = needs_node_ports(service);
    let spec = child_mut(service, "spec");
    if is_named {
        for field in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ] {
            spec.remove(field);
        }
    }
    if !needs_ports {
        spec.remove("healthCheckNodePort");
        spec.remove("allocateLoadBalancerNodePorts");
    }
}

fn needs_node_ports(service: &Object) -> bool {
    matches!(kind_of(service), "NodePort" | "LoadBalancer")
}

fn kind_of(service: &Object) -> &str {
    at(service, &["spec", "type"])
        .and_then(Value::as_str)
        .unwrap_or("ClusterIP")
}

fn cluster_ip(service: &Object) -> Option<&str> {
    let ip = at(service, &["spec", "clusterIP"])
        .and_then(Value::as_str)
        .filter(|ip| !ip.is_empty());
    ip.or_else(|| {
        let ips = at(service, &["spec", "clusterIPs"]).and_then(Value::as_array)?;
        ips.first()?.as_str().filter(|ip| !ip.is_empty())
    })
}

fn node_ports(service: &Object) -> impl Iterator<Item = u16> {
    let ports = at(service, &["spec", "ports"]).and_then(Value::as_array);
    ports
        .into_iter()
        .flatten()
        .filter_map(|port| u16::try_from(port.get("nodePort")?.as_u64()?).ok())
        .filter(|port| *port != 0)
}

fn is_node_port(port: u16) -> bool {
    (NODE_PORTS.0..=NODE_PORTS.1).contains(&port)
}
