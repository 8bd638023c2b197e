//! The golden transcripts, played against the server: the test sends the clients' frames and compares the server's.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tower_chat_rooms::store::MemoryStore;
use tower_chat_rooms::{
    Access, Admission, ChatRooms, Denied, DirectRequest, EnterRequest, Heartbeat, History, Limits, Presence,
    Recovery, RoomPolicy, User, Verdict,
};

use crate::support::{Client, Next, builder, events_arrive, run_other_tasks};

/// Longer than any pause in a transcript.
const PATIENCE: Duration = Duration::from_secs(60);

/// A transcript being played.
struct Play {
    rooms: ChatRooms,
    /// The settings of the server.
    settings: Value,
    /// It outlives the server.
    store: MemoryStore,
    /// The rooms that the host lets nobody enter.
    denied: Denials,
    clients: BTreeMap<String, Client>,
    /// Frames that have arrived before those of other rooms that come first in the transcript.
    early: BTreeMap<String, VecDeque<Value>>,
    /// The values of the transcript's placeholders.
    placeholders: HashMap<String, String>,
    /// How many frames of the server were compared.
    compared: usize,
}

type Denials = Arc<Mutex<BTreeSet<String>>>;

#[tokio::test(start_paused = true)]
async fn the_server_follows_every_transcript() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap() != "README.md");
    // A transcript that is lost or renamed must not go unnoticed.
    assert!(files.len() >= 25, "{files:?}");
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy();
        assert!(name.ends_with(".jsonl"), "{name} is not a transcript");
        let compared = play(&name, &fs::read_to_string(&file).unwrap()).await;
        assert!(compared > 0, "{name} has no frame of the server");
    }
}

/// Plays a transcript. Returns how many frames of the server were compared.
async fn play(name: &str, text: &str) -> usize {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    let mut steps = lines.map(|(n, line)| (n + 1, serde_json::from_str::<Value>(line).expect(line)));
    let (_, head) = steps.next().expect("a head");
    let denied = Denials::default();
    let (settings, store) = (head["server"].clone(), MemoryStore::new());
    let mut play = Play {
        rooms: rooms(&settings, &store, denied.clone()),
        settings,
        store,
        denied,
        clients: BTreeMap::new(),
        early: BTreeMap::new(),
        placeholders: HashMap::new(),
        compared: 0,
    };
    for (line, step) in steps {
        play.step(&format!("{name}:{line}"), &step).await;
    }
    play.assert_no_more_frames(name).await;
    play.compared
}

/// What a transcript's host allows.
struct Policy {
    denied: Denials,
    settings: Value,
}

impl RoomPolicy for Policy {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        let room = request.room().as_str();
        if self.denied.lock().unwrap().contains(room) {
            return Err(Denied::new("the host lets nobody enter this room"));
        }
        let has =
            |list: &str| self.settings[list].as_array().is_some_and(|rooms| rooms.contains(&room.into()));
        Ok(match (has("readOnly"), has("hidden")) {
            (true, _) => Access::member().read_only(),
            (_, true) => Access::member().hidden(),
            _ => Access::member(),
        })
    }

    fn may_send_direct(&self, _: &DirectRequest<'_>) -> Verdict {
        if self.settings["direct"] == true { Verdict::allow() } else { Verdict::refuse("not here") }
    }
}

fn rooms(settings: &Value, store: &MemoryStore, denied: Denials) -> ChatRooms {
    let (mut recovery, mut limits) = (Recovery::default(), Limits::default());
    let (mut heartbeat, mut v1_heartbeat) = (Heartbeat::default(), Heartbeat::wide_internet());
    let (mut presence, mut transient) = (Presence::Full, Vec::new());
    for (key, value) in settings.as_object().unwrap() {
        let n = || value.as_u64().unwrap();
        match key.as_str() {
            "resumeWindow" => recovery = recovery.resume_window(Duration::from_millis(n())),
            "heartbeat" => heartbeat = Heartbeat::every(Duration::from_millis(n())),
            "v1Heartbeat" => v1_heartbeat = Heartbeat::every(Duration::from_millis(n())),
            "history" => recovery = recovery.history(History::last(n() as usize)),
            "rooms" => limits = limits.max_memberships(n() as usize),
            "presence" => presence = presence_of(value),
            "transient" => transient = serde_json::from_value::<Vec<String>>(value.clone()).unwrap(),
            "readOnly" | "hidden" | "direct" | "store" => {}
            other => panic!("unknown setting: {other}"),
        }
    }
    let builder = match settings["store"] == true {
        // There may be no broker then.
        true => ChatRooms::builder().store(store.clone()),
        false => builder(),
    };
    builder
        .heartbeat(heartbeat)
        .v1_heartbeat(v1_heartbeat)
        .recovery(recovery)
        .limits(limits)
        .presence(presence)
        .transient_events(transient)
        .policy(Policy { denied, settings: settings.clone() })
        .build()
        .unwrap()
}

