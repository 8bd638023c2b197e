//! The standalone as a child process.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::PATIENCE;

pub(crate) struct Standalone {
    process: Child,
    /// Kept open, because printing to a closed pipe ends a program.
    stdout: Lines<BufReader<ChildStdout>>,
    log: Option<Lines<BufReader<ChildStderr>>>,
    url: String,
}

impl Standalone {
    /// Starts one on a free port.
    pub(crate) async fn start(flags: &[&str]) -> Standalone {
        Standalone::start_at("127.0.0.1:0", flags).await
    }

    pub(crate) async fn start_at(listen: &str, flags: &[&str]) -> Standalone {
        let mut command = Standalone::command(&["--listen", listen, "--log", "warn"]);
        Standalone::launch(command.args(flags)).await
    }

    /// A command that starts one.
    pub(crate) fn command(flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_standalone"));
        command.args(flags).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts one with a command, and reads the first line that it prints.
    pub(crate) async fn launch(command: &mut Command) -> Standalone {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the standalone starts");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let mut stdout = BufReader::new(stdout).lines();
        let log = process.stderr.take().map(|stderr| BufReader::new(stderr).lines());
        let line = next_line(&mut stdout).await;
        let url = line.strip_prefix("chat rooms on ").expect("it prints its address").to_owned();
        Standalone { process, stdout, log, url }
    }

    /// Where it listens, as it has printed it.
    #[allow(dead_code, reason = "not every test program looks at it")]
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let host = self.url.strip_prefix("http://").and_then(|url| url.split('/').next());
        host.and_then(|host| host.parse().ok()).expect("it listens on an address")
    }

    /// The next line of its log, if the command has a pipe for it. None after its end.
    #[allow(dead_code, reason = "not every test program reads the log")]
    pub(crate) async fn next_log(&mut self) -> Option<String> {
        let log = self.log.as_mut().expect("stderr is a pipe");
        timeout(PATIENCE, log.next_line()).await.expect("it logs in time").expect("its log is text")
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

async fn next_line(stdout: &mut Lines<BufReader<impl AsyncRead + Unpin>>) -> String {
    let line = timeout(PATIENCE, stdout.next_line()).await.expect("it prints in time");
    line.expect("its output is text").expect("it is running")
}
