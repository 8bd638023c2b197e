//! Memory: what a message allocates, what an idle connection holds, and that nothing is left when
//! all clients have gone.
//!
//! Only the server allocates while it is measured: pipes and frames are made beforehand. Allocations
//! are counted per thread and time is paused, so that every run counts the same.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use tower_chat_rooms::{Admission, ChatRooms, Heartbeat, Limits, RateLimits, Recovery, SlowConsumer, User};

/// What the server holds for a connection that has entered and is idle, measured 1,631 bytes: its task,
/// session, socket and membership, and its part of the tables.
const MAX_BYTES_PER_CONNECTION: i64 = 1_700;

/// The same for one whose session can be resumed, measured 1,668 bytes.
const MAX_BYTES_PER_RESUMABLE_CONNECTION: i64 = 1_750;

/// What it holds in addition for a user who expires, measured 187 bytes.
const MAX_BYTES_PER_EXPIRY: i64 = 240;

/// For a message to a quiet room, measured 7.
const MAX_ALLOCATIONS_PER_MESSAGE: u64 = 8;

/// Less than the default, so that a send queue is full sooner.
const QUEUE_BYTES: usize = 256 * 1024;

const HOUR: Duration = Duration::from_secs(3600);

/// A client: the server reads what it sends; what it receives is only counted.
struct Client {
    pipe: Arc<Mutex<Pipe>>,
    /// The frame by which it enters its room.
    enter: Arc<[u8]>,
}

#[derive(Default)]
struct Pipe {
    input: Option<Arc<[u8]>>,
    /// Bytes of it that were read.
    read: usize,
    is_closed: bool,
    /// Bytes that may still come from the server, where that is bounded.
    window: Option<usize>,
    writer: Option<Waker>,
    /// Bytes that came from the server.
    received: usize,
    waker: Option<Waker>,
}

/// The server's end of a pipe: a pointer, and no buffer.
struct Socket(Arc<Mutex<Pipe>>);

/// Chat rooms and the runtime in which they run.
struct Server {
    runtime: Runtime,
    rooms: ChatRooms,
}

#[test]
fn a_message_costs_the_same_memory_in_every_room() {
    const TIMES: u64 = 100;
    let [two, twenty, two_hundred] = [2, 20, 200].map(|members| {
        let (server, clients, message) = (Server::new(), clients(members, members), message(100));
        server.connect_all(&clients);
        let send = |times| {
            for _ in 0..times {
                clients[0].send(&message);
                server.settle();
            }
        };
        // What is allocated once is allocated now.
        send(10);
        let before: Vec<usize> = clients.iter().map(Client::received).collect();
        let cost = measure(|| send(TIMES));
        for (client, before) in clients.iter().zip(before) {
            assert!(
                client.received() - before > TIMES as usize * message.len(),
                "a member has not received everything"
            );
        }
        (cost.count_total / TIMES, cost.bytes_total / TIMES)
    });
    let (least, bytes) = two;
    println!("{least} allocations and {bytes} bytes for a message");
    assert!(least <= MAX_ALLOCATIONS_PER_MESSAGE, "{least} allocations for one message");
    for (more, more_bytes) in [twenty, two_hundred] {
        assert!(more <= least + 1, "{more} allocations in a bigger room, {least} in a small one");
        // Nothing is copied that has an entry for each member.
        assert!(more_bytes <= bytes + 64, "{more_bytes} bytes in a bigger room, {bytes} in a small one");
    }
}

#[test]
fn an_idle_connection_holds_little() {
    check_idle("plain", MAX_BYTES_PER_CONNECTION, Admission::anonymous);
    check_idle("chat-rooms.v1", MAX_BYTES_PER_RESUMABLE_CONNECTION, || {
        Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap())
    });
}

fn check_idle(subprotocol: &str, max: i64, admission: impl Fn() -> Admission) {
    let [few, many] = [10, 1_000].map(|messages| {
        let (server, clients) = (Server::new(), clients(100, 10));
        let (short, long) = (message(100), message(60 * 1024));
        let burst = Arc::from(short.repeat(20));
        let held = measure(|| {
            server.connect_as(&clients, &admission);
            for _ in 0..messages {
                clients.iter().for_each(|client| client.send(&short));
                server.settle();
            }
            for client in &clients {
                client.send(&burst);
                server.settle();
                client.send(&long);
                server.settle();
            }
        });
        assert_eq!(server.rooms.stats().messages, (messages + 1 + 20) * clients.len() as u64);
        held.bytes_current / clients.len() as i64
    });
    println!("{few} bytes for an idle connection ({subprotocol})");
    assert!(few <= max, "{few} bytes per connection ({subprotocol})");
    assert!((many - few).abs() <= 16, "{few} bytes after 10 messages, {many} after 1,000 ({subprotocol})");
}

