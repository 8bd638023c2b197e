//! No secret appears in a log, a span, a `Debug` output or an error, at any level.

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
use tower::ServiceExt;
use tower_chat_rooms::{
    Access, Authenticate, ChannelEvent, ChatRooms, Denied, EnterRequest, JwtAuth, Limits, MessageRequest,
    Recovery, Refusal, RoomPolicy, Verdict, event_channel,
};

use crate::support::{Client, LogCapture, builder, resume_frame};

const SIGNING: &str = "the-signing-secret-of-thirty-two-bytes";
const PASSWORD: &str = "correct-horse-battery-staple";
const CLAIM: &str = "a-private-claim";

/// Captures the `Debug` output of each request.
struct MyPolicy(LogCapture);

impl RoomPolicy for MyPolicy {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        self.0.show(request);
        if request.room().as_str() == "panic" { panic!("on purpose") } else { Ok(Access::member()) }
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

/// Sends an upgrade request with these headers. Returns the connection and the head of the response.
async fn upgrade(
    rooms: &ChatRooms,
    seen: &LogCapture,
    target: &str,
    headers: &str,
) -> (DuplexStream, String) {
    let (mut io, server_io) = tokio::io::duplex(64 * 1024);
    let (service, seen) = (rooms.service(), seen.clone());
    seen.show(&service);
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let (service, seen) = (service.clone(), seen.clone());
        async move {
            let response: Response<_> = service.oneshot(request).await?;
            // As a middleware that logs responses does.
            seen.show(response.headers());
            seen.show(&response.extensions().get::<Refusal>());
            Ok::<_, Infallible>(response)
        }
    });
    tokio::spawn(async move {
        let builder = Builder::new(TokioExecutor::new());
        let served = builder
            .serve_connection_with_upgrades(TokioIo::new(server_io), TowerToHyperService::new(service));
        let _ = served.await;
    });
    let request = format!(
        "GET {target} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    io.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        response.push(io.read_u8().await.unwrap());
    }
    (io, String::from_utf8(response).unwrap())
}

async fn client(io: DuplexStream) -> Client {
    Client::new(io, tokio::spawn(async {})).await
}

/// Reads up to the next frame of this event.
async fn read_to(client: &mut Client, event: &str) -> Value {
    loop {
        let frame = client.next().await;
        if frame["event"] == event {
            return frame;
        }
    }
}

/// Has conversations with secrets in every place where they can be. Returns the secrets.
async fn use_secrets(seen: &LogCapture) -> Vec<String> {
    let auth = JwtAuth::hs256(SIGNING).unwrap().with_cookie("sid").with_query("token");
    seen.show(&auth);
    let (valid, invalid) = (token(SIGNING), token("another secret, of an attacker, of 32 bytes"));
    let mut secrets = vec![SIGNING.into(), PASSWORD.into(), CLAIM.into()];
    for token in [&valid, &invalid] {
        secrets.extend(token.split('.').skip(1).map(str::to_owned));
    }
    for token in [&valid, &invalid] {
        let mut parts = Request::new(()).into_parts().0;
        parts.headers.insert("sec-websocket-protocol", format!("bearer.{token}").parse().unwrap());
        match auth.on_upgrade(&parts).await {
            Ok(admission) => seen.show(&admission),
            Err(refusal) => seen.show(&refusal),
        }
        seen.show(&auth.on_token(token).await);
    }
    seen.show(&JwtAuth::hs256(PASSWORD));

    let (events, mut receiver) = event_channel(1000);
    let builder = builder()
        .auth(auth)
        .policy(MyPolicy(seen.clone()))
        .events(events)
        .recovery(Recovery::default().resume_window(Duration::from_secs(60)))
        .limits(Limits::default().max_message_bytes(4096));
    seen.show(&builder);
    let rooms = builder.build().unwrap();
    refused_handshakes(&rooms, seen, &valid, &invalid).await;
    secrets.extend(accepted_handshakes(&rooms, seen, &valid, &invalid).await);
    connections_with_errors(&rooms, seen, &valid).await;
    rooms.shutdown().await;
    let mut messages = 0;
    while let Some(event) = receiver.recv().await {
        messages += usize::from(matches!(event, ChannelEvent::Message(_)));
        seen.show(&event);
    }
    assert!(messages > 0, "no message was published");
    secrets
}

