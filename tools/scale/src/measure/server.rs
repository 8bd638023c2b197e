//! A Redis server for the measurements, and its statistics.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::Failure;

const PORT: u16 = 7397;

/// Fewer calls than this in a second are leases and probes.
const QUIET: f64 = 200.0;

pub(super) struct Server {
    process: Child,
}

/// What a server has used so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    /// Seconds of its main thread.
    cpu: f64,
    /// Scripts that it has run.
    pub(super) calls: f64,
    /// Bytes.
    pub(super) memory: f64,
}

impl Usage {
    pub(super) fn cpu_since(&self, before: &Usage) -> f64 {
        self.cpu - before.cpu
    }

    /// Reads the answer to `INFO`.
    fn parse(info: &str) -> Option<Usage> {
        let value = |key| info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = |key| value(key)?.trim().parse::<f64>().ok();
        let scripts =
            value("cmdstat_evalsha").and_then(|stat| stat.strip_prefix("calls=")?.split(',').next());
        Some(Usage {
            cpu: number("used_cpu_sys_main_thread")? + number("used_cpu_user_main_thread")?,
            calls: scripts.unwrap_or("0").parse().ok()?,
            memory: number("used_memory")?,
        })
    }
}

impl Server {
    pub(super) fn start() -> std::io::Result<Server> {
        let process = Command::new("redis-server")
            .args(["--port", &PORT.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Server { process })
    }

    pub(super) fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", PORT)
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{PORT}")
    }

    async fn connect(&self) -> Result<TcpStream, Failure> {
        for _ in 0..500 {
            match TcpStream::connect(self.address()).await {
                Ok(connection) => return Ok(connection),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
        Err("redis-server does not start".into())
    }

    /// Runs a command whose answer is one line or one text.
    pub(super) async fn command(&self, command: &str) -> Result<String, Failure> {
        let mut connection = BufReader::new(self.connect().await?);
        connection.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        let Some(len) = line.strip_prefix('$') else { return Ok(line) };
        let mut text = vec![0; len.trim().parse()?];
        connection.read_exact(&mut text).await?;
        Ok(String::from_utf8(text)?)
    }

    pub(super) async fn usage(&self) -> Result<Usage, Failure> {
        let info = self.command("INFO everything").await?;
        Usage::parse(&info).ok_or_else(|| "INFO lacks something".into())
    }

    /// Waits until the server runs hardly any scripts. Returns what it had used a second before.
    pub(super) async fn until_quiet(&self) -> Result<Usage, Failure> {
        let mut before = self.usage().await?;
        loop {
            sleep(Duration::from_secs(1)).await;
            let now = self.usage().await?;
            if now.calls - before.calls < QUIET {
                return Ok(before);
            }
            before = now;
        }
    }

    /// Subscribes to a channel, and drops what arrives.
    pub(super) async fn listen(&self, channel: &str) -> Result<(), Failure> {
        let mut connection = self.connect().await?;
        connection.write_all(format!("SUBSCRIBE {channel}\r\n").as_bytes()).await?;
        let mut bytes = vec![0; 1 << 14];
        if connection.read(&mut bytes).await? == 0 {
            return Err("no confirmation of a subscription".into());
        }
        tokio::spawn(async move { while connection.read(&mut bytes).await.is_ok_and(|n| n > 0) {} });
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read_by_its_keys() {
        let info = "used_memory:1000\r\nused_cpu_sys_main_thread:0.5\r\nused_cpu_user_main_thread:1.25\r\n\
                    cmdstat_evalsha:calls=7,usec=9\r\n";
        assert_eq!(Usage::parse(info), Some(Usage { cpu: 1.75, calls: 7.0, memory: 1000.0 }));
        assert_eq!(Usage::parse("used_memory:1000\r\n"), None);
    }
}
