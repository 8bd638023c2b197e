//! Seats that change hands while something else happens to them. Who is `Held` does nothing
//! until the test lets him, so that each order of events can be had.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tower_chat_rooms::{
    Admission, ChatRooms, ConnectionId, Denied, History, Limits, Recovery, RoomEvent, User,
};

use crate::client::{Client, Log, Next, assert_empty};

const GRACE: Duration = Duration::from_secs(10);

/// A v1 connection whose server side runs only when it is told to.
struct Held {
    ws: WebSocketStream<tokio::io::DuplexStream>,
    serve: Pin<Box<dyn Future<Output = ()>>>,
    secret: Value,
}

impl Held {
    async fn connect(rooms: &ChatRooms) -> Held {
        let (theirs, ours) = tokio::io::duplex(64 * 1024);
        let admission = Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap());
        let rooms = rooms.clone();
        let serve = Box::pin(async move { rooms.serve(theirs, admission).await });
        let ws = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let mut held = Held { ws, serve, secret: Value::Null };
        held.step().await;
        held.secret = held.next().await["resume"].clone();
        held
    }

    /// Its server side does what there is to do.
    async fn step(&mut self) {
        let _ = futures_util::poll!(self.serve.as_mut());
    }

    async fn say(&mut self, value: Value) {
        self.ws.send(Message::text(value.to_string())).await.unwrap();
        self.step().await;
    }

    async fn next(&mut self) -> Value {
        loop {
            let Some(Ok(Message::Text(text))) = self.ws.next().await else { panic!("it has ended") };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["event"] != "heartbeat" {
                return frame;
            }
        }
    }
}

fn kept() -> (ChatRooms, Log) {
    let log = Log::default();
    let rooms = ChatRooms::builder()
        .recovery(Recovery::default().resume_window(GRACE).history(History::last(100)))
        .events(log.hook())
        .build()
        .unwrap();
    (rooms, log)
}

fn enter(room: &str, secrets: &[&Value]) -> Value {
    json!({"event": "enter", "message": "ann", "roomId": room, "resume": secrets})
}

async fn held_member(rooms: &ChatRooms) -> Held {
    let mut held = Held::connect(rooms).await;
    held.say(enter("r", &[])).await;
    assert_eq!(held.next().await["event"], "entered");
    held
}

/// Connects and asks for what these secrets are for.
async fn seek(rooms: &ChatRooms, room: &str, secrets: &[&Value]) -> (Client, Value) {
    let (mut client, welcome) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.say(enter(room, secrets)).await;
    settle().await;
    (client, welcome["resume"].clone())
}

/// A member whose connection is lost, and his secret.
async fn lost_member(rooms: &ChatRooms) -> Value {
    let (mut client, secret) = seek(rooms, "r", &[]).await;
    assert_eq!(client.next().await["event"], "entered");
    client.vanish().await;
    secret
}

/// Lets all tasks do what they can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn seat(rooms: &ChatRooms) -> ConnectionId {
    rooms.members("r")[0].connection
}

/// The order to go was given to a connection that had another already, and went with it.
#[tokio::test(start_paused = true)]
async fn who_is_sent_away_while_coming_back_has_to_go() {
    type Act = fn(&ChatRooms);
    let acts: [(Act, u16, &str); 2] = [
        (|rooms| assert!(rooms.kick(seat(rooms))), 4500, "- ann r 0 kicked"),
        (|rooms| assert_eq!(rooms.close_room("r"), 1), 4501, "- ann r 0 room closed"),
    ];
    for (act, code, line) in acts {
        let (rooms, log) = kept();
        let mut old = held_member(&rooms).await;
        let (mut new, _) = seek(&rooms, "r", &[&old.secret]).await;
        act(&rooms);
        old.step().await;
        settle().await;
        let log = log.take();
        assert_eq!(log, ["+ ann r 1", line], "{code}");
        assert_eq!(new.next().await["resumed"], true, "{code}");
        assert_eq!(new.next_or_end().await, Next::End(code));
        drop((old, new));
    }
}

