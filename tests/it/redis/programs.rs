//! Programs in other languages that send to rooms, as `docs/redis.md` says.

use std::process::{Command, Stdio};

use serde_json::json;
use tower_chat_rooms::{Admission, ChatRooms, RedisPublisher, RedisSettings, SendError};
use tower_chat_rooms_protocol::SERVER_EVENTS;

use super::{Server, redis_cli};
use crate::support::{Client, enter_frame, take_id, unlimited};

/// The first block of code in this language.
fn block_of_docs(language: &str) -> String {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/redis.md")).unwrap();
    let begin = format!("```{language}\n");
    let (_, rest) = docs.split_once(&begin).unwrap_or_else(|| panic!("docs/redis.md has no {language}"));
    rest.split_once("```").unwrap().0.to_owned()
}

/// What a program has written.
fn run(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?} has failed");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A client in the room of the docs.
async fn client(rooms: &ChatRooms) -> Client {
    let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.send(enter_frame("ann", "order-17")).await;
    client.next_of("enter").await;
    client
}

/// The next frame is this one of the host.
async fn expect_notice(client: &mut Client, message: &str, seq: u64) {
    let mut frame = client.next().await;
    take_id(&mut frame);
    let want = json!({"event": "notice", "message": message, "roomId": "order-17", "seq": seq, "num": 1});
    assert_eq!(frame, want);
}

#[tokio::test]
#[ignore = "needs redis-server and redis-cli"]
async fn a_shell_sends_to_a_room() {
    let server = Server::start().await;
    let rooms = server.node(unlimited()).await;
    let mut ann = client(&rooms).await;
    let socket = format!("redis-cli -s {}/socket ", server.directory.display());
    let script = block_of_docs("sh").replace("redis-cli ", &socket);
    for _ in 0..2 {
        assert_eq!(run(Command::new("sh").args(["-c", &script])), "1");
    }
    expect_notice(&mut ann, "Stock is low.", 2).await;
    // It was sent once.
    rooms.send("order-17", &json!({"event": "notice", "message": "last"})).unwrap();
    expect_notice(&mut ann, "last", 3).await;
    ann.disconnect().await;
    rooms.shutdown().await;
}

#[tokio::test]
#[ignore = "needs redis-server, and Python with its module redis"]
async fn a_program_in_python_sends_to_a_room() {
    let has_redis = |python: &&str| {
        let import = Command::new(python).args(["-c", "import redis"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_redis) else {
        eprintln!("skipped: Python has no module redis; install python3-redis");
        return;
    };
    let server = Server::start().await;
    let rooms = server.node(unlimited()).await;
    let mut ann = client(&rooms).await;
    let url = format!("unix://{}/socket", server.directory.display());
    let program = block_of_docs("python").replace("redis://127.0.0.1:6379", &url);
    assert!(program.contains(&url));
    let refused = r#"
for wrong in [{"event": "welcome"}, '{"event": "x", "event": "y"}']:
    try:
        text = wrong if isinstance(wrong, str) else json.dumps(wrong)
        r.fcall("chat_publish", 1, "chat", "order-17", text)
    except redis.ResponseError as error:
        print(error)
"#;
    let output = run(Command::new(python).args(["-c", &(program + refused)]));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "1 members get it");
    assert!(lines[1].contains(r#"the event "welcome" belongs to the protocol"#), "{output}");
    assert!(lines[2].contains(r#"the key "event" twice"#), "{output}");
    expect_notice(&mut ann, "Your order has been shipped.", 2).await;
    ann.disconnect().await;
    rooms.shutdown().await;
}

/// No program can send a frame that looks as if the server itself had sent it.
#[tokio::test]
#[ignore = "needs redis-server and redis-cli"]
async fn no_event_of_the_protocol_is_sent_for_a_program() {
    let server = Server::start().await;
    let rooms = server.node(unlimited()).await;
    let socket = server.directory.join("socket");
    let publisher = RedisPublisher::connect(RedisSettings::new(server.url())).await.unwrap();
    for event in SERVER_EVENTS.into_iter().chain(["enter", "auth", "leave", "resume"]) {
        let object = json!({"event": event});
        let answer = redis_cli(&socket, &["FCALL", "chat_publish", "1", "chat", "r", &object.to_string()]);
        assert!(answer.concat().contains("belongs to the protocol"), "{answer:?}");
        for sent in [
            publisher.send("r", &object).await.map(|_| ()),
            publisher.send_transient("r", &object).await,
            publisher.broadcast(&object).await,
            publisher.send_to_user("u", &object).await,
        ] {
            assert!(matches!(sent, Err(SendError::ReservedEvent)), "{event}: {sent:?}");
        }
    }
    rooms.shutdown().await;
}

/// The rights in the docs are enough.
#[tokio::test]
#[ignore = "needs redis-server and redis-cli"]
async fn a_user_with_few_rights_sends_to_a_room() {
    let server = Server::start().await;
    let rooms = server.node(unlimited()).await;
    let mut ann = client(&rooms).await;
    let socket = format!("{}/socket", server.directory.display());
    let rights = block_of_docs("acl");
    let rights: Vec<&str> = rights.split_whitespace().collect();
    assert_eq!(run(Command::new("redis-cli").args(["-s", &socket]).args(&rights)), "OK");
    let user = ["-s", &socket, "--no-auth-warning", "--user", "worker", "--pass", "secret"];
    let call =
        ["FCALL", "chat_publish", "1", "chat", "order-17", r#"{"event":"notice","message":"hi"}"#, "k"];
    for _ in 0..2 {
        assert_eq!(run(Command::new("redis-cli").args(user).args(call)), "1");
    }
    expect_notice(&mut ann, "hi", 2).await;
    ann.disconnect().await;
    rooms.shutdown().await;
}
