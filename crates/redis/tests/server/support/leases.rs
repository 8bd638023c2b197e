//! What the server knows of the nodes' leases.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Server;
use super::node::PATIENCE;

/// The server's time in ms.
const NOW: &str =
    "local time = redis.call('TIME'); local now = time[1] * 1000 + math.floor(time[2] / 1000); ";

impl Server {
    /// The keys of the valid leases of all nodes with a name.
    pub(crate) async fn incarnations(&self, name: &str) -> Vec<String> {
        let nodes: Vec<String> = self.command(&["ZRANGEBYSCORE", "{chat}:nodes", "(0", "+inf"]).await;
        nodes.into_iter().filter(|node| node.starts_with(&format!("{name}@"))).collect()
    }

    /// The key of a node's valid lease.
    pub(crate) async fn incarnation(&self, name: &str) -> String {
        let mut all = self.incarnations(name).await;
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Lets a node's lease run out at this moment, so that resume windows begin now.
    pub(crate) async fn fence(&self, name: &str) {
        let node = self.incarnation(name).await;
        self.set_lease(&node, "-now").await;
    }

    /// As [`Server::fence`], for the node with this number, whatever its name is.
    pub(crate) async fn fence_number(&self, number: u32) {
        let nodes: Vec<String> = self.command(&["ZRANGEBYSCORE", "{chat}:nodes", "(0", "+inf"]).await;
        let node = nodes.iter().find(|node| node.contains(&format!("@{number:08x}"))).unwrap();
        self.set_lease(node, "-now").await;
    }

    /// Sets the deadline of a lease, which may not have been there before, to an expression with the time `now`.
    pub(crate) async fn set_lease(&self, node: &str, deadline: &str) {
        self.eval(&format!("redis.call('ZADD', '{{chat}}:nodes', {deadline}, '{node}')")).await;
    }

    /// The deadline of a lease in ms; negative after the fence, `None` if the node is forgotten.
    pub(crate) async fn lease(&self, node: &str) -> Option<f64> {
        self.command(&["ZSCORE", "{chat}:nodes", node]).await
    }

    /// Waits until a lease is as it should be.
    pub(crate) async fn until_lease(&self, node: &str, is_so: impl Fn(Option<f64>) -> bool) {
        let wait = async {
            while !is_so(self.lease(node).await) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("the lease of {node} is {:?}", self.lease(node).await);
        }
    }

    /// Waits until some node has looked for lost ones once more.
    pub(crate) async fn until_beat(&self) {
        let before: Option<String> = self.command(&["GET", "{chat}:beat"]).await;
        while self.command::<Option<String>>(&["GET", "{chat}:beat"]).await == before {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs Lua in which `now` is the server's time in ms.
    pub(crate) async fn eval(&self, script: &str) {
        let _: () = self.command(&["EVAL", &format!("{NOW}{script}"), "0"]).await;
    }
}
