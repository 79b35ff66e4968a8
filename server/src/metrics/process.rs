//! What the kernel knows about this process, under the names that Prometheus clients give it.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::page::Page;

/// One reading of `/proc`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Process {
    pub(crate) cpu_s: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) virtual_bytes: u64,
    /// Unix time.
    pub(crate) started_s: f64,
    pub(crate) open_descriptors: u64,
    pub(crate) descriptors_max: u64,
    pub(crate) virtual_bytes_max: u64,
    /// Of the network namespace, which is the process's own in a container.
    pub(crate) network_received_bytes: u64,
    /// The same.
    pub(crate) network_sent_bytes: u64,
}

/// Reads it; what cannot be read is zero.
pub(crate) fn read() -> Process {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut process = parse_stat(
        &stat,
        rustix::param::clock_ticks_per_second(),
        rustix::param::page_size(),
    );
    process.started_s += boot_time().as_secs_f64();
    process.open_descriptors = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    process.descriptors_max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    process.virtual_bytes_max = getrlimit(Resource::As).current.unwrap_or(u64::MAX);
    let network = fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();
    process.network_received_bytes = network_number(&network, "InOctets");
    process.network_sent_bytes = network_number(&network, "OutOctets");
    process
}

pub(super) fn add(page: &mut Page) {
    let process = read();
    page.counter_s(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        process.cpu_s,
    );
    page.gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        process.resident_bytes as f64,
    );
    page.gauge(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        process.virtual_bytes as f64,
    );
    page.gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        process.started_s,
    );
    page.gauge(
        "process_open_fds",
        "Number of open file descriptors.",
        process.open_descriptors as f64,
    );
    page.gauge(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        process.descriptors_max as f64,
    );
    page.gauge(
        "os_fd_used",
        "The number of used file descriptors.",
        process.open_descriptors as f64,
    );
    page.gauge(
        "os_fd_limit",
        "The file descriptor limit.",
        process.descriptors_max as f64,
    );
    page.gauge(
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
        process.virtual_bytes_max as f64,
    );
    page.counter(
        "process_network_receive_bytes_total",
        "Number of bytes received by the process over the network.",
        process.network_received_bytes,
    );
    page.counter(
        "process_network_transmit_bytes_total",
        "Number of bytes sent by the process over the network.",
        process.network_sent_bytes,
    );
}

/// Fields by their numbers in proc(5); the name in parentheses may hold anything, so they are counted after it.
/// `started_s` is still counted from the boot.
fn parse_stat(stat: &str, ticks_per_s: u64, page_bytes: usize) -> Process {
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| {
            rest.split_ascii_whitespace()
                .map(|field| field.parse().unwrap_or(0))
                .collect()
        })
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let seconds = |ticks: u64| ticks as f64 / ticks_per_s as f64;
    Process {
        cpu_s: seconds(field(14) + field(15)),
        started_s: seconds(field(22)),
        virtual_bytes: field(23),
        resident_bytes: field(24) * page_bytes as u64,
        ..Process::default()
    }
}

/// One number of the lines `IpExt:`, the first of which names what the second one tells.
fn network_number(netstat: &str, name: &str) -> u64 {
    let mut lines = netstat.lines().filter(|line| line.starts_with("IpExt:"));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else {
        return 0;
    };
    names
        .split_ascii_whitespace()
        .zip(numbers.split_ascii_whitespace())
        .find(|(known, _)| *known == name)
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or(0)
}

fn boot_time() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let seconds = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let stat =
            "7 (a) b) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 1000 8192 3 18446744073709551615";
        let process = parse_stat(stat, 100, 4096);
        assert_eq!(process.cpu_s, 3.0);
        assert_eq!(
            (process.started_s, process.virtual_bytes, process.resident_bytes),
            (10.0, 8192, 12288)
        );
        assert_eq!(parse_stat("", 100, 4096), Process::default());
    }

    #[test]
    fn network_numbers_are_found_by_name() {
        let netstat = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets\nIpExt: 5 77\n";
        assert_eq!(network_number(netstat, "InOctets"), 77);
        assert_eq!(network_number(netstat, "OutOctets"), 0);
        assert_eq!(network_number("", "InOctets"), 0);
    }

    #[test]
    fn this_process_is_there() {
        let process = read();
        assert!(process.resident_bytes > 0 && process.virtual_bytes > process.resident_bytes);
        assert!(process.started_s > 1e9 && process.open_descriptors >= 3);
        assert!(process.descriptors_max >= process.open_descriptors);
    }
}
