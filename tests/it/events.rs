//! The callbacks: each `entered` has one `left`, on every way out.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::json;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use tower_chat_rooms::{
    Admission, ChannelEvent, Denied, Entered, LeaveReason, Left, Recovery, RoomEvents, User, WeakChatRooms,
    event_channel,
};

use crate::support::{Client, EventLog, RESUME_WINDOW, assert_empty, builder, rooms_with_log};

#[tokio::test(start_paused = true)]
async fn each_enter_has_one_left_on_every_way_out() {
    let (rooms, log) = rooms_with_log();
    let mut logged = Vec::new();
    let out = |log: &crate::support::EventLog| {
        let lines = log.take();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0], "+ ann r 1");
        lines[1].strip_prefix("- ann r 0 ").unwrap().to_owned()
    };

    Client::enter(&rooms, "ann", "r").await.close().await;
    logged.push(out(&log));
    Client::enter(&rooms, "ann", "r").await.disconnect().await;
    logged.push(out(&log));
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    ann.answers_heartbeats = false;
    assert_eq!(ann.close_code().await, 4000);
    ann.task.await.unwrap();
    logged.push(out(&log));
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    assert!(rooms.kick(rooms.members("r")[0].connection));
    assert_eq!(ann.close_code().await, 4500);
    logged.push(out(&log));
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    assert_eq!(rooms.close_room("r"), 1);
    assert_eq!(ann.close_code().await, 4501);
    logged.push(out(&log));
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    ann.ws.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(ann.close_code().await, 1003);
    logged.push(out(&log));
    let ann = Client::enter(&rooms, "ann", "r").await;
    ann.task.abort();
    assert!(ann.task.await.unwrap_err().is_cancelled());
    logged.push(out(&log));
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let handle = rooms.clone();
    let down = tokio::spawn(async move { handle.shutdown().await });
    assert_eq!(ann.close_code().await, 1012);
    down.await.unwrap();
    logged.push(out(&log));

    let reasons = [
        LeaveReason::Closed,
        LeaveReason::Lost,
        LeaveReason::HeartbeatMissed,
        LeaveReason::Kicked,
        LeaveReason::RoomClosed,
        LeaveReason::Binary,
        LeaveReason::Dropped,
        LeaveReason::Shutdown,
    ];
    assert_eq!(logged, reasons.map(|r| r.to_string()));
    assert_empty(&rooms);
}

/// Counts its calls, and panics for some names.
#[derive(Default, Clone)]
struct Panicking {
    entered: Arc<AtomicUsize>,
    left: Arc<AtomicUsize>,
}

impl RoomEvents for Panicking {
    fn entered(&self, event: &Entered) {
        self.entered.fetch_add(1, Ordering::SeqCst);
        assert_ne!(event.name.as_str(), "in", "on purpose");
    }

