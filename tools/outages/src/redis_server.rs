//! The Redis server of a run.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::process::{Process, find};

/// How long it may take to start, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct RedisServer {
    binary: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
}

impl RedisServer {
    pub(crate) async fn start(folder: &Path, address: SocketAddr) -> Result<RedisServer, Failure> {
        let binary = match std::env::var_os("CHAT_REDIS_SERVER") {
            Some(binary) => binary.into(),
            None => find("redis-server").ok_or("Redis is missing: sudo apt-get install redis-server")?,
        };
        let mut server = RedisServer { binary, folder: folder.to_owned(), address, process: None };
        server.start_again().await?;
        Ok(server)
    }

    /// Starts it, and waits until it has loaded its data.
    pub(crate) async fn start_again(&mut self) -> Result<(), Failure> {
        let mut command = Command::new(&self.binary);
        let port = self.address.port().to_string();
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "always", "--maxmemory-policy", "noeviction"]);
        let process = self.process.insert(Process::start(&self.folder, "redis.log", &mut command)?);
        let begun = Instant::now();
        loop {
            process.check()?;
            if is_ready(self.address).await.is_ok() {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err("Redis does not start".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        match &mut self.process {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Deletes the data of a killed server.
    pub(crate) fn lose_data(&self) -> Result<(), Failure> {
        Ok(fs::remove_dir_all(self.folder.join("appendonlydir"))?)
    }

    pub(crate) fn process(&self) -> Result<&Process, Failure> {
        Ok(self.process.as_ref().ok_or("Redis is not running")?)
    }

    /// The nodes that it knows.
    pub(crate) async fn nodes(&self) -> Result<Vec<String>, Failure> {
        let mut connection = connect(self.address).await?;
        let read = redis::cmd("ZRANGE").arg("{chat}:nodes").arg(0).arg(-1).take();
        Ok(read.query_async(&mut connection).await?)
    }

    /// The keys that do not expire, and how many others there are of each kind.
    pub(crate) async fn keys(&self) -> Result<(Vec<String>, BTreeMap<String, usize>), Failure> {
        let mut connection = connect(self.address).await?;
        let (mut lasting, mut others) = (Vec::new(), BTreeMap::new());
        for key in redis::cmd("KEYS").arg("*").query_async::<Vec<String>>(&mut connection).await? {
            let expires_in: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await?;
            if expires_in == -1 {
                lasting.push(key);
            } else {
                let kind = key.split(':').nth(1).unwrap_or_default().to_owned();
                *others.entry(kind).or_default() += 1;
            }
        }
        Ok((lasting, others))
    }
}

async fn connect(address: SocketAddr) -> Result<redis::aio::MultiplexedConnection, Failure> {
    let client = redis::Client::open(format!("redis://{address}"))?;
    Ok(client.get_multiplexed_async_connection().await?)
}

/// Whether it answers, and has loaded its data.
async fn is_ready(address: SocketAddr) -> Result<(), Failure> {
    Ok(redis::cmd("GET").arg("x").query_async::<()>(&mut connect(address).await?).await?)
}
