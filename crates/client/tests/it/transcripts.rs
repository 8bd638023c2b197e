//! The golden transcripts drive the client; the test is its server.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch::{self, Receiver};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower_chat_rooms_client::{
    ChatHandle, Client, ClientError, ClientEvent, ClientState, HistoryPage, Member, Presence, PresenceMode,
    Sending,
};

use crate::scripted_server::{
    Connection, PATIENCE, Received, ScriptedServer, scripted_server, scripted_server_of_chat,
};

/// A transcript being played.
struct Play {
    server: ScriptedServer,
    open: HashMap<String, Connection>,
    /// The values of the transcript's placeholders.
    known: HashMap<String, String>,
    heartbeat: Duration,
    /// The client's name in all rooms.
    name: String,
    /// The room that it enters first.
    first: String,
    /// Where the client has several rooms.
    chat: Option<Receiver<Option<ChatHandle>>>,
    rooms: HashMap<String, Room>,
    sendings: HashMap<String, Sending>,
    readings: HashMap<String, JoinHandle<Result<HistoryPage, ClientError>>>,
}

/// A room of the client.
struct Room {
    stage: Stage,
    events: Vec<ClientEvent>,
    /// How many of the events were expected already.
    seen: usize,
}

enum Stage {
    Connecting(JoinHandle<Result<Client, ClientError>>),
    Connected(Client),
    Refused,
}

