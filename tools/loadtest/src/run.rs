//! The course of a run: all connect, the load comes, the last deliveries are waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::{self, Orders};
use crate::options::Scenario;
use crate::process::Process;
use crate::world::World;

/// Time without any progress after which what has not come counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same for connecting, where a server may have to be asked for long.
const CONNECT_PATIENCE: Duration = Duration::from_secs(12);
/// Time for all to leave; of a big room, each hears of all who leave before.
const LEAVING: Duration = Duration::from_secs(15);
/// How often the state is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// A run and its connections.
pub(crate) struct Run {
    world: Arc<World>,
    clients: JoinSet<()>,
    orders: Arc<[UnboundedSender<u64>]>,
    /// Not yet connected.
    waiting: Vec<Orders>,
    /// The server's.
    process: Option<Process>,
    /// Memory when the first alone was connected, which has paid for what all share.
    base: Option<u64>,
    pub(crate) used: Used,
}

/// What the server's process has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// Bytes of memory per connection beyond the first.
    pub(crate) memory: Option<u64>,
    /// CPU time while measuring.
    pub(crate) cpu: Option<Duration>,
}

impl Run {
    pub(crate) fn new(world: Arc<World>, process: Option<Process>) -> Run {
        let (orders, waiting): (Vec<_>, Vec<_>) =
            (0..world.options.connections()).map(|_| unbounded_channel()).unzip();
        let (clients, orders, used) = (JoinSet::new(), orders.into(), Used::default());
        Run { world, clients, orders, waiting, process, base: None, used }
    }

    /// Does it all. It may be dropped at any time; then comes [`Run::end`].
    pub(crate) async fn load(&mut self) {
        eprintln!("connecting {} ...", self.orders.len());
        if !self.connect().await {
            return;
        }
        let options = &self.world.options;
        let storm = options.scenario == Scenario::Enter;
        let warmup = if storm { Duration::ZERO } else { options.warmup };
        let begun = self.world.now();
        eprintln!("loading for {:?} ...", warmup + options.duration);
        self.world.measure(begun + warmup.as_nanos() as u64, options.duration);
        let (world, orders) = (self.world.clone(), self.orders.clone());
        let pacing = tokio::task::spawn_blocking(move || pace(&world, &orders, begun));
        let mut before = None;
        while self.world.goes_on(self.world.now()) && !self.is_over() {
            if before.is_none() && self.world.is_measured(self.world.now()) {
                before = self.process.and_then(Process::cpu);
            }
            sleep(GLANCE).await;
        }
        self.world.finish();
        self.used.cpu = self.process.and_then(Process::cpu).zip(before).map(|(a, b)| a.saturating_sub(b));
        // It ends by itself, as nothing is due any more; it can't fail.
        let _ = pacing.await;
    }

    /// Waits for what is under way, then lets all leave.
    pub(crate) async fn end(&mut self) {
        self.world.finish();
        let tally = &self.world.tally;
        let others = tally.online().saturating_sub(1);
        self.used.memory = match (self.base, self.process.and_then(Process::memory)) {
            (Some(base), Some(now)) if others > 0 && !self.world.measured().is_zero() => {
                Some(now.saturating_sub(base) / others)
            }
            _ => None,
        };
        wait(PATIENCE, || (tally.delivered(), if tally.online() > 0 { tally.expected.get() } else { 0 }))
            .await;
        self.waiting.clear();
        self.orders = [].into();
        let all_gone = async { while self.clients.join_next().await.is_some() {} };
        let _ = timeout(LEAVING, all_gone).await;
        self.clients.shutdown().await;
    }

    /// Whether anybody is there to be loaded.
    async fn connect(&mut self) -> bool {
        self.waiting.reverse();
        // One alone: if it fails, the others would fail as well, each after its time.
        self.connect_next(1).await;
        if self.world.tally.failed.get() > 0 {
            return false;
        }
        self.base = self.process.and_then(Process::memory);
        self.connect_next(self.waiting.len()).await;
        true
    }

    async fn connect_next(&mut self, n: usize) {
        for _ in 0..n {
            let index = self.orders.len() - self.waiting.len();
            let Some(orders) = self.waiting.pop() else { return };
            self.clients.spawn(client::run(self.world.clone(), index, orders));
        }
        let tally = &self.world.tally;
        let storm = self.world.options.scenario == Scenario::Enter;
        let there = if storm { &tally.connected } else { &tally.entered };
        let wanted = (self.orders.len() - self.waiting.len()) as u64;
        wait(CONNECT_PATIENCE, || (there.get() + tally.failed.get(), wanted)).await;
    }

    /// Whether waiting longer makes no sense: all are gone, or a join storm has passed.
    fn is_over(&self) -> bool {
        let tally = &self.world.tally;
        if self.world.options.scenario != Scenario::Enter {
            return tally.online() == 0;
        }
        let settled = tally.entered.get() + tally.failed.get() == self.orders.len() as u64;
        settled && (tally.lost() == 0 || tally.online() == 0)
    }
}

/// Tells the senders when to send. On a thread of its own, as the runtime's timers are only
/// exact to a millisecond.
fn pace(world: &World, orders: &[UnboundedSender<u64>], begin: u64) {
    let options = &world.options;
    let (rooms, members, senders) = (options.rooms(), options.members(), options.senders());
    let (speaking, at_once, again) = match options.scenario {
        Scenario::Rate => (senders, 1, true),
        Scenario::Burst => (senders, rooms * options.burst, true),
        Scenario::Flood => (senders, rooms * senders * options.window, false),
        Scenario::Enter => (members, rooms * members, false),
        Scenario::Idle => return,
    };
    // Room by room, so that each has its share of every second and of every burst.
    let turns = (0..speaking).flat_map(|seat| (0..rooms).map(move |room| (room, room * members + seat)));
    let mut turns = turns.cycle();
    for round in 0_u64.. {
        let since = (round * at_once as u64) as f64 / options.rate;
        let due = begin + (since * 1e9) as u64;
        if (round > 0 && !again) || !sleep_until(world, due) {
            return;
        }
        for (room, index) in turns.by_ref().take(at_once) {
            // Who is gone can't be told.
            if orders[index].send(due).is_ok() {
                world.owe(room, due);
            }
        }
    }
}

/// Whether anything is due at that moment, which has come then.
fn sleep_until(world: &World, due: u64) -> bool {
    loop {
        if !world.goes_on(due) {
            return false;
        }
        let now = world.now();
        if now >= due {
            return true;
        }
        std::thread::sleep(Duration::from_nanos(due - now).min(GLANCE));
    }
}

/// Waits until there is as much as wanted, or until nothing has changed for so long.
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
        sleep(GLANCE).await;
    }
}
