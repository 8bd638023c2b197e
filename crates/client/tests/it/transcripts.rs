//! The golden transcripts drive the Rust client, this test being its server.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower_chat_rooms_client::{Client, ClientError, ClientEvent, ClientState, Sending};

use crate::scripted_server::{Heard, Line, Lines, PATIENCE, lines};

/// A conversation under way.
struct Play {
    lines: Lines,
    open: HashMap<String, Line>,
    /// The texts that were not known beforehand.
    known: HashMap<String, String>,
    heartbeat: Duration,
    stage: Stage,
    told: Vec<ClientEvent>,
    /// The events before that one were expected already.
    seen: usize,
    sendings: HashMap<String, Sending>,
}

enum Stage {
    Connecting(JoinHandle<Result<Client, ClientError>>),
    There(Client),
    Refused,
}

#[tokio::test(start_paused = true)]
async fn all_that_have_a_client() {
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
        let mut play = Play::begin(&head);
        for (line, step) in steps {
            let at = format!("{}:{line}", file.file_name().unwrap().display());
            play.step(&at, &step).await;
        }
        played += 1;
    }
    assert!(played >= 2, "{played}");
}

impl Play {
    fn begin(head: &Value) -> Play {
        let (mut builder, lines) = lines();
        for (key, value) in head["client"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            builder = match &**key {
                "name" => builder.name(value),
                "room" => builder.room(value),
                "token" => builder.token(value),
                key => panic!("a client's {key} is not known"),
            };
        }
        Play {
            lines,
            open: HashMap::new(),
            known: HashMap::new(),
            heartbeat: Duration::from_millis(head["server"]["heartbeat"].as_u64().unwrap_or(1000)),
            stage: Stage::Connecting(tokio::spawn(builder.open())),
            told: Vec::new(),
            seen: 0,
            sendings: HashMap::new(),
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
            let line = self.lines.accept(self.heartbeat).await;
            self.open.insert(name.into(), line);
            return;
        }
        let line = self.open.get_mut(name).unwrap_or_else(|| panic!("{at}: {name} is not open"));
        if step.get("from").is_some() {
            let frame = line.frame().await;
            self.compare(at, &step["frame"], &frame);
        } else if step.get("to").is_some() {
            let frame = fill(&step["frame"], &mut self.known);
            line.say(frame);
        } else if step.get("cut").is_some() {
            line.cut();
        } else if step["by"] == "client" {
            let code = step["code"].as_u64().unwrap() as u16;
            assert_eq!(line.hear().await, Heard::Closed(code), "{at}");
        } else {
            let reason = step["reason"].as_str().unwrap_or_default();
            line.close(step["code"].as_u64().unwrap() as u16, reason);
        }
    }

    async fn beside(&mut self, at: &str, step: &Value) {
        if let Some(ms) = step["pass"].as_u64() {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        } else if step["app"] == "send" {
            let sending = self.client(at).await.sender().send(&step["message"]);
            self.sendings.insert(step["as"].as_str().unwrap().into(), sending);
        } else if step["app"] == "leave" {
            let sender = self.client(at).await.sender();
            tokio::spawn(async move { sender.leave().await });
        } else if let Some(name) = step["settled"].as_str() {
            let sending = self.sendings.remove(name).unwrap_or_else(|| panic!("{at}: {name} is unknown"));
            let result = timeout(PATIENCE, sending).await.unwrap_or_else(|_| panic!("{at}: not settled"));
            let settled = match result {
                Ok(seq) => json!({"settled": name, "seq": seq}),
                Err(ClientError::Refused { code, .. }) => json!({"settled": name, "error": code}),
                Err(other) => json!({"settled": name, "error": other.to_string()}),
            };
            assert_eq!(&settled, step, "{at}");
        } else if let Some(state) = step["state"].as_str() {
            self.reach(at, state).await;
        } else if step.get("event").is_some() {
            self.expect(at, step).await;
        } else {
            panic!("{at}: a step that is not known: {step}");
        }
    }

    async fn client(&mut self, at: &str) -> &mut Client {
        if let Stage::Connecting(task) = &mut self.stage {
            let opened = timeout(PATIENCE, task).await.unwrap_or_else(|_| panic!("{at}: not connected"));
            self.stage = opened.unwrap().map_or(Stage::Refused, Stage::There);
        }
        match &mut self.stage {
            Stage::There(client) => client,
            _ => panic!("{at}: the client was refused"),
        }
    }

    /// Until the client is in this state.
    async fn reach(&mut self, at: &str, state: &str) {
        let state = match state {
            "online" => ClientState::Online,
            "reconnecting" => ClientState::Reconnecting,
            "closed" => ClientState::Closed,
            "connecting" => return assert!(matches!(self.stage, Stage::Connecting(_)), "{at}"),
            other => panic!("{at}: a state that is not known: {other}"),
        };
        if state == ClientState::Closed
            && let Stage::Connecting(task) = &mut self.stage
        {
            // The first connection was refused for good.
            assert!(timeout(PATIENCE, task).await.unwrap().unwrap().is_err(), "{at}");
            self.stage = Stage::Refused;
            return;
        }
        let is = |event: &ClientEvent| match event {
            ClientEvent::State(state) => Some(*state),
            _ => None,
        };
        while self.told.iter().rev().find_map(is) != Some(state) {
            self.listen(at).await;
        }
    }

    /// Until the application was told of this frame.
    async fn expect(&mut self, at: &str, wanted: &Value) {
        loop {
            while let Some(event) = self.told.get(self.seen) {
                self.seen += 1;
                let (ClientEvent::Enter(frame)
                | ClientEvent::Out(frame)
                | ClientEvent::Message(frame)
                | ClientEvent::Direct(frame)) = event
                else {
                    continue;
                };
                let object = frame.object().clone();
                let matches = |(key, value)| object.get(key) == Some(value);
                if fill(wanted, &mut self.known).as_object().unwrap().iter().all(matches) {
                    return;
                }
            }
            self.listen(at).await;
        }
    }

    async fn listen(&mut self, at: &str) {
        let event = timeout(PATIENCE, self.client(at).await.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("{at}: the client tells nothing"));
        self.told.push(event.unwrap_or_else(|| panic!("{at}: the client has ended")));
    }

    /// Whether the frame is the expected one, of which some texts may become known by it.
    fn compare(&mut self, at: &str, expected: &Value, actual: &Value) {
        learn(expected, actual, &mut self.known);
        assert_eq!(&fill(expected, &mut self.known), actual, "{at}");
    }
}

/// Takes over what stands where the expected value has a text that is not known.
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

/// The value with every text that is known, and one of its own for those that are not yet.
fn fill(value: &Value, known: &mut HashMap<String, String>) -> Value {
    match value {
        Value::String(name) if name.starts_with('$') => {
            let fresh = format!("value of {name}");
            json!(known.entry(name.clone()).or_insert(fresh))
        }
        Value::Object(object) => {
            object.iter().map(|(key, value)| (key.clone(), fill(value, known))).collect()
        }
        Value::Array(array) => array.iter().map(|value| fill(value, known)).collect(),
        other => other.clone(),
    }
}
