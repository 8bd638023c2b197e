//! Several nodes that share their rooms through a real Redis server.
//!
//! These tests need `redis-server`, or another one in the environment variable `CHAT_REDIS_SERVER`:
//! `cargo test --test it -- --ignored redis`.

mod crowd;
mod lost_data;
mod moving;
mod outage_log;
mod programs;
mod proxy;
mod publisher;
mod secrets;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tower_chat_rooms::{
    Admission, BrokerNode, ChatRooms, ChatRoomsBuilder, Drain, Health, History, Limits, Recovery,
    RedisSettings, UniqueNames,
};

use crate::direct::ByMessage;
use crate::nodes::{enter, expect, names};
use crate::support::{
    Client, EventLog, Next, RESUME_WINDOW, RedisRooms, V1Client, assert_empty, enter_frame, leave_frame,
    message_with_cid, resumed_and_recovered, unlimited,
};
use crate::{
    direct, nodes_hidden, nodes_history, nodes_names, nodes_outage, nodes_rename, presence_at_random, users,
};

/// A Redis server on a Unix socket. It ends with the test.
struct Server {
    directory: PathBuf,
    process: Option<Child>,
    nodes: AtomicU32,
}

impl Server {
    async fn start() -> Server {
        Server::start_with(&[]).await
    }

    async fn start_with(args: &[&str]) -> Server {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("chat-rooms-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut server = Server { directory, process: None, nodes: AtomicU32::new(0) };
        server.spawn_with(args).await;
        server
    }

    async fn spawn(&mut self) {
        self.spawn_with(&[]).await;
    }

    async fn spawn_with(&mut self, args: &[&str]) {
        let binary = std::env::var("CHAT_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let socket = self.directory.join("socket");
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new(binary);
        command.current_dir(&self.directory).stdout(Stdio::null());
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket).args(args);
        self.process = Some(command.spawn().unwrap());
        while UnixStream::connect(&socket).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the process as a crash would.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// The keys that do not expire.
    async fn lasting_keys(&self) -> Vec<String> {
        let client = redis_cli(&self.directory.join("socket"), &["--raw", "KEYS", "*"]);
        let is_lasting =
            |key: &String| redis_cli(&self.directory.join("socket"), &["--raw", "PTTL", key]) == ["-1"];
        client.into_iter().filter(is_lasting).collect()
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.directory.join("socket").display())
    }

    /// Lets the lease of a node run out, by the order in which they were started.
    async fn fence(&self, node: u32) {
        let mut socket = UnixStream::connect(self.directory.join("socket")).await.unwrap();
        let script = "local key, name = '{chat}:nodes', ARGV[1] \
            for _, node in ipairs(redis.call('ZRANGE', key, 0, -1)) do \
            if node:sub(1, #name) == name then redis.call('ZADD', key, -1, node) end end";
        socket.write_all(format!("EVAL \"{script}\" 0 node{node}@\r\n").as_bytes()).await.unwrap();
        let mut answer = [0; 5];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"$-1\r\n");
    }

    fn settings(&self) -> RedisSettings {
        RedisSettings::new(self.url()).lease(Duration::from_secs(1))
    }

    async fn node(&self, builder: ChatRoomsBuilder) -> ChatRooms {
        let name = format!("node{}", self.nodes.fetch_add(1, Ordering::Relaxed));
        let settings = self.settings().node_name(name);
        builder.broker(BrokerNode::redis(settings).await.unwrap()).build().unwrap()
    }

    /// A node that can be stopped as a crash would do it: nothing of it does anything with Redis any more.
    async fn mortal_node(&self, builder: ChatRoomsBuilder) -> (ChatRooms, oneshot::Sender<()>) {
        let ((connected, node), (stop, stopped)) = (oneshot::channel(), oneshot::channel());
        let settings = self.settings();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _ = connected.send(runtime.block_on(BrokerNode::redis(settings)).unwrap());
            let _ = runtime.block_on(stopped);
            // If it were dropped, its tasks would end in order.
            std::mem::forget(runtime);
        });
        (builder.broker(node.await.unwrap()).build().unwrap(), stop)
    }
}

