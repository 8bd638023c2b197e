//! Clients that connect through memory, and resume their sessions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower_chat_rooms::{Admission, ChatRooms};

use crate::frames::Frames;
use crate::probe::Timed;

/// The room that all of them are in.
pub(crate) const ROOM: &str = "r";

/// Why reads and writes do not fail.
const OPEN: &str = "the connection is open";

/// A client's session, whether it is connected or not.
pub(crate) struct Session {
    name: String,
    token: String,
    epoch: String,
    /// The `seq` of the latest frame that it has received.
    pub(crate) seq: u64,
}

/// A client in its room.
pub(crate) struct Client {
    connection: Connection,
    session: Session,
    /// The time up to the answer to its enter.
    pub(crate) answered: Duration,
    /// The time up to the last of the frames that it had missed.
    pub(crate) caught_up: Duration,
}

pub(crate) struct Connection {
    frames: Frames<DuplexStream>,
    served: JoinHandle<()>,
    /// The token that resumes its session.
    token: String,
}

/// What a client reads of a frame. It skips the members of the room, because it is the server that is measured.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Frame {
    event: String,
    resume: String,
    epoch: String,
    seq: u64,
    resumed: bool,
    recovered: bool,
}

impl Client {
    /// Enters the room for the first time.
    pub(crate) async fn enter(mut connection: Connection, name: String) -> Client {
        let begun = Instant::now();
        connection
            .frames
            .send(&json!({"event": "enter", "message": name, "roomId": ROOM}))
            .await
            .expect(OPEN);
        let entered = connection.read("entered").await;
        let answered = begun.elapsed();
        // Its own enter.
        connection.read_room_frame().await;
        let (token, epoch, seq) = (connection.token.clone(), entered.epoch, entered.seq + 1);
        let session = Session { name, token, epoch, seq };
        Client { connection, session, answered, caught_up: begun.elapsed() }
    }

    /// Comes back to its session as soon as all clients may, which is when its times begin.
    pub(crate) async fn come_back(
        mut connection: Connection,
        mut session: Session,
        mut start: watch::Receiver<Option<Instant>>,
    ) -> Client {
        let begun = start.wait_for(Option::is_some).await.expect("a start").expect("a time");
        let since = json!({"epoch": session.epoch, "seq": session.seq});
        let (name, token) = (&session.name, &session.token);
        connection.frames.send(&json!({"event": "resume", "message": [token]})).await.expect(OPEN);
        connection
            .frames
            .send(&json!({"event": "enter", "message": name, "roomId": ROOM, "since": since}))
            .await
            .expect(OPEN);
        let entered = connection.read("entered").await;
        let answered = begun.elapsed();
        assert!(entered.resumed && entered.recovered);
        for _ in session.seq..entered.seq {
            connection.read_room_frame().await;
        }
        session.seq = entered.seq;
        session.token = connection.token.clone();
        Client { connection, session, answered, caught_up: begun.elapsed() }
    }

    /// Loses the connection, and waits until the server has noticed.
    pub(crate) async fn lose(self) -> Session {
        let Connection { frames, served, .. } = self.connection;
        drop(frames);
        served.await.expect("the connection's task");
        self.session
    }
}

impl Connection {
    pub(crate) async fn open(rooms: ChatRooms, buffer: usize) -> Connection {
        let (theirs, io) = duplex(buffer);
        let admission = Admission::anonymous().with_protocol(HeaderValue::from_static("chat-rooms.v1"));
        let serve = async move { rooms.serve(theirs, admission).await };
        let served = tokio::spawn(Timed::new(serve));
        let mut connection = Connection { frames: Frames::new(io), served, token: String::new() };
        connection.token = connection.read("welcome").await.resume;
        connection
    }

    /// Enters the room, and reads everything until the connection ends. Adds the bytes to `received`. It answers no
    /// heartbeat.
    pub(crate) async fn enter_and_read(mut self, name: String, received: &AtomicU64) {
        let enter = json!({"event": "enter", "message": name, "roomId": ROOM});
        self.frames.send(&enter).await.expect(OPEN);
        while let Ok(n) = self.frames.skip().await {
            received.fetch_add(n as u64, Ordering::Relaxed);
        }
    }

    /// Reads up to the next frame of an event.
    async fn read(&mut self, event: &str) -> Frame {
        loop {
            let frame: Frame =
                serde_json::from_slice(&self.frames.next().await.expect(OPEN)).expect("a JSON frame");
            if frame.event == event {
                return frame;
            }
        }
    }

    async fn read_room_frame(&mut self) {
        while self.frames.next().await.expect(OPEN).starts_with(br#"{"event":"heartbeat""#) {}
    }
}
