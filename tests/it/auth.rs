//! The auth hook: upgrade requests and tokens.

use std::time::Duration;

use futures_util::SinkExt;
use http::request::Parts;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tower_chat_rooms::{Admission, AuthRefusal, Authenticate, ChatRooms, Denied, Timeouts, User};

use crate::support::{Client, Next, assert_empty, builder, open_http};

async fn by_token(token: String) -> Result<User, Denied> {
    match token.split_once(':') {
        Some((id, "")) => Ok(User::new(id)),
        Some((id, name)) => Ok(User::new(id).with_name(name)),
        None => Err(Denied::new("no such token")),
    }
}

fn guarded() -> ChatRooms {
    builder().auth(by_token).build().unwrap()
}

async fn guest(rooms: &ChatRooms) -> Client {
    Client::connect_as(rooms, Admission::pending_auth(), 4096).await
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_before_authentication() {
    let rooms = guarded();
    let mut ann = guest(&rooms).await;
    for event in ["enter", "message", "draw"] {
        ann.send(json!({"event": event, "message": "ann", "roomId": "r"})).await;
        let answer = ann.next().await;
        assert_eq!(answer["event"], "noAuth");
        assert_eq!(answer.as_object().unwrap().len(), 2);
    }
    assert!(rooms.rooms().is_empty());
    ann.send(json!({"event": "auth", "message": "wrong"})).await;
    assert_eq!(ann.next().await, json!({"event": "noAuth", "message": "no such token"}));
    ann.send(json!({"event": "auth", "message": "u1:"})).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(ann.next().await["num"], 1);
    assert_eq!(rooms.members("r")[0].user.as_ref().unwrap().id(), "u1");
}

#[tokio::test(start_paused = true)]
async fn tokens_are_not_relayed() {
    let rooms = guarded();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    assert_eq!(ann.next().await["name"], "bob");
    bob.send(json!({"event": "auth", "message": "u2:"})).await;
    bob.send_text(r#"{"ev\u0065nt":"a\u0075th","message":"u2:"}"#).await;
    bob.send(json!({"event": "message", "message": "done"})).await;
    assert_eq!(ann.next().await["message"], "done");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_authenticates_is_closed() {
    let rooms = builder()
        .auth(by_token)
        .timeouts(Timeouts::default().auth_timeout(Duration::from_secs(3)))
        .build()
        .unwrap();
    let mut ann = guest(&rooms).await;
    let begin = Instant::now();
    assert_eq!(ann.close_code().await, 4502);
    assert_eq!(begin.elapsed(), Duration::from_secs(3));
    // After authentication, the time to enter begins.
    let mut bob = guest(&rooms).await;
    bob.send(json!({"event": "auth", "message": "u2:"})).await;
    let begin = Instant::now();
    assert_eq!(bob.close_code().await, 4002);
    assert_eq!(begin.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn too_many_wrong_tokens_close_the_connection() {
    let rooms = guarded();
    let mut eve = guest(&rooms).await;
    for n in 0..8 {
        eve.send(json!({"event": "auth", "message": format!("guess{n}")})).await;
    }
    let (before, code) = eve.frames_until_close().await;
    assert_eq!((before.len(), code), (8, 1008));
}

#[tokio::test(start_paused = true)]
async fn the_users_name_overrides_the_clients() {
    let rooms = guarded();
    let mut eve = guest(&rooms).await;
    eve.send(json!({"event": "auth", "message": "u3:Eve"})).await;
    eve.send_text(r#"{"event":"enter","message":"ann","roomId":1,"color":"red"}"#).await;
    assert_eq!(
        eve.next_text().await,
        r#"{"event":"enter","roomId":1,"color":"red","message":"Eve","name":"Eve","num":1}"#
    );
    // A token of another user is refused; one of the same user is accepted.
    eve.send(json!({"event": "auth", "message": "u4:Ann"})).await;
    assert_eq!(eve.next().await["event"], "noAuth");
    eve.send(json!({"event": "auth", "message": "u3:Eve"})).await;
    eve.send(json!({"event": "message", "message": "still Eve"})).await;
    assert_eq!(eve.next().await["name"], "Eve");
}

struct MyAuth;

impl Authenticate for MyAuth {
    async fn on_token(&self, token: &str) -> Result<User, Denied> {
        match token {
            "panic" => panic!("on purpose"),
            "hang" => std::future::pending().await,
            "late" => tokio::time::sleep(Duration::from_secs(5)).await,
            _ => {}
        }
        Ok(User::new(token))
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_ends_only_its_connection() {
    let rooms = builder().auth(MyAuth).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut eve = guest(&rooms).await;
    eve.send(json!({"event": "auth", "message": "panic"})).await;
    assert_eq!(eve.close_code().await, 1011);
    ann.send(json!({"event": "message", "message": "alive"})).await;
    assert_eq!(ann.next().await["message"], "alive");
}

#[tokio::test(start_paused = true)]
async fn a_slow_hook_does_not_delay_heartbeats() {
    let rooms = builder()
        .auth(MyAuth)
        .timeouts(Timeouts::default().auth_timeout(Duration::from_secs(60)))
        .build()
        .unwrap();
    let mut ann = guest(&rooms).await;
    ann.send(json!({"event": "auth", "message": "late"})).await;
    // Messages sent meanwhile wait for the answer, most of them unread.
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    for n in 0..40 {
        ann.send(json!({"event": "message", "message": n})).await;
    }
    assert_eq!(ann.next().await["event"], "enter");
    for n in 0..40 {
        assert_eq!(ann.next().await["message"], n);
    }
    // A hook that never answers counts as a refusal after a while.
    ann.send(json!({"event": "auth", "message": "hang"})).await;
    let begin = Instant::now();
    assert_eq!(ann.next().await["event"], "noAuth");
    assert_eq!(begin.elapsed(), Duration::from_secs(10));
    ann.send(json!({"event": "auth", "message": "hang"})).await;
    ann.disconnect().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_while_a_hook_hangs_is_noticed() {
    let rooms = builder().auth(MyAuth).build().unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    assert_eq!(bob.next().await["name"], "ann");
    ann.answers_heartbeats = false;
    ann.send(json!({"event": "auth", "message": "hang"})).await;
    let begin = Instant::now();
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
    assert!(begin.elapsed() <= Duration::from_secs(2));
}

/// A client that authenticated again and again used not to be closed for never having entered.
#[tokio::test(start_paused = true)]
async fn authenticating_again_does_not_postpone_the_enter() {
    let rooms = builder().auth(|token: String| async { Ok(User::new(token)) }).build().unwrap();
    let mut ann = guest(&rooms).await;
    let begin = Instant::now();
    let code = loop {
        let _ = ann.ws.send(Message::text(r#"{"event":"auth","message":"u"}"#)).await;
        if let Ok(code) = timeout(Duration::from_millis(500), ann.close_code()).await {
            break code;
        }
    };
    assert_eq!((code, begin.elapsed()), (4002, Duration::from_secs(10)));
}

/// A browser hides the HTTP status of a refused handshake from the page, which used to retry forever.
#[tokio::test(start_paused = true)]
async fn a_refused_v1_client_is_told_why_after_the_upgrade() {
    struct NoAuth;
    impl Authenticate for NoAuth {
        async fn on_upgrade(&self, _: &Parts) -> Result<Admission, AuthRefusal> {
            Err(AuthRefusal::unauthorized("log in first"))
        }
    }
    let rooms = builder().auth(NoAuth).build().unwrap();
    let mut request = "ws://host/chat".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "chat-rooms.v1".parse().unwrap());
    let (ws, response) = client_async(request, open_http(&rooms, None)).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat-rooms.v1");
    let mut ann = Client { ws, task: tokio::spawn(async {}), answers_heartbeats: true };
    assert_eq!(ann.next().await, json!({"event": "noAuth", "message": "log in first"}));
    assert_eq!(ann.next_or_close().await, Next::Closed(4505));
    assert_eq!((rooms.stats().refused_auth, rooms.stats().accepted), (1, 0));
    // Other clients get the status.
    let refused = client_async("ws://host/chat", open_http(&rooms, None)).await.unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
}
