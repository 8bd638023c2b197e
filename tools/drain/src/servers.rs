//! Redis and two standalone servers, which end with this process.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::{Failure, Options};

/// How long a program may take to start or to end, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the defaults would refuse, because all clients have the same address.
const UNLIMITED: [&str; 6] = [
    "max-connections",
    "max-connections-per-ip",
    "max-pending",
    "max-connects-per-minute-per-ip",
    "max-enters-per-minute-per-ip",
    "max-new-rooms-per-minute-per-ip",
];

pub(crate) struct Servers {
    folder: PathBuf,
    addresses: [SocketAddr; 2],
    nodes: Vec<Child>,
    redis: Child,
}

impl Servers {
    pub(crate) async fn start(options: &Options) -> Result<Servers, Failure> {
        let folder = std::env::temp_dir().join(format!("drain-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let mut redis = Command::new("redis-server");
        redis.args(["--port", "0", "--save", "", "--unixsocket", "redis.sock"]);
        let redis = start(&mut redis, &folder, "redis")?;
        let socket = folder.join("redis.sock");
        wait(async || UnixStream::connect(&socket).await.is_ok()).await?;

        let program = std::env::current_exe()?.with_file_name("standalone");
        let (mut nodes, mut addresses) = (Vec::new(), Vec::new());
        for n in 0..2 {
            let address = free_address().await?;
            let mut node = Command::new(&program);
            node.args([
                "--listen",
                &address.to_string(),
                "--redis",
                &format!("redis+unix://{}", socket.display()),
            ]);
            for (flag, time) in [("--drain", options.over), ("--ready-delay", options.ready_delay)] {
                node.args([flag, &humantime::format_duration(time).to_string()]);
            }
            node.args(UNLIMITED.map(|flag| format!("--{flag}=unlimited")));
            nodes.push(start(&mut node, &folder, &format!("node{n}")).map_err(|error| {
                format!(
                    "{}: {error}; run `cargo build --release -p standalone --features standalone/redis`",
                    program.display()
                )
            })?);
            wait(async || TcpStream::connect(address).await.is_ok()).await?;
            addresses.push(address);
        }
        println!("logs in {}", folder.display());
        Ok(Servers { folder, addresses: [addresses[0], addresses[1]], nodes, redis })
    }

    pub(crate) fn addresses(&self) -> [SocketAddr; 2] {
        self.addresses
    }

    pub(crate) async fn stop_first(&self) -> Result<(), Failure> {
        terminate(&self.nodes[0]).await
    }

    pub(crate) async fn first_has_ended(&mut self) -> Result<(), Failure> {
        timeout(2 * PATIENCE, self.nodes[0].wait()).await??;
        Ok(())
    }

    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            node.kill().await?;
        }
        self.redis.kill().await?;
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }
}

fn start(command: &mut Command, folder: &Path, name: &str) -> Result<Child, Failure> {
    let log = File::create(folder.join(name).with_extension("log"))?;
    command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    Ok(command.spawn()?)
}

async fn terminate(process: &Child) -> Result<(), Failure> {
    let id = process.id().ok_or("it has ended")?;
    Command::new("kill").args(["-s", "TERM", &id.to_string()]).status().await?;
    Ok(())
}

async fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?)
}

async fn wait(is_ready: impl AsyncFn() -> bool) -> Result<(), Failure> {
    let ready = async {
        while !is_ready().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    Ok(timeout(PATIENCE, ready).await?)
}
