//! A custom auth hook that looks up a session cookie. A request without a valid cookie is refused with 401.
//!
//! `cargo run --example custom_auth` (`PORT=8080` for another port), then open the address that it prints. In a
//! terminal:
//!
//! ```sh
//! curl -i -d name=Ann http://127.0.0.1:3000/login    # shows the cookie
//! curl -i -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
//!   -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' http://127.0.0.1:3000/chat    # 401
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{StatusCode, request::Parts};
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use axum::{Form, Router};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tower_chat_rooms::{Admission, AuthRefusal, Authenticate, ChatRooms, User};

/// The users that are logged in, by session. This stands for a database, so its methods are async. A real one would
/// also let sessions expire.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<String, String>>>);

impl Sessions {
    async fn begin(&self, name: String) -> String {
        // 16 random bytes in base64. In your application, use the crate `getrandom`.
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
        // Browsers send cookies with WebSockets from any page. Pages of other origins are refused before this is called.
        let session =
            cookie(request, "session").ok_or(AuthRefusal::unauthorized("log in first: POST /login"))?;
        match self.find(session).await {
            // The other members see this name, whatever name the client enters with.
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

/// Accepts every name. In production, check a password here, and add `Secure` to the cookie.
async fn login(State(sessions): State<Sessions>, Form(login): Form<Login>) -> impl IntoResponse {
    let session = sessions.begin(login.name).await;
    let cookie = format!("session={session}; HttpOnly; SameSite=Strict; Path=/");
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)])
}

/// `TcpListener::bind` would let only 128 clients wait to be accepted, too few for those that come back after a
/// restart.
fn listen() -> Result<TcpListener, Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    let bound = socket.bind(SocketAddr::from(([127, 0, 0, 1], port)));
    bound.map_err(|e| format!("can't listen on port {port}: {e}; choose another one with PORT"))?;
    Ok(socket.listen(4096)?)
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

    let listener = listen()?;
    println!("open http://{}; ctrl-c ends it", listener.local_addr()?);
    tokio::select! {
        served = axum::serve(listener, app).into_future() => served?,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    rooms.shutdown().await;
    Ok(())
}

/// The page logs in before it connects, because a script sees a refused WebSocket only as close code 1006.
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