/// Handshakes with a token in every place, all of which are refused.
async fn refused_handshakes(rooms: &ChatRooms, seen: &LogCapture, valid: &str, invalid: &str) {
    for (target, headers) in [
        (format!("/chat?token={invalid}"), String::new()),
        ("/chat".into(), format!("cookie: sid={invalid}\r\n")),
        ("/chat".into(), format!("authorization: Bearer {invalid}\r\n")),
        ("/chat".into(), format!("sec-websocket-protocol: bearer.{invalid}\r\n")),
        (format!("/chat?token={valid}"), "sec-websocket-version: 12\r\n".into()),
        (format!("/chat?token={valid}"), format!("origin: https://evil.example\r\ncookie: sid={valid}\r\n")),
    ] {
        let (_, response) = upgrade(rooms, seen, &target, &headers).await;
        assert!(response.starts_with("HTTP/1.1 4"), "{response}");
    }
    // A chat-rooms.v1 client is told after the upgrade.
    let headers = format!("sec-websocket-protocol: chat-rooms.v1, bearer.{invalid}\r\n");
    let (io, response) = upgrade(rooms, seen, "/chat", &headers).await;
    assert!(response.starts_with("HTTP/1.1 101"), "{response}");
    let (frames, code) = client(io).await.frames_until_close().await;
    assert_eq!((&frames[frames.len() - 1]["event"], code), (&json!("noAuth"), 4505));
}

/// Conversations after handshakes with a token in every place. Returns the resume tokens.
async fn accepted_handshakes(
    rooms: &ChatRooms,
    seen: &LogCapture,
    valid: &str,
    invalid: &str,
) -> Vec<String> {
    let mut resume_tokens: Vec<Value> = Vec::new();
    for (target, headers) in [
        (format!("/chat?token={valid}"), "sec-websocket-protocol: chat-rooms.v1\r\n".into()),
        ("/chat".into(), format!("cookie: sid={valid}\r\nsec-websocket-protocol: chat-rooms.v1\r\n")),
        (
            "/chat".into(),
            format!("authorization: Bearer {valid}\r\nsec-websocket-protocol: chat-rooms.v1\r\n"),
        ),
        ("/chat".into(), format!("sec-websocket-protocol: chat-rooms.v1, bearer.{valid}\r\n")),
        // The plain wire, with the token as the subprotocol.
        ("/chat".into(), format!("sec-websocket-protocol: bearer.{valid}\r\n")),
    ] {
        let (io, response) = upgrade(rooms, seen, &target, &headers).await;
        assert!(response.starts_with("HTTP/1.1 101"), "{response}");
        let mut ann = client(io).await;
        if headers.contains("chat-rooms.v1") {
            let welcome = read_to(&mut ann, "welcome").await;
            resume_tokens.push(welcome["resume"].clone());
        }
        // To the plain wire, it is an event like any other, and that before the client has entered.
        ann.send(resume_frame(&resume_tokens)).await;
        ann.send(json!({"event": "enter", "message": "ann", "roomId": "r", "resume": resume_tokens})).await;
        read_to(&mut ann, if headers.contains("chat-rooms.v1") { "entered" } else { "enter" }).await;
        for event in ["message", "replace", "refuse", "drop"] {
            ann.send(json!({"event": event, "message": PASSWORD, "cid": "c"})).await;
        }
        for text in
            [format!("{{\"event\":\"message\",\"password\":{PASSWORD}}}"), format!("[\"{PASSWORD}\"]")]
        {
            ann.send_text(text).await;
        }
        ann.send(json!({"event": "auth", "message": invalid})).await;
        read_to(&mut ann, "noAuth").await;
        ann.send(json!({"event": "auth", "message": valid})).await;
        ann.send(json!({"event": "enter", "message": "ann", "roomId": PASSWORD.repeat(9)})).await;
        read_to(&mut ann, "error").await;
        for member in rooms.members("r") {
            seen.show(&member);
        }
        seen.show(&(rooms, rooms.rooms(), rooms.check_consistency(), rooms.layer("/chat")));
        // The next connection resumes the session.
        drop(ann);
    }
    resume_tokens.iter().map(|token| token.as_str().unwrap().to_owned()).collect()
}

/// Connections that authenticate in band, and end with a hook that panics or a message that is too big.
async fn connections_with_errors(rooms: &ChatRooms, seen: &LogCapture, valid: &str) {
    let panic = json!({"event": "enter", "message": "ann", "roomId": "panic"});
    let too_big = json!({"event": "auth", "message": PASSWORD.repeat(400)});
    for (frame, code) in [(panic, 1011), (too_big, 1009)] {
        let (io, _) = upgrade(rooms, seen, "/chat", "").await;
        let mut ann = client(io).await;
        ann.send(json!({"event": "auth", "message": valid})).await;
        ann.send(frame).await;
        assert_eq!(ann.close_code().await, code);
    }
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_logged() {
    let seen = LogCapture::default();
    // At the level trace, tungstenite logs whole frames, as the crate's documentation says.
    let guard = seen.listen("trace,tungstenite=debug");
    let secrets = use_secrets(&seen).await;
    drop(guard);
    let text = seen.text();
    // The log was captured.
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
            panic!("{secret} was logged: {}", &text[from..(at + secret.len())]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_logged_secret_would_be_found() {
    let seen = LogCapture::default();
    // With the frames that tungstenite logs.
    let guard = seen.listen("trace");
    let secrets = use_secrets(&seen).await;
    drop(guard);
    assert!(secrets.iter().any(|secret| seen.text().contains(secret.as_str())));
}
