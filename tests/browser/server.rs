//! An example as a child process.

use std::env;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::PATIENCE;

pub(crate) struct Server {
    process: Child,
    /// Kept open: printing to a closed pipe ends a program.
    stdout: Lines<BufReader<ChildStdout>>,
    flags: Vec<String>,
    /// How many files it may have open.
    files: Option<usize>,
    /// The page's address, as the server told it.
    url: String,
}

impl Server {
    /// On a port that was free, with default settings but for more patience: on a busy machine a
    /// heartbeat may be late, and nobody is to reconnect for that.
    pub(crate) async fn start() -> Server {
        Server::start_with(&["--heartbeat", "5s"]).await
    }

    pub(crate) async fn start_with(flags: &[&str]) -> Server {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Server::listen("127.0.0.1:0", flags, None).await
    }

    /// One that may have only so many files open.
    pub(crate) async fn start_with_files(files: usize, flags: &[&str]) -> Server {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Server::listen("127.0.0.1:0", flags, Some(files)).await
    }

    /// The example that speaks TLS and HTTP/2, on a port that was free.
    pub(crate) async fn start_tls() -> Server {
        static BINARY: OnceLock<PathBuf> = OnceLock::new();
        let mut command = tokio::process::Command::new(BINARY.get_or_init(|| build("tls_h2", &[])));
        command.env("PORT", "0");
        Server::run(command, Vec::new()).await
    }

    /// Waits until it has printed this line.
    pub(crate) async fn until_printed(&mut self, expected: &str) {
        let mut seen = Vec::new();
        loop {
            let line = tokio::time::timeout(PATIENCE, self.stdout.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("{expected:?} is not in {seen:#?}"));
            let line = line.expect("its output is text").expect("it goes on");
            if line == expected {
                return;
            }
            seen.push(line);
        }
    }

    /// The next line that it prints.
    pub(crate) async fn next_line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.stdout.next_line()).await;
        line.expect("it prints in time").expect("its output is text").expect("it goes on")
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.url.split('/').nth(2).and_then(|host| host.parse().ok());
        address.expect("the url has a host that is an address")
    }

    /// Where the WebSocket is.
    pub(crate) fn socket_url(&self) -> String {
        self.url.replacen("http", "ws", 1)
    }

    /// Ends it at once, as a crash does.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.expect("the server was running");
    }

    /// Ends it as an operator does: it says goodbye to everybody.
    pub(crate) async fn terminate(&mut self) {
        self.signal("TERM");
        let ended = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        let status = ended.expect("the server drains in time").expect("it can be waited for");
        assert!(status.success(), "the server ended with {status}");
    }

    /// Starts it again on the same port, after it has ended.
    pub(crate) async fn start_again(&mut self) {
        *self = Server::listen(&self.address().to_string(), self.flags.clone(), self.files).await;
    }

    /// Stops it in the middle of what it does; to others it seems to hang. On a busy machine it runs on for a
    /// moment after the signal, so this waits until it has stopped.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
        self.shell("until ps -o state= -p $ID | grep -q T; do sleep 0.01; done");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        self.shell(&format!("kill -s {name} $ID"));
    }

    /// Runs a command that knows the process as `$ID`.
    fn shell(&self, command: &str) {
        let id = self.process.id().expect("the server is running");
        let status = Command::new("sh").arg("-c").arg(command).env("ID", id.to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "`{command}` failed");
    }

    async fn listen(address: &str, flags: Vec<String>, files: Option<usize>) -> Server {
        let mut command = tokio::process::Command::new(binary());
        if let Some(files) = files {
            command = tokio::process::Command::new("sh");
            command.arg("-c").arg(format!("ulimit -n {files} && exec \"$0\" \"$@\"")).arg(binary());
        }
        command.args(["--listen", address, "--log", "error"]).args(&flags);
        Server { files, ..Server::run(command, flags).await }
    }

    async fn run(mut command: tokio::process::Command, flags: Vec<String>) -> Server {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let mut stdout = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(PATIENCE, stdout.next_line()).await;
        let first = first.expect("the server is ready in time").expect("its output is text");
        let first = first.expect("the server says where it listens");
        let url = first.strip_prefix("chat rooms on ").expect("it says where it listens").to_owned();
        Server { process, stdout, flags, files: None, url }
    }
}

/// The standalone's binary, built at its first use: cargo doesn't build it for the tests.
fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build("standalone", &["--features", "jwt,store"]))
}

/// Builds a package into the target folder and with the profile of this test, unless its binary is in the folder
/// `CHAT_BINARIES`.
fn build(package: &str, flags: &[&str]) -> PathBuf {
    if let Some(folder) = env::var_os("CHAT_BINARIES") {
        return PathBuf::from(folder).join(package);
    }
    let this = env::current_exe().expect("a test has a path");
    let profile_folder = this.ancestors().nth(2).expect("a test lies in TARGET/PROFILE/deps");
    let profile = match profile_folder.file_name().and_then(OsStr::to_str).expect("a profile's name") {
        "debug" => "dev",
        other => other,
    };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", package, "--message-format=json", "--profile", profile])
        .args(flags)
        .arg("--target-dir")
        .arg(profile_folder.parent().expect("a profile's folder lies in the target folder"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{package} doesn't build");
    let output = String::from_utf8(built.stdout).expect("cargo speaks UTF-8");
    output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == package)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the binary")
}