#[test]
fn an_expiry_holds_little() {
    let [without, with] = [None, Some(10_000 * HOUR)].map(|time| {
        let (server, clients) = (Server::new(), clients(100, 10));
        let held = measure(|| {
            server.connect_as(&clients, || {
                let user = User::new("u-1");
                Admission::user(time.map_or(user.clone(), |time| user.expires_in(time)))
            });
        });
        held.bytes_current / clients.len() as i64
    });
    println!("{} bytes for a user who expires", with - without);
    assert!(with > without, "{with} bytes with, {without} without");
    assert!(with - without <= MAX_BYTES_PER_EXPIRY, "{} bytes more", with - without);
}

#[test]
fn a_slow_member_holds_no_more_than_its_bound() {
    // What one burst may be, and the pointers of a full queue.
    const BOUND: i64 = 2 * QUEUE_BYTES as i64 + 64 * 1024;
    for slow in [SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Latest] {
        // Big batches of many, and small ones of single messages.
        for (length, at_once, times) in [(60 * 1024, 1, 40), (1000, 50, 40), (10, 1, 1300)] {
            let (server, clients) = (Server::with(slow), clients(2, 2));
            server.connect_all(&clients);
            let burst: Arc<[u8]> = message(length).repeat(at_once).into();
            let send = |times| {
                for _ in 0..times {
                    clients[0].send(&burst);
                    server.settle();
                }
            };
            send(1);
            // Inside of a frame.
            clients[1].stop_after(length.min(7));
            let held = measure(|| send(times)).bytes_current;
            assert!(server.rooms.stats().lagged > 0, "nothing was dropped: {slow:?} {length}");
            assert!(held <= BOUND, "{held} bytes for one slow member: {slow:?} {length}");
            // The client only counts bytes, so that any cut is fine.
            clients[1].stop_after(usize::MAX);
            let left = measure(|| send(3)).bytes_current;
            assert!(held + left < 4096, "{} bytes are left when all is read", held + left);
        }
    }
}

#[test]
fn a_slow_member_keeps_no_more_of_a_burst_than_it_waits_for() {
    let (server, clients) = (Server::with(SlowConsumer::DropOldest), clients(2, 2));
    server.connect_all(&clients);
    clients[1].stop_after(7);
    // During a burst it enters again and again, each time with a few new frames before.
    let (small, mut burst) = (message(1), message(60 * 1024).to_vec());
    for _ in 0..7 {
        burst.extend_from_slice(&small);
        burst.extend_from_slice(&clients[1].enter);
    }
    let burst = Arc::from(burst);
    let held = measure(|| {
        clients[1].send(&burst);
        server.settle();
    });
    assert_eq!((server.rooms.stats().messages, server.rooms.stats().lagged), (8, 0));
    assert!(held.bytes_current < 128 * 1024, "{} bytes for one message", held.bytes_current);
}

#[test]
fn slow_members_of_a_room_share_what_they_wait_for() {
    let (server, clients) = (Server::with(SlowConsumer::DropOldest), clients(101, 101));
    server.connect_all(&clients);
    clients[1..].iter().for_each(|client| client.stop_after(1));
    let burst: Arc<[u8]> = message(1000).repeat(50).into();
    let held = measure(|| {
        // No more than fits, so that nothing is dropped.
        for _ in 0..4 {
            clients[0].send(&burst);
            server.settle();
        }
    });
    assert_eq!(server.rooms.stats().lagged, 0);
    let each = held.bytes_current / 100;
    assert!(each < 8 * 1024, "{each} bytes for each of 100 slow members, for 200 KiB");
}

#[test]
fn nothing_is_left() {
    let (server, clients) = (Server::new(), clients(2_000, 2));
    let (message, close) = (message(100), Arc::from([0x88, 0x80, 0, 0, 0, 0]));
    let connect_and_leave = || {
        server.connect_all(&clients);
        assert_eq!(server.rooms.stats().rooms, 1_000);
        clients.iter().for_each(|client| client.send(&message));
        server.settle();
        for (n, client) in clients.iter().enumerate() {
            if n % 3 == 0 { client.close() } else { client.send(&close) }
        }
        // The heartbeat's sweep ends once in an interval, if no connection is left.
        server.wait(2 * HOUR);
        assert_eq!((server.rooms.stats().connections, server.rooms.stats().rooms), (0, 0));
        assert_eq!(server.runtime.metrics().num_alive_tasks(), 0);
    };
    // The runtime's own queues grow at first, and stay.
    connect_and_leave();
    let left = measure(connect_and_leave).bytes_current;
    assert!(left.abs() <= 1024, "{left} bytes are left of 2,000 connections and 1,000 rooms");
}

