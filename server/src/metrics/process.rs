//! What the kernel knows about this process, under the names that Prometheus clients give it.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// One reading of `/proc`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_s: f64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    /// Unix time.
    pub(super) started_s: f64,
    pub(super) open_descriptors: u64,
    pub(super) descriptors_max: u64,
}

/// Reads it; what cannot be read is zero.
pub(super) fn read() -> Process {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut process = parse_stat(
        &stat,
        rustix::param::clock_ticks_per_second(),
        rustix::param::page_size(),
    );
    process.started_s += boot_time().as_secs_f64();
    process.open_descriptors = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    process.descriptors_max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    process
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
    fn this_process_is_there() {
        let process = read();
        assert!(process.resident_bytes > 0 && process.virtual_bytes > process.resident_bytes);
        assert!(process.started_s > 1e9 && process.open_descriptors >= 3);
        assert!(process.descriptors_max >= process.open_descriptors);
    }
}
