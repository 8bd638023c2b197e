//! What the fuzz targets share: a client that speaks WebSocket by hand, over duplex I/O in paused
//! time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tower_chat_rooms::{Admission, ChatRooms, History, Limits, RateLimits, Recovery, RoomEvent};

/// Runs a case in a runtime and a time of its own.
pub fn run(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(case);
}

/// Chat rooms with tight limits, and how many are in them by what their callbacks have said.
pub fn rooms() -> (ChatRooms, Arc<Mutex<i64>>) {
    let inside = Arc::new(Mutex::new(0));
    let count = inside.clone();
    let rooms = ChatRooms::builder()
        // A limited rate would need larger send queues.
        .rate_limits(RateLimits::default().max_bytes_per_second(usize::MAX))
        .limits(
            Limits::default()
                .max_rooms(3)
                .max_room_members(3)
                .max_message_bytes(2048)
                .max_queue_bytes(4096)
                .max_queue_frames(16),
        )
        .recovery(
            Recovery::default()
                .resume_window(Duration::from_secs(5))
                .history(History::last(8).max_bytes(2048)),
        )
        .events(move |event: RoomEvent<'_>| {
            let mut count = count.lock().expect("no panic while it is held");
            match event {
                RoomEvent::Entered(_) => *count += 1,
                RoomEvent::Left(_) => *count -= 1,
                _ => {}
            }
            assert!(*count >= 0, "somebody left who had not entered");
        })
        .build()
        .expect("sound settings");
    (rooms, inside)
}

/// Nothing may be left when all are gone.
pub async fn assert_empty(rooms: &ChatRooms, inside: &Mutex<i64>) {
    // Past the resume window, the heartbeats and the closing handshakes.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let report = rooms.check_consistency();
    assert_eq!((report.sessions, report.rooms, report.members), (0, 0, 0), "{report:?}");
    assert!(report.faults.is_empty(), "{report:?}");
    let stats = rooms.stats();
    assert_eq!((stats.connections, stats.absent, stats.entered), (0, 0, stats.left), "{stats:?}");
    assert_eq!(*inside.lock().expect("no panic while it is held"), 0);
}

/// A client of which every byte is its own choice.
pub struct Client {
    io: DuplexStream,
    task: JoinHandle<()>,
    received: Vec<u8>,
    is_v1: bool,
    /// What the client knows of its rooms, by their ids. A plain client has one entry: its frames name no room.
    rooms: HashMap<String, KnownRoom>,
    /// The secret of the connection, by v1.
    pub secret: Option<String>,
}

/// The count and the position by the last frame of a room.
#[derive(Debug, Clone, Default)]
struct KnownRoom {
    num: Option<u64>,
    seq: Option<u64>,
}

impl Client {
    pub fn connect(rooms: &ChatRooms, v1: bool, buffer: usize) -> Client {
        let (theirs, io) = tokio::io::duplex(buffer);
        let mut admission = Admission::anonymous();
        if v1 {
            admission = admission.with_protocol("chat-rooms.v1".parse().expect("a header's value"));
        }
        let rooms = rooms.clone();
        let task = tokio::spawn(async move { rooms.serve(theirs, admission).await });
        Client { io, task, received: Vec::new(), is_v1: v1, rooms: HashMap::new(), secret: None }
    }

    /// Sends a frame, masked; what can't be sent at once is lost, with the connection.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) -> bool {
        let mut bytes = vec![first];
        match payload.len() {
            n @ 0..=125 => bytes.push(0x80 | n as u8),
            n => {
                bytes.push(0x80 | 126);
                bytes.extend((n as u16).to_be_bytes());
            }
        }
        let key = [7, 77, 177, 3];
        bytes.extend(key);
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        self.bytes(&bytes).await
    }

    pub async fn text(&mut self, text: &str) -> bool {
        self.frame(0x81, text.as_bytes()).await
    }

    pub async fn bytes(&mut self, bytes: &[u8]) -> bool {
        let sent = tokio::time::timeout(Duration::from_millis(1), self.io.write_all(bytes)).await;
        matches!(sent, Ok(Ok(())))
    }

    /// Reads what has come, checks it, and returns its frames.
    pub async fn read(&mut self) -> Vec<Value> {
        let mut chunk = [0; 4096];
        while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_millis(1), self.io.read(&mut chunk)).await {
            if n == 0 {
                break;
            }
            self.received.extend(&chunk[..n]);
        }
        let mut frames = Vec::new();
        while let Some((first, payload)) = take_frame(&mut self.received) {
            match first {
                0x81 => {
                    let frame = serde_json::from_slice(&payload).expect("the server sends JSON");
                    self.check(&frame);
                    frames.push(frame);
                }
                0x88 => assert!(payload.is_empty() || payload.len() >= 2, "a close code has two bytes"),
                0x8a => assert!(payload.len() <= 125),
                other => panic!("the server sent {other:#x}"),
            }
        }
        frames
    }

    /// In each room, `num` changes by one at each enter and out, and in `chat-rooms.v1` `seq` counts.
    fn check(&mut self, frame: &Value) {
        let event = frame["event"].as_str().expect("every frame has an event");
        if matches!(event, "heartbeat" | "error" | "noAuth" | "ack" | "resumed") {
            return;
        }
        if event == "welcome" {
            self.secret = frame["resume"].as_str().map(str::to_owned);
            return;
        }
        let id = match self.is_v1 {
            true => frame["roomId"].as_str().expect("a frame names its room").to_owned(),
            false => String::new(),
        };
        let room = self.rooms.entry(id).or_default();
        match event {
            "entered" => {
                let seq = frame["seq"].as_u64().expect("a position");
                let start = seq - frame["replayed"].as_u64().expect("a number of frames");
                assert!(frame["recovered"] == false || room.seq == Some(start), "{frame}");
                *room = KnownRoom { num: None, seq: Some(start) };
                return;
            }
            "left" => {
                *room = KnownRoom::default();
                return;
            }
            _ => {}
        }
        let num = frame["num"].as_u64().expect("a room's frame has a count");
        if let Some(before) = room.num {
            let want = match event {
                "out" => before - 1,
                _ => before,
            };
            // An enter may be its own, into another room, or repeated.
            assert!(event == "enter" || want == num, "{before} then {frame}");
        }
        room.num = Some(num);
        if self.is_v1 {
            let before = room.seq.expect("no frame of a room comes outside of it");
            assert_eq!(frame["seq"].as_u64(), Some(before + 1), "{frame}");
            room.seq = Some(before + 1);
        }
    }

    /// Continues where another connection was.
    pub fn follow(&mut self, other: &Client) {
        self.rooms = other.rooms.clone();
    }

    /// Vanishes.
    pub async fn vanish(self) {
        drop(self.io);
        self.task.await.expect("the connection's task does not panic");
    }
}

fn take_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert!(second & 0x80 == 0, "a server masks nothing");
    let (header, len) = match second {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => panic!("longer than anything that was sent"),
        n => (2, usize::from(n)),
    };
    if bytes.len() < header + len {
        return None;
    }
    let payload = bytes[header..header + len].to_vec();
    bytes.drain(..header + len);
    Some((first, payload))
}
