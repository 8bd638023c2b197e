//! A run: connects all, applies the load, and waits for the last deliveries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::{self, Commands};
use crate::options::Scenario;
use crate::process::Processes;
use crate::shared::Shared;

/// Time without progress after which missing deliveries count as lost.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for connecting, which takes longer.
const CONNECT_PROGRESS_TIMEOUT: Duration = Duration::from_secs(12);
/// Time for all to leave. In a large room this takes long, since each leave is delivered to all.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the state is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A run and its connections.
pub(crate) struct Run {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    commands: Arc<[UnboundedSender<u64>]>,
    /// For the connections that are not yet made.
    waiting: Vec<Commands>,
    /// The servers'.
    processes: Processes,
    /// Memory with only the first connection, which includes everything that connections share.
    base: Option<u64>,
    pub(crate) usage: Usage,
}

/// What the server's process used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Bytes of memory per connection beyond the first.
    pub(crate) memory: Option<u64>,
    /// CPU time while measuring.
    pub(crate) cpu: Option<Duration>,
}

impl Run {
    pub(crate) fn new(shared: Arc<Shared>, processes: Processes) -> Run {
        let (commands, waiting): (Vec<_>, Vec<_>) =
            (0..shared.options.connections()).map(|_| unbounded_channel()).unzip();
        let (clients, commands, usage) = (JoinSet::new(), commands.into(), Usage::default());
        Run { shared, clients, commands, waiting, processes, base: None, usage }
    }

    /// Connects and applies the load. May be dropped at any time; call [`Run::end`] afterwards.
    pub(crate) async fn load(&mut self) {
        eprintln!("connecting {} ...", self.commands.len());
        if !self.connect().await {
            return;
        }
        let options = &self.shared.options;
        let all_enter = options.scenario == Scenario::Enter;
        let warmup = if all_enter { Duration::ZERO } else { options.warmup };
        let begun = self.shared.now();
        eprintln!("loading for {:?} ...", warmup + options.duration);
        self.shared.measure(begun + warmup.as_nanos() as u64, options.duration);
        let (shared, commands) = (self.shared.clone(), self.commands.clone());
        let pacing = tokio::task::spawn_blocking(move || pace(&shared, &commands, begun));
        let mut before = None;
        while self.shared.is_before_end(self.shared.now()) && !self.is_done() {
            if before.is_none() && self.shared.is_measured(self.shared.now()) {
                before = self.processes.cpu();
            }
            sleep(POLL_INTERVAL).await;
        }
        self.shared.finish();
        self.usage.cpu = self.processes.cpu().zip(before).map(|(a, b)| a.saturating_sub(b));
        // Ends by itself, since nothing is due any more.
        let _ = pacing.await;
    }

    /// Waits for the last deliveries, then lets all leave.
    pub(crate) async fn end(&mut self) {
        self.shared.finish();
        let counters = &self.shared.counters;
        let others = counters.online().saturating_sub(1);
        self.usage.memory = match (self.base, self.processes.memory()) {
            (Some(base), Some(now)) if others > 0 && !self.shared.measured().is_zero() => {
                Some(now.saturating_sub(base) / others)
            }
            _ => None,
        };
        wait(PROGRESS_TIMEOUT, || {
            (counters.delivered(), if counters.online() > 0 { counters.expected.get() } else { 0 })
        })
        .await;
        wait(PROGRESS_TIMEOUT, || {
            (
                counters.acknowledged.get(),
                if counters.online() > 0 { counters.to_acknowledge.get() } else { 0 },
            )
        })
        .await;
        self.waiting.clear();
        self.commands = [].into();
        let all_gone = async { while self.clients.join_next().await.is_some() {} };
        let _ = timeout(LEAVE_TIMEOUT, all_gone).await;
        self.clients.shutdown().await;
    }

    /// Connects all. Returns whether there is anything to load.
    async fn connect(&mut self) -> bool {
        self.waiting.reverse();
        // First a single one: if it fails, all others would too, each after its timeout.
        self.connect_next(1).await;
        if self.shared.counters.failed.get() > 0 {
            return false;
        }
        self.base = self.processes.memory();
        self.connect_next(self.waiting.len()).await;
        true
    }

    async fn connect_next(&mut self, n: usize) {
        for _ in 0..n {
            let index = self.commands.len() - self.waiting.len();
            let Some(commands) = self.waiting.pop() else { return };
            self.clients.spawn(client::run(self.shared.clone(), index, commands));
        }
        let counters = &self.shared.counters;
        let all_enter = self.shared.options.scenario == Scenario::Enter;
        let there = if all_enter { &counters.connected } else { &counters.entered };
        let wanted = (self.commands.len() - self.waiting.len()) as u64;
        wait(CONNECT_PROGRESS_TIMEOUT, || (there.get() + counters.failed.get(), wanted)).await;
    }

    /// Whether there is nothing left to wait for: all connections are lost, or all have entered.
    fn is_done(&self) -> bool {
        let counters = &self.shared.counters;
        if self.shared.options.scenario != Scenario::Enter {
            return counters.online() == 0;
        }
        let answered = counters.entered.get() + counters.failed.get() == self.commands.len() as u64;
        answered && (counters.lost() == 0 || counters.online() == 0)
    }
}

/// Tells the senders when to send. Runs on a thread of its own, since tokio's timers are only
/// precise to a millisecond.
fn pace(shared: &Shared, commands: &[UnboundedSender<u64>], begin: u64) {
    let options = &shared.options;
    let (rooms, members, senders) = (options.rooms(), options.members(), options.senders());
    let (speaking, at_once, again) = match options.scenario {
        Scenario::Rate => (senders, 1, true),
        Scenario::Burst => (senders, rooms * options.burst, true),
        Scenario::Flood => (senders, rooms * senders * options.window, false),
        Scenario::Enter => (members, rooms * members, false),
        Scenario::Idle => return,
    };
    // Round robin over the rooms, so that the load is even.
    let turns = (0..speaking).flat_map(|member| (0..rooms).map(move |room| (room, room * members + member)));
    let mut turns = turns.cycle();
    for round in 0_u64.. {
        let since = (round * at_once as u64) as f64 / options.rate;
        let due = begin + (since * 1e9) as u64;
        if (round > 0 && !again) || !sleep_until(shared, due) {
            return;
        }
        for (room, index) in turns.by_ref().take(at_once) {
            // Fails if the connection has ended.
            if commands[index].send(due).is_ok() {
                shared.expect_deliveries(room, due);
            }
        }
    }
}

/// Sleeps until `due`. Returns `false` if the run ends before.
fn sleep_until(shared: &Shared, due: u64) -> bool {
    loop {
        if !shared.is_before_end(due) {
            return false;
        }
        let now = shared.now();
        if now >= due {
            return true;
        }
        std::thread::sleep(Duration::from_nanos(due - now).min(POLL_INTERVAL));
    }
}

/// Waits until the first number reaches the second, or has not changed for `patience`.
async fn wait(patience: Duration, progress: impl Fn() -> (u64, u64)) {
    let mut last = (0, Instant::now());
    loop {
        let (have, want) = progress();
        if have >= want || (have == last.0 && last.1.elapsed() > patience) {
            return;
        }
        if have != last.0 {
            last = (have, Instant::now());
        }
        sleep(POLL_INTERVAL).await;
    }
}
