//! Nothing that is secret stands in a log, a span, a `Debug` or an error, at whatever level.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tower::ServiceExt;
use tower_chat_rooms::{
    Authenticate, ChannelEvent, ChatRooms, Denied, EnterRequest, JwtAuth, Limits, MessageRequest, Recovery,
    Refusal, RoomPolicy, Verdict, event_channel,
};

use crate::support::{Client, LogCapture};

const SIGNING: &str = "the-signing-secret-of-thirty-two-bytes";
const PASSWORD: &str = "correct-horse-battery-staple";
const CLAIM: &str = "a-private-claim";

/// Looks at whatever it is asked about.
struct Nosy(LogCapture);

impl RoomPolicy for Nosy {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<(), Denied> {
        self.0.show(request);
        if request.room().as_str() == "panic" { panic!("on purpose") } else { Ok(()) }
    }

    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        self.0.show(request);
        let verdict = match request.event() {
            "replace" => Verdict::replace(&json!({"event": "message", "message": PASSWORD})).unwrap(),
            "refuse" => Verdict::refuse("no"),
            "drop" => Verdict::drop_silently(),
            _ => Verdict::allow(),
        };
        self.0.show(&verdict);
        verdict
    }
}

fn token(key: &str) -> String {
    let claims = json!({"sub": "u1", "name": "Ann", "exp": get_current_timestamp() + 600, "private": CLAIM});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(key.as_bytes())).unwrap()
}

/// Makes an upgrade request with these headers, and returns the line to the server and its answer.
async fn request(
    rooms: &ChatRooms,
    seen: &LogCapture,
    target: &str,
    headers: &str,
) -> (DuplexStream, String) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (service, seen) = (rooms.service(), seen.clone());
    seen.show(&service);
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let (service, seen) = (service.clone(), seen.clone());
        async move {
            let response: Response<_> = service.oneshot(request).await?;
            // A middleware that logs what is answered.
            seen.show(response.headers());
            seen.show(&response.extensions().get::<Refusal>());
            Ok::<_, Infallible>(response)
        }
    });
    tokio::spawn(async move {
        let builder = Builder::new(TokioExecutor::new());
        let served =
            builder.serve_connection_with_upgrades(TokioIo::new(theirs), TowerToHyperService::new(service));
        let _ = served.await;
    });
    let mut line = ours;
    let request = format!(
        "GET {target} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    line.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(line.read_u8().await.unwrap());
    }
    (line, String::from_utf8(answer).unwrap())
}

async fn client(line: DuplexStream) -> Client {
    let ws = WebSocketStream::from_raw_socket(line, Role::Client, None).await;
    Client { ws, task: tokio::spawn(async {}), answers_heartbeats: true }
}

/// The next frame of this event.
async fn until(client: &mut Client, event: &str) -> Value {
    loop {
        let frame = client.next().await;
        if frame["event"] == event {
            return frame;
        }
    }
}

