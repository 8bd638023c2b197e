//! What `chat-rooms.v1` adds, at its edges: I/O that hesitates or panics, hooks that meddle.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tower_chat_rooms::{
    Admission, ChatRooms, EnterRequest, History, Limits, MessageRequest, Recovery, RoomEvent, RoomPolicy,
    SendError, Verdict,
};

use crate::client::{Client, Next, assert_empty};

/// What comes of a write.
type Write = Box<dyn FnMut(&mut Context<'_>, &[u8]) -> Poll<()> + Send>;

/// I/O of which each write is something else.
struct Odd {
    io: DuplexStream,
    write: Write,
}

impl AsyncRead for Odd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Odd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        std::task::ready!((self.write)(cx, bytes));
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn v1() -> Admission {
    Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap())
}

async fn connect_oddly(
    rooms: &ChatRooms,
    write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<()> + Send + 'static,
) -> Client {
    let (theirs, ours) = tokio::io::duplex(64 * 1024);
    let io = Odd { io: theirs, write: Box::new(write) };
    let rooms = rooms.clone();
    let task = tokio::spawn(async move { rooms.serve(io, v1()).await });
    let ws = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
    Client { ws, task, polite: true }
}

async fn enter(rooms: &ChatRooms) -> (Client, Value) {
    let (mut client, welcome) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(client.next().await["event"], "entered");
    assert_eq!(client.next().await["event"], "enter");
    (client, welcome)
}

/// The first heartbeat passed a welcome that the socket did not take at once.
#[tokio::test(start_paused = true)]
async fn the_welcome_is_first_over_any_io() {
    let rooms = ChatRooms::builder().build().unwrap();
    let mut hesitates = true;
    let mut client = connect_oddly(&rooms, move |cx, _| {
        if std::mem::replace(&mut hesitates, false) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
    client.polite = false;
    assert_eq!(client.next().await["event"], "welcome");
    assert_eq!(client.next().await["event"], "heartbeat");
}

/// A socket that panicked when its member was answered left him in the room for good.
#[tokio::test(start_paused = true)]
async fn io_that_panics_leaves_nobody_behind() {
    let said = |n: usize, name: &str| json!({"event": "enter", "message": name, "roomId": format!("r{n}")});
    // By which text the write is known that panics, and what the client sends.
    for (at, frames) in [
        ("\"entered\"", vec![said(1, "ann")]),
        ("\"r2\"", vec![said(1, "ann"), said(2, "ann")]),
        ("\"anna\"", vec![said(1, "ann"), said(1, "anna")]),
        ("\"last\"", vec![said(1, "ann"), json!({"event": "last"}), said(1, "anna")]),
        ("\"last\"", vec![said(1, "ann"), json!({"event": "last"}), said(2, "ann")]),
    ] {
        let rooms = ChatRooms::builder().build().unwrap();
        let mut client = connect_oddly(&rooms, move |_, bytes| {
            assert!(!String::from_utf8_lossy(bytes).contains(at), "on purpose");
            Poll::Ready(())
        })
        .await;
        for frame in frames {
            client.ws.feed(Message::text(frame.to_string())).await.unwrap();
        }
        client.ws.flush().await.unwrap();
        let _ = client.task.await;
        tokio::task::yield_now().await;
        assert_empty(&rooms);
    }
}

/// What nobody could hear any more was acknowledged.
#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_in_a_closed_room() {
    let host: Arc<Mutex<Option<ChatRooms>>> = Arc::default();
    let hook = host.clone();
    let rooms = ChatRooms::builder()
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Message(message) = event {
                assert_eq!(message.event, "close");
                hook.lock().unwrap().as_ref().unwrap().close_room("r");
            }
        })
        .build()
        .unwrap();
    *host.lock().unwrap() = Some(rooms.clone());
    let (mut ann, _) = enter(&rooms).await;
    for (event, cid) in [("close", "c1"), ("message", "c2")] {
        ann.ws.feed(Message::text(json!({"event": event, "cid": cid}).to_string())).await.unwrap();
    }
    ann.ws.flush().await.unwrap();
    assert_eq!(ann.next().await, json!({"event": "ack", "cid": "c1", "seq": 2}));
    let (before, code) = ann.closed_after().await;
    assert_eq!((before.iter().filter(|frame| frame["event"] == "ack").count(), code), (0, 4501));
    assert_eq!(rooms.stats().messages, 1);
}

struct Censor;

