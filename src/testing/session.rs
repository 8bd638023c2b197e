//! What a client knows of its session: its rooms, its position in each of them, and its resume token.

use serde_json::{Value, json};

/// The session of a client.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// From the latest `welcome`.
    token: Option<Value>,
    /// In the order in which they were entered.
    rooms: Vec<EnteredRoom>,
    member: Option<Value>,
    /// The number of the latest direct frame.
    direct: u64,
}

#[derive(Debug)]
struct EnteredRoom {
    id: String,
    name: String,
    epoch: Value,
    seq: u64,
}

impl Session {
    /// Takes note of a frame. Returns whether the test gets it.
    pub(super) fn receive(&mut self, frame: &Value) -> bool {
        if let Some(number) = direct_number(frame) {
            let is_new = number > self.direct;
            self.direct = self.direct.max(number);
            return is_new;
        }
        match frame["event"].as_str() {
            Some("welcome") => self.token = frame.get("resume").cloned(),
            Some("entered") => self.entered(frame),
            Some("left") => self.rooms.retain(|room| frame["roomId"] != *room.id),
            Some("ack" | "members") => {}
            _ => self.advance(frame),
        }
        true
    }

    /// Returns the frame with which it resumes the session on a new connection, or `None` if the server keeps no
    /// sessions.
    pub(super) fn resume(&self) -> Option<Value> {
        let mut frame = json!({"event": "resume", "message": [self.token.as_ref()?]});
        if let Some(member) = self.member.as_ref().filter(|_| self.direct > 0) {
            frame["member"] = member.clone();
            frame["direct"] = self.direct.into();
        }
        Some(frame)
    }

    /// Takes note of a `resumed` frame. Returns whether the session was resumed.
    pub(super) fn resumed(&mut self, frame: &Value) -> bool {
        if frame["member"].is_null() || self.member.as_ref() != Some(&frame["member"]) {
            self.direct = 0;
        }
        self.direct = self.direct.max(frame["direct"].as_u64().unwrap_or(0));
        !frame["member"].is_null()
    }

    /// Returns the frames with which it enters its rooms again, from its position in each of them.
    pub(super) fn enters(&self) -> Vec<Value> {
        let enter = |room: &EnteredRoom| {
            let since = json!({"epoch": room.epoch, "seq": room.seq});
            json!({"event": "enter", "message": room.name, "roomId": room.id, "since": since})
        };
        self.rooms.iter().map(enter).collect()
    }

    /// A client of the plain protocol has entered a room, and left the one before.
    pub(super) fn entered_plain(&mut self, name: &str, room: &str) {
        self.rooms = vec![EnteredRoom { id: room.into(), name: name.into(), epoch: Value::Null, seq: 0 }];
    }

    /// The room that it has entered last.
    pub(super) fn last_room(&self) -> Option<&str> {
        self.rooms.last().map(|room| &*room.id)
    }

    fn entered(&mut self, frame: &Value) {
        let text = |key| frame[key].as_str().unwrap_or_default().to_owned();
        let number = |key| frame[key].as_u64().unwrap_or_default();
        let (id, name, epoch) = (text("roomId"), text("name"), frame["epoch"].clone());
        let seq = number("seq").saturating_sub(number("replayed"));
        self.member = Some(frame["member"].clone());
        let room = EnteredRoom { id, name, epoch, seq };
        match self.rooms.iter_mut().find(|known| known.id == room.id) {
            Some(known) => *known = room,
            None => self.rooms.push(room),
        }
    }

    /// A room's frame moves the position in the room.
    fn advance(&mut self, frame: &Value) {
        let Some(seq) = frame["seq"].as_u64() else { return };
        if let Some(room) = self.rooms.iter_mut().find(|room| frame["roomId"] == *room.id) {
            // The messages of a history are older.
            room.seq = room.seq.max(seq);
        }
    }
}

/// The number of a direct frame.
pub(super) fn direct_number(frame: &Value) -> Option<u64> {
    frame["direct"].as_u64().filter(|_| frame["event"] != "resumed")
}
