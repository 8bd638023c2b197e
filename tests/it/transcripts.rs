//! The golden transcripts drive the server: the clients' parts are played, the server's expected.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tower_chat_rooms::{Admission, ChatRooms, Heartbeat, History, Recovery};

use crate::support::{Client, Next};

/// Whether a value is what the transcript says, where `$name` stands for any text at first.
fn matches(want: &Value, got: &Value, names: &mut HashMap<String, String>) -> bool {
    match (want, got) {
        (Value::String(want), Value::String(got)) if want.starts_with('$') => {
            names.entry(want.clone()).or_insert_with(|| got.clone()) == got
        }
        (Value::Object(want), Value::Object(got)) => {
            want.len() == got.len()
                && want.iter().all(|(key, want)| got.get(key).is_some_and(|got| matches(want, got, names)))
        }
        (Value::Array(want), Value::Array(got)) => {
            want.len() == got.len() && want.iter().zip(got).all(|(want, got)| matches(want, got, names))
        }
        _ => want == got,
    }
}

/// The value with all names filled in.
fn fill(value: &Value, names: &HashMap<String, String>) -> Value {
    match value {
        Value::String(text) => names.get(text).unwrap_or(text).clone().into(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), fill(value, names))).collect(),
        Value::Array(all) => all.iter().map(|value| fill(value, names)).collect(),
        other => other.clone(),
    }
}

fn rooms(settings: &Value) -> ChatRooms {
    let mut recovery = Recovery::default();
    let (mut heartbeat, mut v1_heartbeat) = (Heartbeat::default(), Heartbeat::wide_internet());
    for (key, value) in settings.as_object().unwrap() {
        let n = value.as_u64().unwrap();
        match key.as_str() {
            "resumeWindow" => recovery = recovery.resume_window(Duration::from_millis(n)),
            "heartbeat" => heartbeat = Heartbeat::every(Duration::from_millis(n)),
            "v1Heartbeat" => v1_heartbeat = Heartbeat::every(Duration::from_millis(n)),
            "history" => recovery = recovery.history(History::last(n as usize)),
            other => panic!("no such setting: {other}"),
        }
    }
    ChatRooms::builder().heartbeat(heartbeat).v1_heartbeat(v1_heartbeat).recovery(recovery).build().unwrap()
}

async fn open(rooms: &ChatRooms, protocol: Option<&str>) -> Client {
    let mut admission = Admission::anonymous();
    if let Some(protocol) = protocol {
        admission = admission.with_protocol(protocol.parse().unwrap());
    }
    Client::connect_as(rooms, admission, 64 * 1024).await
}

/// Lets everybody do what there is to do, and answers heartbeats, for so long.
async fn pass(clients: &mut BTreeMap<String, Client>, time: Duration) {
    let until = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < until {
        for client in clients.values_mut() {
            client.answer_heartbeats().await;
        }
        tokio::time::sleep(Duration::from_millis(100).min(until - tokio::time::Instant::now())).await;
    }
}

async fn play(file: &str, text: &str) {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut steps = lines.map(|line| serde_json::from_str::<Value>(line).expect(line));
    let rooms = rooms(&steps.next().expect("a head")["server"]);
    let mut clients: BTreeMap<String, Client> = BTreeMap::new();
    let mut names = HashMap::new();
    for step in steps {
        let at = format!("{file}: {step}");
        let of = |key: &str| step[key].as_str().map(str::to_owned);
        if let Some(name) = of("open") {
            clients.insert(name, open(&rooms, step["protocol"].as_str()).await);
        } else if let Some(name) = of("from") {
            let mut frame = fill(&step["frame"], &names);
            // A client chooses its texts itself.
            for key in ["cid"] {
                if let Some(text) = frame[key].as_str().filter(|text| text.starts_with('$')) {
                    names.insert(text.into(), text.replace('$', "of-"));
                    frame = fill(&frame, &names);
                }
            }
            clients.get_mut(&name).expect(&at).send(frame).await;
        } else if let Some(name) = of("to") {
            match clients.get_mut(&name).expect(&at).next_or_close().await {
                Next::Frame(got) => {
                    assert!(matches(&step["frame"], &got, &mut names), "{at}\ngot {got}\nnames {names:?}");
                }
                Next::Closed(code) => panic!("{at}\nclosed with {code}"),
            }
        } else if let Some(name) = of("cut") {
            clients.remove(&name).expect(&at).disconnect().await;
        } else if let Some(name) = of("close") {
            let code = step["code"].as_u64().unwrap() as u16;
            let mut client = clients.remove(&name).expect(&at);
            if step["by"] == "client" {
                client.close_with(code).await;
            } else {
                assert_eq!(client.close_code().await, code, "{at}");
            }
        } else if let Some(millis) = step["pass"].as_u64() {
            pass(&mut clients, Duration::from_millis(millis)).await;
        } else {
            let known = ["app", "settled", "state", "event"];
            assert!(known.iter().any(|key| step[*key].is_string()), "{at}: no such step");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_keeps_to_the_transcripts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut played = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "jsonl") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            play(&name, &fs::read_to_string(&path).unwrap()).await;
            played += 1;
        }
    }
    assert!(played >= 2, "{played}");
}