/// The room was closed between the taking over and the answer.
#[tokio::test(start_paused = true)]
async fn nobody_comes_back_to_a_closed_room() {
    let (rooms, log) = kept();
    let secret = lost_member(&rooms).await;
    let mut other = Held::connect(&rooms).await;
    // He has his seat, and waits for the end of the other connection.
    let (mut new, _) = seek(&rooms, "r", &[&secret, &other.secret]).await;
    assert_eq!(rooms.stats().resumed, 1);
    assert_eq!(rooms.close_room("r"), 1);
    other.step().await;
    assert_eq!(new.next().await["resumed"], true);
    assert_eq!(new.next_or_end().await, Next::End(4501));
    drop((new, other));
    settle().await;
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 room closed"]);
    assert_empty(&rooms);
}

/// A secret that was used while its connection was itself coming back came to life again.
#[tokio::test(start_paused = true)]
async fn a_secret_works_once_even_in_a_chain() {
    let (rooms, log) = kept();
    let mut first = held_member(&rooms).await;
    let mut second = Held::connect(&rooms).await;
    second.say(enter("r", &[&first.secret])).await;
    let (mut third, _) = seek(&rooms, "r", &[&second.secret]).await;
    first.step().await;
    settle().await;
    second.step().await;
    settle().await;
    assert_eq!(third.next().await["resumed"], true, "the seat goes all the way");
    let (mut thief, _) = seek(&rooms, "r", &[&second.secret]).await;
    assert_eq!(thief.next().await["resumed"], false);
    assert_eq!(third.next().await["event"], "enter", "the thief's");
    assert_eq!(log.take(), ["+ ann r 1", "+ ann r 2"]);
}

/// Who was nobody in particular got the seat of a user, and the secret was good once more.
#[tokio::test(start_paused = true)]
async fn who_authenticates_while_his_seat_is_taken_keeps_it() {
    let log = Log::default();
    let rooms = ChatRooms::builder()
        .recovery(Recovery::default().resume_window(GRACE))
        .events(log.hook())
        .auth(|token: String| {
            // The answer is there when the connection is looked at for the next time.
            let mut asked = false;
            std::future::poll_fn(move |_| match std::mem::replace(&mut asked, true) {
                true => Poll::Ready(Ok::<_, Denied>(User::new(token.clone()))),
                false => Poll::Pending,
            })
        })
        .build()
        .unwrap();
    let mut old = held_member(&rooms).await;
    old.say(json!({"event": "auth", "message": "u-1"})).await;
    let (mut new, _) = seek(&rooms, "r", &[&old.secret]).await;
    old.step().await;
    settle().await;
    assert_eq!(new.next().await["resumed"], true);
    // The session is not the user's: its connection was replaced before the answer came.
    let admission = Admission::user(User::new("u-1"));
    let (mut back, _) = Client::connect_v1(&rooms, admission).await;
    back.say(enter("r", &[&old.secret])).await;
    assert_eq!(back.next().await["resumed"], false);
    back.leave().await;
    new.leave().await;
    drop(old);
    assert_empty(&rooms);
}

/// A seat that was claimed and not taken was kept for another whole grace.
#[tokio::test(start_paused = true)]
async fn a_seat_that_goes_back_is_not_kept_for_longer() {
    let (rooms, log) = kept();
    let (one, other) = (lost_member(&rooms).await, lost_member(&rooms).await);
    tokio::time::sleep(GRACE - Duration::from_secs(1)).await;
    let (mut new, _) = seek(&rooms, "r", &[&one, &other]).await;
    assert_eq!(new.next().await["resumed"], true);
    assert_eq!(rooms.stats().absent, 1);
    let back = tokio::time::Instant::now();
    assert_eq!(new.next().await["event"], "out");
    assert_eq!(back.elapsed().as_secs(), 1);
    assert_eq!(log.take(), ["+ ann r 1", "+ ann r 2", "- ann r 1 connection lost"]);
}