/// A whole session, with everything that is secret in every place where it can be. Returns what
/// must not have been seen.
async fn session(seen: &LogCapture) -> Vec<String> {
    let auth = JwtAuth::hs256(SIGNING).unwrap().with_cookie("sid").with_query("token");
    seen.show(&auth);
    let (good, bad) = (token(SIGNING), token("another secret, of an attacker, of 32 bytes"));
    let mut secrets = vec![SIGNING.into(), PASSWORD.into(), CLAIM.into()];
    for token in [&good, &bad] {
        secrets.extend(token.split('.').skip(1).map(str::to_owned));
    }
    for token in [&good, &bad] {
        let mut parts = Request::new(()).into_parts().0;
        parts.headers.insert("sec-websocket-protocol", format!("bearer.{token}").parse().unwrap());
        match auth.on_upgrade(&parts).await {
            Ok(admission) => seen.show(&admission),
            Err(refusal) => seen.show(&refusal),
        }
        seen.show(&auth.on_token(token).await);
    }
    seen.show(&JwtAuth::hs256(PASSWORD));

    let (events, mut heard) = event_channel(1000);
    let builder = ChatRooms::builder()
        .auth(auth)
        .policy(Nosy(seen.clone()))
        .events(events)
        .recovery(Recovery::default().resume_window(Duration::from_secs(60)))
        .limits(Limits::default().max_message_bytes(4096));
    seen.show(&builder);
    let rooms = builder.build().unwrap();

    // Refused at the upgrade, in every place.
    for (target, headers) in [
        (format!("/chat?token={bad}"), String::new()),
        ("/chat".into(), format!("cookie: sid={bad}\r\n")),
        ("/chat".into(), format!("authorization: Bearer {bad}\r\n")),
        ("/chat".into(), format!("sec-websocket-protocol: chat-rooms.v1, bearer.{bad}\r\n")),
        (format!("/chat?token={good}"), "sec-websocket-version: 12\r\n".into()),
        (format!("/chat?token={good}"), format!("origin: https://evil.example\r\ncookie: sid={good}\r\n")),
    ] {
        let (_, answer) = request(&rooms, seen, &target, &headers).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // Let in, in every place; the last one is the plain wire, whose protocol is the token itself.
    let mut resume: Vec<String> = Vec::new();
    for (target, headers) in [
        (format!("/chat?token={good}"), "sec-websocket-protocol: chat-rooms.v1\r\n".into()),
        ("/chat".into(), format!("cookie: sid={good}\r\nsec-websocket-protocol: chat-rooms.v1\r\n")),
        (
            "/chat".into(),
            format!("authorization: Bearer {good}\r\nsec-websocket-protocol: chat-rooms.v1\r\n"),
        ),
        ("/chat".into(), format!("sec-websocket-protocol: chat-rooms.v1, bearer.{good}\r\n")),
        ("/chat".into(), format!("sec-websocket-protocol: bearer.{good}\r\n")),
    ] {
        let (line, answer) = request(&rooms, seen, &target, &headers).await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        let mut ann = client(line).await;
        if headers.contains("v1") {
            let welcome = until(&mut ann, "welcome").await;
            resume.push(welcome["resume"].as_str().unwrap().into());
        }
        ann.send(json!({"event": "enter", "message": "ann", "roomId": "r", "resume": resume})).await;
        until(&mut ann, if headers.contains("v1") { "entered" } else { "enter" }).await;
        for event in ["message", "replace", "refuse", "drop"] {
            ann.send(json!({"event": event, "message": PASSWORD, "cid": "c"})).await;
        }
        for text in
            [format!("{{\"event\":\"message\",\"password\":{PASSWORD}}}"), format!("[\"{PASSWORD}\"]")]
        {
            ann.send_text(text).await;
        }
        ann.send(json!({"event": "auth", "message": bad})).await;
        until(&mut ann, "noAuth").await;
        ann.send(json!({"event": "auth", "message": good})).await;
        ann.send(json!({"event": "enter", "message": "ann", "roomId": PASSWORD.repeat(9)})).await;
        until(&mut ann, "error").await;
        for member in rooms.members("r") {
            seen.show(&member);
        }
        seen.show(&(&rooms, rooms.rooms(), rooms.check_consistency(), rooms.layer("/chat")));
        // Lost, so that the next one takes the seat over.
        drop(ann);
    }
    // In band alone; a hook that panics and a message that is too big end it.
    for end in ["panic", "too big"] {
        let (line, _) = request(&rooms, seen, "/chat", "").await;
        let mut ann = client(line).await;
        ann.send(json!({"event": "auth", "message": good})).await;
        match end {
            "panic" => ann.send(json!({"event": "enter", "message": "ann", "roomId": "panic"})).await,
            _ => ann.send(json!({"event": "auth", "message": PASSWORD.repeat(400)})).await,
        }
        assert!([1009, 1011].contains(&ann.close_code().await));
    }
    rooms.shutdown().await;
    let mut messages = 0;
    while let Some(event) = heard.recv().await {
        messages += usize::from(matches!(event, ChannelEvent::Message { .. }));
        seen.show(&event);
    }
    assert!(messages > 0, "nothing was said");
    secrets.extend(resume);
    secrets
}

#[tokio::test(start_paused = true)]
async fn nothing_secret_is_seen() {
    let seen = LogCapture::default();
    // tungstenite logs whole frames at that level; the documentation says so.
    let guard = seen.listen("trace,tungstenite=debug");
    let secrets = session(&seen).await;
    drop(guard);
    let text = seen.text();
    // It has been listened to.
    for known in [
        "connection open",
        "connection refused",
        "connection lost; its session is kept",
        "session resumed",
        "Ann",
    ] {
        assert!(text.contains(known), "{known}");
    }
    assert!(secrets.len() >= 11, "{}", secrets.len());
    for secret in &secrets {
        if let Some(at) = text.find(secret.as_str()) {
            let from = text[..at].rfind('\n').map_or(0, |at| at + 1);
            panic!("{secret} was seen: {}", &text[from..(at + secret.len())]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_seen_is_found() {
    let seen = LogCapture::default();
    let guard = seen.listen("trace");
    let secrets = session(&seen).await;
    drop(guard);
    assert!(secrets.iter().any(|secret| seen.text().contains(secret.as_str())));
}
