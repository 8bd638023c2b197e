//! A Postgres server of a test's own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tower_chat_rooms_store::PostgresStore;
use tower_chat_rooms_store::sqlx::{self, Connection, PgConnection};

use crate::PATIENCE;

/// A Postgres server in a directory of its own, on a Unix socket. It ends with the test.
pub(crate) struct Server {
    directory: PathBuf,
    process: Option<Child>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("chat-postgres-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        if is_root() {
            run(Command::new("chown").arg("nobody").arg(&directory));
        }
        let mut server = Server { directory, process: None };
        let mut initdb = server.command("initdb");
        initdb.args(["--username=postgres", "--auth=trust", "--no-sync", "--no-locale", "--encoding=UTF8"]);
        run(initdb.arg("--pgdata").arg(server.data()));
        server.spawn().await;
        server
    }

    /// It is deleted with the server.
    #[allow(dead_code, reason = "only tests of other programs use it")]
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn url(&self, user: &str) -> String {
        format!("postgres://{user}@localhost/postgres?host={}", self.directory.display())
    }

    /// A store of a process of its own, with its tables.
    pub(crate) async fn store(&self) -> PostgresStore {
        let store = PostgresStore::connect(&self.url("postgres")).await.unwrap();
        store.migrate().await.unwrap();
        store
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }

    /// Ends all processes as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let processes = freeze(process.id());
            send("KILL", &processes);
            let _ = process.wait();
            // Until all have ended, another server cannot use their directory.
            let begin = Instant::now();
            while processes.iter().any(|id| is_running(*id)) {
                assert!(begin.elapsed() < PATIENCE, "some of {processes:?} don't end");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Asks the server to end, and waits until it accepts no further connections. It goes on with those that are open.
    pub(crate) async fn begin_shutdown(&self) {
        send("TERM", &[self.id()]);
        let begin = Instant::now();
        while PgConnection::connect(&self.url("postgres")).await.is_ok() {
            assert!(begin.elapsed() < PATIENCE, "postgres accepts connections");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends all connections and the server.
    pub(crate) fn end_shutdown(&mut self) {
        send("INT", &[self.id()]);
        if let Some(mut process) = self.process.take() {
            let status = process.wait().unwrap();
            assert!(status.success(), "postgres has ended with {status}");
        }
    }

    /// Starts the server after it has ended.
    pub(crate) async fn spawn(&mut self) {
        assert!(self.process.is_none());
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.directory);
        command.args(["-h", "", "-c", "max_connections=60", "-c", "shared_buffers=16MB"]);
        let log = fs::File::create(self.directory.join("log")).unwrap();
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let begin = Instant::now();
        while let Err(error) = PgConnection::connect(&self.url("postgres")).await {
            assert!(begin.elapsed() < PATIENCE, "postgres accepts no connections: {error}");
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                panic!("postgres has ended with {status}:\n{log}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops all processes where they are, with all their connections open, until the result is dropped.
    pub(crate) fn freeze(&self) -> Frozen {
        Frozen { processes: freeze(self.id()) }
    }

    /// Stops the processes that serve the connections which are idle now, so that these connections never answer again.
    pub(crate) fn freeze_connections(&self) -> Frozen {
        let mut processes = children(self.id());
        processes.retain(|id| {
            fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|title| title.contains("idle"))
        });
        assert!(!processes.is_empty());
        send("STOP", &processes);
        Frozen { processes }
    }

    fn id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Postgres refuses to run as root.
    fn command(&self, binary: &str) -> Command {
        let binary = binaries().join(binary);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(binary);
            command
        } else {
            Command::new(binary)
        };
        command.current_dir(&self.directory);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A server whose processes are stopped.
pub(crate) struct Frozen {
    processes: Vec<u32>,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        send("CONT", &self.processes);
    }
}

/// Stops a process and its children, and returns their ids.
fn freeze(process: u32) -> Vec<u32> {
    // First the one that starts the others.
    send("STOP", &[process]);
    let mut processes = vec![process];
    processes.extend(children(process));
    send("STOP", &processes);
    processes
}

fn children(process: u32) -> Vec<u32> {
    let ids = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    ids.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// The directory with the binaries of the latest version.
fn binaries() -> PathBuf {
    if let Some(directory) = std::env::var_os("CHAT_POSTGRES_BIN") {
        return directory.into();
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let latest = versions.map(|entry| entry.path()).max_by_key(|path| version(path));
    latest
        .expect("no Postgres is installed; install it, or name its directory in CHAT_POSTGRES_BIN")
        .join("bin")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether a process has not ended, even if its parent has yet to notice that it has.
fn is_running(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The state follows the name in parentheses.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Sends a signal to processes, some of which may have ended.
fn send(signal: &str, processes: &[u32]) {
    let ids = processes.iter().map(u32::to_string);
    let _ = Command::new("kill").arg(format!("-{signal}")).args(ids).stderr(Stdio::null()).status();
}
