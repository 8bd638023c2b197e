//! A simulation of Redis when all nodes call it at the same time. Redis runs one call after the other, in the order in
//! which they arrive.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::costs::Costs;
use crate::load::{Habits, Size};

/// Nodes connect again within this many seconds, the longest backoff.
const RECONNECT: f64 = 5.0;

/// Channels that are subscribed to with one command, logs that are read at a time, and sessions that are looked at.
const SUBSCRIBED: f64 = 512.0;
const READ: f64 = 16.0;
const PUT: f64 = 64.0;

/// Seconds of a lease. It is renewed after a quarter to a third of it. After an outage, all leases begin again.
const LEASE: f64 = 10.0;

/// A lost node is looked for every half second to second.
const LOOK: [f64; 2] = [0.5, 1.0];

/// Seconds from an answer to the next call of the same node.
const ROUND_TRIP: f64 = 0.0003;

/// The result of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Outcome {
    /// Seconds until all calls are done.
    pub(crate) done: f64,
    /// Seconds until the answer to a call, at most. After 2 s, a node may take its connection for broken.
    pub(crate) longest_answer: f64,
    /// Nodes that could not renew their leases in time.
    pub(crate) fenced: usize,
}

/// A server that is busy with other calls for a share of its time.
struct Server {
    free_at: f64,
    others: f64,
    longest: f64,
}

