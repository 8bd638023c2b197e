//! The memory and CPU time of processes (Linux).

use std::fs::{read_dir, read_to_string};
use std::time::Duration;

/// The unit of times in `/proc/PID/stat` on all common systems.
const TICK: Duration = Duration::from_millis(10);

/// Processes on this machine, by their ids.
#[derive(Debug, Clone)]
pub(crate) struct Processes(pub(crate) Vec<u32>);

impl Processes {
    /// Resident memory of all, in bytes. `None` without a process.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.sum(Process::memory)
    }

    /// User and system CPU time of all so far. `None` without a process.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.sum(Process::cpu)
    }

    fn sum<T: std::iter::Sum>(&self, of: fn(Process) -> Option<T>) -> Option<T> {
        let all = self.0.iter().map(|id| of(Process(*id)));
        all.sum::<Option<T>>().filter(|_| !self.0.is_empty())
    }
}

/// A process on this machine.
#[derive(Debug, Clone, Copy)]
struct Process(u32);

impl Process {
    /// Resident memory in bytes.
    fn memory(self) -> Option<u64> {
        let status = read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    }

    /// User and system CPU time so far: of the running threads, to the nanosecond, if available,
    /// otherwise in the kernel's ticks.
    fn cpu(self) -> Option<Duration> {
        self.cpu_of_threads().or_else(|| ticks(&read_to_string(format!("/proc/{}/stat", self.0)).ok()?))
    }

    fn cpu_of_threads(self) -> Option<Duration> {
        let threads = read_dir(format!("/proc/{}/task", self.0)).ok()?;
        let nanos = threads.map(|thread| {
            let schedstat = read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            schedstat.split(' ').next()?.parse::<u64>().ok()
        });
        Some(Duration::from_nanos(nanos.sum::<Option<u64>>()?))
    }
}

/// User and system time in the text of `/proc/PID/stat`.
fn ticks(stat: &str) -> Option<Duration> {
    // The process name comes before, in brackets, and may contain anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (next()? + next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_ticks_after_a_name_with_brackets() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194304 100 0 0 0 31 11 0 0 20 0 2 0 100";
        assert_eq!(ticks(stat), Some(Duration::from_millis(420)));
        assert_eq!(ticks(""), None);
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn both_sources_of_cpu_time_agree() {
        let own = Process(std::process::id());
        while own.cpu().unwrap() < 5 * TICK {}
        let stat = read_to_string(format!("/proc/{}/stat", own.0)).unwrap();
        let (coarse, fine) = (ticks(&stat).unwrap(), own.cpu().unwrap());
        assert!(fine.abs_diff(coarse) < 5 * TICK, "{fine:?}, {coarse:?}");
        assert!(own.memory().unwrap() > 0);
    }
}
