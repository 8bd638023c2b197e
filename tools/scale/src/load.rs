//! What clients do, and what this costs Redis and the nodes. `queue` simulates the queues.

use clap::Args;

use crate::costs::Costs;

/// Seconds between two heartbeats of a connection.
const HEARTBEAT: f64 = 25.0;

/// What each client does.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
pub(crate) struct Habits {
    /// Members of a room. Each client is in one room, and clients of a room are on any nodes
    #[arg(long, default_value_t = 10.0)]
    pub(crate) members: f64,

    /// Seconds between two messages of a client
    #[arg(long, default_value_t = 120.0)]
    pub(crate) pause: f64,

    /// Seconds until a client leaves
    #[arg(long, default_value_t = 1800.0)]
    pub(crate) stay: f64,

    /// Seconds until a client loses its connection, and resumes its session on any node
    #[arg(long, default_value_t = 3600.0)]
    pub(crate) loss: f64,
}

/// Nodes and connections that share one Redis server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size {
    pub(crate) nodes: f64,
    pub(crate) connections: f64,
}

/// What they need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Needs {
    /// Messages of clients per second.
    pub(crate) messages: f64,
    /// Share of the main thread of Redis.
    pub(crate) redis: f64,
    /// Bits per second from Redis to the nodes.
    pub(crate) network: f64,
    /// Bytes.
    pub(crate) memory: f64,
    /// Subscriptions of all nodes.
    pub(crate) subscriptions: f64,
    /// Seconds in which Redis does nothing else after an outage.
    pub(crate) outage: f64,
    /// Seconds of the call that looks at the sessions of a lost node. Nothing else is done meanwhile.
    pub(crate) longest_call: f64,
    /// Seconds of the main thread until the members of a lost node without sessions are removed: all other nodes look at
    /// each of its rooms.
    pub(crate) lost: f64,
    /// Cores of each node.
    pub(crate) node_cores: f64,
}

impl Size {
    /// The nodes that have a member in a room, on average.
    pub(crate) fn reach(self, habits: &Habits) -> f64 {
        self.nodes * (1.0 - (1.0 - 1.0 / self.nodes).powf(habits.members))
    }

    pub(crate) fn rooms(self, habits: &Habits) -> f64 {
        self.connections / habits.members
    }

    /// The rooms in which a node has a member.
    pub(crate) fn rooms_of_node(self, habits: &Habits) -> f64 {
        self.rooms(habits) * self.reach(habits) / self.nodes
    }

    pub(crate) fn connections_of_node(self) -> f64 {
        self.connections / self.nodes
    }

    /// One of this many groups, each with its own Redis, nodes and rooms.
    pub(crate) fn group(self, of: f64) -> Size {
        Size { nodes: (self.nodes / of).max(1.0), connections: self.connections / of }
    }

    /// One of this many Redis servers over which the rooms are hashed, so that each node needs all of them.
    pub(crate) fn shard(self, of: f64) -> Size {
        Size { connections: self.connections / of, ..self }
    }

    pub(crate) fn needs(self, habits: &Habits, costs: &Costs) -> Needs {
        let (reach, connections) = (self.reach(habits), self.connections);
        let (messages, stays) = (connections / habits.pause, connections / habits.stay);
        let resumes = connections / habits.loss * (1.0 - 1.0 / self.nodes);
        // An enter and a leave are events, too.
        let events = messages + 2.0 * stays;
        let redis = messages * costs.message
            + stays * costs.enter_and_leave
            + events * reach * costs.delivery
            + resumes * costs.resume
            + self.nodes * costs.node;
        let subscriptions = self.rooms(habits) * reach;
        let others = (self.nodes - 1.0).max(0.0);
        let lost = self.rooms_of_node(habits) * (costs.reap + (others - 1.0).max(0.0) * costs.look);
        let of_node = messages * habits.members * costs.client_delivery
            + events * reach * costs.node_event
            + connections / HEARTBEAT * costs.heartbeat;
        Needs {
            messages,
            redis: redis / 1e6,
            network: events * reach * costs.event_bytes * 8.0,
            memory: connections * (costs.member_bytes + costs.session_bytes)
                + subscriptions * costs.subscription_bytes,
            subscriptions,
            outage: (subscriptions * (costs.subscribe + costs.read) + connections * costs.put) / 1e6,
            longest_call: self.connections_of_node() * costs.keep / 1e6,
            lost: lost / 1e6,
            node_cores: of_node / 1e6 / self.nodes,
        }
    }
}

