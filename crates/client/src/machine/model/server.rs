//! A server with two rooms, as far as a client can tell.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, from_str, json};
use tower_chat_rooms_protocol::MAX_RESUME_TOKENS;

use super::Now;

/// Their ids are the numbers from 0.
pub(super) const ROOMS: usize = 2;

/// How many message ids the server remembers per session.
const CIDS: usize = 3;

/// A server whose room logs are never truncated.
#[derive(Default)]
pub(super) struct Server {
    pub(super) logs: [Vec<String>; ROOMS],
    pub(super) connections: Vec<Connection>,
    /// By resume token: the number of the connection that holds the session.
    sessions: BTreeMap<usize, Session>,
    /// Messages to a room from this number on are refused until this one is sent again, after this time.
    throttled: [Option<(u64, Now)>; ROOMS],
}

struct Session {
    /// The number of its first connection: its member id.
    id: usize,
    memberships: [Membership; ROOMS],
    /// The ids of its latest messages, and the `seq` of each.
    cids: Vec<(String, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Membership {
    None,
    /// The session was resumed, and the room not entered since.
    Silent,
    Subscribed,
}

/// A connection, with the frames under way in both directions. Its number is its resume token.
#[derive(Default)]
pub(super) struct Connection {
    pub(super) to_server: VecDeque<String>,
    pub(super) to_client: VecDeque<String>,
    /// The server has ended it.
    is_ended: bool,
}

/// A frame of a room that this client can't read.
pub(super) fn is_unreadable(frame: &str) -> bool {
    from_str::<Value>(frame).is_err()
}

/// Whether the server refuses this message.
pub(super) fn is_refused(message: u64) -> bool {
    message % 5 == 3
}

impl Server {
    pub(super) fn open(&mut self) -> usize {
        let n = self.connections.len();
        let welcome = json!({"event": "welcome", "resume": n.to_string(),
            "heartbeat": {"interval": 1000, "timeout": 1000}, "limits": {"cids": CIDS},
            "rates": {"messages": null, "bytes": null}, "resumeWindow": 10_000});
        self.connections
            .push(Connection { to_client: [welcome.to_string()].into(), ..Connection::default() });
        self.sessions.insert(n, Session { id: n, memberships: [Membership::None; ROOMS], cids: Vec::new() });
        n
    }

    pub(super) fn publish(&mut self, room: usize, mut frame: Value) -> u64 {
        let seq = self.logs[room].len() as u64 + 1;
        frame["roomId"] = json!(room.to_string());
        frame["seq"] = json!(seq);
        self.publish_text(room, frame.to_string())
    }

    pub(super) fn publish_text(&mut self, room: usize, frame: String) -> u64 {
        for (n, session) in &self.sessions {
            if session.memberships[room] == Membership::Subscribed {
                self.connections[*n].to_client.push_back(frame.clone());
            }
        }
        self.logs[room].push(frame);
        self.logs[room].len() as u64
    }

    fn tell(&mut self, n: usize, frame: Value) {
        self.connections[n].to_client.push_back(frame.to_string());
    }

    /// Handles the next frame of a connection. Returns `false` if there is none.
    pub(super) fn serve(
        &mut self,
        n: usize,
        now: Now,
        throttles: &mut [bool; ROOMS],
        ack_first: bool,
    ) -> bool {
        let connection = &mut self.connections[n];
        let Some(text) = connection.to_server.pop_front().filter(|_| !connection.is_ended) else {
            return false;
        };
        let frame: Value = from_str(&text).unwrap();
        match frame["event"].as_str().unwrap() {
            "heartbeat" => {}
            "resume" => self.resume(n, &frame),
            "enter" => self.enter(n, room_of(&frame), &frame["since"]),
            "leave" => {
                let room = room_of(&frame);
                self.leave(n, room);
                self.tell(n, json!({"event": "left", "roomId": room.to_string()}));
            }
            _ => {
                let throttles = std::mem::take(&mut throttles[room_of(&frame)]);
                self.on_message(n, frame, now, throttles, ack_first);
            }
        }
        true
    }

    fn on_message(&mut self, n: usize, mut frame: Value, now: Now, throttles: bool, ack_first: bool) {
        let cid = frame["cid"].as_str().unwrap().to_owned();
        let number = frame["message"].as_u64().unwrap();
        let room = room_of(&frame);
        let (session, seq) = (&self.sessions[&n], self.logs[room].len() as u64 + 1);
        let (id, is_member) = (session.id.to_string(), session.memberships[room] != Membership::None);
        let known = session.cids.iter().find(|(known, _)| *known == cid).map(|(_, seq)| *seq);
        let ack = |seq: u64| json!({"event": "ack", "cid": cid, "seq": seq});
        let refuse = |code: &str| json!({"event": "error", "code": code, "message": "no", "cid": cid});
        if let Some(seq) = known {
            return self.tell(n, ack(seq));
        }
        let throttled = &mut self.throttled[room];
        if throttles && throttled.is_none() {
            *throttled = Some((number, now + Now::from_millis(50)));
        }
        if let Some((first, until)) = throttled.filter(|(first, _)| *first <= number) {
            if first < number || now < until {
                let mut error = refuse("rate_limited");
                error["retryAfter"] = json!(until.saturating_sub(now).as_millis() as u64 + 1);
                return self.tell(n, error);
            }
            *throttled = None;
        }
        if !is_member {
            return self.tell(n, refuse("not_entered"));
        }
        if is_refused(number) {
            return self.tell(n, refuse("denied"));
        }
        frame["name"] = json!("ann");
        frame["member"] = json!(id);
        if ack_first {
            self.tell(n, ack(seq));
        }
        self.publish(room, frame);
        if !ack_first {
            self.tell(n, ack(seq));
        }
        let known = &mut self.sessions.get_mut(&n).unwrap().cids;
        known.push((cid, seq));
        if known.len() > CIDS {
            known.remove(0);
        }
    }

    fn resume(&mut self, n: usize, frame: &Value) {
        let tokens = frame["message"].as_array().unwrap().iter();
        let tokens: Vec<usize> = tokens.map(|token| token.as_str().unwrap().parse().unwrap()).collect();
        assert!(tokens.len() <= MAX_RESUME_TOKENS && !tokens.contains(&n));
        assert!(!self.sessions[&n].is_member(), "a session is resumed before a room is entered");
        for token in tokens {
            if self.sessions.get(&token).is_some_and(Session::is_member) && !self.sessions[&n].is_member() {
                let mut session = self.sessions.remove(&token).unwrap();
                session
                    .memberships
                    .iter_mut()
                    .filter(|m| **m != Membership::None)
                    .for_each(|m| *m = Membership::Silent);
                self.sessions.insert(n, session);
                self.connections[token].is_ended = true;
            }
            self.end(token);
        }
        let session = &self.sessions[&n];
        let is_in = |room: &usize| session.memberships[*room] != Membership::None;
        let rooms: Vec<Value> =
            (0..ROOMS).filter(is_in).map(|room| json!({"roomId": room.to_string(), "name": "ann"})).collect();
        let mut resumed = json!({"event": "resumed", "rooms": rooms});
        if session.is_member() {
            resumed["member"] = json!(session.id.to_string());
        }
        self.tell(n, resumed);
    }

    fn enter(&mut self, n: usize, room: usize, since: &Value) {
        let log_len = self.logs[room].len();
        let session = self.sessions.get_mut(&n).unwrap();
        let resumed =
            std::mem::replace(&mut session.memberships[room], Membership::Subscribed) != Membership::None;
        let recovered = since.is_object();
        let since = since["seq"].as_u64().unwrap_or(log_len as u64) as usize;
        let id = session.id.to_string();
        let entered = json!({"event": "entered", "roomId": room.to_string(), "name": "ann", "member": id,
            "epoch": "E", "seq": log_len, "resumed": resumed, "recovered": recovered, "replayed": log_len - since});
        self.tell(n, entered);
        self.connections[n].to_client.extend(self.logs[room][since..].iter().cloned());
        if !resumed {
            // The message that would end it may never come.
            self.throttled[room] = None;
            self.publish(room, json!({"event": "enter", "message": "ann", "name": "ann", "member": id}));
        }
    }

    /// The connection is lost, with all frames under way.
    pub(super) fn lose(&mut self, n: usize) {
        self.connections[n].to_server.clear();
        self.connections[n].to_client.clear();
        self.throttled = [None; ROOMS];
    }

    /// The resume window of all sessions ends.
    pub(super) fn expire(&mut self) {
        let sessions: Vec<usize> = self.sessions.keys().copied().collect();
        sessions.into_iter().for_each(|n| self.end(n));
        self.connections.iter_mut().for_each(|connection| connection.is_ended = true);
    }

    fn end(&mut self, n: usize) {
        if self.sessions.contains_key(&n) {
            (0..ROOMS).for_each(|room| self.leave(n, room));
            self.sessions.remove(&n);
        }
    }

    /// Removes the client from the room, if it gets the room's frames. Otherwise, the client would take it for the answer
    /// to its enter.
    pub(super) fn put_out(&mut self, n: usize, room: usize) {
        if self.sessions[&n].memberships[room] == Membership::Subscribed {
            self.leave(n, room);
            self.tell(
                n,
                json!({"event": "left", "roomId": room.to_string(), "code": "internal", "message": "out"}),
            );
        }
    }

    pub(super) fn is_member(&self, n: usize, room: usize) -> bool {
        self.sessions[&n].memberships[room] != Membership::None
    }

    /// Ends a membership, if there is one.
    fn leave(&mut self, n: usize, room: usize) {
        let session = self.sessions.get_mut(&n).unwrap();
        let membership = std::mem::replace(&mut session.memberships[room], Membership::None);
        if membership != Membership::None {
            let id = session.id.to_string();
            self.publish(room, json!({"event": "out", "name": "ann", "member": id}));
        }
    }
}

impl Session {
    fn is_member(&self) -> bool {
        self.memberships.iter().any(|membership| *membership != Membership::None)
    }
}

fn room_of(frame: &Value) -> usize {
    frame["roomId"].as_str().unwrap().parse().unwrap()
}
