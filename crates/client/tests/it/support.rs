//! Real servers for a client to connect to.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, split};
use tokio::task::AbortHandle;
use tokio_tungstenite::accept_hdr_async;
use tower_chat_rooms::{Admission, ChatRooms, ChatRoomsBuilder, RateLimits, RoomEvent};
use tower_chat_rooms_client::{Chat, Client, ClientBuilder, ManyRooms};

use crate::scripted_server::choose_v1;

/// The host's callbacks as lines of text.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn hook(&self) -> impl Fn(RoomEvent<'_>) + Send + Sync + 'static {
        let log = self.clone();
        move |event| {
            let line = match event {
                RoomEvent::Entered(e) => format!("+ {} {} {}", e.name, e.room, e.online),
                RoomEvent::Left(e) => format!("- {} {} {} {}", e.name, e.room, e.online, e.reason),
                RoomEvent::Message(e) => {
                    let Some(sender) = &e.sender else { return };
                    format!("{} {}: {}", sender.name, e.room, e.body)
                }
                _ => return,
            };
            log.0.lock().unwrap().push(line);
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Chat rooms that log their callbacks.
pub(crate) fn logged() -> (ChatRooms, Log) {
    let log = Log::default();
    (ChatRooms::builder().events(log.hook()).build().unwrap(), log)
}

/// Chat rooms without rate limits.
pub(crate) fn unlimited() -> ChatRoomsBuilder {
    ChatRooms::builder().rate_limits(
        RateLimits::default()
            .max_messages_per_second(u32::MAX)
            .max_bytes_per_second(usize::MAX)
            .max_enters_per_minute(u32::MAX)
            .max_new_rooms_per_minute(u32::MAX),
    )
}

/// A server behind a network that breaks and is slow when told to. It can be replaced by another one, to which a
/// client then reconnects.
#[derive(Clone)]
pub(crate) struct Replaceable {
    rooms: Arc<Mutex<ChatRooms>>,
    admission: fn() -> Admission,
    peer: Option<SocketAddr>,
    network: Arc<Network>,
}

#[derive(Default)]
struct Network {
    is_down: AtomicBool,
    /// How long a byte takes to the client, in nanoseconds.
    nanos_per_byte: AtomicU64,
    links: Mutex<Vec<AbortHandle>>,
}

impl Replaceable {
    pub(crate) fn new(rooms: ChatRooms) -> Replaceable {
        let rooms = Arc::new(Mutex::new(rooms));
        Replaceable { rooms, admission: Admission::anonymous, peer: None, network: Arc::default() }
    }

    /// Clients have to authenticate in band.
    pub(crate) fn pending_auth(rooms: ChatRooms) -> Replaceable {
        Replaceable { admission: Admission::pending_auth, ..Replaceable::new(rooms) }
    }

    /// All connections come from this address.
    pub(crate) fn from_peer(rooms: ChatRooms, peer: SocketAddr) -> Replaceable {
        Replaceable { peer: Some(peer), ..Replaceable::new(rooms) }
    }

    pub(crate) fn replace(&self, rooms: ChatRooms) {
        *self.rooms.lock().unwrap() = rooms;
    }

    /// Breaks all connections, and lets no further ones through until [`Replaceable::mend`].
    pub(crate) fn cut(&self) {
        self.network.is_down.store(true, Ordering::Relaxed);
        self.network.links.lock().unwrap().drain(..).for_each(|link| link.abort());
    }

    pub(crate) fn mend(&self) {
        self.network.is_down.store(false, Ordering::Relaxed);
    }

    /// From now on, this many bytes per second reach a client.
    pub(crate) fn slow_down(&self, bytes_per_second: u64) {
        self.network.nanos_per_byte.store(1_000_000_000 / bytes_per_second, Ordering::Relaxed);
    }

    /// Builds a client that connects over duplex I/O.
    pub(crate) fn client(&self) -> ClientBuilder {
        let server = self.clone();
        let dial = move || std::future::ready(server.dial());
        Client::over("ws://test/chat", dial).room("r")
    }

    /// Builds a chat that connects over duplex I/O.
    pub(crate) fn chat(&self) -> ClientBuilder<ManyRooms> {
        let server = self.clone();
        let dial = move || std::future::ready(server.dial());
        Chat::over("ws://test/chat", dial)
    }

    fn dial(&self) -> io::Result<DuplexStream> {
        if self.network.is_down.load(Ordering::Relaxed) {
            return Err(io::Error::other("the network is down"));
        }
        let rooms = self.rooms.lock().unwrap().clone();
        let v1 = (self.admission)().with_protocol(HeaderValue::from_static("chat-rooms.v1"));
        let (theirs, far) = tokio::io::duplex(4096);
        let (near, ours) = tokio::io::duplex(4096);
        let peer = self.peer;
        tokio::spawn(async move {
            let Ok(ws) = accept_hdr_async(theirs, choose_v1).await else { return };
            rooms.serve_from(ws.into_inner(), v1, peer).await;
        });
        let network = self.network.clone();
        let link = tokio::spawn(async move {
            let ((mut near_read, mut near_write), (mut far_read, mut far_write)) = (split(near), split(far));
            tokio::select! {
                _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
                () = network.carry(&mut far_read, &mut near_write) => {}
            }
        });
        self.network.links.lock().unwrap().push(link.abort_handle());
        Ok(ours)
    }
}

impl Network {
    async fn carry(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut chunk = [0; 1000];
        while let Ok(n @ 1..) = from.read(&mut chunk).await {
            let nanos = self.nanos_per_byte.load(Ordering::Relaxed);
            if nanos > 0 {
                tokio::time::sleep(Duration::from_nanos(nanos * n as u64)).await;
            }
            if to.write_all(&chunk[..n]).await.is_err() {
                return;
            }
        }
    }
}

/// Asserts that the server has no connection and no room left.
pub(crate) fn assert_empty(rooms: &ChatRooms) {
    let stats = rooms.stats();
    assert_eq!((stats.connections, stats.rooms), (0, 0), "{stats:?}");
    assert_eq!(stats.entered, stats.left, "{stats:?}");
    assert!(rooms.rooms().is_empty());
    let report = rooms.check_consistency();
    assert_eq!((report.sessions, report.members, report.faults), (0, 0, Vec::new()));
}
