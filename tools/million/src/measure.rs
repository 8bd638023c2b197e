//! Measures the parts of a run: time, CPU time, memory, and how long other tasks have to wait.

use std::cell::Cell;
use std::fs::read_to_string;
use std::rc::Rc;
use std::time::{Duration, Instant};

use allocation_counter::{AllocationInfo, measure};
use cpu_time::{ProcessTime, ThreadTime};
use tokio::runtime::Runtime;
use tokio::time::sleep;

/// Everything runs on one thread. How often a task that only measures wants its turn.
const PROBE: Duration = Duration::from_millis(2);

/// What a part of a run has cost.
pub(crate) struct Cost {
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
    /// The most CPU time between two turns of a task that wants one every 2 ms.
    pub(crate) wait: Duration,
    /// Change of the bytes on the heap.
    pub(crate) heap: i64,
    /// The largest number of bytes on the heap, in addition to those at the start.
    pub(crate) peak: u64,
    /// Change of the resident memory.
    pub(crate) resident: i64,
}

/// Runs a part, with all of its tasks, and measures it.
pub(crate) fn phase<T>(runtime: &Runtime, work: impl Future<Output = T>) -> (T, Cost) {
    let (longest, resident) = (Rc::new(Cell::new(Duration::ZERO)), resident());
    let (begun, cpu) = (Instant::now(), ProcessTime::now());
    let mut result = None;
    let AllocationInfo { bytes_current, bytes_max, .. } = measure(|| {
        result = Some(runtime.block_on(async {
            let probe = async {
                loop {
                    let before = ThreadTime::now();
                    sleep(PROBE).await;
                    longest.set(longest.get().max(before.elapsed()));
                }
            };
            tokio::select! {
                result = work => result,
                () = probe => unreachable!("it has no end"),
            }
        }));
    });
    let cost = Cost {
        time: begun.elapsed(),
        cpu: cpu.elapsed(),
        wait: longest.get(),
        heap: bytes_current,
        peak: bytes_max,
        resident: self::resident() - resident,
    };
    (result.expect("it has run"), cost)
}

impl Cost {
    pub(crate) fn share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.time.as_secs_f64()
    }

    /// Prints it, with the CPU time divided by this number.
    pub(crate) fn print(&self, what: &str, count: u64, of: &str) {
        let Cost { time, cpu, wait, .. } = self;
        let each = cpu.as_secs_f64() * 1e6 / count.max(1) as f64;
        let share = 100.0 * self.share();
        println!(
            "{what}: {time:.2?}, CPU {cpu:.2?} ({share:.1} % of a core), {each:.2} µs for each of {count} {of}, \
             longest wait of a task {wait:.1?}, heap at most {:+.1} MB",
            self.peak as f64 / 1e6,
        );
    }
}

/// Memory of this process that is not from files, in bytes. 0 if it is not known.
fn resident() -> i64 {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    kilobytes(&status, "RssAnon").unwrap_or_default() * 1024
}

/// A value in files such as `/proc/self/status`.
pub(crate) fn kilobytes(text: &str, key: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_a_key_and_a_unit() {
        let text = "RssAnonX:\t 1 kB\nRssAnon:\t    24 kB\nThreads: 7\n";
        assert_eq!(kilobytes(text, "RssAnon"), Some(24));
        assert_eq!(kilobytes(text, "Threads"), None);
        assert_eq!(kilobytes(text, "Rss"), None);
    }

    #[test]
    fn the_heap_of_a_part_is_that_of_its_tasks() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (kept, cost) = phase(&runtime, async {
            tokio::spawn(async { vec![0_u8; 1 << 20] }).await.unwrap();
            tokio::spawn(async { vec![0_u8; 1 << 16] }).await.unwrap()
        });
        // What the runtime itself allocates is small.
        assert!(cost.heap >= 1 << 16 && cost.heap < 1 << 17, "{}", cost.heap);
        assert!(cost.peak >= 1 << 20 && cost.peak < 1 << 21, "{}", cost.peak);
        drop(kept);
    }
}
