//! Memory: what a message allocates, what an idle connection holds, and that nothing stays
//! behind when all have left.
//!
//! Only the server allocates while it is measured: the lines are laid and the frames written
//! beforehand. Allocations are counted per thread and time is paused, so that every run counts
//! the same.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use tower_chat_rooms::{Admission, ChatRooms, Heartbeat, RateLimits, SlowConsumer, User};

/// What the server holds for a connection that has entered and is idle, measured 1,847 bytes,
/// and some more: its task, its seat, its membership, its part of the tables.
const MAX_BYTES_PER_CONNECTION: i64 = 1_900;

/// What it holds more for one whose user's time has an end, measured 185.
const MAX_BYTES_PER_EXPIRY: i64 = 240;

/// Of a message that goes to a quiet room, measured 7.
const MAX_ALLOCATIONS_PER_MESSAGE: u64 = 8;

/// The default of `max_queue_bytes`.
const QUEUE_BYTES: i64 = 256 * 1024;

const HOUR: Duration = Duration::from_secs(3600);

/// A client: what he says is read by the server, what he hears is only counted.
struct Client {
    line: Arc<Mutex<Line>>,
    /// The frame with which he enters his room.
    enter: Arc<[u8]>,
}

#[derive(Default)]
struct Line {
    said: Option<Arc<[u8]>>,
    /// Bytes of it that were read.
    read: usize,
    hung_up: bool,
    /// Bytes that may still come from the server, where that is bounded.
    takes: Option<usize>,
    writer: Option<Waker>,
    /// Bytes that came from the server.
    heard: usize,
    waker: Option<Waker>,
}

/// The server's end of a line: a pointer, and no buffer.
struct Socket(Arc<Mutex<Line>>);

/// Chat rooms and the runtime that they live in.
struct House {
    runtime: Runtime,
    rooms: ChatRooms,
}

#[test]
fn a_message_costs_the_same_memory_in_every_room() {
    const TIMES: u64 = 100;
    let [two, twenty, two_hundred] = [2, 20, 200].map(|members| {
        let (house, clients, message) = (House::new(), clients(members, members), message(100));
        house.welcome(&clients);
        let say = |times| {
            for _ in 0..times {
                clients[0].say(&message);
                house.settle();
            }
        };
        // What is there once and for all is there now.
        say(10);
        let before: Vec<usize> = clients.iter().map(Client::heard).collect();
        let cost = measure(|| say(TIMES));
        for (client, before) in clients.iter().zip(before) {
            assert!(client.heard() - before > TIMES as usize * message.len(), "not everybody heard it all");
        }
        (cost.count_total / TIMES, cost.bytes_total / TIMES)
    });
    let (least, bytes) = two;
    assert!(least <= MAX_ALLOCATIONS_PER_MESSAGE, "{least} allocations for one message");
    for (more, more_bytes) in [twenty, two_hundred] {
        assert!(more <= least + 1, "{more} allocations in a bigger room, {least} in a small one");
        // Nor is anything copied that has a place for each member.
        assert!(more_bytes <= bytes + 64, "{more_bytes} bytes in a bigger room, {bytes} in a small one");
    }
}

#[test]
fn an_idle_connection_holds_little() {
    let [few, many] = [10, 1_000].map(|messages| {
        let (house, clients) = (House::new(), clients(100, 10));
        let (short, long) = (message(100), message(60 * 1024));
        let burst = Arc::from(short.repeat(20));
        let held = measure(|| {
            house.welcome(&clients);
            for _ in 0..messages {
                clients.iter().for_each(|client| client.say(&short));
                house.settle();
            }
            for client in &clients {
                client.say(&burst);
                house.settle();
                client.say(&long);
                house.settle();
            }
        });
        assert_eq!(house.rooms.stats().messages, (messages + 1 + 20) * clients.len() as u64);
        held.bytes_current / clients.len() as i64
    });
    assert!(few <= MAX_BYTES_PER_CONNECTION, "{few} bytes per connection");
    assert!((many - few).abs() <= 16, "{few} bytes after 10 messages, {many} after 1,000");
}