#[tokio::test(start_paused = true)]
async fn the_client_follows_every_transcript() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
    files.sort();
    let mut played = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
        let mut steps = lines.map(|(n, line)| (n + 1, serde_json::from_str::<Value>(line).unwrap()));
        let (_, head) = steps.next().unwrap();
        if head.get("client").is_none() {
            continue;
        }
        let has_rooms = text.contains(r#"{"app": "enter""#);
        let mut play = Play::begin(&head, has_rooms);
        for (line, step) in steps {
            let at = format!("{}:{line}", file.file_name().unwrap().display());
            play.step(&at, &step).await;
        }
        assert!(text.contains(r#"{"from": "a"#), "{} has no frame of the client", file.display());
        played += 1;
    }
    // A transcript that is lost or renamed must not go unnoticed.
    assert!(played >= 24, "{played}");
}

impl Play {
    fn begin(head: &Value, has_rooms: bool) -> Play {
        let setting = |key: &str| head["client"][key].as_str().unwrap_or_default().to_owned();
        let (name, first, token) = (setting("name"), setting("room"), head["client"]["token"].as_str());
        let mut play = if has_rooms {
            let (mut builder, server) = scripted_server_of_chat();
            builder = token.into_iter().fold(builder, |builder, token| builder.token(token));
            let (handle, handles) = watch::channel(None);
            let (room, member) = (first.clone(), name.clone());
            let connecting = tokio::spawn(async move {
                let mut chat = builder.open().await?;
                handle.send_replace(Some(chat.handle()));
                let client = chat.join(room, member).await;
                // Its events are not those of a room, but it has to stay.
                tokio::spawn(async move { while chat.recv().await.is_some() {} });
                client
            });
            Play::of(server, Stage::Connecting(connecting), &first, Some(handles))
        } else {
            let (mut builder, server) = scripted_server();
            builder = token
                .into_iter()
                .fold(builder.name(&name).room(&first), |builder, token| builder.token(token));
            if let Some(messages) = head["client"]["history"].as_u64() {
                builder = builder.history(messages as usize);
            }
            let connecting = tokio::spawn(builder.open());
            Play::of(server, Stage::Connecting(connecting), &first, None)
        };
        play.heartbeat = Duration::from_millis(head["server"]["heartbeat"].as_u64().unwrap_or(1000));
        play.name = name;
        play
    }

    fn of(
        server: ScriptedServer,
        stage: Stage,
        first: &str,
        chat: Option<Receiver<Option<ChatHandle>>>,
    ) -> Play {
        Play {
            server,
            open: HashMap::new(),
            known: HashMap::new(),
            heartbeat: Duration::ZERO,
            name: String::new(),
            first: first.to_owned(),
            chat,
            rooms: HashMap::from([(first.to_owned(), Room::new(stage))]),
            sendings: HashMap::new(),
            readings: HashMap::new(),
        }
    }

    async fn step(&mut self, at: &str, step: &Value) {
        let connection = ["open", "from", "to", "cut", "close"].iter().find_map(|key| step[*key].as_str());
        match connection {
            Some(name) if name.starts_with('a') => self.on_connection(at, name, step).await,
            Some(_) => {}
            None => self.beside(at, step).await,
        }
    }

    async fn on_connection(&mut self, at: &str, name: &str, step: &Value) {
        if step.get("open").is_some() {
            assert_eq!(step["protocol"], "chat-rooms.v1", "{at}");
            let connection = self.server.accept(self.heartbeat).await;
            self.open.insert(name.into(), connection);
            return;
        }
        let connection = self.open.get_mut(name).unwrap_or_else(|| panic!("{at}: {name} is not open"));
        if step.get("from").is_some() {
            let frame = connection.frame().await;
            self.compare(at, &step["frame"], &frame);
        } else if step.get("to").is_some() {
            let frame = fill(&step["frame"], &mut self.known);
            connection.send(frame);
        } else if step.get("cut").is_some() {
            connection.break_off();
        } else if step["by"] == "client" {
            let code = step["code"].as_u64().unwrap() as u16;
            assert_eq!(connection.receive().await, Received::Closed(code), "{at}");
        } else {
            let reason = step["reason"].as_str().unwrap_or_default();
            connection.close(step["code"].as_u64().unwrap() as u16, reason);
        }
    }

    async fn beside(&mut self, at: &str, step: &Value) {
        if step.get("host").is_some() {
            return;
        }
        let id = step["room"].as_str().or_else(|| step["roomId"].as_str()).unwrap_or(&self.first).to_owned();
        if let Some(ms) = step["pass"].as_u64() {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        } else if let Some(app) = step["app"].as_str() {
            self.act(at, app, &id, step).await;
        } else if let Some(name) = step["settled"].as_str().filter(|_| step.get("messages").is_some()) {
            let reading = self.readings.remove(name).unwrap_or_else(|| panic!("{at}: {name} is unknown"));
            let page = timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("{at}: not resolved"));
            let page = page.unwrap().unwrap();
            let messages: Vec<&Value> = page.messages.iter().map(|frame| frame.message()).collect();
            let settled = json!({"settled": name, "messages": messages, "more": page.has_more});
            assert_eq!(&settled, step, "{at}");
        } else if let Some(name) = step["settled"].as_str() {
            let sending = self.sendings.remove(name).unwrap_or_else(|| panic!("{at}: {name} is unknown"));
            let result = timeout(PATIENCE, sending).await.unwrap_or_else(|_| panic!("{at}: not resolved"));
            let settled = match result {
                Ok(number) => {
                    let key = if step.get("reached").is_some() { "reached" } else { "seq" };
                    json!({"settled": name, key: number})
                }
                Err(ClientError::Refused { code, .. }) => json!({"settled": name, "error": code}),
                Err(other) => json!({"settled": name, "error": other.to_string()}),
            };
            assert_eq!(&settled, step, "{at}");
        } else if let Some(state) = step["state"].as_str() {
            self.room(at, &id).reach(at, state).await;
        } else if let Some(presence) = step.get("presence") {
            let wanted = fill(presence, &mut self.known);
            self.room(at, &id).reach_presence(at, &wanted).await;
        } else if step.get("event").is_some() {
            let wanted = fill(step, &mut self.known);
            self.room(at, &id).expect(at, &wanted).await;
        } else {
            panic!("{at}: unknown step: {step}");
        }
    }

    /// Lets the application do something.
    async fn act(&mut self, at: &str, app: &str, id: &str, step: &Value) {
        match app {
            "send" => {
                let sending = self.room(at, id).client(at).await.sender().send(&step["message"]);
                self.sendings.insert(step["as"].as_str().unwrap().into(), sending);
            }
            "history" => {
                let range = fill(step, &mut self.known);
                let mut request = self.room(at, id).client(at).await.sender().history();
                request =
                    range["before"].as_u64().into_iter().fold(request, |request, id| request.before(id));
                request = range["after"].as_u64().into_iter().fold(request, |request, id| request.after(id));
                if let Some(limit) = range["limit"].as_u64() {
                    request = request.limit(limit as usize);
                }
                let reading = tokio::spawn(request.into_future());
                self.readings.insert(step["as"].as_str().unwrap().into(), reading);
            }
            "direct" => {
                let sender = self.room(at, id).client(at).await.sender();
                let sending = sender.send_to_user(step["user"].as_str().unwrap(), &step["message"]);
                self.sendings.insert(step["as"].as_str().unwrap().into(), sending);
            }
            "state" => self.room(at, id).client(at).await.sender().set_state(&step["state"]).unwrap(),
            "transient" => {
                let sender = self.room(at, id).client(at).await.sender();
                sender.send_transient(step["name"].as_str().unwrap(), &step["message"]).unwrap();
            }
            "enter" => {
                let chat = self.chat.as_ref().and_then(|chat| chat.borrow().clone()).unwrap();
                let (id, name) = (id.to_owned(), self.name.clone());
                let joining = tokio::spawn({
                    let id = id.clone();
                    async move { chat.join(id, name).await }
                });
                self.rooms.insert(id, Room::new(Stage::Connecting(joining)));
            }
            "leave" if step.get("room").is_none() && self.chat.is_some() => {
                let chat = self.chat.as_ref().and_then(|chat| chat.borrow().clone()).unwrap();
                tokio::spawn(async move { chat.close().await });
            }
            "leave" => {
                let sender = self.room(at, id).client(at).await.sender();
                tokio::spawn(async move { sender.leave().await });
            }
            app => panic!("{at}: unknown step of the application: {app}"),
        }
    }

    fn room(&mut self, at: &str, id: &str) -> &mut Room {
        self.rooms.get_mut(id).unwrap_or_else(|| panic!("{at}: {id} was not entered"))
    }

    /// Asserts that the frame is the expected one. Placeholders may get their values from it.
    fn compare(&mut self, at: &str, expected: &Value, actual: &Value) {
        learn(expected, actual, &mut self.known);
        assert_eq!(&fill(expected, &mut self.known), actual, "{at}");
    }
}

