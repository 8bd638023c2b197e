//! A Redis server of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::AsyncConnectionConfig;
use tokio::net::UnixStream;
use tokio::time::sleep;

/// A Redis server in a directory of its own, on a Unix socket. It ends with the test.
pub(crate) struct Server {
    directory: PathBuf,
    process: Option<Child>,
    data: Data,
    options: Vec<String>,
}

/// What a server remembers when it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    Nothing,
    /// Everything that it has confirmed.
    Everything,
    /// What it has written up to about a second ago.
    AlmostEverything,
}

/// A loaded machine may take its time.
fn patient() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None)
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::start_with(Data::Nothing).await
    }

    pub(crate) async fn start_with(data: Data) -> Server {
        let mut server = Server::new(data);
        server.spawn().await;
        server
    }

    /// A server with further options, such as `--port 7000`.
    pub(crate) async fn start_with_options(options: &str) -> Server {
        let mut server = Server::new(Data::Nothing);
        server.options = options.split_whitespace().map(str::to_owned).collect();
        server.spawn().await;
        server
    }

    fn new(data: Data) -> Server {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("chat-redis-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        Server { directory, process: None, data, options: Vec::new() }
    }

    /// A directory that is deleted with the server.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Ends the process as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts the process after [`Server::kill`].
    pub(crate) async fn spawn(&mut self) {
        assert!(self.process.is_none());
        let binary = std::env::var("CHAT_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let mut command = Command::new(&binary);
        command.current_dir(&self.directory).stdout(Stdio::null());
        let socket = self.socket();
        // A crash leaves it behind.
        let _ = fs::remove_file(&socket);
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket);
        command.args(&self.options);
        let fsync = match self.data {
            Data::Nothing => None,
            Data::Everything => Some("always"),
            Data::AlmostEverything => Some("everysec"),
        };
        if let Some(fsync) = fsync {
            command.args(["--appendonly", "yes", "--appendfsync", fsync]);
        }
        let process = command.spawn().unwrap_or_else(|error| {
            panic!(
                "cannot start {binary}: {error}; install redis-server, or name a binary in CHAT_REDIS_SERVER"
            )
        });
        self.process = Some(process);
        while UnixStream::connect(&socket).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops the process where it is, with all its connections open.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        send_signal(self.process.as_ref().unwrap().id(), signal);
    }

    /// Runs a command with an answer.
    pub(crate) async fn command<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_command(command).await.unwrap()
    }

    /// Runs a command with a password.
    pub(crate) async fn command_as<T: redis::FromRedisValue>(&self, password: &str, command: &[&str]) -> T {
        let client = redis::Client::open(format!("{}?pass={password}", self.url())).unwrap();
        let mut connection = client.get_multiplexed_async_connection_with_config(&patient()).await.unwrap();
        redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await.unwrap()
    }

    /// Runs a command with an answer or an error.
    pub(crate) async fn try_command<T: redis::FromRedisValue>(&self, command: &[&str]) -> Result<T, String> {
        let parts: Vec<&[u8]> = command.iter().map(|part| part.as_bytes()).collect();
        let value = self.try_bytes(&parts).await?;
        Ok(redis::from_redis_value(value).unwrap())
    }

    pub(crate) async fn try_bytes(&self, command: &[&[u8]]) -> Result<redis::Value, String> {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection_with_config(&patient()).await.unwrap();
        let mut packed = redis::Cmd::new();
        packed.arg(command).query_async(&mut connection).await.map_err(|error| error.to_string())
    }
}

impl Server {
    /// The keys that do not expire.
    pub(crate) async fn lasting_keys(&self) -> Vec<String> {
        let mut lasting = Vec::new();
        for key in self.command::<Vec<String>>(&["KEYS", "*"]).await {
            if self.command::<i64>(&["PTTL", &key]).await == -1 {
                lasting.push(key);
            }
        }
        lasting
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) fn send_signal(process: u32, signal: &str) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(process.to_string()).status().unwrap();
    assert!(status.success());
}
