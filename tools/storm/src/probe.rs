//! Measures how long the server holds up everything else that runs on its workers.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use tokio::task::{JoinHandle, yield_now};

/// With this many probes per worker, at least one notices a worker that stands still.
const PROBES_PER_WORKER: usize = 4;

/// Tasks that only measure how long they have to wait for their next turn.
pub(crate) struct Probes {
    is_over: Arc<AtomicBool>,
    probes: Vec<JoinHandle<Waits>>,
}

/// The longest waits of the probes.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// Between two turns of one probe, by the clock.
    pub(crate) turn: Duration,
    /// Between two turns of probes on the same worker, in CPU time: other processes do not count.
    pub(crate) worker: Duration,
}

thread_local! {
    /// The end of the latest turn of a probe on this worker.
    static LAST_TURN: Cell<Option<ThreadTime>> = const { Cell::new(None) };
}

impl Probes {
    pub(crate) fn start(workers: usize) -> Probes {
        let is_over = Arc::new(AtomicBool::new(false));
        let probe = || {
            let is_over = is_over.clone();
            tokio::spawn(async move {
                let (mut longest, mut last) = (Waits::default(), Instant::now());
                LAST_TURN.set(Some(ThreadTime::now()));
                while !is_over.load(Relaxed) {
                    yield_now().await;
                    let worker = LAST_TURN.get().map_or(Duration::ZERO, |last| last.elapsed());
                    longest = longest.max(Waits { turn: last.elapsed(), worker });
                    last = Instant::now();
                    LAST_TURN.set(Some(ThreadTime::now()));
                }
                LAST_TURN.set(None);
                longest
            })
        };
        let probes = (0..workers * PROBES_PER_WORKER).map(|_| probe()).collect();
        Probes { is_over, probes }
    }

    pub(crate) async fn stop(self) -> Waits {
        self.is_over.store(true, Relaxed);
        let mut longest = Waits::default();
        for probe in self.probes {
            longest = longest.max(probe.await.expect("a probe"));
        }
        longest
    }
}

impl Waits {
    fn max(self, other: Waits) -> Waits {
        Waits { turn: self.turn.max(other.turn), worker: self.worker.max(other.worker) }
    }
}

/// The longest turn of the tasks of connections, in nanoseconds of CPU time: other processes do not count.
static LONGEST_TURN: AtomicU64 = AtomicU64::new(0);

/// The longest turn since the last call.
pub(crate) fn take_longest_turn() -> Duration {
    Duration::from_nanos(LONGEST_TURN.swap(0, Relaxed))
}

/// A task whose turns are measured.
pub(crate) struct Timed<F>(Pin<Box<F>>);

impl<F: Future> Timed<F> {
    pub(crate) fn new(task: F) -> Timed<F> {
        Timed(Box::pin(task))
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let begun = ThreadTime::now();
        let polled = self.0.as_mut().poll(cx);
        LONGEST_TURN.fetch_max(begun.elapsed().as_nanos() as u64, Relaxed);
        polled
    }
}