fn presence_of(setting: &Value) -> Presence {
    match setting.as_str() {
        Some("full") => Presence::Full,
        Some("count") => Presence::Count,
        Some("quiet") => Presence::Quiet,
        _ => {
            let [on, off] = serde_json::from_value(setting["auto"].clone()).unwrap();
            Presence::auto(on, off).unwrap()
        }
    }
}

impl Play {
    async fn step(&mut self, at: &str, step: &Value) {
        let name_of = |key: &str| step[key].as_str();
        if let Some(name) = name_of("open") {
            let client = self.open(name_of("protocol"), step).await;
            self.clients.insert(name.into(), client);
        } else if let Some(name) = name_of("from") {
            let frame = self.outgoing(&step["frame"]);
            self.client(at, name).send(frame).await;
        } else if let Some(name) = name_of("to") {
            let frame = self.next_of(at, name, &step["frame"]["roomId"]).await;
            self.compare(at, &step["frame"], &frame);
        } else if let Some(name) = name_of("cut") {
            // The others may know of an enter before its own connection does.
            events_arrive().await;
            self.clients.remove(name).expect(at).disconnect().await;
        } else if let Some(name) = name_of("close") {
            let code = step["code"].as_u64().unwrap() as u16;
            let mut client = self.clients.remove(name).expect(at);
            if step["by"] == "client" {
                client.close_with(code).await;
            } else {
                assert_eq!(client.close_code().await, code, "{at}");
            }
        } else if let Some(action) = name_of("host") {
            self.host(at, action, step).await;
        } else if let Some(millis) = step["pass"].as_u64() {
            self.pass(Duration::from_millis(millis)).await;
        } else {
            let of_clients = ["app", "settled", "state", "event", "presence"];
            assert!(of_clients.iter().any(|key| step.get(*key).is_some()), "{at}: unknown step: {step}");
        }
    }

    async fn host(&mut self, at: &str, action: &str, step: &Value) {
        let text = |key: &str| step[key].as_str().expect(at);
        match action {
            "close" => assert!(self.rooms.close_room(text("room")) > 0, "{at}"),
            "deny" => assert!(self.denied.lock().unwrap().insert(text("room").into()), "{at}"),
            "send" => {
                let sent = self.rooms.send_to_user(text("user"), &step["frame"]).unwrap();
                assert_eq!(sent as u64, step["reached"].as_u64().expect(at), "{at}");
            }
            "restart" => {
                self.rooms.shutdown().await;
                // The ids of messages and connections have milliseconds.
                std::thread::sleep(Duration::from_millis(2));
                self.rooms = rooms(&self.settings, &self.store, self.denied.clone());
            }
            "info" => {
                let member = self.placeholders[text("member")].parse().unwrap();
                self.rooms.set_info(text("room"), member, &step["info"]).unwrap();
            }
            _ => panic!("{at}: unknown action of the host: {action}"),
        }
    }

    fn client(&mut self, at: &str, name: &str) -> &mut Client {
        self.clients.get_mut(name).unwrap_or_else(|| panic!("{at}: {name} is not open"))
    }

    /// The next frame of a room, or the next one that concerns no room. There is no order between them.
    async fn next_of(&mut self, at: &str, name: &str, room: &Value) -> Value {
        let mut early = self.early.remove(name).unwrap_or_default();
        let frame = match early.iter().position(|frame| frame["roomId"] == *room) {
            Some(n) => early.remove(n).unwrap(),
            None => loop {
                // Heartbeats would go on for ever.
                match timeout(PATIENCE, self.client(at, name).next_or_close()).await {
                    Err(_) => panic!("{at}: no frame comes after {early:?}"),
                    Ok(Next::Frame(frame)) if frame["roomId"] == *room => break frame,
                    Ok(Next::Frame(frame)) => early.push_back(frame),
                    Ok(Next::Closed(code)) => panic!("{at}: closed with {code} after {early:?}"),
                }
            },
        };
        self.early.insert(name.into(), early);
        frame
    }