impl Server {
    fn new() -> Server {
        Server::with(SlowConsumer::Close)
    }

    fn with(slow: SlowConsumer) -> Server {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        // No heartbeat disturbs the counting.
        let rooms = ChatRooms::builder()
            .heartbeat(Heartbeat::every(HOUR))
            .v1_heartbeat(Heartbeat::every(HOUR))
            .limits(Limits::default().max_queue_bytes(QUEUE_BYTES))
            .rate_limits(
                RateLimits::default().max_messages_per_second(u32::MAX).max_bytes_per_second(usize::MAX),
            )
            .recovery(Recovery::default().resume_window(HOUR))
            .slow_consumer(slow)
            .build();
        Server { runtime: runtime.unwrap(), rooms: rooms.unwrap() }
    }

    /// Connects clients, each of which enters its room.
    fn connect_all(&self, clients: &[Client]) {
        self.connect_as(clients, Admission::anonymous);
    }

    fn connect_as(&self, clients: &[Client], admission: impl Fn() -> Admission) {
        for client in clients {
            let (rooms, socket, admission) = (self.rooms.clone(), client.connect(), admission());
            self.runtime.spawn(async move { rooms.serve(socket, admission).await });
            client.send(&client.enter);
            self.settle();
        }
    }

    /// Until no task has anything to do: paused time advances only then.
    fn settle(&self) {
        self.wait(Duration::from_millis(1));
    }

    fn wait(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }
}

/// Clients for rooms of so many members.
fn clients(count: usize, members: usize) -> Vec<Client> {
    (0..count)
        .map(|n| Client {
            pipe: Arc::default(),
            enter: text(&format!(r#"{{"event":"enter","message":"ann","roomId":{}}}"#, n / members)),
        })
        .collect()
}

/// A message with a text of so many bytes.
fn message(bytes: usize) -> Arc<[u8]> {
    text(&format!(r#"{{"event":"message","message":"{}"}}"#, "x".repeat(bytes)))
}

/// A text frame as a client sends it, its mask all zeros.
fn text(payload: &str) -> Arc<[u8]> {
    let mut frame = vec![0x81];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload.as_bytes());
    frame.into()
}

impl Client {
    /// The server's end of a new pipe.
    fn connect(&self) -> Socket {
        *self.pipe() = Pipe::default();
        Socket(self.pipe.clone())
    }

    fn send(&self, frame: &Arc<[u8]>) {
        self.tell(|pipe| {
            assert!(pipe.input.as_ref().is_none_or(|input| pipe.read == input.len()), "not all was read");
            (pipe.input, pipe.read) = (Some(frame.clone()), 0);
        });
    }

    /// Closes the connection without a close frame.
    fn close(&self) {
        self.tell(|pipe| pipe.is_closed = true);
    }

    /// Takes so many more bytes; all of them with `usize::MAX`.
    fn stop_after(&self, bytes: usize) {
        let mut pipe = self.pipe();
        pipe.window = (bytes < usize::MAX).then_some(bytes);
        if let Some(writer) = pipe.writer.take() {
            writer.wake();
        }
    }

    fn tell(&self, change: impl FnOnce(&mut Pipe)) {
        let mut pipe = self.pipe();
        change(&mut pipe);
        if let Some(waker) = pipe.waker.take() {
            waker.wake();
        }
    }

    fn received(&self) -> usize {
        self.pipe().received
    }

    fn pipe(&self) -> MutexGuard<'_, Pipe> {
        self.pipe.lock().unwrap()
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.0.lock().unwrap();
        let input = pipe.input.clone();
        let rest = input.as_deref().map_or(&[][..], |input| &input[pipe.read..]);
        if rest.is_empty() && !pipe.is_closed {
            pipe.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        pipe.read += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.lock().unwrap();
        let n = pipe.window.map_or(bytes.len(), |window| window.min(bytes.len()));
        if n == 0 && !bytes.is_empty() {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.window = pipe.window.map(|window| window - n);
        pipe.received += n;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A waker that is left would keep the memory of its task.
impl Drop for Socket {
    fn drop(&mut self) {
        let mut pipe = self.0.lock().unwrap();
        (pipe.waker, pipe.writer) = (None, None);
    }
}
