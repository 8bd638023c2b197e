//! Several nodes that share their rooms through a real Redis server.
//!
//! These tests need `redis-server`, or another one in the environment variable `CHAT_REDIS_SERVER`:
//! `cargo test --test it -- --ignored redis`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tower_chat_rooms::{
    Admission, BrokerNode, ChatRooms, ChatRoomsBuilder, History, Recovery, RedisSettings,
};

use crate::nodes::{enter, expect, names};
use crate::presence_at_random;
use crate::support::{
    Client, Next, RESUME_WINDOW, V1Client, assert_empty, enter_frame, leave_frame, message_with_cid,
    unlimited,
};

/// A Redis server on a Unix socket. It ends with the test.
struct Server {
    directory: PathBuf,
    process: Option<Child>,
}

impl Server {
    async fn start() -> Server {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("chat-rooms-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut server = Server { directory, process: None };
        server.spawn().await;
        server
    }

    async fn spawn(&mut self) {
        let binary = std::env::var("CHAT_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let socket = self.directory.join("socket");
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new(binary);
        command.current_dir(&self.directory).stdout(Stdio::null());
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket);
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

    fn settings(&self) -> RedisSettings {
        let url = format!("redis+unix://{}", self.directory.join("socket").display());
        RedisSettings::new(url).lease(Duration::from_secs(1))
    }

    async fn node(&self, builder: ChatRoomsBuilder) -> ChatRooms {
        builder.broker(BrokerNode::redis(self.settings()).await.unwrap()).build().unwrap()
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
    for back_on in [&other, &one, &one, &other] {
        ann.connection.send(message_with_cid("r", "before", "c1")).await;
        assert_eq!(ann.connection.next_of("ack").await["seq"], 3);
        ann.disconnect().await;
        let entered = ann.reconnect(back_on).await;
        assert_eq!((&entered["resumed"], &entered["num"]), (&json!(true), &json!(2)), "{entered}");
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

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_client_knows_the_members_of_all_nodes_on_redis() {
    let (server, mut nodes) = (Server::start().await, Vec::new());
    for _ in 0..3 {
        nodes.push(server.node(presence_at_random::rooms_by_mode(false)).await);
    }
    for seed in 0..3 {
        println!("seed {seed}");
        presence_at_random::run(seed, &mut BTreeSet::new(), &nodes, None).await;
    }
    for rooms in nodes {
        rooms.shutdown().await;
    }
}