impl Room {
    fn new(stage: Stage) -> Room {
        Room { stage, events: Vec::new(), seen: 0 }
    }

    async fn client(&mut self, at: &str) -> &mut Client {
        if let Stage::Connecting(task) = &mut self.stage {
            let opened = timeout(PATIENCE, task).await.unwrap_or_else(|_| panic!("{at}: not connected"));
            self.stage = opened.unwrap().map_or(Stage::Refused, Stage::Connected);
        }
        match &mut self.stage {
            Stage::Connected(client) => client,
            _ => panic!("{at}: the client was refused"),
        }
    }

    /// Waits until the client is in this state in the room.
    async fn reach(&mut self, at: &str, state: &str) {
        if state == "connecting" {
            return assert!(matches!(self.stage, Stage::Connecting(_)), "{at}");
        }
        if state == "closed"
            && let Stage::Connecting(task) = &mut self.stage
        {
            // The first enter was refused for good.
            assert!(timeout(PATIENCE, task).await.unwrap().unwrap().is_err(), "{at}");
            self.stage = Stage::Refused;
        }
        if let (Stage::Refused, "closed") = (&self.stage, state) {
            return;
        }
        let told = |event: &ClientEvent| match event {
            ClientEvent::State(ClientState::Online) => Some("online"),
            ClientEvent::State(ClientState::Outside { .. }) => Some("outside"),
            ClientEvent::State(ClientState::Reconnecting { .. }) => Some("reconnecting"),
            ClientEvent::State(ClientState::Closed { .. }) => Some("closed"),
            _ => None,
        };
        while self.events.iter().rev().find_map(told) != Some(state) {
            self.receive(at).await;
        }
    }