/// The limits. If one of them is exceeded, add groups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    pub(crate) redis: f64,
    pub(crate) network: f64,
    pub(crate) memory: f64,
    pub(crate) outage: f64,
    pub(crate) longest_call: f64,
    pub(crate) lost: f64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // Above this, queues grow, and there is no reserve for a failure.
            redis: 0.6,
            network: 5e9,
            memory: 32e9,
            // Messages are refused meanwhile.
            outage: 10.0,
            // A connection without an answer for 2 s counts as broken.
            longest_call: 1.0,
            // Until then, the members of a lost node seem to be in their rooms.
            lost: 60.0,
        }
    }
}

impl Limits {
    /// The resource that is used up first, and how many times it is used up.
    pub(crate) fn first(&self, needs: &Needs) -> (&'static str, f64) {
        let used = [
            ("CPU of Redis", needs.redis / self.redis),
            ("network of Redis", needs.network / self.network),
            ("memory of Redis", needs.memory / self.memory),
            ("time after an outage", needs.outage / self.outage),
            ("sessions of a lost node", needs.longest_call / self.longest_call),
            ("members of a lost node", needs.lost / self.lost),
        ];
        used.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default()
    }

    /// The number of parts into which a size has to be divided, so that all resources are below their limits.
    pub(crate) fn parts(&self, part: impl Fn(f64) -> Size, habits: &Habits, costs: &Costs) -> f64 {
        let fits = |parts: &f64| self.first(&part(*parts).needs(habits, costs)).1 <= 1.0;
        (1_u32..=10_000).map(f64::from).find(fits).unwrap_or(f64::INFINITY)
    }
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

    fn defaults() -> (Habits, Costs) {
        let Inputs { habits, costs } = Inputs::parse_from(["scale"]);
        (habits, costs)
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= b.abs() * 1e-9
    }

    #[test]
    fn a_room_reaches_as_many_nodes_as_it_has_members_if_there_are_many() {
        let (habits, _) = defaults();
        let reach = |nodes| Size { nodes, connections: 1000.0 }.reach(&habits);
        assert!(near(reach(1.0), 1.0));
        assert!(near(reach(2.0), 2.0 * (1.0 - 0.5_f64.powi(10))));
        assert!(reach(1000.0) > 9.9 && reach(1000.0) < 10.0);
    }

    #[test]
    fn needs_grow_with_the_connections() {
        let (habits, costs) = defaults();
        let needs = |connections| Size { nodes: 100.0, connections }.needs(&habits, &costs);
        let (some, more) = (needs(1e6), needs(2e6));
        assert!(near(more.messages, 2.0 * some.messages) && near(more.memory, 2.0 * some.memory));
        assert!(near(more.redis - 100.0 * costs.node / 1e6, 2.0 * (some.redis - 100.0 * costs.node / 1e6)));
        // 8,333 messages, 556 enters and as many leaves, each to 9.56 nodes; 275 sessions are resumed.
        assert!(some.redis > 0.35 && some.redis < 0.45, "{}", some.redis);
    }

    #[test]
    fn groups_bring_everything_below_its_limit() {
        let (habits, costs) = defaults();
        let (limits, size) = (Limits::default(), Size { nodes: 1000.0, connections: 2e7 });
        let groups = limits.parts(|parts| size.group(parts), &habits, &costs);
        assert!(groups > 1.0 && groups <= limits.parts(|parts| size.shard(parts), &habits, &costs));
        let first = |groups| limits.first(&size.group(groups).needs(&habits, &costs)).1;
        assert!(first(groups) <= 1.0 && first(groups - 1.0) > 1.0);
    }
}