impl Server {
    /// Takes a call that needs this many µs. Returns the time of its answer. Calls must come in the order of their times.
    fn serve(&mut self, at: f64, micros: f64) -> f64 {
        self.free_at = self.free_at.max(at) + micros / 1e6 / (1.0 - self.others);
        self.longest = self.longest.max(self.free_at - at);
        self.free_at
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Subscribe,
    Read,
    Put,
    Renew,
    List,
    Reap,
}

/// A call of a node, at this time.
#[derive(Debug, PartialEq)]
struct Call {
    at: f64,
    node: usize,
    task: Task,
}

impl Eq for Call {}

impl PartialOrd for Call {
    fn partial_cmp(&self, other: &Call) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Call {
    /// The earliest call is the greatest.
    fn cmp(&self, other: &Call) -> Ordering {
        let same_time = (other.node, other.task).cmp(&(self.node, self.task));
        other.at.total_cmp(&self.at).then(same_time)
    }
}

/// Numbers that are the same in each run (splitmix64).
struct Random(u64);

impl Random {
    fn between(&mut self, from: f64, to: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        from + (to - from) * ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Redis is back: each node subscribes to its rooms, reads their logs, looks at its sessions, and renews its lease.
pub(crate) fn outage(size: Size, habits: &Habits, costs: &Costs) -> Outcome {
    struct Node {
        subscribe: f64,
        read: f64,
        put: f64,
        renewed: f64,
        is_fenced: bool,
    }
    let (rooms, sessions) = (size.rooms_of_node(habits), size.connections_of_node());
    let new = || Node { subscribe: rooms, read: rooms, put: sessions, renewed: 0.0, is_fenced: false };
    let mut nodes = Vec::from_iter((0..size.nodes as usize).map(|_| new()));
    let mut server = Server { free_at: 0.0, others: 0.0, longest: 0.0 };
    let (mut random, mut calls, mut done) = (Random(1), BinaryHeap::new(), 0.0_f64);
    for node in 0..nodes.len() {
        for task in [Task::Subscribe, Task::Renew] {
            calls.push(Call { at: random.between(0.0, RECONNECT), node, task });
        }
    }
    let mut is_left = 2 * nodes.len();
    while let Some(Call { at, node, task }) = calls.pop() {
        let state = &mut nodes[node];
        let (left, part, cost) = match task {
            Task::Subscribe => (&mut state.subscribe, SUBSCRIBED, costs.subscribe),
            Task::Read => (&mut state.read, READ, costs.read),
            Task::Put => (&mut state.put, PUT, costs.put),
            _ => {
                let answered = server.serve(at, costs.look);
                state.is_fenced |= answered - state.renewed > LEASE;
                state.renewed = answered;
                if is_left > 0 {
                    calls.push(Call { at: answered + random.between(LEASE / 4.0, LEASE / 3.0), node, task });
                }
                continue;
            }
        };
        let now = left.min(part);
        *left -= now;
        let is_done = *left <= 0.0;
        let answered = server.serve(at, now * cost);
        done = done.max(answered);
        let at = answered + ROUND_TRIP;
        match (task, is_done) {
            (_, false) => calls.push(Call { at, node, task }),
            (Task::Subscribe, true) => {
                [Task::Read, Task::Put].into_iter().for_each(|task| calls.push(Call { at, node, task }));
            }
            (_, true) => is_left -= 1,
        }
    }
    let fenced = nodes.iter().filter(|node| node.is_fenced).count();
    Outcome { done, longest_answer: server.longest, fenced }
}

/// A node without sessions is lost. Each other node looks at its rooms, one after the other. All use the same order.
pub(crate) fn lost(size: Size, habits: &Habits, costs: &Costs) -> Outcome {
    let rooms = size.rooms_of_node(habits).ceil() as usize;
    let others = (size.nodes as usize).saturating_sub(1);
    let load = size.needs(habits, costs).redis.min(0.95);
    let mut server = Server { free_at: 0.0, others: load, longest: 0.0 };
    let (mut random, mut calls) = (Random(2), BinaryHeap::new());
    let (mut next, mut reaped, mut done) = (vec![0; others], 0, 0.0);
    for node in 0..others {
        calls.push(Call { at: random.between(LOOK[0], LOOK[1]), node, task: Task::List });
    }
    while let Some(Call { at, node, task }) = calls.pop() {
        if task == Task::List {
            // It lists the rooms that are left.
            let answered = server.serve(at, costs.look + 0.15 * (rooms - reaped) as f64);
            next[node] = reaped;
            calls.push(Call { at: answered + ROUND_TRIP, node, task: Task::Reap });
            continue;
        }
        if next[node] >= rooms {
            continue;
        }
        let is_first = next[node] == reaped;
        let answered = server.serve(at, if is_first { costs.reap } else { costs.look });
        if is_first {
            reaped += 1;
            done = answered;
        }
        next[node] += 1;
        calls.push(Call { at: answered + ROUND_TRIP, node, task });
    }
    Outcome { done, longest_answer: server.longest, fenced: 0 }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Inputs {
        #[command(flatten)]
        habits: Habits,
        #[command(flatten)]
        costs: Costs,
    }

    fn run(nodes: f64, connections: f64, simulate: fn(Size, &Habits, &Costs) -> Outcome) -> (Outcome, Size) {
        let Inputs { habits, costs } = Inputs::parse_from(["scale"]);
        let size = Size { nodes, connections };
        (simulate(size, &habits, &costs), size)
    }

    #[test]
    fn calls_wait_for_those_before_them() {
        let mut server = Server { free_at: 0.0, others: 0.5, longest: 0.0 };
        assert_eq!([server.serve(1.0, 1e6), server.serve(1.0, 1e6), server.serve(9.0, 0.0)], [3.0, 5.0, 9.0]);
        assert_eq!(server.longest, 4.0);
    }

    #[test]
    fn a_short_outage_is_over_when_the_nodes_have_connected() {
        let (outcome, _) = run(3.0, 3000.0, outage);
        assert!(outcome.done < RECONNECT + 1.0 && outcome.fenced == 0, "{outcome:?}");
    }

    #[test]
    fn redis_is_busy_for_at_least_what_all_calls_need() {
        let (outcome, size) = run(20.0, 1e6, outage);
        let Inputs { habits, costs } = Inputs::parse_from(["scale"]);
        let needs = size.needs(&habits, &costs).outage;
        assert!(needs > 2.0 * RECONNECT && outcome.done >= needs && outcome.done < needs + RECONNECT + 1.0);
    }

    #[test]
    fn others_go_through_the_rooms_of_a_lost_node_together() {
        let ((two, _), (ten, _)) = (run(2.0, 20_000.0, lost), run(10.0, 100_000.0, lost));
        assert!(two.done > 0.5 && ten.done > two.done, "{two:?}, {ten:?}");
        assert!(ten.longest_answer < 0.1, "{ten:?}");
    }
}