    async fn open(&self, subprotocol: Option<&str>, step: &Value) -> Client {
        let mut admission = match step["user"].as_str() {
            Some(id) => Admission::user(User::new(id).with_info(&step["info"]).unwrap()),
            None => Admission::anonymous(),
        };
        if let Some(subprotocol) = subprotocol {
            admission = admission.with_protocol(subprotocol.parse().unwrap());
        }
        Client::connect_as(&self.rooms, admission, 64 * 1024).await
    }

    /// A client's frame with the values of its placeholders. Clients choose the ids of their messages.
    fn outgoing(&mut self, frame: &Value) -> Value {
        if let Some(cid) = frame["cid"].as_str().filter(|cid| cid.starts_with('$')) {
            self.placeholders.entry(cid.into()).or_insert_with(|| format!("value of {cid}"));
        }
        fill(frame, &self.placeholders)
    }

    fn compare(&mut self, at: &str, expected: &Value, actual: &Value) {
        let mut actual = actual.clone();
        if let Some(rooms) = actual.get_mut("rooms").and_then(Value::as_array_mut) {
            // They come in any order.
            rooms.sort_by_key(|room| room["roomId"].as_str().map(str::to_owned));
        }
        let matches = matches(expected, &actual, &mut self.placeholders);
        assert!(matches, "{at}:\nexpected {expected}\nactual   {actual}\nwith {:?}", self.placeholders);
        self.compared += 1;
    }

    /// Lets time pass, and answers heartbeats.
    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for client in self.clients.values_mut() {
                client.answer_heartbeats().await;
            }
            sleep(Duration::from_millis(100).min(end - Instant::now())).await;
        }
    }

    /// Asserts that the transcript has every frame that the server has sent.
    async fn assert_no_more_frames(&mut self, name: &str) {
        run_other_tasks().await;
        self.early.retain(|_, frames| !frames.is_empty());
        assert!(self.early.is_empty(), "{name}: {:?}", self.early);
        for (client, connection) in &mut self.clients {
            println!("{name}: {client} has only heartbeats left");
            connection.answer_heartbeats().await;
        }
    }
}

/// Whether a value is the expected one. A placeholder matches any text or number at first, and the same one from then on.
fn matches(expected: &Value, actual: &Value, placeholders: &mut HashMap<String, String>) -> bool {
    match (expected, actual) {
        (Value::String(name), Value::String(text)) if name.starts_with('$') => {
            placeholders.entry(name.clone()).or_insert_with(|| text.clone()) == text
        }
        (Value::String(name), Value::Number(number)) if name.starts_with('#') => {
            let text = number.to_string();
            *placeholders.entry(name.clone()).or_insert_with(|| text.clone()) == text
        }
        (Value::Object(expected), Value::Object(actual)) => {
            let same =
                |(key, value)| actual.get(key).is_some_and(|actual| matches(value, actual, placeholders));
            expected.len() == actual.len() && expected.iter().all(same)
        }
        (Value::Array(expected), Value::Array(actual)) => {
            let mut pairs = expected.iter().zip(actual);
            expected.len() == actual.len() && pairs.all(|(e, a)| matches(e, a, placeholders))
        }
        _ => expected == actual,
    }
}

/// Replaces placeholders by their values.
fn fill(value: &Value, placeholders: &HashMap<String, String>) -> Value {
    match value {
        Value::String(text) if text.starts_with('#') => match placeholders.get(text) {
            Some(number) => number.parse::<u64>().unwrap().into(),
            None => value.clone(),
        },
        Value::String(text) => placeholders.get(text).unwrap_or(text).clone().into(),
        Value::Object(object) => object.iter().map(|(key, v)| (key.clone(), fill(v, placeholders))).collect(),
        Value::Array(array) => array.iter().map(|value| fill(value, placeholders)).collect(),
        other => other.clone(),
    }
}