/// Who had come back and wanted more was taken for one who never entered.
#[tokio::test(start_paused = true)]
async fn who_is_back_has_entered_wherever_else_he_may_not_go() {
    let rooms = ChatRooms::builder()
        .recovery(Recovery::default().resume_window(GRACE))
        .policy(|request: &tower_chat_rooms::EnterRequest<'_>| match request.room().as_str() {
            "r" => Ok(()),
            _ => Err(Denied::new("not there")),
        })
        .build()
        .unwrap();
    let secret = lost_member(&rooms).await;
    let (mut new, _) = seek(&rooms, "elsewhere", &[&secret]).await;
    assert_eq!(new.next().await["resumed"], true);
    assert_eq!(new.next().await["code"], "denied");
    let quiet = tokio::time::timeout(Duration::from_secs(60), new.next_or_end()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert_eq!(rooms.members("r").len(), 1);
}

/// Whoever comes back is the user as he is known now, in the room and to the host.
#[tokio::test(start_paused = true)]
async fn who_comes_back_is_who_has_authenticated_last() {
    let known = Arc::new(Mutex::new(Vec::new()));
    let hook = known.clone();
    let rooms = ChatRooms::builder()
        .recovery(Recovery::default().resume_window(GRACE))
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Left(left) = event {
                hook.lock().unwrap().extend(left.user.as_ref().and_then(|user| user.get::<u8>().copied()));
            }
        })
        .build()
        .unwrap();
    let admission = |version: u8| Admission::user(User::new("u-1").with(version));
    let (mut ann, welcome) = Client::connect_v1(&rooms, admission(1)).await;
    ann.say(enter("r", &[])).await;
    assert_eq!(ann.next().await["event"], "entered");
    ann.vanish().await;
    let (mut ann, _) = Client::connect_v1(&rooms, admission(2)).await;
    ann.say(enter("r", &[&welcome["resume"]])).await;
    assert_eq!(ann.next().await["resumed"], true);
    let user = rooms.members("r")[0].user.clone().unwrap();
    assert_eq!(user.get::<u8>(), Some(&2));
    ann.leave().await;
    assert_eq!(*known.lock().unwrap(), [2]);
}

/// The order to go is given when the seat is on its way to the new connection.
#[tokio::test(start_paused = true)]
async fn who_is_sent_away_between_two_connections_has_to_go() {
    let (rooms, log) = kept();
    let secret = lost_member(&rooms).await;
    let mut new = Held::connect(&rooms).await;
    new.say(enter("r", &[&secret])).await;
    settle().await;
    assert!(rooms.kick(seat(&rooms)));
    new.step().await;
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 kicked"]);
    drop(new);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn another_user_with_the_secret_disturbs_nobody() {
    let (rooms, _) = kept();
    let mut ann = held_member(&rooms).await;
    let (mut eve, _) = Client::connect_v1(&rooms, Admission::user(User::new("eve"))).await;
    eve.say(enter("r", &[&ann.secret])).await;
    assert_eq!(eve.next().await["resumed"], false);
    ann.step().await;
    assert_eq!(ann.next().await["event"], "enter", "her own");
    ann.say(json!({"event": "still here"})).await;
    settle().await;
    assert_eq!(ann.next().await["event"], "enter", "eve's");
    assert_eq!(ann.next().await["event"], "still here");
}

#[tokio::test(start_paused = true)]
async fn as_many_seats_are_kept_as_there_may_be_connections() {
    let rooms = ChatRooms::builder()
        .recovery(Recovery::default().resume_window(GRACE))
        .limits(Limits::default().max_connections(2))
        .build()
        .unwrap();
    for absent in [1, 2, 2] {
        lost_member(&rooms).await;
        assert_eq!((rooms.stats().absent, rooms.members("r").len()), (absent, absent));
    }
}
