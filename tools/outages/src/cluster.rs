//! Redis, three nodes and the balancer in front of them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flaps::{Network, Random};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;
use crate::node::State;
use crate::process::{Process, find};
use crate::redis_server::RedisServer;

/// How long a program may take to start or to end, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    folder: PathBuf,
    pub(crate) redis: Mutex<RedisServer>,
    pub(crate) nodes: Vec<Node>,
    /// Where clients connect to.
    pub(crate) address: SocketAddr,
    _balancer: Process,
}

/// A node, and its way to Redis.
pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) network: Network,
    pub(crate) running: Mutex<Running>,
    folder: PathBuf,
    address: SocketAddr,
    redis: SocketAddr,
    lease: Duration,
}

#[derive(Default)]
pub(crate) struct Running {
    process: Option<Process>,
    /// How often it was started.
    starts: usize,
    /// The highest memory use that was seen, in KiB.
    pub(crate) memory: u64,
}

impl Cluster {
    pub(crate) async fn start(folder: &Path, nodes: usize, lease: Duration) -> Result<Cluster, Failure> {
        let mut random = Random::new(std::process::id().into());
        let redis_address = free_address(&mut random);
        let redis = RedisServer::start(folder, redis_address).await?;
        let mut started = Vec::new();
        for number in 1..=nodes {
            let network = Network::new(redis_address);
            let node = Node {
                number,
                redis: network.listen().await?,
                network,
                running: Mutex::default(),
                folder: folder.to_owned(),
                address: free_address(&mut random),
                lease,
            };
            node.start().await?;
            started.push(node);
        }
        let address = free_address(&mut random);
        let balancer = start_balancer(folder, address, &started).await?;
        let redis = Mutex::new(redis);
        Ok(Cluster { folder: folder.to_owned(), redis, nodes: started, address, _balancer: balancer })
    }

    /// What each node has told its host: the number of the node, whether it was killed, and the text.
    pub(crate) async fn journals(&self) -> Result<Vec<Journal>, Failure> {
        let mut journals = Vec::new();
        for node in &self.nodes {
            let starts = node.running.lock().await.starts;
            for start in 1..=starts {
                let name = node.journal(start);
                // It may have been killed before it had one.
                let text = fs::read_to_string(self.folder.join(&name)).unwrap_or_default();
                journals.push(Journal { name, was_killed: start < starts, text });
            }
        }
        Ok(journals)
    }
}

pub(crate) struct Journal {
    pub(crate) name: String,
    pub(crate) was_killed: bool,
    pub(crate) text: String,
}

impl Node {
    /// Starts it.
    pub(crate) async fn start(&self) -> Result<(), Failure> {
        let mut running = self.running.lock().await;
        running.starts += 1;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["node", "--listen", &self.address.to_string()]);
        command.args(["--redis", &format!("redis://{}", self.redis), "--name", &format!("n{}", self.number)]);
        command.args(["--lease", &format!("{}ms", self.lease.as_millis())]);
        command.args(["--journal", &self.journal(running.starts)]);
        let log = format!("node{}.log", self.number);
        running.process = Some(Process::start(&self.folder, &log, &mut command)?);
        Ok(())
    }

    pub(crate) async fn kill(&self) -> Result<(), Failure> {
        let mut running = self.running.lock().await;
        running.note_memory();
        match &mut running.process {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    pub(crate) async fn freeze(&self, time: Duration) -> Result<(), Failure> {
        let running = self.running.lock().await;
        let process = running.process.as_ref().ok_or("the node is not running")?;
        process.freeze().await?;
        sleep(time).await;
        process.thaw().await
    }

    /// Lets it close its connections and end.
    pub(crate) async fn end(&self) -> Result<(), Failure> {
        let mut running = self.running.lock().await;
        match &mut running.process {
            Some(process) => {
                let ended = process.end(PATIENCE).await;
                ended.map_err(|error| format!("node {}: {error}", self.number).into())
            }
            None => Ok(()),
        }
    }

    /// What it knows. Waits until it has started.
    pub(crate) async fn state(&self) -> Result<State, Failure> {
        let begun = Instant::now();
        loop {
            let at_node = |error| format!("node {}: {error}", self.number);
            {
                let mut running = self.running.lock().await;
                running.note_memory();
                let process = running.process.as_mut().ok_or("the node is not running")?;
                process.check().map_err(at_node)?;
            }
            match get(self.address, "/state").await {
                Ok(body) => return Ok(serde_json::from_str(&body)?),
                Err(error) if begun.elapsed() > PATIENCE => return Err(at_node(error).into()),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn journal(&self, start: usize) -> String {
        format!("node{}.{start}.journal", self.number)
    }
}

impl Running {
    fn note_memory(&mut self) {
        let memory = self.process.as_ref().and_then(Process::memory);
        self.memory = self.memory.max(memory.unwrap_or_default());
    }
}

async fn start_balancer(folder: &Path, address: SocketAddr, nodes: &[Node]) -> Result<Process, Failure> {
    let haproxy = find("haproxy").ok_or("HAProxy is missing: sudo apt-get install haproxy")?;
    let servers: String =
        nodes.iter().map(|node| format!("    server node{} {}\n", node.number, node.address)).collect();
    let config = format!(
        "defaults\n    mode http\n    timeout connect 2s\n    timeout client 30s\n    timeout server 30s\n    \
         timeout tunnel 2m\n    timeout client-fin 10s\n\
         frontend web\n    bind {address}\n    default_backend chat\n\
         backend chat\n    balance random\n    option redispatch\n    retries 2\n    option httpchk GET /health\n    \
         timeout check 2s\n    default-server check inter 500ms fall 3 rise 1 on-marked-down shutdown-sessions\n\
         {servers}"
    );
    fs::write(folder.join("haproxy.cfg"), config)?;
    let mut command = Command::new(haproxy);
    let balancer = Process::start(folder, "haproxy.log", command.args(["-db", "-f", "haproxy.cfg"]))?;
    let begun = Instant::now();
    while get(address, "/health").await.is_err() {
        if begun.elapsed() > PATIENCE {
            return Err("HAProxy or the nodes do not start".into());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(balancer)
}

/// The body of an answer with the status 200.
async fn get(address: SocketAddr, path: &str) -> Result<String, Failure> {
    timeout(PATIENCE, request(address, path)).await?
}

async fn request(address: SocketAddr, path: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(head.lines().next().unwrap_or_default().into());
    }
    Ok(body.to_owned())
}

/// An address for a server that is started again later. It is below the ports that the system gives to clients, so that
/// it stays free meanwhile.
fn free_address(random: &mut Random) -> SocketAddr {
    loop {
        let port = 10_000 + random.below(20_000) as u16;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
