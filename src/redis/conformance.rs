//! The suite for all brokers, with a real Redis server: `cargo test --lib --features redis -- --ignored redis`.
//!
//! It needs `redis-server`, or another server that the environment variable `CHAT_REDIS_SERVER` names.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::RedisSettings;
use crate::broker::BrokerNode;
use crate::broker::conformance::batches::{RemoteNodes, batch_conformance_tests};

/// A Redis server on a Unix socket. It ends with the test.
struct Server {
    directory: PathBuf,
    process: Child,
}

impl Server {
    fn start() -> Server {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("chat-conformance-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let binary = std::env::var("CHAT_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let mut command = Command::new(binary);
        command.args(["--port", "0", "--save", "", "--unixsocket", "socket"]).current_dir(&directory);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        Server { directory, process }
    }

    async fn node(&self) -> BrokerNode {
        let url = format!("redis+unix://{}", self.directory.join("socket").display());
        BrokerNode::redis(RedisSettings::new(url).wait_for_redis(true)).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A lost node does nothing any more. Its batch ends before its lease does.
async fn redis() -> RemoteNodes<Server> {
    let server = Server::start();
    RemoteNodes::new([server.node().await, server.node().await], server, |_, _| {}).await
}

batch_conformance_tests!(redis, #[ignore = "needs redis-server"]);
