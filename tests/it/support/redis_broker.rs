//! With `CHAT_TEST_BROKER=redis`, chat rooms are nodes of a real Redis server, while the tests run in paused time.
//!
//! Paused time advances whenever the runtime is idle, so it would run away while the test waits for Redis. Therefore, a
//! separate thread serves the connections to Redis. Time stands still in that thread: no matter how busy the machine
//! is, Redis never seems to be too slow. Each call of the broker begins to wait for that thread with
//! [`spawn_blocking`], which keeps the time from advancing, until Redis and the thread have nothing left to do. To the
//! test, Redis seems to answer in no time.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{spawn_blocking, yield_now};
use tower_chat_rooms::{BrokerNode, RedisSettings};

/// In each turn of the thread, all tasks run that can, and the sockets are looked at. Between two pieces of data on its
/// sockets, there are fewer turns than this.
const TURNS: usize = 4;

/// More than a test has at the same time.
const TASKS_PER_TURN: u32 = 100_000;

const START_LIMIT: Duration = Duration::from_secs(60);

thread_local! {
    /// The nodes that this test has started.
    static NODES: RefCell<Vec<Weak<RedisNode>>> = const { RefCell::new(Vec::new()) };
    static LATEST_NUMBER: RefCell<u32> = const { RefCell::new(0) };
}

/// Nodes with the same number share their rooms.
#[derive(Clone, Copy)]
pub(crate) struct RedisRooms(u32);

/// The thread that serves a node's connections to Redis.
struct RedisNode {
    /// Sends a request to the thread, which answers when it has nothing left to do.
    waiting: mpsc::UnboundedSender<oneshot::Sender<()>>,
    calls: Mutex<Calls>,
    /// Pieces of data that went to Redis or came from it, counted with each read and each write.
    pieces: AtomicU64,
}

#[derive(Default)]
struct Calls {
    count: u64,
    /// Whether time does not advance until the thread has nothing left to do.
    are_waited_for: bool,
}

impl RedisRooms {
    pub(crate) fn new() -> RedisRooms {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        RedisRooms(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn node(&self) -> BrokerNode {
        let (waiting, asked) = mpsc::unbounded_channel();
        let node = Arc::new(RedisNode { waiting, calls: Mutex::default(), pieces: AtomicU64::new(0) });
        let (connected, is_connected) = std::sync::mpsc::channel();
        let (prefix, weak) = (format!("test{}", self.0), Arc::downgrade(&node));
        thread::spawn(move || {
            let runtime =
                Builder::new_current_thread().enable_all().event_interval(TASKS_PER_TURN).build().unwrap();
            runtime.block_on(async {
                let _stopped = stop_time();
                let socket = serve_proxy(weak.clone());
                let url = format!("redis+unix://{}", socket.display());
                // It is not renewed.
                let settings = RedisSettings::new(url).prefix(prefix).lease(Duration::from_secs(24 * 3600));
                connected.send(BrokerNode::redis(settings).await.unwrap()).unwrap();
                drop(connected);
                let _ = fs::remove_file(socket);
                answer(weak, asked).await;
            });
        });
        let broker = is_connected.recv().expect("the node has connected to Redis");
        NODES.with_borrow_mut(|nodes| {
            nodes.retain(|node| node.strong_count() > 0);
            nodes.push(Arc::downgrade(&node));
        });
        LATEST_NUMBER.set(broker.number());
        broker.watched(move || node.note_call())
    }
}

/// The number of the node that this test has started last.
pub(super) fn latest_number() -> u32 {
    LATEST_NUMBER.with_borrow(|number| *number)
}

fn nodes() -> Vec<Arc<RedisNode>> {
    NODES.with_borrow(|nodes| nodes.iter().filter_map(Weak::upgrade).collect())
}

/// Waits until Redis has nothing left to do for the nodes of this test.
pub(super) async fn wait_for_redis() {
    for node in nodes() {
        spawn_blocking(move || node.wait()).await.unwrap();
    }
}

/// How often the nodes of this test were called so far, and how much went to Redis and came from it.
pub(super) fn redis_traffic() -> u64 {
    nodes().iter().map(|node| node.pieces() + node.calls.lock().unwrap().count).sum()
}

impl RedisNode {
    /// The broker may have something to do from now on.
    fn note_call(self: &Arc<RedisNode>) {
        // Others do not run in paused time.
        let runtime = Handle::try_current().ok();
        let Some(runtime) = runtime.filter(|it| it.runtime_flavor() == RuntimeFlavor::CurrentThread) else {
            return;
        };
        let mut calls = self.calls.lock().unwrap();
        calls.count += 1;
        if !std::mem::replace(&mut calls.are_waited_for, true) {
            let node = self.clone();
            runtime.spawn_blocking(move || node.wait_for_calls());
        }
    }

    fn wait_for_calls(&self) {
        loop {
            let count = self.calls.lock().unwrap().count;
            self.wait();
            let mut calls = self.calls.lock().unwrap();
            if calls.count == count {
                calls.are_waited_for = false;
                return;
            }
        }
    }

    /// Waits until the thread has nothing left to do.
    fn wait(&self) {
        let (done, is_done) = oneshot::channel();
        if self.waiting.send(done).is_ok() {
            let _ = is_done.blocking_recv();
        }
    }

    fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
    }

    fn note_piece(&self) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
    }
}

