//! An auth hook of one's own: a session cookie that is looked up in a store. Who has none, or
//! one that the store doesn't know, is refused with 401 before there is any connection.
//!
//! `cargo run --example custom_auth` (`PORT=8080` for another port), then open the address that
//! it prints. By hand:
//!
//! ```sh
//! curl -i -d name=Ann http://127.0.0.1:3000/login    # shows the cookie
//! curl -i -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
//!   -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' http://127.0.0.1:3000/chat    # 401
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{StatusCode, request::Parts};
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use axum::{Form, Router};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tower_chat_rooms::{Admission, AuthRefusal, Authenticate, ChatRooms, User};

/// Who is logged in, by session. Stands for a database, so its calls are async; a real one would
/// also let sessions end.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<String, String>>>);

impl Sessions {
    async fn begin(&self, name: String) -> String {
        // 16 random bytes in base64; the crate `getrandom` is the straight way to them.
        let session = generate_key();
        self.0.lock().await.insert(session.clone(), name);
        session
    }

    async fn find(&self, session: &str) -> Option<String> {
        self.0.lock().await.get(session).cloned()
    }
}

impl Authenticate for Sessions {
    async fn on_upgrade(&self, request: &Parts) -> Result<Admission, AuthRefusal> {
        // Browsers send cookies along with a WebSocket that any page opens; but pages of other hosts
        // and ports have been refused before this is asked.
        let session =
            cookie(request, "session").ok_or(AuthRefusal::unauthorized("log in first: POST /login"))?;
        match self.find(session).await {
            // Whatever name the client enters with, this is the one that the others see.
            Some(name) => Ok(Admission::user(User::new(&name).with_name(&name))),
            None => Err(AuthRefusal::unauthorized("the session has ended; log in again: POST /login")),
        }
    }

    // `on_token` keeps its default, which refuses every token.
}

fn cookie<'a>(request: &'a Parts, name: &str) -> Option<&'a str> {
    let all = request.headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[derive(Deserialize)]
struct Login {
    name: String,
}

/// Believes everybody; this is where a password would be checked. Over HTTPS add `Secure`.
async fn login(State(sessions): State<Sessions>, Form(login): Form<Login>) -> impl IntoResponse {
    let session = sessions.begin(login.name).await;
    let cookie = format!("session={session}; HttpOnly; SameSite=Strict; Path=/");
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = Sessions::default();
    let rooms = ChatRooms::builder().auth(sessions.clone()).build()?;
    let app = Router::new()
        .route("/", get(Html(PAGE)))
        .route("/login", post(login))
        .route_service("/chat", rooms.service())
        .with_state(sessions);

    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".into());
    let address = format!("127.0.0.1:{port}");
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|e| format!("can't listen on {address}: {e}; choose another port with PORT"))?;
    println!("open http://{}; ctrl-c ends it", listener.local_addr()?);
    tokio::select! {
        served = axum::serve(listener, app).into_future() => served?,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    rooms.shutdown().await;
    Ok(())
}

/// Logs in first: of a refused WebSocket a script sees no status, only close code 1006.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>chat rooms with a login</title>
<form><input placeholder="name" required> <button>log in and chat</button></form><pre></pre>
<script>
  document.querySelector("form").onsubmit = async submitted => {
    submitted.preventDefault();
    const [name] = submitted.target, line = text => document.querySelector("pre").textContent += text + "\n";
    await fetch("/login", {method: "POST", body: new URLSearchParams({name: name.value})});
    const ws = new WebSocket(location.origin.replace("http", "ws") + "/chat");
    const send = (event, message, more) => ws.send(JSON.stringify({event, message, ...more}));
    ws.onopen = () => { send("enter", "whatever", {roomId: "lobby"}); send("message", "hello"); };
    ws.onmessage = ({data}) => JSON.parse(data).event === "heartbeat" ? send("heartbeat", "pong") : line(data);
    ws.onclose = e => line(`closed: ${e.code} ${e.reason}`);
  };
</script>"#;
