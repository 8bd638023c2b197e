//! Who is in a room, as an application sees it.

use serde_json::{Value, json};
use tokio::time::timeout;
use tower_chat_rooms_client::{Client, ClientError, ClientEvent, Member, Presence, PresenceMode};

use crate::scripted_server::{
    Connection, HEARTBEAT, PATIENCE, ScriptedServer, entered, scripted_server, scripted_server_of_chat,
    welcome,
};

/// The next change of the presence.
async fn next_presence(client: &mut Client) -> Presence {
    loop {
        let event = timeout(PATIENCE, client.recv()).await.expect("no event").expect("the client has ended");
        if let ClientEvent::Presence(presence) = event {
            return presence;
        }
    }
}

fn names(presence: &Presence) -> Vec<&str> {
    presence.members().unwrap_or_default().iter().map(Member::name).collect()
}

/// The answer to an enter of a room with one other member, in full mode.
fn entered_full() -> Value {
    let mut frame = entered(0);
    let bob = json!({"member": "2", "name": "bob", "user": "u", "info": {"role": "host"}, "state": "busy"});
    for (key, value) in
        [("mode", json!("full")), ("num", json!(2)), ("users", json!(1)), ("members", json!([bob]))]
    {
        frame[key] = value;
    }
    frame
}

fn enter(seq: u64, num: u64, name: &str, member: &str) -> Value {
    json!({"event": "enter", "message": name, "name": name, "member": member, "num": num, "seq": seq, "roomId": "r"})
}

/// Accepts a connection and answers its enter. Returns what the client has sent.
async fn let_enter(server: &mut ScriptedServer, answer: Value) -> (Connection, Value) {
    let mut connection = server.accept(HEARTBEAT).await;
    connection.send(welcome());
    let frame = connection.frame().await;
    connection.send(answer);
    (connection, frame)
}

#[tokio::test(start_paused = true)]
async fn a_program_sees_who_is_in_the_room() {
    let (builder, mut server) = scripted_server();
    let (client, (connection, _)) = tokio::join!(builder.open(), let_enter(&mut server, entered_full()));
    let mut client = client.unwrap();
    connection.send(enter(1, 2, "ann", "1"));
    let mut presence = next_presence(&mut client).await;
    while presence.own().is_none() {
        presence = next_presence(&mut client).await;
    }
    assert_eq!(names(&presence), ["bob", "ann"]);
    assert_eq!((presence.mode(), presence.num(), presence.users()), (PresenceMode::Full, 2, 1));
    assert!(presence.is_complete() && presence.own().unwrap().is_own());
    let bob = presence.member("2").unwrap();
    assert_eq!(
        (bob.user(), bob.info(), bob.state()),
        (Some("u"), Some(&json!({"role": "host"})), Some(&json!("busy")))
    );
    assert!(!client.is_hidden() && !client.is_read_only());

    // The program takes no events meanwhile.
    for n in 2..50u64 {
        connection.send(enter(n, n + 1, &format!("n{n}"), &format!("n{n}")));
    }
    connection.send(json!({"event": "presence", "roomId": "r", "mode": "count", "num": 50, "users": 3}));
    client.sender().set_state(&json!(1)).unwrap();
    while client.presence().mode() != PresenceMode::Count {
        tokio::task::yield_now().await;
    }
    let presence = next_presence(&mut client).await;
    assert_eq!(
        (presence.num(), presence.users(), presence.members()),
        (50, 3, None),
        "only the latest is told"
    );
    assert_eq!(presence, client.presence());
}

