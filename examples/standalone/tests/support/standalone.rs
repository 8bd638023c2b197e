//! The standalone as a child process.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::PATIENCE;

pub(crate) struct Standalone {
    process: Child,
    /// Kept open, because printing to a closed pipe ends a program.
    stdout: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl Standalone {
    /// Starts one on a free port.
    pub(crate) async fn start(flags: &[&str]) -> Standalone {
        Standalone::start_at("127.0.0.1:0", flags).await
    }

    pub(crate) async fn start_at(listen: &str, flags: &[&str]) -> Standalone {
        let mut process = Command::new(env!("CARGO_BIN_EXE_standalone"))
            .args(["--listen", listen, "--log", "warn"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the standalone starts");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let mut stdout = BufReader::new(stdout).lines();
        let line = next_line(&mut stdout).await;
        let host = line.strip_prefix("chat rooms on http://").and_then(|url| url.split('/').next());
        let address = host.and_then(|host| host.parse().ok());
        Standalone { process, stdout, address: address.expect("it prints its address") }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next line that it prints.
    #[allow(dead_code, reason = "not every test program reads more than the address")]
    pub(crate) async fn next_line(&mut self) -> String {
        next_line(&mut self.stdout).await
    }

    /// Sends a signal such as `TERM`.
    #[allow(dead_code, reason = "not every test program sends signals")]
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().expect("it is running");
        let sent = std::process::Command::new("sh").arg("-c").arg(format!("kill -s {name} {id}")).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} cannot be sent");
    }

    /// Waits until it has ended.
    #[allow(dead_code, reason = "not every test program waits for the end")]
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let ended = timeout(PATIENCE, self.process.wait()).await;
        ended.expect("it ends in time").expect("it can be waited for")
    }
}

async fn next_line(stdout: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = timeout(PATIENCE, stdout.next_line()).await.expect("it prints in time");
    line.expect("its output is text").expect("it is running")
}
