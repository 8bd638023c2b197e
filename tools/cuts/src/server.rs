//! The server, in another process that ends with this one.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::{Failure, PATIENCE};

pub(crate) struct Server {
    address: SocketAddr,
    /// It is killed when this is dropped.
    _process: Child,
}

impl Server {
    /// Starts the standalone server or another one.
    pub(crate) async fn start(command: Option<&str>) -> Result<Server, Failure> {
        let program = std::env::current_exe()?.with_file_name("standalone");
        if command.is_none() && !program.exists() {
            return Err("first run `cargo build --release -p standalone`".into());
        }
        let standalone = format!("{} --listen {{address}} --log error", program.display());
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?;
        let command = command
            .unwrap_or(&standalone)
            .replace("{address}", &address.to_string())
            .replace("{port}", &address.port().to_string());
        let mut process = run(&command)?.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let listening = async {
            while TcpStream::connect(address).await.is_err() {
                if let Some(status) = process.try_wait()? {
                    return Err(format!("{command}: {status}").into());
                }
                sleep(Duration::from_millis(20)).await;
            }
            Ok::<(), Failure>(())
        };
        timeout(PATIENCE, listening).await.map_err(|_| format!("{command} does not listen"))??;
        Ok(Server { address, _process: process })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The command for a program and its arguments, which must not contain spaces.
pub(crate) fn run(command: &str) -> Result<Command, Failure> {
    let mut words = command.split_whitespace();
    let mut process = Command::new(words.next().ok_or("an empty command")?);
    process.args(words).kill_on_drop(true);
    Ok(process)
}