#[tokio::test(start_paused = true)]
async fn after_the_end_a_program_sees_what_was_known_last() {
    let (builder, mut server) = scripted_server();
    let (client, (connection, _)) = tokio::join!(builder.open(), let_enter(&mut server, entered_full()));
    let mut client = client.unwrap();
    assert!(client.presence().is_complete());
    connection.close(4500, "kicked");
    while timeout(PATIENCE, client.recv()).await.expect("no event").is_some() {}
    let presence = client.presence();
    assert_eq!((names(&presence), presence.is_complete()), (vec!["bob"], false));
    assert_eq!(client.position().unwrap().seq(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_program_gives_its_member_a_state() {
    let (builder, mut server) = scripted_server();
    let builder = builder.state(&json!({"status": "here"}));
    let (client, (mut connection, frame)) =
        tokio::join!(builder.open(), let_enter(&mut server, entered_full()));
    let client = client.unwrap();
    assert_eq!((&frame["event"], &frame["state"]), (&json!("enter"), &json!({"status": "here"})));
    for status in ["away", "back", "busy"] {
        client.sender().set_state(&json!({"status": status})).unwrap();
    }
    let mut states = Vec::new();
    while states.last() != Some(&json!("busy")) {
        let frame = connection.frame().await;
        assert_eq!((&frame["event"], &frame["roomId"]), (&json!("state"), &json!("r")));
        states.push(frame["state"]["status"].clone());
    }
    assert!(states.len() < 3, "only the newest is sent: {states:?}");
    let too_big = client.sender().set_state(&"x".repeat(1023));
    assert!(matches!(too_big, Err(ClientError::TooBig { bytes: 1025, max: 1024, .. })));
    assert_eq!(client.sender().set_state(&"x".repeat(1022)), Ok(()));
    let sender = client.sender();
    client.leave().await;
    assert!(matches!(sender.set_state(&1), Err(ClientError::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_server_may_refuse_the_state_of_an_enter() {
    let (builder, mut server) = scripted_server();
    let builder = builder.state(&"bad");
    let (client, (connection, frame)) = tokio::join!(builder.open(), let_enter(&mut server, entered_full()));
    let mut client = client.unwrap();
    assert_eq!(frame["state"], "bad");
    connection.send(enter(1, 2, "ann", "1"));
    connection.send(json!({"event": "error", "code": "denied", "message": "no", "roomId": "r"}));
    let error = loop {
        let event = timeout(PATIENCE, client.recv()).await.expect("no event").expect("the client has ended");
        if let ClientEvent::Error(error) = event {
            break error;
        }
    };
    assert!(error.to_string().contains("no"), "{error}");
    assert_eq!(client.presence().own().unwrap().state(), None);
    connection.close(4000, "");
    assert_eq!(let_enter(&mut server, entered_full()).await.1["state"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_too_big_is_refused_before_the_room_is_entered() {
    let (builder, _server) = scripted_server();
    let refused = builder.state(&"x".repeat(2000)).open().await;
    assert!(matches!(refused, Err(ClientError::TooBig { max: 1024, .. })));
    let (builder, mut server_of_chat) = scripted_server_of_chat();
    let (chat, connection) = tokio::join!(builder.open(), async {
        let connection = server_of_chat.accept(HEARTBEAT).await;
        connection.send(welcome());
        connection
    });
    let refused = chat.unwrap().join("r", "ann").state(&"x".repeat(2000)).await;
    assert!(matches!(refused, Err(ClientError::TooBig { max: 1024, .. })));
    drop(connection);
}

#[tokio::test(start_paused = true)]
async fn a_program_chooses_how_many_members_it_wants_to_know() {
    for (roster, asks) in [(None, true), (Some(1), false)] {
        let (builder, mut server) = scripted_server();
        let builder = roster.into_iter().fold(builder, tower_chat_rooms_client::ClientBuilder::roster);
        let mut answer = entered_full();
        answer["next"] = json!("c");
        let (client, (mut connection, _)) = tokio::join!(builder.open(), let_enter(&mut server, answer));
        let client = client.unwrap();
        assert!(!client.presence().is_complete());
        let sending = client.sender().send("hi");
        let frame = connection.frame().await;
        assert_eq!(frame["event"] == "members", asks, "{frame}");
        drop(sending);
    }
}
