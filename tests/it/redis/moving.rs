//! What arrives while a session is moving from one node of Redis to another.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};
use tower_chat_rooms::{Admission, BrokerNode, ChatRooms, ConnectionId, RedisSettings, User};

use super::proxy::{COMMANDS, Proxy, SUBSCRIBER};
use super::{Server, redis_cli, resumable};
use crate::nodes_expiry;
use crate::support::{Client, EventLog, V1Client, assert_empty, resume_frame};

const LEASE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);

/// Two nodes with their connections, a client whose session moves from the first one to the second, and one that stays.
struct Move {
    server: Server,
    nodes: [ChatRooms; 2],
    proxies: [Proxy; 2],
    log: EventLog,
    ann: Client,
    id: ConnectionId,
    bob: V1Client,
}

async fn node(proxy: &Proxy, name: &str, log: &EventLog) -> ChatRooms {
    let settings: RedisSettings = proxy.settings().node_name(name).lease(LEASE);
    resumable().events(log.hook()).broker(BrokerNode::redis(settings).await.unwrap()).build().unwrap()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not so: {what}"));
}

fn user() -> Admission {
    Admission::user(User::new("u"))
}

impl Move {
    /// Begins to move the session while a connection of one of the nodes is held, until the server has moved it.
    async fn begin(held_node: usize, connection: usize) -> Move {
        let server = Server::start().await;
        let proxies = [Proxy::start(&server, "one"), Proxy::start(&server, "other")];
        let log = EventLog::default();
        let nodes = [node(&proxies[0], "one", &log).await, node(&proxies[1], "other", &log).await];
        // Otherwise, that the server does not know the scripts is what would be held.
        let mut first = V1Client::enter(&nodes[0], "first").await;
        assert_eq!(first.reconnect(&nodes[1]).await["resumed"], true);
        first.connection.close().await;
        let mut moves = Vec::new();
        until("the first client is out", async || {
            moves.extend(log.take_moves());
            moves.len() == 2
        })
        .await;
        let (ann, welcome) = Client::enter_v1(&nodes[0], user()).await;
        let bob = V1Client::enter(&nodes[0], "bob").await;
        let id = welcome["connection"].as_str().unwrap().parse().unwrap();
        ann.disconnect().await;
        let (ann, _) = Client::connect_v1(&nodes[1], user()).await;
        proxies[held_node].set_held(connection, true);
        let mut moving = Move { server, nodes, proxies, log, ann, id, bob };
        moving.resume(&welcome["resume"]).await;
        moving
    }

    async fn resume(&mut self, token: &Value) {
        self.ann.send(resume_frame([token])).await;
        let socket = self.server.directory.join("socket");
        until("the session is on the other node", async || {
            let keys = redis_cli(&socket, &["--raw", "KEYS", "{chat}:session:*"]);
            let node_of = |key: &String| redis_cli(&socket, &["--raw", "HGET", key, "node"]).concat();
            keys.iter().any(|key| node_of(key).starts_with("other@"))
        })
        .await;
    }

    /// Waits until the first node has heard that the session is gone.
    async fn until_taken(&self) {
        let one = &self.nodes[0];
        until("the session is gone", async || one.check_consistency().sessions == 1).await;
    }

    /// Does something on the first node, and lets the held connection go on when the second node has answered, or when
    /// that takes a while because it waits for the session.
    async fn during<T>(&self, held_node: usize, connection: usize, call: impl Future<Output = T>) {
        let _ = timeout(Duration::from_millis(500), call).await;
        self.proxies[held_node].set_held(connection, false);
    }

    /// Waits until the host of a node was told that "ann" has left for this reason.
    async fn until_out(&mut self, reason: &str) {
        let mut told = Vec::new();
        let line = format!(" {reason}");
        until(reason, async || {
            told.extend(self.log.take_moves());
            told.iter().any(|told: &String| told.starts_with("- ann r") && told.ends_with(&line))
        })
        .await;
    }

    /// Ends the clients and the nodes.
    async fn end(self) {
        for client in [self.ann, self.bob.connection] {
            drop(client.ws);
        }
        for rooms in self.nodes {
            rooms.kick_user("u");
            rooms.close_room("r");
            let is_empty = async || rooms.check_consistency().sessions == 0 && rooms.stats().connections == 0;
            until("nothing is left", is_empty).await;
            assert_empty(&rooms);
            rooms.shutdown().await;
        }
        assert_eq!(self.server.lasting_keys().await, [""; 0]);
    }
}

/// The new node hears of the kick before it knows that it has the session.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_kick_reaches_a_session_that_moves_on_redis() {
    let mut moving = Move::begin(1, COMMANDS).await;
    moving.until_taken().await;
    let all = moving.nodes[0].clone();
    moving.during(1, COMMANDS, all.all_nodes().kick(moving.id)).await;
    moving.until_out("kicked").await;
    assert_eq!(moving.bob.connection.next_of("out").await["name"], "ann");
    moving.end().await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_kick_of_a_user_reaches_a_session_that_moves_on_redis() {
    let mut moving = Move::begin(1, COMMANDS).await;
    moving.until_taken().await;
    let all = moving.nodes[0].clone();
    moving.during(1, COMMANDS, all.all_nodes().kick_user("u")).await;
    moving.until_out("kicked").await;
    assert_eq!(moving.ann.close_code().await, 4500);
    moving.end().await;
}

/// The host of the new node kicks the session while it arrives.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_kick_of_the_new_node_reaches_a_session_that_moves_on_redis() {
    let mut moving = Move::begin(1, COMMANDS).await;
    moving.until_taken().await;
    assert!(!moving.nodes[1].kick(moving.id), "it is not here yet");
    moving.proxies[1].set_held(COMMANDS, false);
    moving.until_out("kicked").await;
    moving.end().await;
}

/// The old node kicks the session before it hears that it is gone.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_kick_of_the_old_node_reaches_a_session_that_moves_on_redis() {
    let mut moving = Move::begin(0, SUBSCRIBER).await;
    assert!(moving.nodes[0].kick(moving.id));
    moving.proxies[0].set_held(SUBSCRIBER, false);
    moving.until_out("kicked").await;
    moving.end().await;
}

/// A room that is closed has no members any more, wherever their sessions are about to be.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_closed_room_loses_the_members_that_move_on_redis() {
    for (held_node, connection) in [(0, SUBSCRIBER), (1, COMMANDS)] {
        let mut moving = Move::begin(held_node, connection).await;
        if held_node == 1 {
            moving.until_taken().await;
        }
        let all = moving.nodes[0].clone();
        moving.during(held_node, connection, all.all_nodes().close_room("r")).await;
        assert_eq!(moving.bob.connection.next_of("left").await["code"], "room_closed");
        moving.until_out("room closed").await;
        moving.end().await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn tokens_expire_after_a_move_on_redis() {
    let server = Server::start().await;
    let nodes = async |log: &EventLog| {
        [server.node(nodes_expiry::builder(log)).await, server.node(nodes_expiry::builder(log)).await]
    };
    let log = EventLog::default();
    nodes_expiry::a_token_expires_on_the_new_node(nodes(&log).await, log).await;
    let log = EventLog::default();
    nodes_expiry::a_lost_connection_is_kept_until_the_token_expires(nodes(&log).await, log).await;
    let log = EventLog::default();
    nodes_expiry::the_token_of_the_old_node_does_not_count(nodes(&log).await, log).await;
    assert_eq!(server.lasting_keys().await, [""; 0]);
}