/// Answers those who wait, until the test has dropped its node.
async fn answer(node: Weak<RedisNode>, mut asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
    let mut redis = UnixStream::connect(server()).await.unwrap();
    while let Some(done) = asked.recv().await {
        while let Some(before) = node.upgrade().map(|node| node.pieces()) {
            // Redis has read what was written before the first one, and has written its answers and events before it reads
            // the second one.
            for _ in 0..2 {
                take_turns().await;
                redis.write_all(b"PING\r\n").await.unwrap();
                redis.read_exact(&mut [0; "+PONG\r\n".len()]).await.unwrap();
            }
            take_turns().await;
            if node.upgrade().is_none_or(|node| node.pieces() == before) {
                break;
            }
        }
        let _ = done.send(());
    }
}

/// Stops the time of the thread until the result is dropped.
fn stop_time() -> std::sync::mpsc::Sender<()> {
    tokio::time::pause();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    // Paused time does not advance while a blocking task runs.
    spawn_blocking(move || may_go_on.recv());
    go_on
}

/// Lets all other tasks of the thread run.
async fn take_turns() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

/// Passes what the node writes on to Redis, and the other way round, and counts it. Returns the socket.
fn serve_proxy(node: Weak<RedisNode>) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let socket = server().with_file_name(format!("proxy{number}"));
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let redis = UnixStream::connect(server()).await.unwrap();
            let ((from_client, to_client), (from_redis, to_redis)) =
                (client.into_split(), redis.into_split());
            tokio::spawn(copy(node.clone(), from_client, to_redis));
            tokio::spawn(copy(node.clone(), from_redis, to_client));
        }
    });
    socket
}

async fn copy(node: Weak<RedisNode>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        let mut rest = &piece[..length];
        while !rest.is_empty() {
            node.upgrade().inspect(|node| node.note_piece());
            let written = to.write(rest).await?;
            rest = &rest[written..];
        }
    }
}

/// The socket of the server, which is started for the first test and ends with the process.
fn server() -> &'static Path {
    static SERVER: OnceLock<(Child, PathBuf)> = OnceLock::new();
    let (_, socket) = SERVER.get_or_init(|| {
        let directory = env::temp_dir().join(format!("chat-rooms-suite-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let binary = env::var("CHAT_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        // Reading ends when this process does, because the pipe is closed then.
        let script =
            r#""$0" --port 0 --save "" --unixsocket socket & read -r _; kill $!; wait; rm -rf "$PWD""#;
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(binary).current_dir(&directory);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (socket, start) = (directory.join("socket"), Instant::now());
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(start.elapsed() < START_LIMIT, "redis-server does not start");
            thread::sleep(Duration::from_millis(5));
        }
        (shell, socket)
    });
    socket
}