impl RoomPolicy for Censor {
    async fn may_enter(&self, _: &EnterRequest<'_>) -> Result<(), tower_chat_rooms::Denied> {
        Ok(())
    }

    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        let value: Value = match request.event() {
            "plain" => json!({"event": "message"}),
            _ => json!({"event": "message", "cid": "other"}),
        };
        Verdict::replace(&value).unwrap()
    }
}

/// A client could not recognize what the policy had changed, and sent it again.
#[tokio::test(start_paused = true)]
async fn the_cid_stays_in_what_the_policy_replaces() {
    let rooms = ChatRooms::builder().policy(Censor).build().unwrap();
    let (mut ann, _) = enter(&rooms).await;
    for event in ["plain", "other"] {
        ann.say(json!({"event": event, "cid": event})).await;
        assert_eq!(ann.next().await["event"], "ack");
        assert_eq!(ann.next().await["cid"], event);
    }
    // Without one it is as the host wrote it.
    ann.say(json!({"event": "other"})).await;
    assert_eq!(ann.next().await["cid"], "other");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_to_an_absent_member() {
    let rooms = ChatRooms::builder()
        .recovery(Recovery::default().resume_window(Duration::from_secs(9)))
        .build()
        .unwrap();
    let (ann, _) = enter(&rooms).await;
    ann.vanish().await;
    let seat = rooms.members("r")[0].connection;
    let sent = rooms.send_to(seat, &json!({"event": "notice"}));
    assert!(matches!(sent, Err(SendError::NoSuchConnection)), "{sent:?}");
}

/// A shutdown was over while a dropped connection's member was still to be told of as left.
#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_who_is_dropped() {
    let host: Arc<Mutex<Option<ChatRooms>>> = Arc::default();
    let (hook, over) = (host.clone(), Arc::new(Mutex::new(Vec::new())));
    let seen = over.clone();
    let rooms = ChatRooms::builder()
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Left(_) = event {
                let host = hook.lock().unwrap().take().unwrap();
                seen.lock().unwrap().push(host.shutdown().now_or_never().is_some());
            }
        })
        .build()
        .unwrap();
    *host.lock().unwrap() = Some(rooms.clone());
    let (theirs, ours) = tokio::io::duplex(1024);
    let mut ws = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
    let enter = json!({"event": "enter", "message": "ann", "roomId": "r"});
    ws.send(Message::text(enter.to_string())).await.unwrap();
    let mut serve = Box::pin(rooms.serve(theirs, v1()));
    assert!(futures_util::poll!(serve.as_mut()).is_pending());
    // All others end; this one doesn't get to it.
    assert!(rooms.shutdown().now_or_never().is_none());
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(serve);
    assert_eq!(*over.lock().unwrap(), [false]);
    rooms.shutdown().await;
    assert_empty(&rooms);
}

/// A replay that filled the queue made the next frame one too many, each time anew.
#[tokio::test(start_paused = true)]
async fn a_replay_leaves_room_in_the_queue() {
    let history = History::last(64);
    let rooms = ChatRooms::builder()
        .limits(Limits::default().max_queue_frames(128))
        .recovery(Recovery::default().history(history).resume_window(Duration::from_secs(9)))
        .build();
    let rooms = rooms.unwrap();
    let (ann, welcome) = enter(&rooms).await;
    let since = json!({"epoch": rooms_epoch(&rooms).await, "seq": 3});
    ann.vanish().await;
    for n in 0..63 {
        rooms.send("r", &json!({"event": "notice", "message": n})).unwrap();
    }
    // A socket that takes little at a time.
    let mut back = Client::connect_as(&rooms, v1(), 512).await;
    assert_eq!(back.next().await["event"], "welcome");
    back.say(json!({"event": "enter", "message": "ann", "roomId": "r", "since": since, "resume": welcome["resume"]}))
        .await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    for n in 63..100 {
        rooms.send("r", &json!({"event": "notice", "message": n})).unwrap();
        tokio::task::yield_now().await;
    }
    let entered = back.next().await;
    assert_eq!((&entered["resumed"], &entered["recovered"]), (&json!(true), &json!(true)));
    for n in 0..100 {
        match back.next_or_end().await {
            Next::Frame(frame) if frame["event"] == "enter" => {}
            Next::Frame(frame) => assert_eq!(frame["message"], n),
            end => panic!("{end:?}"),
        }
    }
}

/// The epoch of the room, as somebody is told who enters and leaves it.
async fn rooms_epoch(rooms: &ChatRooms) -> Value {
    let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.say(json!({"event": "enter", "message": "bob", "roomId": "r"})).await;
    let epoch = client.next().await["epoch"].clone();
    client.leave().await;
    epoch
}