    fn left(&self, event: &Left) {
        self.left.fetch_add(1, Ordering::SeqCst);
        assert_ne!(event.name.as_str(), "out", "on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn callbacks_that_panic_end_only_their_connection() {
    let panicking = Panicking::default();
    let rooms = builder().events(panicking.clone()).build().unwrap();
    let mut calm = Client::enter(&rooms, "calm", "r").await;

    let mut first = Client::enter(&rooms, "in", "r").await;
    assert_eq!(first.close_code().await, 1011);
    assert_eq!(calm.next().await["event"], "enter");
    assert_eq!(calm.next().await["event"], "out");

    Client::enter(&rooms, "out", "r").await.close().await;
    assert_eq!(calm.next().await["event"], "enter");
    assert_eq!(calm.next().await["event"], "out");

    // While moving from one room to another.
    let mut mover = Client::enter(&rooms, "out", "r").await;
    mover.send(json!({"event": "enter", "message": "out", "roomId": "s"})).await;
    assert_eq!(mover.close_code().await, 1011);
    mover.task.await.unwrap();

    calm.close().await;
    assert_empty(&rooms);
    let (entered, left) = (panicking.entered.load(Ordering::SeqCst), panicking.left.load(Ordering::SeqCst));
    assert_eq!((entered, left), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn callbacks_can_call_the_rooms() {
    let builder = builder();
    let handle = builder.handle();
    let rooms = builder
        .events(move |event: tower_chat_rooms::RoomEvent<'_>| {
            let rooms = handle.upgrade().unwrap();
            if let tower_chat_rooms::RoomEvent::Entered(e) = event {
                let welcome = json!({"event": "welcome", "to": e.name.as_str(), "name": "host"});
                rooms.send(&e.room, &welcome).unwrap();
                assert_eq!(rooms.members(&e.room).len(), e.online);
                rooms.send_to(e.connection, &json!({"event": "hint"})).unwrap();
            }
        })
        .build()
        .unwrap();
    let mut ann = Client::connect(&rooms).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    let mut frames = vec![ann.next_text().await, ann.next_text().await, ann.next_text().await];
    // A frame for one connection has no place in the room's order.
    frames.sort_by_key(|f| f.contains("hint"));
    assert_eq!(
        frames,
        [
            r#"{"event":"enter","message":"ann","roomId":"r","name":"ann","num":1}"#,
            r#"{"event":"welcome","name":"host","to":"ann","num":1}"#,
            r#"{"event":"hint"}"#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_channel_has_all_events_in_order_and_the_lost_ones() {
    let (events, mut receiver) = event_channel(3);
    let rooms = builder().events(events).build().unwrap();
    let mut ann = Client::connect_as(&rooms, Admission::anonymous(), 4096).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    ann.next().await;
    for n in 0..5 {
        ann.send(json!({"event": "draw", "n": n})).await;
        ann.next().await;
    }
    let mut kinds = Vec::new();
    for _ in 0..4 {
        kinds.push(match receiver.recv().await.unwrap() {
            ChannelEvent::Entered(e) => format!("entered {}", e.online),
            ChannelEvent::Message(message) => format!("{} {}", message.event, message.body),
            ChannelEvent::Lost(n) => format!("lost {n}"),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(
        kinds,
        ["entered 1", r#"draw {"event":"draw","n":0}"#, r#"draw {"event":"draw","n":1}"#, "lost 3"]
    );
    ann.close().await;
    let Some(ChannelEvent::Left(left)) = receiver.recv().await else { panic!() };
    assert_eq!((left.reason, left.online), (LeaveReason::Closed, 0));
    drop(rooms);
    assert!(receiver.recv().await.is_none());
}

/// Looks at the rooms when it is dropped, as a guard in a user's extensions may do.
struct Look(WeakChatRooms);

impl Drop for Look {
    fn drop(&mut self) {
        if let Some(rooms) = self.0.upgrade() {
            rooms.members("r");
        }
    }
}

#[test]
fn the_users_extensions_are_not_dropped_under_a_lock() {
    let (done, is_done) = std::sync::mpsc::channel();
    // In a thread of its own, because a deadlock never ends.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let builder = builder().recovery(Recovery::default().resume_window(RESUME_WINDOW));
            let handle = builder.handle();
            let auth = move |token: String| {
                let user = User::new(token).with(Arc::new(Look(handle.clone())));
                async move { Ok::<_, Denied>(user) }
            };
            let rooms = builder.auth(auth).events(EventLog::default().hook()).build().unwrap();
            let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
            ann.enter_another("ann", "r").await;
            for _ in 0..2 {
                ann.authenticate("u").await;
            }
            let (mut again, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
            again.authenticate("u").await;
            again.resume([&welcome["resume"]]).await;
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(20)).expect("a deadlock");
}

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Removes all other members when one leaves.
#[derive(Clone)]
struct AllOrNothing {
    rooms: WeakChatRooms,
    max_depth: Arc<AtomicUsize>,
}

impl RoomEvents for AllOrNothing {
    fn left(&self, event: &Left) {
        let depth = DEPTH.get() + 1;
        DEPTH.set(depth);
        self.max_depth.fetch_max(depth, Ordering::Relaxed);
        if let Some(rooms) = self.rooms.upgrade() {
            for member in rooms.members(event.room.as_str()) {
                rooms.kick(member.connection);
            }
        }
        DEPTH.set(depth - 1);
    }
}

/// If they were, the stack would overflow with enough members.
#[tokio::test(start_paused = true)]
async fn callbacks_are_not_called_inside_of_each_other() {
    const MEMBERS: usize = 100;
    let builder = builder().recovery(Recovery::default().resume_window(RESUME_WINDOW));
    let hook = AllOrNothing { rooms: builder.handle(), max_depth: Arc::default() };
    let rooms = builder.events(hook.clone()).build().unwrap();
    let (ann, _) = Client::enter_rooms(&rooms, "ann", &["r"]).await;
    for _ in 0..MEMBERS {
        let (other, _) = Client::enter_rooms(&rooms, "other", &["r"]).await;
        other.disconnect().await;
    }
    ann.disconnect().await;
    sleep(RESUME_WINDOW * 2).await;
    assert!(rooms.members("r").is_empty());
    let depth = hook.max_depth.load(Ordering::Relaxed);
    assert_eq!(depth, 1, "calls of `left` inside of each other");
}
