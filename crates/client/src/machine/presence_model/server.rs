//! A model of a server with one room, as a client sees it.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Value, from_str, json};

use crate::presence::PresenceMode;

/// How many members a page holds.
const PAGE: usize = 2;

/// What the server refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A request for a page, for some time.
    Members,
    State,
    /// A state, for some time.
    StateForNow,
}

pub(super) struct Server {
    pub(super) mode: PresenceMode,
    pub(super) to_server: VecDeque<String>,
    pub(super) to_client: VecDeque<String>,
    /// Whether the next new member of the client is hidden and read-only.
    pub(super) hides: bool,
    pub(super) has_refused_state: bool,
    epoch: u64,
    log: Vec<String>,
    /// In the order in which they entered.
    members: Vec<Member>,
    /// How many members there were.
    places: u64,
    connections: u64,
    session: Option<Session>,
    /// The client gets no frames of the room for the moment.
    lag: Option<Lag>,
    refusal: Option<Refusal>,
    /// The client does not know the latest enter yet, because it could not read it.
    has_hidden_change: bool,
}

#[derive(Clone)]
struct Member {
    id: String,
    name: String,
    state: Value,
    /// Its cursor.
    place: u64,
    is_hidden: bool,
}

/// The client's session.
struct Session {
    member: String,
    /// The connection that holds it: its resume token.
    token: u64,
    is_subscribed: bool,
}

/// What the client has missed.
#[derive(Default)]
struct Lag {
    missed: u64,
    misses_presence: bool,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            mode: PresenceMode::Full,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            hides: false,
            has_refused_state: false,
            epoch: 0,
            log: Vec::new(),
            members: Vec::new(),
            places: 0,
            connections: 0,
            session: None,
            lag: None,
            refusal: None,
            has_hidden_change: false,
        }
    }
}

impl Server {
    pub(super) fn open(&mut self) {
        self.connections += 1;
        let token = self.connections.to_string();
        self.to_client.push_back(
            json!({"event": "welcome", "connection": token, "resume": token, "limits": {"cids": 9},
                   "heartbeat": {"interval": 100_000, "timeout": 100_000},
                   "rates": {"messages": 50, "bytes": null, "burst": 1}})
            .to_string(),
        );
    }

    /// The connection is lost, with all frames in flight.
    pub(super) fn lose(&mut self) {
        self.to_server.clear();
        self.to_client.clear();
        self.lag = None;
        self.session.iter_mut().for_each(|session| session.is_subscribed = false);
    }

    pub(super) fn expire(&mut self) {
        self.session.take().into_iter().for_each(|session| self.remove(&session.member));
    }

    pub(super) fn restart(&mut self) {
        *self = Server {
            epoch: self.epoch + 1,
            connections: self.connections,
            hides: self.hides,
            ..Server::default()
        };
    }

    /// Handles the next frame. Returns `false` if there is none.
    pub(super) fn serve(&mut self) -> bool {
        let Some(text) = self.to_server.pop_front() else { return false };
        let frame: Value = from_str(&text).unwrap();
        match frame["event"].as_str().unwrap() {
            "resume" => self.resume(&frame),
            "enter" => self.enter(&frame),
            "state" => self.set_state(&frame),
            "members" => self.on_members(&frame),
            event => panic!("unexpected: {event}"),
        }
        true
    }

    fn resume(&mut self, frame: &Value) {
        let tokens: Vec<u64> = frame["message"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t.as_str().unwrap().parse().unwrap())
            .collect();
        let mut resumed = json!({"event": "resumed", "rooms": []});
        match &mut self.session {
            Some(session) if tokens.contains(&session.token) => {
                session.token = self.connections;
                resumed["member"] = json!(session.member);
                resumed["rooms"] = json!([{"roomId": "r", "name": "ann"}]);
            }
            _ => self.expire(),
        }
        self.to_client.push_back(resumed.to_string());
    }

    fn enter(&mut self, frame: &Value) {
        self.catch_up();
        let is_resumed = self.session.is_some();
        let id = match &self.session {
            Some(session) => session.member.clone(),
            None => self.connections.to_string(),
        };
        self.session = Some(Session { member: id.clone(), token: self.connections, is_subscribed: false });
        let is_hidden = if is_resumed { self.member(&id).unwrap().is_hidden } else { self.hides };
        let seq = self.log.len() as u64;
        let since = frame["since"]["seq"].as_u64().filter(|_| frame["since"]["epoch"] == self.epoch());
        let replayed = seq - since.unwrap_or(seq);
        let mut entered = json!({"event": "entered", "roomId": "r", "name": "ann", "member": id, "epoch": self.epoch(),
            "seq": seq, "resumed": is_resumed, "recovered": since.is_some(), "replayed": replayed});
        let num = self.num() + u64::from(!is_resumed && !is_hidden);
        self.add_page(&mut entered, 0, num);
        if is_hidden {
            entered["hidden"] = json!(true);
            entered["readOnly"] = json!(true);
        }
        self.to_client.push_back(entered.to_string());
        self.to_client.extend(self.log[(seq - replayed) as usize..].iter().cloned());
        // A frame that can't be read is known to be missed in a replay.
        self.has_hidden_change = false;
        self.session.iter_mut().for_each(|session| session.is_subscribed = true);
        if !is_resumed {
            self.add(&id, "ann", frame["state"].clone(), is_hidden, false);
        }
    }

