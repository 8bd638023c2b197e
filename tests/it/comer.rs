//! A v1 client that comes and goes, in rooms that keep its seat.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, ChatRoomsBuilder, History, Recovery};

use crate::client::{Client, Log};

pub(crate) const GRACE: Duration = Duration::from_secs(10);

pub(crate) fn builder(log: &Log) -> ChatRoomsBuilder {
    ChatRooms::builder()
        .recovery(Recovery::default().resume_window(GRACE).history(History::last(100)))
        .events(log.hook())
}

pub(crate) fn kept() -> (ChatRooms, Log) {
    let log = Log::default();
    (builder(&log).build().unwrap(), log)
}

/// A v1 client as it comes and goes.
pub(crate) struct Comer {
    pub(crate) client: Client,
    pub(crate) name: &'static str,
    pub(crate) secrets: Vec<Value>,
    /// Up to where it has had the room.
    pub(crate) since: Value,
}

impl Comer {
    pub(crate) async fn enter(rooms: &ChatRooms, name: &'static str) -> Comer {
        let (client, welcome) = Client::connect_v1(rooms, Admission::anonymous()).await;
        let mut comer = Comer { client, name, secrets: vec![welcome["resume"].clone()], since: Value::Null };
        comer.client.say(json!({"event": "enter", "message": name, "roomId": "r"})).await;
        let entered = comer.client.next().await;
        assert_eq!(
            (&entered["event"], &entered["resumed"], &entered["recovered"]),
            (&json!("entered"), &json!(false), &json!(false))
        );
        comer.since = json!({"epoch": entered["epoch"], "seq": entered["seq"]});
        let own = comer.next().await;
        assert_eq!((&own["event"], &own["name"]), (&json!("enter"), &json!(name)));
        comer
    }

    /// Comes back by another connection, and returns the answer.
    pub(crate) async fn back(&mut self, rooms: &ChatRooms) -> Value {
        self.back_as(rooms, Admission::anonymous()).await
    }

    pub(crate) async fn back_as(&mut self, rooms: &ChatRooms, admission: Admission) -> Value {
        let (client, welcome) = Client::connect_v1(rooms, admission).await;
        // The old connection may be half-open; who needs it has put it away before.
        drop(std::mem::replace(&mut self.client, client));
        self.secrets.retain(|secret| !secret.is_null());
        let enter = json!({
            "event": "enter", "message": self.name, "roomId": "r", "since": self.since, "resume": self.secrets,
        });
        self.client.say(enter).await;
        let entered = self.client.next().await;
        assert_eq!(entered["event"], "entered", "{entered}");
        self.secrets = vec![welcome["resume"].clone()];
        if entered["recovered"] == false {
            self.since = json!({"epoch": entered["epoch"], "seq": entered["seq"]});
        }
        entered
    }

    /// The next frame; the room's must be the next in its order.
    pub(crate) async fn next(&mut self) -> Value {
        let frame = self.client.next().await;
        if let Some(seq) = frame["seq"].as_u64()
            && frame["event"] != "ack"
        {
            assert_eq!(Some(seq), self.since["seq"].as_u64().map(|seq| seq + 1), "{frame}");
            self.since["seq"] = seq.into();
        }
        frame
    }

    pub(crate) async fn say(&mut self, message: impl Into<Value>) {
        self.client.say(json!({"event": "message", "message": message.into()})).await;
    }

    pub(crate) async fn hears(&mut self, message: impl Into<Value>) {
        assert_eq!(self.next().await["message"], message.into());
    }

    /// The connection breaks, and the server knows it.
    pub(crate) async fn lose(&mut self) {
        let (theirs, _) = tokio::io::duplex(1);
        let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
        let ws = tokio_tungstenite::WebSocketStream::from_raw_socket(theirs, role, None).await;
        let lost = Client { ws, task: tokio::spawn(async {}), polite: true };
        std::mem::replace(&mut self.client, lost).vanish().await;
    }
}

pub(crate) fn resumed(entered: &Value) -> (bool, bool) {
    (entered["resumed"].as_bool().unwrap(), entered["recovered"].as_bool().unwrap())
}
/// Time passes for somebody who answers his heartbeats.
pub(crate) async fn stay_alive(comer: &mut Comer, time: Duration) {
    let until = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < until {
        comer.client.answer_heartbeats().await;
        let left = until - tokio::time::Instant::now();
        tokio::time::sleep(left.min(Duration::from_millis(200))).await;
    }
    comer.client.answer_heartbeats().await;
}
