//! Connecting for the first time: settings, answers to the handshake, tokens, time limits.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tower_chat_rooms::{Admission, AuthRefusal, Authenticate, ChatRooms, Denied, User};
use tower_chat_rooms_client::{Client, ClientError, ClientEvent, ClientState};

use crate::scripted_server::{HEARTBEAT, Received, ScriptedServer, scripted_server, welcome};
use crate::support::{Replaceable, assert_empty};

#[tokio::test(start_paused = true)]
async fn rejects_invalid_settings() {
    for (builder, what) in [
        (Client::connect("http://x"), "ws://"),
        (Client::connect("ws://"), "the host is missing"),
        (Client::connect("ws://x:99999/"), "port"),
        (Client::connect("ws://x").max_attempts(0), "max_attempts"),
        (Client::connect("ws://x").max_events(0), "max_events"),
        (Client::connect("ws://x").backoff(Duration::ZERO, Duration::ZERO), "backoff"),
        (Client::connect("ws://x").connect_timeout(Duration::ZERO), "connect_timeout"),
    ] {
        let error = builder.await.unwrap_err();
        assert!(matches!(&error, ClientError::Config(text) if text.contains(what)), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn gives_up_if_it_cannot_enter_in_time() {
    let begin = Instant::now();
    let dial = || async { Err::<tokio::io::DuplexStream, _>(std::io::Error::other("no route")) };
    let refused = Client::over("ws://test", dial).first_timeout(Duration::from_secs(9)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.starts_with("gave up after ") && refused.ends_with("can't connect: no route"),
        "{refused}"
    );
    assert!(begin.elapsed() <= Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn tries_again_until_it_has_entered() {
    let (builder, mut server) = scripted_server();
    let (client, _connection) = tokio::join!(builder.open(), async {
        server.accept(HEARTBEAT).await.break_off();
        server.accept(HEARTBEAT).await.close(1013, "busy; retry in 3 s");
        let closed = Instant::now();
        let connection = server.let_enter(0).await;
        assert!((3.0..4.5).contains(&closed.elapsed().as_secs_f64()), "{:?}", closed.elapsed());
        connection
    });
    drop(client.unwrap());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_attempt_to_connect_ends_it() {
    let (builder, mut server) = scripted_server();
    let welcomed = async {
        let mut connection = server.accept(HEARTBEAT).await;
        connection.send(welcome());
        connection.frame().await;
        connection
    };
    let mut connection = tokio::select! {
        _ = builder.open() => panic!("the server has not let it enter"),
        connection = welcomed => connection,
    };
    assert_eq!(connection.receive().await, Received::Closed(1000));
}

/// Answers one handshake with this status line and headers, and a text. Returns the request.
async fn answer(server: &mut ScriptedServer, answer: &str) -> String {
    let mut io = server.accept_raw().await;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(io.read_u8().await.unwrap());
    }
    let response = format!("HTTP/1.1 {answer}\r\ncontent-length: 7\r\n\r\nbecause");
    io.write_all(response.as_bytes()).await.unwrap();
    String::from_utf8(request).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_ends_the_client() {
    let (builder, mut server) = scripted_server();
    let builder = builder.token("t").token_in_header();
    let (refused, request) = tokio::join!(builder.open(), answer(&mut server, "401 Unauthorized"));
    assert_eq!(refused.unwrap_err(), ClientError::NoAuth("HTTP 401: because".into()));
    assert!(request.contains("authorization: Bearer t\r\n"), "{request}");
}

/// The path is wrong, and the server has a page for every path.
#[tokio::test(start_paused = true)]
async fn a_page_instead_of_a_websocket_ends_the_client() {
    for status in ["200 OK", "204 No Content", "302 Found\r\nlocation: /chat/", "404 Not Found"] {
        let (builder, mut server) = scripted_server();
        let (refused, _) = tokio::join!(builder.open(), answer(&mut server, status));
        let Err(ClientError::Http { status: code, body, .. }) = refused else {
            panic!("{status}: {refused:?}")
        };
        assert!(status.starts_with(&code.to_string()), "{status}");
        let says = match code {
            200 | 204 => "no WebSocket at this path; check the URL",
            302 => "redirected to /chat/; connect to that address",
            _ => "because",
        };
        assert_eq!(body, says, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_url_without_a_path_has_one_in_the_request() {
    let (dialed, mut connections) = tokio::sync::mpsc::unbounded_channel();
    let dial = move || {
        let (theirs, ours) = tokio::io::duplex(4096);
        dialed.send(theirs).unwrap();
        std::future::ready(Ok(ours))
    };
    let request = async {
        let mut io = connections.recv().await.unwrap();
        let mut request = vec![0; 64];
        io.read_exact(&mut request).await.unwrap();
        String::from_utf8(request).unwrap()
    };
    let connecting = Client::over("WS://test:81?x=1", dial).max_attempts(1).open();
    let (_, request) = tokio::join!(connecting, request);
    assert!(request.starts_with("GET /?x=1 HTTP/1.1\r\nHost: test:81\r\n"), "{request}");
}

#[tokio::test(start_paused = true)]
async fn three_refused_tokens_that_were_provided_anew_end_the_client() {
    let provided = AtomicU32::new(0);
    let (builder, mut server) = scripted_server();
    let builder = builder.token_in_header().token_with(move || {
        let n = provided.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, Infallible>(format!("t{n}")) }
    });
    let (refused, ()) = tokio::join!(builder.open(), async {
        for n in 0..3 {
            let request = answer(&mut server, "403 Forbidden").await;
            assert!(request.contains(&format!("authorization: Bearer t{n}\r\n")), "{request}");
        }
    });
    assert_eq!(refused.unwrap_err(), ClientError::NoAuth("HTTP 403: because".into()));
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_retry_after_asks() {
    let (builder, mut server) = scripted_server();
    let (client, _connection) = tokio::join!(builder.open(), async {
        answer(&mut server, "503 Service Unavailable\r\nretry-after: 5").await;
        let refused = Instant::now();
        let connection = server.let_enter(0).await;
        assert!((5.0..7.5).contains(&refused.elapsed().as_secs_f64()), "{:?}", refused.elapsed());
        connection
    });
    drop(client.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_server_with_only_the_plain_wire_is_an_error() {
    let (builder, mut server) = scripted_server();
    let (refused, _io) = tokio::join!(builder.open(), async {
        tokio_tungstenite::accept_async(server.accept_raw().await).await.unwrap()
    });
    assert!(refused.unwrap_err().to_string().contains("chat-rooms.v1"));
}

/// Accepts only the token of the day.
struct Daily(Arc<AtomicU32>);

impl Authenticate for Daily {
    async fn on_upgrade(&self, _: &http::request::Parts) -> Result<Admission, AuthRefusal> {
        Ok(Admission::pending_auth())
    }

    async fn on_token(&self, token: &str) -> Result<User, Denied> {
        let today = format!("day {}", self.0.load(Ordering::Relaxed));
        if token == today { Ok(User::new("u").with_name("Ann")) } else { Err(Denied::new("expired")) }
    }
}

#[tokio::test(start_paused = true)]
async fn authenticates_in_band() {
    let day = Arc::new(AtomicU32::new(1));
    let rooms = ChatRooms::builder().auth(Daily(day.clone())).build().unwrap();
    let server = Replaceable::pending_auth(rooms.clone());
    let refused = server.client().token("day 0").await;
    assert_eq!(refused.unwrap_err(), ClientError::NoAuth("expired".into()));

    let token = move || {
        let token = format!("day {}", day.load(Ordering::Relaxed));
        async { Ok::<_, Infallible>(token) }
    };
    let mut client = server.client().name("claimed").token_with(token).await.unwrap();
    let Some(ClientEvent::State(ClientState::Online)) = client.recv().await else { panic!() };
    let Some(ClientEvent::Entered { name, .. }) = client.recv().await else { panic!() };
    assert_eq!(name, "Ann");
    client.leave().await;
    rooms.shutdown().await;
    assert_empty(&rooms);
}
