//! Sentinels, and a failover.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::sleep;
use tower_chat_rooms_redis::{ConnectErrorKind, Event, Settings};

use crate::login::{check, refused};
use crate::support::{Server, TestNode, free_port, member};

/// A sentinel that decides alone, and fast.
struct Sentinel {
    process: Child,
    port: u16,
}

impl Sentinel {
    /// Watches a master. Its files are in the directory of `server`.
    fn start(server: &Server, master_port: u16) -> Sentinel {
        let (port, file) = (free_port(), server.directory().join("sentinel.conf"));
        let config = format!(
            "port {port}\nsentinel monitor main 127.0.0.1 {master_port} 1\nsentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 3000\n"
        );
        fs::write(&file, config).unwrap();
        let binary = std::env::var("CHAT_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let process =
            Command::new(binary).arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
        Sentinel { process, port }
    }

    async fn command(&self, command: &[&str]) -> Result<redis::Value, redis::RedisError> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await
    }

    /// Waits until it knows this many replicas.
    async fn until_replicas(&self, count: usize) {
        loop {
            if let Ok(redis::Value::Array(replicas) | redis::Value::Set(replicas)) =
                self.command(&["SENTINEL", "REPLICAS", "main"]).await
                && replicas.len() == count
            {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn has_body(heard: &[Event], body: &str) -> bool {
    heard.iter().any(|event| matches!(event, Event::Room(event) if event.body == body.as_bytes()))
}

/// Rule: a replica that lacks what nodes have delivered begins a new epoch when it becomes the master. Otherwise nodes
/// would drop its events as old ones, for ever.
#[tokio::test]
async fn nodes_follow_a_failover_to_a_replica_that_lags() {
    let (master_port, replica_port) = (free_port(), free_port());
    let mut master =
        Server::start_with_options(&format!("--port {master_port} --repl-diskless-sync-delay 0")).await;
    let replica =
        Server::start_with_options(&format!("--port {replica_port} --replicaof 127.0.0.1 {master_port}"))
            .await;
    let sentinel = Sentinel::start(&master, master_port);
    sentinel.until_replicas(1).await;
    // The first sentinel is away.
    let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{}/main", free_port(), sentinel.port);
    let settings = |name| Settings::new(&url).node_name(name).lease(Duration::from_secs(3));
    let (a, b) = (TestNode::connect(settings("a")).await, TestNode::connect(settings("b")).await);
    a.enter("r", member("ann"), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    let entries = async || replica.command::<u64>(&["XLEN", "{chat}:log:r"]).await;
    // `WAIT` would look only at what its own connection has written.
    while entries().await < 2 {
        sleep(Duration::from_millis(10)).await;
    }
    // The replica cannot log in any more, and lags from here on.
    master.command::<()>(&["CONFIG", "SET", "requirepass", "secret"]).await;
    master.command_as::<u64>("secret", &["CLIENT", "KILL", "TYPE", "replica"]).await;
    // Redis closes the connection later.
    while !master
        .command_as::<String>("secret", &["INFO", "replication"])
        .await
        .contains("connected_slaves:0")
    {}
    let lost = a.publish("r", Some("ann"), None, b"lost").await.unwrap();
    b.until_heard("r", lost.stamp).await;
    assert_eq!(entries().await, 2, "it lags");
    master.kill();

    for node in [&a, &b] {
        node.until("a new epoch", |heard| {
            heard
                .iter()
                .any(|event| matches!(event, Event::Reset { stamp, .. } if stamp.epoch != lost.stamp.epoch))
        })
        .await;
    }
    let published = loop {
        match b.publish("r", Some("bob"), Some("id"), b"after").await {
            Ok(published) => break published,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(published.stamp.num, 2);
    for node in [&a, &b] {
        node.until("what follows", |heard| has_body(heard, "after")).await;
        node.until("that it works", |_| node.outage().is_none()).await;
    }
    assert_eq!(
        replica.command::<u64>(&["FCALL", "chat_publish", "1", "chat", "r", r#"{"event":"x"}"#]).await,
        2
    );
    let wrong = Settings::new(url.replace("/main", "/other"));
    check(&refused(wrong).await, ConnectErrorKind::Settings, r#"does not know a master named "other""#);
    let says = format!("is a sentinel; use a URL like `redis+sentinel://127.0.0.1:{}/main`", sentinel.port);
    for (scheme, login, end) in
        [("redis", "", ""), ("redis", "ann:wrong@", ""), ("redis", "", "/1"), ("redis+cluster", "", "")]
    {
        let at_sentinel = Settings::new(format!("{scheme}://{login}127.0.0.1:{}{end}", sentinel.port));
        check(&refused(at_sentinel).await, ConnectErrorKind::Settings, &says);
    }
}