    fn on_members(&mut self, frame: &Value) {
        if self.session.is_none() {
            return self.refuse("not_entered", None);
        }
        if self.refusal == Some(Refusal::Members) {
            self.refusal = None;
            return self.refuse("rate_limited", Some(70));
        }
        self.catch_up();
        let after = frame["after"].as_str().map_or(0, |cursor| cursor.parse().unwrap());
        let mut answer = json!({"event": "members", "roomId": "r", "seq": self.log.len()});
        self.add_page(&mut answer, after, self.num());
        self.to_client.push_back(answer.to_string());
    }

    fn add_page(&self, frame: &mut Value, after: u64, num: u64) {
        frame["mode"] = json!(mode_name(self.mode));
        frame["num"] = json!(num);
        frame["users"] = json!(self.users());
        if self.mode == PresenceMode::Full {
            let mut rest = self.visible().filter(|member| member.place > after);
            let page: Vec<&Member> = rest.by_ref().take(PAGE).collect();
            if rest.next().is_some() {
                frame["next"] = json!(page.last().unwrap().place.to_string());
            }
            frame["members"] = page.into_iter().map(Member::entry).collect();
        }
    }

    fn set_state(&mut self, frame: &Value) {
        let Some(session) = &self.session else { return self.refuse("not_entered", None) };
        match self.refusal {
            Some(Refusal::State) => {
                self.refusal = None;
                self.has_refused_state = true;
                self.refuse("denied", None);
            }
            Some(Refusal::StateForNow) => {
                self.refusal = None;
                self.refuse("rate_limited", Some(70));
            }
            _ => {
                let id = session.member.clone();
                self.members.iter_mut().find(|member| member.id == id).unwrap().state =
                    frame["state"].clone();
            }
        }
    }

    fn refuse(&mut self, code: &str, retry_after: Option<u64>) {
        let mut error = json!({"event": "error", "code": code, "message": "no", "roomId": "r"});
        retry_after.into_iter().for_each(|ms| error["retryAfter"] = json!(ms));
        self.to_client.push_back(error.to_string());
    }

    pub(super) fn refuse_next(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
    }

    pub(super) fn toggle(&mut self, n: u64, is_unreadable: bool) {
        let id = other(n);
        match self.member(&id) {
            Some(_) => self.remove(&id),
            None => self.add(&id, &id, json!(null), false, is_unreadable),
        }
    }

    pub(super) fn rename(&mut self, n: u64) {
        let Some(member) = self.member(&other(n)).cloned() else { return };
        self.remove(&member.id);
        self.add(&member.id, &format!("{}'", member.name), member.state, false, false);
    }

    pub(super) fn change(&mut self, n: u64, state: u64) {
        let (id, state) = (other(n), if state == 0 { Value::Null } else { json!(state) });
        let Some(member) = self.members.iter_mut().find(|member| member.id == id) else { return };
        member.state = state.clone();
        if self.mode == PresenceMode::Full {
            let frame = json!({"event": "state", "state": state, "name": id, "member": id, "num": self.num(), "roomId": "r"});
            self.tell(&frame);
        }
    }

    pub(super) fn say(&mut self) {
        self.publish(json!({"event": "message", "message": "hi", "num": self.num()}), false);
    }

    pub(super) fn set_mode(&mut self, mode: PresenceMode) {
        if std::mem::replace(&mut self.mode, mode) != mode {
            self.tell_presence();
        }
    }

    fn add(&mut self, id: &str, name: &str, state: Value, is_hidden: bool, is_unreadable: bool) {
        self.places += 1;
        let member = Member { id: id.into(), name: name.into(), state, place: self.places, is_hidden };
        let mut frame = member.entry();
        self.members.push(member);
        if !is_hidden {
            frame["event"] = json!("enter");
            frame["message"] = json!(name);
            self.publish_change(frame, is_unreadable);
        }
    }