    /// Waits until the application has received this frame.
    async fn expect(&mut self, at: &str, wanted: &Value) {
        loop {
            while let Some(event) = self.events.get(self.seen) {
                self.seen += 1;
                let (ClientEvent::Enter(frame)
                | ClientEvent::Out(frame)
                | ClientEvent::Message(frame)
                | ClientEvent::Transient(frame)
                | ClientEvent::Direct(frame)) = event
                else {
                    continue;
                };
                let object = frame.object().clone();
                let matches = |(key, value)| object.get(key) == Some(value);
                if wanted.as_object().unwrap().iter().all(matches) {
                    return;
                }
            }
            self.receive(at).await;
        }
    }

    /// Waits until the client knows this of the members.
    async fn reach_presence(&mut self, at: &str, wanted: &Value) {
        loop {
            let known = known_members(&self.client(at).await.presence());
            if wanted.as_object().unwrap().iter().all(|(key, value)| known.get(key) == Some(value)) {
                return;
            }
            println!("{at}: {known}");
            self.receive(at).await;
        }
    }

    async fn receive(&mut self, at: &str) {
        let event = timeout(PATIENCE, self.client(at).await.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("{at}: no event"));
        self.events.push(event.unwrap_or_else(|| panic!("{at}: the client has ended")));
    }
}

fn known_members(presence: &Presence) -> Value {
    let mode = match presence.mode() {
        PresenceMode::Full => "full",
        PresenceMode::Count => "count",
        _ => "quiet",
    };
    let known = |member: &Member| {
        let mut known = json!({"member": member.id(), "name": member.name()});
        let user = member.user().map(|user| json!(user));
        for (key, value) in [("user", user.as_ref()), ("info", member.info()), ("state", member.state())] {
            if let Some(value) = value {
                known[key] = value.clone();
            }
        }
        known
    };
    let members = presence.members().map(|members| members.iter().map(known).collect::<Vec<_>>());
    json!({"mode": mode, "num": presence.num(), "users": presence.users(), "members": members})
}

/// Gives the expected value's placeholders the values that they have in the actual one.
fn learn(expected: &Value, actual: &Value, known: &mut HashMap<String, String>) {
    match (expected, actual) {
        (Value::String(name), Value::String(text)) if name.starts_with('$') => {
            known.entry(name.clone()).or_insert_with(|| text.clone());
        }
        (Value::Object(expected), Value::Object(actual)) => {
            for (key, value) in expected {
                learn(value, actual.get(key).unwrap_or(&Value::Null), known);
            }
        }
        (Value::Array(expected), Value::Array(actual)) => {
            expected.iter().zip(actual).for_each(|(e, a)| learn(e, a, known));
        }
        _ => {}
    }
}

/// The numbers for placeholders begin here: ids of messages are as high.
const FIRST_NUMBER: u64 = 890_123_456_789_504;

/// Replaces placeholders by their values. One without a value gets one of its own.
fn fill(value: &Value, known: &mut HashMap<String, String>) -> Value {
    match value {
        Value::String(name) if name.starts_with('$') => {
            let fresh = format!("value of {name}");
            json!(known.entry(name.clone()).or_insert(fresh))
        }
        Value::String(name) if name.starts_with('#') => {
            let fresh = (FIRST_NUMBER + known.len() as u64).to_string();
            let text = known.entry(name.clone()).or_insert(fresh);
            json!(text.parse::<u64>().expect("a number"))
        }
        Value::Object(object) => {
            object.iter().map(|(key, value)| (key.clone(), fill(value, known))).collect()
        }
        Value::Array(array) => array.iter().map(|value| fill(value, known)).collect(),
        other => other.clone(),
    }
}