/// The lines of an answer of the server.
fn redis_cli(socket: &Path, command: &[&str]) -> Vec<String> {
    let output = Command::new("redis-cli").arg("-s").arg(socket).args(command).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A node with a runtime of its own, which ends with all tasks when it is dropped.
struct Crashing(Option<Runtime>);

impl Crashing {
    /// Connects a client as each of these users, and has it enter the room "r".
    async fn start(settings: RedisSettings, users: &'static [&'static str]) -> Crashing {
        let runtime = Runtime::new().unwrap();
        let connected = runtime.spawn(async move {
            let rooms = unlimited().broker(BrokerNode::redis(settings).await.unwrap()).build().unwrap();
            let mut clients = Vec::new();
            for user in users {
                let mut client = direct::connect(&rooms, user).await;
                client.send(enter_frame(user, "r")).await;
                client.next_of("entered").await;
                clients.push(client);
            }
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop((rooms, clients));
            });
        });
        connected.await.unwrap();
        Crashing(Some(runtime))
    }
}

impl Drop for Crashing {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn redis_orders_the_events_of_all_nodes() {
    let server = Server::start().await;
    let (one, other) = (server.node(unlimited()).await, server.node(unlimited()).await);
    let (mut ann, _) = enter(&one, "ann").await;
    let (mut bob, entered) = enter(&other, "bob").await;
    assert_eq!((names(&entered), &entered["num"]), (vec!["ann"], &json!(2)));
    expect(&mut ann, "enter", "bob", 2, 2).await;
    for n in 3..=4 {
        ann.send(json!({"event": "message", "message": n, "cid": "c1"})).await;
        assert_eq!(ann.next_of("ack").await["seq"], 3);
    }
    expect(&mut bob, "message", "ann", 3, 2).await;
    bob.send(leave_frame("r")).await;
    assert_eq!(ann.next_of("out").await["seq"], 4);
    for client in [ann, bob] {
        client.disconnect().await;
    }
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

/// Each frame was published by a task of its own, and the first one had to send the script once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn the_frames_of_the_host_keep_their_order() {
    let server = Server::start().await;
    let rooms = server.node(unlimited()).await;
    let (mut ann, _) = enter(&rooms, "ann").await;
    assert_eq!(redis_cli(&server.directory.join("socket"), &["SCRIPT", "FLUSH"]), ["OK"]);
    for n in 0..200 {
        rooms.send("r", &json!({"event": "notice", "message": n})).unwrap();
    }
    for n in 0..200 {
        assert_eq!(ann.next_of("notice").await["message"], n);
    }
    ann.disconnect().await;
    rooms.shutdown().await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn redis_removes_the_members_of_a_node_that_is_gone() {
    let server = Server::start().await;
    let (one, other) = (server.node(unlimited()).await, server.node(unlimited()).await);
    let (mut ann, _) = enter(&one, "ann").await;
    let (bob, _) = enter(&other, "bob").await;
    expect(&mut ann, "enter", "bob", 2, 2).await;
    // Its connections are not served any more, and its lease is not renewed.
    bob.task.abort();
    drop(other);
    expect(&mut ann, "out", "bob", 3, 1).await;
    ann.disconnect().await;
    one.shutdown().await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn clients_of_several_nodes_of_redis_use_the_same_ids() {
    let server = Server::start().await;
    let node = async || server.node(unlimited()).await;
    nodes_outage::clients_use_the_same_ids([node().await, node().await]).await;
}

fn resumable() -> ChatRoomsBuilder {
    unlimited().recovery(Recovery::default().resume_window(RESUME_WINDOW).history(History::last(100)))
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_client_comes_back_on_another_node_of_redis() {
    let server = Server::start().await;
    let (one, other) = (server.node(resumable()).await, server.node(resumable()).await);
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut bob = V1Client::enter(&other, "bob").await;
    assert_eq!(ann.next().await["name"], "bob");
    for (n, back_on) in [&other, &one, &one, &other].into_iter().enumerate() {
        ann.connection.send(message_with_cid("r", "before", "c1")).await;
        assert_eq!(ann.connection.next_of("ack").await["seq"], 3);
        ann.disconnect().await;
        let entered = ann.reconnect(back_on).await;
        assert_eq!(resumed_and_recovered(&entered), (true, true), "{entered}");
        if n == 0 {
            ann.expect_message("before").await;
        }
        assert_eq!(entered["num"], 2);
        assert_eq!(names(&entered), ["ann", "bob"]);
        assert_eq!(entered["seq"], 3, "nobody has left or entered");
    }
    bob.expect_message("before").await;
    // While its old connection is open.
    let mut old = std::mem::replace(&mut ann.connection, Client::disconnected().await);
    assert_eq!(ann.reconnect(&one).await["resumed"], true);
    assert_eq!(old.close_code().await, 4503);
    bob.send_message("hello").await;
    assert_eq!(ann.connection.next_of("message").await["message"], "hello");
    bob.expect_message("hello").await;
    ann.connection.close().await;
    let out = bob.next().await;
    assert_eq!((&out["event"], &out["num"], &out["seq"]), (&json!("out"), &json!(1), &json!(5)));
    bob.connection.close().await;
    for rooms in [one, other] {
        while rooms.check_consistency().sessions > 0 {
            sleep(Duration::from_millis(10)).await;
        }
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
    assert_eq!(server.lasting_keys().await, [""; 0]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_client_of_a_node_that_is_gone_comes_back_on_another_node_of_redis() {
    let server = Server::start().await;
    let ((one, crash), other) = (server.mortal_node(resumable()).await, server.node(resumable()).await);
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut bob = V1Client::enter(&other, "bob").await;
    let _plain = Client::enter(&one, "plain", "r").await;
    assert_eq!(bob.next().await["name"], "plain");
    crash.send(()).unwrap();
    let out = bob.next().await;
    assert_eq!((&out["event"], &out["name"], &out["num"]), (&json!("out"), &json!("plain"), &json!(2)));
    let entered = ann.reconnect(&other).await;
    assert_eq!((&entered["resumed"], &entered["num"]), (&json!(true), &json!(2)), "{entered}");
    bob.send_message("hello").await;
    assert_eq!(ann.connection.next_of("message").await["message"], "hello");
    bob.expect_message("hello").await;
    ann.connection.close().await;
    assert_eq!(bob.next().await["event"], "out");
    bob.connection.close().await;
    other.shutdown().await;
}

/// Enters the room "r", as soon as the node can reach Redis.
async fn come_back(rooms: &ChatRooms, name: &str) -> Client {
    loop {
        let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
        client.send(enter_frame(name, "r")).await;
        match client.next_or_close().await {
            Next::Frame(frame) => {
                assert_eq!(frame["event"], "entered", "{frame}");
                return client;
            }
            Next::Closed(code) => assert_eq!(code, 1013),
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn clients_come_back_after_redis_was_started_again() {
    let mut server = Server::start().await;
    let (one, other) = (server.node(unlimited()).await, server.node(unlimited()).await);
    let (mut ann, _) = enter(&one, "ann").await;
    let (mut bob, _) = enter(&other, "bob").await;
    server.kill();
    ann.send(json!({"event": "message", "message": "lost?", "cid": "c1"})).await;
    assert_eq!(ann.next_of("error").await["code"], "unavailable");
    server.spawn().await;
    for client in [&mut ann, &mut bob] {
        client.frames_until_close().await;
    }
    let mut ann = come_back(&one, "ann").await;
    let mut bob = come_back(&other, "bob").await;
    ann.send(json!({"event": "message", "message": "back"})).await;
    assert_eq!(bob.next_of("message").await["message"], "back");
    for client in [ann, bob] {
        client.disconnect().await;
    }
    for rooms in [one, other] {
        rooms.shutdown().await;
    }
}

/// The others knew the state with which the member had entered at first.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn members_that_are_entered_again_keep_their_states() {
    let server = Server::start().await;
    let (one, other) = (server.node(unlimited()).await, server.node(unlimited()).await);
    let (mut ann, _) = enter(&one, "ann").await;
    let (mut cid, _) = enter(&one, "cid").await;
    let (mut bob, _) = enter(&other, "bob").await;
    ann.send(json!({"event": "state", "state": "away", "roomId": "r"})).await;
    for client in [&mut bob, &mut cid] {
        assert_eq!(client.next_of("state").await["state"], "away");
    }
    server.fence(0).await;
    for client in [&mut bob, &mut cid] {
        while client.next_of("enter").await["name"] != "ann" {}
        assert_eq!(client.next_of("state").await["state"], "away");
    }
    for client in [ann, bob, cid] {
        client.disconnect().await;
    }
    for rooms in [one, other] {
        rooms.shutdown().await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn clients_of_a_drained_node_go_on_with_another_node_of_redis() {
    const WINDOW: Duration = Duration::from_secs(2);
    let server = Server::start().await;
    let log = EventLog::default();
    let recovery = Recovery::default().resume_window(WINDOW).history(History::last(100));
    let node = async || server.node(unlimited().recovery(recovery.clone()).events(log.hook())).await;
    let (one, other) = (node().await, node().await);
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut cid = V1Client::enter(&one, "cid").await;
    let mut bob = V1Client::enter(&other, "bob").await;
    for name in ["cid", "bob"] {
        assert_eq!(ann.next().await["name"], name);
    }
    let draining = one.drain(Drain::over(Duration::from_millis(200)));
    let codes = tokio::join!(ann.connection.close_code(), cid.connection.close_code());
    assert_eq!(codes, (1012, 1012));
    bob.send_message("missed").await;
    bob.expect_message("missed").await;
    let entered = ann.reconnect(&other).await;
    assert_eq!(resumed_and_recovered(&entered), (true, true), "{entered}");
    assert_eq!((&entered["num"], names(&entered)), (&json!(3), vec!["ann", "cid", "bob"]));
    ann.expect_message("missed").await;
    let drained = draining.await;
    assert_eq!((drained.closed, drained.kept), (2, 2));
    one.shutdown().await;
    assert_empty(&one);
    // Its client does not come back.
    for client in [&mut ann, &mut bob] {
        let out = client.next().await;
        assert_eq!((&out["event"], &out["name"], &out["num"]), (&json!("out"), &json!("cid"), &json!(2)));
    }
    let mut moves = log.take_moves();
    while moves.len() < 4 {
        sleep(Duration::from_millis(10)).await;
        moves.append(&mut log.take_moves());
    }
    assert_eq!(moves, ["+ ann r 1", "+ cid r 2", "+ bob r 3", "- cid r 2 node lost"]);
    for client in [ann, bob] {
        client.connection.close().await;
    }
    while other.check_consistency().sessions > 0 {
        sleep(Duration::from_millis(10)).await;
    }
    other.shutdown().await;
    assert_eq!(server.lasting_keys().await, [""; 0]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_session_survives_the_restart_of_the_only_node_of_redis() {
    let server = Server::start().await;
    let log = EventLog::default();
    let node = async || server.node(resumable().events(log.hook())).await;
    let before = node().await;
    let mut ann = V1Client::enter(&before, "ann").await;
    let closing = tokio::spawn(async move { before.shutdown().await });
    assert_eq!(ann.connection.close_code().await, 1012);
    closing.await.unwrap();
    let after = node().await;
    let entered = ann.reconnect(&after).await;
    assert_eq!(resumed_and_recovered(&entered), (true, true), "{entered}");
    ann.send_message("hello").await;
    ann.expect_message("hello").await;
    assert_eq!(log.take_moves(), ["+ ann r 1"]);
    ann.connection.close().await;
    // Nothing is left of the node before.
    let nodes = || redis_cli(&server.directory.join("socket"), &["--raw", "ZCARD", "{chat}:nodes"]);
    while after.check_consistency().sessions > 0 || nodes() != ["1"] {
        sleep(Duration::from_millis(10)).await;
    }
    after.shutdown().await;
    assert_eq!(server.lasting_keys().await, [""; 0]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_outage_of_redis_degrades_the_health() {
    let mut server = Server::start().await;
    let rooms = server.node(unlimited()).await;
    assert_eq!(rooms.health(), Health::Healthy);
    let (mut ann, _) = enter(&rooms, "ann").await;
    server.kill();
    ann.send(json!({"event": "message", "message": "lost?", "cid": "c1"})).await;
    assert_eq!(ann.next_of("error").await["code"], "unavailable");
    // At first, it is that a connection was lost.
    let says_what_to_do =
        |health| matches!(health, Health::Degraded { reason, .. } if reason.contains("check the URL"));
    while !says_what_to_do(rooms.health()) {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rooms.stats().unavailable, 1);
    server.spawn().await;
    ann.frames_until_close().await;
    let ann = come_back(&rooms, "ann").await;
    while rooms.health() != Health::Healthy {
        sleep(Duration::from_millis(10)).await;
    }
    let stats = rooms.stats().broker.unwrap();
    assert!(stats.reconnects >= 1 && stats.events >= 1 && stats.dropped_messages == 0, "{stats:?}");
    ann.disconnect().await;
    rooms.shutdown().await;
    assert_eq!(rooms.health(), Health::ShuttingDown);
}

#[tokio::test(start_paused = true)]
#[ignore = "needs redis-server"]
async fn a_client_knows_the_members_of_all_nodes_on_redis() {
    for seed in 0..10 {
        println!("seed {seed}");
        let rooms = RedisRooms::new();
        let node = || presence_at_random::rooms_by_mode(true).broker(rooms.node()).build().unwrap();
        let nodes = [node(), node(), node()];
        presence_at_random::run(seed, &mut BTreeSet::new(), &nodes, None).await;
        for rooms in nodes {
            rooms.shutdown().await;
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_node_reads_the_history_from_redis() {
    let server = Server::start().await;
    let recovery = || Recovery::default().resume_window(RESUME_WINDOW).history(History::last(100));
    let node = async || server.node(unlimited().recovery(recovery())).await;
    nodes_history::late_joiners_get_the_history([node().await, node().await]).await;
    nodes_history::any_node_replays_from_any_position([node().await, node().await]).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn names_are_unique_on_redis() {
    let server = Server::start().await;
    let node = async |log: &EventLog| {
        let limits = Limits::default().max_room_members(2);
        let builder = unlimited().unique_names(UniqueNames::AnyCase).auth(nodes_names::on_token);
        server.node(builder.limits(limits).events(log.hook())).await
    };
    let log = EventLog::default();
    nodes_names::names_are_unique([node(&log).await, node(&log).await]).await;
    nodes_names::users_share_names([node(&log).await, node(&log).await]).await;
    nodes_rename::a_refused_move_changes_nothing([node(&log).await, node(&log).await]).await;
    let log = EventLog::default();
    nodes_rename::a_refused_rename_changes_nothing([node(&log).await, node(&log).await], &log).await;
    let log = EventLog::default();
    nodes_rename::a_rename_is_one_step([node(&log).await, node(&log).await], &log).await;
    let node = async |log: &EventLog| {
        let builder = unlimited().unique_names(UniqueNames::AnyCase).auth(nodes_names::on_token);
        server.node(builder.events(log.hook())).await
    };
    let log = EventLog::default();
    nodes_names::a_user_takes_its_name([node(&log).await, node(&log).await], &log).await;
    nodes_names::members_authenticate([node(&log).await, node(&log).await]).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn hidden_members_are_not_seen_on_redis() {
    let (server, heard) = (Server::start().await, nodes_hidden::Heard::default());
    let node = async || server.node(nodes_hidden::hiding(unlimited(), &heard)).await;
    nodes_hidden::hidden_members_are_not_seen([node().await, node().await], &heard).await;
}

/// Waits until the host was told this.
async fn until_told(log: &EventLog, told: &mut Vec<String>, expected: &[&str]) {
    while told.len() < expected.len() {
        sleep(Duration::from_millis(10)).await;
        told.append(&mut log.take());
    }
    assert_eq!(*told, expected);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn redis_knows_the_users_of_all_nodes() {
    let mut server = Server::start().await;
    let log = EventLog::default();
    let node = async |server: &Server| {
        let builder = unlimited().policy(ByMessage::default()).events(users::Recorder(log.clone()));
        server.node(builder).await
    };
    let (one, other) = (node(&server).await, node(&server).await);
    let mut told = Vec::new();
    let mut ann = direct::connect(&one, "ann").await;
    until_told(&log, &mut told, &["online ann"]).await;
    let mut bob = direct::connect(&other, "bob").await;
    until_told(&log, &mut told, &["online ann", "online bob"]).await;
    let all = one.all_nodes();
    let lost = Crashing::start(server.settings(), &["cid", "bob"]).await;
    while all.sessions_of("bob").await.unwrap().len() < 2 {
        sleep(Duration::from_millis(10)).await;
    }
    ann.send(json!({"event": "direct", "message": "hi", "to": "bob", "cid": "c1"})).await;
    assert_eq!(ann.next_of("ack").await["reached"], 2);
    assert_eq!(bob.next_of("direct").await["message"], "hi");
    let id = other.sessions_of("bob")[0];
    all.send_to(id, &json!({"event": "hint"})).await.unwrap();
    assert_eq!(bob.next_of("hint").await["event"], "hint");
    assert_eq!(all.rooms().await.unwrap()[0].online, 2);
    assert_eq!(all.members("r").await.unwrap()[0].user_id.as_deref(), Some("cid"));

    // A node crashes with the last session of a user, and with members. What its own host was told is not in the log.
    drop(lost);
    let online = ["online ann", "online bob"];
    let lost = ["- bob r: node lost", "- cid r: node lost", "offline cid"];
    while told.len() < 5 {
        sleep(Duration::from_millis(10)).await;
        told.append(&mut log.take());
    }
    told[2..4].sort();
    let expected = [&online[..], &lost[..]].concat();
    assert_eq!(told, expected);

    // Nobody is told anything when Redis is started again without its data.
    server.kill();
    server.spawn().await;
    while all.sessions_of("bob").await.map_or(0, |sessions| sessions.len()) < 1
        || !all.is_online("ann").await.unwrap_or(false)
    {
        sleep(Duration::from_millis(10)).await;
    }
    // Bob's node may not hear the other one yet.
    while all.kick_user("bob").await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bob.close_code().await, 4500);
    ann.close().await;
    while told.len() < expected.len() + 2 {
        sleep(Duration::from_millis(10)).await;
        told.append(&mut log.take());
    }
    told[expected.len()..].sort();
    assert_eq!(told, [&expected[..], &["offline ann", "offline bob"]].concat());
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}
