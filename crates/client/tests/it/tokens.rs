//! Tokens that expire, against a real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use http::header::AUTHORIZATION;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tower_chat_rooms::{
    Admission, AuthRefusal, Authenticate, ChatRooms, ChatRoomsBuilder, Denied, History, OnExpiry, Recovery,
    User,
};
use tower_chat_rooms_client::{Client, ClientBuilder, ClientError, ClientEvent, ClientState};

use crate::rates::reach;
use crate::reconnecting::next_message;
use crate::scripted_server::PATIENCE;
use crate::support::{Log, Replaceable};

/// How long a token is valid.
const LIFE: Duration = Duration::from_secs(60);

/// Chat rooms whose users have to send a new token every minute.
fn expiring() -> ChatRoomsBuilder {
    ChatRooms::builder()
        .auth(|token: String| async move {
            if token == "bad" {
                Err(Denied::new("no such token"))
            } else {
                Ok(User::new("u").expires_in(LIFE))
            }
        })
        .recovery(Recovery::default().resume_window(PATIENCE).history(History::last(100)))
}

/// A token function that counts its calls, and fails while it is told to.
#[derive(Clone, Default)]
struct Tokens {
    calls: Arc<AtomicU32>,
    fails: Arc<AtomicBool>,
}

impl Tokens {
    fn provide_to(&self, builder: ClientBuilder) -> ClientBuilder {
        let tokens = self.clone();
        builder.token_with(move || {
            tokens.calls.fetch_add(1, Ordering::Relaxed);
            let fails = tokens.fails.load(Ordering::Relaxed);
            async move { if fails { Err("no network") } else { Ok("good".to_owned()) } }
        })
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_in_band_and_nobody_notices() {
    let log = Log::default();
    let rooms = expiring().events(log.hook()).build().unwrap();
    let tokens = Tokens::default();
    let server = Replaceable::pending_auth(rooms.clone());
    let mut client = tokens.provide_to(server.client()).name("ann").await.unwrap();
    tokio::time::sleep(LIFE * 20).await;
    assert_eq!((log.take().len(), rooms.stats().accepted), (1, 1));
    assert!((20..45).contains(&tokens.calls()), "{}", tokens.calls());
    let seq = client.sender().send("still here").await.unwrap();
    assert_eq!(next_message(&mut client).await, seq);
}

#[tokio::test(start_paused = true)]
async fn out_of_the_room_for_an_expired_token_it_authenticates_and_enters_again() {
    let rooms = expiring().on_expiry(OnExpiry::WaitForAuth).build().unwrap();
    let bob = Replaceable::new(rooms.clone()).client().name("bob").await.unwrap();
    let tokens = Tokens::default();
    let server = Replaceable::pending_auth(rooms.clone());
    let mut client = tokens.provide_to(server.client()).name("ann").await.unwrap();
    reach(&mut client, |state| matches!(state, ClientState::Online)).await;

    tokens.fails.store(true, Ordering::Relaxed);
    let outside = reach(&mut client, |state| !matches!(state, ClientState::Online)).await;
    assert!(outside.contains("Outside") && outside.contains("expired"), "{outside}");
    let seq = bob.sender().send("meanwhile").await.unwrap();
    tokens.fails.store(false, Ordering::Relaxed);
    assert_eq!(next_message(&mut client).await, seq);
    assert_eq!(rooms.stats().accepted, 2, "on the same connection");
}

#[tokio::test(start_paused = true)]
async fn closed_for_an_expired_token_it_comes_back_with_another() {
    let rooms = expiring().build().unwrap();
    let tokens = Tokens::default();
    let server = Replaceable::pending_auth(rooms.clone());
    let mut client = tokens.provide_to(server.client()).name("ann").await.unwrap();
    reach(&mut client, |state| matches!(state, ClientState::Online)).await;
    tokens.fails.store(true, Ordering::Relaxed);
    let mut failures = 0;
    loop {
        match client.recv().await.unwrap() {
            ClientEvent::Error(ClientError::Token(_)) => failures += 1,
            ClientEvent::State(ClientState::Reconnecting { reason, .. }) => {
                assert!(matches!(&reason, ClientError::NoAuth(why) if why.contains("expired")), "{reason}");
                break;
            }
            _ => {}
        }
    }
    assert!(failures > 2, "{failures}");
    tokens.fails.store(false, Ordering::Relaxed);
    reach(&mut client, |state| matches!(state, ClientState::Online)).await;
    assert_eq!(rooms.stats().accepted, 2);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_token_that_expires_ends_the_client_with_a_reason() {
    for on_expiry in [OnExpiry::Close, OnExpiry::WaitForAuth] {
        let rooms = expiring().on_expiry(on_expiry).build().unwrap();
        let mut client = Replaceable::pending_auth(rooms).client().name("ann").token("good").await.unwrap();
        let closed = reach(&mut client, |state| matches!(state, ClientState::Closed { .. })).await;
        assert!(closed.contains("NoAuth") && closed.contains("expired"), "{closed}");
        assert_eq!(client.recv().await, None);
    }
}

/// Accepts one token in the handshake.
struct Bearer;

impl Authenticate for Bearer {
    async fn on_upgrade(&self, request: &http::request::Parts) -> Result<Admission, AuthRefusal> {
        match request.headers.get(AUTHORIZATION) {
            Some(token) if token == "Bearer good" => Ok(Admission::user(User::new("u"))),
            _ => Err(AuthRefusal::unauthorized("this token is not good")),
        }
    }
}

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/chat", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn a_handshake_that_is_refused_by_v1_is_tried_with_another_token() {
    let rooms = ChatRooms::builder().auth(Bearer).build().unwrap();
    let url = serve(Router::new().route_service("/chat", rooms.service())).await;
    let calls = AtomicU32::new(0);
    let token = move || {
        let token = if calls.fetch_add(1, Ordering::Relaxed) == 0 { "stale" } else { "good" };
        async move { Ok::<_, String>(token.to_owned()) }
    };
    let connecting = Client::connect(&url).name("ann").token_in_header().token_with(token).open();
    let client = timeout(PATIENCE, connecting).await.unwrap().unwrap();
    client.leave().await;

    let bad = Client::connect(&url).name("ann").token_in_header().token("bad").await.unwrap_err();
    assert_eq!(bad, ClientError::NoAuth("this token is not good".into()));
    let renewed = Tokens::default().provide_to(Client::connect(&url)).name("ann");
    let no_header = timeout(PATIENCE, renewed.open()).await.unwrap().unwrap_err();
    assert!(matches!(&no_header, ClientError::NoAuth(_)), "{no_header}");
}

#[tokio::test]
async fn a_refused_upgrade_is_told_with_its_status_and_text() {
    use axum::routing::get;
    let rooms = ChatRooms::builder().build().unwrap();
    let app = Router::new()
        .route_service("/chat/rooms", rooms.service())
        .route("/chat", get(|| async { (http::StatusCode::UNAUTHORIZED, "log in\n  first\n") }));
    let url = serve(app).await;
    let error = Client::connect(&url).name("ann").await.unwrap_err();
    assert_eq!(error, ClientError::NoAuth("HTTP 401: log in first".into()));
    let error = Client::connect(format!("{url}/nowhere")).name("ann").await.unwrap_err();
    assert!(matches!(error, ClientError::Http { status: 404, .. }), "{error:?}");
    // The server's own refusals have a text as well.
    rooms.shutdown().await;
    let error = Client::connect(format!("{url}/rooms")).name("ann").max_attempts(1).await.unwrap_err();
    assert!(error.to_string().starts_with("gave up after 1 attempts: HTTP 503: "), "{error}");
}