#[test]
fn an_end_of_the_users_time_holds_little() {
    let [without, with] = [None, Some(10_000 * HOUR)].map(|time| {
        let (house, clients) = (House::new(), clients(100, 10));
        let held = measure(|| {
            house.welcome_as(&clients, || {
                let user = User::new("u-1");
                Admission::user(time.map_or(user.clone(), |time| user.expires_in(time)))
            });
        });
        held.bytes_current / clients.len() as i64
    });
    assert!(with > without, "{with} bytes with, {without} without");
    assert!(with - without <= MAX_BYTES_PER_EXPIRY, "{} bytes more", with - without);
}

#[test]
fn a_slow_member_holds_no_more_than_his_bound() {
    // What one burst may be, and the pointers of a full queue.
    const BOUND: i64 = 2 * QUEUE_BYTES + 64 * 1024;
    for slow in [SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Latest] {
        // Big batches of many, and small ones of single messages.
        for (length, at_once, times) in [(60 * 1024, 1, 40), (1000, 50, 40), (10, 1, 1300)] {
            let (house, clients) = (House::with(slow), clients(2, 2));
            house.welcome(&clients);
            let burst: Arc<[u8]> = message(length).repeat(at_once).into();
            let say = |times| {
                for _ in 0..times {
                    clients[0].say(&burst);
                    house.settle();
                }
            };
            say(1);
            // Inside of a frame.
            clients[1].stop_after(length.min(7));
            let held = measure(|| say(times)).bytes_current;
            assert!(house.rooms.stats().lagged > 0, "nothing was dropped: {slow:?} {length}");
            assert!(held <= BOUND, "{held} bytes for one slow member: {slow:?} {length}");
            // What comes is whole: the client's part of the test counts bytes alone.
            clients[1].stop_after(usize::MAX);
            let left = measure(|| say(3)).bytes_current;
            assert!(held + left < 4096, "{} bytes stay when all is read", held + left);
        }
    }
}

#[test]
fn a_slow_member_keeps_no_more_of_a_burst_than_he_waits_for() {
    let (house, clients) = (House::with(SlowConsumer::DropOldest), clients(2, 2));
    house.welcome(&clients);
    clients[1].stop_after(7);
    // While much is being said he asks for his place again and again, each time with a bit new.
    let (small, mut burst) = (message(1), message(60 * 1024).to_vec());
    for _ in 0..7 {
        burst.extend_from_slice(&small);
        burst.extend_from_slice(&clients[1].enter);
    }
    let burst = Arc::from(burst);
    let held = measure(|| {
        clients[1].say(&burst);
        house.settle();
    });
    assert_eq!((house.rooms.stats().messages, house.rooms.stats().lagged), (8, 0));
    assert!(held.bytes_current < 128 * 1024, "{} bytes for one message", held.bytes_current);
}

#[test]
fn slow_members_of_a_room_share_what_they_wait_for() {
    let (house, clients) = (House::with(SlowConsumer::DropOldest), clients(101, 101));
    house.welcome(&clients);
    clients[1..].iter().for_each(|client| client.stop_after(1));
    let burst: Arc<[u8]> = message(1000).repeat(50).into();
    let held = measure(|| {
        // No more than fits, so that nothing is dropped.
        for _ in 0..4 {
            clients[0].say(&burst);
            house.settle();
        }
    });
    assert_eq!(house.rooms.stats().lagged, 0);
    let each = held.bytes_current / 100;
    assert!(each < 8 * 1024, "{each} bytes for each of 100 slow members, for 200 KiB");
}