    fn remove(&mut self, id: &str) {
        let Some(at) = self.members.iter().position(|member| member.id == id) else { return };
        let member = self.members.remove(at);
        if !member.is_hidden {
            self.publish_change(json!({"event": "out", "name": member.name, "member": id}), false);
        }
    }

    fn publish_change(&mut self, mut frame: Value, is_unreadable: bool) {
        frame["num"] = json!(self.num());
        match self.mode {
            PresenceMode::Full => self.publish(frame, is_unreadable),
            PresenceMode::Count => self.tell_presence(),
            PresenceMode::Quiet => {}
        }
    }

    /// Publishes a frame with the next `seq`.
    fn publish(&mut self, mut frame: Value, is_unreadable: bool) {
        frame["roomId"] = json!("r");
        frame["seq"] = json!(self.log.len() + 1);
        let text = if is_unreadable { "{".to_owned() } else { frame.to_string() };
        self.log.push(text.clone());
        if let Some(lag) = &mut self.lag {
            lag.missed += 1;
        } else if self.is_subscribed() {
            self.has_hidden_change = is_unreadable;
            self.to_client.push_back(text);
        }
    }

    /// A frame without a place in the log.
    fn tell(&mut self, frame: &Value) {
        if let Some(lag) = &mut self.lag {
            lag.misses_presence = true;
        } else if self.is_subscribed() {
            self.to_client.push_back(frame.to_string());
        }
    }

    fn tell_presence(&mut self) {
        let mode = mode_name(self.mode);
        let frame = json!({"event": "presence", "roomId": "r", "mode": mode, "num": self.num(), "users": self.users()});
        self.tell(&frame);
    }

    pub(super) fn lag(&mut self) {
        if self.is_subscribed() && self.lag.is_none() {
            self.lag = Some(Lag::default());
        }
    }

    pub(super) fn catch_up(&mut self) {
        let Some(lag) = self.lag.take() else { return };
        if lag.missed > 0 {
            let lagged = json!({"event": "lagged", "roomId": "r", "missed": lag.missed});
            self.to_client.push_back(lagged.to_string());
        }
        if lag.misses_presence {
            self.tell_presence();
        }
    }

    pub(super) fn put_out(&mut self) {
        if self.is_subscribed() {
            self.catch_up();
            let left = json!({"event": "left", "roomId": "r", "code": "internal", "message": "out"});
            self.to_client.push_back(left.to_string());
            let session = self.session.take().unwrap();
            self.remove(&session.member);
        }
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_subscribed)
    }

    pub(super) fn is_lagging(&self) -> bool {
        self.lag.is_some()
    }

    pub(super) fn has_hidden_change(&self) -> bool {
        self.has_hidden_change
    }

    pub(super) fn num(&self) -> u64 {
        self.visible().count() as u64
    }

    pub(super) fn users(&self) -> u64 {
        self.visible().filter_map(Member::user).collect::<BTreeSet<_>>().len() as u64
    }

    /// Each member as text. The client's own one is marked.
    pub(super) fn roster(&self) -> Vec<String> {
        let own = self.own().map(|member| member.id.clone());
        let text = |member: &Member| {
            let state = if member.state.is_null() { String::new() } else { member.state.to_string() };
            let mark = if own.as_ref() == Some(&member.id) { "*" } else { "" };
            format!("{} {} {state}{mark}", member.id, member.name)
        };
        self.visible().map(text).collect()
    }

    pub(super) fn own_state(&self) -> Option<&Value> {
        self.own().map(|member| &member.state)
    }

    /// Whether the client is hidden, and whether it is read-only.
    pub(super) fn rights(&self) -> (bool, bool) {
        let is_hidden = self.own().is_some_and(|member| member.is_hidden);
        (is_hidden, is_hidden)
    }

    fn own(&self) -> Option<&Member> {
        self.member(&self.session.as_ref()?.member)
    }

    fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    fn visible(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_hidden)
    }

    fn epoch(&self) -> String {
        self.epoch.to_string()
    }
}

impl Member {
    /// Its entry in a roster.
    fn entry(&self) -> Value {
        let mut entry = json!({"member": self.id, "name": self.name});
        self.user().into_iter().for_each(|user| entry["user"] = json!(user));
        if !self.state.is_null() {
            entry["state"] = self.state.clone();
        }
        entry
    }

    fn user(&self) -> Option<String> {
        let n: u64 = self.id.strip_prefix("other ")?.parse().ok()?;
        (n > 1).then(|| format!("user {}", n % 2))
    }
}

fn other(n: u64) -> String {
    format!("other {n}")
}

fn mode_name(mode: PresenceMode) -> &'static str {
    match mode {
        PresenceMode::Full => "full",
        PresenceMode::Count => "count",
        PresenceMode::Quiet => "quiet",
    }
}
