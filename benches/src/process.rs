//! What a process has used, from `/proc`, and on which processor it may run.

use std::path::PathBuf;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Error;

/// Processor time of all threads of a process, ended ones included.
///
/// # Errors
/// No such process, or `/proc` is not Linux's.
pub fn cpu_time(pid: u32) -> Result<Duration, Error> {
    let path = proc_file(pid, "stat");
    let text = read(pid, &path)?;
    let ticks = parse_stat_ticks(&text).ok_or(Error::ProcFormat { path })?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Peak resident memory of a process in bytes.
///
/// # Errors
/// No such process, or `/proc` is not Linux's.
pub fn peak_rss_bytes(pid: u32) -> Result<u64, Error> {
    status_bytes(pid, "VmHWM:")
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// No such process, or `/proc` is not Linux's.
pub fn rss_bytes(pid: u32) -> Result<u64, Error> {
    status_bytes(pid, "VmRSS:")
}

fn status_bytes(pid: u32, field: &str) -> Result<u64, Error> {
    let path = proc_file(pid, "status");
    let text = read(pid, &path)?;
    parse_status(&text, field).ok_or(Error::ProcFormat { path })
}

/// The sum of a figure over processes, none without a process.
pub(crate) fn of_all<T: std::iter::Sum>(
    pids: &[u32],
    figure: impl Fn(u32) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    if pids.is_empty() {
        return Ok(None);
    }
    pids.iter()
        .map(|&pid| figure(pid))
        .sum::<Result<T, Error>>()
        .map(Some)
}

/// Binds the calling thread, and whatever it starts from now on, to one processor. False where the system refuses,
/// as it does for a processor that does not exist or is not given to us.
#[must_use]
pub fn pin_thread(core: usize) -> bool {
    if core >= CpuSet::MAX_CPU {
        return false;
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).is_ok()
}

/// The processors that the calling thread may run on, in order.
#[must_use]
pub fn allowed_cores() -> Vec<usize> {
    sched_getaffinity(None).map_or_else(
        |_| Vec::new(),
        |set| (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect(),
    )
}

/// What a measurement takes of the machine, on the command line.
#[derive(Debug, clap::Args)]
pub struct Machine {
    /// Processor for the server, or for all servers.
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,
    /// Processor for the generator.
    #[arg(long, default_value_t = 1)]
    pub load_core: usize,
    /// Where the data directories are made [default: the system's directory for temporary files].
    #[arg(long)]
    pub work_dir: Option<PathBuf>,
}

impl Machine {
    pub(crate) fn cores(&self) -> Option<Cores> {
        Cores::choose(self.server_core, self.load_core)
    }

    pub(crate) fn work_dir(&self) -> PathBuf {
        self.work_dir.clone().unwrap_or_else(std::env::temp_dir)
    }
}

/// A processor for the servers and one for the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// The two processors, or none, with a word on it, where they are not both ours: half a binding would compare
    /// nothing.
    pub(crate) fn choose(server: usize, load: usize) -> Option<Self> {
        let cores = Self::among(server, load, &allowed_cores());
        if cores.is_none() {
            eprintln!(
                "processors {server} and {load} are not both ours: neither server nor generator is bound to one"
            );
        }
        cores
    }

    fn among(server: usize, load: usize, allowed: &[usize]) -> Option<Self> {
        let both = server != load && allowed.contains(&server) && allowed.contains(&load);
        both.then_some(Self { server, load })
    }
}

/// Binds the generator, where there are processors to bind to.
pub(crate) fn pin_generator(cores: Option<Cores>) -> Result<(), Error> {
    match cores {
        Some(cores) if !pin_thread(cores.load) => Err(Error::System {
            what: "bind the generator to its processor",
            source: std::io::Error::last_os_error(),
        }),
        _ => Ok(()),
    }
}

fn proc_file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn read(pid: u32, path: &PathBuf) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Process { pid, source })
}

/// utime + stime, fields 14 and 15. Field 2 is the program's name in brackets and may itself hold blanks and brackets,
/// so counting begins behind the last closing one.
fn parse_stat_ticks(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn parse_status(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4242 (a (b) c) S 1 4242 4242 0 -1 4194560 5011 0 12 0 731 269 7 9 20 0 12 0 881 1 2";

    #[test]
    fn ticks_are_user_plus_system_whatever_the_name() {
        assert_eq!(parse_stat_ticks(STAT), Some(1000));
    }

    #[test]
    fn a_cut_stat_line_is_refused() {
        assert_eq!(parse_stat_ticks("4242 (a) S 1 2 3"), None);
        assert_eq!(parse_stat_ticks(""), None);
        assert_eq!(parse_stat_ticks(&STAT.replace("269", "x")), None);
    }

    #[test]
    fn memory_is_in_kib() {
        let status = "Name:\ta\nVmPeak:\t 9 kB\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(parse_status(status, "VmHWM:"), Some(12345 * 1024));
        assert_eq!(parse_status(status, "VmRSS:"), Some(1024));
        assert_eq!(parse_status("VmPeak:\t 9 kB\n", "VmHWM:"), None);
    }

    #[test]
    fn own_time_grows_with_work() {
        let before = cpu_time(std::process::id()).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        let mut sum = 0u64;
        while cpu_time(std::process::id()).unwrap() <= before {
            assert!(std::time::Instant::now() < deadline, "no time accounted");
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(peak_rss_bytes(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn figures_of_several_processes_are_added() {
        let figure = |pid| Ok::<u64, Error>(u64::from(pid));
        assert_eq!(of_all(&[1, 2, 4], figure).unwrap(), Some(7));
        assert_eq!(of_all(&[], figure).unwrap(), None);
        assert!(of_all(&[std::process::id(), u32::MAX], peak_rss_bytes).is_err());
    }

    #[test]
    fn processors_are_bound_together_or_not_at_all() {
        let expected = Some(Cores { server: 0, load: 1 });
        assert_eq!(Cores::among(0, 1, &[0, 1]), expected);
        assert_eq!(Cores::among(0, 1, &[0]), None);
        assert_eq!(Cores::among(1, 1, &[0, 1]), None);
    }

    #[test]
    fn a_thread_is_pinned_and_no_other() {
        let all = allowed_cores();
        let last = *all.last().unwrap();
        let pinned = std::thread::spawn(move || (pin_thread(last), allowed_cores())).join();
        assert_eq!(pinned.unwrap(), (true, vec![last]));
        assert_eq!(allowed_cores(), all);
        assert!(!pin_thread(CpuSet::MAX_CPU));
    }
}