#[test]
fn nothing_stays_behind() {
    let (house, clients) = (House::new(), clients(2_000, 2));
    let (message, close) = (message(100), Arc::from([0x88, 0x80, 0, 0, 0, 0]));
    let come_and_go = || {
        house.welcome(&clients);
        assert_eq!(house.rooms.stats().rooms, 1_000);
        clients.iter().for_each(|client| client.say(&message));
        house.settle();
        for (n, client) in clients.iter().enumerate() {
            if n % 3 == 0 { client.hang_up() } else { client.say(&close) }
        }
        // Once in an interval the sweep of heartbeats looks whether anybody is left.
        house.wait(2 * HOUR);
        assert_eq!((house.rooms.stats().connections, house.rooms.stats().rooms), (0, 0));
        assert_eq!(house.runtime.metrics().num_alive_tasks(), 0);
    };
    // The runtime's own queues grow at first, and stay.
    come_and_go();
    let left = measure(come_and_go).bytes_current;
    assert!(left.abs() <= 1024, "{left} bytes are left of 2,000 connections and 1,000 rooms");
}

impl House {
    fn new() -> House {
        House::with(SlowConsumer::Close)
    }

    fn with(slow: SlowConsumer) -> House {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        // No heartbeat disturbs the counting.
        let rooms = ChatRooms::builder()
            .heartbeat(Heartbeat::every(HOUR))
            .rate_limits(
                RateLimits::default().max_messages_per_second(u32::MAX).max_bytes_per_second(usize::MAX),
            )
            .slow_consumer(slow)
            .build();
        House { runtime: runtime.unwrap(), rooms: rooms.unwrap() }
    }

    /// Connects clients and has each enter its room.
    fn welcome(&self, clients: &[Client]) {
        self.welcome_as(clients, Admission::anonymous);
    }

    fn welcome_as(&self, clients: &[Client], admission: impl Fn() -> Admission) {
        for client in clients {
            let (rooms, socket, admission) = (self.rooms.clone(), client.connect(), admission());
            self.runtime.spawn(async move { rooms.serve(socket, admission).await });
            client.say(&client.enter);
            self.settle();
        }
    }

    /// Until everybody has done what there is to do: paused time goes on only then.
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
            line: Arc::default(),
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
    /// The server's end of a new line.
    fn connect(&self) -> Socket {
        *self.line() = Line::default();
        Socket(self.line.clone())
    }

    fn say(&self, frame: &Arc<[u8]>) {
        self.tell(|line| {
            assert!(line.said.as_ref().is_none_or(|said| line.read == said.len()), "not all was read");
            (line.said, line.read) = (Some(frame.clone()), 0);
        });
    }

    /// Goes without a word.
    fn hang_up(&self) {
        self.tell(|line| line.hung_up = true);
    }

    /// Takes so many bytes more; all of them with `usize::MAX`.
    fn stop_after(&self, bytes: usize) {
        let mut line = self.line();
        line.takes = (bytes < usize::MAX).then_some(bytes);
        if let Some(writer) = line.writer.take() {
            writer.wake();
        }
    }

    fn tell(&self, change: impl FnOnce(&mut Line)) {
        let mut line = self.line();
        change(&mut line);
        if let Some(waker) = line.waker.take() {
            waker.wake();
        }
    }

    fn heard(&self) -> usize {
        self.line().heard
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap()
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut line = self.0.lock().unwrap();
        let said = line.said.clone();
        let rest = said.as_deref().map_or(&[][..], |said| &said[line.read..]);
        if rest.is_empty() && !line.hung_up {
            line.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        line.read += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut line = self.0.lock().unwrap();
        let n = line.takes.map_or(bytes.len(), |takes| takes.min(bytes.len()));
        if n == 0 && !bytes.is_empty() {
            line.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        line.takes = line.takes.map(|takes| takes - n);
        line.heard += n;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A waker that was left behind would keep the memory of its task.
impl Drop for Socket {
    fn drop(&mut self) {
        let mut line = self.0.lock().unwrap();
        (line.waker, line.writer) = (None, None);
    }
}
