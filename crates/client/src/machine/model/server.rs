//! A server with one room, as far as a client can tell.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, from_str, json};
use tower_chat_rooms_protocol::MAX_RESUME_TOKENS;

use super::Now;

/// How many message ids the server remembers per session.
const CIDS: usize = 3;

/// A server with one room, whose log is never truncated.
#[derive(Default)]
pub(super) struct Server {
    pub(super) log: Vec<String>,
    pub(super) connections: Vec<Connection>,
    /// By resume token: the number of the connection that holds the session.
    sessions: BTreeMap<usize, Session>,
    /// Messages from this number on are refused until this one is sent again, after this time.
    throttled: Option<(u64, Now)>,
}

struct Session {
    /// The number of its first connection: its member id.
    id: usize,
    is_member: bool,
    /// The ids of its latest messages, and the `seq` of each.
    cids: Vec<(String, u64)>,
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
        self.sessions.insert(n, Session { id: n, is_member: false, cids: Vec::new() });
        n
    }

    pub(super) fn publish(&mut self, mut frame: Value) -> u64 {
        let seq = self.log.len() as u64 + 1;
        frame["seq"] = json!(seq);
        self.publish_text(frame.to_string())
    }

    pub(super) fn publish_text(&mut self, frame: String) -> u64 {
        for (n, _) in self.sessions.iter().filter(|(_, session)| session.is_member) {
            self.connections[*n].to_client.push_back(frame.clone());
        }
        self.log.push(frame);
        self.log.len() as u64
    }

    fn tell(&mut self, n: usize, frame: Value) {
        self.connections[n].to_client.push_back(frame.to_string());
    }

    /// Handles the next frame of a connection. Returns `false` if there is none.
    pub(super) fn serve(&mut self, n: usize, now: Now, throttles: bool, ack_first: bool) -> bool {
        let connection = &mut self.connections[n];
        let Some(text) = connection.to_server.pop_front().filter(|_| !connection.is_ended) else {
            return false;
        };
        let frame: Value = from_str(&text).unwrap();
        match frame["event"].as_str().unwrap() {
            "heartbeat" => {}
            "enter" => self.enter(n, &frame),
            _ => self.on_message(n, frame, now, throttles, ack_first),
        }
        true
    }

    fn on_message(&mut self, n: usize, mut frame: Value, now: Now, throttles: bool, ack_first: bool) {
        let cid = frame["cid"].as_str().unwrap().to_owned();
        let number = frame["message"].as_u64().unwrap();
        let (session, seq) = (&self.sessions[&n], self.log.len() as u64 + 1);
        let (id, is_member) = (session.id.to_string(), session.is_member);
        let known = session.cids.iter().find(|(known, _)| *known == cid).map(|(_, seq)| *seq);
        let ack = |seq: u64| json!({"event": "ack", "cid": cid, "seq": seq});
        let refuse = |code: &str| json!({"event": "error", "code": code, "message": "no", "cid": cid});
        if let Some(seq) = known {
            return self.tell(n, ack(seq));
        }
        if throttles && self.throttled.is_none() {
            self.throttled = Some((number, now + Now::from_millis(50)));
        }
        if let Some((first, until)) = self.throttled.filter(|(first, _)| *first <= number) {
            if first < number || now < until {
                let mut error = refuse("rate_limited");
                error["retryAfter"] = json!(until.saturating_sub(now).as_millis() as u64 + 1);
                return self.tell(n, error);
            }
            self.throttled = None;
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
        self.publish(frame);
        if !ack_first {
            self.tell(n, ack(seq));
        }
        let known = &mut self.sessions.get_mut(&n).unwrap().cids;
        known.push((cid, seq));
        if known.len() > CIDS {
            known.remove(0);
        }
    }

    fn enter(&mut self, n: usize, frame: &Value) {
        let tokens: Vec<usize> = frame["resume"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|token| token.as_str().unwrap().parse().unwrap())
            .collect();
        assert!(tokens.len() <= MAX_RESUME_TOKENS && !tokens.contains(&n));
        for token in tokens {
            let Some(session) = self.sessions.get(&token).filter(|session| session.is_member) else {
                continue;
            };
            if !self.sessions[&n].is_member {
                assert!(session.is_member);
                let session = self.sessions.remove(&token).unwrap();
                self.sessions.insert(n, session);
                self.connections[token].is_ended = true;
            }
        }
        let session = self.sessions.get_mut(&n).unwrap();
        let (resumed, recovered) = (session.is_member, frame["since"].is_object());
        session.is_member = true;
        let since = frame["since"]["seq"].as_u64().unwrap_or(self.log.len() as u64) as usize;
        let id = session.id.to_string();
        let entered = json!({"event": "entered", "name": "ann", "member": id, "epoch": "E", "seq": self.log.len(),
            "resumed": resumed, "recovered": recovered, "replayed": self.log.len() - since});
        self.tell(n, entered);
        self.connections[n].to_client.extend(self.log[since..].iter().cloned());
        if !resumed {
            self.publish(json!({"event": "enter", "message": "ann", "name": "ann", "member": id}));
        }
    }

    /// The connection is lost, with all frames under way.
    pub(super) fn lose(&mut self, n: usize) {
        self.connections[n].to_server.clear();
        self.connections[n].to_client.clear();
        self.throttled = None;
    }

    /// The resume window of all sessions ends.
    pub(super) fn expire(&mut self) {
        let sessions: Vec<usize> = self.sessions.keys().copied().collect();
        sessions.into_iter().for_each(|n| self.leave(n));
        self.sessions.clear();
        self.connections.iter_mut().for_each(|connection| connection.is_ended = true);
    }

    /// Removes the client from the room, if it is in it.
    pub(super) fn put_out(&mut self, n: usize) {
        if self.has_member(n) {
            self.leave(n);
            self.tell(n, json!({"event": "error", "code": "internal", "message": "out", "roomId": "r"}));
        }
    }

    pub(super) fn has_member(&self, n: usize) -> bool {
        self.sessions[&n].is_member
    }

    /// Ends a membership.
    fn leave(&mut self, n: usize) {
        let session = self.sessions.get_mut(&n).unwrap();
        if std::mem::take(&mut session.is_member) {
            let id = session.id.to_string();
            self.publish(json!({"event": "out", "name": "ann", "member": id}));
        }
    }
}
